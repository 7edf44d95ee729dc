#!/usr/bin/env bash
# Replicas of the pipeline: one sha256 and one loss sequence for D x P, over
# every transport, the optimizer sharded or not, and across a kill and a resume
# into another D x P. What cannot be shared evenly is refused in one line.
. "${srcdir:-.}/tests/e2e/lib.sh"

make_text "$scratch/text"
"$stagecoach" prepare --text "$scratch/text" --out "$scratch/data" \
	--tokenizer byte --val 0.1 >"$scratch/log" 2>&1 ||
	{ cat "$scratch/log"; echo "Bail out! prepare failed"; exit 1; }

# Some tensors are many blocks of the optimizer, most are less than one; their
# number is no multiple of anything. Dropout knows samples by global number.
model="--layers 5 --width 96 --heads 3 --context 37 --dropout 0.1"
batch="--micro-batches 12 --micro-batch-size 2 --steps 4 --warmup 1"
rest="--eval-every 2 --eval-samples 9 --checkpoint-every 2 --lr 0.01"

train() { # RUN OPTIONS...
	local run=$1
	shift
	# shellcheck disable=SC2086
	"$stagecoach" train --data "$scratch/data" --out "$run" --seed 11 \
		--no-pin --threads 1 $model $batch $rest "$@" \
		>"$scratch/log" 2>&1
}

bits() { # of a run: the model's digest and its losses
	sha256 "$1/model/model.safetensors"
	grep -o '"step":[^,]*,"loss":[^,]*,"grad_norm":[^,]*' "$1/metrics.jsonl"
	grep -o '"val_loss":[^,]*' "$1/metrics.jsonl"
}

compare() { # NAME RUN
	same "$1" "$wanted" "$(bits "$2")"
	rm -rf "$2"
}

attempt() { # NAME OPTIONS...
	local name=$1
	shift
	if train "$scratch/run" "$@"; then
		compare "$name" "$scratch/run"
	else
		fail "$name"
		sed 's/^/#   /' "$scratch/log"
		rm -rf "$scratch/run"
	fi
}

reference() { # OPTIONS...
	train "$scratch/one" "$@" || {
		cat "$scratch/log"
		echo "Bail out! the reference run failed"
		exit 1
	}
	wanted=$(bits "$scratch/one")
	rm -rf "$scratch/one"
	note "reference with $*: $(head -1 <<<"$wanted")"
}

# ---- one sha256 for D x P ----

reference --gradient-groups 4 --schedule gpipe --transport inproc
for grid in 1x4 2x1 2x2 4x1 2x4; do
	for transport in inproc shm tcp; do
		for shard in "" --shard-optimizer; do
			[ -z "$shard" ] || [ "${grid%x*}" -gt 1 ] || continue
			attempt "D x P = $grid over $transport${shard:+, sharded}" \
				--gradient-groups 4 --replicas "${grid%x*}" \
				--stages "${grid#*x}" --transport $transport $shard
		done
	done
done

# Chunks, zero-bubble, V placement, recomputation, another optimizer's state.
for schedule in interleaved looped-bfs zb-h1 zb-v dualpipe-v; do
	attempt "D x P = 2x2, schedule $schedule" --gradient-groups 4 \
		--replicas 2 --stages 2 --schedule $schedule --shard-optimizer
done
# Stages one after the other: they take turns with their accumulators.
attempt "D x P = 4x2, looped-bfs, sums in shards" --gradient-groups 4 \
	--replicas 4 --stages 2 --chunks 2 --schedule looped-bfs --shard-optimizer
if grep -q "take turns with 1 window" "$scratch/log"; then
	pass "stages that share accumulators are told"
else
	fail "stages that share accumulators are told"
fi
attempt "D x P = 2x1, looped-bfs of four chunks, tcp" --gradient-groups 4 \
	--replicas 2 --stages 1 --chunks 4 --schedule looped-bfs \
	--shard-optimizer --transport tcp
attempt "D x P = 4x2, recomputing, two threads, root alone writes" \
	--gradient-groups 4 --replicas 4 --stages 2 --recompute --threads 2 \
	--store root --shard-optimizer
attempt "D x P = 2x1, moments through the root" --gradient-groups 4 \
	--replicas 2 --store root --shard-optimizer
