/*
 * The world, seen from one rank: its place, its cores, its endpoint, and the
 * line to the coordinator.
 *
 * A rank is a process (or, under inproc, a thread) that holds some stages. It
 * has one stream socket to the coordinator (engine/control.h); the data goes
 * over the endpoint. A small control thread per rank owns the reading side of
 * the socket: it takes in stop and abort, sends the heartbeat with the
 * progress note, and ends a rank process whose coordinator has died or cannot
 * be reached. The functions below therefore cost the step path an atomic load.
 *
 * The life of a rank: hello, welcome (with the job), rank_main(), in it
 * world_connect() and the work, then done or failed, then bye: no rank closes
 * its links before all are done.
 *
 * Threads: all functions are for the rank's main thread, unless they say so.
 */
#ifndef STAGECOACH_ENGINE_WORLD_H
#define STAGECOACH_ENGINE_WORLD_H

#include "base/compiler.h"
#include "base/json.h"
#include "engine/liveness.h"
#include "transport/transport.h"
#include <stdatomic.h>

struct threads;
struct world_control; /* the control thread and its socket, private */

#define WORLD_HOST_BYTES 64

/*
 * What a rank is doing, for heartbeats, stall reports and "killed at step N".
 * `action` is the caller's own packed name of it; see world_describe_fn.
 */
struct world_progress {
	_Atomic int64_t step; /* -1: none yet */
	_Atomic uint64_t action;
	_Atomic int64_t since_ns; /* clock_now_ns() */
	_Atomic bool between;     /* steps, or before the first */
	_Atomic uint64_t moves;   /* things done: actions, messages */

	/* What it waits for: enum liveness_wait << 32 | peer. */
	_Atomic uint64_t wait;
	_Atomic int64_t wait_since_ns;
};

/* What has passed between this rank and one other; written by its owner. */
struct world_link {
	_Atomic uint64_t messages_sent, messages_received;
	_Atomic uint64_t bytes_sent, bytes_received;
};

/* Writes a packed action in words ("1F3"); any thread; must not block. */
typedef void world_describe_fn(uint64_t action, char *buffer, size_t size);

struct world {
	unsigned rank;
	unsigned size;
	char host[WORLD_HOST_BYTES];
	bool thread;       /* a thread of the supervisor's process (inproc) */
	const json_t *job; /* this rank's own copy */
	struct threads *team; /* on this rank's cores; pinned if they suffice */
	struct transport_endpoint *endpoint; /* NULL until world_connect() */
	const char *transport;               /* "tcp", "inproc" */

	/*
	 * Prefilled for world_connect(), which sets kind, rank, size, job,
	 * epoch, hub and fingerprint; the rest (depth, checksum, ...) may be
	 * changed before that call.
	 */
	struct transport_config transport_config;
	struct world_progress progress;
	struct world_link *_Atomic links;    /* [size], once it is known */
	world_describe_fn *_Atomic describe; /* of progress; may be NULL */
	json_t *result;                      /* owned; see world_set_result() */
	_Atomic bool finished;               /* private */
	struct world_control *control;
};

/*
 * A rank's work: 0, or negative errno with the reason logged. Everything it
 * made must be gone when it returns, but the endpoint, which the caller
 * closes.
 */
typedef int rank_main_fn(struct world *world);

/*
 * What the hidden command `stagecoach rank --control-fd N` does. Owns the
 * socket. `numerics` is the numerics digest in words or hex ("" if there is
 * none): ranks whose digests differ are refused before rank_main.
 *
 * Takes SIGINT, SIGTERM and SIGHUP of the process as a request to stop the
 * whole job, and passes it to the coordinator. Ends the process with
 * _exit(1) when the coordinator dies, or when rank_main has not returned a
 * second after an abort. Returns 0, or negative errno (logged).
 */
int world_rank_main(int control_fd, const char *numerics,
		    rank_main_fn *rank_main) MUST_CHECK;

/*
 * The same for a rank that is a thread: leaves signals, the floating-point
 * state of others and the process alone. `hub` as in transport_config; may
 * be NULL if the job does not use inproc.
 */
