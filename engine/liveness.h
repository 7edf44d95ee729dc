/*
 * Liveness: who has gone quiet, and for whom everybody waits.
 *
 * A pure state machine: what ranks say and the time go in, a verdict comes
 * out. There are two signs of life. A rank is alive while anything comes from
 * it (its control thread beats whatever the rest of it does); it progresses
 * while its count of moves changes (actions begun, messages completed). One
 * that is silent for silence_ns is given up. One that is alive and has not
 * moved for the stall limit is not to blame if it waits for another rank:
 * the waits are followed from rank to rank, to the one that waits for nobody,
 * or round a circle.
 *
 * The clock of whoever looks may jump: the process was stopped, the laptop
 * slept, a terminal did not take its output. Nobody is blamed for time in
 * which the detector did not look; all counts then begin anew.
 *
 * The coordinator watches all ranks with one; each rank watches the
 * coordinator with one of size 1.
 */
#ifndef STAGECOACH_ENGINE_LIVENESS_H
#define STAGECOACH_ENGINE_LIVENESS_H

#include "base/compiler.h"

/* How often a sign of life is sent. */
#define LIVENESS_BEAT_NS (250LL * 1000000)

/* Detection within 5 s, with time left to tell all and to end. */
#define LIVENESS_SILENCE_DEFAULT_NS (3500LL * 1000000)

/* More than that between two looks: the detector was not running. */
#define LIVENESS_JUMP_NS (1000LL * 1000000)

/* A silence that is more than a beat or two late, but no verdict yet. */
#define LIVENESS_DOUBT_NS (1000LL * 1000000)

/*
 * The stall limit, unless one was given: ten times the longest action seen,
 * and at least a minute; ten minutes outside the steps, where one call may
 * read or write gigabytes, and in a rank's first, before it is known what is
 * long.
 */
#define LIVENESS_STALL_AUTO           (-1LL)
#define LIVENESS_STALL_FACTOR         10
#define LIVENESS_STALL_MIN_NS         (60LL * 1000000000)
#define LIVENESS_STALL_UNKNOWN_MIN_NS (600LL * 1000000000)

enum liveness_wait {
	LIVENESS_BUSY,       /* computes, reads, writes: waits for nobody */
	LIVENESS_WAITS_DATA, /* for a message of `peer` */
	LIVENESS_WAITS_ROOM, /* for `peer` to take a message */
	LIVENESS_WAITS_ALL,  /* at a barrier */
	LIVENESS_WAITS,      /* how many there are */
};

/* What a rank says about itself. */
struct liveness_state {
	uint64_t moves; /* changes whenever something gets done */
	int64_t step;   /* -1: none yet */
	enum liveness_wait wait;
	unsigned peer; /* of DATA and ROOM */
	bool between;  /* not in a step: starting, loading, checkpointing */
};

enum liveness_finding {
	LIVENESS_FINE,
	LIVENESS_SILENT,  /* no sign of life of `rank` */
	LIVENESS_STALLED, /* `rank` is alive, waits for nobody, does not move */
	LIVENESS_CIRCLE,  /* `rank` and those it waits for wait for each other,
			   * or `peer` is gone and will never answer */
};

struct liveness_verdict {
	enum liveness_finding finding;
	unsigned rank;
	unsigned peer;    /* CIRCLE: whom rank waits for */
	int64_t quiet_ns; /* how long already */
	int64_t limit_ns; /* what it was compared with */
};

struct liveness;

/*
 * silence_ns, stall_ns: 0 turns that sign off; stall_ns may be
 * LIVENESS_STALL_AUTO. -ENOMEM, logged.
 */
int liveness_create(unsigned size, int64_t silence_ns, int64_t stall_ns,
		    struct liveness **out) MUST_CHECK;
void liveness_destroy(struct liveness *liveness);

/* From now on signs of life of this rank are expected, or no longer. */
void liveness_expect(struct liveness *liveness, unsigned rank, int64_t now_ns);
void liveness_forget(struct liveness *liveness, unsigned rank);

/* Something came from it. */
void liveness_heard(struct liveness *liveness, unsigned rank, int64_t now_ns);

/* It said how it is; implies heard. A peer out of range counts as BUSY. */
void liveness_told(struct liveness *liveness, unsigned rank, int64_t now_ns,
		   const struct liveness_state *state);

/*
 * To be called at least every LIVENESS_BEAT_NS or so, after everything that
 * has come was read. Silence goes before stalls. Allocates nothing.
 */
struct liveness_verdict liveness_look(struct liveness *liveness,
				      int64_t now_ns);

/* Some rank has been silent for longer than LIVENESS_DOUBT_NS. */
bool liveness_in_doubt(const struct liveness *liveness, int64_t now_ns);

/* How long nothing has come from it; 0 if nothing is expected. */
int64_t liveness_silence_ns(const struct liveness *liveness, unsigned rank,
			    int64_t now_ns);

#endif
