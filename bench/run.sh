#!/usr/bin/env bash
# Times bargee, and docker beside it, on this machine: medians in milliseconds and how many times faster.
# Both engines live in one throw-away network namespace and below one temporary folder, so nothing stays.
#
# Usage: bench/run.sh [BARGEE]     needs root, busybox-static, and for the comparison dockerd and docker
# Variables: RUNS (20), COMPOSE (the plugin's file, if docker does not find it by itself)
set -euo pipefail
if [ "${BENCH_INSIDE-}" != 1 ]; then
  BENCH_INSIDE=1 exec unshare --net "$0" "$@"
fi
cd "$(dirname "$0")/.."
bargee=$(readlink -f "${1:-target/x86_64-unknown-linux-gnu/release/bargee}")
runs=${RUNS:-20}
work=$(mktemp -d /var/tmp/bargee-bench.XXXXXX)
export BARGEE_ROOT=$work/root BARGEE_RUN=$work/run
export DOCKER_HOST=unix://$work/docker.sock DOCKER_CONFIG=$work/docker-config
ip link set lo up

cleanup() {
  "$bargee" down -f "$work/sixty.yaml" >/dev/null 2>&1 || true
  "$bargee" system shutdown >/dev/null 2>&1 || true
  if [ -s "$work/docker.pid" ]; then
    docker ps -aq | xargs -r docker rm -f >/dev/null 2>&1 || true
    daemon=$(cat "$work/docker.pid")
    kill "$daemon" && while kill -0 "$daemon" 2>/dev/null; do sleep 0.05; done
  fi
  awk -v below="$work/" 'index($5, below) == 1 {print $5}' /proc/self/mountinfo | sort -r | xargs -r umount
  rm -rf "$work"
}
trap cleanup EXIT

# Runs a command `runs` times after one for the caches, and prints the median in milliseconds.
median() {
  local start end count=$1
  shift
  "$@" >/dev/null
  for _ in $(seq "$count"); do
    # No fork within what is measured.
    start=$EPOCHREALTIME
    "$@" >/dev/null
    end=$EPOCHREALTIME
    echo $((${end/./} - ${start/./}))
  done | sort -n | awk '{v[NR] = $1} END {printf "%.1f\n", v[int((NR + 1) / 2)] / 1000}'
}

once() {
  local start end
  start=$EPOCHREALTIME
  "$@" >/dev/null
  end=$EPOCHREALTIME
  awk -v us=$((${end/./} - ${start/./})) 'BEGIN {printf "%.1f\n", us / 1000}'
}

row() { # NAME BARGEE [DOCKER] [TARGET]
  awk -v name="$1" -v ours="$2" -v theirs="${3:-}" -v target="${4:-}" 'BEGIN {
    ratio = theirs == "" ? "" : sprintf("%.1f×", theirs / ours)
    verdict = target == "" ? "" : (ours <= target ? "ok" : "MISSED") " (≤ " target ")"
    printf "%-44s %10s %10s %8s  %s\n", name, ours, theirs == "" ? "-" : theirs, ratio, verdict
  }'
}

pss_kib() { awk '/^Pss:/ {print $2}' "/proc/$1/smaps_rollup" 2>/dev/null || true; }
rss_mib() { awk '/^VmRSS:/ {printf "%.1f\n", $2 / 1024}' "/proc/$1/status"; }

# The average PSS in MiB of the processes below our root whose command line has a word.
shims() {
  for process in /proc/[0-9]*; do
    if tr '\0' ' ' <"$process/cmdline" 2>/dev/null | grep -q -- "$1" &&
      tr '\0' '\n' <"$process/cmdline" 2>/dev/null | grep -q -- "$work"; then
      pss_kib "${process#/proc/}"
    fi
  done | awk '{sum += $1} END {if (NR) printf "%.2f\n", sum / NR / 1024}'
}

# An image of nothing but busybox, for both.
mkdir -p "$work/rootfs/bin" "$work/docker-config/cli-plugins"
cp "$(command -v busybox)" "$work/rootfs/bin/busybox"
for applet in sh true sleep; do ln -s busybox "$work/rootfs/bin/$applet"; done
tar -C "$work/rootfs" -cf "$work/busybox.tar" .
"$bargee" import -c 'CMD ["sh"]' "$work/busybox.tar" busybox:bench >/dev/null

