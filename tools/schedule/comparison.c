/* Predicting and measuring several schedules: see comparison.h. */
#include "tools/schedule/comparison.h"
#include "base/log.h"
#include "base/numbers.h"
#include "base/text.h"
#include <errno.h>
#include <math.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

static struct comparison_entry *append(struct comparison *comparison,
				       const char *name)
{
	struct comparison_entry *entries =
		realloc(comparison->entries,
			(comparison->count + 1) * sizeof(*entries));
	struct comparison_entry *entry;

	if (!entries)
		return NULL;
	comparison->entries = entries;
	entry = &entries[comparison->count++];
	*entry = (struct comparison_entry){0};
	snprintf(entry->name, sizeof(entry->name), "%s", name);
	return entry;
}

/*
 * The chunks asked for, or where a built-in schedule cannot have those, its
 * own number: 1f1b belongs into a comparison with --chunks 2.
 */
static int choose_chunks(const struct comparison *comparison,
			 struct comparison_entry *entry, unsigned *chunks)
{
	const struct schedule_kind *kind = schedule_kind_find(entry->name);

	*chunks = comparison->chunks;
	if (!kind || schedule_kind_check(kind, comparison->ranks,
					 comparison->micro_batches, *chunks,
					 entry->why, sizeof(entry->why)) == 0)
		return 0;
	*chunks = 0;
	if (comparison->chunks &&
	    schedule_kind_check(kind, comparison->ranks,
				comparison->micro_batches, 0, entry->why,
				sizeof(entry->why)) == 0) {
		entry->why[0] = '\0';
		return 0;
	}
	return -ERANGE;
}

static void find_peak(struct comparison_entry *entry)
{
	const struct schedule_prediction *prediction = &entry->prediction;

	entry->peak_bytes = 0;
	if (!prediction->activation_bytes)
		return;
	for (unsigned r = 0; r < prediction->simulation.ranks; r++)
		entry->peak_bytes = MAX(entry->peak_bytes,
					prediction->simulation.peak_bytes[r]);
}

double comparison_peak_micro_batches(const struct comparison_entry *entry)
{
	const struct schedule_simulation *simulation =
		&entry->prediction.simulation;
	unsigned most = 0;

	for (unsigned r = 0; r < simulation->ranks; r++)
		most = MAX(most, simulation->peak_activations[r]);
	return (double)most / entry->prediction.lowered->chunks;
}

/* In bytes where they are known, else in micro-batches. */
static void hold_to_cap(const struct comparison *comparison,
			struct comparison_entry *entry)
{
	bool bytes = entry->prediction.activation_bytes != NULL;
	double peak = bytes ? entry->peak_bytes
			    : comparison_peak_micro_batches(entry);
	char needs[40], cap[40];

	if (comparison->memory_cap <= 0 || peak <= comparison->memory_cap)
		return;
	if (bytes) {
		text_bytes(needs, sizeof(needs), (uint64_t)peak);
		text_bytes(cap, sizeof(cap), (uint64_t)comparison->memory_cap);
	} else {
		snprintf(needs, sizeof(needs), "%g micro-batches", peak);
		snprintf(cap, sizeof(cap), "%g", comparison->memory_cap);
	}
	snprintf(entry->why, sizeof(entry->why),
		 "a rank holds activations of %s, the cap is %s", needs, cap);
}

/* Also once more, when better costs are known; the split stays. */
static int predict(const struct comparison *comparison,
		   struct comparison_entry *entry)
{
	struct partition *partition = entry->prediction.partition;
	int rc;

	entry->prediction.partition = NULL;
	timeline_fini(&entry->predicted);
	schedule_prediction_fini(&entry->prediction);
	rc = schedule_prediction_init(&entry->prediction, entry->schedule,
				      &comparison->setting, partition,
				      SCHEDULE_PREDICT_TIMES);
	if (!rc)
		rc = timeline_from_simulation(entry->prediction.lowered,
					      &entry->prediction.simulation,
					      &entry->predicted);
	if (!rc)
		find_peak(entry);
	return rc;
}

