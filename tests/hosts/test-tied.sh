#!/usr/bin/env bash
# A tied head's gradient over a slow link: it travels while the ranks compute, and a
# step takes what the simulator says. The ranks rehearse on two hosts.
. "${srcdir:-.}/tests/e2e/lib.sh"
. "$source_folder/tests/hosts/lib.sh"

need_root
command -v tc >/dev/null || skip_all "no tc (iproute2)"
make_hosts
export STAGECOACH_NAMESPACE=$namespace
cd "$scratch" || exit 1
make_key job.key

# 200 Mbit/s of frames are some 23.4 MB/s of ours: a table of 3.5 MB takes 0.15 s.
bytes=3500000
for host in "${hosts[@]}"; do
	ip netns exec "$namespace-$host" tc qdisc add dev eth0 root \
		tbf rate 200mbit burst 32k latency 1s 2>tc.log ||
		limited="no tbf here: $(cat tc.log)"
done

costs() { # FILE SECONDS: of each F, I and W
	cat >"$1" <<-JSON
		{"format": "stagecoach-costs-1", "unit": "seconds",
		 "slice": [{"forward": $2, "input": $2, "weight": $2}],
		 "message_bytes": 20000, "tied_bytes": $bytes}
	JSON
}

# rehearse COSTS SCHEDULE: sets predicted and measured, of a step.
rehearse() {
	on hosta "$stagecoach" schedule compare --stages 2 --micro-batches 4 \
		--schedules "$2" --costs "$1" --rehearse --steps 3 --ssh \
		"$source_folder/tests/hosts/remote-shell" --key-file job.key \
		--hosts hosta,hostb --json >rehearsal.json 2>rehearsal.log
	predicted=$(step_time 1)
	measured=$(step_time 2)
}

step_time() { # of the only schedule: 1 predicted, 2 measured
	grep -o '"step_time": [0-9.e-]*' rehearsal.json | sed -n "$1s/.*: *//p"
}

# expect NAME COSTS SCHEDULE MOST: a step is within 5 % of what was predicted, and
# takes MOST seconds at most.
expect() {
	local name=$1 attempt
	if [ -n "${limited-}" ]; then
		pass "$name # SKIP $limited"
		return
	fi
	# Others on this machine may delay a sleeper; what is wrong is wrong each
	# time.
	for attempt in 1 2 3; do
		rehearse "$2" "$3"
		awk "BEGIN { p = ${predicted:-0}; m = ${measured:-0};
			exit !(p > 0 && m > 0.95 * p && m < 1.05 * p && m < $4) }" &&
			break
	done
	if awk "BEGIN { p = ${predicted:-0}; m = ${measured:-0};
		exit !(p > 0 && m > 0.95 * p && m < 1.05 * p && m < $4) }"; then
		pass "$name: predicted $predicted s, measured $measured s"
	else
		fail "$name: predicted ${predicted:-?} s, measured ${measured:-?} s, $4 s at most"
		sed 's/^/#   /' rehearsal.log
	fi
}

# 1f1b takes 5 F and 5 B. Rank 0's last B is 0.2 s, which hides the table.
costs long.json 0.1
expect "hidden behind the last B" long.json 1f1b 1.56
# ZB-H1 takes 4 F, I and W, one F, one I more, and one W less.
expect "hidden in ZB-H1" long.json zb-h1 1.46
# A B of 0.02 s hides next to nothing: 0.15 s and 0.13 s stand at the end.
costs short.json 0.01
expect "not to be hidden" short.json 1f1b 0.34

echo "1..$cases"
finish
