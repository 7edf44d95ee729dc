#!/usr/bin/env bash
# Replicas of a pipeline on four hosts whose links are limited: the sums of their
# gradients go on beside the cool-down, and a step takes what the simulator says.
. "${srcdir:-.}/tests/e2e/lib.sh"
. "$source_folder/tests/hosts/lib.sh"

need_root
command -v tc >/dev/null || skip_all "no tc (iproute2)"
make_hosts
export STAGECOACH_NAMESPACE=$namespace
make_reference
cd "$scratch" || exit 1
make_key job.key

# ---- two replicas of two stages, one stage a host: the same bits ----

remote=(--ssh "$source_folder/tests/hosts/remote-shell"
	--hosts hosta,hostb,hostc,hostd --key-file job.key)
"$stagecoach" train "${model[@]}" --gradient-groups 2 --out groups \
	>groups.log 2>&1
wanted=$(sha256 groups/model/model.safetensors)
for shard in "" --shard-optimizer; do
	on hosta "$stagecoach" train "${model[@]}" --replicas 2 $shard \
		--out four "${remote[@]}" >four.log 2>&1
	same_weights "two replicas on four hosts${shard:+, sharded}" four four.log
	in_log "and each rank's line says which replica" "of replica 1" four.log
	rm -rf four
done

# ---- as fast as predicted ----

# 200 Mbit/s of frames: 1,448 bytes of 1,514 are ours, and what comes the other
# way is acknowledged, 66 bytes for two frames.
bandwidth=23400000
for host in "${hosts[@]}"; do
	ip netns exec "$namespace-$host" tc qdisc add dev eth0 root \
		tbf rate 200mbit burst 32k latency 1s 2>tc.log ||
		limited="no tbf here: $(cat tc.log)"
done

# rehearse NAME OPTIONS...: predicted and measured are within 5 percent.
rehearse() {
	local name=$1 attempt predicted measured
	shift
	if [ -n "${limited-}" ]; then
		pass "$name # SKIP $limited"
		return
	fi
	# Others on this machine may delay a sleeper; a model that is wrong is
	# wrong each time.
	for attempt in 1 2 3; do
		on hosta "$stagecoach" schedule compare --replicas 2 \
			--micro-batches 8 --message-bytes 20000 \
			--bandwidth $bandwidth --latency 0.0002 \
			"$@" --rehearse --steps 5 --ssh \
			"$source_folder/tests/hosts/remote-shell" \
			--hosts hosta,hostb,hostc,hostd --json \
			>rehearsal.json 2>rehearsal.log
		predicted=$(step_time 1)
		measured=$(step_time 2)
		awk "BEGIN { p = ${predicted:-0}; m = ${measured:-0};
			exit !(p > 0 && m > 0.95 * p && m < 1.05 * p) }" && break
	done
	if [ -n "$measured" ] && awk "BEGIN { p = $predicted; m = $measured;
		exit !(m > 0.95 * p && m < 1.05 * p) }"; then
		pass "$name: predicted $predicted s, measured $measured s"
	else
		fail "$name: predicted ${predicted:-?} s, measured ${measured:-?} s"
		sed 's/^/#   /' rehearsal.log
	fi
}
step_time() { # of the only schedule: 1 predicted, 2 measured
	grep -o '"step_time": [0-9.e-]*' rehearsal.json | sed -n "$1s/.*: *//p"
}
rehearse "no gradients" --schedules 1f1b --costs 20ms,20ms,20ms \
	--gradient-bytes 0
rehearse "sums of 5 MB a rank over 200 Mbit/s" --schedules 1f1b \
	--costs 20ms,20ms,20ms --gradient-bytes 5000000
rehearse "sums that a chunk's cool-down hides" --schedules looped-bfs \
	--chunks 2 --costs 40ms,40ms,40ms --gradient-bytes 3000000
rehearse "sharded: weights are gathered after the step" --schedules 1f1b \
	--costs 20ms,20ms,20ms --gradient-bytes 5000000 --shard-optimizer

echo "1..$cases"
finish
