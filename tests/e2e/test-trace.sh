#!/usr/bin/env bash
# train --trace: what it writes, that it changes nothing, and that what it
# measured is of use.
. "${srcdir:-.}/tests/e2e/lib.sh"

make_text "$scratch/text"
"$stagecoach" prepare --text "$scratch/text" --out "$scratch/data" \
	--tokenizer byte >"$scratch/log" 2>&1 ||
	{ cat "$scratch/log"; echo "Bail out! prepare failed"; exit 1; }

train() { # RUN OPTIONS...
	local run=$1
	shift
	"$stagecoach" train --data "$scratch/data" --out "$run" --layers 4 \
		--width 32 --heads 2 --context 32 --micro-batches 4 --steps 6 \
		--eval-samples 0 --checkpoint-every 3 --stages 2 "$@" \
		>"$scratch/log" 2>&1
}

plan 10
train "$scratch/plain" || { cat "$scratch/log"; echo "Bail out! no training"; exit 1; }
check "training is recorded" train "$scratch/run" --trace --trace-steps 3 \
	--schedule zb-h1
same "what is recorded changes nothing" \
	"$(sha256 "$scratch/plain/model/model.safetensors")" \
	"$(sha256 "$scratch/run/model/model.safetensors")"
trace=$scratch/run/trace.json
# Three steps of four micro-batches on two ranks: F, I and W of each.
same "every F, I and W of the recorded steps is in the trace" 72 \
	"$(grep -c '"cat":"compute"' "$trace")"
same "from the second step on" "2 3 4" \
	"$(grep -o '"step":[0-9]*' "$trace" | cut -d: -f2 | sort -nu | xargs)"
same "an arrow for every message that was waited for ends" \
	"$(grep -c '"ph":"s"' "$trace")" "$(grep -c '"ph":"f"' "$trace")"
same "costs have a row a layer" 6 \
	"$(grep -c '"name"' "$scratch/run/costs.json")"
check "costs of the run predict another schedule" \
	"$stagecoach" schedule simulate 1f1b --stages 3 --micro-batches 6 \
	--costs "$scratch/run"
check "and split the layers of the next run" train "$scratch/next" \
	--costs "$scratch/run"
same "to the same bits" "$(sha256 "$scratch/plain/model/model.safetensors")" \
	"$(sha256 "$scratch/next/model/model.safetensors")"
check "which says so" grep -q 'balanced by .*costs.json' "$scratch/log"
finish
