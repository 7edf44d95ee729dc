#!/usr/bin/env bash
# Rehearsals take the time that was predicted, every schedule, and their order by
# time is the predicted one. A machine too noisy to tell is told by a control
# pair: the same rehearsal before and after.
. "${srcdir:-.}/tests/e2e/lib.sh"

# table JSON: a line a schedule: name, predicted, measured step time.
table() {
	awk '
		/^ *"name":/ { name = value() }
		/^ *"predicted": \{/ { part = "predicted" }
		/^ *"measured": \{/ { part = "measured" }
		/^ *"step_time":/ && part == "predicted" { predicted = value() }
		/^ *"step_time":/ && part == "measured" {
			print name, predicted, value()
		}
		function value() {
			sub(/^[^:]*: */, "")
			gsub(/[",]/, "")
			return $0
		}' "$1"
}

rehearse() { # OUT SCHEDULES P M COSTS STEPS
	"$stagecoach" schedule compare --schedules "$2" --stages "$3" \
		--micro-batches "$4" --costs "$5" --steps "$6" \
		--message-bytes 1000000 --rehearse --json >"$1" 2>"$scratch/log"
}

measured() {
	table "$1" | cut -d' ' -f3
}

# The same run again differs by over 3 %: nothing can be said.
noisy() { # FIRST SECOND
	awk -v a="$(measured "$1")" -v b="$(measured "$2")" \
		'BEGIN { exit !((a > b ? a / b : b / a) > 1.03) }'
}

within_five_percent() {
	table "$1" | awk '
		{ error = $3 / $2 - 1; print $1, $2, $3, 100 * error " %" }
		error > 0.05 || error < -0.05 { bad = 1 }
		END { exit bad || NR == 0 }'
}

in_predicted_order() {
	table "$1" | awk '
		{ name[NR] = $1; predicted[NR] = $2; real[NR] = $3 }
		END {
			for (a = 1; a <= NR; a++)
				for (b = 1; b <= NR; b++)
					if (predicted[a] * 1.05 < predicted[b]) {
						pairs++
						if (real[a] >= real[b]) {
							print name[a], "is not faster than", name[b]
							bad = 1
						}
					}
			print pairs, "pairs differ by more than 5 %"
			exit bad || !pairs
		}'
}

all=gpipe,1f1b,interleaved,looped-bfs,zb-h1,zb-h2,interleaved-zb,zb-v,v-half
all=$all,v-min,1f1b-v,dualpipe-v

trial() { # P M COSTS STEPS
	local what="$1 ranks, $2 micro-batches, $3"
	if ! rehearse "$scratch/before" 1f1b "$@" ||
		! rehearse "$scratch/all" "$all" "$@" ||
		! rehearse "$scratch/after" 1f1b "$@"; then
		fail "$what: the rehearsal runs"
		sed 's/^/#   /' "$scratch/log"
		return
	fi
	same "$what: all schedules are measured" 12 "$(table "$scratch/all" | wc -l)"
	if noisy "$scratch/before" "$scratch/after"; then
		for name in "within 5 % of the prediction" "in the predicted order"; do
			cases=$((cases + 1))
			echo "ok $cases - $what: $name # SKIP inconclusive: the same rehearsal twice differs by over 3 %"
		done
		return
	fi
	note "$(table "$scratch/all")"
	check "$what: within 5 % of the prediction" within_five_percent "$scratch/all"
	check "$what: in the predicted order" in_predicted_order "$scratch/all"
}

plan 9
trial 4 8 24ms,20ms,20ms 3
trial 8 16 20ms,24ms,20ms 2

# A file, a tied parameter's exchange, costs from a file, threads for ranks.
cat >"$scratch/costs.json" <<'JSON'
{"format": "stagecoach-costs-1", "unit": "seconds",
 "stages": [{"forward": 0.01, "input": 0.01, "weight": 0.005},
            {"forward": 0.03, "input": 0.01, "weight": 0.0}],
 "message_bytes": 100000, "tied_bytes": 4000000}
JSON
printf '0F0,0F1,0I0,0W0,0I1,0W1\n1F0,1B0,1F1,1B1\n' >"$scratch/mine.csv"
own_file() {
	"$stagecoach" schedule rehearse "$scratch/mine.csv" \
		--costs "$scratch/costs.json" --steps 2 --transport inproc \
		>"$scratch/table" && cat "$scratch/table" &&
		grep -q '^mine' "$scratch/table"
}
check "a schedule from a file at costs from a file" own_file

# What is written appears whole.
check "a trace is written" "$stagecoach" schedule rehearse 1f1b \
	--stages 2 --micro-batches 2 --costs 2ms,2ms,2ms --steps 1 \
	--trace "$scratch/trace.json"
check "the trace has both" grep -q '1f1b, measured' "$scratch/trace.json"

finish
