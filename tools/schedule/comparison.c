/* Predicting and measuring several schedules: see comparison.h. */
#include "tools/schedule/comparison.h"
#include "base/log.h"
#include "base/numbers.h"
#include "base/text.h"
#include <errno.h>
#include <math.h>
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

	if (!prediction->activation_bytes)
		return;
	for (unsigned r = 0; r < prediction->simulation.ranks; r++)
		entry->peak_bytes = MAX(entry->peak_bytes,
					prediction->simulation.peak_bytes[r]);
}

static void hold_to_cap(const struct comparison *comparison,
			struct comparison_entry *entry)
{
	char needs[32], cap[32];

	if (comparison->memory_cap <= 0 ||
	    entry->peak_bytes <= comparison->memory_cap)
		return;
	text_bytes(needs, sizeof(needs), (uint64_t)entry->peak_bytes);
	text_bytes(cap, sizeof(cap), (uint64_t)comparison->memory_cap);
	snprintf(entry->why, sizeof(entry->why),
		 "its activations need %s on a rank, the cap is %s", needs,
		 cap);
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
	rc = schedule_prediction_init(&entry->prediction, entry->schedule,
				      &comparison->setting,
				      SCHEDULE_PREDICT_TIMES);
	if (!rc)
		rc = timeline_from_simulation(entry->prediction.lowered,
					      &entry->prediction.simulation,
					      &entry->predicted);
	if (rc)
		return rc;
	find_peak(entry);
	hold_to_cap(comparison, entry);
	return 0;
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

static int measure_entry(struct comparison *comparison,
			 struct comparison_entry *entry,
			 const struct options *options, comparison_job_fn *fill,
			 void *argument)
{
	struct job *job = calloc(1, sizeof(*job));
	struct schedule_measurement round = {0};
	int rc;

	if (!job)
		return fail(-ENOMEM, "no memory for a job");
	rc = fill(argument, comparison, entry, job);
	if (!rc)
		rc = schedule_measure(options, entry->schedule, job, &round);
	if (!rc)
		rc = take_round(entry, &round);
	schedule_measurement_fini(&round);
	job_fini(job);
	free(job);
	return rc;
}

int comparison_measure(struct comparison *comparison,
		       const struct options *options, unsigned rounds,
		       comparison_job_fn *job, void *argument)
{
	for (unsigned round = 0; round < rounds; round++)
		for (size_t i = 0; i < comparison->count; i++) {
			struct comparison_entry *entry =
				&comparison->entries[i];
			int rc;

			if (entry->why[0])
				continue;
			log_info("round %u of %u: %s", round + 1, rounds,
				 entry->name);
			rc = measure_entry(comparison, entry, options, job,
					   argument);
			if (rc)
				return rc;
		}
	return 0;
}

int comparison_rehearse(void *argument, const struct comparison *comparison,
			const struct comparison_entry *entry, struct job *job)
{
	(void)argument;
	return schedule_rehearsal_job(&entry->prediction,
				      &comparison->setting.costs, job);
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
