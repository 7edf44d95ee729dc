#include "tests/schedules/brute-force.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

uint64_t test_random(uint64_t *state)
{
	/* xorshift64*, Vigna 2016 */
	*state ^= *state >> 12;
	*state ^= *state << 25;
	*state ^= *state >> 27;
	return *state * 0x2545F4914F6CDD1DULL;
}

struct queue {
	unsigned *message;
	unsigned count;
};

struct machine {
	const struct schedule *schedule;
	unsigned k;
	size_t *position;
	/* [stage][micro-batch] */
	unsigned char *forward, *input, *weight, *has_input, *has_gradient;
	/* [stage][direction]: towards the stage; 0 forward, 1 backward */
	struct queue *queues;
	const char *wrong;
};

static size_t cell(const struct machine *machine, unsigned stage, unsigned m)
{
	return (size_t)stage * machine->schedule->micro_batches + m;
}

static const struct action *at(const struct machine *machine, unsigned rank)
{
	const struct schedule_row *row = &machine->schedule->rows[rank];

	return machine->position[rank] < row->count
		       ? &row->actions[machine->position[rank]]
		       : NULL;
}

static bool is_local(const struct machine *machine, unsigned a, unsigned b)
{
	return machine->schedule->rank_of_stage[a] ==
	       machine->schedule->rank_of_stage[b];
}

/* Compute actions alone: the neighbour's result is there once it is done. */
static bool is_ready(const struct machine *machine, const struct action *action)
{
	unsigned stage = action->stage;
	unsigned m = action->micro_batch;

	if (machine->schedule->lowered)
		return true;
	if (action->op == ACTION_FORWARD)
		return stage == 0 ||
		       machine->forward[cell(machine, stage - 1, m)];
	if (action->op != ACTION_BACKWARD_INPUT &&
	    action->op != ACTION_BACKWARD)
		return true;
	return stage + 1 == machine->schedule->stages ||
	       machine->input[cell(machine, stage + 1, m)];
}

/* It has come from the neighbour, or is_ready() has seen it. */
static bool has_arrived(const struct machine *machine, const unsigned char *has,
			size_t here)
{
	return !machine->schedule->lowered || has[here];
}

static void run_forward(struct machine *machine, unsigned stage, unsigned m)
{
	size_t here = cell(machine, stage, m);
	bool ready = stage == 0 ||
		     (is_local(machine, stage, stage - 1)
			      ? machine->forward[cell(machine, stage - 1, m)]
			      : has_arrived(machine, machine->has_input, here));

	if (!ready)
		machine->wrong = "F without its input";
	else if (machine->forward[here]++)
		machine->wrong = "F twice";
}

static void run_input(struct machine *machine, unsigned stage, unsigned m)
{
	size_t here = cell(machine, stage, m);
	bool last = stage + 1 == machine->schedule->stages;
	bool ready =
		last ||
		(is_local(machine, stage, stage + 1)
			 ? machine->input[cell(machine, stage + 1, m)]
			 : has_arrived(machine, machine->has_gradient, here));

	if (!ready || !machine->forward[here])
		machine->wrong = "I without what it needs";
	else if (machine->input[here]++)
		machine->wrong = "I twice";
}

static void run_weight(struct machine *machine, unsigned stage, unsigned m)
{
	size_t here = cell(machine, stage, m);

	if (!machine->input[here])
		machine->wrong = "W without I";
	else if (machine->weight[here]++)
		machine->wrong = "W twice";
}

static bool receiver_stands(const struct machine *machine, unsigned stage,
			    unsigned direction)
{
	const struct action *action =
		at(machine, machine->schedule->rank_of_stage[stage]);

	return action != NULL && action->stage == stage &&
	       action->op ==
		       (direction ? ACTION_RECV_BACKWARD : ACTION_RECV_FORWARD);
}

static bool run_send(struct machine *machine, const struct action *action)
{
	unsigned direction = action->op == ACTION_SEND_BACKWARD;
	unsigned to = action->stage + (direction ? -1u : 1u);
	unsigned char *born = direction ? machine->input : machine->forward;
	struct queue *queue;

	if (to >= machine->schedule->stages ||
	    is_local(machine, to, action->stage)) {
		machine->wrong = "a message to nobody";
		return false;
	}
	if (!born[cell(machine, action->stage, action->micro_batch)]) {
		machine->wrong = "sent before it is born";
		return false;
	}
	queue = &machine->queues[2 * to + direction];
	if (machine->k == 0 ? queue->count > 0 ||
				      !receiver_stands(machine, to, direction)
			    : queue->count >= machine->k)
		return false;
	if (queue->count >= 2 * machine->schedule->micro_batches) {
		machine->wrong = "too many messages";
		return false;
	}
	queue->message[queue->count++] = action->micro_batch;
	return true;
}