docker=
if command -v dockerd >/dev/null && command -v docker >/dev/null; then
  dockerd --data-root "$work/docker" --exec-root "$work/docker-exec" -p "$work/docker.pid" -H "$DOCKER_HOST" \
    >"$work/dockerd.log" 2>&1 &
  for _ in $(seq 200); do
    if docker version >/dev/null 2>&1; then docker=yes && break; fi
    sleep 0.1
  done
  [ -n "$docker" ] || { echo "bench: dockerd does not start:" && tail -3 "$work/dockerd.log"; } >&2
  [ -z "$docker" ] || docker import -c 'CMD ["sh"]' "$work/busybox.tar" busybox:bench >/dev/null
  [ -z "${COMPOSE-}" ] || ln -s "$COMPOSE" "$work/docker-config/cli-plugins/docker-compose"
else
  echo "bench: dockerd or docker is not installed: no comparison" >&2
fi

{
  echo 'name: sixty'
  echo 'services:'
  for number in $(seq 60); do
    printf '  s%d: {image: "busybox:bench", command: [sleep, "1000"], stop_signal: SIGKILL}\n' "$number"
  done
} >"$work/sixty.yaml"
{
  echo 'name: thousand'
  echo 'services:'
  for number in $(seq 1000); do
    printf '  s%d: {image: "busybox:bench", command: [sleep, "1000"], environment: {A: one, B: "%d"}, mem_limit: 32m' \
      "$number" "$number"
    [ "$number" -eq 1 ] || printf ', depends_on: [s%d]' $((number / 2 == 0 ? 1 : number / 2))
    echo '}'
  done
} >"$work/thousand.yaml"

docker_sixty() {
  if docker compose version >/dev/null 2>&1; then
    docker compose -f "$work/sixty.yaml" up -d >/dev/null 2>&1
  else
    docker network create sixty >/dev/null
    for number in $(seq 60); do
      docker run -d --network sixty --name "sixty-s$number" busybox:bench sleep 1000 >/dev/null
    done
  fi
}
docker_sixty_down() {
  if docker compose version >/dev/null 2>&1; then
    docker compose -f "$work/sixty.yaml" down -t 0 >/dev/null 2>&1
  else
    docker ps -aq | xargs docker rm -f >/dev/null
    docker network rm sixty >/dev/null
  fi
}
ours_sixty() { "$bargee" "$@" -f "$work/sixty.yaml" >/dev/null 2>&1; }
plan_code() { "$bargee" plan -f "$work/thousand.yaml" >/dev/null || [ $? -eq 2 ]; }

printf '%s, %s cores, %s runs each\n\n' "$(uname -r)" "$(nproc)" "$runs"
printf '%-44s %10s %10s %8s\n' 'median, ms' bargee docker faster

ours=$(median "$runs" "$bargee" run --rm busybox:bench true)
theirs=${docker:+$(median "$runs" docker run --rm busybox:bench true)}
row 'run --rm true, on the bridge' "$ours" "$theirs" 40

idle=$(rss_mib "$(cat "$BARGEE_RUN/engine.pid")")
theirs=${docker:+$(rss_mib "$(cat "$work/docker.pid")")}
"$bargee" run -d --name bench busybox:bench sleep 1000 >/dev/null
[ -z "$docker" ] || docker run -d --name bench busybox:bench sleep 1000 >/dev/null
ours=$(median "$runs" "$bargee" exec bench true)
row 'exec true' "$ours" "${docker:+$(median "$runs" docker exec bench true)}"
ours=$(median "$runs" "$bargee" ps)
row 'ps' "$ours" "${docker:+$(median "$runs" docker ps)}"
"$bargee" rm -f bench >/dev/null
[ -z "$docker" ] || docker rm -f bench >/dev/null

ours=$(once ours_sixty up -d)
[ -z "$docker" ] || sixty=$(once docker_sixty)
row 'up -d of 60 services' "$ours" "${sixty-}" 4000
ours=$(median 5 ours_sixty up -d)
row 'up -d of the same again' "$ours"
shim=$(shims __shim)
docker_shim=${docker:+$(shims containerd-shim)}
ours=$(once ours_sixty down)
[ -z "$docker" ] || sixty=$(once docker_sixty_down)
row 'down of 60 services' "$ours" "${sixty-}"
row 'plan of 1,000 services' "$(median "$runs" plan_code)" '' 50

printf '\n%-44s %10s %10s %8s\n' 'memory, MiB' bargee docker smaller
row 'engine, idle, RSS (docker: dockerd alone)' "$idle" "$theirs" 25
row 'shim, PSS' "${shim:-0}" "${docker_shim-}" 3
