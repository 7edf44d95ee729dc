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
echo "1..$(($# + 10))"
for corpus in "$@"; do
	name=$(basename "$corpus")
	dict=
	[ -f "$sources/$name.dict" ] && dict="--dict $sources/$name.dict"
	"$programs/fuzz-$name" --runs "$runs" --seconds 25 $dict --keep "$here" \
		"$corpus" >"$here/out" 2>&1
	result $? "$name: $(tail -1 "$here/out")"
done

# Large files of values that are small: eight MiB that JSON makes many times as
# large. The targets measure what reading them takes.
mebibytes() { # COUNT TEXT: that many MiB of it
	yes "$2" | tr -d '\n' | head -c $(($1 << 20))
}

number_of_bytes() { # FILE, as the length of a safetensors header
	size=$(($(wc -c <"$1")))
	for shift in 0 8 16 24 32 40 48 56; do
		printf "\\$(printf %03o $((size >> shift & 255)))"
	done
}

# wrap NAME BEFORE TEXT AFTER: writes $here/big/NAME
wrap() {
	{
		printf %s "$2"
		mebibytes 8 "$3"
		printf %s "$4"
	} >"$here/big/$1"
}

large() { # NAME FILE...
	name=$1
	shift
	"$programs/fuzz-$name" --runs 0 --keep "$here" "$@" >"$here/out" 2>&1
	result $? "$name: memory for large files is bounded"
	rm -f "$here/big"/*
}

mkdir "$here/big"
for pair in 'lists [], []' 'objects {}, {}' 'numbers 0, 0' 'words "", ""'; do
	set -- $pair
	wrap "$1" '{"model_type":"gpt2","x":[' "$2" "$3]}"
done
large hf-config "$here/big"
for pair in 'lists [], []' 'objects {}, {}' 'numbers 0, 0' 'words "", ""'; do
	set -- $pair
	wrap "$1" '{"weight_map":{"x":[' "$2" "$3]}}"
done
large safetensors-index "$here/big"
for pair in 'lists [], []' 'numbers 0, 0'; do
	set -- $pair
	wrap "header" '{"w":{"dtype":"U8","shape":[' "$2" "$3],\"data_offsets\":[0,0]}}"
	{
		number_of_bytes "$here/big/header"
		cat "$here/big/header"
	} >"$here/big/$1"
done
rm "$here/big/header"
large safetensors "$here/big"
for pair in 'lists [], []' 'objects {}, {}' 'numbers 0, 0' 'merges "a_b", "a_b"'; do
	set -- $(echo "$pair" | tr _ ' ' | sed 's/"a b"/"a\\u0020b"/g')
	for key in merges vocab x; do
		wrap "$1-$key" '{"model":{"type":"BPE","vocab":{"a":0,"b":1,"ab":2},"'$key'":[' \
			"$2" "$3]}}"
		wrap "$1-$key-unigram" '{"model":{"type":"Unigram","'$key'":[' \
			"$2" "$3]}}"
	done
done
wrap pieces '{"model":{"type":"Unigram","vocab":[' '["",0],' '["",0]]}}'
large tokenizer "$here/big"
wrap line '{"prompt":"a","choices":[' '[],' '"b"],"answer":0}'
for text in '[],' '{},' '0,' '"b",'; do
	{
		printf '{"prompt":"a","choices":['
		yes "$text" | tr -d '\n' | head -c 1040000
		printf '"b"],"answer":0}'
	} >"$here/big/$text"
done
yes '{"prompt":"a","choices":["b","c"],"answer":0}' | head -c 8388600 \
	>"$here/big/questions"
{
	printf '{"prompt":"'
	yes x | tr -d '\n' | head -c 1000000
	echo '","choices":["b","c"],"answer":0}'
} >"$here/big/prompt"
cat "$here/big/prompt" "$here/big/prompt" "$here/big/prompt" "$here/big/prompt" \
	>"$here/big/prompts"
large choices "$here/big"

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
