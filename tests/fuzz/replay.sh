#!/bin/sh
# Every fuzz target over its corpus, and over a fixed number of inputs mutated
# from it; then the driver itself on a target with a planted defect. 'make fuzz'
# runs many more.
programs=${builddir:-.}/tests/fuzz
sources=${srcdir:-.}/tests/fuzz
runs=${FUZZ_REPLAY_RUNS:-400000}
here=$(mktemp -d) || exit 99
trap 'rm -rf "$here"' EXIT
ulimit -c 0
number=0
failed=0

# result STATUS DESCRIPTION: with the output of what failed
result() {
	number=$((number + 1))
	if [ "$1" -eq 0 ]; then
		echo "ok $number - $2"
	else
		echo "not ok $number - $2"
		sed 's/^/# /' "$here/out"
		failed=1
	fi
}

if grep -q LLVMFuzzerRunDriver "$programs/fuzz-planted" 2>/dev/null; then
	echo "1..0 # SKIP built for libFuzzer: 'make fuzz' runs it"
	exit 0
fi
set -- "$sources"/corpus/*
echo "1..$(($# + 5))"
for corpus in "$@"; do
	name=$(basename "$corpus")
	dict=
	[ -f "$sources/$name.dict" ] && dict="--dict $sources/$name.dict"
	"$programs/fuzz-$name" --runs "$runs" --seconds 25 $dict --keep "$here" \
		"$corpus" >"$here/out" 2>&1
	result $? "$name: $(tail -1 "$here/out")"
done

mkdir "$here/seeds" "$here/one" "$here/two"
printf 'a plant, a tree!' >"$here/seeds/seed"

# planted FOLDER ARGUMENT...: sets $status, and $kept to the path it told
planted() {
	folder=$1
	shift
	("$programs/fuzz-planted" --keep "$folder" "$@") >"$here/out" 2>&1
	status=$?
	kept=$(sed -n '/^the input that failed is kept:$/{n;p;}' "$here/out")
}

planted "$here/one" --runs 1000000 "$here/seeds"
first=$kept
[ $status -ne 0 ] && grep -q 'false: size < 6' "$here/out"
result $? "the driver finds a planted defect"
[ -f "$first" ] && [ "$(head -c 6 "$first")" = 'plant!' ]
result $? "and keeps the input"
planted "$here/two" --runs 1000000 "$here/seeds"
[ -f "$kept" ] && cmp "$first" "$kept" >>"$here/out" 2>&1
result $? "and finds the same when run again"
planted "$here/two" "$first"
[ $status -ne 0 ]
result $? "and the input alone fails again"
planted "$here/two" --runs 10 "$here/seeds"
[ $status -eq 0 ] && grep -q '1 inputs of the corpus and 10 mutated' "$here/out"
result $? "and without a defect it ends well"
exit $failed
