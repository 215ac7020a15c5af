#!/usr/bin/env bash
# A throw-away Debian machine with systemd as PID 1 and cgroup v2, run by QEMU. Nothing is installed on the
# host: packages are unpacked below VM_DIR. The guest has no way out; only ssh on the loopback comes in.
#
#   machine.sh up            builds it once (~3 min), boots it, waits for ssh
#   machine.sh sh COMMAND    runs a command as root in the guest; its exit status is passed on
#   machine.sh push SRC DST  copies a file or folder into the folder DST
#   machine.sh down          orderly power-off, cut after 90 s
#   machine.sh cut           takes its power away
#   machine.sh reset         back to the disk as it was built
#
# Variables: VM_DIR (/var/tmp/bargee-vm), VM_PORT (2222), VM_MEM (1536 MiB), VM_SMP (2), VM_ACCEL (auto|kvm|tcg),
#   VM_SUITE (the host's own Debian release), VM_APPEND (more kernel arguments)
set -euo pipefail
dir=${VM_DIR:-/var/tmp/bargee-vm}
port=${VM_PORT:-2222}
suite=${VM_SUITE:-$(. /etc/os-release && echo "${VERSION_CODENAME:-bookworm}")}
export TMPDIR=$dir

packages=systemd-sysv,udev,dbus,kmod,iproute2,iptables,nftables,procps,openssh-server,ca-certificates,util-linux
packages+=,e2fsprogs,initramfs-tools,linux-image-cloud-amd64,busybox-static,curl

say() { echo "machine: $*" >&2; }

# Runs the unpacked qemu with its own libraries and firmware.
qemu() {
  local q=$dir/qemu
  LD_LIBRARY_PATH=$q/usr/lib/x86_64-linux-gnu:$q/lib/x86_64-linux-gnu "${LIMIT[@]}" "$q/usr/bin/qemu-system-x86_64" \
    -L "$q/usr/share/qemu" -L "$q/usr/share/seabios" -L "$q/usr/lib/ipxe/qemu" "$@"
}
LIMIT=(env)

fetch_qemu() {
  [ -x "$dir/qemu/usr/bin/qemu-system-x86_64" ] && return
  say "downloading qemu and mmdebstrap"
  mkdir -p "$dir/debs/partial" "$dir/qemu" "$dir/mm"
  apt-get install -y -qq --no-install-recommends --download-only --reinstall -o Dir::Cache::archives="$dir/debs" \
    -o DPkg::Lock::Timeout=300 qemu-system-x86 mmdebstrap >"$dir/apt.log" 2>&1 || { tail -5 "$dir/apt.log" >&2; exit 1; }
  local package
  for package in "$dir"/debs/*.deb; do
    case $package in
      */mmdebstrap_*) dpkg -x "$package" "$dir/mm" ;;
      *) dpkg -x "$package" "$dir/qemu" ;;
    esac
  done
}

# The guest's settings, run by mmdebstrap with the root file system as its argument.
write_customize() {
  cat >"$dir/customize.sh" <<'SETTINGS'
set -e
root=$1 dir=$2
echo bargee-vm >"$root/etc/hostname"
echo '127.0.0.1 localhost bargee-vm' >"$root/etc/hosts"
echo '/dev/vda / ext4 errors=remount-ro 0 1' >"$root/etc/fstab"
mkdir -p "$root/root/.ssh" "$root/etc/systemd/network" "$root/etc/modules-load.d"
cp "$dir/id.pub" "$root/root/.ssh/authorized_keys"
chmod 700 "$root/root/.ssh"
chmod 600 "$root/root/.ssh/authorized_keys"
printf '[Match]\nName=en* eth*\n[Network]\nDHCP=ipv4\nLinkLocalAddressing=no\n' >"$root/etc/systemd/network/10-all.network"
printf '%s\n' overlay bridge veth br_netfilter nf_nat >"$root/etc/modules-load.d/test.conf"
printf 'UseDNS no\nPermitRootLogin prohibit-password\n' >"$root/etc/ssh/sshd_config.d/test.conf"
# A small initrd: only what mounting the root needs.
printf '%s\n' virtio_pci virtio_blk ext4 >"$root/etc/initramfs-tools/modules"
sed -i 's/^MODULES=.*/MODULES=list/' "$root/etc/initramfs-tools/initramfs.conf"
chroot "$root" update-initramfs -u >/dev/null 2>&1
chroot "$root" systemctl -q enable systemd-networkd ssh
chroot "$root" systemctl -q mask apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer \
  e2scrub_reap.service fstrim.timer getty@tty1.service systemd-networkd-wait-online.service
cp "$root"/boot/vmlinuz-* "$dir/vmlinuz"
cp "$root"/boot/initrd.img-* "$dir/initrd"
SETTINGS
}

