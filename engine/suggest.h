/*
 * Which grid, schedule and micro-batches train a model fastest on a number of
 * hosts: a search over what can be planned.
 *
 * A candidate is D x P x T, stages a rank, schedule, micro-batch size,
 * recomputation and sharding. Whole families of them are put aside by
 * bounds that no plan falls below: weights and optimizer state against the
 * memory, work and sums against the best step so far. The rest is planned
 * (engine/plan.h), most promising first, so that what is proposed has been
 * simulated and its memory added up as `plan` would.
 */
#ifndef STAGECOACH_ENGINE_SUGGEST_H
#define STAGECOACH_ENGINE_SUGGEST_H

#include "engine/plan.h"
#include "schedules/schedule.h"

struct suggest_request {
	/* Context, optimizer; what is to be found is taken no notice of. */
	const struct job *job;
	const struct model *model; /* whole layers */
	unsigned hosts;
	unsigned host_ranks; /* ranks a host */
	double memory;       /* bytes of a host */
	unsigned samples;    /* the global batch: sequences a step */
	unsigned threads;    /* a rank */
	/*
	 * Of the whole model's layers, in seconds, not recomputing, with
	 * micro-batches of costs->micro_batch_size x job->context, on a rank.
	 */
	const struct costs *costs;
	const struct calibration_rates *rates;
	/* Within a host, of costs->tensor_bandwidth; a larger group spans hosts
	 * and has costs->bandwidth. At most so many. */
	unsigned slices_max;

	/* What is to be kept; 0 or NULL: free. */
	unsigned replicas, positions, slices, chunks, micro_batch_size;
	const char *schedule;
	bool recompute;
	bool sharded;

	double effort; /* micro-batches x stages planned, about; 0: some 4e6 */
	bool any;      /* the first that fits will do */
};

struct suggestion {
	char schedule[SCHEDULE_NAME_BYTES];
	struct grid grid;
	unsigned chunks;
	unsigned micro_batches; /* global */
	unsigned micro_batch_size;
	bool recompute;
	bool sharded;
	unsigned hosts;    /* in use */
	size_t rank_bytes; /* of the rank that holds most */
	double step;       /* seconds */
	double tokens_per_second;
	double bubble;
	double summing; /* of a rank's network, at most */
	/* Bytes that a rank sends in a step, the most of any. */
	double sent_stages, sent_replicas, sent_slices;
	struct plan_parts parts; /* by suggest_explain() */
};

struct suggestions {
	struct suggestion *fitting; /* [count], fastest first */
	size_t count;
	size_t planned;   /* of which so many were planned, and did or did not
	     fit */
	size_t too_large; /* planned, and did not fit */
	size_t considered;
	bool complete; /* nothing was left out for lack of effort */
	/* Of all planned, the one that needs least; rank_bytes 0: none was. */
	struct suggestion least;
};

/*
 * -EINVAL, logged, when nothing can be planned at these sizes at all; that
 * nothing fits the memory is no error: count is 0. -ENOMEM. The caller's to
 * suggestions_fini() on success.
 */
int suggest_find(const struct suggest_request *request,
		 struct suggestions *out) MUST_CHECK;
void suggestions_fini(struct suggestions *suggestions);

/*
 * Fills in suggestion->parts. `full`: plans it as `plan` does, and sets all else
 * anew; suggest_find() has its memory and bytes within some MiB.
 */
int suggest_explain(const struct suggest_request *request, bool full,
		    struct suggestion *suggestion) MUST_CHECK;

#endif
