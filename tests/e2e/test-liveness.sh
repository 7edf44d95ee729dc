#!/usr/bin/env bash
# Nothing hangs: a rank killed, a rank stopped, a link that drops packets both
# ways or one way. The others end in time and say why. And no alarm while the
# processor is busy. `make soak` does a hundred of each (tests/soak).
. "${srcdir:-.}/tests/e2e/lib.sh"
TRIALS=${TRIALS:-5}
QUIET_SECONDS=${QUIET_SECONDS:-20}

make_text "$scratch/text"
"$stagecoach" prepare --text "$scratch/text" --out "$scratch/data" \
	--tokenizer byte --val 0.1 >"$scratch/log" 2>&1 ||
	{ cat "$scratch/log"; echo "Bail out! prepare failed"; exit 1; }

report() { # KIND NAME LIMIT_MS
	if [ -s "$scratch/$1.bad" ]; then
		fail "$2"
		sed 's/^/#   /' "$scratch/$1.bad"
	else
		pass "$2: all gone within $3 ms ($(tr '\n' ' ' <"$scratch/$1.ms")ms)"
	fi
}

# One after the other where a second counts; waiting can be done together.
trials kill "$TRIALS" 1000 1
report kill "a rank killed" 1000
trials stop "$TRIALS" 5000 "$TRIALS"
report stop "a rank stopped" 5000
find_network
for kind in cut cut-one; do
	name="a link that drops packets $([ $kind = cut ] && echo "both ways" || echo "one way")"
	if [ -z "$network" ]; then
		cases=$((cases + 1))
		echo "ok $cases - $name # SKIP $reason"
		continue
	fi
	trials $kind "$TRIALS" 5000 "$TRIALS"
	report $kind "$name" 5000
done

# Eight busy loops against a pipeline that goes behind all of them.
busy=()
for _ in $(seq 8); do
	sh -c 'while :; do :; done' &
	busy+=($!)
done
nice -n 10 env --default-signal=INT "$stagecoach" train --data "$scratch/data" \
	--out "$scratch/run" --layers 3 --width 64 --heads 4 --context 64 \
	--steps 1000000 --eval-samples 0 --stages 3 --transport tcp \
	--costs operations --checkpoint-every 1000000 >"$scratch/out" 2>"$scratch/log" &
pid=$!
for _ in $(seq 1000); do
	[ -s "$scratch/log" ] && break
	sleep 0.01
done
kill -USR1 $pid # before the ranks run it does no harm
sleep "$QUIET_SECONDS"
steps=$(cat "$scratch/run/metrics.jsonl" 2>/dev/null | wc -l)
kill -USR1 $pid
sleep 1
if kill -0 $pid 2>/dev/null; then
	pass "no false alarm in $QUIET_SECONDS s of a busy processor ($steps steps)"
else
	fail "no false alarm in $QUIET_SECONDS s of a busy processor ($steps steps)"
	sed 's/^/#   /' "$scratch/log"
fi
same "SIGUSR1: every rank says what it does" 3 \
	"$(grep -c 'rank [0-2]: state: .* for [0-9.]* s.*received' "$scratch/log")"
kill "${busy[@]}"
wait "${busy[@]}" 2>/dev/null
kill -INT $pid
wait $pid
same "it ends well" 0 $?

# What all find out together is logged by the one that found it, and told.
"$stagecoach" train --data "$scratch/data" --out "$scratch/wild" --layers 3 \
	--width 64 --heads 4 --context 64 --steps 50 --eval-samples 0 --stages 3 \
	--transport tcp --costs operations --lr 1000 --optimizer sgd --clip 0 \
	--warmup 0 >"$scratch/out" 2>"$scratch/log"
same "a gradient that is not finite: exit status" 1 $?
same "a gradient that is not finite: one rank says so, and the supervisor" \
	"rank 0: step;rank 0 (pid" \
	"$(grep -o 'error: rank .*' "$scratch/log" |
		sed 's/^error: //; s/^\(rank [0-9]*[:]* *[^ ]*\).*/\1/' | paste -sd';')"

pid= # has been waited for
echo "1..$cases"
finish