int world_thread_main(int control_fd, const char *numerics,
		      rank_main_fn *rank_main,
		      struct transport_hub *hub) MUST_CHECK;

/*
 * Opens this rank's endpoint, exchanges addresses with all ranks, and builds
 * the links with `peers` (symmetric sets, see transport_connect()). Every
 * rank calls it at the same point, also with no peers. Blocks until the
 * links stand, a bounded time. Called again: closes the endpoint and
 * builds new links under the next epoch.
 */
int world_connect(struct world *world, const unsigned *peers, unsigned count,
		  const unsigned char fingerprint[TRANSPORT_FINGERPRINT_BYTES])
	MUST_CHECK;

/*
 * 0, or -ECANCELED once another rank has failed (its reason is logged the
 * first time). An atomic load; any thread.
 */
int world_check(struct world *world) MUST_CHECK;

/*
 * Readable from an abort on, and then always: the wake_fd of
 * transport_wait(). Never to be read from.
 */
int world_wake_fd(const struct world *world);

/*
 * Waits until the endpoint has completions: their number (at least 1), or
 * -ECANCELED after an abort, or what transport_progress() failed with.
 * Allocates nothing. Blocks only while no rank has failed.
 */
int world_wait(struct world *world, struct transport_completion *out,
	       unsigned capacity) MUST_CHECK;

/* Payloads sent so far, over all links. For the rank's main thread. */
void world_count_sent(const struct world *world, uint64_t *bytes,
		      uint64_t *messages);

/*
 * Somebody asked the job to stop: finish the step, write the checkpoint,
 * return 0. Ranks learn of it at different moments: let the vote of the step
 * agree on it (any rank's request, told back to all), else one rank leaves
 * while another waits for its data. An atomic load; any thread.
 */
bool world_stop_requested(const struct world *world);

/*
 * Notes what the rank does now. Two stores and a look at the clock; shown by
 * the heartbeat, hence up to WORLD_HEARTBEAT_NS old at the coordinator.
 */
#define WORLD_HEARTBEAT_NS LIVENESS_BEAT_NS
void world_note_progress(struct world *world, int64_t step, uint64_t action);

/* The step's actions are done: what follows may take its time (files). */
void world_note_between(struct world *world);

/*
 * The rank begins to wait at begin_ns, for `peer` or for all; and goes on. A
 * barrier and an all_gather note it by themselves.
 */
void world_note_wait(struct world *world, enum liveness_wait wait,
		     unsigned peer, int64_t begin_ns);
void world_note_ready(struct world *world);

/* Messages that have completed, for the wait state. */
void world_note_completions(struct world *world,
			    const struct transport_completion *completions,
			    unsigned count);

/*
 * Sends {"kind": "event", "event": json} to the coordinator, which hands it
 * to the launch's event function. world_event() allocates and does not take
 * over `event`; world_event_text() takes one JSON object as text, and
 * allocates nothing. Neither blocks: when more than WORLD_EVENT_QUEUE_BYTES
 * wait to be read, the event is dropped and counted, and -EAGAIN (no
 * message). -EMSGSIZE (logged) beyond WORLD_EVENT_BYTES. A number "step" in
 * an event also counts as progress. Any thread of the rank.
 */
#define WORLD_EVENT_BYTES       (64u << 10)
#define WORLD_EVENT_QUEUE_BYTES (256u << 10)
int world_event(struct world *world, const json_t *event);
int world_event_text(struct world *world, const char *event);

/*
 * Returns when every rank has called it: 0, or -ECANCELED. Goes through the
 * coordinator, about 0.1 ms locally; allocates: not for the step path.
 */
int world_barrier(struct world *world) MUST_CHECK;

/*
 * A barrier with a word: *all is an array of size values, indexed by rank,
 * the caller decrefs it. value (not taken over; NULL is null) encodes to at most
 * CONTROL_MESSAGE_BYTES / size. All ranks call barrier and all_gather in the
 * same order.
 */
int world_all_gather(struct world *world, const json_t *value,
		     json_t **all) MUST_CHECK;

/*
 * What this rank reports when it is done; takes over `result`. The
 * supervisor sees that of rank 0.
 */
void world_set_result(struct world *world, json_t *result);

#endif
