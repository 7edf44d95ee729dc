/*
 * The plan by which the D replicas of one position of the pipeline sum their
 * gradients and, where the optimizer is sharded, hand round the weights.
 * Nothing here moves a byte: engine/reducer.h carries the plan out.
 *
 * The parameters that the position trains are cut into blocks of
 * OPTIMIZER_BLOCK elements (a short one, and what remains, is a block by
 * itself), so that square sums and updates keep their bits wherever they are
 * computed. Neighbouring blocks form buckets of REDUCTION_BUCKET_BYTES or less,
 * contiguous in memory (engine/store.h), none across a stage; a tied parameter
 * has buckets of its own, cut alike wherever it is held. Buckets stand in the
 * order in which they become ready: by stage, as their REDUCE_GRAD stand in
 * the position's row, and within one from the last layer down.
 *
 * Each bucket is divided into D chunks at block boundaries, some of which may
 * be empty. Summing scatters it: every replica ends with the sum of one chunk,
 * its own. Gathering spreads the chunks again.
 *
 *   D a power of two: recursive halving, then doubling (Rabenseifner 2004).
 *     In round k a replica exchanges half of what it still sums with replica
 *     d ^ 2^k and adds. Neighbours come first, so that the additions continue
 *     the aligned tree of the gradient groups: ((0+1)+(2+3)), to the bit.
 *   Another D: each chunk goes to its owner, which adds in replica order.
 *
 * Windows. Sharded, a replica needs the sums of its own chunks alone, and where
 * no two stages of a position add to their gradients at the same time, they
 * take turns with one window of accumulators (ZeRO-2; Rajbhandari et al. 2020):
 * a bucket that has been scattered is moved to the sums that are kept, and its
 * memory is zero again. Stages share windows where their actions from the first
 * that adds to REDUCE_GRAD do not overlap, and where that saves memory.
 *
 * Either way a replica sends 2 (D - 1) / D of the gradient, on average. The
 * rounds of a stage's buckets form a pipeline, in one order that all replicas
 * share, so that both ends of a link know its messages beforehand.
 */
#ifndef STAGECOACH_ENGINE_REDUCTION_H
#define STAGECOACH_ENGINE_REDUCTION_H

#include "engine/partition.h"
#include "engine/route.h"
#include "model/model.h"

#define REDUCTION_BUCKET_BYTES ((size_t)4 << 20)
/* Where a stage has less than so many of those: down to this size. */
#define REDUCTION_BUCKETS_OF_STAGE   16u
#define REDUCTION_BUCKET_BYTES_LEAST ((size_t)256 << 10)
/* A bucket's number travels in 16 bits: beyond these, buckets grow. */
#define REDUCTION_BUCKETS_MAX 32768u
/* Bytes of one message when the two ends of a tie exchange their chunks. */
#define REDUCTION_TIE_PIECE_BYTES ((size_t)1 << 20)

enum reduction_phase {
	/* Of a stage: scatters; where nothing is sharded gathers, too, but for
	 * what is tied. */
	REDUCTION_REDUCE,
	/* After the tie's ends have exchanged: gathers what is tied. */
	REDUCTION_TIED,
	/* The sums of squares of a replica's blocks, to replica 0. */
	REDUCTION_SQUARES,
	/* Sharded: gathers the updated weights. */
	REDUCTION_WEIGHTS,
};

/* Neighbouring elements of one parameter: whole blocks, in a row. */
struct reduction_piece {
	unsigned parameter; /* id */
	size_t first;       /* its first element in the parameter */
	size_t count;
	size_t offset; /* floats from the beginning of its bucket */
};

struct reduction_bucket {
	unsigned stage;
	unsigned layer;       /* ready when this one, its lowest, is */
	unsigned first_piece; /* of reduction.pieces */
	unsigned piece_count;
	size_t floats; /* what it takes in memory, padding included */
	bool tied;     /* a tied parameter, target or follower */
	/* The target is on this position, too, and has the weights. */
	bool alias;
	bool counts; /* in the gradient norm: a tied one's target alone */
};

struct reduction_parameter {
	bool held; /* here, and trained */
	/* Its buckets: [first_bucket, end_bucket), elements descending. */
	unsigned first_bucket, end_bucket;
};

struct reduction {
	const struct model *model;
	unsigned replicas;
	bool sharded;
	unsigned scatter_rounds; /* and as many to gather */
	struct reduction_bucket *buckets;
	unsigned bucket_count;
	struct reduction_piece *pieces; /* by bucket; ascending within one */
	unsigned piece_count;
	/* [bucket_count][replicas + 1]: floats from the beginning of the bucket
	 * to that of each chunk, and to the end. */
	size_t *cuts;
	unsigned *stages; /* [stage_count], in order of reduction */
	unsigned stage_count;
	unsigned *windows; /* [stage_count]; NULL: each has its own memory */
	size_t *window_floats; /* [window_count] of the largest stage */
	unsigned window_count;
	struct reduction_parameter *parameters; /* [all of the model] */
};

struct reduction_config {
	const struct model *model;
	const struct partition *partition;
	/* The position's stages as their REDUCE_GRAD stand in its row. */
	const unsigned *stages;
	unsigned stage_count;
	unsigned replicas; /* D; 1: one chunk, no messages */
	bool sharded;
};

