/*
 * Launch: runs all ranks of a job and supervises them.
 *
 * Transport "inproc": ranks are threads of this process. Any other: each rank
 * is a child process, started anew from this program's own file. Whatever
 * happens, launch_run() returns with all of them gone: no orphan, no zombie,
 * no file descriptor left.
 *
 *  - A rank that fails, dies or is killed ends the job: the others are told
 *    which and why, and are gone within two seconds.
 *  - The first SIGINT, SIGTERM or SIGHUP asks the ranks to finish the step
 *    and write a checkpoint; a second one ends the job at once. SIGTSTP
 *    suspends the ranks along with the supervisor. SIGUSR1 makes every rank
 *    log what it waits for.
 *  - When the supervisor itself is killed, its ranks die with it.
 *
 * With hosts (engine/hosts.h) only those ranks are started here that belong
 * here; the others are their agents', and all of the above holds for them.
 */
#ifndef STAGECOACH_ENGINE_LAUNCH_H
#define STAGECOACH_ENGINE_LAUNCH_H

#include "base/compiler.h"
#include "base/json.h"
#include "engine/world.h"

#define LAUNCH_RANKS_MAX    1024u
#define LAUNCH_REASON_BYTES 512

struct hosts;

struct launch {
	unsigned ranks;
	struct hosts *hosts;       /* gathered; NULL: all ranks are here */
	unsigned threads_per_rank; /* 0: available cores / ranks, at least 1 */
	bool pin;                  /* if the cores suffice for all threads */
	const char *transport;     /* "tcp", "inproc"; NULL: "tcp" */
	const char *io;            /* of tcp; NULL: "auto" */
	const char *wire;          /* as --wire; NULL: "auto" */
	const json_t *job;         /* borrowed; every rank gets a copy */

	/* inproc: what the rank threads run. */
	rank_main_fn *rank_main;
	const char *numerics; /* inproc: this process's digest, or NULL */

	/*
	 * Processes: NULL-terminated program and arguments, to which
	 * "--control-fd N" is added. NULL: this program's own file and "rank".
	 */
	const char *const *program;

	/*
	 * Called in the supervisor's thread, for each event of a rank
	 * (world_event()), which it borrows. May be NULL.
	 */
	void (*event)(void *argument, unsigned rank, const json_t *event);

	/*
	 * Asked a few times a second, in the supervisor's thread: true is like
	 * a first Ctrl-C. May be NULL.
	 */
	bool (*stop)(void *argument);
	void *argument;

	/*
	 * What a rank does, for the line about it where there are hosts:
	 * "stages 0, 4". May be NULL.
	 */
	void (*describe)(const void *argument, unsigned rank, char *buffer,
			 size_t size);
	const void *describe_argument;

	/*
	 * Signs of life (engine/liveness.h). A rank that is not heard for
	 * heartbeat_timeout_ns, or alive and stuck for stall_timeout_ns, ends
	 * the job. 0: the default, 3.5 s, and what the longest action seen
	 * makes sane; negative: never.
	 */
	int64_t heartbeat_timeout_ns;
	int64_t stall_timeout_ns;

	bool keep_signals; /* leave the signal handlers of this process alone */
	bool quiet;        /* no line about cores and stopping */

	/* Zero: the default. For tests. */
	int64_t start_timeout_ns; /* until all ranks said hello: 60 s */
	int64_t settle_ns;        /* to tell cause from consequence: 200 ms */
	int64_t grace_ns;         /* abort until SIGKILL: 1.5 s */
};

struct launch_result {
	int status;                       /* 0, or negative errno */
	char reason[LAUNCH_REASON_BYTES]; /* of the failure: one line, or "" */
	int failed_rank;                  /* -1: none, or not a rank's doing */
	bool stopped;                     /* somebody asked to stop */
	bool interrupted;                 /* and asked again: ended at once */

	/*
	 * A rank thread did not end (inproc; a thread cannot be killed). Its
	 * memory is still in use: the caller must _exit() soon.
	 */
	bool abandoned;
	json_t *done; /* rank 0's result or NULL; see launch_result_fini() */
};

/*
 * Blocks until the job is over. Returns out->status, the reason logged
 * once; *out is written in any case. Not reentrant while signals are
 * handled (one at a time per process unless keep_signals).
 */
int launch_run(const struct launch *launch,
	       struct launch_result *out) MUST_CHECK;
void launch_result_fini(struct launch_result *result);

#endif
