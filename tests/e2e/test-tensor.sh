#!/usr/bin/env bash
# Layers shared by slices: for a number of slices one sha256 and one loss
# sequence, whatever the replicas, the stages, the transport, or an interruption;
# losses as those of whole layers; the result is a model like any other.
. "${srcdir:-.}/tests/e2e/lib.sh"

make_text "$scratch/text"
"$stagecoach" prepare --text "$scratch/text" --out "$scratch/data" \
	--tokenizer byte --val 0.1 >"$scratch/log" 2>&1 ||
	{ cat "$scratch/log"; echo "Bail out! prepare failed"; exit 1; }

# The vocabulary of 257 divides by none of the numbers of slices.
model="--layers 4 --width 48 --heads 12 --context 37 --dropout 0.1"
batch="--micro-batches 4 --micro-batch-size 3 --gradient-groups 2"
rest="--warmup 1 --eval-every 2 --eval-samples 7 --checkpoint-every 2 --lr 0.01"

train() { # RUN OPTIONS...
	local run=$1
	shift
	# shellcheck disable=SC2086
	"$stagecoach" train --data "$scratch/data" --out "$run" --seed 11 \
		--no-pin --threads 1 --steps 4 --decay-steps 4 \
		$model $batch $rest "$@" >"$scratch/log" 2>&1
}

bits() { # of a run: the model's digest and its losses
	sha256 "$1/model/model.safetensors"
	grep -o '"step":[^,]*,"loss":[^,]*,"grad_norm":[^,]*' "$1/metrics.jsonl"
	grep -o '"val_loss":[^,]*' "$1/metrics.jsonl"
}

bail() {
	cat "$scratch/log"
	echo "Bail out! $1"
	exit 1
}

compare() { # NAME RUN
	same "$1" "$wanted" "$(bits "$2")"
	rm -rf "$2"
}

attempt() { # NAME OPTIONS...
	local name=$1
	shift
	if train "$scratch/run" "$@"; then
		compare "$name" "$scratch/run"
	else
		fail "$name"
		sed 's/^/#   /' "$scratch/log"
		rm -rf "$scratch/run"
	fi
}

# close NAME FILE FILE: numbers, a line each, that differ by at most 1e-5.
close() {
	local worst
	worst=$(paste "$2" "$3" | awk 'NF != 2 { worst = "nan"; exit }
		{ d = $1 - $2; if (d < 0) d = -d; if (d > worst) worst = d }
		END { print NR ? worst + 0 : "nan" }')
	if awk -v w="$worst" 'BEGIN { exit !(w != "nan" && w <= 1e-5) }'; then
		pass "$1 (they differ by $worst)"
	else
		fail "$1 (they differ by $worst)"
	fi
}

numbers() { # the losses of a run
	grep -o '"\(val_\)\?loss":[^,]*' "$1/metrics.jsonl" | cut -d: -f2
}

train "$scratch/whole" --transport inproc || bail "the run of whole layers failed"
numbers "$scratch/whole" >"$scratch/whole.losses"

# ---- one sha256 for a number of slices ----

slices=2
train "$scratch/two" --tensor 2 --transport inproc --schedule gpipe ||
	bail "the run of two slices failed"
wanted=$(bits "$scratch/two")
note "two slices: $(head -1 <<<"$wanted")"
numbers "$scratch/two" >"$scratch/two.losses"
close "the losses of two slices and of whole layers" \
	"$scratch/two.losses" "$scratch/whole.losses"
if [ "$(head -1 <<<"$wanted")" = "$(bits "$scratch/whole" | head -1)" ]; then
	fail "two slices have bits of their own (negative control)"
else
	pass "two slices have bits of their own (negative control)"
fi

for grid in 1x1 1x2 2x1 2x2; do
	for transport in inproc shm tcp; do
		attempt "D x P x T = ${grid}x2 over $transport" --tensor 2 \
			--replicas "${grid%x*}" --stages "${grid#*x}" \
			--transport $transport
	done
done
for schedule in interleaved zb-v; do
	attempt "1x2x2, schedule $schedule, recomputing" --tensor 2 \
		--stages 2 --schedule $schedule --recompute
done
attempt "1x1x2, two threads each, the root alone reads and writes" --tensor 2 \
	--threads 2 --store root --transport shm
attempt "2x1x2, sharded" --tensor 2 --replicas 2 --shard-optimizer

for slices in 3 4; do
	if train "$scratch/run" --tensor $slices --transport inproc; then
		wanted=$(bits "$scratch/run")
		numbers "$scratch/run" >"$scratch/more.losses"
		rm -rf "$scratch/run"
		close "the losses of $slices slices and of whole layers" \
			"$scratch/more.losses" "$scratch/whole.losses"
	else
		fail "a run of $slices slices"
		sed 's/^/#   /' "$scratch/log"
	fi
	attempt "1x2x$slices over shm" --tensor $slices --stages 2 \
		--transport shm
done

# ---- what a rank sends, to the byte, as plan says ----

if train "$scratch/run" --tensor 3 --stages 2 --split 2,2 --trace; then
	# shellcheck disable=SC2086
	planned=$("$stagecoach" plan --data "$scratch/data" $model $batch \
		--tensor 3 --stages 2 --split 2,2 --json 2>"$scratch/log" |
		grep -o '"sent_bytes": [0-9]*' | cut -d' ' -f2)
	# The first slices of both positions: ranks 0 and 3.
	sent=$(grep -o '"bytes": [0-9]*' "$scratch/run/traffic.json" |
		cut -d' ' -f2 | sed -n '1p;4p')
	same "three slices send what plan says" "$planned" "$sent"
else
	fail "a traced run of three slices"
	sed 's/^/#   /' "$scratch/log"
fi
rm -rf "$scratch/run"

# ---- a model like any other ----

for run in whole two; do
	"$stagecoach" eval --model "$scratch/$run/model" \
		--data "$scratch/data" 2>"$scratch/log" |
		grep -o 'loss [0-9.]*' | cut -d' ' -f2 >"$scratch/$run.eval"
done
close "eval of both models" "$scratch/two.eval" "$scratch/whole.eval"
"$stagecoach" eval --model "$scratch/two/model" --data "$scratch/data" \
	--tensor 3 --stages 2 2>"$scratch/log" |
	grep -o 'loss [0-9.]*' | cut -d' ' -f2 >"$scratch/whole.eval"
close "eval in three slices and two stages" "$scratch/two.eval" \
	"$scratch/whole.eval"
say() { # OPTIONS...
	"$stagecoach" generate --model "$scratch/two/model" --prompt "struct" \
		--tokens 12 --temperature 0 "$@" 2>"$scratch/log" ||
		echo "failed: $(cat "$scratch/log")"
}
said=$(say)
same "generate, in two stages" "$said" "$(say --stages 2)"
same "generate, in four slices and two stages" "$said" \
	"$(say --stages 2 --tensor 4)"
case $said in
struct?*) pass "and says something" ;;
*) fail "and says something, not \"$said\"" ;;
esac