/* About the most that a bucket takes: a block, at least, for each replica. */
size_t reduction_bucket_bytes(unsigned replicas);

/* -ENOMEM, logged. The arrays of config need not outlive the call. */
int reduction_create(const struct reduction_config *config,
		     struct reduction **out) MUST_CHECK;
/* The same for position `position` of a lowered schedule that trains. */
int reduction_create_at(const struct model *model,
			const struct partition *partition,
			const struct schedule *schedule, unsigned position,
			unsigned replicas, bool sharded,
			struct reduction **out) MUST_CHECK;
void reduction_destroy(struct reduction *reduction); /* NULL is fine */

/*
 * Lets stages share windows: windows[i] is that of config.stages[i], which
 * takes it after those before it in the order. reduction_create_at() does so by
 * itself, where the row allows it. -ENOMEM, logged.
 */
int reduction_share(struct reduction *reduction,
		    const unsigned *windows) MUST_CHECK;

/* The place of a stage among reduction->stages, and what its rows take. */
unsigned reduction_stage_place(const struct reduction *reduction,
			       unsigned stage);
size_t reduction_stage_floats(const struct reduction *reduction,
			      unsigned stage);

/*
 * Every message that replica `from` sends in a phase, in order: to which
 * replica of this position, and as the route has it: kind, stage and
 * micro_batch (which name phase, round and bucket), bytes. `stage` says whose
 * REDUCE_GRAD it is, in REDUCTION_REDUCE; the others take no notice of it.
 * What is empty is not sent.
 */
typedef void reduction_emit_fn(void *argument, unsigned to_replica,
			       const struct message *message);
void reduction_emit(const struct reduction *reduction, unsigned from,
		    enum reduction_phase phase, unsigned stage,
		    reduction_emit_fn *emit, void *argument);

/* What a replica sends in a step, in all phases, counted. */
struct reduction_traffic {
	uint64_t bytes;
	uint64_t messages;
};
void reduction_count(const struct reduction *reduction, unsigned replica,
		     struct reduction_traffic *out);

/*
 * A chunk-wise transfer of one round: this replica sends chunks
 * [send_first, send_end) of a bucket to `peer`, and has
 * [receive_first, receive_end) of it from there. Rounds
 * [0, scatter_rounds) scatter: what comes is added; the rest gather.
 * reduction_transfers() says how many a round has.
 */
struct reduction_transfer {
	unsigned peer;
	unsigned send_first, send_end;
	unsigned receive_first, receive_end;
};
unsigned reduction_transfers(const struct reduction *reduction);
struct reduction_transfer reduction_transfer(const struct reduction *reduction,
					     unsigned replica, unsigned round,
					     unsigned index);

/*
 * The rounds of a phase (of a stage) in the order all replicas share. The
 * visitor gets the bucket's number. SQUARES has none.
 */
typedef void reduction_visit_fn(void *argument, unsigned bucket,
				unsigned round);
void reduction_walk(const struct reduction *reduction,
		    enum reduction_phase phase, unsigned stage,
		    reduction_visit_fn *visit, void *argument);

/* Where chunks [first, end) of a bucket lie: floats from its beginning. */
struct reduction_span {
	size_t offset;
	size_t count;
};
struct reduction_span reduction_span(const struct reduction *reduction,
				     unsigned bucket, unsigned first,
				     unsigned end);

/* The chunk that is a replica's own in the end. */
unsigned reduction_chunk(const struct reduction *reduction, unsigned replica);

/* A message of kind MESSAGE_REDUCE, and which round of which phase one is. */
struct message reduction_message(enum reduction_phase phase, unsigned round,
				 unsigned bucket, size_t bytes);
enum reduction_phase reduction_message_phase(const struct message *message);
unsigned reduction_message_round(const struct message *message);
unsigned reduction_message_bucket(const struct message *message);

/*
 * Elements of a parameter (of this slice) that are a replica's own: it holds
 * their sums, and sharded, it alone their optimizer state. In runs, ascending;
 * all replicas' together are the parameter.
 */
struct reduction_run {
	size_t first;
	size_t count;
};
unsigned reduction_shard_count(const struct reduction *reduction,
			       unsigned replica, unsigned parameter);
struct reduction_run reduction_shard(const struct reduction *reduction,
				     unsigned replica, unsigned parameter,
				     unsigned index);

/*
 * What the two ends of a tie exchange for one replica: its shard in pieces of
 * at most REDUCTION_TIE_PIECE_BYTES, the same at both ends. `parameter`: the
 * tied row or its target, whichever is here.
 */
unsigned reduction_tie_count(const struct reduction *reduction,
			     unsigned replica, unsigned parameter);
/* pieces[reduction_tie_count()] */
void reduction_tie_pieces(const struct reduction *reduction, unsigned replica,
			  unsigned parameter, struct reduction_run *pieces);
/* The tied parameter this position holds (the target first), or -1. */
int reduction_tied(const struct reduction *reduction);

/* What of piece `piece` of a bucket is a replica's own; count 0: nothing. */
struct reduction_run reduction_own_part(const struct reduction *reduction,
					unsigned replica, unsigned bucket,
					unsigned piece);

/*
 * Blocks of a replica's own that count in the norm, and doubles of its
 * message: by bucket, piece, and block.
 */
size_t reduction_squares(const struct reduction *reduction, unsigned replica);

#endif
