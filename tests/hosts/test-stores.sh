#!/usr/bin/env bash
# Hosts that share no files: what a run leaves on the host where it was started
# is, file by file, what a run of one stage leaves there. Four network
# namespaces are the hosts; on all but the first, the folder with the data, the
# model and the run is empty.
. "${srcdir:-.}/tests/e2e/lib.sh"
. "${srcdir:-.}/tests/hosts/lib.sh"

need_root
unshare --mount true 2>/dev/null || skip_all "no mount namespaces here"
make_hosts
make_reference
cd "$scratch" || exit 1
export STAGECOACH_NAMESPACE=$namespace STAGECOACH_HIDDEN=$scratch
shell=blind-shell

several() { # HOSTS COMMAND OPTIONS...: on hosta and others, output to $out
	local list=$1
	shift
	on hosta "$stagecoach" "$@" --hosts "$list" \
		--ssh "$source_folder/tests/hosts/$shell" >"$out" 2>"$log"
}
out=$scratch/out
log=$scratch/log

# Name and SHA-256 of every file but those that tell options and times.
files() {
	(cd "$1" && find . -type f ! -name run.json ! -name metrics.jsonl \
		! -name history.jsonl \
		! -name schedule.csv -print0 | sort -z | xargs -0 sha256sum)
}

same_files() { # NAME RUN [WANTED]
	local got
	got=$(files "$2" 2>&1)
	same "$1" "$(files "${3-one}")" "$got"
	[ "$(files "${3-one}")" = "$got" ] || sed 's/^/#   /' "$log"
}

several hosta,hostb,hostc,hostd train "${model[@]}" --out four
same_files "a host a stage: the files of one stage" four
in_log "whom rank 0 writes for" "rank 0 writes .* for ranks 1-3" "$log"
several hosta:2,hostb:1,hostc:1 train "${model[@]}" --out uneven
same_files "two here, two elsewhere" uneven
in_log "one that is here writes itself" "rank 0 writes .* for ranks 2-3" "$log"
shell=remote-shell
several hosta,hostb,hostc train "${model[@]}" --out shared
same_files "hosts that do share files" shared
same "each writes itself" "" "$(grep "rank 0 writes" "$log")"
shell=blind-shell

# A schedule that only the first host has, stopped and gone on elsewhere.
cat >rows.csv <<'CSV'
0F0,0F1,0F2,0B0,0F3,0B1,0B2,0B3
1F0,1B0,1F1,1B1,1F2,1B2,1F3,1B3
CSV
several hosta,hostb train "${model[@]}" --out resumed --schedule rows.csv \
	--steps 2 --decay-steps 3
several hosta,hostb,hostc,hostd train --resume resumed --steps 3 \
	--schedule 1f1b
in_log "a checkpoint is read for ranks 1 to 3" \
	"rank 0 reads .*step-00000002 for ranks 1-3" "$log"
rm -r resumed/checkpoints/step-00000002
same_files "a schedule file, and resumed on more hosts" resumed

several hosta,hostb,hostc eval --model one/model --data data --samples 8
"$stagecoach" eval --model one/model --data data --samples 8 >eval.one 2>&1
same "eval: the same loss" "$(tail -n 1 eval.one)" "$(cat "$out")"
several hosta,hostb generate --model one/model --prompt int --tokens 9
"$stagecoach" generate --model one/model --prompt int --tokens 9 \
	>generate.one 2>/dev/null
same "generate: the same text" "$(cat generate.one)" "$(cat "$out")"
several hosta,hostb,hostc train --model one/model --data data --out tuned \
	--context 32 --steps 1 --costs operations
"$stagecoach" train --model one/model --data data --out tuned-one \
	--context 32 --steps 1 --costs operations >/dev/null 2>&1
same_files "train from a model" tuned tuned-one

# Rank 0 elsewhere: it has no run to write to.
several hostb,hostc train "${model[@]}" --out elsewhere
same "rank 0 on another host: status 1" 1 $?
in_log "and why" "start rank 0 on the host of this command" "$log"

# The model's folder is another one on hostb, though --store shared says that it
# is not: one byte differs, and that where a sample of the file finds it, or where
# only what both ranks hold tells (the embedding, which the head has, too).
"$stagecoach" train --data data --out wide --layers 2 --width 128 --heads 2 \
	--context 32 --steps 1 --eval-samples 0 >"$log" 2>&1
export STAGECOACH_HIDDEN=$scratch/wide/model
export STAGECOACH_INSTEAD=$scratch/theirs
size=$(stat -c %s wide/model/model.safetensors)
differ() { # NAME WORDS OFFSET
	rm -rf theirs mixed
	cp -r wide/model theirs
	printf '\177' | dd of=theirs/model.safetensors bs=1 seek="$3" \
		conv=notrunc 2>/dev/null
	several hosta,hostb train --model wide/model --data data --out mixed \
		--context 32 --steps 1 --store shared
	same "$1: status 1" 1 $?
	in_log "$1: who, and where" "$2" "$log"
	check "$1: nothing is left behind" test ! -e mixed
}
differ "other weights, in the sample" \
	"rank 1 on hostb has other weights in .*/wide/model than rank 0 on hosta" \
	$((size - 20))
differ "other weights, beside it" \
	"rank 1 .position 1, on hostb. has other weights than rank 0 .*first in transformer.wte.weight" \
	$((size - 65536 - 1000))

echo "1..$cases"
finish
