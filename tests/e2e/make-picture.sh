#!/usr/bin/env bash
# make-picture.sh PAGE.html PICTURE.png [light|dark]: the timelines of a page of
# `schedule compare --html` as a picture for a document, without the table and
# the controls. Needs Chromium and pngquant, and for the type that the pictures
# in docs/ have, the font Inter (Debian: chromium pngquant fonts-inter).
set -eu
[ $# -ge 2 ] || { sed -n '2,5s/^# //p' "$0" >&2; exit 2; }
page=$1 picture=$2
case ${3:-light} in
dark) scheme=0 ;;
*) scheme=1 ;;
esac
chromium=$(command -v chromium || command -v chromium-browser ||
	command -v google-chrome) || { echo "no Chromium here" >&2; exit 1; }
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

browse() {
	"$chromium" --headless --no-sandbox --disable-gpu --hide-scrollbars \
		--user-data-dir="$scratch/browser" --virtual-time-budget=10000 \
		--blink-settings=preferredColorScheme=$scheme "$@" \
		"file://$scratch/page.html" 2>/dev/null
}

# How high the page is becomes its title, which the browser then tells.
sed '/^<\/style>/s/.*/.eyebrow, #theme, .summary, .hint, .controls,\
	footer { display: none !important } header { padding-top: 32px }\
	.bar { margin-top: 20px; border: 0; background: none }\
	.schedule { padding: 20px 0 22px }\
	.bar + .schedule { padding-top: 14px }&/' "$page" |
	sed 's|^</body>|<script>document.title = "high " +\
	Math.ceil(document.getElementById("main").getBoundingClientRect()\
	.bottom)</script>&|' >"$scratch/page.html"
height=$(browse --window-size=1200,900 --dump-dom |
	sed -n 's/.*<title>high \([0-9]*\).*/\1/p')
browse --window-size=1200,"$height" --force-device-scale-factor=1.5 \
	--screenshot="$scratch/picture.png"
pngquant --speed 1 --strip --output "$scratch/small.png" 128 \
	"$scratch/picture.png"
mv "$scratch/small.png" "$picture"
ls -l "$picture"
