/*
 * A timeline: one step of a schedule as it happened or is predicted to, rank
 * by rank, ready to be drawn, exported or compared. Predicted and measured ones
 * have the same form, so that they can stand side by side.
 *
 * A rank's events follow each other and do not overlap; between them it does
 * nothing that has a name. What an action does besides computing is an event of
 * its own: a RECV lasts as long as the rank waits for that message, a SEND as
 * long as handing it over takes, waiting for room included; VOTE
 * and REDUCE_TIED include the wait for the other ranks.
 */
#ifndef STAGECOACH_ENGINE_TIMELINE_H
#define STAGECOACH_ENGINE_TIMELINE_H

#include "base/json.h"
#include "schedules/simulate.h"

struct timeline_event {
	struct action action;
	double start; /* seconds (or the costs' unit) since the step began */
	double end;
	/*
	 * SEND: when the message was there; 0: not known. (A RECV that waited
	 * ends at that moment; of one that did not, a simulation's times do not
	 * tell when its message came.)
	 */
	double arrival;
};

struct timeline_row {
	struct timeline_event *events;
	size_t count;
};

struct timeline {
	unsigned ranks;
	struct timeline_row *rows; /* [ranks] */
	double span;               /* of the step: the latest end */
};

/*
 * From a simulation that kept its times; events of length 0 stay for messages
 * only. -ENOMEM, logged. The caller's to timeline_fini().
 */
int timeline_from_simulation(const struct schedule *lowered,
			     const struct schedule_simulation *simulation,
			     struct timeline *out) MUST_CHECK;
/* Forgets all rows from `ranks` on. */
void timeline_keep(struct timeline *timeline, unsigned ranks);
void timeline_fini(struct timeline *timeline);

/* Where a rank's time went, in the timeline's unit. */
struct timeline_share {
	double compute; /* F, I, W, B */
	double sending;
	double waiting; /* RECV */
	double ending;  /* REDUCE_*, VOTE, STEP */
	double idle;    /* the rest of the span */
};
/* compute + sending + waiting + ending + idle is the span. */
void timeline_share(const struct timeline *timeline, unsigned rank,
		    struct timeline_share *out);

/* What messages take from one rank to another, on the way, in the mean. */
struct timeline_link {
	unsigned from, to;
	double travel;
	double usual; /* the median over the other links */
};

/*
 * Does one link take far longer than the others (four times as long, and
 * `least` more)? The worst of them. Only messages that their receiver waited
 * for tell. Of a failure for lack of memory: false.
 */
bool timeline_slow_link(const struct timeline *timeline, double least,
			struct timeline_link *out);

/*
 * [[["F",stage,micro_batch,start,end], ...], ...], rank by rank; times with 7
 * significant digits; SEND has the arrival as a sixth element where known.
 * NULL: no memory.
 */
json_t *timeline_to_json(const struct timeline *timeline);

/*
 * And back; the span is the latest end. -EINVAL, logged with origin. The
 * caller's to timeline_fini().
 */
int timeline_from_json(const json_t *json, const char *origin,
		       struct timeline *out) MUST_CHECK;

#endif
