/*
 * Signals of the supervisor, as bytes in a pipe that its poll() watches.
 *
 * Handlers rather than a signalfd: a library's thread that does not block a
 * signal would else be killed by it. The one place in the program where a
 * variable of the process cannot be avoided: which pipe the handler writes to.
 * Hence one watch at a time.
 */
#ifndef STAGECOACH_ENGINE_LAUNCH_SIGNALS_H
#define STAGECOACH_ENGINE_LAUNCH_SIGNALS_H

#include "base/compiler.h"
#include <signal.h>

#define LAUNCH_SIGNALS 6

struct launch_signals {
	int read_fd, write_fd;
	bool taken[LAUNCH_SIGNALS];
	struct sigaction before[LAUNCH_SIGNALS];
};

/*
 * Takes SIGCHLD, SIGINT, SIGTERM, SIGHUP, SIGUSR1 and, if `suspend`, SIGTSTP.
 * What was ignored stays ignored (nohup, a background job of a script), but
 * SIGCHLD and SIGUSR1. -EBUSY if another watch is open.
 */
int launch_signals_open(struct launch_signals *signals,
			bool suspend) MUST_CHECK;

/* The next signal that came, 0 if none. */
int launch_signals_next(struct launch_signals *signals);

/* Restores what was there before. */
void launch_signals_close(struct launch_signals *signals);

/*
 * Blocks what the supervisor takes (SIGCHLD aside), for what is started
 * meanwhile; `before` gets the mask to restore.
 */
void launch_signals_block(sigset_t *before);

#endif
