#!/usr/bin/env bash
# Adapters (LoRA) as a user trains them: the same bits however the work is
# divided, in either type; killed and resumed; evaluated, inspected, merged.
. "${srcdir:-.}/tests/e2e/lib.sh"

make_text "$scratch/text"
cd "$scratch" || exit 1
"$stagecoach" prepare --text text --out data --tokenizer bpe:300 --val 0.1 \
	>log 2>&1 || { cat log; echo "Bail out! prepare failed"; exit 1; }

base() { # RUN OPTIONS...
	"$stagecoach" train --data data --out "$@" --layers 3 --width 32 \
		--heads 4 --context 32 --steps 8 --micro-batches 4 --lr 0.01 \
		--eval-samples 0 --costs operations >log 2>&1 ||
		{ cat log; echo "Bail out! no base model"; exit 1; }
}
base gpt2 --stages 2
base llama --arch llama --kv-heads 2

adapt() { # BASE RUN OPTIONS...
	local model=$1 run=$2
	shift 2
	"$stagecoach" train --data data --model "$model/model" --out "$run" \
		--lora-rank 4 --context 32 --steps 6 --decay-steps 6 \
		--micro-batches 4 --micro-batch-size 2 --gradient-groups 2 \
		--lr 0.02 --eval-samples 4 --costs operations "$@" >log 2>&1 ||
		{ sed 's/^/#   /' log; return 1; }
}

digest() { # RUN
	sha256 "$1/model/adapter_model.safetensors"
}

table() { # BASE NAME OPTIONS...
	local model=$1 name=$2 wanted number=0
	shift 2
	adapt "$model" "$name" --stages 1 "$@"
	wanted=$(digest "$name")
	while read -r split; do
		number=$((number + 1))
		# shellcheck disable=SC2086
		adapt "$model" "$name-$number" $split "$@"
		same "$model $*: $split" "$wanted" "$(digest "$name-$number")"
	done <<-END
		--stages 1 --threads 2 --recompute
		--stages 2 --schedule zb-h1 --transport tcp
		--stages 3 --schedule gpipe --transport inproc
		--stages 2 --replicas 2 --shard-optimizer --store root
	END
}
table gpt2 plain
table llama wide --lora-targets all-linear
table gpt2 narrow --dtype bf16
if [ "$(digest plain)" != "$(digest narrow)" ]; then
	pass "another type gives other bits (negative control)"
else
	fail "another type gives other bits (negative control)"
fi

# What a folder of adapters is.
check "it is a PEFT folder" test -f plain/model/adapter_config.json -a \
	-f plain/model/adapter_model.safetensors -a \
	-f plain/model/tokenizer.json -a ! -e plain/model/model.safetensors
check "it names its base by a whole path" grep -q \
	"\"base_model_name_or_path\": \"$(realpath gpt2/model)\"" \
	plain/model/adapter_config.json
"$stagecoach" inspect plain/model >log 2>&1
check "inspect: rank, alpha and targets" grep -q \
	"rank 4, alpha 8, of c_attn" log
check "inspect: how many numbers" grep -q "1,536 parameters in 6 tensors" log

# Killed, resumed with other stages: the same.
for type in fp32 bf16; do
	adapt gpt2 "cut-$type" --steps 3 --checkpoint-every 3 --stages 2 \
		--save-dtype "$type"
	"$stagecoach" train --resume "cut-$type" --steps 6 --stages 3 >log 2>&1
	file=adapter_model
	[ "$type" = bf16 ] && file=masters
	same "resumed with other stages, saved as $type" "$(digest plain)" \
		"$(sha256 "cut-$type/checkpoints/step-00000006/$file.safetensors")"
done

# A list as people type it, dropout, and another base: resumed or not.
adapt gpt2 typed --steps 3 --dropout 0.1 --lora-targets c_attn,c_attn,
check "names typed twice, dropout: resumed" "$stagecoach" train --resume typed \
	--steps 4
base another --seed 2
if "$stagecoach" train --resume typed --steps 5 --base another/model \
	>log 2>&1; then
	fail "over another base: not resumed"
