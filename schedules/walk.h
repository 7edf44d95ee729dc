/*
 * Inside schedules/: the walk, an event-driven run of a lowered schedule in
 * model time. The validator walks with unit times, the simulator with
 * given ones.
 *
 * Each rank goes through its row; a compute action takes its cost; a send
 * waits until its receive is posted (receive n of a link is posted when receive
 * n - k is done; at k = 0 when the receiver stands at it) and then takes no time of
 * the sender; a receive waits until the message has arrived. All messages
 * from one rank to another share one wire, in order. Times depend only on
 * the schedule, never on the order in which the walk visits the ranks.
 */
#ifndef STAGECOACH_SCHEDULES_WALK_H
#define STAGECOACH_SCHEDULES_WALK_H

#include "schedules/schedule.h"

struct walk_costs {
	const double *forward; /* per stage, in any unit of time */
	const double *input;
	const double *weight;
	double latency;     /* of a message */
	double transfer;    /* wire time of a message */
	double reduce;      /* of one REDUCE_GRAD */
	double reduce_tied; /* of one REDUCE_TIED, from the later rank on */
	double vote;        /* from the last rank on */
	unsigned buffers;   /* k; SCHEDULE_BUFFERS_ANY: sends never wait */
};

/* Called for every action once done: when the rank reached it, and left it. */
typedef void walk_record_fn(void *argument, unsigned rank, size_t position,
			    double start, double end);

struct walk;

/* `schedule` must have passed the row checks, lowered. -ENOMEM, logged. */
int walk_create(const struct schedule *schedule, struct walk **out) MUST_CHECK;
void walk_destroy(struct walk *walk);

/*
 * Runs to the end or until no rank can move; may be called again with other
 * costs. 0: *finished says which. -ENOMEM, logged.
 */
int walk_run(struct walk *walk, const struct walk_costs *costs,
	     walk_record_fn *record, void *argument, bool *finished) MUST_CHECK;

/* After a finished run. */
double walk_makespan(const struct walk *walk);
double walk_busy(const struct walk *walk, unsigned rank);

/* Between the start of its first compute action and the end of its last. */
double walk_window_idle(const struct walk *walk, unsigned rank);

/* After an unfinished one: where each rank stands (its row's count: done). */
size_t walk_position(const struct walk *walk, unsigned rank);

#endif
