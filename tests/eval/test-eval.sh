#!/usr/bin/env bash
# `eval` of texts and of multiple choice, against what transformers says of tiny
# models (make-golden.py), the same in any number of stages; and what is refused.
. "${srcdir:-.}/tests/e2e/lib.sh"

folder=$source_folder/tests/eval
text=$folder/text.txt
choices=$folder/choices.jsonl

evaluate() { # MODEL OPTIONS...
	local model=$1
	shift
	"$stagecoach" eval --model "$folder/$model" --no-pin --threads 1 --json \
		"$@" 2>"$scratch/log" || cat "$scratch/log"
}

value() { # KEY JSON
	grep -o "\"$1\": *[^,}]*" <<<"$2" | sed 's/.*: *//'
}

# near WANTED GOT: numbers, one by one, within 1e-6 of each other.
near() {
	awk -v wanted="$1" -v got="$2" 'BEGIN {
		n = split(wanted, w, " "); m = split(got, g, " ")
		if (n != m || !n) exit 1
		for (i = 1; i <= n; i++) {
			d = w[i] - g[i]; if (d < 0) d = -d
			s = w[i] < 0 ? -w[i] : w[i]
			if (!(d <= 1e-6 * s)) exit 1
		}
	}'
}

close() { # NAME WANTED GOT
	if near "$2" "$3"; then
		pass "$1"
	else
		fail "$1"
		note "wanted: $2"
		note "got:    $3"
	fi
}

# ---- texts ----

while read -r model windows context stride loss tokens bytes; do
	case="$model, $windows windows of $context, stride $stride"
	shape=(--text "$text" --windows "$windows" --context "$context"
		--stride "$stride")
	one=$(evaluate "$model" "${shape[@]}")
	bits=$(awk -v l="$loss" -v t="$tokens" -v b="$bytes" \
		'BEGIN { printf "%.12g", l * t / b / log(2) }')
	close "$case: loss, bits, tokens, bytes" "$loss $bits $tokens $bytes" \
		"$(value loss "$one") $(value bits_per_byte "$one") $(value tokens "$one") $(value bytes "$one")"
	same "$case: the same in 2 stages" "$one" \
		"$(evaluate "$model" "${shape[@]}" --stages 2)"
	same "$case: the same in 3 stages" "$one" \
		"$(evaluate "$model" "${shape[@]}" --stages 3 --transport tcp)"
done <"$folder/golden-texts.txt"

one=$(evaluate gpt2 --text "$text" --context 48 --stride 13)
other=$(evaluate gpt2 --text "$text" --context 48 --stride 13 \
	--micro-batches 3 --micro-batch-size 5)
close "batches of another size" "$(value loss "$one")" "$(value loss "$other")"
other=$(evaluate llama --text "$text" --context 48 --stride 13 --tensor 2)
one=$(evaluate llama --text "$text" --context 48 --stride 13)
close "shared layers" "$(value loss "$one")" "$(value loss "$other")"
if near "$(value loss "$one")" \
	"$(value loss "$(evaluate llama --text "$text" --context 48 --stride 12)")"
then
	fail "another stride is noticed"
else
	pass "another stride is noticed"
fi

# ---- multiple choice ----

# What --details wrote, in the form of golden-choices.txt.
details() { # MODEL DELIMITER BOS
	sed "s/^/$1 $2 $3 /; s/{\"line\"://; s/,\"answer\":/ /;
		s/,\"choice\":/ /; s/,\"choice_norm\":/ /;
		s/,\"log_likelihoods\":\[/ /; s/\]}//; s/,/ /g" "$scratch/details"
}

share() { # COLUMN, of $wanted: answers that are the one of that column
	awk -v c="$1" '{ n++; r += $5 == $c } END { printf "%.9g", r / n }' \
		<<<"$wanted"
}

for model in gpt2 llama; do
	for delimiter in none space; do
		for bos in 0 1; do
			case="$model, delimiter $delimiter, bos $bos"
			shape=(--choices "$choices" --details "$scratch/details")
			[ $delimiter = none ] || shape+=(--delimiter " ")
			[ $bos = 0 ] || shape+=(--bos)
			wanted=$(grep "^$model $delimiter $bos " \
				"$folder/golden-choices.txt")
			one=$(evaluate $model "${shape[@]}")
			cp "$scratch/details" "$scratch/one"
			got=$(details $model $delimiter $bos)
			same "$case: what is chosen" \
				"$(cut -d' ' -f1-7 <<<"$wanted")" \
				"$(cut -d' ' -f1-7 <<<"$got")"
			close "$case: log-likelihoods" \
				"$(cut -d' ' -f8- <<<"$wanted" | tr '\n' ' ')" \
				"$(cut -d' ' -f8- <<<"$got" | tr '\n' ' ')"
			close "$case: accuracy" "$(share 6) $(share 7)" \
				"$(value acc "$one") $(value acc_norm "$one")"
			for stages in 2 3; do
				same "$case: the same in $stages stages" "$one" \
					"$(evaluate $model "${shape[@]}" \
						--stages $stages)"
				check "$case: and its details" \
					cmp "$scratch/details" "$scratch/one"
			done
		done
	done
