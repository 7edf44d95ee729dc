/*
 * A rank's end of the control connection, and the thread that owns its
 * reading side. Private to engine/world.c.
 */
#ifndef STAGECOACH_ENGINE_WORLD_CONTROL_H
#define STAGECOACH_ENGINE_WORLD_CONTROL_H

#include "base/compiler.h"
#include "engine/control.h"
#include "engine/world.h"
#include <pthread.h>

#define WORLD_REASON_BYTES 512

/*
 * How long a coordinator may say nothing whose kernel still answers: somebody
 * stopped it, or its terminal takes no output.
 */
#define WORLD_PATIENCE_NS 60000000000LL

/* How long rank_main may take to return after an abort (processes). */
#define WORLD_ABORT_GRACE_NS 1000000000LL

struct world_control {
	struct world *world;
	bool process; /* may end the process; takes its signals */
	struct control_channel channel;
	pthread_mutex_t send_lock; /* the sending half of channel */
	pthread_t thread;
	int wake_fd;   /* readable from the abort on */
	int nudge_fd;  /* wakes the thread: bytes to send, or time to quit */
	int signal_fd; /* -1: thread */

	_Atomic bool cancelled;
	_Atomic bool cancel_noted; /* the main thread has logged it */
	_Atomic bool stop;
	_Atomic bool greeted; /* hello goes first, however late it is */
	_Atomic bool quit;
	_Atomic uint64_t events_dropped;
	int64_t exit_ns; /* thread: when to end the process; 0: not yet */
	struct liveness *watch; /* thread: of the coordinator; NULL: none */
	uint64_t acknowledged_bytes; /* thread: by its host, at the last look */

	pthread_mutex_t lock; /* all that follows */
	pthread_cond_t changed;
	char reason[WORLD_REASON_BYTES]; /* of the abort */
	json_t *welcome;
	json_t *gathered; /* of the last finished round, until taken */
	int64_t gathered_round;
	bool bye;
};

/* Takes over fd; starts the thread. `world` is being built: rank unknown. */
int world_control_create(int fd, bool process, struct world *world,
			 struct world_control **out) MUST_CHECK;

/* Stops the thread, sends what can still be sent, closes. NULL is legal. */
void world_control_destroy(struct world_control *control);

/*
 * Queues a message that must not be dropped and sends what the socket
 * takes; the thread sends the rest. Takes over `message`.
 */
int world_control_send(struct world_control *control, enum control_kind kind,
		       json_t *message) MUST_CHECK;

/*
 * Blocks until test(control, argument), called with `lock` held, is true: 0;
 * -ECANCELED (silent) after an abort, -ETIMEDOUT (silent) at deadline_ns.
 */
typedef bool world_control_test_fn(const struct world_control *control,
				   int64_t argument);
int world_control_wait(struct world_control *control,
		       world_control_test_fn *test, int64_t argument,
		       int64_t deadline_ns) MUST_CHECK;

#endif
