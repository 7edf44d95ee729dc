#!/usr/bin/env bash
# pair.sh DIR OUT COMMAND-1 COMMAND-2: two guests at once, 10.9.0.1 and 10.9.0.2,
# on one wire (a socket). OUT/1 and OUT/2 are their /out. Status 0: both are.
set -u
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$2/1" "$2/2"
export NETWORK=$here/guest-network-wire
socket=$(mktemp -u "${TMPDIR:-/tmp}/stagecoach-wire.XXXXXX")
trap 'rm -f "$socket"' EXIT
wire() { # server?
	echo "stream,id=wire,server=$1,addr.type=unix,addr.path=$socket"
}

ADDRESS=10.9.0.1 WIRE=$(wire on) "$here/run.sh" "$1" "$2/1" "$3" &
first=$!
for _ in $(seq 100); do
	[ ! -S "$socket" ] || break
	sleep 0.1
done
ADDRESS=10.9.0.2 WIRE=$(wire off) "$here/run.sh" "$1" "$2/2" "$4"
second=$?
wait "$first"
first=$?
[ "$first" = 0 ] && [ "$second" = 0 ]