int comparison_add(struct comparison *comparison, const char *name,
		   enum schedule_dialect dialect)
{
	struct comparison_entry *entry = append(comparison, name);
	unsigned chunks;
	int rc;

	if (!entry)
		return fail(-ENOMEM, "no memory to compare schedules");
	if (choose_chunks(comparison, entry, &chunks))
		return 0; /* an entry that says why */
	rc = schedule_open(name, comparison->ranks, comparison->micro_batches,
			   chunks, dialect, &entry->schedule);
	if (rc)
		return rc;
	snprintf(entry->name, sizeof(entry->name), "%s", entry->schedule->name);
	rc = predict(comparison, entry);
	if (!rc)
		hold_to_cap(comparison, entry);
	return rc;
}

/* ---- measuring ---- */

double comparison_step_time(const struct comparison_entry *entry)
{
	double *copy;
	double median;

	if (entry->seconds_count == 0)
		return 0;
	copy = malloc(entry->seconds_count * sizeof(*copy));
	if (!copy)
		return entry->seconds[0];
	memcpy(copy, entry->seconds, entry->seconds_count * sizeof(*copy));
	median = numbers_median(copy, entry->seconds_count);
	free(copy);
	return median;
}

double comparison_error(const struct comparison_entry *entry)
{
	double predicted = entry->prediction.simulation.makespan;

	return predicted > 0
		       ? (comparison_step_time(entry) - predicted) / predicted
		       : 0;
}

/* The timeline kept is that of the round whose median is nearest to all's. */
static int take_round(struct comparison_entry *entry,
		      struct schedule_measurement *round)
{
	size_t count = entry->seconds_count + round->count;
	double *seconds =
		realloc(entry->seconds, count * sizeof(*entry->seconds));
	double median;

	if (!seconds)
		return fail(-ENOMEM, "no memory for measured steps");
	memcpy(seconds + entry->seconds_count, round->seconds,
	       round->count * sizeof(*seconds));
	entry->seconds = seconds;
	entry->seconds_count = count;
	median = comparison_step_time(entry);
	if (!entry->measured.rows ||
	    fabs(round->timeline.span - median) <
		    fabs(entry->measured.span - median)) {
		timeline_fini(&entry->measured);
		entry->measured = round->timeline;
		round->timeline = (struct timeline){0};
	}
	return 0;
}

/* A link is worth a word when its messages take so much longer. */
#define SLOW_LINK_SECONDS 0.002

/* What all measuring has in common. */
struct measuring {
	struct comparison *comparison;
	const struct options *options;
	comparison_job_fn *fill;
	void *argument;
	/* [rounds] what runs of 1f1b cost; NULL: the costs given say it all */
	struct costs *found;
};

static void tell_round(unsigned round, const struct comparison_entry *entry)
{
	struct timeline_link link;
	char slow[128] = "";

	if (timeline_slow_link(&entry->measured, SLOW_LINK_SECONDS, &link))
		snprintf(slow, sizeof(slow),
			 "; messages from rank %u to rank %u take %.3g ms, on "
			 "other links %.3g ms",
			 link.from, link.to, 1000 * link.travel,
			 1000 * link.usual);
	log_info("round %u, %s: %.4g s a step%s", round + 1, entry->name,
		 comparison_step_time(entry), slow);
}

/* Sums over replicas would be part of the vote that is to be measured. */
static void leave_gradients_out(struct job *job)
{
	for (unsigned s = 0; s < job->rehearsal.stages; s++)
		job->rehearsal.gradients[s] = 0;
}

static int measure_entry(const struct measuring *measuring,
			 const struct comparison_entry *entry, bool links_only,
			 struct schedule_measurement *out)
{
	struct job *job = calloc(1, sizeof(*job));
	int rc;

	*out = (struct schedule_measurement){0};
	if (!job)
		return fail(-ENOMEM, "no memory for a job");
	rc = measuring->fill(measuring->argument, measuring->comparison, entry,
			     job);
	if (!rc && links_only)
		leave_gradients_out(job);
	if (!rc)
		rc = schedule_measure(measuring->options, entry->schedule, job,
				      out);
	job_fini(job);
	free(job);
	return rc;
}

