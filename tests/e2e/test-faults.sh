#!/usr/bin/env bash
# Training over links that are made to fail: delays change no bit; what is
# damaged, lost, cut or comes twice ends the run with a message that names it,
# never with other weights; and the run goes on from its checkpoint.
. "${srcdir:-.}/tests/e2e/lib.sh"

make_text "$scratch/text"
"$stagecoach" prepare --text "$scratch/text" --out "$scratch/data" \
	--tokenizer byte --val 0.1 >"$scratch/log" 2>&1 ||
	{ cat "$scratch/log"; echo "Bail out! prepare failed"; exit 1; }

train() { # RUN OPTIONS...; sets $status; the log is in $scratch/log
	local run=$1
	shift
	timeout 60 "$stagecoach" train --data "$scratch/data" \
		--out "$scratch/$run" --layers 2 --width 32 --heads 2 \
		--context 32 --micro-batches 2 --steps 20 --eval-samples 0 \
		--checkpoint-every 5 --stages 2 --transport tcp "$@" \
		>"$scratch/out" 2>"$scratch/log"
	status=$?
}

bits() { # RUN
	sha256sum <"$scratch/$1/model/model.safetensors"
}

# fails NAME RUN WORDS OPTIONS...: exit status 1, the message, and no model.
fails() {
	local name=$1 run=$2 words=$3
	shift 3
	train "$run" "$@"
	if [ $status -ne 1 ]; then
		fail "$name (exit status $status)"
	elif ! grep -Eq "^error: $words" "$scratch/log"; then
		fail "$name (no message of the kind '$words')"
	elif [ -e "$scratch/$run/model" ]; then
		fail "$name (there is a model)"
	else
		pass "$name"
		return
	fi
	sed 's/^/#   /' "$scratch/log"
}

train reference
same "the reference ends well" 0 $status

for plan in delay=1ms:0.05 level=wire,delay=1ms:0.02; do
	train "delayed-$plan" --faults "seed=3,$plan"
	same "$plan: the same bits" "$(bits reference)" \
		"$(bits "delayed-$plan")"
done

fails "a bit flipped on the wire" flipped \
	"rank 1.*payload of tag .* from rank 0 is damaged: CRC-32C" \
	--faults "level=wire,corrupt=after:500000,links=0>1"
check "what was flipped is told" grep -q \
	"^faults: corrupt at byte 500000 from rank 0 to rank 1" "$scratch/log"
check "a checkpoint is left" test -d "$scratch/flipped/checkpoints"
"$stagecoach" train --resume "$scratch/flipped" >"$scratch/log" 2>&1
same "resumed without the fault: the same bits" "$(bits reference)" \
	"$(bits flipped)"

fails "bytes come twice on the wire" repeated \
	"rank 1.*(from rank 0 is damaged|a frame from rank 0 is not)" \
	--faults "level=wire,duplicate=after:500000,links=0>1"
fails "the connection is cut" cut "rank [01] .*rank [01]: .*(reset|closed|died|Broken pipe)" \
	--faults "level=wire,cut=after:500000"
fails "a link ends as if its peer had died" dead \
	"rank 1.*the link with rank 0 is cut" --faults "cut=after:50,links=0>1"
fails "a message is damaged" damaged \
	"rank 1.*from rank 0 is damaged" --faults "corrupt=after:50,links=0>1"
fails "a message comes twice" twice \
	"rank 1.*came twice" --faults "duplicate=after:50,links=0>1"

# By chance, on any link at any place: never other weights.
for seed in 1 2 3 4 5 6; do
	train "chance-$seed" --faults "seed=$seed,level=wire,corrupt=0.0006"
	name="flips by chance, seed $seed"
	if [ $status -eq 0 ]; then
		same "$name: no flip, the same bits" "$(bits reference)" \
			"$(bits "chance-$seed")"
	else
		check "$name: noticed" grep -Eq \
			"^error: rank [01] .*(damaged|cannot work together|missing)" \
			"$scratch/log"
	fi
done

train misread --faults "coruppt=1"
same "a plan with a slip of the pen is refused" 1 $status
check "and the slip named" grep -q 'no "coruppt", did you mean corrupt' \
	"$scratch/log"
train threads --transport inproc --faults "cut=after:1"
check "threads have no links to fail" grep -q "needs links between processes" \
	"$scratch/log"
plan $cases
finish
