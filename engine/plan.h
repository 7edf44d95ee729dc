/*
 * The plan of a training run: what each rank will hold, and how long a step
 * will take, before anything is started.
 *
 * Memory is not estimated: the sizes are those by which the ranks allocate
 * (engine/pipeline.h, engine/stage.h, engine/store.h), and what is not theirs
 * (the program, its threads, the library's work memory) has been measured. Time is
 * the simulator's, from costs of layers that were measured or given.
 */
#ifndef STAGECOACH_ENGINE_PLAN_H
#define STAGECOACH_ENGINE_PLAN_H

#include "engine/calibrate.h"
#include "engine/grid.h"
#include "engine/job.h"
#include "engine/partition.h"
#include "engine/traffic.h"

/*
 * What one rank holds; bytes, all of them touched within a step. One stands for
 * all ranks at its position of the pipeline: replicas and slices hold and do the
 * same, but for the root, which has more and is the one that is counted.
 */
struct plan_rank {
	unsigned stages;
	unsigned layers;
	uint64_t parameters; /* a tied one once, where both ends are here */
	size_t weights;      /* rounded copies included */
	size_t gradients;
	size_t optimizer;
	size_t activations; /* slots of micro-batches in flight */
	size_t messages;    /* being received and sent, and the batch */
	size_t scratch;
	size_t other; /* program, threads, tables */
	size_t total;
	size_t unsure;       /* of total, in brief: may be less by so much */
	struct traffic sent; /* in a step */

	/* After plan_predict(): of one step, in the costs' unit. */
	double busy;
	double idle;
	/* Sums over replicas: what they take of its network. */
	double summing;
};

struct plan_stage {
	unsigned rank;
	unsigned first_layer; /* layers [first_layer, end_layer) */
	unsigned end_layer;
	unsigned in_flight; /* micro-batches, at most */
	/* After plan_predict(): of one micro-batch, in the costs' unit. */
	double forward;
	double input;
	double weight;
};

struct plan {
	struct grid grid;
	unsigned ranks; /* of one pipeline: its positions */
	unsigned stages;
	unsigned threads; /* a rank */
	struct plan_rank *rank;
	struct plan_stage *stage;
	unsigned largest_rank; /* by total */

	/* After plan_predict(). */
	bool seconds;  /* else the costs are plain numbers */
	double step;   /* time of a step */
	double bubble; /* share of it that ranks are idle, their mean */
	double tokens_per_second; /* 0: no seconds */
	unsigned slowest_rank;    /* busy for longest */
	unsigned slowest_stage;
	bool cores_shared; /* step is what the cores take, not the schedule */
	unsigned summing_rank; /* whose sums over replicas take longest */

	struct plan_sketch *sketch; /* private */
};

/*
 * The memory of a job that trains, split as job->partition says, with
 * `threads` threads a rank. job and model must outlive the plan. -EINVAL,
 * logged, for what no rank would accept either; -ENOMEM.
 */
int plan_create(const struct job *job, const struct model *model,
		unsigned threads, struct plan **out) MUST_CHECK;
/*
 * The same in far less time where there are many replicas: what a rank has for
 * the others is estimated, all else is exact. For a search.
 */
int plan_create_brief(const struct job *job, const struct model *model,
		      unsigned threads, struct plan **out) MUST_CHECK;
void plan_destroy(struct plan *plan); /* NULL is legal */

/*
 * The times. Costs of any kind that fit the schedule; where they leave the end
 * of a step open (0) it follows from `rates` (NULL: takes no time). `copies`:
 * ranks that compute at once on this machine (struct calibration); fewer than
 * ranks: they take turns. -EINVAL, -EDEADLK, -ENOMEM, logged.
 */
int plan_predict(struct plan *plan, const struct costs *costs,
		 const struct calibration_rates *rates,
		 unsigned copies) MUST_CHECK;

/*
 * Where the time of a step goes, in the order in which it is told apart: what
 * every rank computes in the mean if nothing is in its way; what the rank that
 * works longest has on top; what the schedule leaves idle; what messages
 * between stages, and then sums over replicas, lengthen the step by; and what
 * stands at its end. They add up to the schedule's step (plan.step, unless ranks
 * share cores). Sums within tensor groups are part of the compute, and told
 * once more by themselves.
 */
struct plan_parts {
	double compute;
	double imbalance;
	double bubble;
	double links;
	double replicas;
	double end;    /* tie, vote, optimizer */
	double tensor; /* of compute */
};

/* For the same costs and rates as plan_predict(), which has been called. */
int plan_explain(struct plan *plan, const struct costs *costs,
		 const struct calibration_rates *rates,
		 struct plan_parts *out) MUST_CHECK;

/*
 * For partition_find(): the bytes of a stage that holds other layers, and of a
 * rank beside its stages, [ranks] (the plan's). Of a split found so no rank
 * holds more than they say.
 */
double plan_stage_bytes(void *plan, unsigned stage, unsigned first_layer,
			unsigned end_layer);
const double *plan_fixed_bytes(struct plan *plan);
const unsigned *plan_rank_of_stage(const struct plan *plan);

#endif
