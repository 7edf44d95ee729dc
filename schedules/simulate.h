/*
 * The simulator: when each action of a schedule starts and ends, from costs.
 *
 * Compute actions take the costs of their stage. A send waits until a receive
 * for it is posted: receive n of a link is posted when receive n - buffers is
 * done; at 0 buffers when the receiver stands at it. Then it takes `send` of its
 * rank's own time (nothing as a rule: a transport with copies or checksums takes
 * some). The message then occupies the wire from its rank to the other for
 * bytes / bandwidth and arrives `latency` later; all messages between two ranks
 * in one direction share one wire, one after another. A receive waits for the
 * message and takes `receive` of its rank's own time. The reductions take their
 * times; a tie is done for both its ranks at the later one's time, and no earlier
 * than tied_early after the last stage's rank has done the last F of that stage
 * and has sent what it sends to the first stage's rank; VOTE gathers all ranks, and
 * STEP ends the row. All times are in one unit of the
 * caller's choice (seconds, or the cost of an F).
 *
 * Replicas of the pipeline run the same rows at the same times, so one of them
 * is walked. The sum of a stage's gradients over the replicas, which
 * REDUCE_GRAD stands for, takes the rank's network for replica_latency a round
 * and for its bytes, beside whatever the row goes on with; a sum of a rank waits
 * for the one before. It begins when the last W (or B) of the stage ends, or
 * reduce_lead earlier, when the first layer's gradients are complete, and ends no
 * earlier than reduce_tail after that W: what the last layers take.
 * REDUCE_TIED and VOTE wait until the rank's sums are done; what the tie has
 * summed up is then told to the replicas before VOTE (tied_gather_bytes), and
 * the weights of a sharded optimizer behind STEP (gather_bytes).
 *
 * Links are directed and numbered by the stage they lead to: link 2s brings
 * stage s its input from stage s - 1, link 2s + 1 brings stage s its gradient
 * from stage s + 1. Of the 2 * stages numbers those that leave the pipeline (0
 * and the last) or join stages of one rank mean nothing.
 */
#ifndef STAGECOACH_SCHEDULES_SIMULATE_H
#define STAGECOACH_SCHEDULES_SIMULATE_H

#include "schedules/schedule.h"

/* Nothing is negative. Arrays are the caller's; NULL where it says so. */
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

	/* Of every link, or [2 * stages] by link where the array is not NULL. */
	double latency;
	double bandwidth;     /* bytes per unit of time; 0: without limit */
	double message_bytes; /* of one message */
	unsigned buffers;     /* or SCHEDULE_BUFFERS_ANY: sends never wait */
	const double *link_latency;
	const double *link_bandwidth;
	const double *link_bytes;
	const unsigned *link_buffers;
	/* Of the rank's own time, per message handed over and taken in. */
	double send;
	double receive;

	double reduce;              /* of one REDUCE_GRAD, or */
	const double *stage_reduce; /* [stages] where not NULL */
	double reduce_tied;         /* of one REDUCE_TIED */
	double tied_early;          /* of what the last stage sends before it */
	double vote;
	const double *rank_step; /* [ranks], of STEP; NULL: 0 */

	/* Between replicas; reduce_bytes NULL: there are none. Bytes are those
	 * one rank sends, and it receives as many meanwhile. */
	const double *reduce_bytes; /* [stages], of the sum of a stage */
	double reduce_rounds;       /* messages of a sum, one after another */
	const double *reduce_lead;  /* [stages], times; NULL: 0 */
	const double *reduce_tail;  /* [stages], times; NULL: 0 */
	double replica_latency;
	double replica_bandwidth; /* bytes per unit of time; 0: no limit */
	double tied_gather_bytes;
	const double *gather_bytes; /* [ranks]; NULL: 0 */
	double gather_rounds;       /* of either gather */

	/* [stages], of one micro-batch, from F until W (B); NULL: 0 */
	const double *activation_bytes;
	/* [stages], of what I leaves for W, from I until W; NULL: 0 */
	const double *pending_bytes;
};

/*
 * One action: its rank comes to it, has all it needs, leaves it. What lies
 * between start and ready is waiting.
 */
struct schedule_time {
	double start;
	double ready;
	double end;
	/* Of a send: at the other side; of a REDUCE_GRAD: its sum is done. */
	double arrival;
};

struct schedule_simulation {
	unsigned ranks;
	double makespan;
	double bubble;  /* mean of idle */
	double *idle;   /* [ranks] makespan less busy */
	double *busy;   /* [ranks] in compute, reductions and STEP */
	double *window; /* [ranks] idle between its first and last compute */
	/*
	 * [ranks] what idle consists of, less what follows a rank's last
	 * action: time waiting at receives, for posted receives at sends, and for
	 * other ranks at ties and the vote; and its own time for messages:
	 * handing over, taking in, the vote itself.
	 */
	double *waiting;
	double *sending;
	/*
	 * [ranks] Between replicas: what the rank's network did for sums and
	 * gathers, what of that the rank had nothing to do but to wait for (part
	 * of idle), and the bytes it sent for them.
	 */
	double *reducing;
	double *exposed;
	double *bytes_reduced;
	double *bytes_sent;      /* [ranks] by SEND_F and SEND_B */
	uint64_t *messages_sent; /* [ranks] likewise */
	/* [ranks] most activations alive, micro-batches through one stage. */
	unsigned *peak_activations;
	/* [ranks] zero without activation_bytes and pending_bytes */
	double *peak_bytes;
	/* [ranks][actions of the row], or NULL if not asked for. */
	struct schedule_time **times;
};

/*
 * `lowered` must be valid (schedule_validate), or at least pass its row checks; a
 * deadlock under the buffers is -EDEADLK, logged. -ENOMEM, logged. On success
 * schedule_simulation_fini() is the caller's.
 */
int schedule_simulate(const struct schedule *lowered,
		      const struct schedule_costs *costs, bool times,
		      struct schedule_simulation *out) MUST_CHECK;
void schedule_simulation_fini(struct schedule_simulation *simulation);

/*
 * The most bytes alive on a rank by activation_bytes and pending_bytes, from
 * the order of its row alone. *activations, unless NULL: likewise the most
 * activations, in micro-batches through one stage.
 */
double schedule_peak_bytes(const struct schedule *schedule, unsigned rank,
			   const struct schedule_costs *costs,
			   unsigned *activations);

#endif
