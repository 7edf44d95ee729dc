/*
 * Routes: which messages a rank receives in one pass, link by link, in the
 * order in which the sender posts them.
 *
 * Links are FIFOs, so both ends must derive the same order on their own: it is
 * the order of the sender's row of the lowered schedule, between what every pass
 * begins with (the batch) and ends with (the evaluation's result).
 *
 * Ranks are those of the grid (engine/grid.h): each carries out the row of its
 * position, and its activations stay within its replica and slice. With the
 * root deal the first slices only; the others of a tensor group hear from
 * theirs, by other means than a route.
 */
#ifndef STAGECOACH_ENGINE_ROUTE_H
#define STAGECOACH_ENGINE_ROUTE_H

#include "engine/grid.h"
#include "schedules/schedule.h"

/* The rank that reads the data, decides the vote and writes the metrics. */
#define ROUTE_ROOT 0u

enum message_kind {
	MESSAGE_BATCH =
		1,       /* columns of the whole step, root to who needs them */
	MESSAGE_FORWARD, /* input of (stage, micro_batch) */
	MESSAGE_BACKWARD, /* output gradient of (stage, micro_batch) */
	MESSAGE_TIED,     /* piece `micro_batch` of tie `stage` */
	MESSAGE_VOTE,     /* to the root */
	MESSAGE_VERDICT,  /* from the root */
	MESSAGE_RESULT,   /* evaluation: losses, loss rank to root */
	MESSAGE_TOKEN,    /* generation: chosen token, loss rank to root */
	MESSAGE_SLICE,    /* within a tensor group, see collective.h */
	MESSAGE_PIECE,    /* between passes: piece of tensors, see ferry.h */
	MESSAGE_REDUCE,   /* between replicas of a position: reduction.h */
};

const char *message_kind_name(enum message_kind kind);

struct message {
	uint8_t kind;
	bool arrived;
	bool taken;
	uint16_t stage; /* the receiving one */
	uint16_t micro_batch;
	uint16_t
		ahead; /* messages posted up to it; 0: as the exchange has it */
	unsigned peer;
	size_t bytes;
	void *data; /* where it goes; NULL: claimed from the stage */
};

struct inbox {
	unsigned peer;
	struct message *messages;
	unsigned count;
	unsigned posted; /* messages [0, posted) have their receive */
	unsigned done;   /* messages [0, done) are taken */
};

struct route {
	unsigned rank;
	unsigned micro_batches;
	unsigned stages;
	struct inbox *inboxes; /* one a peer that sends to this rank */
	unsigned inbox_count;
	/* [stages * micro_batches], NULL where no message comes */
	struct message **forward;
	struct message **backward;
};

struct reduction; /* engine/reduction.h */

/* What the lists need to know beside the schedule. */
struct route_config {
	const struct schedule *schedule; /* lowered */
	struct grid grid;
	unsigned rank;
	const bool *needs_batch; /* [positions]: the root sends it columns */
	bool votes;              /* training */
	bool result;             /* evaluation */
	bool token;              /* generation */
	/* Pieces a tie's exchange takes; by tie, as in the lowering. */
	const struct schedule_tie *ties;
	const unsigned *tie_pieces;
	/* And the way from its first stage; NULL: as many. */
	const unsigned *tie_rows;
	size_t tie_count;
	/* What replicas of the rank's position send each other; NULL: nothing. */
	const struct reduction *reduction;
};

/* Messages of a tie that go one way. */
unsigned route_tie_messages(const struct route_config *config, unsigned tie,
			    bool from_first);

/* -ENOMEM, logged. The messages' bytes and data are the caller's to set. */
int route_create(const struct route_config *config,
		 struct route **out) MUST_CHECK;
void route_destroy(struct route *route);

/* Forgets what has arrived: ready for another pass. */
void route_reset(struct route *route);

struct message *route_forward(const struct route *route, unsigned stage,
			      unsigned micro_batch);
struct message *route_backward(const struct route *route, unsigned stage,
			       unsigned micro_batch);

/* The first message of this kind from this peer; NULL if there is none. */
struct message *route_find(const struct route *route, unsigned peer,
			   enum message_kind kind);

/* Every message that rank `from` sends in a pass, in order. */
typedef void route_emit_fn(void *argument, unsigned to,
			   const struct message *message);
void route_emit(const struct route_config *config, unsigned from,
		route_emit_fn *emit, void *argument);

/*
 * peers[r] |= true for every rank of the grid that sends to or receives from
 * `rank` in this schedule; the root and everyone else among them.
 */
void route_mark_peers(const struct route_config *config, bool *peers);

#endif
