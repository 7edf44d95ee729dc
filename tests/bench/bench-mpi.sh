#!/usr/bin/env bash
# bench-mpi.sh [ROUNDS]: messages by Open MPI beside the same messages by
# `stagecoach bench transport`, spinning, as Open MPI always does: tcp beside
# its tcp, and what shares memory beside its vader. All in turn, round by round;
# Open MPI runs twice a round, as a control. Prints medians and ratios.
. "${srcdir:-.}/tests/e2e/lib.sh"
rounds=${1:-9}
milliseconds=15
mpicc=${MPICC:-mpicc}
echo '#include <mpi.h>' >"$scratch/probe.c"
command -v mpirun >/dev/null && $mpicc -c -o "$scratch/probe.o" "$scratch/probe.c" 2>/dev/null ||
	{ echo "bench-mpi.sh: needs mpicc and mpirun (Debian: libopenmpi-dev openmpi-bin)"; exit 0; }
$mpicc -O2 -o "$scratch/mpi-messages" "$srcdir/tests/bench/mpi-messages.c" || exit 1
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1

mpi() { # BTL TEST BYTES
	mpirun -np 2 --oversubscribe --bind-to none --mca pml ob1 \
		--mca btl "$1,self" --mca btl_tcp_if_include lo \
		"$scratch/mpi-messages" "$2" "$3" $milliseconds 2>"$scratch/mpi.log" ||
		{ cat "$scratch/mpi.log" >&2; exit 1; }
}

ours() { # TRANSPORT NAME TEST BYTES
	"$stagecoach" bench transport --transport "$1" --test "$3" \
		--sizes "$4" --waiting spinning --checksum off --rounds 1 \
		--milliseconds $milliseconds --json 2>"$scratch/log" |
		grep "\"name\":\"$2\"" |
		sed -n 's/.*"\(median_us\|gb_per_second\)":\([^,}]*\).*/\2/p'
}

median() {
	sort -g | awk '{ v[NR] = $1 } END { if (NR) print NR % 2 ? v[(NR + 1) / 2] : (v[NR / 2] + v[NR / 2 + 1]) / 2 }'
}

row() { # BTL TEST BYTES TRANSPORT NAME
	local round
	rm -f "$scratch"/{theirs,again,ours}
	for round in $(seq "$rounds"); do
		mpi "$1" "$2" "$3" >>"$scratch/theirs"
		ours "$4" "$5" "$2" "$3" >>"$scratch/ours"
		mpi "$1" "$2" "$3" >>"$scratch/again"
	done
	paste "$scratch/theirs" "$scratch/ours" | awk '{ print $2 / $1 }' | median >"$scratch/ratio"
	paste "$scratch/theirs" "$scratch/again" | awk '{ print $2 / $1 }' | median >"$scratch/control"
	printf '%-9s %-10s %8s  %10.3f  %10.3f  %6.2f  %7.2f\n' "$2" "$5" "$3" \
		"$(median <"$scratch/theirs")" "$(median <"$scratch/ours")" \
		"$(cat "$scratch/ratio")" "$(cat "$scratch/control")"
}

echo "latency in us, else GB/s; medians of $rounds rounds; ratio: ours by theirs"
printf '%-9s %-10s %8s  %10s  %10s  %6s  %7s\n' test ours bytes "Open MPI" ours ratio control
for bytes in 8 4096 65536; do
	row tcp latency $bytes tcp/uring tcp/uring
done
for bytes in 262144 1048576 4194304; do
	row tcp bandwidth $bytes tcp/uring tcp/uring
done
# Where memory is shared: shm if it is there, else threads.
memory=inproc
"$stagecoach" bench transport --transport shm --test latency --sizes 8 \
	--rounds 1 --milliseconds 1 --waiting spinning >/dev/null 2>&1 && memory=shm
for bytes in 8 65536; do
	row vader latency $bytes $memory $memory
done
row vader produce 1048576 $memory $memory
row vader produce 1048576 $memory "in place"
