#!/usr/bin/env bash
# A host whose network goes away, the coordinator's or another's, and a
# coordinator that is stopped for a while: everyone ends in time and says why, or
# goes on.
. "${srcdir:-.}/tests/e2e/lib.sh"
. "${srcdir:-.}/tests/hosts/lib.sh"
LIMIT_MS=5000

need_root
command -v nft >/dev/null || skip_all "no nft command (nftables)"
make_hosts
make_reference
make_key "$scratch/key"
cd "$scratch" || exit 1

now_ms() {
	local now=${EPOCHREALTIME/[.,]/}
	echo $((now / 1000))
}

# The processes that compute; what started them is left out.
ranks() {
	local host process
	for host in "${hosts[@]:0:3}"; do
		for process in $(ip netns pids "$namespace-$host"); do
			grep -q stagecoach-rank "/proc/$process/comm" 2>/dev/null &&
				echo "$process"
		done
	done
}

start() { # NAME: a rank a host, three of them, that train for long
	local i
	name=$1
	pids=()
	for i in 1 2 0; do
		on "${hosts[i]}" "$stagecoach" train "${model[@]}" --steps 1000000 \
			--checkpoint-every 1000000 --out "$scratch/$name" \
			--rank "$i" --world-size 3 --start-timeout 20 \
			--key-file "$scratch/key" \
			--coordinator 10.77.0.1:29500 >"$name.$i" 2>&1 &
		pids+=($!)
	done
	for _ in $(seq 2000); do
		[ -s "$name/metrics.jsonl" ] && break
		sleep 0.01
	done
	sleep 0.5
}

# cut HOST DIRECTION...: input, output.
cut() {
	local host=$namespace-$1 hook
	shift
	{
		echo "add table inet cut"
		for hook in "$@"; do
			echo "add chain inet cut $hook { type filter hook $hook priority 0; }"
			echo "add rule inet cut $hook $([ "$hook" = input ] &&
				echo iifname || echo oifname) eth0 drop"
		done
	} | ip netns exec "$host" nft -f -
}

mend() {
	ip netns exec "$namespace-$1" nft flush ruleset
}

wait_for_ranks() { # sets $took, to when the last rank had ended
	local begin
	begin=$(now_ms)
	while [ -n "$(ranks)" ] && [ $(($(now_ms) - begin)) -lt 20000 ]; do
		sleep 0.02
	done
	took=$(($(now_ms) - begin))
}

vanishes() { # NAME HOST-INDEX DIRECTION...
	local what=$1 index=$2 failures_before=$failures
	shift 2
	start "$what"
	cut "${hosts[index]}" "$@"
	wait_for_ranks
	if [ "$took" -le $LIMIT_MS ]; then
		pass "$what: every rank had ended after $took ms"
	else
		fail "$what: every rank had ended after $took ms"
	fi
	wait "${pids[@]}"
	mend "${hosts[index]}"
	in_log "$what: the coordinator says why" \
		"gives no sign of life for\|no answer from rank\|is gone.*broke off\|no sign of life from the coordinator" \
		"$what.0"
	[ "$failures" = "$failures_before" ] || tail -n 4 "$what".[0-2] | sed 's/^/#   /'
}

vanishes gone 2 input output
in_log "it names the rank and its host" "rank 2 .*on hostc" gone.0
in_log "and there, too, somebody says something" \
	"no sign of life from the coordinator\|no answer from rank\|coordinator.*broke off" gone.2
vanishes deaf 2 input
vanishes dumb 1 output
vanishes root-gone 0 input output
in_log "the others miss the coordinator" \
	"no sign of life from the coordinator\|no answer from rank 0\|coordinator.*broke off" root-gone.1

# Stopped for longer than a heartbeat may fail to come: rank 0's supervisor.
start stopped
supervisor=
for process in $(ip netns pids "$namespace-hosta"); do
	[ "$(cat "/proc/$process/comm")" = stagecoach ] && supervisor=$process
done
kill -STOP "$supervisor"
sleep 6
same "a stopped coordinator: the ranks wait" 3 "$(ranks | wc -l)"
kill -CONT "$supervisor"
sleep 4
same "and go on" 3 "$(ranks | wc -l)"
kill -INT "$supervisor"
statuses=
for process in "${pids[@]}"; do
	wait "$process"
	statuses+="$? "
done
same "and end well" "0 0 0 " "$statuses"

echo "1..$cases"
finish
