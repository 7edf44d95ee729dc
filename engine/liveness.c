#include "engine/liveness.h"

#include "base/log.h"
#include <errno.h>
#include <stdlib.h>

struct member {
	bool expected;
	bool told;          /* `state` has been said */
	int64_t first_step; /* the first one told of; -1: none yet */
	int64_t heard_ns;
	int64_t moved_ns; /* when state.moves was seen to change */
	struct liveness_state state;
};

struct liveness {
	unsigned size;
	int64_t silence_ns;
	int64_t stall_ns;
	int64_t looked_ns;  /* 0: never */
	int64_t longest_ns; /* the longest action a rank went on after */
	struct member member[];
};

int liveness_create(unsigned size, int64_t silence_ns, int64_t stall_ns,
		    struct liveness **out)
{
	struct liveness *liveness =
		calloc(1, sizeof(*liveness) + size * sizeof(struct member));

	if (!liveness)
		return fail(-ENOMEM, "no memory to watch %u ranks", size);
	liveness->size = size;
	liveness->silence_ns = silence_ns;
	liveness->stall_ns = stall_ns;
	*out = liveness;
	return 0;
}

void liveness_destroy(struct liveness *liveness)
{
	free(liveness);
}

void liveness_expect(struct liveness *liveness, unsigned rank, int64_t now_ns)
{
	liveness->member[rank] = (struct member){
		.expected = true,
		.first_step = -1,
		.heard_ns = now_ns,
		.moved_ns = now_ns,
	};
}

void liveness_forget(struct liveness *liveness, unsigned rank)
{
	liveness->member[rank].expected = false;
}

void liveness_heard(struct liveness *liveness, unsigned rank, int64_t now_ns)
{
	liveness->member[rank].heard_ns = now_ns;
}

/* What it did until now is done: how long did that take? */
static void note_move(struct liveness *liveness, struct member *member,
		      int64_t now_ns)
{
	int64_t took_ns = now_ns - member->moved_ns;

	if (member->told && member->state.wait == LIVENESS_BUSY &&
	    !member->state.between)
		liveness->longest_ns = MAX(liveness->longest_ns, took_ns);
	member->moved_ns = now_ns;
}

void liveness_told(struct liveness *liveness, unsigned rank, int64_t now_ns,
		   const struct liveness_state *state)
{
	struct member *member = &liveness->member[rank];

	member->heard_ns = now_ns;
	if (!member->told || state->moves != member->state.moves)
		note_move(liveness, member, now_ns);
	member->told = true;
	member->state = *state;
	if (member->first_step < 0)
		member->first_step = state->step;
	if ((state->wait == LIVENESS_WAITS_DATA ||
	     state->wait == LIVENESS_WAITS_ROOM) &&
	    (state->peer >= liveness->size || state->peer == rank))
		member->state.wait = LIVENESS_BUSY;
}

int64_t liveness_silence_ns(const struct liveness *liveness, unsigned rank,
			    int64_t now_ns)
{
	const struct member *member = &liveness->member[rank];

	return member->expected ? now_ns - member->heard_ns : 0;
}

bool liveness_in_doubt(const struct liveness *liveness, int64_t now_ns)
{
	for (unsigned i = 0; liveness->silence_ns && i < liveness->size; i++) {
		if (liveness_silence_ns(liveness, i, now_ns) >
		    LIVENESS_DOUBT_NS)
			return true;
	}
	return false;
}

static void begin_anew(struct liveness *liveness, int64_t now_ns)
{
	for (unsigned i = 0; i < liveness->size; i++) {
		liveness->member[i].heard_ns = now_ns;
		liveness->member[i].moved_ns = now_ns;
	}
}

