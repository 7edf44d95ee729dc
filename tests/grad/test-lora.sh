#!/usr/bin/env bash
# Adapters (LoRA) against PEFT: a step of plain descent shows every gradient,
# ten steps of AdamW give PyTorch's adapters, and merge gives PEFT's merged
# matrices; from adapters that PEFT wrote, and into ones that it reads.
. "${srcdir:-.}/tests/e2e/lib.sh"

adapters=$source_folder/tests/grad/lora
compare=$builddir/tests/grad/compare-lora

base_of() { # CASE
	sed -n 's/.*"base_model_name_or_path": *"\([^"]*\)".*/\1/p' \
		"$adapters/$1/adapter_config.json"
}

# As in make-golden.py. A step has all windows of tokens.bin.
train() { # CASE OPTIONS...
	local case=$1 base context=23
	shift
	base=$source_folder/tests/grad/$(base_of "$case")
	[ "$(base_of "$case")" = torch ] && context=19
	rm -rf "$scratch/run"
	"$stagecoach" train --model "$adapters/$case" --base "$base" \
		--data "$source_folder/tests/grad/$(base_of "$case" |
			cut -d/ -f1)/tokens.bin" \
		--out "$scratch/run" --context "$context" --micro-batches 3 \
		--micro-batch-size 2 --eval-samples 0 --transport inproc \
		--threads 1 --costs operations --no-pin "$@"
}

descend() { # CASE OPTIONS...
	train "$@" --optimizer sgd --momentum 0 --weight-decay 0 --clip 0 \
		--lr 8 --warmup 0 --decay constant --steps 1 &&
		"$compare" "$adapters/$1" "$scratch/run/model" 8
}

ten_steps() { # CASE OPTIONS...
	train "$@" --lr 0.003 --warmup 0 --decay constant --steps 10 \
		--beta1 0.9 --beta2 0.95 --epsilon 0.00001 --weight-decay 0.1 \
		--clip 1.2 &&
		"$compare" "$adapters/$1" "$scratch/run/model"
}

merge() { # CASE
	rm -rf "$scratch/merged"
	"$stagecoach" merge --model "$adapters/$1" --out "$scratch/merged" \
		--base "$source_folder/tests/grad/$(base_of "$1")" &&
		"$compare" "$adapters/$1" "$scratch/merged" merged
}

worst() {
	note "$(grep worst "$scratch/check.log")"
}

for folder in "$adapters"/*/; do
	case=$(basename "$folder")
	for split in "--stages 1" "--stages 2 --schedule zb-h1" \
		"--stages 3 --recompute"; do
		# shellcheck disable=SC2086
		check "$case: gradients, $split" descend "$case" $split
		worst
	done
	check "$case: ten steps" ten_steps "$case" --stages 2
	worst
	check "$case: merged" merge "$case"
	worst
done

# The comparison can fail.
train llama --optimizer sgd --momentum 0 --weight-decay 0 --clip 0 --lr 8.02 \
	--warmup 0 --decay constant --steps 1 >"$scratch/log" 2>&1
if "$compare" "$adapters/llama" "$scratch/run/model" 8 >"$scratch/log"; then
	fail "a gradient that is off by 1/400 is noticed"
else
	pass "a gradient that is off by 1/400 is noticed"
fi

echo "1..$cases"
finish
