#!/usr/bin/env bash
# One trial of what happens when something dies: trains with three ranks, does
# harm to one of them, and prints one line,
#
#   ok MILLISECONDS      until every other rank had ended, for the right reason
#   fail WHY
#
#   liveness-trial.sh KIND DATA FOLDER SEED
#
# KIND: kill (-9), stop (SIGSTOP), cut (a data link drops all packets), cut-one
# (those of one direction). The cuts run in a network namespace of their own
# (find_network in tests/e2e/lib.sh). SEED picks the victim, the moment, and, where
# no TCP is needed, the transport: tcp, or what auto takes on one host.
# $stagecoach is the program.
set -u
kind=$1 data=$2 folder=$3 seed=$4
log=$folder/log
mkdir -p "$folder"
mkfifo "$folder/never"
exec 9<>"$folder/never"

pause() { # seconds; a sleep that starts no process
	read -rt "$1" -u 9
}

now_ms() {
	local now=${EPOCHREALTIME/[.,]/}
	echo $((now / 1000))
}

give_up() {
	echo "fail $*$([ -s "$log" ] && tail -4 "$log" | sed 's/^/; /' | tr -d '\n')"
	kill -9 "$pid" 2>/dev/null
	wait "$pid" 2>/dev/null
	exit 0
}

# The ranks are the children of the supervisor.
find_ranks() {
	mapfile -t ranks < <(cat "/proc/$pid/task/$pid/children" 2>/dev/null |
		tr ' ' '\n' | grep .)
}

transport=tcp
[[ $kind == cut* || $((seed % 2)) -eq 0 ]] || transport=auto

start() {
	"$stagecoach" train --data "$data" --out "$folder/run" --layers 3 \
		--width 64 --heads 4 --context 64 --steps 1000000 \
		--checkpoint-every 1000000 --eval-samples 0 --stages 3 \
		--threads 1 --no-pin --transport $transport --costs operations \
		>"$folder/out" 2>"$log" &
	pid=$!
	local steps=$folder/run/metrics.jsonl
	for _ in $(seq 1500); do
		[ -s "$steps" ] && break
		[ -d "/proc/$pid" ] || give_up "training did not start"
		pause 0.02
	done
	find_ranks
	[ "${#ranks[@]}" -eq 3 ] || give_up "${#ranks[@]} ranks, not 3"
}

# A connection between two ranks: their control sockets are not TCP.
cut() {
	local both=$1 links local_port peer_port
	mapfile -t links < <(ss -Htn state established | awk '{print $3, $4}' | sort)
	[ ${#links[@]} -ge 2 ] || give_up "no TCP links between the ranks"
	set -- ${links[$((seed % ${#links[@]}))]}
	local_port=${1##*:} peer_port=${2##*:}
	{
		echo "add table inet cut"
		echo "add chain inet cut in { type filter hook input priority 0; }"
		echo "add rule inet cut in tcp sport $local_port tcp dport $peer_port drop"
		[ "$both" = yes ] &&
			echo "add rule inet cut in tcp sport $peer_port tcp dport $local_port drop"
	} >"$folder/cut.nft"
	nft -f "$folder/cut.nft" || give_up "nft does not work"
}

# Until all of them are gone; zombies are.
wait_for_end() {
	local deadline=$(($(now_ms) + 20000)) rank left state
	while :; do
		left=0
		for rank in "$@"; do
			state=
			{ read -r state <"/proc/$rank/stat"; } 2>/dev/null
			state=${state##*) }
			[[ -n $state && $state != Z* ]] && left=1
		done
		[ $left -eq 0 ] && return
		[ "$(now_ms)" -lt $deadline ] || give_up "others still there after 20 s"
		pause 0.01
	done
}

case $kind in
cut*) ip link set lo up || { echo "fail no loopback"; exit 0; } ;;
esac
start
pause "0.$(printf %03d $(((seed * 157) % 900)))"
victim=${ranks[$((seed % 3))]}
others=()
for rank in "${ranks[@]}"; do
	[[ $kind != cut* && $rank = "$victim" ]] || others+=("$rank")
done
begin=$(now_ms)
case $kind in
kill) kill -9 "$victim" ;;
stop) kill -STOP "$victim" ;;
cut) cut yes ;;
cut-one) cut no ;;
esac
wait_for_end "${others[@]}"
took=$(($(now_ms) - begin))
wait "$pid"
status=$?
case $kind in
kill) words="rank [0-2] \(pid $victim\) was killed by signal 9 .*at step [0-9]+ on " ;;
stop) words="rank [0-2] \(pid $victim\) gives no sign of life for .* at step [0-9]+ on " ;;
*) words="rank [0-2] \(pid [0-9]+\) failed at step [0-9]+ on .*: no answer from rank [0-2] \(127.0.0.1\)|no answer from rank [0-2] \(127.0.0.1\) for" ;;
esac
[ $status -eq 1 ] || give_up "exit status $status"
grep -Eq "$words" "$log" || give_up "the message does not say so"
[ -d "/proc/$victim" ] && give_up "rank $victim was left behind"
echo "ok $took"
