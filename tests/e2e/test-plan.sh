#!/usr/bin/env bash
# plan: what it says, what it refuses, and that train splits as it does; and
# that costs, caps and splits do not reach the bits of the weights. No time that
# is measured is judged.
. "${srcdir:-.}/tests/e2e/lib.sh"

make_text "$scratch/text"
"$stagecoach" prepare --text "$scratch/text" --out "$scratch/data" \
	--tokenizer bpe:300 --val 0.1 >"$scratch/log" 2>&1 ||
	{ cat "$scratch/log"; echo "Bail out! prepare failed"; exit 1; }
shape="--layers 4 --width 32 --heads 2 --context 32 --threads 1"
model="$shape --vocab-size 300"

planned() { # OPTIONS...: into $scratch/plan
	"$stagecoach" plan "$@" >"$scratch/plan" 2>"$scratch/err"
}

says() { # NAME PATTERN: the plan has a line like this
	if grep -Eq -- "$2" "$scratch/plan"; then
		pass "$1"
	else
		fail "$1"
		sed 's/^/#   /' "$scratch/plan" "$scratch/err"
	fi
}

value() { # KEY: of the plan's JSON, the first
	values "$1" | head -1
}

values() { # KEY: all of them, one a line
	grep -Eo "\"$1\": (\"[^\"]*\"|[^,]*)" "$scratch/plan" |
		sed 's/.*: //; s/"//g'
}

refuse() { # NAME PATTERN COMMAND...: exit status 2, one line like this
	local name=$1 pattern=$2 status
	shift 2
	"$stagecoach" "$@" >"$scratch/out" 2>"$scratch/err"
	status=$?
	if [ $status -eq 2 ] && [ ! -e "$scratch/run" ] &&
		[ ! -s "$scratch/out" ] &&
		[ "$(wc -l <"$scratch/err")" -eq 1 ] &&
		grep -Eq -- "$pattern" "$scratch/err"; then
		pass "$name"
	else
		fail "$name (exit status $status)"
		sed 's/^/#   /' "$scratch/err"
	fi
}

# ---- for people ----

check "plan" planned $model --stages 2
says "the model is named" '^model +gpt2, 4 layers.*vocabulary 300: 61,504 param'
says "the split and why" '^split +layers [0-9],[0-9]: balanced by measured cost'
says "a row for rank 0" '^ +0 +embedding \+ [0-9] +[0-9,]+( +[0-9.]+){8}$'
says "a row for rank 1" '^ +1 +([0-9] \+ )?head +[0-9,]+( +[0-9.]+){8}$'
says "a row for stage 1" '^ +1 +1 +1( +[0-9.]+){4}$'
says "the step" '^step +[0-9.]+ (ms|s) predicted, [0-9,]+ tokens/s$'
says "the bubble" '^bubble +[0-9.]+ % of the step'
says "the memory" '^memory +rank [01] holds most: [0-9.]+ MiB'
planned $shape --data "$scratch/data" --stages 1
same "the vocabulary is learned from the data" 0 $?
says "one stage needs no split" '^pipeline +1 stage,'
refuse "without a vocabulary" "give --vocab-size" plan --layers 4
refuse "more stages than layers" "7 stages.*6" plan $model --stages 7
refuse "a schedule that does not train" "cannot train" plan $model \
	--schedule forward

# ---- for scripts ----

# 1F1B with F = I = W = 1: (M + P - 1) 3, of which P - 1 are idle.
planned $model --stages 2 --micro-batches 4 --costs 1,1,1 --json
same "a step of 1F1B" 15.0 "$(value step)"
same "its bubble" 0.2 "$(value bubble)"
same "what is no time gives no rate" null "$(value tokens_per_second)"
cp "$scratch/plan" "$scratch/plan.json"
refuse "it is JSON, though no costs" "format" plan $model \
	--costs "$scratch/plan.json"
planned $model --stages 2 --costs operations --json --recompute
same "recomputing is told" true "$(value recompute)"
lean=$(value largest_bytes)
planned $model --stages 2 --costs operations --json
rich=$(value largest_bytes)
check "and takes less memory" [ "$lean" -lt "$rich" ]
total=0
for bytes in $(values weights_bytes) $(values gradients_bytes) \
	$(values optimizer_bytes) $(values activations_bytes) \
	$(values messages_bytes) $(values scratch_bytes) \
	$(values other_bytes); do
	total=$((total + bytes))
done
same "the parts are the whole" "$total" "$(value total_bytes)"

# GPT-2 124M, 4 sequences of 256 tokens, in one process.
small="--arch gpt2 --layers 12 --width 768 --heads 12 --context 256
	--vocab-size 50257 --micro-batch-size 4 --threads 2 --costs operations"
