#!/usr/bin/env bash
# bench-stages.sh [ROUNDS]: a training step of GPT-2 with 124 M parameters against
# the rate of matrix products measured in the same minutes: one process on two
# threads, and two stages of one thread each. All in turn, round by round; the
# first is run twice a round, as a control. Prints medians and ratios.
. "${srcdir:-.}/tests/e2e/lib.sh"
rounds=${1:-3}
builddir=${builddir:-.}

make_text "$scratch/text"
"$stagecoach" prepare --text "$scratch/text" --out "$scratch/data" \
	--tokenizer byte >"$scratch/log" 2>&1 || { cat "$scratch/log"; exit 1; }

step() { # OPTIONS...: seconds of the third step
	rm -rf "$scratch/run"
	"$stagecoach" train --data "$scratch/data" --out "$scratch/run" \
		--layers 12 --width 768 --heads 12 --vocab-size 50257 \
		--context 256 --micro-batches 8 --micro-batch-size 1 --steps 3 \
		--eval-samples 0 --checkpoint-every 0 "$@" \
		>"$scratch/log" 2>&1 || { cat "$scratch/log" >&2; exit 1; }
	sed -n 's/.*"step":3,.*"step_seconds":\([0-9.]*\).*/\1/p' \
		"$scratch/run/metrics.jsonl"
}

median() {
	sort -n | awk '{ v[NR] = $1 } END { print NR % 2 ? v[(NR + 1) / 2] : (v[NR / 2] + v[NR / 2 + 1]) / 2 }'
}

for round in $(seq "$rounds"); do
	"$builddir/tests/bench/sgemm-rate" 2 2 | grep -o '[0-9.]*' | tail -1 >>"$scratch/rate"
	step --stages 1 --threads 2 >>"$scratch/one"
	step --stages 2 --threads 1 --split 9,3 --schedule 1f1b >>"$scratch/two"
	step --stages 1 --threads 2 >>"$scratch/again"
	echo "round $round: sgemm $(tail -1 "$scratch/rate") GFLOP/s; one process $(tail -1 "$scratch/one") s, two stages $(tail -1 "$scratch/two") s, one process again $(tail -1 "$scratch/again") s"
done
# 0.773 TFLOP of products for 1,024 tokens; here are 2,048.
awk -v rate="$(median <"$scratch/rate")" -v one="$(median <"$scratch/one")" \
	-v two="$(median <"$scratch/two")" -v again="$(median <"$scratch/again")" '
	BEGIN {
		printf "one process: %.2f s a step, %.1f GFLOP/s, %.2f of sgemm\n",
			one, 1546 / one, 1546 / one / rate
		printf "two stages: %.3f of that time\n", two / one
		printf "control pair: %.3f\n", again / one
	}'
