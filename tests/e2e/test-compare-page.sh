#!/usr/bin/env bash
# The page and the trace of a comparison of all schedules: what the files hold,
# and, where there is Chromium, what a reader sees of the page: every schedule
# drawn, no script error, no request, a picture that is not blank, in light
# and dark, at the width of a desk and of a phone.
. "${srcdir:-.}/tests/e2e/lib.sh"
make_page=$builddir/tests/e2e/make-compare-page
count_colours=$builddir/tests/e2e/count-colours
template=$source_folder/tools/pages/compare.html
look=$source_folder/tools/pages/look.css

"$make_page" -p 4 -m 8 -c 1.2e9 -o "$scratch/page.html" \
	-t "$scratch/trace.json" -j "$scratch/document.json" ||
	{ echo "Bail out! no page was written"; exit 1; }
# Too few micro-batches for some; a name and a mark to be careful with.
"$make_page" -p 5 -m 7 -x -o "$scratch/careful.html"
"$make_page" -p 5 -m 7 -n -u -d -o "$scratch/plain.html"

# ---- the files ----

names=$(sed -n 's/^ *"name": "\(.*\)",$/\1/p' "$scratch/document.json")
missing=$(for name in $names; do
	grep -q "\"name\":\"$name\"" "$scratch/page.html" || echo "$name"
done)
check "there are a dozen schedules or more" \
	[ "$(wc -w <<<"$names")" -ge 12 ]
same "the page has every schedule" "" "$missing"
# SVG and XML name their kinds by such addresses; the page has neither.
same "it names no address outside" "" \
	"$(grep -oE '(https?:|wss?:)?//[a-z0-9][a-z0-9.-]*\.[a-z]+' \
		"$scratch/page.html" | head -3)"
same "no markup comes from a name" "$(grep -c '<script' "$template")" \
	"$(grep -c '<script' "$scratch/careful.html")"
same "the trace has a process a schedule and variant" \
	"$((2 * $(wc -w <<<"$names")))" \
	"$(grep -c '"process_name"' "$scratch/trace.json")"
same "every arrow of the trace has its end" \
	"$(grep -c '"ph":"s"' "$scratch/trace.json")" \
	"$(grep -c '"ph":"f"' "$scratch/trace.json")"

# ---- the page, seen ----

. "$source_folder/tests/e2e/browser.sh"

# with_probe PAGE: a copy that reports on itself. Its frames are timers: of
# virtual time the browser gives as much as is asked for, but no frames.
with_probe() {
	local frames='requestAnimationFrame = act => setTimeout(act, 16); '
	frames+='cancelAnimationFrame = clearTimeout;'
	{
		grep -v '^</body>\|^</html>' "$1" |
			sed "s|^<title>|<script>$frames</script>&|"
		echo '<script>'
		cat "$source_folder/tests/e2e/compare-page-probe.js"
		echo '</script></body></html>'
	} >"$1.probe.html"
}

# probe NAME PAGE OPTIONS...: its lines become cases of this test.
probe() {
	local name=$1 page=$2 found=0 line
	shift 2
	with_probe "$page"
	browse "$page.probe.html" --dump-dom "$@" >"$scratch/dom"
	same "$name: no script error" "" "$(errors)"
	while IFS= read -r line; do
		found=$((found + 1))
		case $line in
		"ok - "*) pass "$name: ${line#ok - }" ;;
		*) fail "$name: ${line#not ok - }" ;;
		esac
	done < <(sed -n '/<pre id="probe">/,/<\/pre>/p' "$scratch/dom" |
		grep -E '^(not )?ok - ')
	[ $found -ge 10 ] || fail "$name: the probe reported $found lines"
}

probe "all schedules" "$scratch/page.html" --window-size=1280,900
probe "careful names" "$scratch/careful.html" --window-size=1280,900
probe "plain numbers" "$scratch/plain.html" --window-size=1280,900
# Headless windows are at least 500 pixels wide.
probe "narrow" "$scratch/page.html" --window-size=500,900

# The colours of F, I, W and B in a theme, as the page has them.
colours() { # light|dark
	sed -n "$([ "$1" = light ] && echo '/^:root {/,/^}/p' ||
		echo '/^:root\[data-theme=dark\]/,/^}/p')" "$look" |
		sed -n 's/^\t--[fiwb]: #\([0-9a-f]\{6\}\);/\1/p'
}

# seen PICTURE COLOUR...: fails, saying what was found, where it shows no page.
seen() {
	local file=$1 width height distinct share counts
	shift
	read -r width height distinct share counts \
		<<<"$("$count_colours" "$file" "$@")"
	echo "$width x $height, $distinct colours, $share % of one, F I W B: $counts"
	[ "${distinct:-0}" -ge 100 ] && [ "${share%.*}" -lt 95 ] || return 1
	# shellcheck disable=SC2086
	set -- $counts
	[ $# -eq 4 ] && [ "$1" -gt 500 ] && [ "$2" -gt 500 ] &&
		[ "$3" -gt 500 ] && [ "$4" -gt 500 ]
}

screenshot() { # PAGE PICTURE OPTIONS...
	browse "$1" --window-size=1280,3600 --screenshot="$2" "${@:3}" \
		>/dev/null
}

screenshot "$scratch/page.html" "$scratch/light.png"
# shellcheck disable=SC2046
check "the picture is not blank, light" \
	seen "$scratch/light.png" $(colours light)
screenshot "$scratch/page.html" "$scratch/dark.png" \
	--blink-settings=preferredColorScheme=0
# shellcheck disable=SC2046
check "the picture is not blank, dark" \
	seen "$scratch/dark.png" $(colours dark)
check "no script error in either" test -z "$(errors)"

# ---- what must be found ----

blank() {
	echo '<body>nothing drawn' >"$scratch/blank.html"
	screenshot "$scratch/blank.html" "$scratch/blank.png"
	# shellcheck disable=SC2046
	! seen "$scratch/blank.png" $(colours light)
}
check "planted: a blank page" blank

broken() {
	sed 's/^function drawView(view) {/&\n\tview.nothing.here();/' \
		"$scratch/page.html" >"$scratch/broken.html"
	browse "$scratch/broken.html" --dump-dom >/dev/null
	[ -n "$(errors)" ]
}
check "planted: a script error" broken

echo "1..$cases"
finish