planned $small --json
whole=$(value largest_bytes)
activations=$(value activations_bytes)
other=$(value other_bytes)
check "GPT-2 124M takes 2.7 GB at most" [ "$whole" -le 2700000000 ]
planned $small --json --dtype bf16
check "products of bfloat16 take work memory" \
	[ "$(value other_bytes)" -gt $((other + 1000000)) ]
planned $small --json --recompute
spared=$((whole - $(value largest_bytes)))
check "recomputing saves two thirds of its activations" \
	[ $((3 * spared)) -ge $((2 * activations)) ]

# ---- costs that are given ----

costs() { # FILE LAYER... (its F): costs of layers with the model's names
	local file=$1 names=(embedding transformer.h.0 transformer.h.1
		transformer.h.2 transformer.h.3 head) i=0 separator=
	shift
	printf '{"format": "stagecoach-costs-1", "unit": "seconds", "layers": ['
	for cost; do
		printf '%s{"name": "%s", "forward": %s}' "$separator" \
			"${names[i]}" "$cost"
		separator=,
		i=$((i + 1))
	done
	printf ']}\n'
} >"$1"

costs "$scratch/late.json" 0 1 1 1 3 0
planned $model --stages 2 --costs "$scratch/late.json" --json
same "a slow last block: 3 | 1" 3,1 "$(value split)"
costs "$scratch/early.json" 0 3 1 1 1 0
planned $model --stages 2 --costs "$scratch/early.json" --json
same "a slow first block: 1 | 3" 1,3 "$(value split)"
costs "$scratch/head.json" 0 1 1 1 1 4
planned $model --stages 2 --costs "$scratch/head.json" --json
same "a slow head alone: 4 | 0" 4,0 "$(value split)"
same "its step: 8 micro-batches, and one to fill" 36.0 "$(value step)"
planned $model --stages 2 --costs "$scratch/head.json" --split 2,2 --json
same "--split overrides" 2,2 "$(value split)"
# Stages 0 and 2 on rank 0, 1 and 3 on rank 1; the head weighs two blocks.
costs "$scratch/chunks.json" 0 1 1 1 1 2
planned $model --stages 2 --schedule interleaved --chunks 2 --json \
	--costs "$scratch/chunks.json"
same "chunks: the ranks' totals are balanced" "24.0 24.0" \
	"$(values busy | xargs)"
refuse "costs of another model, by number" "another model: layers\[5\] is .head. there" \
	plan --costs "$scratch/late.json" --vocab-size 300 --layers 5 \
	--stages 2
sed 's/transformer.h.2/transformer.h.9/' "$scratch/late.json" \
	>"$scratch/other.json"
refuse "costs of another model, by name" \
	"layers\[3\] is 'transformer.h.9' there, 'transformer.h.2' here" \
	plan $model --costs "$scratch/other.json" --stages 2
refuse "train: costs of ranks do not balance layers" "each layer" \
	train --data "$scratch/data" --out "$scratch/run" $shape --stages 2 \
	--costs 1,1,1
mkdir "$scratch/empty"
refuse "a run without costs" "train --trace" plan $model --stages 2 \
	--costs "$scratch/empty"

# ---- memory ----

refuse "a cap that nothing fits" \
	"memory-cap 1.0 MiB: no split holds less than .* MiB.*not enough.*recompute" \
	plan $model --stages 2 --memory-cap 1M
refuse "train: the same, and no run" "no split holds less than" \
	train --data "$scratch/data" --out "$scratch/run" $shape --stages 2 \
	--memory-cap 1M
refuse "train: a split as given" "this split holds .* MiB" \
	train --data "$scratch/data" --out "$scratch/run" $shape --stages 2 \
	--split 2,2 --memory-cap 1M
refuse "what would fit is named, and does" "what would fit: --recompute" \
	plan $model --stages 2 --costs operations --memory-cap $((lean + 8192))
check "that is" planned $model --stages 2 --costs operations \
	--memory-cap $((lean + 8192)) --recompute
# An even split of these costs needs more than the leanest of all.
costs "$scratch/skew.json" 9 1 1 1 1 1
planned $model --stages 2 --costs "$scratch/skew.json" --json
same "without a cap: 0 | 4" 0,4 "$(value split)"
cap=$(($(value largest_bytes) - 1))
planned $model --stages 2 --costs "$scratch/skew.json" --json --memory-cap $cap
check "with one: another split" [ "$(value split)" != 0,4 ]
check "which keeps it" [ "$(value largest_bytes)" -le $cap ]

# ---- replicas and slices ----

planned $model --stages 2 --replicas 2 --micro-batches 8 --costs 1,1,1 --json
same "two replicas: each computes half the micro-batches" 12.0 \
	"$(value compute)"
