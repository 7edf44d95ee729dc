#!/usr/bin/env bash
# bench-load.sh [ROUNDS]: loading a bfloat16 model of 1.1 billion parameters into two
# stages, against reading its bytes with cat, from the same state of the page cache:
# cat and load take turns, warm, and cold where the cache may be emptied. Then what
# anonymous and shared memory each rank had at most, against its share of the weights.
# MODEL=FOLDER keeps the model; LAYERS makes it smaller. 2.2 GB of disk, 5 GB of memory.
. "${srcdir:-.}/tests/e2e/lib.sh"
rounds=${1:-3}
model=${MODEL:-$scratch/model}
kinds=${KINDS:-warm cold}

[ -f "$model/model.safetensors" ] ||
	"$builddir/tests/bench/make-model" "$model" "${LAYERS:-16}" || exit 1
printf 'one two' >"$scratch/text"

# Only this file's pages.
cool() {
	sync "$model/model.safetensors"
	dd of="$model/model.safetensors" oflag=nocache conv=notrunc,fdatasync \
		count=0 status=none 2>/dev/null
}

seconds_of_cat() {
	local begin end
	begin=$(date +%s%N)
	cat "$model"/*.safetensors >/dev/null
	end=$(date +%s%N)
	echo "$begin $end" | awk '{ printf "%.3f\n", ($2 - $1) / 1e9 }'
}

# Maxima of the rank processes, in kB, until the command has ended.
watch() { # PID
	local child
	while kill -0 "$1" 2>/dev/null; do
		for child in $(children "$1"); do
			awk -v pid="$child" '/^RssAnon|^RssShmem/ { sum += $2 }
				END { if (sum) print pid, sum }' \
				"/proc/$child/status" 2>/dev/null
		done
		sleep 0.02
	done | awk '{ if ($2 > most[$1]) most[$1] = $2 }
		END { for (p in most) print most[p] }'
}

load() { # OPTIONS...
	"$stagecoach" eval --model "$model" --text "$scratch/text" --stages 2 \
		--split "${SPLIT:-8,8}" "$@" >"$scratch/out" 2>"$scratch/log" || {
		cat "$scratch/log" >&2
		exit 1
	}
	sed -n 's/.*weights: .* in \([0-9.]*\) s.*/\1/p' "$scratch/log"
}

median() {
	sort -n | awk '{ v[NR] = $1 } END { print NR % 2 ? v[(NR + 1) / 2] : (v[NR / 2] + v[NR / 2 + 1]) / 2 }'
}

for kind in $kinds; do
	cat "$model"/*.safetensors >/dev/null
	for round in $(seq "$rounds"); do
		[ "$kind" = warm ] || cool
		seconds_of_cat >>"$scratch/$kind.cat"
		[ "$kind" = warm ] || cool
		load >>"$scratch/$kind.load"
		echo "$kind, round $round: cat $(tail -1 "$scratch/$kind.cat") s, load $(tail -1 "$scratch/$kind.load") s"
	done
	awk -v kind="$kind" -v cat="$(median <"$scratch/$kind.cat")" \
		-v load="$(median <"$scratch/$kind.load")" 'BEGIN {
		printf "%s: cat %.2f s, load %.2f s, %.2f of it\n", kind, cat, load, load / cat }'
done

"$stagecoach" eval --model "$model" --text "$scratch/text" --stages 2 \
	--split "${SPLIT:-8,8}" >"$scratch/out" 2>"$scratch/log" &
pid=$!
watch "$pid" | sort -n >"$scratch/memory"
wait "$pid"
pid=
"$stagecoach" plan --model "$model" --stages 2 --split "${SPLIT:-8,8}" \
	--context 8 --costs operations --json >"$scratch/plan" 2>/dev/null
shares=$(tr -d ' \n' <"$scratch/plan" | grep -o '"parameters":[0-9]*' |
	cut -d: -f2 | tail -2 | sort -n)
paste -d' ' "$scratch/memory" - <<<"$shares" | awk '{
	printf "a rank: %.0f MB of weights, at most %.0f MB of memory, %.3f of it\n",
		$2 * 4 / 1e6, $1 * 1.024 / 1e3, $1 * 1024 / ($2 * 4) }'
