#!/usr/bin/env bash
# What a run is resumed with: its gradient groups stay, and whoever asks for
# replicas that do not fit them is told which do; a checkpoint from before there
# were slices is one of a single slice.
. "${srcdir:-.}/tests/e2e/lib.sh"

make_text "$scratch/text"
"$stagecoach" prepare --text "$scratch/text" --out "$scratch/data" \
	--tokenizer byte --val 0.1 >"$scratch/log" 2>&1 ||
	{ cat "$scratch/log"; echo "Bail out! prepare failed"; exit 1; }
cd "$scratch" || exit 1

train() { # RUN OPTIONS...
	local run=$1
	shift
	"$stagecoach" train --data data --out "$run" --seed 5 --layers 2 \
		--width 32 --heads 2 --context 16 --micro-batches 12 \
		--micro-batch-size 1 --eval-samples 0 --decay-steps 2 "$@" \
		>log 2>&1 || sed 's/^/#   /' log
}

refuses() { # NAME RUN WORDS OPTIONS...
	local name=$1 run=$2 words=$3 before status
	shift 3
	before=$(find "$run" -type f -exec sha256sum {} + | sort)
	"$stagecoach" train --resume "$run" --steps 2 "$@" >log 2>&1
	status=$?
	same "$name: status 2" 2 $status
	check "$name: says why" grep -qF -e "$words" log
	same "$name: the run is as it was" "$before" \
		"$(find "$run" -type f -exec sha256sum {} + | sort)"
}

train whole --steps 2 --gradient-groups 4
wanted=$(sha256 whole/model/model.safetensors)

train four --steps 1 --gradient-groups 4
refuses "other groups" four "four has --gradient-groups 4, which may not change" \
	--gradient-groups 2
refuses "replicas that do not divide them" four \
	"it can go on with --replicas 1, 2 or 4" --replicas 3
refuses "more replicas than groups" four \
	"it can go on with --replicas 1, 2 or 4" --replicas 8
refuses "slices" four "--tensor may not change" --tensor 2
check "the groups it has, said again" \
	"$stagecoach" train --resume four --steps 2 --gradient-groups 4
same "the groups it has: the same bits" "$wanted" \
	"$(sha256 four/model/model.safetensors)"

# Of a run that did not say how many: as many as it had replicas.
train one --steps 1
refuses "replicas of a run of one group" one \
	"one has --gradient-groups 1, which its result depends on" --replicas 2
check "run.json names the groups" grep -q '"gradient-groups": 1' one/run.json

# As an older program wrote it.
train old --steps 1 --gradient-groups 4
checkpoint=old/checkpoints/step-00000001
before=$(sha256 $checkpoint/state.json)
bytes=$(stat -c %s $checkpoint/state.json)
sed -i -e '/"slices":/d' -e '/"uneven_replicas":/d' $checkpoint/state.json
sed -i -z 's/,\(\n *}\)/\1/g' $checkpoint/state.json
check "a checkpoint without slices" \
	test "$(grep -c '"slices"' $checkpoint/state.json)" = 0
sed -i -e "s/$before/$(sha256 $checkpoint/state.json)/" \
	-e "s/\"bytes\": $bytes\b/\"bytes\": $(stat -c %s $checkpoint/state.json)/" \
	$checkpoint/manifest.json
check "a checkpoint without slices is gone on from" \
	"$stagecoach" train --resume old --steps 2
same "a checkpoint without slices: the same bits" "$wanted" \
	"$(sha256 old/model/model.safetensors)"

echo "1..$cases"
finish
