#!/usr/bin/env bash
# run.sh DIR OUT COMMAND: runs a shell line in a guest made of what setup.sh put
# into DIR; its status is the exit status. OUT is the guest's /out: what it
# writes there stays; everything else is forgotten. 119: the guest did not
# come up, 124: it took longer than LIMIT seconds.
#
# From the environment: MEMORY (MiB), CPUS, LIMIT, NETWORK (a file to source
# in the guest), ADDRESS and WIRE (see pair.sh). The processor is emulated (TCG): a
# nested KVM that is there may not work.
set -u
here=$(cd "$(dirname "$0")" && pwd)
guest=$(cd "$1" && pwd)
out=$(cd "$2" && pwd)
rm -f "$out/status"
printf '%s\n' "$3" >"$out/job"
cp "${NETWORK:-$here/guest-network-pair}" "$out/network"

folder() { # TAG PATH MORE: a folder of this machine, for the guest to mount
	echo "-fsdev local,id=$1,path=$2,security_model=none$3" \
		"-device virtio-9p-pci,fsdev=$1,mount_tag=$1"
}

wire=()
if [ -n "${WIRE-}" ]; then
	wire=(-netdev "$WIRE" -device
		"virtio-net-pci,netdev=wire,mac=52:54:00:00:09:0${ADDRESS##*.},host_mtu=9000,romfile=")
fi
# shellcheck disable=SC2046
timeout -k 5 "${LIMIT:-120}" qemu-system-x86_64 -accel tcg -machine pc \
	-cpu max,la57=off,-erms,-fsrm -smp "${CPUS:-1}" -m "${MEMORY:-768}" \
	-nodefaults -no-user-config -no-reboot -display none -serial stdio \
	-kernel "$guest/kernel" -initrd "$guest/initrd" \
	-append "console=ttyS0 quiet panic=-1 mitigations=off address=${ADDRESS-}" \
	-device isa-debug-exit,iobase=0xf4,iosize=1 \
	$(folder below / ,readonly=on,multidevs=remap) \
	$(folder out "$out" "") ${wire[@]+"${wire[@]}"} \
	</dev/null >"$out/console" 2>&1
qemu=$?
if [ -s "$out/status" ]; then
	exit "$(cat "$out/status")"
fi
[ "$qemu" = 124 ] || qemu=119
exit "$qemu"
