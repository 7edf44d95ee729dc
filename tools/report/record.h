/*
 * What a run's folder says of the run, read for its report: run.json,
 * metrics.jsonl, history.jsonl, and what lies in checkpoints/ and model/.
 *
 * metrics.jsonl is the one file that must be there and hold a step or an
 * evaluation. Lines of it that are none are left out and counted: one warning
 * says where the first is. A last line that was cut short is no error, since the
 * run may be writing it. Where the steps go back, as after a resume, what was
 * there from that step on no longer counts.
 */
#ifndef STAGECOACH_TOOLS_REPORT_RECORD_H
#define STAGECOACH_TOOLS_REPORT_RECORD_H

#include "base/files.h"
#include "base/json.h"
#include "engine/grid.h"

/* What a line of a step tells, a column each; NAN: not said, or not finite. */
enum record_column {
	RECORD_LOSS,
	RECORD_GRADIENT_NORM,
	RECORD_RATE, /* learning rate */
	RECORD_TOKENS,
	RECORD_TOKENS_PER_SECOND,
	RECORD_STEP_SECONDS,
	RECORD_BUBBLE,
	RECORD_TIME, /* Unix time */
	RECORD_COLUMNS,
};

struct record_steps {
	size_t count;
	size_t capacity;
	double *step; /* [count], ascending */
	double *column[RECORD_COLUMNS];
};

struct record_evaluation {
	double step;
	double loss;
	double tokens;
	double time; /* NAN: not said */
};

/* A checkpoint as it lies on disk. */
struct record_checkpoint {
	char name[32]; /* step-00000100, damaged-step-00000100 */
	uint64_t step;
	uint64_t bytes;
	bool damaged;
};

enum record_state {
	RECORD_RUNNING,  /* its metrics have grown a moment ago */
	RECORD_FINISHED, /* all its steps are done */
	RECORD_STOPPED,  /* asked to; can go on */
	RECORD_BROKEN,   /* neither: killed, failed */
};

struct record {
	char run[FILES_PATH_BYTES];
	json_t *options;  /* of run.json */
	json_t *numerics; /* the same; an object */
	const char *version;
	json_t *json; /* run.json; owns the three above */

	struct record_steps steps;
	struct record_evaluation *evaluations; /* by step */
	size_t evaluation_count;
	size_t evaluation_capacity;
	size_t bad_lines;
	size_t returns; /* how often the steps went back */
	double idle;    /* seconds since metrics.jsonl has grown */

	json_t *history;      /* array of its lines, whole ones */
	const json_t *start;  /* its last start, or NULL */
	const json_t *memory; /* the last line with memory, or NULL */
	struct grid grid;     /* of the ranks, as last started */

	struct record_checkpoint *checkpoints; /* by name */
	size_t checkpoint_count;
	bool has_model;
	uint64_t parameters; /* 0: not known */
	enum record_state state;
	uint64_t planned; /* steps in all; 0: not known */
};

/*
 * -ENOENT, -EINVAL, logged, in one line, where there is no run or nothing to
 * report of it. The caller's to record_fini(), in any case.
 */
int record_read(const char *run, struct record *out) MUST_CHECK;
void record_fini(struct record *record);

/* metrics.jsonl as text. `path` is for messages. -ENOMEM, -EINVAL. */
int record_read_metrics(const char *text, size_t length, const char *path,
			struct record *out) MUST_CHECK;

/* Steps done: those of the last line. */
double record_last_step(const struct record *record);

/* Ranks of the run as last started. */
unsigned record_ranks(const struct record *record);

/* "rank 5", or, of a grid, "rank 5, replica 1, position 0, slice 1". */
void record_rank_label(const struct record *record, unsigned rank, char *buffer,
		       size_t size);

#endif
