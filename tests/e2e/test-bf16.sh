#!/usr/bin/env bash
# --dtype bf16: one sha256 whatever the split, as in float, and another than
# float's; weights go through a kill and a change of stages to the bit; models are
# evaluated and continued in it; messages are half as long.
. "${srcdir:-.}/tests/e2e/lib.sh"

make_text "$scratch/text"
"$stagecoach" prepare --text "$scratch/text" --out "$scratch/data" \
	--tokenizer byte --val 0.1 >"$scratch/log" 2>&1 ||
	{ cat "$scratch/log"; echo "Bail out! prepare failed"; exit 1; }
cd "$scratch" || exit 1

# As in test-same-bits.sh: nothing is a multiple of a block, dropout is on.
common="--data data --seed 11 --layers 4 --width 48 --heads 3 --context 69
	--dropout 0.1 --micro-batches 6 --micro-batch-size 3 --warmup 1
	--eval-every 2 --eval-samples 7 --checkpoint-every 2 --lr 0.01
	--decay-steps 4 --costs operations"

train() { # RUN OPTIONS...
	local run=$1
	shift
	rm -rf "$run"
	# shellcheck disable=SC2086
	"$stagecoach" train --out "$run" $common --dtype bf16 --steps 4 "$@" \
		>log 2>&1
}

bits() { # of a run: the model's digest and its losses
	sha256 "$1/model/model.safetensors"
	losses "$1"
	grep -o '"val_loss":[^,]*' "$1/metrics.jsonl"
}

compare() { # NAME WANTED OPTIONS...
	local name=$1 wanted=$2
	shift 2
	if train run "$@"; then
		same "$name" "$wanted" "$(bits run)"
	else
		fail "$name"
		sed 's/^/#   /' log
	fi
}

train one --schedule gpipe --threads 1 ||
	{ cat log; echo "Bail out! the reference run failed"; exit 1; }
wanted=$(bits one)
check "the start line says so" grep -q 'computed in bf16' log
check "run.json says so" grep -q '"dtype": "bf16"' one/run.json
while read -r options; do
	# shellcheck disable=SC2086
	compare "$options" "$wanted" $options
done <<'LIST'
--threads 2
--stages 2 --schedule 1f1b --transport tcp --threads 1 --no-pin
--stages 2 --schedule gpipe --transport shm --recompute
--stages 3 --schedule 1f1b --transport inproc --threads 2 --no-pin
--stages 3 --split 0,3,1 --schedule zb-h1 --transport shm
--stages 2 --schedule zb-v --transport tcp --recompute
LIST

# Replicas with their groups; slices with themselves.
train groups --gradient-groups 2 || sed 's/^/#   /' log
wanted_groups=$(bits groups)
compare "two replicas" "$wanted_groups" --replicas 2
compare "two replicas that share the optimizer's state, in two stages" \
	"$wanted_groups" --replicas 2 --shard-optimizer --stages 2
train slices --tensor 2 --micro-batch-size 3 --heads 4 || sed 's/^/#   /' log
wanted_slices=$(bits slices)
compare "two slices, two stages, recomputed" "$wanted_slices" --tensor 2 \
	--heads 4 --stages 2 --recompute --transport shm

# Negative control, and what --resume may do.
train float --dtype fp32 || sed 's/^/#   /' log
check "fp32 gives other bits (negative control)" test \
	"$(sha256 float/model/model.safetensors)" != "$(head -1 <<<"$wanted")"
train run --stages 2 --steps 3
rm -rf run/checkpoints/step-00000003 run/model # as after a kill in step 3
"$stagecoach" train --resume run --stages 3 --steps 4 >log 2>&1 ||
	sed 's/^/#   /' log
same "resumed from step 2 in three stages" "$wanted" "$(bits run)"
train run --steps 2
"$stagecoach" train --resume run --steps 4 --dtype fp32 >log 2>&1
same "another type on resume: status 2" 2 $?
check "another type on resume: says why" grep -q -e '--dtype may not change' log
sed -i 's/"dtype": "bf16"/"dtype": "fp32"/' run/run.json
"$stagecoach" train --resume run --steps 4 >log 2>&1
same "another type in run.json: status 2" 2 $?
check "another type in run.json: says why" \
	grep -q "written with another value of 'config.type'" log

# Killed with -9 while it trains, resumed.
rm -rf run
# shellcheck disable=SC2086
"$stagecoach" train --out run $common --dtype bf16 --steps 4 --stages 2 \
	--transport tcp >log 2>&1 &
pid=$!
for _ in $(seq 500); do
	grep -q '"step":2,' run/metrics.jsonl 2>/dev/null &&
		[ -f run/checkpoints/latest ] && break
	sleep 0.01
done
victim=$(children $pid | tail -1)
[ -z "$victim" ] || kill -9 "$victim"
wait $pid
pid=
[ -f run/model/model.safetensors ] ||
	"$stagecoach" train --resume run >>log 2>&1 || sed 's/^/#   /' log
same "a rank killed with -9, resumed" "$wanted" "$(bits run)"

# Evaluating and continuing, in stages and slices; weights are held rounded.
value() {
	"$stagecoach" eval --model one/model --data data --samples 9 \
		--context 69 --json "$@" 2>>log | grep -o '"loss": [0-9.]*'
}
whole=$(value --dtype bf16)
check "eval in bf16" test -n "$whole"
same "eval in two stages" "$whole" "$(value --dtype bf16 --stages 2)"
check "eval in fp32 gives other digits" test "$whole" != "$(value)"
check "and nearly the same loss" awk -v a="${whole#* }" -v b="$(value)" \
	'BEGIN { sub(/.* /, "", b); d = a - b; exit !(b > 0 && d * d < 1e-4 * b * b) }'
text() {
	"$stagecoach" generate --model one/model --prompt "static int" \
		--tokens 20 --temperature 0 --dtype bf16 "$@" 2>>log
}
whole=$(text)
check "generate in bf16" test ${#whole} -gt 12
same "generate in two stages" "$whole" "$(text --stages 2)"

# What a step sends between stages is half, is known before, and is what is sent.
planned() { # DTYPE KEY: rank 0's bytes
	"$stagecoach" plan --data data --layers 4 --width 48 --heads 3 \
		--context 69 --micro-batches 6 --micro-batch-size 4 --stages 2 \
		--tied no --costs operations --dtype "$1" --json |
		grep -o "\"$2\": *[0-9]*" | head -1 | grep -o '[0-9]*$'
}
same "half the bytes between stages" "$(planned fp32 sent_stages_bytes)" \
	$((2 * $(planned bf16 sent_stages_bytes)))
train run --stages 2 --tied no --trace --micro-batch-size 4 ||
	sed 's/^/#   /' log
same "as many are sent as were planned" "$(planned bf16 sent_bytes)" \
	"$(grep -o '"bytes": [0-9]*' run/traffic.json | head -1 | grep -o '[0-9]*$')"

echo "1..$cases"
finish