else
	check "over another base: not resumed" grep -q base_weights log
fi

# Merged: the same loss, and a model like any other.
loss_of() { # MODEL
	"$stagecoach" eval --model "$1" --data data --context 32 --json \
		2>log | grep -o '"loss": [0-9.]*' | cut -d' ' -f2
}
near() { # A B
	awk -v a="$1" -v b="$2" \
		'BEGIN { d = a - b; exit !(a > 0 && d * d < 1e-10 * b * b) }'
}
for run in plain wide; do
	check "$run: merge" "$stagecoach" merge --model "$run/model" \
		--out "$run-merged"
	check "$run: merged, the loss is the same" near \
		"$(loss_of "$run/model")" "$(loss_of "$run-merged")"
done
check "a path that ends with slashes" "$stagecoach" merge --model plain/model \
	--out slashed//
check "is a folder like any other" test -f slashed/model.safetensors
check "and another than the base model's" \
	test "$(loss_of plain-merged)" != "$(loss_of gpt2/model)"
check "adapters are trained on without --lora-rank" "$stagecoach" train \
	--data data --model plain/model --out on --context 32 --steps 1 \
	--eval-samples 0 --costs operations

# A base model that has moved.
mv gpt2 moved
refused() { # NAME PATTERN COMMAND...
	local name=$1 pattern=$2
	shift 2
	if "$stagecoach" "$@" >log 2>&1; then
		fail "$name: refused"
	elif grep -q -- "$pattern" log && [ "$(grep -c '^error' log)" = 1 ]; then
		pass "$name: refused"
	else
		fail "$name: refused"
		sed 's/^/#   /' log
	fi
}
refused "a base model that is gone" "say where it is with --base" \
	eval --model plain/model --data data
check "found with --base" "$stagecoach" eval --model plain/model --data data \
	--base moved/model --context 32
refused "resumed without its base" "say where it is with --base" \
	train --resume cut-fp32 --steps 7
check "resumed with --base" "$stagecoach" train --resume cut-fp32 --steps 7 \
	--base moved/model

new() { # OPTIONS...
	echo train --data data --out new --context 32 --steps 1 "$@"
}
# shellcheck disable=SC2046
{
	refused "no base model" "give --model DIR" $(new --lora-rank 4)
	refused "a target that is none" "no linear map called 'q_porj'" \
		$(new --model moved/model --lora-rank 4 --lora-targets q_porj)
	refused "a rank beyond the width" "more than the width" \
		$(new --model moved/model --lora-rank 64)
	refused "alpha alone" "belong to --lora-rank" \
		$(new --model moved/model --lora-alpha 4)
	refused "adapters of adapters" "merge these first" \
		$(new --model plain/model --base moved/model --lora-rank 2)
	refused "slices" "without tensor parallelism" \
		$(new --model moved/model --lora-rank 4 --tensor 2)
}
# Found out by a rank, and told once more with the rank's place.
if "$stagecoach" eval --model wide/model --base moved/model --data data \
	>log 2>&1; then
	fail "another model's adapters: refused"
else
	check "another model's adapters: refused" \
		grep -q "down_proj.lora_A.weight' belongs to no adapter" log
fi
# shellcheck disable=SC2046
refused "targets that are none" "names none" \
	$(new --model moved/model --lora-rank 2 --lora-targets ,)
# shellcheck disable=SC2046
refused "alpha without a model" "give --model DIR" $(new --lora-alpha 3)
refused "a model without adapters" "has no adapters" \
	merge --model moved/model --out merged
refused "a folder that is there" "exists already" \
	merge --model plain/model --base moved/model --out plain-merged
sed 's/"use_dora": false/"use_dora": true/' plain/model/adapter_config.json \
	>other && mv other plain/model/adapter_config.json
refused "another kind of adapter" "'use_dora' is not false" \
	merge --model plain/model --base moved/model --out merged
check "nothing is left of what was refused" test ! -e merged -a ! -e new -a \
	! -e merged.partial

echo "1..$cases"
finish