/* ---- what it costs, measured in runs of 1f1b ---- */

/* Enough micro-batches to come into the swing, no more than are compared. */
static unsigned calibration_micro_batches(const struct comparison *comparison)
{
	return MIN(comparison->micro_batches, 2 * comparison->ranks);
}

/*
 * The run to calibrate with: 1f1b, or where costs are of so many stages that
 * it does not fit them, the first schedule that does.
 */
static int make_calibration(const struct comparison *comparison,
			    struct comparison_entry *own,
			    const struct comparison_entry **out)
{
	const struct costs *costs = &comparison->setting.costs;
	int rc;

	if (costs->kind == COSTS_STAGES && costs->count != comparison->ranks) {
		for (size_t i = 0; i < comparison->count; i++)
			if (!comparison->entries[i].why[0]) {
				*out = &comparison->entries[i];
				return 0;
			}
	}
	rc = schedule_generate("1f1b", comparison->ranks,
			       calibration_micro_batches(comparison), 1,
			       &own->schedule);
	if (!rc)
		rc = predict(comparison, own);
	*out = own;
	return rc;
}

static int calibrate(const struct measuring *measuring, unsigned round)
{
	struct comparison_entry own = {0};
	const struct comparison_entry *entry;
	struct schedule_measurement found = {0};
	int rc = make_calibration(measuring->comparison, &own, &entry);

	if (!rc)
		rc = measure_entry(measuring, entry, true, &found);
	if (!rc) {
		measuring->found[round] = found.costs;
		found.costs = (struct costs){0};
	}
	schedule_measurement_fini(&found);
	timeline_fini(&own.predicted);
	schedule_prediction_fini(&own.prediction);
	schedule_destroy(own.schedule);
	return rc;
}

/* The median over the rounds of a number at `offset` bytes into the costs. */
static double median_number(const struct measuring *measuring, unsigned rounds,
			    double *room, size_t offset)
{
	for (unsigned r = 0; r < rounds; r++)
		memcpy(&room[r], (char *)&measuring->found[r] + offset,
		       sizeof(*room));
	return numbers_median(room, rounds);
}

static double median_row(const struct measuring *measuring, unsigned rounds,
			 double *room, unsigned row, size_t offset)
{
	for (unsigned r = 0; r < rounds; r++)
		memcpy(&room[r],
		       (char *)&measuring->found[r].rows[row] + offset,
		       sizeof(*room));
	return numbers_median(room, rounds);
}

/* What links take, unless it was said; and what ends a step as it was run. */
static void use_links(const struct measuring *measuring, unsigned rounds,
		      double *room)
{
	struct costs *costs = &measuring->comparison->setting.costs;

	if (costs->latency <= 0 && costs->bandwidth <= 0) {
		costs->latency = median_number(measuring, rounds, room,
					       offsetof(struct costs, latency));
		costs->send = median_number(measuring, rounds, room,
					    offsetof(struct costs, send));
		measuring->comparison->links_measured = true;
	}
	costs->vote = median_number(measuring, rounds, room,
				    offsetof(struct costs, vote));
	costs->step = median_number(measuring, rounds, room,
				    offsetof(struct costs, step));
	costs->reduce_tied = median_number(measuring, rounds, room,
					   offsetof(struct costs, reduce_tied));
	costs->tied_early = median_number(measuring, rounds, room,
					  offsetof(struct costs, tied_early));
}

/* Of real layers, the layers too. */
static void use_layers(const struct measuring *measuring, unsigned rounds,
		       double *room)
{
	struct costs *costs = &measuring->comparison->setting.costs;

	for (unsigned i = 0; i < costs->count; i++) {
		struct costs_row *row = &costs->rows[i];

		row->forward = median_row(measuring, rounds, room, i,
					  offsetof(struct costs_row, forward));
		row->input = median_row(measuring, rounds, room, i,
					offsetof(struct costs_row, input));
		row->weight = median_row(measuring, rounds, room, i,
					 offsetof(struct costs_row, weight));
	}
}

