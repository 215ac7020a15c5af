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
#   image NAME PACKAGES HOOK CHANGE…
image() {
  local name=$1 packages=$2 hook=$3
  shift 3
  [ -s "$out/$name.changes" ] && return
  echo "making $name" >&2
  mmdebstrap --quiet --variant=extract --mode=root --aptopt='Acquire::Languages "none"' \
    --include="busybox-static,libc-bin${packages:+,$packages}" \
    --customize-hook="$here/make-servers.sh trim \"\$1\"" ${hook:+--customize-hook="$hook"} \
    "$suite" "$work/$name.tar" >"$work/log" 2>&1 || { cat "$work/log" >&2; exit 1; }
  mv "$work/$name.tar" "$out/"
  printf '%s\n' "$@" >"$out/$name.changes"
}

# Takes away what no server needs, and adds the files that configuring would have made.
trim() {
  cd "$1"
  rm -rf usr/share/{doc,man,info,locale,perl,perl5,lintian,bash-completion,pam,debconf} var/lib/apt var/cache/* \
    usr/lib/x86_64-linux-gnu/{perl,perl-base,perl5,gconv} usr/lib/systemd lib/systemd etc/systemd \
    usr/lib/llvm* usr/lib/x86_64-linux-gnu/libLLVM* boot dev/* usr/bin/perl* usr/lib/x86_64-linux-gnu/libperl* \
    usr/bin/dpkg* usr/bin/deb* sbin/start-stop-daemon
  mkdir -p etc tmp run root var/log var/tmp var/cache usr/local/bin srv
  chmod 1777 tmp var/tmp
  printf '%s\n' root:x:0:0:root:/root:/bin/sh nobody:x:65534:65534::/:/bin/false \
    www:x:101:101::/:/bin/false postgres:x:999:999::/var/lib/postgresql:/bin/sh redis:x:998:998::/data:/bin/sh >etc/passwd
  printf '%s\n' root:x:0: nogroup:x:65534: www:x:101: postgres:x:999: redis:x:998: >etc/group
  echo 'hosts: files dns' >etc/nsswitch.conf
  for applet in $(bin/busybox --list); do
    for folder in bin usr/bin sbin usr/sbin; do
      [ -e "$folder/$applet" ] || [ -L "$folder/$applet" ] && continue 2
    done
    ln -s /bin/busybox "bin/$applet"
  done
}

if [ "${1-}" = trim ]; then
  trim "$2"
  exit
fi

path='ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'
image busybox '' '' "$path" 'CMD ["sh"]'

cat >"$work/nginx.conf" <<'CONF'
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
cat >"$work/default.conf" <<'CONF'
server { listen 80; root /usr/share/nginx/html; }
CONF
image nginx 'nginx-light' "rm -rf \"\$1\"/etc/nginx/sites-* \"\$1\"/etc/nginx/modules-*; \
  mkdir -p \"\$1\"/etc/nginx/conf.d \"\$1\"/var/cache/nginx \"\$1\"/usr/share/nginx/html; \
  echo 'Welcome to nginx' >\"\$1\"/usr/share/nginx/html/index.html; \
  cp $work/nginx.conf \"\$1\"/etc/nginx/; cp $work/default.conf \"\$1\"/etc/nginx/conf.d/" \
  "$path" 'CMD ["nginx", "-g", "daemon off;"]' 'EXPOSE 80' 'STOPSIGNAL SIGQUIT'

version=$(apt-cache show --no-all-versions postgresql 2>/dev/null | sed -n 's/^Depends:.*postgresql-\([0-9]*\).*/\1/p')
version=${version:-15}
image postgres "postgresql-$version,tzdata,util-linux" "mkdir -p \"\$1\"/var/lib/postgresql/data; \
  cp $here/postgres-entrypoint.sh \"\$1\"/usr/local/bin/docker-entrypoint.sh" \
  "ENV PATH=/usr/local/bin:/usr/lib/postgresql/$version/bin:/usr/sbin:/usr/bin:/sbin:/bin" \
  'ENV PGDATA=/var/lib/postgresql/data' 'ENTRYPOINT ["docker-entrypoint.sh"]' 'CMD ["postgres"]' \
  'EXPOSE 5432' 'STOPSIGNAL SIGINT' 'VOLUME /var/lib/postgresql/data'

image redis 'redis-server' "mkdir -p \"\$1\"/data; chown 998:998 \"\$1\"/data" \
  "$path" 'CMD ["redis-server", "--protected-mode", "no"]' 'WORKDIR /data' 'EXPOSE 6379' 'VOLUME /data'

image app 'python3,python3-psycopg2,python3-redis' "cp $here/app.py \"\$1\"/srv/" \
  "$path" 'ENV PYTHONDONTWRITEBYTECODE=1' 'WORKDIR /srv' 'CMD ["python3", "-u", "/srv/app.py"]' 'EXPOSE 8000'

# What earlier states of this script made.
find "$cache" -mindepth 1 -maxdepth 1 ! -name "$stamp" -exec rm -rf {} +
echo "$out"
