#!/usr/bin/env bash
# The same bits at a shape that means something: 530 tokens and 776 channels
# cross the 512-wide tiles and the libraries' own blocks, 97 a head is a
# multiple of nothing, and every attention, loss and row block has a
# remainder. Three layers, dropout on, two steps.
. "${srcdir:-.}/tests/e2e/lib.sh"

cat "$source_folder"/*/*.[ch] "$source_folder"/*/*/*.[ch] >"$scratch/text"
"$stagecoach" prepare --text "$scratch/text" --out "$scratch/data" \
	--tokenizer bpe:1111 --val 0 >"$scratch/log" 2>&1 ||
	{ cat "$scratch/log"; echo "Bail out! prepare failed"; exit 1; }

train() { # OPTIONS...
	rm -rf "$scratch/run"
	"$stagecoach" train --data "$scratch/data" --out "$scratch/run" \
		--seed 5 --layers 3 --width 776 --heads 8 --context 530 \
		--dropout 0.1 --micro-batches 4 --micro-batch-size 1 \
		--steps 2 --warmup 0 --lr 0.001 --eval-samples 0 \
		--checkpoint-every 0 --no-pin "$@" >"$scratch/log" 2>&1
}

bits() {
	sha256 "$scratch/run/model/model.safetensors"
	losses "$scratch/run"
}

# expect WANTED NAME OPTIONS...
expect() {
	local wanted=$1 name=$2
	shift 2
	if train "$@"; then
		same "$name" "$wanted" "$(bits)"
	else
		fail "$name"
		sed 's/^/#   /' "$scratch/log"
	fi
}

# expect_other WANTED NAME OPTIONS...: it runs, to other bits.
expect_other() {
	local unwanted=$1 name=$2
	shift 2
	if ! train "$@"; then
		fail "$name"
		sed 's/^/#   /' "$scratch/log"
	elif [ "$(sha256 "$scratch/run/model/model.safetensors")" = "$(head -1 <<<"$unwanted")" ]; then
		fail "$name"
	else
		pass "$name"
	fi
}

cat >"$scratch/split.csv" <<'CSV'
0F0,0F1,0I0,0F2,0I1,0W0,0F3,0I2,0W1,0I3,0W2,0W3
1F0,1I0,1F1,1I1,1F2,1W0,1I2,1F3,1W1,1I3,1W2,1W3
CSV
cat >"$scratch/reversed.csv" <<'CSV'
0F0,0F1,0F2,0F3,0I0,0I1,0I2,0I3,0W3,0W2,0W1,0W0
1F0,1F1,1F2,1F3,1I0,1I1,1I2,1I3,1W3,1W2,1W1,1W0
CSV

inproc="--transport inproc"
tcp="--transport tcp"
train --stages 1 --schedule gpipe $inproc --threads 1 ||
	{ cat "$scratch/log"; echo "Bail out! the reference run failed"; exit 1; }
wanted=$(bits)
note "reference: $(head -1 <<<"$wanted")"
if [ "$(losses "$scratch/run" | wc -l)" -eq 2 ]; then
	pass "1 stage, gpipe, inproc, threads 1: the reference"
else
	fail "1 stage, gpipe, inproc, threads 1: two losses"
fi
expect "$wanted" "1 stage, 1f1b, inproc, threads 2, recompute" \
	--stages 1 --schedule 1f1b $inproc --threads 2 --recompute
expect "$wanted" "2 stages, 1f1b, inproc, threads 1" \
	--stages 2 --schedule 1f1b $inproc --threads 1
expect "$wanted" "2 stages, gpipe, tcp, threads 1, recompute" \
	--stages 2 --schedule gpipe $tcp --threads 1 --recompute
expect "$wanted" "2 stages, 1f1b, tcp on sockets, threads 2" \
	--stages 2 --schedule 1f1b $tcp --tcp-io sockets --threads 2
expect "$wanted" "3 stages, 1f1b, tcp, threads 1" \
	--stages 3 --split 0,1,2 --schedule 1f1b $tcp --threads 1
expect "$wanted" "3 stages, gpipe, inproc, threads 2, recompute" \
	--stages 3 --split 2,1,0 --schedule gpipe $inproc --threads 2 --recompute
expect "$wanted" "2 stages, I and W apart, tcp, threads 1" \
	--stages 2 --schedule "$scratch/split.csv" $tcp --threads 1
expect_other "$wanted" "W reversed gives other bits (negative control)" \
	--stages 2 --schedule "$scratch/reversed.csv" $tcp --threads 1

# Two gradient groups have bits of their own, the same for all.
groups="--gradient-groups 2"
expect_other "$wanted" "2 gradient groups give other bits than one" \
	--stages 1 --schedule gpipe $inproc --threads 2 $groups
wanted=$(bits)
expect "$wanted" "2 gradient groups: 2 stages, 1f1b, tcp, threads 1" \
	--stages 2 --schedule 1f1b $tcp --threads 1 $groups
expect "$wanted" "2 gradient groups: 3 stages, gpipe, inproc, recompute" \
	--stages 3 --split 1,1,1 --schedule gpipe $inproc --threads 1 --recompute $groups

echo "1..$cases"
finish
