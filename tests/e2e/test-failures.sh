#!/usr/bin/env bash
# A rank killed at any moment: everyone is gone within 2 s, the message names
# the rank, no process is left; Ctrl-C stops cleanly with a checkpoint.
. "${srcdir:-.}/tests/e2e/lib.sh"
TRIALS=${TRIALS:-8}

make_text "$scratch/text"
"$stagecoach" prepare --text "$scratch/text" --out "$scratch/data" \
	--tokenizer byte --val 0.1 >"$scratch/log" 2>&1 ||
	{ cat "$scratch/log"; echo "Bail out! prepare failed"; exit 1; }

start() { # in the background; sets $pid
	# Shells start background jobs deaf to Ctrl-C.
	env --default-signal=INT \
		"$stagecoach" train --data "$scratch/data" --out "$scratch/run" \
		--layers 3 --width 64 --heads 4 --context 64 --steps 100000 \
		--checkpoint-every 20 --eval-samples 0 --stages 3 \
		--transport tcp >"$scratch/out" 2>"$scratch/log" &
	pid=$!
}

wait_for_ranks() {
	for _ in $(seq 1000); do
		[ "$(children $pid | wc -l)" -eq 3 ] && return
		sleep 0.005
	done
}

now_ms() {
	echo $(($(date +%s%N) / 1000000))
}

for trial in $(seq "$TRIALS"); do
	rm -rf "$scratch/run"
	start
	wait_for_ranks
	# From the first moments of start-up to the middle of training.
	sleep "0.$(printf %03d $(((trial * 157) % 900)))"
	mapfile -t ranks < <(children $pid)
	victim=${ranks[$((trial % 3))]}
	begin=$(now_ms)
	kill -9 "$victim"
	wait $pid
	status=$?
	took=$(($(now_ms) - begin))
	name="trial $trial: rank process killed"
	left=
	for rank in "${ranks[@]}"; do
		[ -d "/proc/$rank" ] && left="$left $rank"
	done
	if [ $status -ne 1 ]; then
		fail "$name (exit status $status)"
	elif [ $took -gt 2000 ]; then
		fail "$name (took $took ms)"
	elif [ -n "$left" ]; then
		fail "$name (left behind:$left)"
	elif ! grep -Eq "rank [0-2].*$victim.*(signal 9|[Kk]illed)" "$scratch/log"; then
		fail "$name (the message does not name it)"
		sed 's/^/#   /' "$scratch/log"
	elif ls -d "$scratch"/run/checkpoints/.step-* >/dev/null 2>&1 &&
		! "$stagecoach" train --resume "$scratch/run" --steps 1 2>&1 |
			grep -Eq "has done|no complete"; then
		fail "$name (what was half-written is in the way)"
	else
		pass "$name: all gone after $took ms"
	fi
done

rm -rf "$scratch/run"
start
for _ in $(seq 1000); do
	grep -q '"step":3,' "$scratch/run/metrics.jsonl" 2>/dev/null && break
	sleep 0.01
done
begin=$(now_ms)
kill -INT $pid
wait $pid
status=$?
took=$(($(now_ms) - begin))
same "Ctrl-C: exit status" 0 $status
step=$(tail -1 "$scratch/run/metrics.jsonl" | grep -o '"step":[0-9]*' | cut -d: -f2)
same "Ctrl-C: the checkpoint is that of the last step" \
	"$(printf 'step-%08d' "${step:-0}")" "$(cat "$scratch/run/checkpoints/latest")"
check "Ctrl-C: the checkpoint is whole" \
	"$stagecoach" inspect --verify "$scratch/run/checkpoints/$(cat "$scratch/run/checkpoints/latest")"
if grep -q -- "--resume" "$scratch/log"; then
	pass "Ctrl-C: says how to go on (after $took ms)"
else
	fail "Ctrl-C: says how to go on"
	sed 's/^/#   /' "$scratch/log"
fi

# The supervisor itself killed: no orphan.
rm -rf "$scratch/run"
start
wait_for_ranks
sleep 0.3
mapfile -t ranks < <(children $pid)
kill -9 $pid
wait $pid 2>/dev/null
sleep 1
left=
for rank in "${ranks[@]}"; do
	[ -d "/proc/$rank" ] && ! grep -q '^State:.*Z' "/proc/$rank/status" &&
		left="$left $rank"
done
same "the supervisor killed: no rank is left" "" "$left"

pid= # has been waited for
echo "1..$cases"
finish
