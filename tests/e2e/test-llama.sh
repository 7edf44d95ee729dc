#!/usr/bin/env bash
# The Llama family in whole runs: the same bits whatever the split, every
# command, and what is refused.
. "${srcdir:-.}/tests/e2e/lib.sh"

make_text "$scratch/text"
"$stagecoach" prepare --text "$scratch/text" --out "$scratch/data" \
	--tokenizer byte --val 0.1 >"$scratch/log" 2>&1 ||
	{ cat "$scratch/log"; echo "Bail out! prepare failed"; exit 1; }

# Windows shorter than a sequence, heads of a size of their own, key heads that
# are shared, dropout; 37 tokens, 3 sequences.
sizes="--layers 4 --width 40 --heads 6 --kv-heads 2 --head-size 8 --context 37"
batch="--micro-batches 4 --micro-batch-size 3 --gradient-groups 2 --dropout 0.1"
rest="--warmup 1 --eval-every 2 --eval-samples 7 --checkpoint-every 2 --lr 0.01"
shape=

train() { # RUN OPTIONS...
	local run=$1
	shift
	# shellcheck disable=SC2086
	"$stagecoach" train --data "$scratch/data" --out "$run" --seed 11 \
		--no-pin --steps 4 --decay-steps 4 $shape $sizes $batch $rest \
		"$@" >"$scratch/log" 2>&1
}

bits() { # of a run: the model's digest and its losses
	sha256 "$1/model/model.safetensors"
	grep -o '"step":[^,]*,"loss":[^,]*,"grad_norm":[^,]*' "$1/metrics.jsonl"
	grep -o '"val_loss":[^,]*' "$1/metrics.jsonl"
}

refer() { # OPTIONS...
	train "$scratch/one" "$@" ||
		{ cat "$scratch/log"; echo "Bail out! a reference run failed"; exit 1; }
	wanted=$(bits "$scratch/one")
}

attempt() { # NAME OPTIONS...
	local name=$1
	shift
	if train "$scratch/run" "$@"; then
		same "$name" "$wanted" "$(bits "$scratch/run")"
	else
		fail "$name"
		sed 's/^/#   /' "$scratch/log"
	fi
	rm -rf "$scratch/run"
}

for family in llama "mistral --window 9" qwen2 "qwen3 --window 9 --tied yes"; do
	shape="--arch $family"
	rm -rf "$scratch/one"
	refer --stages 1 --transport inproc --threads 1
	attempt "$family: 3 stages, gpipe, recompute" --stages 3 \
		--schedule gpipe --recompute
	attempt "$family: 2 stages, zb-h1, tcp, 2 threads" --stages 2 \
		--schedule zb-h1 --transport tcp --threads 2
done

# Of the last family, which has most.
attempt "2 replicas of 2 stages" --stages 2 --replicas 2 --shard-optimizer
cp -r "$scratch/one" "$scratch/run"
rm -rf "$scratch/run/checkpoints/step-00000004" "$scratch/run/model"
echo step-00000002 >"$scratch/run/checkpoints/latest"
"$stagecoach" train --resume "$scratch/run" --stages 2 >"$scratch/log" 2>&1
same "resumed from step 2 in 2 stages" "$(head -1 <<<"$wanted")" \
	"$(sha256 "$scratch/run/model/model.safetensors")"
rm -rf "$scratch/run"
whole=$scratch/one
shared=$scratch/shared
train "$shared" --tensor 2 --transport inproc ||
	{ cat "$scratch/log"; echo "Bail out! two slices failed"; exit 1; }
wanted=$(bits "$shared")
attempt "2 slices: 2 stages" --tensor 2 --stages 2
attempt "2 slices: 2 replicas, recompute" --tensor 2 --replicas 2 --recompute

# Learned: far below a uniform guess, and the other commands know the model.
model=$whole/model
loss() { # OPTIONS...
	"$stagecoach" eval --model "$model" --data "$scratch/data" --context 37 \
		--samples 40 --json "$@" 2>"$scratch/log" |
		grep -o '"loss":[^,]*'
}
one=$(loss)
check "it has learned" awk -v loss="${one#*:}" 'BEGIN { exit !(loss > 0 && loss < 4.5) }'
same "eval: 3 stages as 1" "$one" "$(loss --stages 3)"

text() { # OPTIONS...
	"$stagecoach" generate --model "$model" --prompt "the number of" \
		--tokens 24 --temperature 0 "$@" 2>"$scratch/log"
}
one=$(text)
check "generate: 24 tokens" test "${#one}" -ge 20
same "generate: 3 stages as 1" "$one" "$(text --stages 3)"

"$stagecoach" inspect "$model" --tensors >"$scratch/tensors" 2>"$scratch/log"
same "inspect: 4 norms of heads' keys" 4 \
	"$(grep -c "self_attn.k_norm.weight" "$scratch/tensors")"
# shellcheck disable=SC2086
check "plan" "$stagecoach" plan --arch qwen3 $sizes --vocab-size 257 \
	--stages 2 --costs operations

refuse() { # WORDS OPTIONS...
	local words=$1
	shift
	if train "$scratch/refused" "$@"; then
		fail "refused: $words"
	elif grep -q "$words" "$scratch/log"; then
		pass "refused: $words"
	else
		fail "refused: $words"
		sed 's/^/#   /' "$scratch/log"
	fi
	rm -rf "$scratch/refused"
}
shape="--arch gpt2"
refuse "as many key-value heads as heads"
shape="--arch llama"
refuse "window" --window 8
refuse "even" --head-size 7
refuse "divide" --kv-heads 4
refuse "cannot be divided" --tensor 3

echo "1..$cases"
finish
