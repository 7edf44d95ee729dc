/*
 * metrics.jsonl: one JSON object a line, appended with one write each and
 * formatted without allocating.
 *
 *   {"step":12,"loss":3.21098765,"grad_norm":..,"lr":..,"tokens":..,
 *    "tokens_per_second":..,"step_seconds":..,"bubble":..,"time":..}
 *   {"step":12,"val_loss":..,"val_tokens":..,"time":..}
 *
 * step counts from 1 (an evaluation before the first step has 0); tokens
 * counts from the start of the run; loss has 9 significant digits; time is
 * Unix time in seconds; what is not finite is null.
 */
#ifndef STAGECOACH_ENGINE_METRICS_H
#define STAGECOACH_ENGINE_METRICS_H

#include "engine/journal.h"

#define METRICS_LINE_BYTES 512

struct metrics_step {
	uint64_t step;
	double loss;
	double gradient_norm;
	double learning_rate;
	uint64_t tokens;
	double tokens_per_second;
	double step_seconds;
	double bubble; /* share of the step the ranks waited */
	double time;   /* Unix time, at its end */
};

struct metrics_evaluation {
	uint64_t step;
	double loss;
	uint64_t tokens;
	double time;
};

/* One line without newline, terminated. */
void metrics_format_step(char line[METRICS_LINE_BYTES],
			 const struct metrics_step *step);
void metrics_format_evaluation(char line[METRICS_LINE_BYTES],
			       const struct metrics_evaluation *evaluation);

struct metrics {
	struct journal journal;
};

/*
 * Opens RUN/metrics.jsonl for appending, after cutting off what lies past
 * `last_step` (a line that was cut short, too): a resumed run goes on from
 * its checkpoint.
 */
int metrics_open(struct metrics *metrics, const char *run,
		 uint64_t last_step) MUST_CHECK;
void metrics_close(struct metrics *metrics);

/* Appends a line and a newline; a full disk loses it (engine/journal.h). */
void metrics_append(struct metrics *metrics, const char *line);

#endif
