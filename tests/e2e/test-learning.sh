#!/usr/bin/env bash
# It learns: 2 KB of text by heart, and the Perl manual well beyond the
# frequencies of its words; in bfloat16 as in float.
. "${srcdir:-.}/tests/e2e/lib.sh"

value() { # KEY FILE: the last one of a metrics file
	grep -o "\"$1\":[^,}]*" "$2" | tail -1 | cut -d: -f2
}

less() {
	awk -v a="$1" -v b="$2" 'BEGIN { exit !(a != "" && a + 0 < b + 0) }'
}

head -c 2048 "$source_folder/engine/stage.h" >"$scratch/small"
"$stagecoach" prepare --text "$scratch/small" --out "$scratch/tiny" \
	--tokenizer byte --val 0 >"$scratch/log" 2>&1 || cat "$scratch/log"
if "$stagecoach" train --data "$scratch/tiny" --out "$scratch/run" \
	--layers 2 --width 96 --heads 4 --context 128 --micro-batches 2 \
	--micro-batch-size 7 --steps 250 --lr 0.004 --weight-decay 0 \
	--eval-samples 0 --stages 2 >"$scratch/log" 2>&1; then
	loss=$(value loss "$scratch/run/metrics.jsonl")
	if less "$loss" 0.05; then
		pass "2 KB by heart: loss $loss after 250 steps"
	else
		fail "2 KB by heart: loss $loss after 250 steps, not below 0.05"
	fi
else
	fail "2 KB by heart"
	sed 's/^/#   /' "$scratch/log"
fi

# The curve of bfloat16 is that of float: 300 steps, the means of each 25, and
# the validation loss every 50. (At rates that are too high either curve leaves
# itself when any last bit changes.)
curve() { # RUN: a number a line
	grep -o '"loss":[^,]*' "$1/metrics.jsonl" | cut -d: -f2 |
		awk '{ sum += $1 } NR % 25 == 0 { print sum / 25; sum = 0 }'
	grep -o '"val_loss":[^,]*' "$1/metrics.jsonl" | cut -d: -f2
}
make_text "$scratch/text"
"$stagecoach" prepare --text "$scratch/text" --out "$scratch/source" \
	--tokenizer byte --val 0.1 >"$scratch/log" 2>&1 || cat "$scratch/log"
for dtype in fp32 bf16; do
	"$stagecoach" train --data "$scratch/source" --out "$scratch/$dtype" \
		--layers 2 --width 96 --heads 4 --context 64 --micro-batches 2 \
		--micro-batch-size 8 --steps 300 --lr 0.001 --eval-every 50 \
		--eval-samples 32 --checkpoint-every 0 --dtype $dtype \
		>"$scratch/log" 2>&1 || sed 's/^/#   /' "$scratch/log"
	curve "$scratch/$dtype" >"$scratch/$dtype.curve"
done
furthest=$(paste "$scratch/fp32.curve" "$scratch/bf16.curve" | awk '
	{ d = $1 > $2 ? 1 - $2 / $1 : $2 / $1 - 1; if (d > most) most = d }
	END { printf "%.5f %d", NR == 19 ? most : 1, NR }')
learnt=$(tail -1 "$scratch/bf16.curve")
note "bfloat16: validation loss $learnt, float: $(tail -1 "$scratch/fp32.curve")"
if less "${furthest% *}" 0.01 && less "$learnt" 3; then
	pass "300 steps in bfloat16 are within ${furthest% *} of float's"
else
	fail "300 steps in bfloat16 are within 0.01 of float's: ${furthest% *}, ${furthest#* } points, validation loss $learnt"
fi
check "and not the same" test \
	"$(cat "$scratch/fp32.curve")" != "$(cat "$scratch/bf16.curve")"

manual=$(dirname "$(find /usr/share/perl* -name perlfunc.pod 2>/dev/null | head -1)")
if [ ! -f "$manual/perlfunc.pod" ]; then
	echo "ok $((cases + 1)) - the Perl manual # SKIP perl-doc is not installed"
	echo "1..$((cases + 1))"
	exit $failures
fi
check "prepare the Perl manual" \
	"$stagecoach" prepare --text "$manual" --pattern '*.pod' \
	--out "$scratch/perl" --tokenizer bpe:2048 --val 0.05
if "$stagecoach" train --data "$scratch/perl" --out "$scratch/perl-run" \
	--layers 4 --width 256 --heads 4 --context 256 --micro-batches 8 \
	--micro-batch-size 2 --steps 300 --lr 0.0015 --warmup 40 --eval-every 50 \
	--eval-samples 64 --checkpoint-every 0 --stages 2 \
	>"$scratch/log" 2>&1; then
	entropy=$(grep -o '"unigram_entropy": *[^,}]*' "$scratch/perl/corpus.json" |
		cut -d: -f2)
	loss=$(value val_loss "$scratch/perl-run/metrics.jsonl")
	note "step: validation loss"
	grep -o '"step":[0-9]*,"val_loss":[0-9.]*' "$scratch/perl-run/metrics.jsonl" |
		sed 's/"step":\([0-9]*\),"val_loss":/#   \1: /'
	limit=$(awk -v e="$entropy" 'BEGIN { print 0.75 * e }')
	if less "$loss" "$limit"; then
		pass "the Perl manual: validation loss $loss after 300 steps, unigram entropy $entropy"
	else
		fail "the Perl manual: validation loss $loss is not below 0.75 x the unigram entropy $entropy"
	fi
else
	fail "train on the Perl manual"
	sed 's/^/#   /' "$scratch/log"
fi

echo "1..$cases"
finish
