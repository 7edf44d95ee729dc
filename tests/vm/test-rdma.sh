#!/usr/bin/env bash
# RDMA where there is no hardware for it: in a guest with soft-RoCE devices, the
# conformance suite, training against a reference made there too, perftest side
# by side. What the guest runs is guest-rdma.sh; see run.sh for the guest.
set -u
here=$(cd "${srcdir:-.}/tests/vm" && pwd)
source_folder=$(cd "${srcdir:-.}" && pwd)
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
for program in stagecoach tests/transport/test-rdma \
	tests/transport/test-rdma-send; do
	[ -x "$build/$program" ] || skip_all "$program is not built"
done

MEMORY=1024 LIMIT=240 "$here/run.sh" "$guest" "$out" \
	"sh $here/guest-rdma.sh $build $source_folder/docs/FORMATS.md"
status=$?
if [ "$status" = 119 ] && [ ! -s "$out/results" ]; then
	skip_all "the guest did not come up: $(tail -1 "$out/console")"
fi
cases=0
while IFS= read -r line; do
	case $line in
	ok*) cases=$((cases + 1)) && echo "ok $cases${line#ok}" ;;
	'not ok'*)
		cases=$((cases + 1))
		echo "not ok $cases${line#not ok}"
		;;
	*) echo "$line" ;;
	esac
done <"$out/results"
cases=$((cases + 1))
if [ "$status" = 0 ]; then
	echo "ok $cases - the guest came to its end"
else
	echo "not ok $cases - the guest came to its end (status $status)"
	tail -20 "$out/console" | sed 's/^/# /'
fi
echo "1..$cases"
