#!/usr/bin/env bash
# Supervised fine-tuning in whole runs: packed or one by one the loss and the
# gradients agree, the bits do not depend on the split, evaluation counts the
# supervised tokens, and what is wrong is refused and leaves nothing.
. "${srcdir:-.}/tests/e2e/lib.sh"

# 60 examples of 8 to 69 tokens.
awk 'BEGIN {
	for (i = 1; i <= 60; i++) {
		answer = ""
		for (k = 0; k <= i * 7 % 60; k++)
			answer = answer sprintf("%c", 97 + (i + k) % 26)
		printf "{\"prompt\": \"ask %d:\", \"completion\": \"%s\"}\n", i, answer
	}
}' >"$scratch/examples.jsonl"

prepare() { # FOLDER OPTIONS...
	local folder=$1
	shift
	"$stagecoach" prepare --out "$scratch/$folder" --tokenizer byte "$@" \
		>"$scratch/log" 2>&1
}

prepare data --sft "$scratch/examples.jsonl" --val 0.1 ||
	{ cat "$scratch/log"; echo "Bail out! prepare failed"; exit 1; }

train() { # RUN OPTIONS...
	local run=$1
	shift
	# shellcheck disable=SC2086
	"$stagecoach" train --data "$scratch/data" --out "$run" --seed 11 \
		--no-pin --layers 3 --width 40 --heads 4 --context 70 --warmup 1 \
		--lr 0.01 --decay-steps 4 $shape "$@" >"$scratch/log" 2>&1
}

first_step() { # of a run: loss and gradient norm
	grep -m1 grad_norm "$1/metrics.jsonl" |
		sed 's/.*"loss":\([^,]*\),"grad_norm":\([^,]*\),.*/\1 \2/'
}

close() { # "A B" "C D": each pair within 2e-5 of its size
	awk -v a="$1" -v b="$2" 'function off(x, y) {
			return (x > y ? x - y : y - x) > 2e-5 * x
		}
		BEGIN {
			split(a, x, " "); split(b, y, " ")
			exit !(x[1] > 0 && x[2] > 0) || off(x[1], y[1]) ||
				off(x[2], y[2])
		}'
}

# All of an epoch in one step: the sequences that there are, which the log says.
sequences() {
	grep -o 'in [0-9]* sequences' "$scratch/log" | grep -o '[0-9]*'
}

