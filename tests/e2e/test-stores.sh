#!/usr/bin/env bash
# --store root: only rank 0 touches the disk. Every file of a run is the one that
# a run leaves whose ranks write their tensors themselves, whatever the
# split and transport; what is half written when a rank dies does no harm.
# (tests/unit/test-stores hides the folders from the ranks.)
. "${srcdir:-.}/tests/e2e/lib.sh"

make_text "$scratch/text"
"$stagecoach" prepare --text "$scratch/text" --out "$scratch/data" \
	--tokenizer bpe:400 --val 0.1 >"$scratch/log" 2>&1 ||
	{ cat "$scratch/log"; echo "Bail out! prepare failed"; exit 1; }

train() { # RUN OPTIONS...
	local run=$1
	shift
	"$stagecoach" train --data "$scratch/data" --out "$scratch/$run" \
		--seed 3 --layers 6 --width 128 --heads 4 --context 33 \
		--micro-batches 4 --micro-batch-size 2 --eval-samples 3 \
		--eval-every 2 --checkpoint-every 2 --steps 4 "$@" \
		>"$scratch/$run.log" 2>&1 || sed 's/^/#   /' "$scratch/$run.log"
}

# Name and SHA-256 of every file but those that tell options and times.
files() {
	(cd "$scratch/$1" && find . -type f ! -name run.json \
		! -name metrics.jsonl ! -name history.jsonl -print0 | sort -z | xargs -0 sha256sum)
}

train one --stages 1
wanted=$(files one)
train shared --stages 2 --store shared --transport tcp
same "2 stages, shared, tcp" "$wanted" "$(files shared)"
for transport in tcp inproc; do
	for stages in 2 4; do
		run=root-$transport-$stages
		train $run --stages $stages --store root --transport $transport
		same "$stages stages, root, $transport" "$wanted" "$(files $run)"
	done
done
check "the log says whose tensors go through rank 0" \
	grep -q "rank 0 writes .* for ranks 1-3" "$scratch/root-tcp-4.log"
train auto --stages 3 --transport tcp
same "3 stages, auto: all see the folder" "" \
	"$(grep "rank 0 writes" "$scratch/auto.log")"
check "no token is left" test -z "$(ls -A "$scratch/auto/checkpoints" | grep seen)"

result() { # COMMAND OPTIONS...
	"$stagecoach" "$@" --model "$scratch/one/model" 2>/dev/null
}

wanted_loss=$(result eval --data "$scratch/data" --json | grep '"loss"')
same "eval, 3 stages, root" "$wanted_loss" "$(result eval --json --store root \
	--data "$scratch/data" --stages 3 --transport tcp | grep '"loss"')"
same "generate, 2 stages, root" \
	"$(result generate --prompt "int main" --tokens 12)" \
	"$(result generate --prompt "int main" --tokens 12 --stages 2 \
		--store root --transport tcp)"

# Rank 1 is stopped and killed while step 4 is being written.
catch() { # in the middle of a checkpoint; returns 1 when it was missed
	rm -rf "$scratch/killed"
	train killed --stages 2 --store root --transport tcp &
	pid=$!
	local victim= hidden=$scratch/killed/checkpoints/.step-00000004
	while kill -0 $pid 2>/dev/null; do
		[ -n "$victim" ] ||
			victim=$(children "$(children $pid | head -1)" | sed -n 2p)
		[ -d "$hidden" ] && break
	done
	[ -n "$victim" ] && kill -STOP "$victim" 2>/dev/null &&
		sleep 0.2 && [ -d "$hidden" ]
	local caught=$?
	[ -z "$victim" ] || kill -9 "$victim" 2>/dev/null
	wait $pid
	pid=
	return $caught
}

caught=false
for _ in 1 2 3 4 5 6; do
	catch && { caught=true; break; }
done
if $caught; then
	same "killed in the middle: step 2 stands" step-00000002 \
		"$(cat "$scratch/killed/checkpoints/latest")"
	check "killed in the middle: step 2 is whole" "$stagecoach" inspect \
		--verify "$scratch/killed/checkpoints/step-00000002"
	check "killed in the middle: goes on with 3 stages" "$stagecoach" \
		train --resume "$scratch/killed" --stages 3 --transport tcp
	same "killed in the middle: the same files in the end" "$wanted" \
		"$(files killed)"
else
	fail "no checkpoint was caught in the middle"
fi

# A damaged checkpoint is named once, and out of the way from then on.
train damaged --stages 1
printf x | dd of="$scratch/damaged/checkpoints/step-00000004/model.safetensors" \
	bs=1 seek=5000 conv=notrunc 2>/dev/null
resume() {
	"$stagecoach" train --resume "$scratch/damaged" --steps 3 2>&1
}
first=$(resume)
check "damaged: named" grep -q "step-00000004.*damaged" <<<"$first"
check "damaged: gone on from the one before" \
	grep -q "resuming after step 2" <<<"$first"
check "damaged: kept under another name" \
	test -d "$scratch/damaged/checkpoints/damaged-step-00000004"
same "damaged: not named again" "" "$(resume | grep damaged-)"

# Tokens of another tokenizer than the model's.
"$stagecoach" prepare --text "$scratch/text" --out "$scratch/other" \
	--tokenizer bpe:300 --val 0.1 >"$scratch/log" 2>&1
says() { # whether it warns of the tokenizer
	"$stagecoach" "$@" --model "$scratch/one/model" 2>&1 |
		grep -c "not the model's tokenizer"
}
same "another tokenizer: eval warns" 1 \
	"$(says eval --data "$scratch/other" --samples 2)"
same "another tokenizer: train warns" 1 "$(says train --steps 1 \
	--data "$scratch/other" --out "$scratch/tuned")"
# The same one, laid out otherwise.
mkdir "$scratch/spaced"
cp "$scratch"/data/* "$scratch/spaced"
sed 's/^{/{ /' "$scratch/data/tokenizer.json" >"$scratch/spaced/tokenizer.json"
same "the same tokenizer: nothing is said" "0 0" \
	"$(says eval --data "$scratch/data" --samples 2) $(says eval \
		--data "$scratch/spaced" --samples 2)"

echo "1..$cases"
finish
