/*
 * Inside schedules/: making schedules row by row, and the links between stages.
 */
#ifndef STAGECOACH_SCHEDULES_BUILD_H
#define STAGECOACH_SCHEDULES_BUILD_H

#include "schedules/schedule.h"

/*
 * An empty schedule with its rank_of_stage filled by the placement (FREE
 * leaves it zero). stages = ranks * chunks. NULL when memory ran out.
 */
struct schedule *schedule_create(const char *name, unsigned ranks,
				 unsigned chunks, unsigned micro_batches,
				 enum schedule_placement placement);

/* A copy with the same header and empty rows. NULL when memory ran out. */
struct schedule *schedule_create_like(const struct schedule *other);

/* Appends one action; 0, or -ENOMEM (logged). */
int schedule_row_append(struct schedule_row *row, unsigned op, unsigned stage,
			unsigned micro_batch, unsigned group) MUST_CHECK;

/* The rank's first stage in global order. */
unsigned schedule_first_stage(const struct schedule *schedule, unsigned rank);

static inline bool action_is_compute(unsigned op)
{
	return op <= ACTION_BACKWARD;
}

static inline bool action_is_send(unsigned op)
{
	return op == ACTION_SEND_FORWARD || op == ACTION_SEND_BACKWARD;
}

static inline bool action_is_recv(unsigned op)
{
	return op == ACTION_RECV_FORWARD || op == ACTION_RECV_BACKWARD;
}

static inline bool action_is_message(unsigned op)
{
	return action_is_send(op) || action_is_recv(op);
}

/*
 * Links by number: 2s is the one that brings stage s its input (from s - 1),
 * 2s + 1 the one that brings it its gradient (from s + 1). There are 2 * stages
 * numbers; those that leave the pipeline or join stages of one rank stay unused.
 */
static inline size_t link_of(const struct action *action)
{
	switch (action->op) {
	case ACTION_RECV_FORWARD:
		return 2 * (size_t)action->stage;
	case ACTION_RECV_BACKWARD:
		return 2 * (size_t)action->stage + 1;
	case ACTION_SEND_FORWARD:
		return 2 * ((size_t)action->stage + 1);
	default: /* ACTION_SEND_BACKWARD */
		return 2 * ((size_t)action->stage - 1) + 1;
	}
}

static inline unsigned link_receiver(size_t link)
{
	return (unsigned)(link / 2);
}

static inline unsigned link_sender(size_t link)
{
	unsigned stage = link_receiver(link);

	return link % 2 == 0 ? stage - 1 : stage + 1;
}

/* The neighbour exists and lives on another rank. */
static inline bool link_is_used(const struct schedule *schedule, size_t link)
{
	unsigned stage = link_receiver(link);

	if (link % 2 == 0 ? stage == 0 : stage + 1 >= schedule->stages)
		return false;
	return schedule->rank_of_stage[stage] !=
	       schedule->rank_of_stage[link_sender(link)];
}

/*
 * The proofs that need no order between ranks (check.c): every F, I and W exactly
 * once, on its stage's rank, each after what its own rank must have done
 * before. 0, -EINVAL with *reason a heap string, or -ENOMEM.
 */
int schedule_check_rows(const struct schedule *schedule,
			char **reason) MUST_CHECK;

/* printf into a heap string: *reason is NULL when memory ran out. */
void schedule_reason(char **reason, const char *format, ...) PRINTF_LIKE(2, 3);

#endif