# ---- interrupted ----

wanted=$(bits "$scratch/two")
# killed NAME STAGES REPLICAS-AFTER STAGES-AFTER: with -9 in step 3 or 4, which
# slow links make long, and resumed.
killed() {
	local run=$scratch/run name=$1 victim begin left
	# shellcheck disable=SC2086
	"$stagecoach" train --data "$scratch/data" --out "$run" --seed 11 \
		--no-pin --threads 1 --steps 4 --decay-steps 4 \
		$model $batch $rest --tensor 2 --stages "$2" \
		--transport tcp --faults delay=2ms:0.5 >"$scratch/log" 2>&1 &
	pid=$!
	for _ in $(seq 1000); do
		grep -q '"step":2,' "$run/metrics.jsonl" 2>/dev/null &&
			[ -f "$run/checkpoints/latest" ] && break
		sleep 0.01
	done
	victim=$(children $pid | tail -1)
	begin=$(date +%s%N)
	if [ -z "$victim" ] || ! kill -9 "$victim"; then
		fail "$name: no rank to kill"
		wait $pid
		rm -rf "$run"
		return
	fi
	wait $pid
	left=$((($(date +%s%N) - begin) / 1000000))
	pid=
	if [ -f "$run/model/model.safetensors" ] || [ "$left" -gt 5000 ]; then
		fail "$name: not ended by it, or after $left ms"
	else
		pass "$name: all ended soon"
	fi
	"$stagecoach" train --resume "$run" --replicas "$3" --stages "$4" \
		>>"$scratch/log" 2>&1
	if [ -f "$run/model/model.safetensors" ]; then
		compare "$name" "$run"
	else
		fail "$name"
		sed 's/^/#   /' "$scratch/log"
		rm -rf "$run"
	fi
}
killed "a slice killed at 1x1x2, resumed at 2x1x2" 1 2 1
killed "a slice killed at 1x2x2, resumed at 1x3x2" 2 1 3

# ---- one line, before step 1 ----

refuse() { # NAME PATTERN OPTIONS...
	local name=$1 pattern=$2
	shift 2
	if "$@" >"$scratch/log" 2>&1; then
		fail "$name: not refused"
	elif [ "$(grep -c "^error: .*$pattern" "$scratch/log")" = 1 ]; then
		pass "$name"
	else
		fail "$name"
		sed 's/^/#   /' "$scratch/log"
	fi
	rm -rf "$scratch/run"
}
refuse "heads that cannot be divided are refused" "among 5 slices; among 4 or 6" \
	train "$scratch/run" --tensor 5
cp "$scratch/log" "$scratch/refused"
refuse "another number of slices is refused by a resume" \
	"--tensor may not change" \
	"$stagecoach" train --resume "$scratch/two" --tensor 4
refuse "a loss that is not finite ends all slices" \
	"failed at step 2 .*is not finite" \
	train "$scratch/run" --tensor 2 --transport shm --lr 1000 --clip 0 \
	--decay-steps 400 --steps 400

echo "1..$cases"
finish
