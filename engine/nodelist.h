/*
 * Lists of hosts as launchers write them.
 *
 *   Slurm           a[1-3,7],b-[001-003],c   (SLURM_STEP_NODELIST)
 *   --hosts         a:1,user@b:2,[fd00::1]:2
 *   hostfiles       "host slots=2" (Open MPI), "host:2" (MPICH), "host"
 */
#ifndef STAGECOACH_ENGINE_NODELIST_H
#define STAGECOACH_ENGINE_NODELIST_H

#include "base/compiler.h"

#define NODELIST_HOST_BYTES 256  /* a name, terminator included */
#define NODELIST_HOSTS_MAX  4096 /* of one list */

struct nodelist_host {
	char name[NODELIST_HOST_BYTES]; /* without brackets; "user@b" stays */
	unsigned ranks;
};

/* On the heap, in the order written; released by nodelist_fini(). */
struct nodelist {
	struct nodelist_host *hosts;
	unsigned count, capacity;
};

/* Slurm's form; each host once, ranks 1. -EINVAL, logged with `origin`. */
int nodelist_expand(const char *text, const char *origin,
		    struct nodelist *out) MUST_CHECK;

/* What --hosts takes; a host without a number has one rank. */
int nodelist_parse(const char *text, struct nodelist *out) MUST_CHECK;

/* A hostfile; # begins a comment. */
int nodelist_read(const char *path, struct nodelist *out) MUST_CHECK;

unsigned nodelist_ranks(const struct nodelist *list);
void nodelist_fini(struct nodelist *list);

/*
 * How many tasks node number `node` has by "3,1" or "2(x2),1"
 * (SLURM_STEP_TASKS_PER_NODE); 0: it does not say.
 */
unsigned nodelist_tasks(const char *text, unsigned node);

#endif
