/*
 * Inside schedules/: the walk, an event-driven run of a lowered schedule in
 * model time. The validator walks with unit times, the simulator and the
 * search with given ones. What the costs mean is told in simulate.h.
 *
 * Each rank goes through its row until it must wait for another. Times depend
 * only on the schedule, never on the order in which the walk visits the ranks.
 */
#ifndef STAGECOACH_SCHEDULES_WALK_H
#define STAGECOACH_SCHEDULES_WALK_H

#include "schedules/simulate.h"

/* Costs of one link: its own, or those of all. */
static inline double link_transfer(const struct schedule_costs *costs,
				   size_t link)
{
	double bytes = costs->link_bytes ? costs->link_bytes[link]
					 : costs->message_bytes;
	double bandwidth = costs->link_bandwidth ? costs->link_bandwidth[link]
						 : costs->bandwidth;

	return bandwidth > 0 ? bytes / bandwidth : 0;
}

static inline double link_latency(const struct schedule_costs *costs,
				  size_t link)
{
	return costs->link_latency ? costs->link_latency[link] : costs->latency;
}

static inline unsigned link_buffers(const struct schedule_costs *costs,
				    size_t link)
{
	return costs->link_buffers ? costs->link_buffers[link] : costs->buffers;
}

/* Where a rank stands, and how it spent its time until then. */
struct walk_rank {
	size_t position; /* in its row; the row's count: done */
	double now;
	double busy;    /* compute, reductions, step */
	double waiting; /* for other ranks */
	double sending; /* handing over, taking in, voting */
	/* From its first compute action to its last; first < 0: none yet. */
	double first;
	double last;
	double computing;
	/* Since when the head's gradient may travel: see tied_early. */
	double headed;
	/* Sums over replicas: until when the last begun one goes on; */
	double summed;
	double reducing; /* all of them together, on the network */
	double exposed;  /* of that, waited for */
};

struct walk;

/*
 * `schedule` must have passed the row checks, lowered, and must outlive the
 * walk. Its rows may be put in another order between runs, if they pass the row
 * checks again. -ENOMEM, logged.
 */
int walk_create(const struct schedule *schedule, struct walk **out) MUST_CHECK;
void walk_destroy(struct walk *walk);

/*
 * From now on a run ends, unfinished, when a rank has waited for messages longer
 * than this in all: [ranks], the caller's; NULL: never.
 */
void walk_limit(struct walk *walk, const double *most_waiting);

/*
 * Runs to the end or until no rank can move; may be called again with other
 * costs. times: [ranks][actions of the row], written as far as the run comes;
 * or NULL. 0: *finished says whether it came to the end. -ENOMEM, logged.
 */
int walk_run(struct walk *walk, const struct schedule_costs *costs,
	     struct schedule_time *const *times, bool *finished) MUST_CHECK;

/* Of the last run. */
const struct walk_rank *walk_rank(const struct walk *walk, unsigned rank);
double walk_makespan(const struct walk *walk);

/* Messages sent by a link (build.h) in the last run. */
unsigned walk_messages(const struct walk *walk, size_t link);

#endif
