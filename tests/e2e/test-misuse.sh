#!/usr/bin/env bash
# Plain misuse is answered in one line that says what to do, with exit status 2
# (or 1 where the command could not know), and leaves nothing behind.
. "${srcdir:-.}/tests/e2e/lib.sh"

make_text "$scratch/text"
"$stagecoach" prepare --text "$scratch/text" --out "$scratch/data" \
	--tokenizer byte --val 0.1 >"$scratch/log" 2>&1 ||
	{ cat "$scratch/log"; echo "Bail out! prepare failed"; exit 1; }
mkdir "$scratch/there"

# refuse STATUS PATTERN COMMAND...: its exit status, its one line, and no RUN.
refuse() {
	local wanted=$1 pattern=$2 status lines
	shift 2
	"$stagecoach" "$@" >"$scratch/out" 2>"$scratch/err"
	status=$?
	lines=$(wc -l <"$scratch/err")
	if [ $status -ne "$wanted" ]; then
		fail "$* (exit status $status, not $wanted)"
	elif ! grep -Eq -- "$pattern" "$scratch/err"; then
		fail "$* (says nothing like /$pattern/)"
	elif [ "$lines" -ne 1 ]; then
		fail "$* (says it in $lines lines)"
	elif [ -e "$scratch/run" ]; then
		fail "$* (leaves its --out behind)"
		rm -rf "$scratch/run"
	else
		pass "$*"
		return
	fi
	sed 's/^/#   /' "$scratch/err"
}

new="--data $scratch/data --out $scratch/run"
refuse 2 "did you mean 'train'" trian
refuse 2 "did you mean '--stages'" train $new --stage 2
refuse 2 "did you mean '--schedule'" train $new --shedule gpipe
refuse 2 "--stages" train $new --stages two
refuse 2 "--stages" train $new --stages 0
refuse 2 "--stages" train $new --stages -3
refuse 2 "--lr" train $new --lr nan
refuse 2 "--lr" train $new --lr 1e999
refuse 2 "--steps" train $new --steps 99999999999999999999
refuse 2 "--dropout" train $new --dropout 1.5
refuse 2 "--out" train --data "$scratch/data"
refuse 2 "prepare" train --out "$scratch/run"
refuse 2 "no such" train --data "$scratch/nowhere" --out "$scratch/run"
refuse 2 "exists" train --data "$scratch/data" --out "$scratch/there"
refuse 2 "heads" train $new --width 64 --heads 5
refuse 2 "7 stages.*6" train $new --layers 4 --stages 7
refuse 2 "adds up to 5" train $new --layers 4 --stages 2 --split 2,3
refuse 2 "names 3 stages" train $new --layers 4 --stages 2 --split 1,1,2
refuse 2 "--context|context|tokens" train $new --context 10000000
refuse 2 "gpipe" train $new --schedule gpip
refuse 2 "cannot train" train $new --schedule forward
refuse 2 "no/such/schedule.csv" train $new --schedule no/such/schedule.csv
refuse 2 "power of two" train $new --gradient-groups 3
refuse 2 "no such run" train --resume "$scratch/nowhere"
refuse 2 "leave out --out" train --resume "$scratch/there" --out "$scratch/run"
refuse 2 "positions|config.json" eval --model "$scratch/there" --data "$scratch/data"
refuse 2 "--model" generate
refuse 2 "--text" prepare --out "$scratch/run"
refuse 2 "no such|nowhere" prepare --text "$scratch/nowhere" --out "$scratch/run"
refuse 2 "exists" prepare --text "$scratch/text" --out "$scratch/there"
: >"$scratch/empty"
refuse 1 "empty" prepare --text "$scratch/empty" --out "$scratch/run"
head -c 5000 /dev/urandom >"$scratch/binary"
refuse 1 "UTF-8|binary" prepare --text "$scratch/binary" --out "$scratch/run"
refuse 2 "--stages|ranks" schedule show gpipe --stages 0 --micro-batches 4

# What may not change on resume is refused by name.
"$stagecoach" train $new --layers 2 --width 16 --heads 2 --context 16 \
	--steps 1 --eval-samples 2 >"$scratch/log" 2>&1 || sed 's/^/#   /' "$scratch/log"
mv "$scratch/run" "$scratch/kept"
refuse 2 "--lr may not change" train --resume "$scratch/kept" --lr 1
refuse 2 "--width may not change" train --resume "$scratch/kept" --width 32
refuse 2 "--steps" train --resume "$scratch/kept"
printf 'x' | dd of="$(ls -d "$scratch"/kept/checkpoints/step-*)/model.safetensors" \
	bs=1 seek=2000 conv=notrunc 2>/dev/null
if "$stagecoach" train --resume "$scratch/kept" --steps 2 >"$scratch/out" 2>"$scratch/err"; then
	fail "a damaged checkpoint is not resumed from"
elif grep -q "damaged" "$scratch/err"; then
	pass "a damaged checkpoint is not resumed from"
else
	fail "a damaged checkpoint is named"
	sed 's/^/#   /' "$scratch/err"
fi

echo "1..$cases"
finish
