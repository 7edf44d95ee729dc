#!/usr/bin/env bash
# Whole runs against PyTorch: ten steps of AdamW, with warm-up, cosine decay,
# clipping and weight decay, give the weights that PyTorch has after them.
. "${srcdir:-.}/tests/e2e/lib.sh"

export srcdir
golden=$source_folder/tests/grad/torch

# As in make-golden.py. A step has all windows of tokens.bin.
train() { # RUN OPTIONS...
	local run=$1
	shift
	"$stagecoach" train --model "$golden" --data "$golden/tokens.bin" \
		--out "$run" --context 19 --micro-batches 3 \
		--micro-batch-size 2 --steps 10 --warmup 3 --lr 0.003 \
		--min-lr 0.0004 --beta1 0.9 --beta2 0.95 --epsilon 0.00001 \
		--weight-decay 0.1 --clip 1.2 --eval-samples 0 --no-pin "$@"
}

trained() { # NAME OPTIONS...
	local name=$1
	shift
	rm -rf "$scratch/run"
	check "$name: it runs" train "$scratch/run" "$@"
	check "$name: the weights are PyTorch's" \
		"$builddir/tests/grad/compare-golden" after. "$scratch/run/model"
	note "$(cat "$scratch/check.log")"
	check "$name: so are losses, norms and rates" steps_agree "$scratch/run"
}

# Each step's loss, norm and rate within 1e-5 of steps.txt, of ten steps.
steps_agree() { # RUN
	sed 's/.*"loss":\([^,]*\).*"grad_norm":\([^,]*\).*"lr":\([^,}]*\).*/\1 \2 \3/' \
		"$1/metrics.jsonl" | paste -d ' ' - "$golden/steps.txt" |
		awk '
		function off(a, b) { return a > b ? a / b - 1 : b / a - 1 }
		{ for (i = 1; i <= 3; i++) if (!(off($i, $(i + 3)) < 1e-5)) wrong = 1 }
		wrong { print "step " NR ": " $0; exit }
		END { exit wrong || NR != 10 }'
}

trained "1 stage" --stages 1
trained "2 stages, recompute" --stages 2 --recompute
trained "3 stages, gpipe" --stages 3 --schedule gpipe
trained "other micro-batches" --stages 2 --micro-batches 6 --micro-batch-size 1

# What the comparison must notice.
different() { # NAME OPTIONS...
	local name=$1
	shift
	rm -rf "$scratch/run"
	if train "$scratch/run" --stages 1 "$@" >"$scratch/log" 2>&1 &&
		! "$builddir/tests/grad/compare-golden" after. \
			"$scratch/run/model" >"$scratch/log" 2>&1; then
		pass "$name: other weights (negative control)"
	else
		fail "$name: other weights (negative control)"
	fi
	note "$(cat "$scratch/log")"
}
different "weight decay 0.09" --weight-decay 0.09
different "clipping at 1" --clip 1
different "one step of warm-up less" --warmup 2

echo "1..$cases"
finish
