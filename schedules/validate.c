/*
 * The validator: rows (check.c), order on links, waits, and what is worth
 * knowing of a schedule that passes.
 */
#include "base/log.h"
#include "base/text.h"
#include "schedules/build.h"
#include "schedules/walk.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

/* Every link must be read in the order it is written. */
struct pairing {
	const struct schedule *schedule;
	uint16_t *message; /* [2 * stages][micro_batches] in order of sending */
	unsigned *count;   /* [2 * stages] */
};

static void collect_sends(struct pairing *pairing, unsigned rank)
{
	const struct schedule_row *row = &pairing->schedule->rows[rank];

	for (size_t i = 0; i < row->count; i++) {
		const struct action *action = &row->actions[i];
		size_t link;

		if (!action_is_send(action->op))
			continue;
		link = link_of(action);
		pairing->message[link * pairing->schedule->micro_batches +
				 pairing->count[link]++] = action->micro_batch;
	}
}

static int compare_receives(struct pairing *pairing, unsigned rank,
			    char **reason)
{
	const struct schedule *schedule = pairing->schedule;
	const struct schedule_row *row = &schedule->rows[rank];

	for (size_t i = 0; i < row->count; i++) {
		const struct action *action = &row->actions[i];
		unsigned turn;
		unsigned sent;
		size_t link;
		char cell[32];

		if (!action_is_recv(action->op))
			continue;
		link = link_of(action);
		turn = pairing->count[link]++;
		sent = pairing->message[link * schedule->micro_batches + turn];
		if (sent == action->micro_batch)
			continue;
		schedule_action_text(cell, sizeof(cell), action);
		schedule_reason(
			reason,
			"rank %u, action %zu (%s): receives micro-batch "
			"%u as number %u of its link, but stage %u sends "
			"micro-batch %u as number %u; a link is first "
			"in, first out",
			rank, i + 1, cell, action->micro_batch, turn + 1,
			link_sender(link), sent, turn + 1);
		return -EINVAL;
	}
	return 0;
}

static int check_pairing(const struct schedule *schedule, char **reason)
{
	struct pairing pairing = {.schedule = schedule};
	size_t links = 2 * (size_t)schedule->stages;
	int error = 0;

	pairing.message =
		calloc(links * schedule->micro_batches, sizeof(uint16_t));
	pairing.count = calloc(links, sizeof(unsigned));
	if (pairing.message == NULL || pairing.count == NULL)
		error = fail(-ENOMEM,
			     "no memory to check a schedule of %u "
			     "stages",
			     schedule->stages);
	for (unsigned rank = 0; rank < schedule->ranks && !error; rank++)
		collect_sends(&pairing, rank);
	for (size_t link = 0; link < links && !error; link++)
		pairing.count[link] = 0;
	for (unsigned rank = 0; rank < schedule->ranks && !error; rank++)
		error = compare_receives(&pairing, rank, reason);
	free(pairing.count);
	free(pairing.message);
	return error;
}

/* Waits. */

static int walk_unit(struct walk *walk, const double *unit, unsigned buffers,
		     bool *finished)
{
	struct schedule_costs costs = {
		.forward = unit,
		.input = unit,
		.weight = unit,
		.buffers = buffers,
	};

	return walk_run(walk, &costs, NULL, finished);
}

struct wait {
	unsigned rank; /* that must act first */
	size_t position;
};

/* Where in its row a rank sends or receives message number `turn` of a link. */
static size_t find_turn(const struct schedule_row *row, size_t link, bool send,
			unsigned turn)
{
	for (size_t i = 0; i < row->count; i++) {
		const struct action *action = &row->actions[i];

		if ((send ? action_is_send(action->op)
			  : action_is_recv(action->op)) &&
		    link_of(action) == link && turn-- == 0)
			return i;
	}
	return row->count;
}

/* The number of the message an action sends or receives on its link. */
static unsigned turn_of(const struct schedule_row *row, size_t position)
{
	const struct action *action = &row->actions[position];
	unsigned turn = 0;

	for (size_t i = 0; i < position; i++)
		turn += row->actions[i].op == action->op &&
			row->actions[i].stage == action->stage;
	return turn;
}

/* What the rank's present action waits for. */
static struct wait wait_of(const struct schedule *schedule, struct walk *walk,
			   unsigned rank, unsigned buffers)
{
	size_t position = walk_rank(walk, rank)->position;
	const struct schedule_row *row = &schedule->rows[rank];
	const struct action *action = &row->actions[position];
	size_t link = link_of(action);
	unsigned turn = turn_of(row, position);
	bool send = action_is_send(action->op);
	struct wait wait;

	wait.rank = schedule->rank_of_stage[send ? link_receiver(link)
						 : link_sender(link)];
	wait.position = find_turn(&schedule->rows[wait.rank], link, !send,
				  send ? turn - buffers : turn);
	return wait;
}

