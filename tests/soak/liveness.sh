#!/usr/bin/env bash
# What tests/e2e/test-liveness.sh does five times, a hundred times (SOAK_TRIALS);
# then training on saturated cores for twenty minutes (SOAK_MINUTES) without a
# false alarm. Run by `make soak`; half an hour or so.
. "${srcdir:-.}/tests/e2e/lib.sh"
TRIALS=${SOAK_TRIALS:-100}
MINUTES=${SOAK_MINUTES:-20}
AT_ONCE=${SOAK_JOBS:-4}

make_text "$scratch/text"
"$stagecoach" prepare --text "$scratch/text" --out "$scratch/data" \
	--tokenizer byte --val 0.1 >"$scratch/log" 2>&1 ||
	{ cat "$scratch/log"; echo "Bail out! prepare failed"; exit 1; }

# KIND NAME LIMIT_MS JOBS. The limit holds for 99 % of the trials (p99), and no
# trial may fail in another way.
soak() {
	local kind=$1 name=$2 limit=$3 jobs=$4 times=$scratch/$1.ms p99
	trials "$kind" "$TRIALS" 100000 "$jobs"
	p99=$(percentile "$times" 99)
	note "$name: $(wc -l <"$times") trials, until all others had ended:" \
		"p50 $(percentile "$times" 50) ms, p99 $p99 ms," \
		"max $(percentile "$times" 100) ms"
	if [ -s "$scratch/$kind.bad" ]; then
		fail "$name"
		sed 's/^/#   /' "$scratch/$kind.bad"
	elif [ "$p99" -gt "$limit" ]; then
		fail "$name: p99 is $p99 ms, at most $limit are allowed"
	else
		pass "$name: p99 $p99 ms, at most $limit"
	fi
}

soak kill "kill -9 of a rank" 1000 1
soak stop "SIGSTOP of a rank" 5000 "$AT_ONCE"
find_network
if [ -n "$network" ]; then
	soak cut "a link that drops packets both ways" 5000 "$AT_ONCE"
	soak cut-one "a link that drops packets one way" 5000 "$AT_ONCE"
else
	cases=$((cases + 2))
	echo "ok $((cases - 1)) - a link cut both ways # SKIP $reason"
	echo "ok $cases - a link cut one way # SKIP $reason"
fi

busy=()
for _ in $(seq $((4 * $(nproc)))); do
	sh -c 'while :; do :; done' &
	busy+=($!)
done
nice -n 19 env --default-signal=INT "$stagecoach" train --data "$scratch/data" \
	--out "$scratch/run" --layers 3 --width 64 --heads 4 --context 64 \
	--steps 100000000 --eval-samples 0 --stages 3 --transport tcp \
	--costs operations --checkpoint-every 50 >"$scratch/out" 2>"$scratch/log" &
pid=$!
end=$((SECONDS + MINUTES * 60))
while [ $SECONDS -lt $end ] && kill -0 $pid 2>/dev/null; do
	sleep 1
done
kill "${busy[@]}"
wait "${busy[@]}" 2>/dev/null
kill -INT $pid 2>/dev/null
wait $pid
status=$?
steps=$(cat "$scratch/run/metrics.jsonl" 2>/dev/null | wc -l)
name="no false alarm in $MINUTES minutes of saturated cores ($steps steps)"
if [ $status -eq 0 ] && [ "$steps" -gt 0 ]; then
	pass "$name"
else
	fail "$name: status $status"
	tail -20 "$scratch/log" | sed 's/^/#   /'
fi

pid= # has been waited for
echo "1..$cases"
finish
