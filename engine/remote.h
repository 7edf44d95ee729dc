/*
 * Starting agents on other hosts by ssh (or what stands in for it).
 *
 * One ssh per host. The job key goes over its standard input, never into
 * arguments or environment; that input stays open for as long as the agent
 * is to live, and its end ends the agent. What the agent logs comes back over
 * ssh to this process's standard error.
 */
#ifndef STAGECOACH_ENGINE_REMOTE_H
#define STAGECOACH_ENGINE_REMOTE_H

#include "base/compiler.h"

struct remote;

struct remote_agent {
	const char *host; /* as ssh takes it */
	unsigned first, count;
};

struct remote_config {
	const char *ssh;          /* "ssh -p 2222"; words, split at spaces */
	const char *program;      /* path on the other hosts */
	const char *coordinator;  /* "10.0.0.1:4711,..." */
	const char *interface;    /* or NULL */
	const unsigned char *key; /* or NULL */
	unsigned size;
	int64_t start_timeout_ns;
	const struct remote_agent *agents;
	unsigned count;
};

int remote_start(const struct remote_config *config,
		 struct remote **out) MUST_CHECK;

/*
 * Looks whether one of them has ended: -ECHILD (logged: which host, how), 0 if
 * all run. Does not block.
 */
int remote_check(struct remote *remote) MUST_CHECK;

/* Ends their input, waits a moment, then ends them. NULL is legal. */
void remote_stop(struct remote *remote);

#endif