static void tell_wait(struct text_builder *text,
		      const struct schedule *schedule, struct walk *walk,
		      unsigned rank, unsigned buffers)
{
	size_t position = walk_rank(walk, rank)->position;
	const struct action *action = &schedule->rows[rank].actions[position];
	struct wait wait = wait_of(schedule, walk, rank, buffers);
	const struct action *other =
		&schedule->rows[wait.rank].actions[wait.position];
	char here[32];
	char there[32];

	schedule_action_text(here, sizeof(here), action);
	schedule_action_text(there, sizeof(there), other);
	text_builder_append(text, "\n  rank %u stands at %s (action %zu) and ",
			    rank, here, position + 1);
	if (action_is_recv(action->op))
		text_builder_append(text,
				    "waits for rank %u to do %s (its "
				    "action %zu)",
				    wait.rank, there, wait.position + 1);
	else if (buffers == 0)
		text_builder_append(text,
				    "waits for rank %u to come to %s (its "
				    "action %zu)",
				    wait.rank, there, wait.position + 1);
	else
		text_builder_append(
			text,
			"finds its link's %u posted receive%s full until "
			"rank %u does %s (its action %zu)",
			buffers, buffers == 1 ? "" : "s", wait.rank, there,
			wait.position + 1);
}

/*
 * After a walk that got stuck: every waiting rank waits for one other, which waits
 * too (were it done, its part would be done), so following the waits
 * must come round.
 */
static char *tell_cycle(const struct schedule *schedule, struct walk *walk,
			unsigned buffers)
{
	struct text_builder text;
	unsigned start = 0;
	unsigned lowest;

	while (walk_rank(walk, start)->position >= schedule->rows[start].count ||
	       schedule->rows[start].actions[walk_rank(walk, start)->position].op >=
		       ACTION_REDUCE_TIED)
		start++;
	for (unsigned step = 0; step < schedule->ranks; step++)
		start = wait_of(schedule, walk, start, buffers).rank;
	lowest = start;
	for (unsigned rank = wait_of(schedule, walk, start, buffers).rank;
	     rank != start; rank = wait_of(schedule, walk, rank, buffers).rank)
		lowest = MIN(lowest, rank);
	start = lowest;
	text_builder_init(&text);
	if (buffers >= schedule->micro_batches)
		text_builder_append(&text, "deadlock, however many receives "
					   "are posted per link");
	else
		text_builder_append(&text,
				    "deadlock with %u posted receive%s "
				    "per link",
				    buffers, buffers == 1 ? "" : "s");
	text_builder_append(&text, "; the cycle of waits:");
	for (unsigned rank = start;;) {
		tell_wait(&text, schedule, walk, rank, buffers);
		rank = wait_of(schedule, walk, rank, buffers).rank;
		if (rank == start)
			break;
	}
	text_builder_append(&text, "\n  and so back to rank %u", start);
	return text_builder_finish(&text);
}

struct search {
	const struct schedule *schedule;
	struct walk *walk;
	const double *unit;
	double makespan; /* with receives without number */
};

/* Walks with `buffers`, and says how well. */
static int search_try(const struct search *search, unsigned buffers,
		      bool *finished, bool *fast)
{
	int error = walk_unit(search->walk, search->unit, buffers, finished);

	*fast = *finished && walk_makespan(search->walk) <= search->makespan;
	return error;
}

/*
 * The smallest number in [low, high] that does, given that high does and more is
 * never worse (a receive posted earlier delays nothing).
 */
static int search_between(const struct search *search, unsigned low,
			  unsigned high, bool full_speed, unsigned *out)
{
	while (low < high) {
		unsigned middle = low + (high - low) / 2;
		bool finished;
		bool fast;
		int error = search_try(search, middle, &finished, &fast);

		if (error)
			return error;
		if (full_speed ? fast : finished)
			high = middle;
		else
			low = middle + 1;
	}
	*out = high;
	return 0;
}

/* Doubles the number until it does, as the answer is small as a rule. */
static int search_buffers(const struct search *search,
			  struct schedule_report *report)
{
	unsigned limit = search->schedule->micro_batches;
	unsigned low_safe = 0; /* all below come to a deadlock */
	unsigned low_fast = 0; /* all below do, or are slower */
	unsigned high_safe = limit;
	unsigned high = 0;
	bool finished;
	bool fast;
	int error;

	for (;;) {
		error = search_try(search, high, &finished, &fast);
		if (error)
			return error;
		if (finished)
			high_safe = MIN(high_safe, high);
		else
			low_safe = high + 1;
		if (fast)
			break;
		low_fast = high + 1;
		high = MIN(limit, MAX(1u, high * 2));
	}
	error = search_between(search, low_safe, high_safe, false,
			       &report->buffers_safe);
	if (error)
		return error;
	return search_between(search, MAX(low_fast, report->buffers_safe), high,
			      true, &report->buffers_full_speed);
}

static int check_waits(const struct schedule *schedule, struct walk *walk,
		       const double *unit, unsigned buffers,
		       struct schedule_report *report)
{
	struct search search = {
		.schedule = schedule,
		.walk = walk,
		.unit = unit,
	};
	bool finished;
	int error = walk_unit(walk, unit, SCHEDULE_BUFFERS_ANY, &finished);

