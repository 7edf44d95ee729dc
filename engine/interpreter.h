/*
 * The interpreter: carries out this rank's row of a lowered schedule.
 *
 * It knows actions and no schedule by name: what it is given, it does, in order.
 * Receives are posted ahead by the exchange, so a RECV in the row is already
 * under way when it is met, and the wait falls to the action that uses the
 * message.
 */
#ifndef STAGECOACH_ENGINE_INTERPRETER_H
#define STAGECOACH_ENGINE_INTERPRETER_H

#include "schedules/schedule.h"

struct pipeline;
struct route;

/*
 * Runs the row. pipeline->pass says what all actions have in common; on the
 * root the batch is filled in and is sent to whoever needs it first.
 */
int interpreter_run(struct pipeline *pipeline, const struct schedule *schedule,
		    struct route *route) MUST_CHECK;

/* Names an action for progress notes: packed, and in words. */
uint64_t interpreter_pack(const struct action *action);
void interpreter_describe(uint64_t packed, char *buffer, size_t size);

#endif
