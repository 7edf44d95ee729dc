#!/usr/bin/env bash
# Open MPI's mpirun over four network namespaces: it starts the ranks, and we
# find each other.
. "${srcdir:-.}/tests/e2e/lib.sh"
. "${srcdir:-.}/tests/hosts/lib.sh"

command -v mpirun >/dev/null ||
	skip_all "no mpirun (openmpi-bin is not installed)"
mpirun --version 2>/dev/null | grep -q "Open MPI" ||
	skip_all "this mpirun is not Open MPI's"
need_root
make_hosts
make_reference
make_key "$scratch/key"
cd "$scratch" || exit 1
plan 9

export STAGECOACH_NAMESPACE=$namespace
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
# mpirun NAME HOSTS [ARGUMENT...]: from hosta.
mpi() {
	local run=$1 list=$2
	shift 2
	on hosta mpirun --mca plm_rsh_agent \
		"$source_folder/tests/hosts/remote-shell" \
		--mca oob_tcp_if_include eth0 --bind-to none \
		--host "$list" -np 4 -x STAGECOACH_NAMESPACE -wdir "$scratch" \
		"$stagecoach" train "${model[@]}" --out "$run" --key-file key \
		"$@" >"$run.log" 2>&1
}

mpi even hosta:1,hostb:1,hostc:1,hostd:1
same "mpirun: status" 0 $?
same_weights "mpirun: the weights of one stage" even even.log
in_log "mpirun: one line a rank" \
	"rank 3: stage 3, host hostd (10.77.0.4), by mpirun (Open MPI)" even.log
mpi uneven hostb:3,hosta:1
same_weights "mpirun: 3 ranks and 1" uneven uneven.log
mpi told hosta:2,hostb:2 --coordinator hosta:29500
same_weights "mpirun: with a coordinator" told told.log
mpi wrong hosta:2,hostb:2 --stages 3
same "mpirun: a wrong number of stages" 2 $?

mpi killed hosta:1,hostb:1,hostc:1,hostd:1 --steps 1000000 &
pid=$!
for i in $(seq 150); do
	grep -q '"step":' killed/metrics.jsonl 2>/dev/null && break
	sleep 0.1
done
# The launcher's own rendezvous was used; nothing was left to find.
same "mpirun: ranks find each other by PMIx" "" \
	"$(ls -A | grep '^.stagecoach' || true)"
kill -9 "$(ip netns pids "$namespace-hostc" | while read -r one; do
	grep -lz -- --control-fd "/proc/$one/cmdline"; done | tr -dc '0-9\n')"
wait "$pid"
same "mpirun: a rank is killed: status" 1 $?
pid=
in_log "mpirun: a rank is killed: which" \
	"rank 2 (pid [0-9]* on hostc) was killed by signal 9" killed.log

finish
