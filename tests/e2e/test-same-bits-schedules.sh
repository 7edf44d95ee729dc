#!/usr/bin/env bash
# Every schedule that trains, on two and on four ranks, with one, two and four
# stages a rank where it has them: the sha256 and the losses of one stage.
. "${srcdir:-.}/tests/e2e/lib.sh"

make_text "$scratch/text"
"$stagecoach" prepare --text "$scratch/text" --out "$scratch/data" \
	--tokenizer byte --val 0.1 >"$scratch/log" 2>&1 ||
	{ cat "$scratch/log"; echo "Bail out! prepare failed"; exit 1; }

# Sixteen blocks, for sixteen stages; sizes that are multiples of nothing.
train() { # RUN OPTIONS...
	local run=$1
	shift
	"$stagecoach" train --data "$scratch/data" --out "$run" --seed 5 \
		--layers 16 --width 24 --heads 2 --context 19 --dropout 0.1 \
		--micro-batches 8 --micro-batch-size 1 --steps 2 --warmup 1 \
		--eval-samples 0 --checkpoint-every 0 --lr 0.01 "$@" \
		>"$scratch/log" 2>&1
}

bits() {
	sha256 "$1/model/model.safetensors"
	losses "$1"
}

compare() { # NAME OPTIONS...
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

train "$scratch/one" --stages 1 --schedule gpipe ||
	{ cat "$scratch/log"; echo "Bail out! the reference run failed"; exit 1; }
wanted=$(bits "$scratch/one")
note "reference: $(head -1 <<<"$wanted")"

for stages in 2 4; do
	for schedule in gpipe 1f1b zb-h1 zb-h2; do
		compare "$schedule, $stages ranks" \
			--stages $stages --schedule $schedule
	done
	for schedule in interleaved looped-bfs interleaved-zb; do
		for chunks in 1 2 4; do
			compare "$schedule, $stages ranks of $chunks stages" \
				--stages $stages --chunks $chunks \
				--schedule $schedule
		done
	done
	for schedule in zb-v v-half v-min 1f1b-v dualpipe-v; do
		compare "$schedule, $stages ranks of 2 stages as a V" \
			--stages $stages --schedule $schedule
	done
	# Nobody's but the search's, at costs that differ.
	if "$stagecoach" schedule search --stages $stages --micro-batches 8 \
		--chunks 2 --costs 3,2,1 --effort 0.02 \
		--out "$scratch/found.csv" >"$scratch/log" 2>&1; then
		compare "a schedule the search found, $stages ranks" \
			--stages $stages --schedule "$scratch/found.csv"
	else
		fail "the search finds a schedule for $stages ranks"
		sed 's/^/#   /' "$scratch/log"
	fi
done

# What a search finds at the costs measured now, whatever that is.
compare "--schedule auto, 2 ranks" --stages 2 --schedule auto
check "which is kept with the run" grep -q '^schedule: ' "$scratch/log"

# What is recorded changes nothing.
compare "recorded, zb-v, 2 ranks" --stages 2 --schedule zb-v --trace

# The control: W in another order must give other bits.
printf '%s\n%s\n' "0F0,0F1,0F2,0F3,0F4,0F5,0F6,0F7,0B7,0B6,0B5,0B4,0B3,0B2,0B1,0B0" \
	"1F0,1F1,1F2,1F3,1F4,1F5,1F6,1F7,1B7,1B6,1B5,1B4,1B3,1B2,1B1,1B0" \
	>"$scratch/reversed.csv"
if train "$scratch/run" --stages 2 --schedule "$scratch/reversed.csv" &&
	[ "$(bits "$scratch/run")" != "$wanted" ] &&
	grep -q 'does not give the same bits' "$scratch/log"; then
	pass "W in another order gives other bits, and says so"
else
	fail "W in another order gives other bits, and says so"
fi

echo "1..$cases"
finish
