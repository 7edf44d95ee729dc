#!/bin/sh
# stagecoach schedule, as a user meets it: what it prints, and its exit status.
stagecoach=${builddir:-.}/stagecoach
oracle=${srcdir:-.}/tests/schedules/oracle
here=$(mktemp -d) || exit 99
trap 'rm -rf "$here"' EXIT
number=0
NO_COLOR=1
export NO_COLOR

command=schedule
# expect STATUS PATTERN ARGUMENT...: the output has a line with PATTERN
expect() {
	status=$1
	pattern=$2
	shift 2
	number=$((number + 1))
	"$stagecoach" $command "$@" >"$here/out" 2>&1
	got=$?
	if [ $got -eq "$status" ] && grep -q -e "$pattern" "$here/out"; then
		echo "ok $number - $*"
	else
		echo "not ok $number - $*: status $got, wanted $status, '$pattern'"
		sed 's/^/# /' "$here/out"
	fi
}

# same FILE ARGUMENT...: the output is the file, byte for byte
same() {
	file=$1
	shift
	number=$((number + 1))
	if "$stagecoach" schedule "$@" >"$here/out" 2>"$here/err" &&
		cmp -s "$file" "$here/out"; then
		echo "ok $number - $* is $(basename "$file")"
	else
		echo "not ok $number - $* is not $(basename "$file")"
		sed 's/^/# /' "$here/err"
	fi
}

same "$oracle/gpipe_p4_m8.csv" show gpipe --stages 4 --micro-batches 8 --csv
same "$oracle/1f1b_p4_m8.csv" show 1f1b --stages 4 --micro-batches 8 --csv
same "$oracle/dualpipev_p4_m8.csv" show dualpipe-v --stages 4 --micro-batches 8 --csv
same "$oracle/gpipe_p4_m8.comms.csv" show gpipe --stages 4 --micro-batches 8 --csv=comms
same "$oracle/1f1b_p4_m8.csv" show "$oracle/1f1b_p4_m8.csv" --csv
same "$oracle/1f1b_p4_m8.comms.csv" show "$oracle/1f1b_p4_m8.comms.csv" --csv=comms
same "$oracle/1f1b_p4_m8.csv" show "$oracle/1f1b_p4_m8.comms.csv" --csv
expect 0 '^rank 1 | \.  F0 B0 =  F1 B1 =  F2 B2 =  \.  \.$' show 1f1b --stages 2 --micro-batches 3
expect 0 '48;5;75m' show 1f1b --stages 2 --micro-batches 3 --colour=always
expect 0 '^1f1b: valid: ranks 4, stages 4, micro-batches 8, posted receives safe 1, at full speed 1, peak activations 4 3 2 1, bit-identical$' check 1f1b --stages 4 --micro-batches 8
expect 0 'not bit-identical: W of stage 2 does not ascend' check "$oracle/loopedbfs_v2_p2_m4.csv"
expect 1 'deadlock with 0 posted receives per link' check 1f1b --stages 4 --micro-batches 8 --buffers 0
expect 1 'and so back to rank' check 1f1b --stages 4 --micro-batches 8 --buffers 0

printf '0F0,0B0\n1F0\n' >"$here/broken.csv"
expect 1 'invalid: 1I0 is missing (rank 1)' check "$here/broken.csv"
expect 1 '1f1b: valid' check "$here/broken.csv" 1f1b --stages 2 --micro-batches 1
printf '0F0,0X0\n' >"$here/garbled.csv"
expect 1 'garbled.csv:1:6: cell 2 .0X0.: expected an operation' check "$here/garbled.csv"
printf '0F0,0B0,0W0\n' >"$here/old.csv"
expect 0 'valid' check "$here/old.csv" --dialect old
expect 0 '^0F0,0B0,0W0' show "$here/old.csv" --dialect old --csv
expect 0 '^0F0,0I0,0W0' show "$here/old.csv" --csv
expect 0 '^0F0,0B0,0W0' show zb-h1 -P 1 -M 1 --csv --dialect old
expect 0 '^1F0,1BW0' show 1f1b -P 2 -M 1 --csv --csv-dialect old
expect 2 "csv-dialect" show 1f1b -P 2 -M 1 --csv --csv-dialect auto
printf '0F0,(0F1;0B0)OVERLAP_F_B,0B1\n1F0,1F1,1B0,1B1\n' >"$here/pair.csv"
expect 0 ': valid: ' check "$here/pair.csv"
expect 1 'and so back to rank 0' show "$here/pair.csv" --csv=comms
expect 1 'a second time' check "$here/old.csv" --dialect modern