build() {
  mkdir -p "$dir"
  fetch_qemu
  [ -f "$dir/id" ] || ssh-keygen -q -t ed25519 -N '' -f "$dir/id"
  if [ ! -s "$dir/base.img" ]; then
    say "building the disk ($suite)"
    write_customize
    rm -rf "$dir/root"
    mkdir "$dir/root"
    PATH=$dir/mm/usr/bin:$PATH mmdebstrap --quiet --mode=root --variant=minbase --include="$packages" \
      --customize-hook="sh $dir/customize.sh \"\$1\" $dir" "$suite" "$dir/root.tar" >"$dir/mmdebstrap.log" 2>&1 ||
      { tail -5 "$dir/mmdebstrap.log" >&2; exit 1; }
    tar -C "$dir/root" --numeric-owner -xpf "$dir/root.tar"
    truncate -s 4G "$dir/base.part"
    mke2fs -q -F -t ext4 -d "$dir/root" "$dir/base.part"
    rm -rf "$dir/root" "$dir/root.tar"
    mv "$dir/base.part" "$dir/base.img"
  fi
  [ -f "$dir/disk.img" ] || cp --sparse=always "$dir/base.img" "$dir/disk.img"
}

# Prints qemu's words for the machine. /dev/kvm may be there and unable to run a stock kernel, so it is tried once.
acceleration() {
  local kvm='-machine q35,smm=off -accel kvm -cpu host,-arch-capabilities'
  local emulated='-machine q35 -accel tcg,thread=multi,tb-size=512 -cpu max'
  case ${VM_ACCEL:-auto} in
    kvm) echo "$kvm" ;;
    tcg) echo "$emulated" ;;
    *)
      if [ ! -s "$dir/accel" ]; then
        echo "$emulated" >"$dir/accel"
        if [ -w /dev/kvm ]; then
          # shellcheck disable=SC2086
          LIMIT=(timeout 25) qemu $kvm -m 512 -nodefaults -display none -no-reboot -serial "file:$dir/probe.log" \
            -kernel "$dir/vmlinuz" -append 'console=ttyS0 earlyprintk=serial panic=-1' >/dev/null 2>&1 || true
          if grep -q 'Linux version' "$dir/probe.log" 2>/dev/null; then echo "$kvm" >"$dir/accel"; fi
        fi
      fi
      cat "$dir/accel"
      ;;
  esac
}

guest() {
  ssh -q -i "$dir/id" -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR \
    -o ConnectTimeout="${PATIENCE:-60}" -p "$port" root@127.0.0.1 "$@"
}

alive() { [ -s "$dir/qemu.pid" ] && kill -0 "$(cat "$dir/qemu.pid")" 2>/dev/null; }

up() {
  if alive; then say "already up" && return; fi
  build
  local words
  words=$(acceleration)
  : >"$dir/serial.log"
  # shellcheck disable=SC2086
  qemu $words -m "${VM_MEM:-1536}" -smp "${VM_SMP:-2}" -display none -no-reboot -nodefaults -daemonize \
    -pidfile "$dir/qemu.pid" -serial "file:$dir/serial.log" \
    -drive "file=$dir/disk.img,format=raw,if=virtio,cache=writeback" -device virtio-rng-pci \
    -nic "user,model=virtio-net-pci,restrict=on,hostfwd=tcp:127.0.0.1:$port-:22" \
    -kernel "$dir/vmlinuz" -initrd "$dir/initrd" \
    -append "root=/dev/vda rw console=ttyS0 panic=-1 random.trust_cpu=on systemd.unified_cgroup_hierarchy=1 ${VM_APPEND:-}"
  for _ in $(seq 240); do
    if PATIENCE=5 guest true 2>/dev/null; then return; fi
    alive || break
    sleep 1
  done
  say "it did not come up; the last lines of its console:"
  tail -5 "$dir/serial.log" >&2
  return 1
}

down() {
  alive || return 0
  local process
  process=$(cat "$dir/qemu.pid")
  guest systemctl poweroff 2>/dev/null || true
  for _ in $(seq 90); do
    kill -0 "$process" 2>/dev/null || break
    sleep 1
  done
  if kill -9 "$process" 2>/dev/null; then say "a slow power-off was cut"; fi
  rm -f "$dir/qemu.pid"
}

cut() {
  alive || return 0
  kill -9 "$(cat "$dir/qemu.pid")"
  while alive; do sleep 0.1; done
  rm -f "$dir/qemu.pid"
}

verb=${1:-}
shift || true
case $verb in
  up) up ;;
  sh) guest "$@" ;;
  push) tar -C "$(dirname "$1")" -czf - "$(basename "$1")" | guest "mkdir -p '$2' && tar -C '$2' -xzf -" ;;
  down) down ;;
  cut) cut ;;
  reset)
    if alive; then say "it is up: down first" && exit 1; fi
    cp --sparse=always "$dir/base.img" "$dir/disk.img"
    ;;
  *) sed -n '2,14s/^# \{0,1\}//p' "$0" && exit 2 ;;
esac
