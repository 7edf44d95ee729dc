/*
 * The agent: a process that brings one or several ranks to a job whose
 * coordinator is elsewhere (engine/hosts.h).
 *
 * It connects, is let in, and for every job starts its ranks as processes, as
 * the coordinator does with those beside it; it hands on what ranks and
 * coordinator say to each other, and says how a rank ended. It lives until the
 * coordinator says that all is over, and ends with that status; when the
 * connection breaks, it ends its ranks and itself.
 *
 * SIGINT, SIGTERM and SIGHUP are a request to stop the job.
 */
#ifndef STAGECOACH_ENGINE_AGENT_H
#define STAGECOACH_ENGINE_AGENT_H

#include "base/compiler.h"
#include "engine/place.h"

struct agent_config {
	const struct place *place; /* place.rank: the first of its ranks */
	unsigned count;            /* of its ranks; 0 is 1 */
	const char *launcher;      /* in words; NULL: by place.source */
	const char *interface;     /* NULL: by the route to the coordinator */
	const char *meeting_file;  /* where its address may be found, or NULL */
	const unsigned char *key;  /* TRANSPORT_KEY_BYTES, or NULL */
	const char *wire;          /* "authentic": what it asks for; or NULL */
	int64_t start_timeout_ns;  /* 0: HOSTS_START_TIMEOUT_NS */
	int input_fd;              /* -1, or: its end is ours as well */
	const char *const *program; /* of ranks; as in struct launch */
};

/*
 * Blocks until the coordinator lets it go. Returns the exit status: the
 * command's, or 1 with the reason logged.
 */
int agent_run(const struct agent_config *config);

#endif
