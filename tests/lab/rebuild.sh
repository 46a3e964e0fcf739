#!/bin/sh
# Rebuild the demo crash from nothing: history, module, boot, console log.
set -eu

KERNEL=6.1.0-56-cloud-amd64
HEAD_COMMIT=d94e0e1b87acfd0ee9dd44ce1c1ed7a2a3198c57
CRASH_COMMIT=71f309d72bede8e68eb4a8639bd85e9bc18b5ded

lab=$(cd "$(dirname "$0")" && pwd)
data=$(cd "$lab/../.." && pwd)/kagent/demo/data/tidelink

deb=
install=false
keep=false
timeout=300

usage() {
	cat <<USAGE
usage: rebuild.sh [options] OUTDIR

Rebuild the tidelink demo on Debian 12 (amd64): make the driver's git history
from series.mbox, build the driver at the commit that crashes, boot Debian's
kernel with it in QEMU (no KVM needed), let it crash and keep the console log.
OUTDIR must be empty or not exist. It gets console.log, tidelink.ko.xz, src/,
series.mbox, expected.json, and history/, the git repository.

  --deb FILE         use this linux-image package instead of downloading it
  --install          apt-get install what is missing (as root)
  --kernel RELEASE   another kernel release (default: $KERNEL)
  --keep             keep OUTDIR/work with everything in between
  --timeout SECONDS  how long the machine may run (default: $timeout)
  --help             show this text
USAGE
}

die() {
	echo "rebuild.sh: $*" >&2
	exit 1
}

step() {
	echo "== $*"
}

value() {
	[ $# -ge 2 ] || die "$1 needs a value (see --help)"
	echo "$2"
}

out=
while [ $# -gt 0 ]; do
	case $1 in
	--deb) deb=$(value "$@"); shift ;;
	--install) install=true ;;
	--kernel) KERNEL=$(value "$@"); shift ;;
	--keep) keep=true ;;
	--timeout) timeout=$(value "$@"); shift ;;
	--help | -h) usage; exit 0 ;;
	-*) die "unknown option $1 (see --help)" ;;
	*)
		[ -z "$out" ] || die "more than one OUTDIR (see --help)"
		out=$1
		;;
	esac
	shift
done

[ -n "$out" ] || { usage >&2; exit 2; }
[ -f "$data/series.mbox" ] || die "$data/series.mbox is missing"
[ -z "$deb" ] || [ -f "$deb" ] || die "no such package: $deb"
headers=/usr/src/linux-headers-$KERNEL