expect 0 '^{"makespan": 57, "bubble": 9, "idle": \[9, 9, 9, 9\], "reducing": \[0, 0, 0, 0\], "peak_activations": \[5.5, 4.5, 3.5, 2.5\], "buffers_safe": 1, "buffers_full_speed": 1}$' simulate interleaved --stages 4 --micro-batches 8 --chunks 2 --costs 2,3,1 --json
expect 0 '^makespan  *26.5$' simulate v-half --stages 4 --micro-batches 8
expect 2 'three numbers F,I,W' simulate 1f1b --stages 4 --micro-batches 8 --costs 1,2
expect 1 'it needs at least 8 micro-batches (2P)' simulate dualpipe-v --stages 4 --micro-batches 7
expect 0 '^zb-v  *V  *(P-1) max(I/2, I-W)  *P  *V = 2$' list
expect 0 '^zb-v  *V  *2  *1.5  *5.9  *4  *V = 2$' list --stages 4 --micro-batches 8
expect 0 '^interleaved  *loop  *9 micro-batches do not divide into 2 equal rounds;' list --stages 4 --micro-batches 9
expect 0 '^ *nearest that do are 8 and 10$' list --stages 4 --micro-batches 9
expect 0 '^  here       does not fit: it needs at least 12 micro-batches (2P)$' list dualpipe-v -P 6 -M 9
expect 0 '^  paper      Qi et al., Zero Bubble' list zb-h1 gpipe
expect 0 '^  here       bubble 9 (27.3 %), peak activations 8; V = 1, F = I = W = 1$' list zb-h1 gpipe -P 4 -M 8
expect 0 '^    "paper": "Huang et al., GPipe, NeurIPS 2019",$' list --json
expect 0 '^    "does_not_fit": "it has two chunks a rank, not 3"$' list --json -P 2 -M 4 -V 3 zb-v
expect 0 '^      "peak_activations": 8.0$' list --json -P 4 -M 8 gpipe
expect 2 "did you mean 'zb-v'" list zbv
expect 2 'give both' list -P 4
expect 2 'goes with' list -V 2

# screen ARGUMENT...: fits a terminal of 80 columns and 24 lines
screen() {
	number=$((number + 1))
	if "$stagecoach" schedule "$@" >"$here/out" &&
		[ -z "$(grep '.\{80\}' "$here/out")" ] &&
		[ "$(wc -l <"$here/out")" -lt 24 ]; then
		echo "ok $number - $* fits a screen"
	else
		echo "not ok $number - $* does not fit a screen"
		sed 's/^/# /' "$here/out"
	fi
}
screen list
screen list -P 16 -M 65
expect 2 "did you mean 'show'" shov
expect 2 'needs --stages and --micro-batches' show 1f1b
expect 2 'needs the name or the file' check
expect 1 "did you mean '1f1b'" show 1f1c --stages 2 --micro-batches 2

costs="--costs 1ms,1ms,1ms"
expect 2 'a rehearsal needs times: give a unit, as in 20ms,20ms,15ms' rehearse 1f1b --stages 2 --micro-batches 2 --costs 1,1,1
expect 2 'all with a unit (20ms) or none' rehearse 1f1b --stages 2 --micro-batches 2 --costs 1ms,1,1
expect 2 'needs --stages and --micro-batches' rehearse 1f1b $costs
expect 1 "did you mean '1f1b'" rehearse 1f1c --stages 2 --micro-batches 2 $costs
expect 0 '^1f1b .* [+-][0-9.]* %' rehearse 1f1b --stages 2 --micro-batches 2 $costs --steps 1
expect 2 'schedule compare needs --stages and --micro-batches' compare --stages 2
expect 2 "unexpected word '1f1b'" compare 1f1b --stages 2 --micro-batches 2
expect 0 '^zb-v  *2  *25.5  *5.9 %' compare --stages 4 --micro-batches 8
expect 0 '^dualpipe-v  *not compared: ' compare --stages 4 --micro-batches 7
expect 0 '^gpipe  *not compared: a rank holds activations of 8 micro-batches, the cap is 4$' compare --stages 4 --micro-batches 8 --memory-cap 4
expect 0 '^1f1b  *1  *33 ' compare --stages 4 --micro-batches 8 --chunks 2 --schedules 1f1b,interleaved
expect 1 'names none' compare --stages 2 --micro-batches 2 --schedules ,
expect 0 '"step_time": 33' compare --stages 4 --micro-batches 8 --schedules 1f1b --json
expect 1 'cannot' compare --stages 2 --micro-batches 2 --html /nowhere/page.html
expect 2 'there is no such file or folder' compare --stages 2 --micro-batches 2 --costs nowhere.json

expect 2 'schedule search needs --stages and --micro-batches' search --stages 2
expect 2 'needs --out FILE' search --stages 2 --micro-batches 2 --json
expect 0 '^found  *27 a step, one stage a rank' search --stages 4 --micro-batches 8 --chunks 1 --out "$here/found.csv"
expect 0 'found.csv: valid: .*bit-identical$' check "$here/found.csv"
expect 0 '^makespan  *27$' simulate "$here/found.csv"
expect 0 '^0F0' search --stages 2 --micro-batches 2 --chunks 1
expect 0 '^best built-in  none fits the cap' search --stages 4 --micro-batches 6 --chunks 1 --memory-cap 3 --effort 0.05 --out "$here/capped.csv"
expect 0 'peak activations 3 ' check "$here/capped.csv"
expect 0 '"bound": 27.0,' search --stages 4 --micro-batches 8 --chunks 1 --json --out "$here/found.csv"
expect 2 'leaves no room' search --stages 4 --micro-batches 8 --memory-cap 0 --out "$here/none.csv"
printf '{"format": "stagecoach-costs-1", "slice": [{"forward": 1, "input": 1, "weight": 1, "activation_bytes": 1000}]}' >"$here/costs.json"
expect 1 'one micro-batch alone holds 1000 bytes' search --stages 4 --micro-batches 8 --chunks 1 --costs "$here/costs.json" --memory-cap 999 --out "$here/none.csv"
expect 1 'nowhere' search --stages 2 --micro-batches 2 --out /nowhere/found.csv

command="help schedule"
expect 0 '^  simulate  *predict'
expect 0 '^Usage: stagecoach schedule simulate ' simulate
expect 2 "did you mean 'simulate'" simulat
echo "1..$number"
