/*
 * Schedules as text. The first byte says the dialect ('0' any, '1' modern, '2'
 * old), a newline behind it is skipped, the rest is the file.
 *
 * What parses can be written in both dialects and reads back the same. The
 * validator refuses it with a reason, or accepts it, as a brute-force executor
 * finds; then it is lowered, simulated and drawn, and what the report says of
 * posted receives is so.
 */
#include "base/log.h"
#include "schedules/draw.h"
#include "schedules/schedule.h"
#include "schedules/simulate.h"
#include "tests/fuzz/fuzz.h"
#include "tests/schedules/brute-force.h"
#include <errno.h>
#include <string.h>

/* The costlier looks are for schedules up to this many F. */
#define SMALL_CELLS 512

static void swallow(void *argument, enum log_level level, const char *line)
{
	(void)argument;
	(void)level;
	FUZZ_CHECK(line[0] != '\0');
}

static void check_rows_equal(const struct schedule *a, const struct schedule *b)
{
	FUZZ_CHECK(a->ranks == b->ranks && a->stages == b->stages);
	FUZZ_CHECK(a->chunks == b->chunks && a->placement == b->placement);
	FUZZ_CHECK(a->lowered == b->lowered);
	FUZZ_CHECK(a->forward_only == b->forward_only);
	for (unsigned rank = 0; rank < a->ranks; rank++) {
		FUZZ_CHECK(a->rows[rank].count == b->rows[rank].count);
		for (size_t i = 0; i < a->rows[rank].count; i++) {
			const struct action *x = &a->rows[rank].actions[i];
			const struct action *y = &b->rows[rank].actions[i];

			FUZZ_CHECK(x->op == y->op && x->stage == y->stage);
			FUZZ_CHECK(x->micro_batch == y->micro_batch);
			FUZZ_CHECK(x->group == y->group);
		}
	}
}

static void check_round_trip(const struct schedule *schedule,
			     enum schedule_dialect dialect)
{
	struct schedule *again;
	char *text = schedule_text_as(schedule, dialect);

	FUZZ_CHECK(text != NULL);
	FUZZ_CHECK(schedule_parse(text, strlen(text), "again", dialect,
				  &again) == 0);
	check_rows_equal(schedule, again);
	schedule_destroy(again);
	free(text);
}

static int simulate(const struct schedule *lowered, unsigned buffers,
		    double *makespan)
{
	struct schedule_simulation simulation;
	double *unit = calloc(lowered->stages, sizeof(*unit));
	struct schedule_costs costs = {
		.forward = unit,
		.input = unit,
		.weight = unit,
		.buffers = buffers,
	};
	int error;

	FUZZ_CHECK(unit != NULL);
	for (unsigned stage = 0; stage < lowered->stages; stage++)
		unit[stage] = 1;
	error = schedule_simulate(lowered, &costs, true, &simulation);
	free(unit);
	FUZZ_CHECK(error == 0 || error == -EDEADLK);
	if (error)
		return error;
	*makespan = simulation.makespan;
	for (unsigned rank = 0; rank < lowered->ranks; rank++)
		FUZZ_CHECK(simulation.busy[rank] + simulation.idle[rank] ==
			   simulation.makespan);
	schedule_simulation_fini(&simulation);
	return 0;
}

static bool has_pairs(const struct schedule *schedule)
{
	for (unsigned rank = 0; rank < schedule->ranks; rank++)
		for (size_t i = 0; i < schedule->rows[rank].count; i++)
			if (schedule->rows[rank].actions[i].group)
				return true;
	return false;
}

/* Beyond messages; the brute-force executor does not look at it, nor at pairs. */
static bool has_reductions(const struct schedule *schedule)
{
	for (unsigned rank = 0; rank < schedule->ranks; rank++)
		for (size_t i = 0; i < schedule->rows[rank].count; i++)
			if (schedule->rows[rank].actions[i].op >=
			    ACTION_REDUCE_GRAD)
				return true;
	return false;
}

static void check_verdict(const struct schedule *schedule, bool valid)
{
	const char *wrong =
		brute_force(schedule, schedule->micro_batches, 20240611);

	if (valid || (!has_pairs(schedule) && !has_reductions(schedule)))
		FUZZ_CHECK(valid == (wrong == NULL));
}

/* One posted receive too few: refused, with the cycle of waits. */
static void check_too_few(const struct schedule *schedule, unsigned buffers)
{
	struct schedule_report report;

	FUZZ_CHECK(schedule_validate(schedule, buffers, &report) == -EINVAL);
	FUZZ_CHECK(strstr(report.reason, "deadlock with ") != NULL);
	FUZZ_CHECK(strstr(report.reason, "and so back to rank ") != NULL);
	schedule_report_fini(&report);
}

/* Links that take their time, the loss's W within its F: never faster. */
static void check_slow_links(const struct schedule *lowered, double best)
{
	struct schedule_simulation simulation;
	double *unit = calloc(lowered->stages, sizeof(*unit));
	struct schedule_costs costs = {
		.forward = unit,
		.input = unit,
		.weight = unit,
		.loss_weight_in_forward = !lowered->forward_only,
		.latency = 0.5,
		.bandwidth = 4,
		.message_bytes = 1,
		.buffers = SCHEDULE_BUFFERS_ANY,
	};

	FUZZ_CHECK(unit != NULL);
	for (unsigned stage = 0; stage < lowered->stages; stage++)
		unit[stage] = 1;
	FUZZ_CHECK(schedule_simulate(lowered, &costs, false, &simulation) == 0);
	/* What moves into F may be waited for, or fill a bubble. */
	FUZZ_CHECK(simulation.makespan >= best - lowered->micro_batches);
	schedule_simulation_fini(&simulation);
	free(unit);
}