# Ranks started one by one, as a launcher does on a cluster.
port=$((20000 + $$ % 12000))
while grep -q ":$(printf %04X $port) .* 0A " /proc/net/tcp; do
	port=$((port + 1))
done
launched() { # RUN OPTIONS...: of four ranks
	local rank
	for rank in 1 2 3; do
		# shellcheck disable=SC2086
		"$stagecoach" train --data "$scratch/data" --out "$1" \
			--coordinator 127.0.0.1:$port --world-size 4 \
			--rank $rank >"$scratch/rank$rank.log" 2>&1 &
	done
	train "$@" --coordinator 127.0.0.1:$port --world-size 4 --rank 0
	local status=$?
	wait
	return $status
}
attempt_launched() { # NAME OPTIONS...
	local name=$1
	shift
	if launched "$scratch/run" "$@"; then
		compare "$name" "$scratch/run"
	else
		fail "$name"
		sed 's/^/#   /' "$scratch/log"
		rm -rf "$scratch/run"
	fi
}
attempt_launched "D x P = 2x2, launched" --gradient-groups 4 --replicas 2
attempt_launched "D x P = 2x2, launched, with --stages" \
	--gradient-groups 4 --replicas 2 --stages 2
if launched "$scratch/run" --gradient-groups 4 --replicas 2 --stages 3; then
	fail "launched, ranks for other stages are refused"
	rm -rf "$scratch/run"
elif grep -q "4 ranks for 2 replicas.*give --stages 2.*start 6" \
	"$scratch/log"; then
	pass "launched, ranks for other stages are refused"
else
	fail "launched, ranks for other stages are refused"
	sed 's/^/#   /' "$scratch/log"
fi

reference --gradient-groups 4 --optimizer sgd
attempt "D x P = 4x1, momentum, sharded" --gradient-groups 4 --replicas 4 \
	--optimizer sgd --shard-optimizer

# ---- D that is no power of two has bits of its own, told ----

attempted=$wanted
reference --replicas 3 --transport inproc
if grep -q "this number of replicas only" "$scratch/log"; then
	pass "three replicas say that their bits are their own"
else
	fail "three replicas say that their bits are their own"
fi
attempt "D x P = 3x2, tcp, sharded" --replicas 3 --stages 2 --transport tcp \
	--shard-optimizer
attempt "D x P = 3x1, shm" --replicas 3 --transport shm

# ---- negative control: G is part of the result ----

groups4=$attempted
reference --gradient-groups 2 --optimizer sgd
if [ "$(head -1 <<<"$groups4")" = "$(head -1 <<<"$wanted")" ]; then
	fail "two gradient groups give other bits than four (negative control)"
else
	pass "two gradient groups give other bits than four (negative control)"
fi

# ---- what a rank sends in a step is what was planned, to the byte ----

planned() { # NAME T OPTIONS...: the first slice of each position in replica 0
	local name=$1 slices=$2 wanted got
	shift 2
	# shellcheck disable=SC2086
	wanted=$("$stagecoach" plan --data "$scratch/data" $model $sizes \
		--costs operations --json "$@" 2>"$scratch/log" |
		sed -n 's/.*"sent_bytes": \([0-9]*\).*/\1/p')
	# shellcheck disable=SC2086
	"$stagecoach" train --data "$scratch/data" --out "$scratch/run" \
		--no-pin --threads 1 $model $sizes --costs operations \
		--steps 2 --eval-samples 0 --trace "$@" >>"$scratch/log" 2>&1
	got=$(sed -n 's/.*"bytes": \([0-9]*\).*/\1/p' \
		"$scratch/run/traffic.json" |
		awk -v step="$slices" 'NR % step == 1 || step == 1' |
		head -n "$(wc -l <<<"$wanted")")
	same "$name sends the bytes planned ($(tr '\n' ' ' <<<"$wanted"))" \
		"$wanted" "$got"
	rm -rf "$scratch/run"
}
sizes="--micro-batches 12 --micro-batch-size 2"
planned "D x P = 1x2" 1 --stages 2 --split 3,2
planned "D x P = 2x2" 1 --replicas 2 --stages 2 --split 3,2
planned "D x P = 2x2, sharded" 1 --replicas 2 --stages 2 --split 3,2 \
	--shard-optimizer
