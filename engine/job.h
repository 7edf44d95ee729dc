/*
 * A job: what all ranks of a run are to do, in one value.
 *
 * The command that starts a run fills it in; it travels to the ranks as JSON
 * (job_to_json, job_from_json), so that each rank, wherever it was started,
 * works from the same text, whose digest is part of the handshake.
 */
#ifndef STAGECOACH_ENGINE_JOB_H
#define STAGECOACH_ENGINE_JOB_H

#include "base/files.h"
#include "base/json.h"
#include "data/requests.h"
#include "engine/grid.h"
#include "engine/learning_rate.h"
#include "engine/optimizer.h"
#include "engine/partition.h"
#include "engine/reach.h"
#include "model/model.h"

enum job_kind {
	JOB_TRAIN,
	JOB_EVAL,
	JOB_GENERATE,
	JOB_MEASURE, /* some training steps, on made-up tokens, for their times */
};

/* Runs training steps, with all that they need. */
static inline bool job_kind_trains(enum job_kind kind)
{
	return kind == JOB_TRAIN || kind == JOB_MEASURE;
}

#define JOB_PROMPT_TOKENS_MAX (1u << 20)

/*
 * An evaluation of what is in a file (job.data; data/requests.h), read with a
 * tokenizer by the root alone. The others know how long the passes are.
 */
struct job_scoring {
	bool requests;   /* else: of a corpus */
	int kind;        /* enum requests_kind */
	int windows;     /* enum requests_windows */
	unsigned window; /* tokens a request may have, see requests_config */
	unsigned stride;
	int begin; /* token a text begins with; -1: none */
	bool begin_prompts;
	char delimiter[16];
	char tokenizer[FILES_PATH_BYTES]; /* tokenizer.json */
	char details[FILES_PATH_BYTES];   /* takes a line a question; "" */
	struct requests_run runs[REQUESTS_RUNS_MAX];
	unsigned run_count;
};

struct job {
	enum job_kind kind;
	char out[FILES_PATH_BYTES];   /* RUN; train */
	char data[FILES_PATH_BYTES];  /* corpus; read by the root alone */
	char model[FILES_PATH_BYTES]; /* folder with weights; "": random */
	/* Checkpoint to go on from: weights, moments, step; "": none. */
	char resume[FILES_PATH_BYTES];
	/*
	 * Folder with adapters to begin with; "": random. A model with adapters
	 * has its other weights from `model`, when it is resumed, too. Read by
	 * the root alone, as is then what `resume` holds.
	 */
	char adapter[FILES_PATH_BYTES];
	/* Of the weights that adapters belong to; 0: there are none. Part of the
	 * identity. */
	uint64_t base_weights;
	/* Files copied beside each checkpoint, such as tokenizer.json. */
	char tokenizer_folder[FILES_PATH_BYTES];

	struct model_config config;
	struct model_rehearsal rehearsal; /* config.rehearsal, if that is set */
	unsigned ranks;                   /* P, of one pipeline */
	unsigned replicas;                /* D */
	unsigned slices; /* T; the model's config has it, too */
	unsigned chunks; /* stages a rank */
	struct partition partition;
	char schedule[FILES_PATH_BYTES]; /* name or file */
	char *schedule_text; /* of the file, or NULL; job_fini() frees it */
	enum reach_mode reach;

	unsigned micro_batches;    /* M, global */
	unsigned micro_batch_size; /* B */
	unsigned context;          /* T */
	unsigned gradient_groups;  /* G, over all replicas */
	bool shard_optimizer;      /* each replica keeps 1/D of the state */
	bool recompute;
	uint64_t seed;

	/* Training. */
	uint64_t first_step; /* steps done already (resume) */
	uint64_t steps;      /* to be done in all */
	struct optimizer_config optimizer;
	struct learning_rate learning_rate;
	/* Of the model's files: ELEMENT_F32 or ELEMENT_BF16. */
	enum element_type save_type;
	uint64_t checkpoint_every; /* 0: at the end only */
	unsigned keep_checkpoints;
	uint64_t eval_every;   /* 0: at the end only */
	uint64_t eval_samples; /* windows of the split; 0: no evaluation */
	int split;             /* evaluation: enum corpus_split */
	struct job_scoring scoring;
	bool packed;               /* samples may hold several examples each */
	bool separate;             /* fine-tuning, but one example a sample */
	uint64_t data_fingerprint; /* of the corpus; part of the identity */

	/*
	 * Steps to record, after the first one, which warms up; 0: none. A job
	 * that measures does these and no others.
	 */
	unsigned trace_steps;
	bool tensorboard; /* event files for it, too */

	/* Generation. */
	unsigned tokens;
	double temperature;
	unsigned top_k;
	int end_token; /* stop there; -1: never */
	int32_t *prompt;
	unsigned prompt_count;
};

/* Whether it asks for a loss a sample, by pipeline_score(). */
static inline bool job_scores(const struct job *job)
{
	return job->kind == JOB_EVAL && job->scoring.requests;
}

/* D, P, T of the job; what it leaves 0 is 1. */
struct grid job_grid(const struct job *job);

/* Ranks in all: D * P * T. */
unsigned job_ranks(const struct job *job);

/* Micro-batches of one replica: those of its schedule. */
unsigned job_share(const struct job *job);

/*
 * Whether replicas can share so many micro-batches evenly: 0, or -EINVAL with
 * the nearest numbers that they can, logged.
 */
int job_check_micro_batches(unsigned micro_batches,
			    unsigned replicas) MUST_CHECK;

/*
 * Whether the batch divides evenly over the replicas and the gradient groups:
 * 0, or -EINVAL with the nearest sizes that do, logged.
 */
int job_check_shares(const struct job *job) MUST_CHECK;

json_t *job_to_json(const struct job *job); /* NULL: no memory */

/*
 * The text of the schedule's file, if it is one, into a job on its way: the
 * ranks may be where that file is not. What is longer than a message carries
 * stays out, and they read the file.
 */
int job_attach_schedule(const struct job *job, json_t *json) MUST_CHECK;

/* -EINVAL, logged. The caller calls job_fini() in any case. */
int job_from_json(const json_t *json, struct job *out) MUST_CHECK;
void job_fini(struct job *job);

/*
 * Makes the job a rehearsal of `stages` stages: room for their times and
 * gradients, all zero, in job->rehearsal, which the caller fills in. job_fini() frees it.
 */
int job_rehearsal_create(struct job *job, unsigned stages) MUST_CHECK;

/*
 * The part that determines the bits of the result: what a resumed run must
 * share with the run it goes on from. A new reference; NULL: no memory.
 */
json_t *job_identity(const struct job *job);

#endif
