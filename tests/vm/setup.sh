#!/usr/bin/env bash
# setup.sh DIR: what a guest boots, from Debian's packages, into DIR: kernel and
# initrd. Installs nothing. Says on stderr what is missing, with status 1.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$1"
cd "$1"

modules='virtio_pci 9pnet_virtio 9p overlay crc32_generic ib_uverbs rdma_ucm
	rdma_rxe veth virtio_net'

die() {
	echo "$*" >&2
	exit 1
}

# The package that the distribution's "current kernel" package depends on.
find_kernel() {
	local name found
	for name in linux-image-amd64 linux-image-generic; do
		found=$(apt-cache depends "$name" 2>/dev/null |
			sed -n 's/^ *Depends: \(linux-image-[0-9].*\)/\1/p' |
			head -1)
		if [ -n "$found" ]; then
			echo "$found"
			return
		fi
	done
}

fetch() { # PACKAGE...: unpacked into packages/
	local name
	mkdir -p packages
	for name in "$@"; do
		apt-get -qq download "$name" >fetch.log 2>&1 ||
			die "apt-get download $name: $(tail -1 fetch.log)"
		dpkg-deb -x "${name}"_*.deb packages
		rm -f "${name}"_*.deb
	done
}

unpack_to() { # FILE OUT, by the ending of FILE
	case $1 in
	*.xz) xz -dc "$1" >"$2" ;;
	*.zst) zstd -qdc "$1" >"$2" ;;
	*.gz) gzip -dc "$1" >"$2" ;;
	*) cp "$1" "$2" ;;
	esac
}

# The kernel proper from inside the compressed image: QEMU enters it directly,
# which spares an emulated processor the decompression. Where that is not
# to be had the image itself does.
extract_kernel() { # IMAGE OUT
	local offset
	offset=$(LC_ALL=C grep -abom1 "$(printf '\3757zXZ')" "$1" |
		head -1 | cut -d: -f1) || offset=
	if [ -n "$offset" ]; then
		tail -c "+$((offset + 1))" "$1" |
			xz -dc --single-stream >"$2" 2>/dev/null || true
	fi
	[ "$(head -c 4 "$2" 2>/dev/null | tail -c 3)" = ELF ] || cp "$1" "$2"
}

# Modules and what they depend on, each behind what it needs.
list_modules() { # modules.dep NAME
	awk -v want="$2" -F: '
	function name(path) {
		sub(/.*\//, "", path)
		sub(/\.ko.*/, "", path)
		gsub(/-/, "_", path)
		return path
	}
	name($1) == want {
		for (i = split($2, needs, " "); i > 0; i--)
			print needs[i]
		print $1
	}' "$1"
}

build_initrd() { # folder of the modules
	local name path file root=root
	rm -rf "$root"
	mkdir -p "$root/bin" "$root/modules" "$root/dev"
	cp packages/bin/busybox "$root/bin/" 2>/dev/null ||
		cp packages/usr/bin/busybox "$root/bin/"
	install -m 755 "$here/guest-init" "$root/init"
	for name in $modules; do
		path=$(list_modules "$1/modules.dep" "$name")
		if [ -z "$path" ]; then
			[ "$name" != crc32_generic ] || continue
			die "the kernel has no module $name"
		fi
		echo "$path"
	done | awk '!seen[$0]++' >modules.list
	while read -r path; do
		file=$(basename "$path")
		file=${file%%.ko*}.ko
		unpack_to "$1/$path" "$root/modules/$file"
		echo "$file" >>"$root/modules/order"
	done <modules.list
	(cd "$root" && find . | ../packages/busybox cpio -o -H newc) \
		2>/dev/null | gzip -1 >initrd.new
}

# Two tests may want it at once.
exec 9>lock
flock 9
if [ -s kernel ] && [ initrd -nt "$here/guest-init" ] &&
	[ initrd -nt "$here/setup.sh" ]; then
	exit 0
fi
type apt-get dpkg-deb xz flock >/dev/null 2>&1 ||
	die "no apt-get, dpkg-deb, xz or flock to fetch a kernel with"
package=$(find_kernel)
[ -n "$package" ] || die "apt knows no kernel package (apt-get update)"
version=${package#linux-image-}
rm -rf packages
fetch "$package" busybox-static kmod
case $version in
*-generic) fetch "linux-modules-$version" "linux-modules-extra-$version" ;;
esac
cp packages/bin/busybox packages/busybox 2>/dev/null ||
	cp packages/usr/bin/busybox packages/busybox
[ -d "packages/lib/modules/$version" ] || ln -s usr/lib packages/lib
ln -sf "$(find "$PWD/packages" -path "*bin/kmod" -type f | head -1)" \
	packages/depmod
packages/depmod -b packages -F "packages/boot/System.map-$version" "$version" \
	2>depmod.log || die "depmod: $(tail -1 depmod.log)"
extract_kernel "packages/boot/vmlinuz-$version" kernel.new
build_initrd "packages/lib/modules/$version"
rm -rf packages root
mv kernel.new kernel
mv initrd.new initrd
