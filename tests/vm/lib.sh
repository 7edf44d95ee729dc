# What the tests with guests share: why they skip, and the guest. Sourced by bash
# scripts. $source_folder, $build, $guest, $out (a scratch folder).

set -u
source_folder=$(cd "${srcdir:-.}" && pwd)
here=$source_folder/tests/vm
build=$(cd "${builddir:-.}" && pwd)
guest=$build/tests/vm/guest
out=$(mktemp -d "${TMPDIR:-/tmp}/stagecoach-vm.XXXXXX")
trap 'rm -rf "$out"' EXIT

skip_all() {
	echo "1..0 # SKIP $*"
	exit 0
}

[ "$(uname -m)" = x86_64 ] || skip_all "guests are made for x86-64"
for command in qemu-system-x86_64 rdma ip ibv_devices; do
	command -v "$command" >/dev/null ||
		PATH=$PATH:/usr/sbin:/sbin command -v "$command" >/dev/null ||
		skip_all "$command is not installed"
done
compgen -G '/usr/lib*/*/libibverbs/librxe-*' >/dev/null ||
	compgen -G '/usr/lib*/libibverbs/librxe-*' >/dev/null ||
	skip_all "libibverbs has no provider rxe (Debian: ibverbs-providers)"
grep -q '^#define HAVE_RDMA 1' "$build/config.h" ||
	skip_all "built without libibverbs and librdmacm"
"$here/setup.sh" "$guest" >"$out/setup.log" 2>&1 ||
	skip_all "no guest: $(tail -1 "$out/setup.log")"
[ -x "$build/stagecoach" ] || skip_all "stagecoach is not built"
