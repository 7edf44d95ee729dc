/*
 * Where this process stands: its rank among how many, told by options or by
 * whatever started it.
 *
 * The sources, the first that tells wins:
 *   1 --rank, --world-size, --coordinator
 *   2 STAGECOACH_RANK, STAGECOACH_WORLD_SIZE, STAGECOACH_COORDINATOR
 *   3 RANK, WORLD_SIZE (torchrun and what imitates it)
 *   4 OMPI_COMM_WORLD_RANK ... (Open MPI)
 *   5 PMI_RANK, PMI_SIZE (MPICH, Intel MPI, srun --mpi=pmi2)
 *   6 PMIX_RANK, PMIX_NAMESPACE
 *   7 SLURM_STEP_ID, SLURM_PROCID ... (srun)
 *   8 JOB_COMPLETION_INDEX (a Kubernetes Indexed Job) with --world-size
 *   9 none: a process on its own, which starts its ranks itself
 * Slurm comes late because its variables are inherited by what others start
 * inside of its jobs. Two sources that contradict each other: a warning.
 *
 * A pure function of options and environment, but for the log.
 */
#ifndef STAGECOACH_ENGINE_PLACE_H
#define STAGECOACH_ENGINE_PLACE_H

#include "base/compiler.h"

#define PLACE_HOST_BYTES 256
#define PLACE_JOB_BYTES  160

enum place_source {
	PLACE_SINGLE,
	PLACE_FLAGS,
	PLACE_STAGECOACH,
	PLACE_TORCHRUN,
	PLACE_OPEN_MPI,
	PLACE_PMI,
	PLACE_PMIX,
	PLACE_SLURM,
	PLACE_KUBERNETES,
};

/* What the options say; they win over the environment one by one. */
struct place_flags {
	int64_t rank;            /* -1: not given */
	int64_t world_size;      /* 0: not given */
	const char *coordinator; /* "HOST:PORT,..." or NULL */
};

struct place {
	enum place_source source;
	unsigned rank, size;             /* of a single process: 0 of 1 */
	unsigned local_rank, local_size; /* on its host; size 0: not told */

	/*
	 * Where rank 0 listens: "HOST:PORT", several with commas between; "":
	 * not told. guessed: derived from the name of a host, so that another
	 * job may listen there, or the name may not be known everywhere.
	 */
	char coordinator[PLACE_HOST_BYTES];
	bool guessed;
	char job[PLACE_JOB_BYTES];   /* how the launcher calls it, or "" */
	char node[PLACE_HOST_BYTES]; /* how it calls this host, or "" */
};

/*
 * environment: NULL-terminated "NAME=value", as environ. -EINVAL (logged,
 * with what to do) if what is told cannot be.
 */
int place_find(const struct place_flags *flags, const char *const *environment,
	       struct place *out) MUST_CHECK;

/* "srun", "mpirun (Open MPI)", "options", ... */
const char *place_launcher(enum place_source source);

#endif
