/*
 * The simulator: when each action of a schedule starts and ends, from costs.
 *
 * Compute actions take the costs of their stage. A send takes no time of its
 * rank but waits until a receive for it is posted (receive n of a link is posted
 * when receive n - buffers is done; at 0 when the receiver stands at it). A
 * message occupies the wire from its rank to the other for bytes / bandwidth and
 * arrives `latency` later; messages of one wire go one after another. The
 * reductions take their own times; VOTE gathers all ranks. All times are in
 * one unit of the caller's choice (seconds, or the cost of an F).
 */
#ifndef STAGECOACH_SCHEDULES_SIMULATE_H
#define STAGECOACH_SCHEDULES_SIMULATE_H

#include "schedules/schedule.h"

struct schedule_costs {
	/* [stages], of one micro-batch through one stage (chunk). */
	const double *forward;
	const double *input;
	const double *weight;
	/*
	 * The loss layer computes its weight gradient within F: on the last stage
	 * F costs forward + weight, W nothing.
	 */
	bool loss_weight_in_forward;
	double latency;
	double bandwidth;     /* bytes per unit of time; 0: without limit */
	double message_bytes; /* of every message */
	double reduce;        /* of one REDUCE_GRAD */
	double reduce_tied;   /* of one REDUCE_TIED */
	double vote;
	unsigned buffers; /* or SCHEDULE_BUFFERS_ANY: sends never wait */
	/* [stages], of one micro-batch's activations from F until W; or NULL */
	const double *activation_bytes;
};

/* One action, once simulated: the rank reaches it, it leaves it. */
struct schedule_time {
	double start;
	double end;
};

struct schedule_simulation {
	unsigned ranks;
	double makespan;
	double bubble;  /* mean of idle */
	double *idle;   /* [ranks] makespan less busy */
	double *busy;   /* [ranks] in compute and reductions */
	double *window; /* [ranks] idle between its first and last compute */
	/* [ranks] most activations alive, micro-batches through one stage. */
	unsigned *peak_activations;
	double *peak_bytes; /* [ranks]; zero without activation_bytes */
	/* [ranks][actions of the row], or NULL if not asked for. */
	struct schedule_time **times;
};

/*
 * `lowered` must be valid (schedule_validate), or at least pass its row checks; a
 * deadlock under costs->buffers is -EDEADLK, logged. -ENOMEM, logged. On success
 * schedule_simulation_fini() is the caller's.
 */
int schedule_simulate(const struct schedule *lowered,
		      const struct schedule_costs *costs, bool times,
		      struct schedule_simulation *out) MUST_CHECK;
void schedule_simulation_fini(struct schedule_simulation *simulation);

#endif
