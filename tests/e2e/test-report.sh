#!/usr/bin/env bash
# stagecoach report, and train --tensorboard: of a run that was recorded, killed
# and resumed, of one that goes on, of one whose disk was full, and of folders that
# are no run. Where there is Chromium, the page as a reader sees it.
. "${srcdir:-.}/tests/e2e/lib.sh"
count_colours=$builddir/tests/e2e/count-colours

make_text "$scratch/text"
"$stagecoach" prepare --text "$scratch/text" --out "$scratch/data" \
	--tokenizer byte --val 0.1 >"$scratch/log" 2>&1 ||
	{ cat "$scratch/log"; echo "Bail out! prepare failed"; exit 1; }

train() { # OPTIONS...
	"$stagecoach" train "$@" >"$scratch/log" 2>&1
}
tiny="--data $scratch/data --layers 2 --width 16 --heads 2 --context 16
	--micro-batches 4"

# refuse STATUS PATTERN COMMAND...: its exit status and its one line.
refuse() {
	local wanted=$1 pattern=$2 status
	shift 2
	"$stagecoach" "$@" >"$scratch/out" 2>"$scratch/err"
	status=$?
	if [ $status -eq "$wanted" ] &&
		grep -Eq -- "$pattern" "$scratch/err" &&
		[ "$(wc -l <"$scratch/err")" -eq 1 ]; then
		pass "refused: $*"
	else
		fail "refused: $* (exit status $status, /$pattern/, one line)"
		sed 's/^/#   /' "$scratch/err"
	fi
}

# ---- a run, killed and resumed ----

run=$scratch/run
# shellcheck disable=SC2086
train $tiny --out "$run" --stages 2 --schedule zb-h1 --steps 100000 \
	--eval-every 4 --eval-samples 4 --checkpoint-every 10 --trace \
	--trace-steps 5 --tensorboard &
pid=$!
for _ in $(seq 600); do
	grep -q '"step":2[0-9],' "$run/metrics.jsonl" 2>/dev/null && break
	sleep 0.05
done
check "a run that goes on has a report" "$stagecoach" report "$run" \
	--out "$scratch/running.html"
check "which says so" grep -q '>Running</b>' "$scratch/running.html"
kill -9 "$(children $pid | head -1)"
wait $pid
pid=
# Not what `latest` says: it may have been killed before that was rewritten.
saved=$(ls "$run/checkpoints" | sed -n 's/^step-0*//p' | sort -n | tail -n 1)
check "it is resumed" train --resume "$run" --steps $((saved + 40)) \
	--stages 1 --schedule 1f1b
"$stagecoach" report "$run" >"$scratch/out" 2>"$scratch/err"
same "report: exit status" 0 $?
same "it says where the page is, and nothing else" \
	"the report is in $run/report.html" "$(cat "$scratch/err" "$scratch/out")"
page=$run/report.html

value() { # KEY: of the last line of the metrics that has it
	grep "\"$1\":" "$run/metrics.jsonl" | tail -1 |
		sed "s/.*\"$1\":\([^,}]*\).*/\1/"
}
decimals() {
	LC_ALL=C printf '%.4f' "$1"
}
check "the page has the last loss" \
	grep -q ">$(decimals "$(value loss)")<small>of the last step" "$page"
check "and the last validation loss" \
	grep -q "Validation loss</dt><dd>$(decimals "$(value val_loss)")<" "$page"
check "and says that the run is finished" grep -q '>Finished</b>' "$page"
check "and that it was resumed" grep -q '<th scope="row">Resumed</th>' "$page"
check "and where" grep -q "<title>resumed after step $saved</title>" "$page"
check "and what the recorded step was" \
	grep -q 'the median of 5 recorded steps (2 to 6)' "$page"
check "and draws it" grep -q '<title>1W3: ' "$page"
check "and what memory the rank holds" \
	grep -Eq '<tr><th scope="row">rank 0<small>.*MiB</td>' "$page"
# SVG within HTML needs no address to name its kind.
same "it names no address outside" "" \
	"$(grep -oE '(https?:|wss?:)?//[a-z0-9][a-z0-9.-]*\.[a-z]+' "$page" |
		head -3)"
