#!/usr/bin/env bash
# Every command once, in little time: what a build with sanitizers runs of the
# whole program (they leave their reports in files, so that one of a rank
# that nobody waits for is seen too). Says nothing about results that other
# tests do not say better, but that equal runs are equal.
. "${srcdir:-.}/tests/e2e/lib.sh"
reports=$scratch/sanitizer
for tool in ASAN LSAN UBSAN TSAN; do
	options=${tool}_OPTIONS
	export "$options=log_path=$reports:${!options:-}"
done

run() { # NAME COMMAND...
	local name=$1
	shift
	check "$name" "$stagecoach" "$@"
}

train() { # NAME RUN OPTIONS...
	local name=$1 run=$2
	shift 2
	run "$name" train --data "$scratch/data" --out "$run" --seed 3 \
		--layers 3 --width 40 --heads 2 --context 33 --dropout 0.1 \
		--micro-batches 4 --micro-batch-size 2 --eval-every 2 \
		--eval-samples 3 --steps 4 --decay-steps 4 --warmup 1 "$@"
}

make_text "$scratch/text"
run "prepare, BPE" prepare --text "$scratch/text" --out "$scratch/data" \
	--tokenizer bpe:400 --val 0.1
mkdir "$scratch/folder"
cp "$scratch/text" "$scratch/folder/a.txt"
: >"$scratch/folder/empty.txt"
run "prepare, bytes, a folder" prepare --text "$scratch/folder" \
	--out "$scratch/bytes" --tokenizer byte --val 0.1
run "prepare, a tokenizer.json" prepare --text "$scratch/text" \
	--out "$scratch/again" --tokenizer "$scratch/data/tokenizer.json"

train "train, inproc, 2 stages, threads 2" "$scratch/inproc" --stages 2 \
	--transport inproc --schedule gpipe --threads 2 --no-pin
train "train, tcp, 2 stages, recompute, 2 of 4 steps" "$scratch/tcp" \
	--stages 2 --transport tcp --recompute --steps 2
run "resume, tcp on sockets, 3 stages" train --resume "$scratch/tcp" \
	--stages 3 --tcp-io sockets --steps 4
same "both have the same bits" \
	"$(sha256 "$scratch/inproc/model/model.safetensors")" \
	"$(sha256 "$scratch/tcp/model/model.safetensors")"
cat >"$scratch/split.csv" <<'CSV'
0F0,0F1,0I0,0F2,0I1,0W0,0F3,0I2,0W1,0I3,0W2,0W3
1F0,1I0,1F1,1I1,1F2,1W0,1I2,1F3,1W1,1I3,1W2,1W3
CSV
train "train, a schedule file, 2 gradient groups, sgd" "$scratch/sgd" \
	--stages 2 --transport inproc --schedule "$scratch/split.csv" \
	--gradient-groups 2 --optimizer sgd
run "train, from a model" train --model "$scratch/tcp/model" \
	--data "$scratch/data" --out "$scratch/tuned" --stages 2 --steps 1 \
	--transport inproc --context 20

for transport in inproc tcp; do
	run "eval, 2 stages, $transport" eval --model "$scratch/tcp/model" \
		--data "$scratch/data" --stages 2 --transport $transport --json
	run "generate, 2 stages, $transport" generate --stages 2 --tokens 20 \
		--model "$scratch/tcp/model" --prompt "int main" \
		--transport $transport
done
run "inspect, a run" inspect "$scratch/tcp"
run "report" report "$scratch/tcp"
run "inspect, a model" inspect --tensors "$scratch/tcp/model"
run "inspect, a checkpoint" inspect --verify "$scratch/tcp/checkpoints/$(cat "$scratch/tcp/checkpoints/latest")"
run "inspect, a corpus" inspect --verify --json "$scratch/data"
run "schedule show" schedule show 1f1b --stages 3 --micro-batches 4
run "schedule show --csv=comms" schedule show gpipe --stages 3 \
	--micro-batches 4 --csv=comms
run "schedule check" schedule check "$scratch/split.csv"

# What ends a run early runs other code.
endless() { # TRANSPORT; sets $pid
	rm -rf "$scratch/endless"
	# Shells start background jobs deaf to Ctrl-C.
	env --default-signal=INT \
		"$stagecoach" train --data "$scratch/data" --out "$scratch/endless" \
		--layers 2 --width 16 --heads 2 --context 16 --stages 2 \
		--steps 1000000 --eval-samples 0 --transport "$1" \
		>"$scratch/log" 2>&1 &
	pid=$!
	for _ in $(seq 2000); do
		[ -s "$scratch/endless/metrics.jsonl" ] && break
		sleep 0.01
	done
}

for transport in inproc tcp; do
	endless $transport
	kill -INT $pid
	wait $pid
	same "Ctrl-C, $transport" 0 $?
	pid=
done
endless tcp
kill -9 "$(children $pid | head -1)"
wait $pid
same "a rank killed" 1 $?
pid=

found=$(cat "$reports".* 2>/dev/null)
same "no sanitizer found anything" "" "$found"
echo "1..$cases"
finish