/* The predictions once more, with what the rounds found. */
static int use_calibration(const struct measuring *measuring, unsigned rounds)
{
	struct comparison *comparison = measuring->comparison;
	double *room;
	int rc = 0;

	if (!measuring->found)
		return 0;
	room = calloc(rounds, sizeof(*room));
	if (!room)
		return fail(-ENOMEM, "no memory for %u rounds", rounds);
	use_links(measuring, rounds, room);
	if (comparison->costs_to_measure)
		use_layers(measuring, rounds, room);
	free(room);
	for (size_t i = 0; !rc && i < comparison->count; i++)
		if (!comparison->entries[i].why[0])
			rc = predict(comparison, &comparison->entries[i]);
	return rc;
}

/* ---- rounds ---- */

static int measure_round(const struct measuring *measuring, unsigned round)
{
	struct comparison *comparison = measuring->comparison;
	int rc = measuring->found ? calibrate(measuring, round) : 0;

	for (size_t i = 0; !rc && i < comparison->count; i++) {
		struct comparison_entry *entry = &comparison->entries[i];
		struct schedule_measurement found;

		if (entry->why[0])
			continue;
		rc = measure_entry(measuring, entry, false, &found);
		if (!rc)
			rc = take_round(entry, &found);
		if (!rc)
			tell_round(round, entry);
		schedule_measurement_fini(&found);
	}
	return rc;
}

/* A file's own sizes, where none were given. */
static void complete_sizes(struct comparison *comparison)
{
	for (size_t i = 0; i < comparison->count; i++) {
		const struct schedule *schedule =
			comparison->entries[i].schedule;

		if (!schedule)
			continue;
		comparison->ranks = MAX(comparison->ranks, schedule->ranks);
		comparison->micro_batches =
			MAX(comparison->micro_batches, schedule->micro_batches);
	}
}

int comparison_measure(struct comparison *comparison,
		       const struct options *options, unsigned rounds,
		       comparison_job_fn *job, void *argument)
{
	struct measuring measuring = {
		.comparison = comparison,
		.options = options,
		.fill = job,
		.argument = argument,
	};
	int rc = 0;

	complete_sizes(comparison);
	if (comparison->ranks > 1 || comparison->costs_to_measure) {
		measuring.found = calloc(rounds, sizeof(*measuring.found));
		if (!measuring.found)
			return fail(-ENOMEM, "no memory for %u rounds", rounds);
	}
	for (unsigned round = 0; !rc && round < rounds; round++)
		rc = measure_round(&measuring, round);
	if (!rc)
		rc = use_calibration(&measuring, rounds);
	for (unsigned round = 0; measuring.found && round < rounds; round++)
		costs_fini(&measuring.found[round]);
	free(measuring.found);
	return rc;
}

int comparison_rehearse(void *argument, const struct comparison *comparison,
			const struct comparison_entry *entry, struct job *job)
{
	(void)argument;
	return schedule_rehearsal_job(&entry->prediction, &comparison->setting,
				      job);
}

/* ---- order, and the end ---- */

static int compare_entries(const void *a, const void *b)
{
	const struct comparison_entry *x = a, *y = b;
	double x_time = comparison_step_time(x);
	double y_time = comparison_step_time(y);

	if ((x->why[0] != '\0') != (y->why[0] != '\0'))
		return x->why[0] ? 1 : -1;
	if (x_time <= 0 || y_time <= 0) {
		x_time = x->prediction.simulation.makespan;
		y_time = y->prediction.simulation.makespan;
	}
	return (x_time > y_time) - (x_time < y_time);
}

void comparison_sort(struct comparison *comparison)
{
	qsort(comparison->entries, comparison->count,
	      sizeof(*comparison->entries), compare_entries);
}

void comparison_fini(struct comparison *comparison)
{
	for (size_t i = 0; i < comparison->count; i++) {
		struct comparison_entry *entry = &comparison->entries[i];

		timeline_fini(&entry->predicted);
		timeline_fini(&entry->measured);
		schedule_prediction_fini(&entry->prediction);
		schedule_destroy(entry->schedule);
		free(entry->seconds);
	}
	free(comparison->entries);
	schedule_setting_fini(&comparison->setting);
	*comparison = (struct comparison){0};
}
