#include "engine/flights.h"

struct tally {
	unsigned now;
	unsigned peak;
};

static void rise(struct tally *tally)
{
	tally->now++;
	tally->peak = MAX(tally->peak, tally->now);
}

static bool is_backward_input(uint16_t op)
{
	return op == ACTION_BACKWARD_INPUT || op == ACTION_BACKWARD;
}

void flights_count(const struct schedule *schedule, unsigned stage,
		   struct flights *out)
{
	const unsigned *rank_of = schedule->rank_of_stage;
	unsigned rank = rank_of[stage];
	const struct schedule_row *row = &schedule->rows[rank];
	bool before_here = stage > 0 && rank_of[stage - 1] == rank;
	bool behind_here =
		stage + 1 < schedule->stages && rank_of[stage + 1] == rank;
	struct tally activations = {0}, pendings = {0};
	struct tally inputs = {0}, gradients = {0};

	*out = (struct flights){0};
	for (size_t i = 0; i < row->count; i++) {
		const struct action *action = &row->actions[i];
		uint16_t op = action->op;

		/* What a neighbour on this rank writes into this stage. */
		if (before_here && action->stage == stage - 1 &&
		    op == ACTION_FORWARD)
			rise(&inputs);
		if (behind_here && action->stage == stage + 1 &&
		    is_backward_input(op))
			rise(&gradients);
		if (action->stage != stage)
			continue;
		if (op == ACTION_FORWARD) {
			rise(&activations);
			if (!before_here)
				rise(&inputs);
		}
		if (is_backward_input(op)) {
			rise(&pendings);
			if (!behind_here)
				rise(&gradients);
		}
		if (op == ACTION_BACKWARD_INPUT)
			out->split_backward = true;
		if (op == ACTION_BACKWARD_WEIGHT || op == ACTION_BACKWARD) {
			activations.now--;
			pendings.now--;
			inputs.now--;
			gradients.now -= gradients.now > 0;
		}
		if (op == ACTION_FORWARD && schedule->forward_only) {
			activations.now--;
			inputs.now--;
		}
	}
	out->activations = activations.peak;
	out->pendings = pendings.peak;
	out->inputs = inputs.peak;
	out->output_gradients = gradients.peak;
}

void flights_merge(struct flights *into, const struct flights *other)
{
	into->activations = MAX(into->activations, other->activations);
	into->pendings = MAX(into->pendings, other->pendings);
	into->inputs = MAX(into->inputs, other->inputs);
	into->output_gradients =
		MAX(into->output_gradients, other->output_gradients);
	into->split_backward |= other->split_backward;
}