done

# ---- a corpus: bits per byte ----

"$stagecoach" prepare --text "$text" --out "$scratch/data" --val 0 --tokenizer \
	"$folder/gpt2/tokenizer.json" >"$scratch/log" 2>&1
one=$(evaluate gpt2 --data "$scratch/data" --on train --context 1)
same "a corpus's bytes: those of the text but its first token, The" 407 \
	"$(value bytes "$one")"

# ---- what is refused ----

refuse() { # NAME PATTERN OPTIONS...
	local name=$1 pattern=$2 status=0
	shift 2
	"$stagecoach" eval --model "$folder/gpt2" --json "$@" \
		>"$scratch/out" 2>"$scratch/log" || status=$?
	if [ $status = 2 ] && grep -q -- "$pattern" "$scratch/log" &&
		[ ! -s "$scratch/out" ]; then
		pass "$name"
	else
		fail "$name"
		note "status $status: $(cat "$scratch/log" "$scratch/out")"
	fi
}

bad_line() { # PATTERN LINE: behind a sound one
	printf '{"prompt":"a","choices":[" b"," c"],"answer":1}\n\n%s\n' "$2" \
		>"$scratch/bad.jsonl"
	refuse "refused: $(cut -c 1-70 <<<"$2")" "bad.jsonl: line 3: .*$1" \
		--choices "$scratch/bad.jsonl"
}

bad_line "not JSON" '{"prompt":"a","choices":[" b"," c"],"answer":1'
bad_line "not JSON: .*uplicate" '{"prompt":"a","prompt":"b","choices":[" b"," c"],"answer":1}'
bad_line "expected a JSON object" '["a","b"]'
bad_line "'prompt' is missing" '{"choices":["b","c"],"answer":1}'
bad_line "'prompt' is an integer" '{"prompt":1,"choices":["b","c"],"answer":1}'
bad_line "'choices' is missing" '{"prompt":"a","answer":1}'
bad_line "'choices' has 1 texts" '{"prompt":"a","choices":[" b"],"answer":0}'
bad_line "choice 1 is no text" '{"prompt":"a","choices":[" b",[" c"]],"answer":0}'
bad_line "'answer' is 2, expected 0 to 1" '{"prompt":"a","choices":[" b"," c"],"answer":2}'
bad_line "'answer' is -1" '{"prompt":"a","choices":[" b"," c"],"answer":-1}'
bad_line "'answer' is a real number" '{"prompt":"a","choices":[" b"," c"],"answer":1.0}'
bad_line "not JSON" '{"prompt":"a","choices":[" b"," c"],"answer":1e999}'
bad_line "not JSON" '{"prompt":"a","choices":[" b"," c"],"answer":99999999999999999999}'
bad_line "'answer' is none of the 2" '{"prompt":"a","choices":[" b"," c"],"answer":"C"}'
bad_line "'answer' is choice 0 as well as 1" '{"prompt":"a","choices":[" b"," b"],"answer":" b"}'
bad_line "adds no token" '{"prompt":"a","choices":[" b",""],"answer":0}'
bad_line "choice 0 has 60 tokens, .* positions for 48" \
	"{\"prompt\":\"a\",\"choices\":[\"$(printf 'q%.0s' {1..60})\",\"b\"],\"answer\":0}"
bad_line "not JSON: .*depth" "$(printf '[%.0s' {1..5000})"
bad_line "texts; it takes 1024 at most" \
	"{\"prompt\":\"a\",\"choices\":[\"a\"$(printf ',"b"%.0s' {1..2000})],\"answer\":0}"
bad_line "the longest may have 1048576" "$(head -c 1100000 /dev/zero | tr '\0' x)"

printf '\n \n' >"$scratch/bad.jsonl"
refuse "a file without a question" "bad.jsonl: no question in it" \
	--choices "$scratch/bad.jsonl"
printf 'sound\xff\xfe' >"$scratch/bad.txt"
refuse "a text that is not UTF-8" "bad.txt: not UTF-8 at byte 5" \
	--text "$scratch/bad.txt"
: >"$scratch/bad.txt"
refuse "an empty text" "bad.txt: the text has 1 tokens" --text "$scratch/bad.txt"
refuse "two sources" "one of --data DIR, --text FILE, --choices FILE" \
	--text "$text" --choices "$choices"
refuse "a stride longer than the window" "a stride of 49" --text "$text" \
	--stride 49
refuse "options of another source" "go with --text" --choices "$choices" \
	--stride 4
refuse "another model's tokenizer" "is not in the model's vocabulary of" \
	--text "$text" --tokenizer "$folder/llama/tokenizer.json"

echo "1..$cases"
finish
