#!/usr/bin/env bash
# A real Slurm of two nodes on this machine: srun, sbatch, and how a job ends.
. "${srcdir:-.}/tests/e2e/lib.sh"
. "${srcdir:-.}/tests/hosts/lib.sh"

export PATH=$PATH:/usr/sbin:/sbin
for one in srun sbatch slurmctld slurmd munged; do
	command -v $one >/dev/null ||
		skip_all "no $one (slurm-wlm and munge are not installed)"
done
getent hosts "$(hostname -s)" >/dev/null ||
	skip_all "the name of this host does not resolve, which Slurm needs"
trap '"$source_folder/tests/hosts/slurm-down" "$scratch/slurm"; sleep 0.3; rm -rf "$scratch"' EXIT
chmod 711 "$scratch" # munged wants its socket within reach
"$source_folder/tests/hosts/slurm-up" "$scratch/slurm" 2 4 \
	$((16000 + $$ % 8000)) >"$scratch/slurm.env" 2>"$scratch/slurm.log" ||
	skip_all "Slurm does not start: $(tail -n 1 "$scratch/slurm.log")"
export "$(cat "$scratch/slurm.env")"
make_reference
cd "$scratch" || exit 1
plan 16

slurm() { # NAME [SRUN ARGUMENT...] -- [ARGUMENT...]
	local -a arguments=()
	name=$1
	shift
	while [ "$1" != -- ]; do
		arguments+=("$1")
		shift
	done
	shift
	srun -l "${arguments[@]}" "$stagecoach" train "${model[@]}" \
		--out "$name" "$@" >"$name.log" 2>&1
}

slurm even -N2 --ntasks-per-node=2 --
same "srun: status" 0 $?
same_weights "srun: the weights of one stage" even even.log
in_log "srun: the node's own name" "rank 2: stage 2, host n2 (127.0.0.1), by srun" \
	even.log
slurm uneven -N2 -n4 --
same_weights "srun: 3 ranks and 1" uneven uneven.log
slurm pmi2 -N2 -n4 --mpi=pmi2 --
same_weights "srun --mpi=pmi2" pmi2 pmi2.log
if srun -n1 --mpi=pmix true >pmix.log 2>&1; then
	slurm pmix -N2 -n4 --mpi=pmix --
	same_weights "srun --mpi=pmix" pmix pmix.log
else
	pass "srun --mpi=pmix # SKIP Slurm wants libpmix-dev for it"
fi
same "no rendezvous file is left" "" "$(ls -A | grep '^.stagecoach' || true)"

# Two steps of a job at once, each with its own rank 0 on one host.
cat >both.sh <<END
#!/bin/bash
for run in first second; do
	srun --exact -n2 $stagecoach train ${model[*]} --out \$run >\$run.log 2>&1 &
done
wait
END
sbatch -W -N1 -n4 -o both.log both.sh >sbatch.log 2>&1
same_weights "two steps at once: the first" first first.log
same_weights "two steps at once: the second" second second.log

# The script itself is no rank.
cat >forgotten.sh <<END
#!/bin/bash
$stagecoach train ${model[*]} --out forgotten
END
sbatch -W -N2 -n4 -o forgotten.log forgotten.sh >sbatch.log 2>&1
in_log "sbatch without srun: what to do" "not under srun" forgotten.log

wait_for_step() { # RUN
	local i
	for i in $(seq 150); do
		grep -q '"step":' "$1/metrics.jsonl" 2>/dev/null && return
		sleep 0.1
	done
}

# Without -K srun leaves the others running: they end by themselves.
slurm killed -N2 --ntasks-per-node=2 -- --steps 1000000 &
pid=$!
wait_for_step killed
victim=$(pgrep -f -- "^/proc/self/exe rank --control-fd|rank --control-fd" |
	while read -r one; do
		tr '\0' '\n' <"/proc/$one/environ" 2>/dev/null |
			grep -qx SLURM_PROCID=2 && echo "$one"
	done)
before=$(date +%s%N)
kill -9 $victim
wait "$pid"
same "a rank is killed: srun ends, and with 1" 1 $?
pid=
took=$((($(date +%s%N) - before) / 1000000))
check "a rank is killed: within 4 s ($took ms)" [ $took -lt 4000 ]
in_log "a rank is killed: which" "rank 2 (pid [0-9]* on n2) was killed" \
	killed.log

slurm cancelled -N2 --ntasks-per-node=2 --job-name=cancelled -- \
	--steps 1000000 &
pid=$!
wait_for_step cancelled
scancel --name=cancelled
wait "$pid"
pid=
check "scancel: there is a checkpoint" test -e cancelled/checkpoints/latest
step=$(basename "$(ls -d cancelled/checkpoints/step-* | tail -n 1)")
step=$((10#${step#step-} + 2))
srun -N1 -n2 "$stagecoach" train --resume cancelled --steps $step \
	>resumed.log 2>&1
same "resumed with two ranks: status" 0 $?
check "resumed with two ranks: a model" test -e cancelled/model/model.safetensors

finish
