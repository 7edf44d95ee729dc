# Looking at pages with Chromium, headless. Sourced by tests, behind lib.sh;
# where there is no Chromium, they end here, with what they have tested so far.

chromium=$(command -v chromium || command -v chromium-browser ||
	command -v google-chrome)

# browse FILE OPTIONS...: prints what the browser does; $scratch/browser.log is
# its log.
browse() {
	local page=$1
	shift
	timeout 100 "$chromium" --headless --no-sandbox --disable-gpu \
		--hide-scrollbars --no-first-run --disable-extensions \
		--user-data-dir="$scratch/browser" --virtual-time-budget=60000 \
		--enable-logging=stderr "$@" "file://$page" \
		2>"$scratch/browser.log"
}

skip_rest() {
	cases=$((cases + 1))
	echo "ok $cases - the page, seen # SKIP $*"
	echo "1..$cases"
	finish
	exit
}

[ -n "$chromium" ] ||
	skip_rest "no Chromium here (Debian: apt-get install chromium)"
echo '<p id="starts">yes' >"$scratch/starts.html"
browse "$scratch/starts.html" --dump-dom | grep -q 'id="starts"' ||
	skip_rest "$chromium does not start: $(tail -1 "$scratch/browser.log")"

errors() {
	grep -E 'CONSOLE|Uncaught' "$scratch/browser.log"
}
