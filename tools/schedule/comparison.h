/*
 * A comparison: several schedules at the same sizes and costs, predicted, and
 * measured if asked for; as a table, as JSON, as a page, as a trace.
 */
#ifndef STAGECOACH_TOOLS_SCHEDULE_COMPARISON_H
#define STAGECOACH_TOOLS_SCHEDULE_COMPARISON_H

#include "tools/schedule/measure.h"
#include "tools/schedule/predict.h"

#define COMPARISON_WHY_BYTES 256

struct comparison_entry {
	char name[SCHEDULE_NAME_BYTES];
	char why[COMPARISON_WHY_BYTES]; /* refused because; "": it is not */
	struct schedule *schedule;      /* compute actions */
	struct schedule_prediction prediction;
	struct timeline predicted; /* in the costs' unit */
	double peak_bytes;         /* the greatest of any rank; 0: not known */
	/* Measured: */
	double *seconds; /* [seconds_count] of all rounds */
	size_t seconds_count;
	struct timeline measured; /* of the step nearest the median */
};

struct comparison {
	struct schedule_setting setting;
	unsigned ranks, micro_batches, chunks; /* as given; 0: a file's own */
	double memory_cap; /* of a rank: bytes, or where the costs tell none,
			      micro-batches; 0: none */
	/*
	 * The layers are real, and their costs so far no more than a guess: to be
	 * measured by comparison_measure() along with the links.
	 */
	bool costs_to_measure;
	bool links_measured; /* latency and send are comparison_measure()'s */
	const char *title;
	struct comparison_entry *entries;
	size_t count;
};

/*
 * Adds a schedule by name or file and predicts it. A built-in one that does not
 * fit the sizes, or is over the cap, is an entry that says why. Negative
 * errno, logged, for a file or name that cannot be had, or no memory.
 */
int comparison_add(struct comparison *comparison, const char *name,
		   enum schedule_dialect dialect) MUST_CHECK;

/*
 * Measures every entry that is not refused, in rounds: all of them, then all
 * again, so that what disturbs the machine disturbs them alike. `job` fills in
 * what an entry's job needs beyond the schedule.
 *
 * Each round begins with a run of 1f1b, which tells what a message takes, and
 * what the layers take; the predictions are made anew with the medians.
 */
typedef int comparison_job_fn(void *argument,
			      const struct comparison *comparison,
			      const struct comparison_entry *entry,
			      struct job *job);
int comparison_measure(struct comparison *comparison,
		       const struct options *options, unsigned rounds,
		       comparison_job_fn *job, void *argument) MUST_CHECK;

/* The rehearsal of an entry, as a comparison_job_fn. */
int comparison_rehearse(void *argument, const struct comparison *comparison,
			const struct comparison_entry *entry, struct job *job);

/* Most activations on a rank, in micro-batches through its slice. */
double comparison_peak_micro_batches(const struct comparison_entry *entry);

/* Median of what was measured; 0: nothing was. */
double comparison_step_time(const struct comparison_entry *entry);
/* Share by which the measured time differs from the predicted one. */
double comparison_error(const struct comparison_entry *entry);

/* Fastest first (measured, else predicted), the refused ones last. */
void comparison_sort(struct comparison *comparison);

char *comparison_table(const struct comparison *comparison, bool colour);
/* `timelines`: with them, for the page. NULL: no memory. */
json_t *comparison_json(const struct comparison *comparison, bool timelines);
int comparison_trace(const struct comparison *comparison,
		     const char *path) MUST_CHECK;

void comparison_fini(struct comparison *comparison);

#endif