same "and fetches nothing" "" \
	"$(grep -oE '<(link|img|iframe)|[ "](src|href)=|@import|url\([^#]' "$page")"

# ---- its event files ----

events=("$run"/tensorboard/events.out.tfevents.*)
same "TensorBoard has a file a start" 2 ${#events[@]}
count() { # TEXT FILE
	grep -ao -- "$1" "$2" | wc -l
}
same "the second holds what was done then" 40 \
	"$(count train/loss "${events[1]}")"
check "the first what was done before, and was lost" \
	[ "$(count train/loss "${events[0]}")" -ge "$saved" ]
same "with the memory of both ranks" \
	"$(count memory/rank_0_GiB "${events[0]}")" \
	"$(count memory/rank_1_GiB "${events[0]}")"
# Event{2 step, 7 SessionLog{1 status: START}}: from here on all else is void.
session=$(printf '\\x10\\x%02x:\\x02\\x08\\x01' $((saved % 128 + 1)))
if [ $((saved + 1)) -lt 128 ]; then
	same "the second begins behind the checkpoint" 1 \
		"$(LC_ALL=C grep -acP "$session" "${events[1]}")"
fi

# ---- a full disk ----

# Files of at most 150 KiB: enough for the model and its checkpoint.
# shellcheck disable=SC2086
(
	trap '' XFSZ
	ulimit -f 150
	train $tiny --out "$scratch/full" --transport inproc --steps 1000 \
		--eval-samples 0 --checkpoint-every 0 --tensorboard
)
same "a full disk ends no training" 0 $?
same "the log says so once a file" 2 \
	"$(grep -c 'File too large; training goes on without' "$scratch/log")"
check "the model is there" [ -s "$scratch/full/model/model.safetensors" ]
same "what the disk took ends with a whole line" "}" \
	"$(tail -1 "$scratch/full/metrics.jsonl" | tail -c 2 | tr -d '\n')"
check "it has a report" "$stagecoach" report "$scratch/full"

# ---- what is no run ----

copy() { # of the run's small files
	rm -rf "$scratch/copy"
	mkdir "$scratch/copy"
	cp "$run"/*.json* "$scratch/copy"
}
refuse 2 "one folder" report
refuse 2 "one folder" report "$run" "$run"
refuse 2 "no such run" report "$scratch/nowhere"
refuse 2 "did you mean '--out'" report "$run" --oot x
refuse 1 "no run.json" report "$scratch/data"
refuse 1 "no/such" report "$run" --out "$scratch/no/such/page.html"
copy
echo '{"options":' >"$scratch/copy/run.json"
refuse 1 "run.json" report "$scratch/copy"
copy
rm "$scratch/copy/metrics.jsonl"
refuse 1 "metrics.jsonl.*nothing to report yet" report "$scratch/copy"
: >"$scratch/copy/metrics.jsonl"
refuse 1 "metrics.jsonl: no step is done yet" report "$scratch/copy"
head -c 5000 /dev/urandom | tr -d '\n' >"$scratch/copy/metrics.jsonl"
echo >>"$scratch/copy/metrics.jsonl"
refuse 1 "metrics.jsonl: no line of it" report "$scratch/copy"
check "no page is left where none could be written" \
	[ ! -e "$scratch/copy/report.html" ]
copy
sed -i '5s/.*/{"step":3,"lo/' "$scratch/copy/metrics.jsonl"
echo 'no trace' >"$scratch/copy/trace.json"
echo 'no history' >"$scratch/copy/history.jsonl"
"$stagecoach" report "$scratch/copy" >"$scratch/out" 2>"$scratch/err"
same "one torn line costs that line" 0 $?
same "which is named, like a trace that is none" "line 5 trace.json report" \
	"$(grep -oE 'line 5|trace\.json|^the report' "$scratch/err" |
		sed 's/the report/report/' | xargs)"

# ---- the page, seen ----

. "$source_folder/tests/e2e/browser.sh"

# probe NAME OPTIONS...: its lines become cases of this test.
probe() {
	local name=$1 found=0 line
	shift
	browse "$scratch/probe.html" --dump-dom "$@" >"$scratch/dom"
	same "$name: no script error" "" "$(errors)"
	while IFS= read -r line; do
		found=$((found + 1))
		case $line in
		"ok - "*) pass "$name: ${line#ok - }" ;;
		*) fail "$name: ${line#not ok - }" ;;
		esac
	done < <(sed -n '/<pre id="probe">/,/<\/pre>/p' "$scratch/dom" |
		grep -E '^(not )?ok - ')
	[ $found -ge 15 ] || fail "$name: the probe reported $found lines"
}

{
	grep -v '^</body>\|^</html>' "$page"
	echo '<script>'
	cat "$source_folder/tests/e2e/report-page-probe.js"
	echo '</script></body></html>'
} >"$scratch/probe.html"
probe "wide" --window-size=1280,900
probe "narrow" --window-size=500,900

# seen PICTURE COLOUR...: fails where it does not show each of them.
seen() {
	local file=$1 width height distinct share counts one
	shift
	read -r width height distinct share counts \
		<<<"$("$count_colours" "$file" "$@")"
	echo "$width x $height, $distinct colours, $share % of one: $counts"
	[ "${distinct:-0}" -ge 100 ] && [ "${share%.*}" -lt 97 ] || return 1
	for one in $counts; do
		[ "$one" -ge 200 ] || return 1
	done
	[ "$(wc -w <<<"$counts")" -eq $# ]
}
screenshot() { # PAGE PICTURE OPTIONS...
	browse "$1" --window-size=1280,2600 --screenshot="${@:2}" >/dev/null
}

# The curve, what is held out, F and I: of report.html and look.css.
day="1f6fb8 6aaee8 f6b73f"
night="6db3f2 78b9f0 f3b94c"
dark=--blink-settings=preferredColorScheme=0
sed '/^<script>$/,/^<\/script>$/d' "$page" >"$scratch/plain.html"
screenshot "$page" "$scratch/light.png"
# shellcheck disable=SC2086
check "seen, light" seen "$scratch/light.png" $day
screenshot "$page" "$scratch/dark.png" $dark
# shellcheck disable=SC2086
check "seen, dark" seen "$scratch/dark.png" $night
screenshot "$scratch/plain.html" "$scratch/plain.png"
# shellcheck disable=SC2086
check "seen, without a script" seen "$scratch/plain.png" $day
screenshot "$scratch/plain.html" "$scratch/plain-dark.png" $dark
# shellcheck disable=SC2086
check "seen, dark, without a script" seen "$scratch/plain-dark.png" $night
# shellcheck disable=SC2086
check "planted: the colours of the night are not those of the day" \
	eval "! seen $scratch/light.png $night"

echo "1..$cases"
finish