for shape in "--arch gpt2" "--arch qwen3 --kv-heads 2" \
	"--arch mistral --window 20 --kv-heads 2"; do
	name=${shape#--arch }
	name=${name%% *}
	rm -rf "$scratch"/packed "$scratch"/apart
	train "$scratch/packed" --steps 1 --micro-batches 1 --eval-samples 0
	packed=$(sequences)
	rm -rf "$scratch/packed"
	check "$name: packed" train "$scratch/packed" --steps 1 \
		--micro-batches "$packed" --micro-batch-size 1 --eval-samples 0
	check "$name: one by one" train "$scratch/apart" --steps 1 \
		--micro-batches 54 --micro-batch-size 1 --eval-samples 0 \
		--no-packing
	same "$name: one by one has a sequence an example" 54 "$(sequences)"
	check "$name: packed has fewer" [ "$packed" -lt 32 ]
	check "$name: the same loss and gradients" \
		close "$(first_step "$scratch/packed")" \
		"$(first_step "$scratch/apart")"
done

bits() { # of a run: the model's digest and its losses
	sha256 "$1/model/model.safetensors"
	grep -o '"step":[^,]*,"loss":[^,]*,"grad_norm":[^,]*' "$1/metrics.jsonl"
	grep -o '"val_loss":[^,]*' "$1/metrics.jsonl"
}

attempt() { # NAME OPTIONS...
	local name=$1
	shift
	if train "$scratch/run" "${batch[@]}" "$@"; then
		same "$name" "$wanted" "$(bits "$scratch/run")"
	else
		fail "$name"
		sed 's/^/#   /' "$scratch/log"
	fi
	rm -rf "$scratch/run"
}

batch=(--micro-batches 4 --micro-batch-size 2 --gradient-groups 4 --steps 4
	--dropout 0.1 --eval-every 2 --checkpoint-every 2)
for shape in "--arch gpt2" "--arch llama --kv-heads 2"; do
	name=${shape#--arch }
	name=${name%% *}
	rm -rf "$scratch/one"
	train "$scratch/one" "${batch[@]}" --transport inproc --threads 1 ||
		{ cat "$scratch/log"; echo "Bail out! a run failed"; exit 1; }
	wanted=$(bits "$scratch/one")
	attempt "$name: 3 stages, gpipe, recompute" --stages 3 \
		--schedule gpipe --recompute
	attempt "$name: 2 stages, zb-h1, tcp, 2 threads" --stages 2 \
		--schedule zb-h1 --transport tcp --threads 2
	attempt "$name: 4 replicas" --replicas 4 --shard-optimizer
	attempt "$name: 2 replicas of 2 stages" --replicas 2 --stages 2
done

# Stopped after two steps and gone on with, in other stages.
if train "$scratch/run" "${batch[@]}" --steps 2 &&
	"$stagecoach" train --resume "$scratch/run" --steps 4 --stages 2 \
		--no-pin >"$scratch/log" 2>&1; then
	same "resumed: the same model" "$(sha256 "$scratch/one/model/model.safetensors")" \
		"$(sha256 "$scratch/run/model/model.safetensors")"
else
	fail "resumed"
	sed 's/^/#   /' "$scratch/log"
fi

# A slice has heads of its own, and the same places.
check "tensor parallel" train "$scratch/slices" "${batch[@]}" --tensor 2
check "tensor parallel: the same first loss but for rounding" \
	close "$(first_step "$scratch/one")" "$(first_step "$scratch/slices")"

evaluate() { # OPTIONS...
	"$stagecoach" eval --model "$scratch/one/model" --data "$scratch/data" \
		--json "$@" 2>/dev/null
}
number() { # FIELD of JSON
	grep -o "\"$1\": *[0-9.]*" | grep -o '[0-9.]*$'
}
supervised=$("$stagecoach" inspect "$scratch/data" --json 2>/dev/null |
	number val_supervised)
same "evaluation is over the supervised tokens" "$supervised" \
	"$(evaluate --context 70 | number tokens)"
same "evaluation: two stages, other micro-batches" \
	"$(evaluate --context 70 | number loss | cut -c1-8)" \
	"$(evaluate --context 70 --stages 2 --micro-batches 3 | number loss |
		cut -c1-8)"

# ---- refusals ----

refused() { # NAME WORDS COMMAND...
	local name=$1 words=$2
	shift 2
	if "$@" >"$scratch/out" 2>&1; then
		fail "$name: not refused"
	elif ! grep -qF -- "$words" "$scratch/out"; then
		fail "$name: another message"
		sed 's/^/#   /' "$scratch/out"
	else
		pass "$name"
	fi
}

to=(--out "$scratch/refused" --tokenizer byte)
cat "$scratch/examples.jsonl" - >"$scratch/bad.jsonl" <<<'{"prompt": "a", "completion": 7}'
refused "a wrong field: file, line, field" \
	'bad.jsonl:61: "completion" must be a string, not a number' \
	"$stagecoach" prepare --sft "$scratch/bad.jsonl" "${to[@]}"
echo '{"messages": [{"role": "user", "content": "a"}]}' >"$scratch/none.jsonl"
refused "nothing supervised" "none.jsonl:1: no turn of the assistant" \
	"$stagecoach" prepare --sft "$scratch/none.jsonl" "${to[@]}" --template plain
refused "a template whose tokens are not there" "needs the token <|im_start|>" \
	"$stagecoach" prepare --sft "$scratch/examples.jsonl" "${to[@]}" --template chatml
refused "an unknown template" "there is no chat template vicuna" \
	"$stagecoach" prepare --sft "$scratch/examples.jsonl" "${to[@]}" --template vicuna
refused "text and examples" "one of them at a time" \
	"$stagecoach" prepare --sft "$scratch/examples.jsonl" --text "$scratch" "${to[@]}"
check "nothing is left behind" [ ! -e "$scratch/refused" ]
refused "an answer beyond the context" "beyond the context of 6" \
	"$stagecoach" train --data "$scratch/data" --out "$scratch/refused" --context 6
refused "packing may not change on resume" "no-packing" \
	"$stagecoach" train --resume "$scratch/run" --no-packing
prepare text --text "$scratch/examples.jsonl"
refused "no packing of text" "--no-packing is for examples" \
	"$stagecoach" train --data "$scratch/text" --out "$scratch/refused" --no-packing
check "one by one goes on so" "$stagecoach" train --resume "$scratch/apart" --steps 2
refused "a system text without a template" "--system is for a chat" \
	"$stagecoach" generate --model "$scratch/one/model" --prompt a --system b
plan $cases
finish
