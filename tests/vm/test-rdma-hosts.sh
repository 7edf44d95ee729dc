#!/usr/bin/env bash
# Two guests as two hosts that share a wire and nothing else, a soft-RoCE device
# each: ranks started by hand with a job key train over rdma, which --transport
# auto has to find by itself, and have the bits of the one-stage run. What each
# guest runs is guest-two-hosts.sh.
. "${srcdir:-.}/tests/vm/lib.sh"

cases=0
result() { # STATUS NAME LOG
	cases=$((cases + 1))
	if [ "$1" = 0 ]; then
		echo "ok $cases - $2"
	else
		echo "not ok $cases - $2"
		sed 's/^/# /' "$3"
	fi
}

job() { # RANK
	echo "sh $here/guest-two-hosts.sh $build $1" \
		"$source_folder/docs/FORMATS.md auto >/out/log 2>&1"
}

echo 1..3
mkdir -p "$out/1" "$out/2"
od -An -tx1 -v -N32 /dev/urandom | tr -d ' \n' >"$out/1/key"
echo >>"$out/1/key"
cp "$out/1/key" "$out/2/key"
MEMORY=512 LIMIT=150 "$here/pair.sh" "$guest" "$out" "$(job 0)" "$(job 1)"
result $? 'two hosts train the bits of one stage' "$out/1/log"
for rank in 0 1; do
	grep -q "rank $rank: .*, host host-.*link.* to $((1 - rank)) rdma/" \
		"$out/1/log"
	result $? "rank $rank has a link over rdma" "$out/1/log"
done
