#!/usr/bin/env bash
# `stagecoach bench`: its tables and its JSON hold together. What the numbers are
# depends on the machine; no test asks for that.
. "${srcdir:-.}/tests/e2e/lib.sh"

plan 27
short="--rounds 2 --milliseconds 1 --sizes 8,70001"
bench() {
	"$stagecoach" bench transport "$@"
}

bench $short --waiting spinning --json >"$scratch/json" 2>"$scratch/err" ||
	{ cat "$scratch/err"; echo "Bail out! bench transport failed"; exit 1; }

# Every line is an object with a positive figure and, of a transport, a ratio.
sane() {
	local line
	while read -r line; do
		[[ $line == '{'*'}' ]] || return 1
		grep -Eq '"(median_us|gb_per_second)":[0-9.e+-]+' <<<"$line" || return 1
		grep -Eq '"(median_us|gb_per_second)":(0\.0*|-[^,]*)[,}]' <<<"$line" && return 1
		grep -q '"transport":"\(socket\|memory\)"' <<<"$line" ||
			grep -Eq '"ratio":[0-9.e+-]+,"control":[0-9.e+-]+,"conclusive":(true|false)' <<<"$line" ||
			return 1
	done <"$scratch/json"
}
check "each line is an object with its figures" sane

every() {
	local test transport bytes
	for test in latency bandwidth produce; do
		for transport in inproc shm tcp; do
			for bytes in 8 70001; do
				grep "\"test\":\"$test\"" "$scratch/json" |
					grep "\"transport\":\"$transport\"" |
					grep -q "\"bytes\":$bytes," ||
					{ echo "$test of $transport at $bytes is missing"; return 1; }
			done
		done
	done
}
check "every test of every transport at every size" every

p99() {
	sed -n 's/.*"median_us":\([^,]*\),"p99_us":\([^,}]*\).*/\1 \2/p' "$scratch/json" |
		awk '$2 < $1 * 0.5 { bad = 1 } END { exit bad || !NR }'
}
check "a p99 is not below its median" p99

bench $short --transport inproc --test latency --waiting both >"$scratch/table" 2>&1
check "a table of at most 100 columns" \
	awk 'length > 100 { exit 1 } END { exit NR < 9 }' "$scratch/table"
check "with a line for each size, both ways of waiting" \
	test "$(grep -cE '^ *(8 B|68.4 KiB) ' "$scratch/table")" -eq 4

bench $short --transport tcp/sockets --test produce --waiting adaptive \
	--checksum on --json >"$scratch/one" 2>&1
same "what was asked for, and nothing else" \
	"2 2" "$(grep -c '"io":"sockets","' "$scratch/one") $(grep -c '"transport":"socket"' "$scratch/one")"

refused() { # COMMAND...: with status 2 and one line
	"$@" >"$scratch/out" 2>&1
	[ $? -eq 2 ] && [ "$(wc -l <"$scratch/out")" -eq 1 ]
}
refuse() {
	refused bench "$@"
}
check "an unknown transport is refused" refuse --transport pigeon
check "sizes that are none are refused" refuse --sizes 8,,9
check "... and 0" refuse --sizes 0
check "a host that listens and connects is refused" \
	refuse --listen --connect 127.0.0.1:1

# Two hosts, of which both are this one. Each has its own copy of the key.
head -c 32 /dev/urandom | od -An -tx1 | tr -d ' \n' >"$scratch/key"
echo >>"$scratch/key"
chmod 600 "$scratch/key"
bench --listen --key-file "$scratch/key" >"$scratch/listens" 2>&1 &
pid=$!
for _ in $(seq 100); do
	address=$(sed -n 's/.*--connect //p' "$scratch/listens")
	[ -n "$address" ] && break
	sleep 0.1
done
bench $short --transport tcp --test bandwidth --waiting adaptive \
	--wire encrypted --key-file "$scratch/key" --json \
	--connect "$address" >"$scratch/two" 2>&1
same "two hosts, encrypted" "0 4" \
	"$? $(grep -c '"transport":"tcp".*"wire":"encrypted"' "$scratch/two")"
wait $pid
same "the one that listened ends with the other" 0 $?
pid=
# Beyond loopback nobody listens without a key.
bench --listen --bind 0.0.0.0 >"$scratch/out" 2>&1
check "without a key there is no listening beyond loopback" \
	grep -q "key" "$scratch/out"