	if (error)
		return error;
	if (!finished) {
		report->reason =
			tell_cycle(schedule, walk, SCHEDULE_BUFFERS_ANY);
		return report->reason ? -EINVAL : -ENOMEM;
	}
	search.makespan = walk_makespan(walk);
	error = search_buffers(&search, report);
	if (error || buffers >= report->buffers_safe)
		return error;
	error = walk_unit(walk, unit, buffers, &finished);
	if (error)
		return error;
	report->reason = tell_cycle(schedule, walk, buffers);
	return report->reason ? -EINVAL : -ENOMEM;
}

static int check_links(const struct schedule *schedule, unsigned buffers,
		       struct schedule_report *report)
{
	struct walk *walk = NULL;
	double *unit = NULL;
	int error = check_pairing(schedule, &report->reason);

	if (error)
		return error;
	error = walk_create(schedule, &walk);
	if (error)
		return error;
	unit = calloc(schedule->stages, sizeof(*unit));
	if (unit == NULL)
		error = fail(-ENOMEM, "no memory to walk a schedule");
	for (unsigned stage = 0; stage < schedule->stages && !error; stage++)
		unit[stage] = 1;
	if (!error)
		error = check_waits(schedule, walk, unit, buffers, report);
	free(unit);
	walk_destroy(walk);
	return error;
}

/* What is worth knowing. */

static void judge_bits(const struct schedule *schedule, unsigned *next,
		       struct schedule_report *report)
{
	unsigned loss = schedule->stages - 1;
	unsigned next_loss = 0;

	report->bit_identical = true;
	for (unsigned rank = 0; rank < schedule->ranks; rank++)
		for (size_t i = 0; i < schedule->rows[rank].count; i++) {
			const struct action *action =
				&schedule->rows[rank].actions[i];
			bool weight = action->op == ACTION_BACKWARD_WEIGHT ||
				      action->op == ACTION_BACKWARD;
			bool forward = action->op == ACTION_FORWARD &&
				       action->stage == loss;
			unsigned *want =
				weight ? &next[action->stage] : &next_loss;

			if ((!weight && !forward) ||
			    (*want)++ == action->micro_batch)
				continue;
			report->bit_identical = false;
			snprintf(report->bit_reason, sizeof(report->bit_reason),
				 "%s of stage %u does not ascend by "
				 "micro-batch (%u where %u is due, rank %u, "
				 "action %zu)",
				 weight ? "W" : "F on the loss stage, that",
				 action->stage, action->micro_batch, *want - 1,
				 rank, i + 1);
			return;
		}
}

static void count_peaks(const struct schedule *schedule, unsigned *alive,
			struct schedule_report *report)
{
	for (unsigned rank = 0; rank < schedule->ranks; rank++) {
		unsigned together = 0;

		for (size_t i = 0; i < schedule->rows[rank].count; i++) {
			const struct action *action =
				&schedule->rows[rank].actions[i];
			unsigned stage = action->stage;

			if (action->op == ACTION_FORWARD &&
			    !schedule->forward_only) {
				together++;
				alive[stage]++;
			} else if (action->op == ACTION_BACKWARD ||
				   action->op == ACTION_BACKWARD_WEIGHT) {
				together--;
				alive[stage]--;
			}
			report->peak_of_rank[rank] =
				MAX(report->peak_of_rank[rank], together);
			report->peak_of_stage[stage] =
				MAX(report->peak_of_stage[stage], alive[stage]);
		}
	}
}

static int describe(const struct schedule *schedule,
		    struct schedule_report *report)
{
	unsigned *counts =
		calloc(2 * (size_t)schedule->stages, sizeof(*counts));

	report->peak_of_rank = calloc(schedule->ranks, sizeof(unsigned));
	report->peak_of_stage = calloc(schedule->stages, sizeof(unsigned));
	if (counts == NULL || report->peak_of_rank == NULL ||
	    report->peak_of_stage == NULL) {
		free(counts);
		return fail(-ENOMEM, "no memory to describe a schedule");
	}
	report->ranks = schedule->ranks;
	report->stages = schedule->stages;
	judge_bits(schedule, counts, report);
	count_peaks(schedule, counts + schedule->stages, report);
	free(counts);
	return 0;
}

int schedule_validate(const struct schedule *schedule, unsigned buffers,
		      struct schedule_report *report)
{
	struct schedule *lowered = NULL;
	int error;

	*report = (struct schedule_report){0};
	error = schedule_check_rows(schedule, &report->reason);
	if (error)
		return error;
	if (!schedule->lowered) {
		error = schedule_lower(schedule, NULL, &lowered);
		if (error)
			return error;
		schedule = lowered;
	}
	error = describe(schedule, report);
	if (!error)
		error = check_links(schedule, buffers, report);
	report->valid = error == 0;
	schedule_destroy(lowered);
	return error;
}

void schedule_report_fini(struct schedule_report *report)
{
	free(report->reason);
	free(report->peak_of_rank);
	free(report->peak_of_stage);
	*report = (struct schedule_report){0};
}
