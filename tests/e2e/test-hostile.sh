#!/usr/bin/env bash
# Two ranks with a job key train while each of their doors is called by
# strangers a thousand times: while links are built, and afterwards. The weights
# are those of an undisturbed run; the log says once what is going on; nobody
# gets in, and the key is in nothing that is written.
. "${srcdir:-.}/tests/e2e/lib.sh"

hostile=$builddir/tests/transport/hostile
recording=$source_folder/tests/fuzz/corpus/handshake/replayed-client
plan 10

make_text "$scratch/text"
"$stagecoach" prepare --text "$scratch/text" --out "$scratch/data" \
	--tokenizer byte --val 0.1 >"$scratch/log" 2>&1 ||
	{ cat "$scratch/log"; echo "Bail out! prepare failed"; exit 1; }
"$stagecoach" key >"$scratch/key"
same "the key's file is its owner's alone" 600 "$(stat -c %a "$scratch/key")"

# A port nobody listens on, for the coordinator.
port=$((20000 + $$ % 10000))
while grep -q ":$(printf %04X $port) .* 0A " /proc/net/tcp; do
	port=$((port + 1))
done

pids=
start() { # RUN
	local rank
	pids=
	for rank in 0 1; do
		"$stagecoach" train --data "$scratch/data" --out "$scratch/$1" \
			--layers 4 --width 64 --heads 4 --context 64 \
			--steps 200 --transport tcp --rank $rank --world-size 2 \
			--coordinator 127.0.0.1:$port --key-file "$scratch/key" \
			>"$scratch/$1.$rank" 2>&1 &
		pids="$pids $!"
	done
}

await_both() { # 0: both are done
	local one status=0
	for one in $pids; do
		wait "$one" || status=1
	done
	return $status
}

# The ports on which these processes and their children listen.
doors() {
	local process inode family descriptor
	for process in $pids $(for family in $pids; do children $family; done); do
		for descriptor in "/proc/$process/fd/"*; do
			inode=$(readlink "$descriptor" 2>/dev/null)
			case $inode in
			socket:*)
				inode=${inode#socket:[}
				awk -v inode="${inode%]}" \
					'$4 == "0A" && $10 == inode {
						split($2, at, ":"); print at[2] }' \
					/proc/net/tcp
				;;
			esac
		done
	done | sort -u | while read -r hex; do echo $((16#$hex)); done
}

median() { # RUN: of its steps, in seconds
	sed -n 's/.*"step_seconds": *\([0-9.e-]*\).*/\1/p' \
		"$scratch/$1/metrics.jsonl" | sort -g |
		awk '{ a[NR] = $1 } END { print a[int((NR + 1) / 2)] }'
}

digest() {
	sha256sum "$scratch/$1/model/model.safetensors" | cut -d' ' -f1
}

start calm
await_both && pass "two ranks with a key train" || {
	fail "two ranks with a key train"
	sed 's/^/# /' "$scratch"/calm.*
	exit 1
}
port=$((port + 1))
start attacked
# Some find so many before them that the kernel does not take them.
attempts() {
	awk '{ sum += $1 + $4 } END { print sum + 0 }' "$scratch/attack"
}

: >"$scratch/attack"
# While links are built, and on, until there were enough or nobody is left.
for count in 20 20 20 20 350 350 350 350 350 350; do
	sleep 0.05
	found=$(doors)
	[ -n "$found" ] && "$hostile" --record "$recording" $count $found \
		>>"$scratch/attack" 2>&1
	[ "$(attempts)" -lt 1000 ] || break
done
same "nobody was let in" 0 "$(grep -vc ' 0 let in' "$scratch/attack")"
number=$(attempts)
await_both && pass "attacked by $number connections they train on" || {
	fail "attacked by $number connections they train on"
	sed 's/^/# /' "$scratch"/attacked.*
}
[ "${number:-0}" -ge 1000 ] && pass "which were a thousand or more" ||
	fail "which were a thousand or more"
same "to the same weights" "$(digest calm)" "$(digest attacked)"

lines=$(cat "$scratch"/attacked.* | grep -c warning)
check "the log says what goes on" grep -Eqi \
	'refused|goes on calling' "$scratch"/attacked.*
[ "$lines" -le 25 ] && pass "and not a thousand times ($lines lines)" || {
	fail "and not a thousand times ($lines lines)"
	sed 's/^/# /' "$scratch"/attacked.*
}
grep -rqF "$(cat "$scratch/key")" "$scratch"/calm "$scratch"/calm.* &&
	fail "the key is in nothing that is written" ||
	pass "the key is in nothing that is written"

calm=$(median calm) attacked=$(median attacked)
note "a step, in seconds: $calm calm, $attacked attacked"
# Others may use this machine: make soak and a quiet one for the 10 %.
awk -v a="$calm" -v b="$attacked" 'BEGIN { exit !(b < 3 * a + 0.02) }' &&
	pass "steps take about as long" || fail "steps take about as long"
finish
