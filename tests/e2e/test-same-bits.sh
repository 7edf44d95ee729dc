#!/usr/bin/env bash
# One sha256 and one loss sequence, whatever the stages, the split, the
# schedule, the transport, the threads, recomputation, or an interruption.
. "${srcdir:-.}/tests/e2e/lib.sh"

make_text "$scratch/text"
"$stagecoach" prepare --text "$scratch/text" --out "$scratch/data" \
	--tokenizer byte --val 0.1 >"$scratch/log" 2>&1 ||
	{ cat "$scratch/log"; echo "Bail out! prepare failed"; exit 1; }

# Nothing here is a multiple of a block: 37 tokens, 3 sequences, dropout on.
model="--layers 5 --width 48 --heads 3 --context 37 --dropout 0.1"
batch="--micro-batches 6 --micro-batch-size 3 --steps 4 --warmup 1"
rest="--eval-every 2 --eval-samples 7 --checkpoint-every 2 --lr 0.01"

train() { # RUN OPTIONS...
	local run=$1
	shift
	# shellcheck disable=SC2086
	"$stagecoach" train --data "$scratch/data" --out "$run" --seed 11 \
		$model $batch $rest "$@" >"$scratch/log" 2>&1
}

bits() { # of a run: the model's digest and its losses
	sha256 "$1/model/model.safetensors"
	losses "$1"
	grep -o '"val_loss":[^,]*' "$1/metrics.jsonl"
}

compare() { # NAME RUN
	same "$1" "$wanted" "$(bits "$2")"
	rm -rf "$2"
}

train "$scratch/one" --stages 1 --schedule gpipe --transport inproc \
	--threads 1 || { cat "$scratch/log"; echo "Bail out! the reference run failed"; exit 1; }
wanted=$(bits "$scratch/one")
note "reference: $(head -1 <<<"$wanted")"

for stages in 1 2 3 4 2:1,4 3:3,1,1 3:0,3,2 4:1,1,3,0; do
	split=
	[ "$stages" = "${stages#*:}" ] || split="--split ${stages#*:}"
	for schedule in gpipe 1f1b; do
		for transport in inproc shm tcp:uring tcp:sockets; do
			for threads in 1 2; do
				for recompute in "" --recompute; do
					# Uneven splits need not go through everything.
					if [ -n "$split" ] && { [ $threads = 2 ] || [ $transport = tcp:sockets ]; }; then
						continue
					fi
					# As every other transport knows nothing of threads.
					if [ $transport = shm ] && [ $threads = 2 ]; then
						continue
					fi
					name="stages $stages, $schedule, $transport, threads $threads${recompute:+, recompute}"
					io=
					[ "$transport" = "${transport#tcp:}" ] || io="--tcp-io ${transport#tcp:}"
					if train "$scratch/run" --stages "${stages%:*}" \
						$split --schedule $schedule \
						--transport "${transport%:*}" $io \
						--threads $threads $recompute --no-pin; then
						compare "$name" "$scratch/run"
					elif grep -q "io_uring" "$scratch/log" && [ $transport = tcp:uring ]; then
						cases=$((cases + 1))
						echo "ok $cases - $name # SKIP io_uring is refused here"
						rm -rf "$scratch/run"
					else
						fail "$name"
						sed 's/^/#   /' "$scratch/log"
						rm -rf "$scratch/run"
					fi
				done
			done
		done
	done
done

# A schedule is data: the same actions from a file, I and W apart.
cat >"$scratch/split.csv" <<'CSV'
0F0,0F1,0F2,0I0,0F3,0I1,0W0,0F4,0I2,0W1,0F5,0I3,0W2,0I4,0W3,0I5,0W4,0W5
1F0,1I0,1F1,1I1,1W0,1F2,1I2,1W1,1F3,1I3,1W2,1F4,1I4,1W3,1F5,1I5,1W4,1W5
CSV
for recompute in "" --recompute; do
	if train "$scratch/run" --stages 2 --schedule "$scratch/split.csv" $recompute; then
		compare "a schedule file with I and W apart${recompute:+, recompute}" "$scratch/run"
	else
		fail "a schedule file with I and W apart${recompute:+, recompute}"
		sed 's/^/#   /' "$scratch/log"
		rm -rf "$scratch/run"
	fi
done

# What else there is to choose from needs no other engine: 2 ranks, and 2
# chunks each where the schedule has them (5 layers in 4 pieces).
for schedule in interleaved looped-bfs zb-h1 zb-h2 interleaved-zb zb-v v-half \
	v-min 1f1b-v dualpipe-v; do
	if train "$scratch/run" --stages 2 --schedule $schedule; then
		compare "schedule $schedule" "$scratch/run"
	else
		fail "schedule $schedule"
		sed 's/^/#   /' "$scratch/log"
		rm -rf "$scratch/run"
	fi
