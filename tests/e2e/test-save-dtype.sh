#!/usr/bin/env bash
# --save-dtype bf16: half the bytes in the model's files, and not a bit less in
# what a run goes on from.
. "${srcdir:-.}/tests/e2e/lib.sh"

make_text "$scratch/text"
"$stagecoach" prepare --text "$scratch/text" --out "$scratch/data" \
	--tokenizer byte --val 0.1 >"$scratch/log" 2>&1 ||
	{ cat "$scratch/log"; echo "Bail out! prepare failed"; exit 1; }
cd "$scratch" || exit 1

train() { # RUN OPTIONS...
	local run=$1
	shift
	"$stagecoach" train --data data --out "$run" --seed 5 --layers 3 \
		--width 32 --heads 2 --context 16 --micro-batches 4 \
		--micro-batch-size 2 --eval-samples 4 --decay-steps 4 "$@" \
		>log 2>&1 || sed 's/^/#   /' log
}

of_step() { # RUN STEP FILE: its digest
	sha256 "$1/checkpoints/step-0000000$2/$3"
}

loss_of() { # MODEL
	"$stagecoach" eval --model "$1" --data data --samples 8 --context 16 \
		--json 2>>log | grep -o '"loss": [0-9.]*' | cut -d' ' -f2
}

near() { # A B: within 1 %
	awk -v a="$1" -v b="$2" \
		'BEGIN { d = a - b; exit !(a > 0 && d * d < 1e-4 * b * b) }'
}

train whole --steps 4
train rounded --steps 4 --save-dtype bf16 --stages 2
wanted=$(of_step whole 4 model.safetensors)
same "the masters beside it are the float model" "$wanted" \
	"$(of_step rounded 4 masters.safetensors)"
same "the optimizer's state is the same" \
	"$(of_step whole 4 optimizer.safetensors)" \
	"$(of_step rounded 4 optimizer.safetensors)"
check "the manifest has the masters" grep -q '"masters.safetensors"' \
	rounded/checkpoints/step-00000004/manifest.json
check "RUN/model is rounded and nothing else" test \
	-f rounded/model/model.safetensors -a \
	! -e rounded/model/masters.safetensors
same "RUN/model is the checkpoint's" \
	"$(of_step rounded 4 model.safetensors)" \
	"$(sha256 rounded/model/model.safetensors)"
check "config.json says so" grep -q '"torch_dtype": "bfloat16"' \
	rounded/model/config.json
check "and else says float" grep -q '"torch_dtype": "float32"' \
	whole/model/config.json
check "half the bytes, within a header" test \
	$((2 * $(stat -c %s rounded/model/model.safetensors))) -lt \
	$(($(stat -c %s whole/model/model.safetensors) + 8192))
"$stagecoach" inspect rounded/model --tensors >log 2>&1
check "inspect: every tensor is BF16" test "$(grep -c ' BF16 ' log)" -gt 20
check "inspect: none is F32" test "$(grep -c ' F32 ' log)" = 0
check "inspect names the type" grep -q 'tensors, .*, BF16$' log
"$stagecoach" inspect rounded/checkpoints/step-00000004 --verify >log 2>&1
check "inspect names the masters" grep -q 'float masters beside it' log

# Values are those nearest to the float ones: the loss is nearly the same.
check "the rounded model evaluates" near "$(loss_of rounded/model)" \
	"$(loss_of whole/model)"
check "a checkpoint does as a model" near \
	"$(loss_of rounded/checkpoints/step-00000004)" "$(loss_of whole/model)"
"$stagecoach" train --data data --out again --model rounded/model --context 16 \
	--steps 1 --eval-samples 0 >log 2>&1 || sed 's/^/#   /' log
check "and is trained on" grep -q '"step":1,' again/metrics.jsonl

# Interrupted and gone on: nothing is lost, whatever the files hold.
for after in bf16 fp32; do
	train part --steps 2 --save-dtype bf16 --stages 2
	"$stagecoach" train --resume part --steps 4 --save-dtype $after \
		--stages 3 >log 2>&1 || sed 's/^/#   /' log
	file=masters.safetensors
	[ $after = bf16 ] || file=model.safetensors
	same "resumed, then $after: the same bits" "$wanted" \
		"$(of_step part 4 $file)"
	[ $after = bf16 ] || check "no masters beside a float model" test \
		! -e part/checkpoints/step-00000004/masters.safetensors
	rm -rf part
done
train part --steps 2
"$stagecoach" train --resume part --steps 4 --save-dtype bf16 >log 2>&1 ||
	sed 's/^/#   /' log
same "resumed from a float checkpoint: the same bits" \
	"$(of_step rounded 4 model.safetensors)" \
	"$(sha256 part/model/model.safetensors)"

# From the rounded file alone other weights would come: it is not tried.
train part2 --steps 2 --save-dtype bf16
checkpoint=part2/checkpoints/step-00000002
rm $checkpoint/masters.safetensors
"$stagecoach" train --resume part2 --steps 4 >log 2>&1
same "a checkpoint without its masters is none: status 2" 2 $?
check "a checkpoint without its masters: says what is missing" \
	grep -q 'masters.safetensors is missing' log

# What cannot be is refused.
"$stagecoach" train --data data --out no --save-dtype fp16 >log 2>&1
same "another type: status 2" 2 $?
check "another type: says which there are" grep -q 'fp32|bf16\|fp32 or bf16\|fp32, bf16' log

echo "1..$cases"
finish
