/*
 * The coordinator: serves the control sockets of all ranks.
 *
 * It welcomes the ranks, collects and gives out what they gather, hands on
 * their events, and decides what a failure was caused by. It knows nothing of
 * processes or threads: whoever started the ranks tells it when one ends
 * (coordinator_rank_ended()), or, where nobody can, the end of its socket
 * does. One thread, one poll() loop, no blocking call.
 *
 * Cause and consequence. When a rank dies its neighbours see broken
 * links, and their reports may come first. After the first report the
 * coordinator waits settle_ns, then picks the best by kind (died without a
 * word, or gives no sign of life; failed by itself; lost a link), within a kind
 * the first, and tells everyone. It waits longer while some rank has not been
 * heard for a while: its silence may be what broke the link.
 *
 * Signs of life: engine/liveness.h. The coordinator itself beats towards ranks
 * that it is not on one host with.
 */
#ifndef STAGECOACH_ENGINE_COORDINATOR_H
#define STAGECOACH_ENGINE_COORDINATOR_H

#include "base/compiler.h"
#include "base/json.h"
#include <poll.h>

#define COORDINATOR_REASON_BYTES 512

struct coordinator;
struct cores_plan;

/* What a rank's data links are to use, beyond this machine's loopback. */
struct coordinator_links {
	const char *key;         /* in hex; NULL: none */
	const char *wire;        /* as --wire; NULL: "auto" */
	const char *const *bind; /* [size]: numeric addresses; NULL: default */
};

struct control_channel;

struct coordinator_config {
	unsigned size;
	const json_t *job; /* borrowed */
	const char *transport;
	const char *io;
	const struct cores_plan *cores; /* borrowed */
	struct coordinator_links links; /* borrowed */
	int64_t start_timeout_ns;       /* until all have said hello */
	int64_t settle_ns;
	int64_t silence_ns; /* a rank not heard for so long; 0: wait for ever */
	int64_t stall_ns;   /* as liveness_create() takes it */
	void (*event)(void *argument, unsigned rank, const json_t *event);
	void *argument;
};

enum coordinator_state {
	COORDINATOR_RUNNING,
	COORDINATOR_FAILING, /* a failure is known, its cause settles */
	COORDINATOR_ABORTED, /* all have been told */
	COORDINATOR_DONE,    /* every rank is done, bye was sent */
};

int coordinator_create(const struct coordinator_config *config,
		       struct coordinator **out) MUST_CHECK;
void coordinator_destroy(struct coordinator *coordinator);

/*
 * Takes over `fd`, the socket of rank `rank`. `name` is how messages call it:
 * "rank 1 (pid 4711)", "rank 1".
 */
int coordinator_add(struct coordinator *coordinator, unsigned rank, int fd,
		    const char *name) MUST_CHECK;

/*
 * The same for a rank whose process others look after: takes over the
 * channel, in which a message `ended` says how that process has ended.
 */
void coordinator_attach(struct coordinator *coordinator, unsigned rank,
			struct control_channel *channel, const char *name);
bool coordinator_is_attached(const struct coordinator *coordinator,
			     unsigned rank);
/* Of an attached rank: its process has ended, or it is out of reach. */
bool coordinator_is_gone(const struct coordinator *coordinator, unsigned rank);

/*
 * Polls the sockets along with extra[0..count), whose revents it fills in,
 * until something came or deadline_ns, and deals with what the sockets brought.
 * Returns 0, or negative errno of poll().
 */
int coordinator_poll(struct coordinator *coordinator, struct pollfd *extra,
		     unsigned count, int64_t deadline_ns) MUST_CHECK;

/*
 * The rank's process or thread has ended. `how` says how in words that
 * follow its name ("was killed by signal 9 (Killed)", "ended with status 3");
 * NULL: as it should after done or failed. An end without done or failed is
 * a failure.
 */
void coordinator_rank_ended(struct coordinator *coordinator, unsigned rank,
			    const char *how);

/* Asks all ranks to stop; more than once is as once. */
void coordinator_stop(struct coordinator *coordinator);

/* Asks all ranks to log what they wait for, and logs who is silent. */
void coordinator_ask_states(struct coordinator *coordinator);

/* The failure is that this rank no longer says anything: ask it no more. */
bool coordinator_is_silent(const struct coordinator *coordinator,
			   unsigned rank);

/* Ends the job at once, for a reason that is not a rank's failure. */
void coordinator_abort(struct coordinator *coordinator, int code,
		       const char *reason);

enum coordinator_state coordinator_state(const struct coordinator *coordinator);
bool coordinator_stop_requested(const struct coordinator *coordinator);

/* Of the failure, from COORDINATOR_ABORTED on. rank -1: not a rank's. */
int coordinator_failure(const struct coordinator *coordinator, int *rank,
			const char **reason);

/* What rank `rank` reported with done; borrowed; NULL if nothing. */
json_t *coordinator_result(const struct coordinator *coordinator,
			   unsigned rank);

/* The latest step a rank is known to have been at; -1: none. */
int64_t coordinator_last_step(const struct coordinator *coordinator,
			      unsigned rank);

#endif