# A step, of a small model.
step() {
	"$stagecoach" bench step --layers 2 --width 64 --heads 2 \
		--vocab-size 300 --context 32 --rounds 1 "$@"
}
step --micro-batches 2 --threads 2 --json >"$scratch/step" 2>"$scratch/err"
same "a step's figures" 0 $?
check "... in one object, with every kind of layer and action" \
	test "$(grep -o '"kind":"[a-z]*","action":"[FIW]","seconds":[0-9.e-]*' "$scratch/step" | wc -l)" -eq 9
# The layers and the step's end take no longer than the step.
check "... that add up" awk '
	{ gsub(/[{}\[\],]/, "\n"); n = split($0, field, "\n")
	  for (i = 1; i <= n; i++) { split(field[i], v, ":")
		if (v[1] ~ /^"(norm_|update_)?seconds"$/) sum += v[2]
		if (v[1] == "\"step_seconds\"") whole = v[2] } }
	END { exit !(sum > 0.3 * whole && sum <= whole) }' "$scratch/step"
step >"$scratch/table" 2>&1
check "and a table of at most 100 columns" \
	awk 'length > 100 { exit 1 } END { exit NR < 14 }' "$scratch/table"

# Tokens, of small models of both families.
generate() {
	"$stagecoach" bench generate --layers 2 --width 64 --heads 2 \
		--vocab-size 300 --context 40 --tokens 8 --rounds 1 "$@"
}
generate --threads 2 --json >"$scratch/generate" 2>"$scratch/err"
same "tokens' figures" 0 $?
# 2 blocks of 12 C^2 weights and 13 C others, the last norm, and the head; the
# operations take no longer than the token.
check "... count each weight once, and operations add up" awk '
	{ gsub(/[{}\[\],]/, "\n"); n = split($0, field, "\n")
	  for (i = 1; i <= n; i++) { split(field[i], v, ":")
		if (v[1] == "\"weights\"") weights = v[2]
		if (v[1] == "\"bytes\"" && !bytes) bytes = v[2]
		if (v[1] == "\"seconds\"") sum += v[2]
		if (v[1] == "\"token_seconds\"") whole = v[2] } }
	END { C = 64
	  exit !(weights == 2 * (12 * C * C + 13 * C) + 2 * C + 300 * C &&
		bytes == 4 * weights && sum > 0.3 * whole && sum <= whole) }' \
	"$scratch/generate"
generate --arch llama --kv-heads 1 >"$scratch/table" 2>&1
check "and a table of at most 100 columns" \
	awk 'length > 100 { exit 1 } END { exit NR < 14 }' "$scratch/table"
check "more tokens than positions are refused" refused generate --tokens 41

# A pipeline of a small model.
pipeline() {
	"$stagecoach" bench pipeline --layers 2 --width 32 --heads 2 \
		--vocab-size 300 --context 16 --micro-batches 4 --rounds 1 \
		--steps 1 --threads 1 --no-pin "$@"
}
pipeline --schedules 1f1b,zb-h1 --transport tcp --json \
	>"$scratch/pipeline" 2>"$scratch/err"
same "a pipeline's figures" "0 2" \
	"$? $(grep -cE '^\{"schedule":"(1f1b|zb-h1)","transport":"tcp".*"ratio":[0-9.e-]+,"bubble":0\.[0-9]+,"quotient":[0-9.e-]+,.*"peak_bytes":\[[0-9]+,[0-9]+\].*\}$' "$scratch/pipeline")"
pipeline --schedules gpipe --split 1,1 >"$scratch/table" 2>"$scratch/err"
check "... and its table, with a line a rank" \
	test "$(grep -cE '^ *(one process|gpipe) |^gpipe, rank [01]: compute ' "$scratch/table")" -eq 4
check "a split that does not add up is refused" \
	refused pipeline --split 5,5

# Kernels, of small sizes.
kernels() {
	"$stagecoach" bench kernels --width 64 --heads 2 --vocab-size 300 \
		--context 32 --micro-batch-size 2 --rounds 1 "$@"
}
kernels --threads 2 --json >"$scratch/kernels" 2>"$scratch/err"
same "kernels' figures" 0 $?
check "... each an object with its time, its limit's name and its share" \
	awk '!/^\{"kernel":"[^"]+","seconds":[0-9.e-]+,"gflop":[0-9.e+-]+,"gb":[0-9.e-]+,"bound":"(memory|products)","of_limit":[0-9.e+-]+\}$/ { exit 1 }
	END { exit NR < 36 }' "$scratch/kernels"
check "heads that do not divide the width are refused" \
	refused kernels --heads 3
finish
