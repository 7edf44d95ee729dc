#!/usr/bin/env bash
# docs/FINE-TUNING.md as it stands: its commands run, and the models that they
# train answer what the page says.
. "${srcdir:-.}/tests/e2e/lib.sh"

page=$source_folder/docs/FINE-TUNING.md

# block KIND N: the page's N-th block of that kind.
block() {
	awk -v kind='```'"$1" -v wanted="$2" '
		inside && /^```/ { inside = 0 }
		inside && count == wanted
		$0 == kind { inside = 1; count++ }' "$page"
}

mkdir "$scratch/work"
cd "$scratch/work" || exit 1

# The page's stagecoach: what is generated is kept.
cat >"$scratch/functions" <<EOF2
stagecoach() {
	if [ "\$1" = generate ]; then
		"$stagecoach" "\$@" >>answer
	else
		"$stagecoach" "\$@"
	fi
}
set -eu
EOF2

n=0
for name in translation summaries questions sentiment; do
	n=$((n + 1))
	rm -f answer
	block sh $n >"$scratch/block"
	cat "$scratch/functions" "$scratch/block" >"$scratch/script"
	check "$name: the commands run" bash "$scratch/script"
	same "$name: the model answers" "$(block answer $n)" \
		"$(cat answer 2>/dev/null)"
done
same "the page has no other commands" "" "$(block sh 5)"
plan $cases
finish