# What must be there, and the package that has it
missing() {
	while read -r probe package; do
		case $probe in
		/*) [ -e "$probe" ] || echo "$package" ;;
		*) command -v "$probe" >/dev/null || echo "$package" ;;
		esac
	done <<NEEDS
qemu-system-x86_64 qemu-system-x86
/usr/share/seabios/bios-256k.bin seabios
/bin/busybox busybox-static
$headers/Makefile linux-headers-$KERNEL
gcc-12 gcc-12
make make
/usr/include/stdio.h libc6-dev
git git
cpio cpio
xz xz-utils
pahole dwarves
gdb gdb
objdump binutils
python3 python3
NEEDS
}

packages=$(missing | sort -u | tr '\n' ' ')
if [ -n "$packages" ] && $install; then
	step "install $packages"
	apt-get update -q
	# shellcheck disable=SC2086
	apt-get install -q -y --no-install-recommends $packages
	packages=$(missing | sort -u | tr '\n' ' ')
fi
[ -z "$packages" ] || die "missing packages: ${packages% }
  apt-get install --no-install-recommends ${packages% }
  (or run rebuild.sh --install as root)"
! ldd /bin/busybox >/dev/null 2>&1 || die "/bin/busybox is not static, install busybox-static"

mkdir -p "$out"
out=$(cd "$out" && pwd)
[ -z "$(ls -A "$out")" ] || die "$out is not empty"
work=$out/work
mkdir "$work"

# git must not see the user's configuration, it could change the hashes
export GIT_CONFIG_GLOBAL=/dev/null GIT_CONFIG_NOSYSTEM=1
export GIT_COMMITTER_NAME="tidelink tree" GIT_COMMITTER_EMAIL=tidelink@example.org
unset GIT_DIR GIT_WORK_TREE GIT_INDEX_FILE

step "history"
cp "$data/series.mbox" "$out/series.mbox"
git init -q --object-format=sha1 --template= -b main "$out/history"
git -C "$out/history" am -q --committer-date-is-author-date --whitespace=nowarn \
	"$out/series.mbox"
head=$(git -C "$out/history" rev-parse HEAD)
[ "$head" = "$HEAD_COMMIT" ] || die "the history ends in $head instead of $HEAD_COMMIT"
mkdir "$out/src"
git -C "$out/history" archive "$CRASH_COMMIT" | tar -x -C "$out/src"

step "driver"
# The module must not tell where it was built
cp -r "$out/src" "$work/build"
make -C "$headers" M="$work/build" KCFLAGS="-ffile-prefix-map=$work/build=/usr/src/tidelink" \
	modules >"$work/build.log" 2>&1 || die "the driver does not build, see $work/build.log"
xz -9e -k -c "$work/build/tidelink.ko" >"$out/tidelink.ko.xz"

step "kernel"
if [ -z "$deb" ]; then
	(cd "$work" && apt-get download "linux-image-$KERNEL" 2>"$work/download.log") >/dev/null ||
		die "cannot download linux-image-$KERNEL (see $work/download.log);
  get the package elsewhere, e.g. snapshot.debian.org, and use --deb"
	deb=$(ls "$work"/linux-image-*.deb)
fi
dpkg-deb --fsys-tarfile "$deb" | tar -x -C "$work" "./boot/vmlinuz-$KERNEL" ||
	die "$deb has no /boot/vmlinuz-$KERNEL"

step "initramfs"
root=$work/root
mkdir -p "$root/bin" "$root/dev" "$root/proc" "$root/sys"
cp /bin/busybox "$root/bin/busybox"
cp "$work/build/tidelink.ko" "$root/tidelink.ko"
install -m 755 "$lab/init.sh" "$root/init"
gcc-12 -static -O2 -Wall -Wextra -I "$out/src" -o "$root/bin/tidecast" "$lab/tidecast.c"
(cd "$root" && find . | cpio -o -H newc -R 0:0 --quiet) | gzip >"$work/initramfs.gz"

step "boot and crash"
timeout "$timeout" qemu-system-x86_64 -machine q35,accel=tcg -cpu max,la57=off \
	-smp 2 -m 512M -nodefaults -no-user-config -no-reboot -display none \
	-serial "file:$out/console.log" \
	-kernel "$work/boot/vmlinuz-$KERNEL" -initrd "$work/initramfs.gz" \
	-append "console=ttyS0,115200 tsc=reliable panic=5" ||
	die "QEMU failed, or the machine did not power off in $timeout s; see $out/console.log"
grep -q '^\[.*\] reboot: Power down' "$out/console.log" || die "$out/console.log is not complete"
grep -q 'BUG: kernel NULL pointer dereference' "$out/console.log" || die "the kernel did not crash"

step "truth"
python3 "$lab/truth.py" "$out" >"$out/expected.json"

same="another build than the shipped one"
if [ -f "$data/tidelink.ko.xz" ]; then
	xz -dc "$data/tidelink.ko.xz" >"$work/shipped.ko"
	! cmp -s "$work/shipped.ko" "$work/build/tidelink.ko" || same="the shipped one, bit for bit"
fi

$keep || rm -rf "$work"
step "done: $out"
grep -m1 'BUG: ' "$out/console.log"
grep -m1 'RIP: ' "$out/console.log"
echo "tidelink.ko is $same"