same "four ranks" 4 "$(value world)"
planned $model --stages 2 --replicas 2 --tensor 2
says "the grid is told" '^grid +2 replicas x 2 positions x 2 slices: 8 ranks'
says "and what passes between ranks" '^rank +sends to stages +to replicas'
refuse "micro-batches that do not divide" "replicas" plan $model --replicas 3

# ---- suggestions ----

cluster="--hosts 8 --memory 1G --batch 64 --flops 1G --network 100M --threads 1"
planned $model --suggest $cluster
same "a suggestion" 0 $?
says "the best one" '^best +[0-9]+ x [0-9]+ x 1, .*tokens/s predicted'
says "why" '^why +[0-9.]+ % of the step is compute; what limits it most: '
says "the others, and why not" '^instead +[0-9]+ x [0-9]+ x 1, .* slower, by '
says "a command line" '^run +stagecoach train .*--micro-batches [0-9]+'
planned $model --suggest $cluster --json
same "the same in JSON" 0 $?
step=$(value step)
command=$(value command)
planned $shape --vocab-size 300 --flops 1G --network 100M --json \
	${command#*--vocab-size 300 }
same "plan comes to the same step" "$step" "$(value step)"
planned $model --suggest --hosts 4 --memory 1G --batch 8 --stages 2 \
	--replicas 2 --json
same "measured here, a suggestion too" 0 $?
command=$(value command)
check "which train takes as it stands" "$stagecoach" train \
	--data "$scratch/data" --out "$scratch/proposed" ${command#*--out RUN} \
	--steps 1 --eval-samples 0 --threads 1
planned $model --suggest $cluster --stages 2 --schedule gpipe --json
same "what is given is kept" "2 gpipe" \
	"$(value stages) $(value schedule)"
refuse "nothing fits: what would" \
	"nothing fits into --memory 1.0 MiB on 2 hosts: .*what would fit: --memory [0-9.]+ MiB" \
	plan $model --suggest $cluster --memory 1M --hosts 2
refuse "no batch" "needs --batch" plan $model --suggest --hosts 2 --memory 1G
refuse "no memory" "needs --hosts and --memory" plan $model --suggest \
	--batch 8 --hosts 2
refuse "no network" "give --network" plan $model --suggest --hosts 2 \
	--memory 1G --batch 8 --flops 1G
refuse "a batch in tokens that is none" "no multiple of --context 32" \
	plan $model --suggest --hosts 2 --memory 1G --batch-tokens 33
refuse "micro-batches are to be found" "chooses --micro-batches" plan $model \
	--suggest $cluster --micro-batches 4
refuse "costs that are no times" "needs the time that each layer takes" \
	plan $model --suggest --hosts 2 --memory 1G --batch 8 --network 1G \
	--costs operations
refuse "a rate that is none" "expected a rate such as 2T" plan $model --flops 2X
refuse "two sayings of one thing" "choose one" plan $model --flops 2T \
	--costs measure
refuse "a grid that cannot be" "no grid of 8 ranks divides a batch of 64" \
	plan $model --suggest $cluster --replicas 3

# ---- the bits ----

train() { # RUN OPTIONS...
	local run=$1
	shift
	"$stagecoach" train --data "$scratch/data" --out "$scratch/$run" \
		$shape --steps 3 --eval-samples 0 --micro-batches 4 \
		--seed 4 "$@" >"$scratch/log" 2>&1 || cat "$scratch/log"
}

bits() {
	sha256 "$scratch/$1/model/model.safetensors"
}

train one
train measured --stages 2
check "train says its split and why" \
	grep -Eq 'layers [0-9],[0-9]: balanced by measured cost, slowest stage' \
	"$scratch/log"
train counted --stages 2 --costs operations
train given --stages 2 --costs "$scratch/early.json"
check "train splits as plan does" grep -q 'layers 1,3: balanced by .*early' \
	"$scratch/log"
train capped --stages 3 --memory-cap 1G --schedule gpipe
for run in measured counted given capped; do
	same "the same bits, $run" "$(bits one)" "$(bits $run)"
done

# ---- going on ----

train half --stages 2 --costs "$scratch/early.json" --steps 2 --decay-steps 3 \
	--warmup 0
train whole --steps 3 --decay-steps 3 --warmup 0
rm "$scratch/early.json"
"$stagecoach" train --resume "$scratch/half" --steps 3 \
	--costs "$scratch/late.json" --memory-cap 1G >"$scratch/log" 2>&1
same "resume with other costs and a cap" 0 $?
check "is split anew" grep -q 'layers 3,1: balanced by .*late' "$scratch/log"
same "with the same bits" "$(bits whole)" "$(bits half)"

echo "1..$cases"
finish