static bool run_receive(struct machine *machine, const struct action *action)
{
	unsigned direction = action->op == ACTION_RECV_BACKWARD;
	struct queue *queue = &machine->queues[2 * action->stage + direction];
	unsigned char *has =
		direction ? machine->has_gradient : machine->has_input;

	if (queue->count == 0)
		return false;
	if (queue->message[0] != action->micro_batch) {
		machine->wrong = "received another message than expected";
		return false;
	}
	queue->count--;
	memmove(queue->message, queue->message + 1,
		queue->count * sizeof(*queue->message));
	if (has[cell(machine, action->stage, action->micro_batch)]++)
		machine->wrong = "received twice";
	return true;
}

static bool step(struct machine *machine, unsigned rank)
{
	const struct action *action = at(machine, rank);

	if (action == NULL || !is_ready(machine, action))
		return false;
	if (machine->schedule->rank_of_stage[action->stage] != rank) {
		machine->wrong = "the stage of another rank";
		return false;
	}
	switch (action->op) {
	case ACTION_FORWARD:
		run_forward(machine, action->stage, action->micro_batch);
		break;
	case ACTION_BACKWARD_INPUT:
		run_input(machine, action->stage, action->micro_batch);
		break;
	case ACTION_BACKWARD_WEIGHT:
		run_weight(machine, action->stage, action->micro_batch);
		break;
	case ACTION_BACKWARD:
		run_input(machine, action->stage, action->micro_batch);
		if (!machine->wrong)
			run_weight(machine, action->stage, action->micro_batch);
		break;
	case ACTION_SEND_FORWARD:
	case ACTION_SEND_BACKWARD:
		if (!run_send(machine, action))
			return false;
		break;
	case ACTION_RECV_FORWARD:
	case ACTION_RECV_BACKWARD:
		if (!run_receive(machine, action))
			return false;
		break;
	default:
		break;
	}
	machine->position[rank]++;
	return true;
}

static void poll(struct machine *machine, uint64_t *seed)
{
	unsigned ranks = machine->schedule->ranks;
	bool moved = true;

	while (moved && !machine->wrong) {
		unsigned first = (unsigned)(test_random(seed) % ranks);

		moved = false;
		for (unsigned i = 0; i < ranks && !machine->wrong; i++) {
			unsigned burst = (unsigned)(test_random(seed) % 8) + 1;

			while (burst-- > 0 && !machine->wrong &&
			       step(machine, (first + i) % ranks))
				moved = true;
		}
	}
}

static void judge(struct machine *machine)
{
	const struct schedule *schedule = machine->schedule;
	size_t cells = (size_t)schedule->stages * schedule->micro_batches;

	for (unsigned rank = 0; rank < schedule->ranks && !machine->wrong;
	     rank++)
		if (at(machine, rank))
			machine->wrong = "stuck";
	for (size_t i = 0; i < cells && !machine->wrong; i++)
		if (!machine->forward[i] ||
		    (!schedule->forward_only &&
		     (!machine->input[i] || !machine->weight[i])))
			machine->wrong = "left undone";
	for (unsigned i = 0; i < 2 * schedule->stages && !machine->wrong; i++)
		if (machine->queues[i].count)
			machine->wrong = "a message nobody took";
}

static void need(bool there)
{
	if (there)
		return;
	fprintf(stderr, "no memory for the brute-force executor\n");
	abort();
}

const char *brute_force(const struct schedule *schedule, unsigned k,
			uint64_t seed)
{
	struct machine machine = {.schedule = schedule, .k = k};
	size_t cells = (size_t)schedule->stages * schedule->micro_batches;
	unsigned char *state = calloc(5, cells);
	unsigned links = 2 * schedule->stages;

	seed |= 1;
	machine.position = calloc(schedule->ranks, sizeof(size_t));
	machine.queues = calloc(links, sizeof(*machine.queues));
	need(state && machine.position && machine.queues);
	machine.forward = state;
	machine.input = state + cells;
	machine.weight = state + 2 * cells;
	machine.has_input = state + 3 * cells;
	machine.has_gradient = state + 4 * cells;
	for (unsigned i = 0; i < links; i++) {
		machine.queues[i].message = calloc(
			2 * (size_t)schedule->micro_batches, sizeof(unsigned));
		need(machine.queues[i].message != NULL);
	}
	poll(&machine, &seed);
	judge(&machine);
	for (unsigned i = 0; i < links; i++)
		free(machine.queues[i].message);
	free(machine.queues);
	free(machine.position);
	free(state);
	return machine.wrong;
}
