#!/usr/bin/env bash
# RDMA where there is no hardware for it: in a guest with soft-RoCE devices, the
# conformance suite, training against a reference made there too, perftest side
# by side. What the guest runs is guest-rdma.sh; see run.sh for the guest.
. "${srcdir:-.}/tests/vm/lib.sh"

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