/* The report's figures are the smallest that do. */
static void check_buffers(const struct schedule *lowered,
			  const struct schedule_report *report)
{
	double best;
	double time;

	FUZZ_CHECK(simulate(lowered, SCHEDULE_BUFFERS_ANY, &best) == 0);
	FUZZ_CHECK(simulate(lowered, report->buffers_safe, &time) == 0);
	FUZZ_CHECK(time >= best);
	FUZZ_CHECK(simulate(lowered, report->buffers_full_speed, &time) == 0);
	FUZZ_CHECK(time == best);
	check_slow_links(lowered, best);
	FUZZ_CHECK(brute_force(lowered, report->buffers_safe, 1) == NULL);
	if (report->buffers_safe > 0) {
		FUZZ_CHECK(simulate(lowered, report->buffers_safe - 1, &time) ==
			   -EDEADLK);
		FUZZ_CHECK(brute_force(lowered, report->buffers_safe - 1, 1));
		check_too_few(lowered, report->buffers_safe - 1);
	}
	if (report->buffers_full_speed > report->buffers_safe) {
		FUZZ_CHECK(simulate(lowered, report->buffers_full_speed - 1,
				    &time) == 0);
		FUZZ_CHECK(time > best);
	}
}

static void check_picture(const struct schedule *schedule)
{
	struct schedule_drawing drawing = {.colour = true, .width = 80};
	char *picture;

	if (schedule_draw(schedule, &drawing, &picture))
		return;
	FUZZ_CHECK(strstr(picture, "rank 0") != NULL);
	free(picture);
}

static void check_lowered(const struct schedule *schedule,
			  const struct schedule_lowering *options, bool certain)
{
	struct schedule_report report;
	struct schedule *lowered;
	int error;

	FUZZ_CHECK(schedule_lower(schedule, options, &lowered) == 0);
	error = schedule_validate(lowered, SCHEDULE_BUFFERS_ANY, &report);
	/* Pairs kept together may wait for themselves. */
	FUZZ_CHECK(error == 0 || !certain);
	FUZZ_CHECK(error == 0 || strstr(report.reason, "deadlock, however"));
	schedule_report_fini(&report);
	schedule_destroy(lowered);
}

/* A valid one, in all its forms. */
static void check_valid(const struct schedule *schedule,
			const struct schedule_report *report)
{
	struct schedule_report again;
	struct schedule *lowered;

	FUZZ_CHECK(schedule_lower(schedule, NULL, &lowered) == 0);
	FUZZ_CHECK(schedule_validate(lowered, report->buffers_safe, &again) ==
		   0);
	FUZZ_CHECK(again.bit_identical == report->bit_identical);
	schedule_report_fini(&again);
	check_round_trip(lowered, SCHEDULE_DIALECT_MODERN);
	check_buffers(lowered, report);
	schedule_destroy(lowered);
	check_lowered(schedule, &(struct schedule_lowering){.train = true},
		      true);
	check_lowered(
		schedule,
		&(struct schedule_lowering){.reduce = true, .pairs = true},
		!has_pairs(schedule));
	check_picture(schedule);
}

/* One that is not: lowering refuses it too, or its waits never end. */
static void check_invalid(const struct schedule *schedule)
{
	struct schedule *lowered;
	double makespan;
	int error = schedule_lower(schedule, NULL, &lowered);

	FUZZ_CHECK(error == 0 || error == -EINVAL);
	if (error)
		return;
	error = simulate(lowered, SCHEDULE_BUFFERS_ANY, &makespan);
	FUZZ_CHECK(error == -EDEADLK || schedule->lowered);
	schedule_destroy(lowered);
}

static void check_schedule(const struct schedule *schedule)
{
	struct schedule_report report;
	size_t cells = (size_t)schedule->stages * schedule->micro_batches;
	int error = schedule_validate(schedule, SCHEDULE_BUFFERS_ANY, &report);

	FUZZ_CHECK(error == 0 || error == -EINVAL);
	FUZZ_CHECK(report.valid == (error == 0));
	FUZZ_CHECK((report.reason == NULL) == (error == 0));
	FUZZ_CHECK(error == 0 || report.reason[0] != '\0');
	if (cells <= SMALL_CELLS) {
		check_verdict(schedule, report.valid);
		if (error)
			check_invalid(schedule);
		else
			check_valid(schedule, &report);
	}
	schedule_report_fini(&report);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const enum schedule_dialect dialects[] = {
		SCHEDULE_DIALECT_AUTO,
		SCHEDULE_DIALECT_MODERN,
		SCHEDULE_DIALECT_OLD,
	};
	const char *text = (const char *)data + 1;
	struct schedule *schedule;
	int error;

	if (size == 0)
		return 0;
	size--;
	if (size > 0 && *text == '\n') {
		text++;
		size--;
	}
	log_set_sink(swallow, NULL);
	log_clear_last_error();
	error = schedule_parse(text, size, "fuzz", dialects[data[0] % 3],
			       &schedule);
	FUZZ_CHECK(error == 0 || error == -EINVAL);
	if (error) {
		FUZZ_CHECK(strncmp(log_last_error(), "fuzz:", 5) == 0);
		return 0;
	}
	check_round_trip(schedule, SCHEDULE_DIALECT_MODERN);
	check_round_trip(schedule, SCHEDULE_DIALECT_OLD);
	check_schedule(schedule);
	schedule_destroy(schedule);
	return 0;
}
