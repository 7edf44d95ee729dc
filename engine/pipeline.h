/*
 * The pipeline, as far as one rank holds it: its stages, their memory, the
 * links to other ranks, and the interpreter that carries out its row of the
 * schedule.
 *
 * A pipeline is built for a purpose: training (F, I, W and the step's end,
 * and forward passes between the steps for evaluation), evaluation, or
 * generation. Everything is allocated when it is built; a step allocates
 * nothing.
 */
#ifndef STAGECOACH_ENGINE_PIPELINE_H
#define STAGECOACH_ENGINE_PIPELINE_H

#include "engine/exchange.h"
#include "engine/holding.h"
#include "engine/job.h"
#include "engine/route.h"
#include "engine/stage.h"
#include "engine/tie.h"
#include "engine/world.h"

/* Two messages of a kind may be on their way out of a stage. */
#define PIPELINE_OUTGOING 2

struct pipeline_sender {
	struct outgoing slots[PIPELINE_OUTGOING];
	unsigned current;
};

/* The columns of one replica's micro-batches of a pass, as one message. */
struct pipeline_batch {
	uint64_t supervised; /* labels that count, in all replicas' */
	uint64_t stop;       /* generation: this is the last pass */
	uint64_t reserved[6];
	/* labels, if the job is packed where examples begin (see
	 * COLUMN_SEGMENTS), then tokens: [M / D * B, T] each */
	int32_t columns[];
};

struct collective; /* engine/collective.h */
struct ferry;      /* engine/ferry.h */
struct reduction;  /* engine/reduction.h */
struct shards;     /* engine/shards.h */
struct vote;       /* engine/vote.h */
struct trace;      /* engine/trace.h */

struct pipeline {
	struct world *world;
	bool brief; /* pipeline_sketch_brief() */
	const struct job *job;
	const struct model *model;
	const struct partition *partition;
	struct grid grid;
	struct grid_place place; /* this rank's in it */
	unsigned share;          /* micro-batches of a replica: M / D */
	struct accumulation accumulation;

	struct schedule *forward_schedule; /* lowered */
	struct schedule *train_schedule;   /* lowered; NULL: not training */
	struct route *forward_route;
	struct route *train_route;
	struct schedule_tie tie;        /* embedding and head */
	unsigned tie_count;             /* 0 or 1 */
	unsigned tie_pieces;            /* of this replica's part of it */
	struct reduction_run *tie_runs; /* [tie_pieces] */
	struct tie_plan tie_plan;       /* how its ends exchange */
	unsigned ahead;                 /* receives posted ahead a link */
	/* [positions] how the replicas of one sum their gradients: that of this
	 * rank's, and on the root all; NULL: not training. */
	struct reduction **reductions;

	struct reach reach;  /* which ranks see the files of the run */
	struct ferry *ferry; /* takes tensors to those that do not */
	void *ferry_memory;  /* NULL: nothing to take from or to this rank */

	struct shards *shards; /* of the optimizer's state; NULL: not shared */
	struct store *store;
	struct stage **stages; /* [stages]; NULL: on another rank */
	struct pipeline_sender *forward_senders; /* [stages] */
	struct pipeline_sender *backward_senders;
	struct exchange *exchange;
	struct collective *collective; /* NULL: this rank has whole layers */
	void *collective_memory;
	bool *needs_batch;  /* [positions], and the columns themselves: */
	bool *needs_tokens; /* [positions] */
	struct pipeline_batch *batch; /* this replica's; the root has all */
	size_t batch_stride;          /* bytes from one replica's to the next */
	bool *batch_busy;             /* [ranks] */
	unsigned char *region;        /* messages, all in one piece */
	unsigned char *tie_staging;
	float *logits; /* generation, on the loss rank: [V] */
	/* [M] losses (of a job that scores requests [M, B]), root; own [share]
	 * on the loss rank; and room for a caller's copy of them. */
	double *result;
	double *losses;
	int32_t *token;   /* the one generated last */
	bool result_busy; /* either is on its way to the root */
	struct tie *tied; /* NULL: no end here, or whole shards are exchanged */
	void *reducer_memory;
	struct reducer *reducer; /* NULL: not training */
	void *registered[3];     /* of the store: gradients, sums, weights */
	unsigned registered_count;
	struct vote *vote;
	struct trace *trace; /* NULL: nothing is recorded */

	struct stage_pass pass; /* the one under way */
	double learning_rate;   /* of this step */
	uint64_t serial;        /* of the pass: tells messages apart */
	int64_t pass_begin_ns;
};

/*
 * Builds this rank's part and connects it. Weights are zero. The schedule is
 * validated first; what it says is wrong is logged.
 */
int pipeline_create(struct world *world, const struct job *job,
		    const struct model *model,
		    struct pipeline **out) MUST_CHECK;