done

# Killed in the middle, resumed: as it was, and into other stages.
interrupted() { # NAME STAGES-BEFORE STAGES-AFTER
	local run=$scratch/run
	# shellcheck disable=SC2086
	"$stagecoach" train --data "$scratch/data" --out "$run" --seed 11 \
		$model $batch $rest --stages "$2" --steps 3 --decay-steps 4 \
		>"$scratch/log" 2>&1
	# Cut back to the checkpoint of step 2, as after a kill in step 3.
	rm -rf "$run/checkpoints/step-00000003" "$run/model"
	"$stagecoach" train --resume "$run" --stages "$3" --steps 4 \
		--schedule gpipe >>"$scratch/log" 2>&1
	if [ -f "$run/model/model.safetensors" ]; then
		compare "$1" "$run"
	else
		fail "$1"
		sed 's/^/#   /' "$scratch/log"
		rm -rf "$run"
	fi
}
interrupted "resumed from step 2, 2 stages as before" 2 2
interrupted "resumed from step 2, 3 stages become 1" 3 1
interrupted "resumed from step 2, 1 stage becomes 4" 1 4

# kill -9 of a rank while it trains; the run is resumed by hand.
killed() { # NAME STAGES-AFTER
	local run=$scratch/run victim
	# shellcheck disable=SC2086
	"$stagecoach" train --data "$scratch/data" --out "$run" --seed 11 \
		$model $batch $rest --stages 2 --transport tcp \
		>"$scratch/log" 2>&1 &
	pid=$!
	for _ in $(seq 500); do
		grep -q '"step":2,' "$run/metrics.jsonl" 2>/dev/null &&
			[ -f "$run/checkpoints/latest" ] && break
		sleep 0.01
	done
	victim=$(children $pid | tail -1)
	if [ -z "$victim" ] || ! kill -9 "$victim"; then
		fail "$1: no rank to kill"
		wait $pid
		rm -rf "$run"
		return
	fi
	wait $pid
	if [ ! -f "$run/model/model.safetensors" ]; then
		"$stagecoach" train --resume "$run" --stages "$2" \
			>>"$scratch/log" 2>&1
	fi
	if [ -f "$run/model/model.safetensors" ]; then
		compare "$1" "$run"
	else
		fail "$1"
		sed 's/^/#   /' "$scratch/log"
		rm -rf "$run"
	fi
}
killed "a rank killed with -9, resumed in 2 stages" 2
killed "a rank killed with -9, resumed in 3 stages" 3

# A vocabulary far larger than a step's tokens: of the embedding's gradient its
# rows go to the head's rank, whose own gradient is two pieces and more.
few=$wanted
train "$scratch/run" --vocab-size 12001 --stages 1 --transport inproc ||
	{ cat "$scratch/log"; echo "Bail out! the other reference run failed"; exit 1; }
wanted=$(bits "$scratch/run")
rm -rf "$scratch/run"
for links in "2 gpipe shm" "2 zb-h1 tcp" "3 1f1b shm" "2 1f1b inproc"; do
	read -r stages schedule transport <<<"$links"
	train "$scratch/run" --vocab-size 12001 --stages "$stages" \
		--schedule "$schedule" --transport "$transport" --trace
	# 2,304,192 bytes of the table; 666 rows of 192 bytes; activations.
	sent=$(tr -d ' \n' <"$scratch/run/traffic.json" |
		sed 's/.*"rank":0,"bytes":\([0-9]*\).*/\1/')
	same "rank 0 sends rows, not the table: $links" 1 \
		$((sent > 666 * 192 && sent < 1000000))
	compare "tied by rows, stages $links" "$scratch/run"
done
wanted=$few

# Negative control: W in another order must not give these bits.
cat >"$scratch/reversed.csv" <<'CSV'
0F0,0F1,0F2,0F3,0F4,0F5,0I0,0I1,0I2,0I3,0I4,0I5,0W5,0W4,0W3,0W2,0W1,0W0
1F0,1F1,1F2,1F3,1F4,1F5,1I0,1I1,1I2,1I3,1I4,1I5,1W5,1W4,1W3,1W2,1W1,1W0
CSV
if train "$scratch/run" --stages 2 --schedule "$scratch/reversed.csv"; then
	if [ "$(sha256 "$scratch/run/model/model.safetensors")" = "$(head -1 <<<"$wanted")" ]; then
		fail "W reversed gives other bits (negative control)"
	else
		pass "W reversed gives other bits (negative control)"
	fi
	if grep -q "does not give the same bits" "$scratch/log"; then
		pass "and is announced as such"
	else
		fail "and is announced as such"
	fi
else
	fail "W reversed gives other bits (negative control)"
	sed 's/^/#   /' "$scratch/log"
fi
rm -rf "$scratch/run"

pid= # has been waited for
echo "1..$cases"
finish
