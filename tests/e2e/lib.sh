# What the end-to-end tests share: TAP, a scratch folder, small corpora.
# Sourced by bash scripts; $srcdir and $builddir come from the makefile.

set -u
srcdir=${srcdir:-.}
builddir=${builddir:-.}
stagecoach=${STAGECOACH:-$builddir/stagecoach}
case $stagecoach in
/*) ;;
*) stagecoach=$PWD/$stagecoach ;;
esac
source_folder=$(cd "$srcdir" && pwd)
scratch=$(mktemp -d "${TMPDIR:-/tmp}/stagecoach-test.XXXXXX")
pid= # of a program a test has left in the background
trap '[ -z "$pid" ] || kill -9 "$pid" 2>/dev/null; rm -rf "$scratch"' EXIT
cases=0
failures=0

plan() {
	echo "1..$1"
}

skip_all() {
	echo "1..0 # SKIP $*"
	exit 0
}

pass() {
	cases=$((cases + 1))
	echo "ok $cases - $*"
}

fail() {
	cases=$((cases + 1))
	failures=$((failures + 1))
	echo "not ok $cases - $*"
}

note() {
	sed 's/^/# /' <<<"$*"
}

# check NAME COMMAND...: passes when the command does.
check() {
	local name=$1
	shift
	if "$@" >"$scratch/check.log" 2>&1; then
		pass "$name"
	else
		fail "$name"
		sed 's/^/#   /' "$scratch/check.log"
	fi
}

same() { # NAME WANTED GOT
	if [ "$2" = "$3" ]; then
		pass "$1"
	else
		fail "$1"
		note "wanted: $2"
		note "got:    $3"
	fi
}

finish() {
	[ $cases -gt 0 ] || { echo "1..0 # SKIP nothing was tested"; exit 1; }
	[ $failures -eq 0 ]
}

sha256() {
	sha256sum "$1" | cut -d' ' -f1
}

# The loss of every step, one a line, as metrics.jsonl has them.
losses() {
	grep -o '"loss":[^,]*' "$1/metrics.jsonl"
}

# The text of this program: some 100 KB that every checkout has.
make_text() {
	cat "$source_folder"/base/*.h "$source_folder"/engine/*.h >"$1"
}

# The children of a process that live (zombies are dead), a pid a line.
children() {
	awk -v parent="$1" '
		FNR == 1 { state = "" }
		/^State:/ { state = $2 }
		/^Pid:/ { pid = $2 }
		/^PPid:/ { if ($2 == parent && state != "Z") print pid }
	' /proc/[0-9]*/status 2>/dev/null
}
