#!/usr/bin/env bash
# Whole runs of the Llama family against transformers: a step of plain descent
# shows every gradient, ten steps of AdamW give PyTorch's weights, at one, two
# and three stages and with the layers shared by two ranks.
. "${srcdir:-.}/tests/e2e/lib.sh"

cases_folder=$source_folder/tests/grad/llama
tokens=$cases_folder/tokens.bin

# As in make-golden.py. A step has all windows of tokens.bin.
train() { # CASE OPTIONS...
	local case=$1
	shift
	rm -rf "$scratch/run"
	"$stagecoach" train --model "$cases_folder/$case" --data "$tokens" \
		--out "$scratch/run" --context 23 --micro-batches 3 \
		--micro-batch-size 2 --eval-samples 0 --transport inproc \
		--threads 1 --costs operations --no-pin "$@"
}

descend() { # CASE OPTIONS...
	train "$@" --optimizer sgd --momentum 0 --weight-decay 0 --clip 0 \
		--lr 8 --warmup 0 --decay constant --steps 1 &&
		"$builddir/tests/grad/compare-llama" "$cases_folder/$1" \
			"$scratch/run/model" 8
}

ten_steps() { # CASE OPTIONS...
	train "$@" --lr 0.003 --warmup 0 --decay constant --steps 10 \
		--beta1 0.9 --beta2 0.95 --epsilon 0.00001 --weight-decay 0.1 \
		--clip 1.2 &&
		"$builddir/tests/grad/compare-llama" "$cases_folder/$1" \
			"$scratch/run/model"
}

worst() {
	note "$(grep worst "$scratch/check.log")"
}

for folder in "$cases_folder"/*/; do
	case=$(basename "$folder")
	for split in "--stages 1" "--stages 2" "--stages 3 --recompute" \
		"--stages 2 --tensor 2"; do
		# A head of keys cannot be shared.
		if [ "$case" = one-key-biases ]; then
			split=${split/--stages 2 --tensor 2/--stages 4}
		fi
		# shellcheck disable=SC2086
		check "$case: gradients, $split" descend "$case" $split
		worst
	done
done

for case in groups-tied one-key-biases window normed-tied; do
	for split in "--stages 1" "--stages 3 --schedule gpipe"; do
		# shellcheck disable=SC2086
		check "$case: ten steps, $split" ten_steps "$case" $split
		worst
	done
done
check "normed-tied: ten steps, two slices" ten_steps normed-tied --tensor 2
worst

# The comparison can fail: a step that was too long, a step too few.
train window --optimizer sgd --momentum 0 --weight-decay 0 --clip 0 --lr 8.02 \
	--warmup 0 --decay constant --steps 1 >"$scratch/log" 2>&1
if "$builddir/tests/grad/compare-llama" "$cases_folder/window" \
	"$scratch/run/model" 8 >"$scratch/log"; then
	fail "a gradient that is off by 1/400 is noticed"
else
	pass "a gradient that is off by 1/400 is noticed"
fi

# What a run writes is read as the same model.
evaluate() { # MODEL
	"$stagecoach" eval --model "$1" --data "$tokens" --on train \
		--context 23 --json 2>"$scratch/log" | grep -o '"loss":[^,]*'
}
for case in dynamic llama3 window-yarn biases-upper-window normed-biases; do
	wanted=$(evaluate "$cases_folder/$case")
	[ -n "$wanted" ] || wanted="a loss, not $(cat "$scratch/log")"
	train "$case" --lr 0 --steps 1 >"$scratch/log" 2>&1
	same "$case: read, written, read again: the same loss" "$wanted" \
		"$(evaluate "$scratch/run/model")"
done

echo "1..$cases"
finish