planned "D x P = 4x1, sharded" 1 --replicas 4 --shard-optimizer
planned "D x P = 3x2" 1 --replicas 3 --stages 2 --split 2,3
planned "D x P = 2x4, chunks" 1 --replicas 2 --stages 2 \
	--schedule looped-bfs --chunks 2 --split 1,1,2,1 --shard-optimizer
model="${model/--heads 3/--heads 2}"
planned "D x P x T = 2x2x2" 2 --replicas 2 --stages 2 --tensor 2 --split 3,2
planned "D x P x T = 1x2x2, recomputing" 2 --stages 2 --tensor 2 --split 3,2 \
	--recompute
model="${model/--heads 2/--heads 3}"

# ---- killed, resumed into another D x P ----

reference --gradient-groups 4
resume() { # NAME BEFORE AFTER [OPTIONS...]
	local name=$1 before=$2 after=$3 run=$scratch/run victim
	shift 3
	# shellcheck disable=SC2086
	"$stagecoach" train --data "$scratch/data" --out "$run" --seed 11 \
		--no-pin --threads 1 $model $batch $rest --gradient-groups 4 \
		--transport tcp --replicas "${before%x*}" \
		--stages "${before#*x}" "$@" >"$scratch/log" 2>&1 &
	pid=$!
	for _ in $(seq 1000); do
		grep -q '"step":2,' "$run/metrics.jsonl" 2>/dev/null &&
			[ -f "$run/checkpoints/latest" ] && break
		sleep 0.01
	done
	victim=$(children $pid | tail -1)
	[ -z "$victim" ] || kill -9 "$victim"
	wait $pid
	pid=
	[ -f "$run/model/model.safetensors" ] || "$stagecoach" train \
		--resume "$run" --replicas "${after%x*}" \
		--stages "${after#*x}" >>"$scratch/log" 2>&1
	if [ -f "$run/model/model.safetensors" ]; then
		compare "$name" "$run"
	else
		fail "$name"
		sed 's/^/#   /' "$scratch/log"
		rm -rf "$run"
	fi
}
resume "killed at 2x2, resumed at 4x1" 2x2 4x1
resume "killed at 4x1, sharded, resumed at 1x3" 4x1 1x3 --shard-optimizer
resume "killed at 1x2, resumed at 2x2" 1x2 2x2

# ---- one line, before step 1 ----

refuse() { # PATTERN OPTIONS...
	local pattern=$1
	shift
	if train "$scratch/run" "$@"; then
		fail "$* is refused"
	elif [ "$(wc -l <"$scratch/log")" -ne 1 ]; then
		fail "$* is refused in one line"
	elif ! grep -Eq -- "$pattern" "$scratch/log"; then
		fail "$* (says nothing like /$pattern/)"
	elif [ -e "$scratch/run" ]; then
		fail "$* (leaves its --out behind)"
	else
		pass "$* is refused"
		return
	fi
	sed 's/^/#   /' "$scratch/log"
	rm -rf "$scratch/run"
}
refuse "nearest that work are 10 and 15" --replicas 5
refuse "smallest that works is 16" --replicas 16
refuse "G is 2, 4, 8" --replicas 2 --gradient-groups 3
refuse "G is 4, 8, 16" --replicas 4 --gradient-groups 2
refuse "nearest that work are 8 and 16" --replicas 2 --gradient-groups 8
refuse "replicas of 2 or more" --shard-optimizer
refuse "replicas" --replicas 0

# A lost replica ends the run, and is named.
train "$scratch/run" --replicas 3 --transport tcp --steps 100000 &
pid=$!
for _ in $(seq 1000); do
	grep -q '"step":2,' "$scratch/run/metrics.jsonl" 2>/dev/null && break
	sleep 0.01
done
victim=$(children $(children $pid) | tail -1)
[ -n "$victim" ] || victim=$(children $pid | tail -1)
kill -9 "$victim"
if wait $pid; then
	fail "a lost replica ends the run"
elif grep -Eq "rank 2.*(killed|died|signal)" "$scratch/log"; then
	pass "a lost replica ends the run, and is named"
else
	fail "a lost replica ends the run, and is named"
	sed 's/^/#   /' "$scratch/log"
fi
pid=
rm -rf "$scratch/run"

echo "1..$cases"
finish