static bool find_silent(const struct liveness *liveness, int64_t now_ns,
			struct liveness_verdict *verdict)
{
	for (unsigned i = 0; liveness->silence_ns && i < liveness->size; i++) {
		int64_t quiet_ns = liveness_silence_ns(liveness, i, now_ns);

		/* The longest silence is the cause, if there are several. */
		if (quiet_ns < liveness->silence_ns ||
		    quiet_ns <= verdict->quiet_ns)
			continue;
		*verdict = (struct liveness_verdict){
			.finding = LIVENESS_SILENT,
			.rank = i,
			.quiet_ns = quiet_ns,
			.limit_ns = liveness->silence_ns,
		};
	}
	return verdict->finding != LIVENESS_FINE;
}

/* ---- stalls ---- */

static int64_t stall_limit_ns(const struct liveness *liveness,
			      const struct member *member)
{
	int64_t limit_ns = LIVENESS_STALL_FACTOR * liveness->longest_ns;
	bool unknown = member->state.between ||
		       member->state.step <= member->first_step;

	if (liveness->stall_ns != LIVENESS_STALL_AUTO)
		return liveness->stall_ns;
	return MAX(limit_ns, unknown ? LIVENESS_STALL_UNKNOWN_MIN_NS
				     : LIVENESS_STALL_MIN_NS);
}

static bool is_stuck(const struct liveness *liveness,
		     const struct member *member, int64_t now_ns)
{
	return member->expected && member->told &&
	       now_ns - member->moved_ns >= stall_limit_ns(liveness, member);
}

/* Whom a rank waits for; `size`: nobody. */
static unsigned next_of(const struct liveness *liveness, unsigned rank)
{
	const struct liveness_state *state = &liveness->member[rank].state;

	switch (state->wait) {
	case LIVENESS_WAITS_DATA:
	case LIVENESS_WAITS_ROOM:
		return state->peer;
	case LIVENESS_WAITS_ALL:
		/* One that has not come to the barrier. */
		for (unsigned i = 0; i < liveness->size; i++) {
			const struct member *other = &liveness->member[i];

			if (other->expected &&
			    (!other->told ||
			     other->state.wait != LIVENESS_WAITS_ALL))
				return i;
		}
		return liveness->size;
	case LIVENESS_BUSY:
	case LIVENESS_WAITS:
		break;
	}
	return liveness->size;
}

/*
 * From a rank that does not move to the end of its chain of waits. All on the
 * way must have been stuck for long: one that moved a moment ago may be about
 * to send what the others wait for.
 */
static bool follow(const struct liveness *liveness, unsigned rank,
		   int64_t now_ns, struct liveness_verdict *verdict)
{
	unsigned next = rank;

	for (unsigned hops = 0; hops <= liveness->size; hops++) {
		const struct member *member = &liveness->member[next];

		if (!is_stuck(liveness, member, now_ns))
			return false;
		*verdict = (struct liveness_verdict){
			.finding = LIVENESS_STALLED,
			.rank = next,
			.peer = next_of(liveness, next),
			.quiet_ns = now_ns - member->moved_ns,
			.limit_ns = stall_limit_ns(liveness, member),
		};
		if (verdict->peer == liveness->size)
			return true;
		if (!liveness->member[verdict->peer].expected)
			break;
		next = verdict->peer;
	}
	/* More hops than ranks: round and round. Or whom it awaits is gone. */
	verdict->finding = LIVENESS_CIRCLE;
	return true;
}

struct liveness_verdict liveness_look(struct liveness *liveness, int64_t now_ns)
{
	struct liveness_verdict verdict = {.finding = LIVENESS_FINE};
	bool jumped = liveness->looked_ns &&
		      now_ns - liveness->looked_ns > LIVENESS_JUMP_NS;

	liveness->looked_ns = now_ns;
	if (jumped)
		begin_anew(liveness, now_ns);
	if (find_silent(liveness, now_ns, &verdict) || !liveness->stall_ns)
		return verdict;
	for (unsigned i = 0; i < liveness->size; i++) {
		if (follow(liveness, i, now_ns, &verdict))
			return verdict;
	}
	return (struct liveness_verdict){.finding = LIVENESS_FINE};
}
