/*
 * The ranks of a local job, as processes or threads: how they are started,
 * how one learns that they have ended, how they are made to end.
 */
#ifndef STAGECOACH_ENGINE_LAUNCH_RANKS_H
#define STAGECOACH_ENGINE_LAUNCH_RANKS_H

#include "base/compiler.h"
#include "engine/launch.h"

struct launch_ranks;

int launch_ranks_create(const struct launch *launch,
			struct launch_ranks **out) MUST_CHECK;

/*
 * Starts one rank, which owns `control_fd` from here on (closed on failure as
 * well). Process: returns when the new program runs, or why it does not. It is
 * in a process group of its own (Ctrl-C reaches the supervisor alone), dies
 * with the calling thread, and has no other descriptor than stdin from
 * /dev/null, stdout and stderr both to this process's stderr, and the socket.
 */
int launch_ranks_start(struct launch_ranks *ranks, unsigned rank,
		       int control_fd) MUST_CHECK;

/* "rank 1 (pid 4711)"; a thread: "rank 1". */
char *launch_ranks_name(const struct launch_ranks *ranks, unsigned rank,
			char *buffer, size_t size);

long launch_ranks_pid(const struct launch_ranks *ranks, unsigned rank);

/* Readable when a thread has ended; -1 for processes (SIGCHLD tells). */
int launch_ranks_wake_fd(const struct launch_ranks *ranks);

/*
 * Collects those that have ended, calling ended(argument, rank, how) for
 * each, `how` as in coordinator_rank_ended(). Returns how many still run.
 */
typedef void launch_ranks_ended_fn(void *argument, unsigned rank,
				   const char *how);
unsigned launch_ranks_reap(struct launch_ranks *ranks,
			   launch_ranks_ended_fn *ended, void *argument);

bool launch_ranks_running(const struct launch_ranks *ranks, unsigned rank);

/* A signal for all processes that still run. Threads: nothing. */
void launch_ranks_signal(struct launch_ranks *ranks, int number);
void launch_ranks_kill(struct launch_ranks *ranks, unsigned rank);
bool launch_ranks_are_threads(const struct launch_ranks *ranks);

/* None may run any more; where one does, leave the object to it (a leak). */
void launch_ranks_destroy(struct launch_ranks *ranks);

#endif