void pipeline_destroy(struct pipeline *pipeline);

/*
 * The same without links and memory: schedules, routes and sizes, for `plan`.
 * Of the world only rank, size and team are looked at. The questions below are
 * about one rank; pipeline_stand_at() changes which.
 */
int pipeline_sketch(struct world *world, const struct job *job,
		    const struct model *model,
		    struct pipeline **out) MUST_CHECK;
/*
 * Without routes and sums, in far less time where there is much to sum: the
 * messages of the vote and the sums are missing in the region's bytes.
 */
int pipeline_sketch_brief(struct world *world, const struct job *job,
			  const struct model *model,
			  struct pipeline **out) MUST_CHECK;
void pipeline_stand_at(struct pipeline *sketch, unsigned rank);
/* How a stage is made (store NULL in a sketch); the rank's message region. */
void pipeline_stage_config(const struct pipeline *pipeline, unsigned stage,
			   struct stage_config *out);
size_t pipeline_region_bytes(struct pipeline *pipeline);
/* Neighbouring stages on different ranks; no stage (-1u, stages): false. */
bool pipeline_has_link(const struct pipeline *pipeline, unsigned from,
		       unsigned to);

/* What decides which rank holds what (engine/holding.h). */
void pipeline_holders(const struct pipeline *pipeline, struct holders *out);

/* How this rank's position reduces; NULL where nothing is trained. */
const struct reduction *pipeline_reduction(const struct pipeline *pipeline);

/* True on the rank that holds the last stage. */
bool pipeline_holds_loss(const struct pipeline *pipeline);

/*
 * What the root fills before a pass: of each replica [M / D * B, T] labels,
 * tokens and, if the job is packed, where examples begin (else NULL), and how
 * many labels count in all of them.
 */
int32_t *pipeline_labels(const struct pipeline *pipeline, unsigned replica);
int32_t *pipeline_starts(const struct pipeline *pipeline, unsigned replica);
int32_t *pipeline_tokens(const struct pipeline *pipeline, unsigned replica);
void pipeline_set_supervised(struct pipeline *pipeline, uint64_t supervised);

/* Samples of one replica's share of a pass. */
uint64_t pipeline_share_samples(const struct pipeline *pipeline);

/*
 * One training step: forward, backward, vote, update. `step` counts from 0;
 * first_sample is the global id of the batch's first sample. On the root the
 * batch is filled in. The verdict is the same on all ranks.
 */
struct verdict;
int pipeline_train_step(struct pipeline *pipeline, uint64_t step,
			uint64_t first_sample, double learning_rate,
			struct verdict *out) MUST_CHECK;

/*
 * A forward pass over the batch. losses[M]: sums over each micro-batch's
 * supervised tokens; right on the root alone.
 */
int pipeline_evaluate(struct pipeline *pipeline, double *losses) MUST_CHECK;

/*
 * A forward pass of a job that scores requests, over a batch of [M / D * B, time]
 * for each replica, time up to the job's context and the same on all ranks.
 * losses[M * B]: of each sample; right on the root alone.
 */
int pipeline_score(struct pipeline *pipeline, size_t time,
		   double *losses) MUST_CHECK;

/*
 * Readies this rank's layers for such passes of `time` tokens, so that none of
 * them allocates. -ENOMEM, logged.
 */
int pipeline_prepare_score(struct pipeline *pipeline, size_t time) MUST_CHECK;

/*
 * Generation (M = B = 1): `time` tokens, which on the root stand in the batch,
 * at positions offset .. offset + time - 1. choose() is called on the
 * loss rank with the logits of the last one; the token it picks is in *token there
 * and on the root.
 */
typedef int32_t pipeline_choose_fn(void *argument, const float *logits,
				   size_t vocab_size);
int pipeline_decode(struct pipeline *pipeline, size_t offset, size_t time,
		    pipeline_choose_fn *choose, void *argument,
		    int32_t *token) MUST_CHECK;

/*
 * For the interpreter: sizes and fixed places of a route's messages for the
 * pass under way, and the bytes of a batch as ranks at `position` get it.
 */
void pipeline_dress(struct pipeline *pipeline, struct route *route);
void pipeline_route_config(const struct pipeline *pipeline, bool train,
			   struct route_config *out);
/* Of an activation or its gradient, on its way to message->stage. */
size_t pipeline_edge_bytes(const struct pipeline *pipeline,
			   const struct message *message);
size_t pipeline_batch_bytes(const struct pipeline *pipeline, unsigned position);
struct pipeline_batch *pipeline_batch(const struct pipeline *pipeline,
				      unsigned replica);

/* Does this rank hold a stage; and which one of its replica and slice does. */
bool pipeline_holds(const struct pipeline *pipeline, unsigned stage);
unsigned pipeline_rank_with(const struct pipeline *pipeline, unsigned stage);

#endif
