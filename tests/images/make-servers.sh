#!/usr/bin/env bash
# Makes the root file systems that the tests import under the names of public images, out of Debian's
# packages: each is NAME.tar and NAME.changes (one `--change` a line) in the folder that is printed.
# They are made once and kept in ~/.cache/bargee-tests (or $BARGEE_TEST_IMAGES) until this script changes.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
cache=${BARGEE_TEST_IMAGES:-${HOME:-/root}/.cache/bargee-tests}
stamp=$(cat "$here"/make-servers.sh "$here"/app.py "$here"/postgres-entrypoint.sh | sha256sum | cut -c1-16)
out=$cache/$stamp
suite=$(. /etc/os-release && echo "${VERSION_CODENAME:-bookworm}")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$out"

# The packages are unpacked, not configured: servers need no package manager, and it takes seconds.
#   image NAME PACKAGES CHANGE…
# A function `finish_NAME` adds what the image has beside them.
image() {
  local name=$1 packages=$2 root=$work/$1
  shift 2
  [ -s "$out/$name.changes" ] && return
  echo "making $name" >&2
  mmdebstrap --quiet --variant=extract --mode=root --aptopt='Acquire::Languages "none"' \
    --include="busybox-static,libc-bin${packages:+,$packages}" "$suite" "$root" >"$work/log" 2>&1 ||
    { cat "$work/log" >&2; exit 1; }
  (cd "$root" && trim && "finish_$name")
  tar -C "$root" --sort=name -cf "$work/$name.tar" .
  rm -rf "$root"
  mv "$work/$name.tar" "$out/"
  printf '%s\n' "$@" >"$out/$name.changes"
}

# Takes away what no server needs, and adds the files that configuring would have made.
trim() {
  rm -rf usr/share/{doc,man,info,locale,i18n,perl,perl5,lintian,bash-completion,pam,debconf} var/lib/apt var/cache/* \
    usr/lib/x86_64-linux-gnu/{perl,perl-base,perl5,gconv} usr/lib/systemd lib/systemd etc/systemd boot dev/* \
    usr/lib/llvm* usr/lib/x86_64-linux-gnu/lib{LLVM,z3,perl}* usr/lib/postgresql/*/lib/{bitcode,llvmjit*} \
    usr/bin/{perl*,dpkg*,deb*} sbin/start-stop-daemon
  mkdir -p etc tmp run root proc sys dev var/log var/tmp var/cache usr/local/bin srv
  chmod 1777 tmp var/tmp
  printf '%s\n' root:x:0:0:root:/root:/bin/sh nobody:x:65534:65534::/:/bin/false \
    www:x:101:101::/:/bin/false postgres:x:999:999::/var/lib/postgresql:/bin/sh redis:x:998:998::/data:/bin/sh >etc/passwd
  printf '%s\n' root:x:0: nogroup:x:65534: www:x:101: postgres:x:999: redis:x:998: >etc/group
  echo 'hosts: files dns' >etc/nsswitch.conf
  local applet folder
  for applet in $(bin/busybox --list); do
    for folder in bin usr/bin sbin usr/sbin; do
      if [ -e "$folder/$applet" ] || [ -L "$folder/$applet" ]; then continue 2; fi
    done
    ln -s /bin/busybox "bin/$applet"
  done
}

path='ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'
finish_busybox() { :; }
image busybox '' "$path" 'CMD ["sh"]'

finish_nginx() {
  rm -rf etc/nginx/sites-* etc/nginx/modules-*
  mkdir -p etc/nginx/conf.d var/cache/nginx usr/share/nginx/html
  echo 'Welcome to nginx' >usr/share/nginx/html/index.html
  echo 'server { listen 80; root /usr/share/nginx/html; }' >etc/nginx/conf.d/default.conf
  cat >etc/nginx/nginx.conf <<'CONF'
user www;
worker_processes 2;
error_log /dev/stderr warn;
pid /run/nginx.pid;
events { worker_connections 512; }
http {
  include /etc/nginx/mime.types;
  access_log /dev/stdout;
  client_body_temp_path /var/cache/nginx/body;
  proxy_temp_path /var/cache/nginx/proxy;
  fastcgi_temp_path /var/cache/nginx/fastcgi;
  uwsgi_temp_path /var/cache/nginx/uwsgi;
  scgi_temp_path /var/cache/nginx/scgi;
  include /etc/nginx/conf.d/*.conf;
}
CONF
}
image nginx nginx-light "$path" 'CMD ["nginx", "-g", "daemon off;"]' 'EXPOSE 80' 'STOPSIGNAL SIGQUIT'

version=$(apt-cache show --no-all-versions postgresql 2>/dev/null | sed -n 's/^Depends:.*postgresql-\([0-9]*\).*/\1/p')
version=${version:-15}
finish_postgres() {
  mkdir -p var/lib/postgresql/data var/run/postgresql
  cp "$here/postgres-entrypoint.sh" usr/local/bin/docker-entrypoint.sh
}
image postgres "postgresql-$version,tzdata,util-linux" \
  "ENV PATH=/usr/local/bin:/usr/lib/postgresql/$version/bin:/usr/sbin:/usr/bin:/sbin:/bin" \
  'ENV PGDATA=/var/lib/postgresql/data' 'ENTRYPOINT ["docker-entrypoint.sh"]' 'CMD ["postgres"]' \
  'EXPOSE 5432' 'STOPSIGNAL SIGINT' 'VOLUME /var/lib/postgresql/data'

finish_redis() {
  mkdir -p data
  chown 998:998 data
}
image redis redis-server "$path" 'CMD ["redis-server", "--protected-mode", "no"]' 'WORKDIR /data' 'EXPOSE 6379' 'VOLUME /data'

finish_app() { cp "$here/app.py" srv/; }
image app python3,python3-psycopg2,python3-redis \
  "$path" 'ENV PYTHONDONTWRITEBYTECODE=1' 'WORKDIR /srv' 'CMD ["python3", "-u", "/srv/app.py"]' 'EXPOSE 8000'

# What earlier states of this script made.
find "$cache" -mindepth 1 -maxdepth 1 ! -name "$stamp" -exec rm -rf {} +
echo "$out"
