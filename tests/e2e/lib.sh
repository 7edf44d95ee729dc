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

# The children of a process that live (zombies are dead), a pid a line. Not by
# looking at all of /proc: what ends meanwhile would end the look.
children() {
	local child state
	for child in $(cat "/proc/$1/task/"*/children 2>/dev/null); do
		state=
		{ read -r state <"/proc/$child/stat"; } 2>/dev/null
		state=${state##*) }
		[[ -n $state && $state != Z* ]] && echo "$child"
	done
}

# How to run a command in a network of its own, where links can be cut; empty,
# with $reason, where that is not possible.
network=
find_network() {
	local way tool
	PATH=$PATH:/usr/sbin:/sbin # for users who are not root
	for tool in unshare ip nft ss; do
		command -v $tool >/dev/null || { reason="no $tool here"; return; }
	done
	for way in "unshare --net" "unshare --map-root-user --net"; do
		if $way sh -c 'ip link set lo up && nft add table inet x' \
			>/dev/null 2>&1; then
			network=$way
			return
		fi
	done
	reason="no network namespace with nft may be made"
}

# trials KIND COUNT LIMIT_MS JOBS: so many at once; writes $scratch/KIND.ms, one
# time a line, and $scratch/KIND.bad, why others failed or took too long.
trials() {
	local kind=$1 count=$2 limit=$3 jobs=$4 trial how=
	[[ $kind != cut* ]] || how=$network
	: >"$scratch/$kind.ms"
	: >"$scratch/$kind.bad"
	export stagecoach
	for trial in $(seq "$count"); do
		while [ "$(jobs -pr | wc -l)" -ge "$jobs" ]; do
			wait -n
		done
		(
			folder=$scratch/$kind.$trial
			$how "$source_folder/tests/soak/liveness-trial.sh" \
				"$kind" "$scratch/data" "$folder" "$trial" \
				>"$scratch/$kind.$trial.result" 2>&1
			rm -rf "$folder"
		) &
	done
	wait
	for trial in $(seq "$count"); do
		read -r verdict rest <"$scratch/$kind.$trial.result"
		if [ "$verdict" = ok ]; then
			echo "$rest" >>"$scratch/$kind.ms"
			[ "$rest" -le "$limit" ] ||
				echo "trial $trial: $rest ms" >>"$scratch/$kind.bad"
		else
			echo "trial $trial: $(tail -1 "$scratch/$kind.$trial.result")" \
				>>"$scratch/$kind.bad"
		fi
	done
	sort -n -o "$scratch/$kind.ms" "$scratch/$kind.ms"
}

# percentile FILE P: of sorted numbers, the smallest that P % do not exceed.
percentile() {
	awk -v p="$2" '{ v[NR] = $1 }
		END { i = int((NR * p + 99) / 100); print v[i < 1 ? 1 : i] }' "$1"
}
