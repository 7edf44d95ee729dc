/*
 * What train and plan share: from the command line to a job that trains, and
 * the split of its layers.
 */
#ifndef STAGECOACH_TOOLS_TRAIN_OPTIONS_H
#define STAGECOACH_TOOLS_TRAIN_OPTIONS_H

#include "engine/calibrate.h"
#include "engine/job.h"
#include "engine/plan.h"
#include "tools/job_options.h"
#include "tools/options.h"

#define TRAIN_OPTIONS_SCHEDULE                                                                                                                 \
	{.name = "schedule",                                                                                                                   \
	 .letter = 's',                                                                                                                        \
	 .kind = OPTION_STRING,                                                                                                                \
	 .argument = "NAME|FILE|auto",                                                                                                         \
	 .fallback = "1f1b",                                                                                                                   \
	 .help = "order of the work: see `stagecoach schedule list`, or a CSV file; auto: what a search finds at the layers' measured costs"}, \
		{.name = "chunks",                                                                                                             \
		 .letter = 'V',                                                                                                                \
		 .kind = OPTION_INTEGER,                                                                                                       \
		 .argument = "V",                                                                                                              \
		 .fallback = "0",                                                                                                              \
		 .minimum = 0,                                                                                                                 \
		 .maximum = 256,                                                                                                               \
		 .help = "pieces each stage's layers are cut into, for interleaved and V schedules; 0: as the schedule likes"},                \
	{                                                                                                                                      \
		.name = "recompute", .kind = OPTION_FLAG,                                                                                      \
		.help = "keep layer inputs only and run forward again for the backward: less memory, about a third more time"                  \
	}

#define TRAIN_OPTIONS_MODEL                                                                                             \
	{.name = "arch",                                                                                                \
	 .kind = OPTION_CHOICE,                                                                                         \
	 .argument = "NAME",                                                                                            \
	 .choices = "gpt2|llama|mistral|qwen2|qwen3",                                                                   \
	 .fallback = "gpt2",                                                                                            \
	 .group = "New model",                                                                                          \
	 .help = "family of a model with random weights"},                                                              \
		{.name = "layers",                                                                                      \
		 .letter = 'L',                                                                                         \
		 .kind = OPTION_INTEGER,                                                                                \
		 .argument = "L",                                                                                       \
		 .fallback = "4",                                                                                       \
		 .minimum = 1,                                                                                          \
		 .maximum = 10000,                                                                                      \
		 .help = "blocks"},                                                                                     \
		{.name = "width",                                                                                       \
		 .letter = 'C',                                                                                         \
		 .kind = OPTION_INTEGER,                                                                                \
		 .argument = "C",                                                                                       \
		 .fallback = "256",                                                                                     \
		 .minimum = 1,                                                                                          \
		 .maximum = 1 << 20,                                                                                    \
		 .help = "channels"},                                                                                   \
		{.name = "heads",                                                                                       \
		 .letter = 'H',                                                                                         \
		 .kind = OPTION_INTEGER,                                                                                \
		 .argument = "H",                                                                                       \
		 .fallback = "4",                                                                                       \
		 .minimum = 1,                                                                                          \
		 .maximum = 4096,                                                                                       \
		 .help = "attention heads; must divide the width, or have --head-size"},                                \
		{.name = "kv-heads",                                                                                    \
		 .kind = OPTION_INTEGER,                                                                                \
		 .argument = "K",                                                                                       \
		 .minimum = 1,                                                                                          \
		 .maximum = 4096,                                                                                       \
		 .help = "heads of keys and values, which groups of heads share; divides H (default: H)"},              \
		{.name = "head-size",                                                                                   \
		 .kind = OPTION_INTEGER,                                                                                \
		 .argument = "D",                                                                                       \
		 .minimum = 1,                                                                                          \
		 .maximum = 4096,                                                                                       \
		 .help = "channels of a head (default: C / H)"},                                                        \
		{.name = "inner",                                                                                       \
		 .kind = OPTION_INTEGER,                                                                                \
		 .argument = "F",                                                                                       \
		 .minimum = 1,                                                                                          \
		 .maximum = 1 << 22,                                                                                    \
		 .help = "inner width of the MLP (default: 4 C for gpt2, else 8/3 C in steps of 64)"},                  \
		{.name = "window",                                                                                      \
		 .kind = OPTION_INTEGER,                                                                                \
		 .argument = "W",                                                                                       \
		 .minimum = 1,                                                                                          \
		 .maximum = 1 << 24,                                                                                    \
		 .help = "mistral, qwen2, qwen3: positions attention looks back on (default: mistral 4096, else all)"}, \
		{.name = "rope-theta",                                                                                  \
		 .kind = OPTION_REAL,                                                                                   \
		 .argument = "X",                                                                                       \
		 .minimum = 1,                                                                                          \
		 .maximum = 1e12,                                                                                       \
		 .help = "base of the rotary positions (default: 10000, qwen 1000000)"},                                \
		{.name = "tied",                                                                                        \
		 .kind = OPTION_CHOICE,                                                                                 \
		 .argument = "yes|no",                                                                                  \
		 .choices = "yes|no",                                                                                   \
		 .help = "the head shares the token embedding (default: yes for gpt2, else no)"},                       \
		{.name = "vocab-size",                                                                                  \
		 .kind = OPTION_INTEGER,                                                                                \
		 .argument = "V",                                                                                       \
		 .minimum = 2,                                                                                          \
		 .maximum = 1 << 24,                                                                                    \
		 .help = "tokens the model knows (default: what the data says)"},                                       \
	{                                                                                                               \
		.name = "dropout", .kind = OPTION_REAL, .argument = "P",                                                \
		.minimum = 0, .maximum = 0.99,                                                                          \
		.help = "probability, at all sites (default: 0, or the model folder's)"                                 \
	}

#define TRAIN_OPTIONS_ADAPTERS                                                                                                                                   \
	{.name = "lora-rank",                                                                                                                                    \
	 .kind = OPTION_INTEGER,                                                                                                                                 \
	 .argument = "R",                                                                                                                                        \
	 .minimum = 1,                                                                                                                                           \
	 .maximum = ADAPTER_RANK_MAX,                                                                                                                            \
	 .group = "Adapters",                                                                                                                                    \
	 .help = "train low-rank adapters (LoRA) of this rank beside --model, and nothing else"},                                                                \
		{.name = "lora-alpha",                                                                                                                           \
		 .kind = OPTION_REAL,                                                                                                                            \
		 .argument = "X",                                                                                                                                \
		 .minimum = 1e-6,                                                                                                                                \
		 .maximum = 1e6,                                                                                                                                 \
		 .help = "what they add counts X / R times (default: 2 R)"},                                                                                     \
		{.name = "lora-targets",                                                                                                                         \
		 .kind = OPTION_STRING,                                                                                                                          \
		 .argument = "NAMES",                                                                                                                            \
		 .help = "linear maps that get one, by commas: q_proj,v_proj; all-linear: every one but the head (default: gpt2 c_attn, others q_proj,v_proj)"}, \
		JOB_OPTION_BASE

#define TRAIN_OPTIONS_BATCH                                                                                                                     \
	{.name = "context",                                                                                                                     \
	 .letter = 'T',                                                                                                                         \
	 .kind = OPTION_INTEGER,                                                                                                                \
	 .argument = "T",                                                                                                                       \
	 .minimum = 1,                                                                                                                          \
	 .maximum = 1 << 24,                                                                                                                    \
	 .group = "Batch",                                                                                                                      \
	 .help = "tokens a sequence (default: 256, or the model's if less)"},                                                                   \
		{.name = "micro-batches",                                                                                                       \
		 .letter = 'M',                                                                                                                 \
		 .kind = OPTION_INTEGER,                                                                                                        \
		 .argument = "M",                                                                                                               \
		 .fallback = "8",                                                                                                               \
		 .minimum = 1,                                                                                                                  \
		 .maximum = 65535,                                                                                                              \
		 .help = "micro-batches a step, all in all"},                                                                                   \
		{.name = "micro-batch-size",                                                                                                    \
		 .letter = 'B',                                                                                                                 \
		 .kind = OPTION_INTEGER,                                                                                                        \
		 .argument = "B",                                                                                                               \
		 .fallback = "2",                                                                                                               \
		 .minimum = 1,                                                                                                                  \
		 .maximum = 65535,                                                                                                              \
		 .help = "sequences a micro-batch"},                                                                                            \
	{                                                                                                                                       \
		.name = "gradient-groups", .kind = OPTION_INTEGER,                                                                              \
		.argument = "G", .minimum = 1, .maximum = 65536,                                                                                \
		.help = "sum micro-batches in G groups, and those as a binary tree; D times a power of two; changes the last bits (default: D)" \
	}

/* clang-format off */
#define TRAIN_OPTIONS_GRID                                                     \
	{.name = "replicas",                                                   \
	 .letter = 'D',                                                        \
	 .kind = OPTION_INTEGER,                                               \
	 .argument = "D",                                                      \
	 .fallback = "1",                                                      \
	 .minimum = 1,                                                         \
	 .maximum = 1024,                                                      \
	 .group = "Replicas",                                                  \
	 .help = "copies of the pipeline, each with its share of the micro-"   \
		 "batches; their gradients are summed"},                       \
	{.name = "shard-optimizer",                                            \
	 .kind = OPTION_FLAG,                                                  \
	 .help = "each replica keeps and updates 1/D of the optimizer state"}, \
	JOB_OPTION_TENSOR
/* clang-format on */

#define TRAIN_OPTION_OPTIMIZER                                                 \
	{                                                                      \
		.name = "optimizer", .kind = OPTION_CHOICE,                    \
		.argument = "NAME", .choices = "adamw|sgd",                    \
		.fallback = "adamw", .group = "Optimizer",                     \
		.help = "update rule"                                          \
	}

#define TRAIN_OPTION_MOMENTUM                                                  \
	{                                                                      \
		.name = "momentum", .kind = OPTION_REAL, .argument = "X",      \
		.fallback = "0.9", .minimum = 0, .maximum = 0.999999,          \
		.group = "Optimizer", .help = "sgd: momentum"                  \
	}

/* How layers are divided over stages, where --split does not say it. */
#define TRAIN_OPTIONS_BALANCE                                                                                                     \
	{.name = "costs",                                                                                                         \
	 .kind = OPTION_STRING,                                                                                                   \
	 .argument = "HOW|FILE|RUN",                                                                                              \
	 .fallback = "measure",                                                                                                   \
	 .minimum = 1,                                                                                                            \
	 .help = "what layers cost: `measure` them now, count `operations`, or read a file or the folder of a run with --trace"}, \
	{                                                                                                                         \
		.name = "memory-cap", .kind = OPTION_BYTES,                                                                       \
		.argument = "BYTES",                                                                                              \
		.help = "most that a rank may hold, everything counted (e.g. 900M): the split respects it, or the run is refused" \
	}

#define TRAIN_OPTION_DTYPE                                                     \
	JOB_OPTION_DTYPE(                                                      \
		"; bf16 halves messages and activations; weights are "         \
		"updated in float; changes the result")

/*
 * The model's configuration, of --dtype: that of --model DIR, or of a new one with a
 * vocabulary of `vocab_size` (0: not known) unless --vocab-size says another.
 * `source` is what did not say it, for the message: "--data corpus".
 */
int train_options_model(const struct options *options, size_t vocab_size,
			const char *source, struct job *job) MUST_CHECK;

/* --dropout at all sites, where it is given. */
void train_options_dropout(const struct options *options,
			   struct model_config *config);

/*
 * --replicas, --tensor, --shard-optimizer; behind job_options_pipeline(), whose
 * number of ranks it divides where someone else has started them. -EINVAL.
 */
int train_options_grid(const struct options *options,
		       struct job *job) MUST_CHECK;

/* Micro-batches, context, groups, recompute; checks the context. */
int train_options_batch(const struct options *options,
			struct job *job) MUST_CHECK;

/* --optimizer and --momentum. */
void train_options_optimizer(const struct options *options,
			     struct optimizer_config *out);

/*
 * --schedule and --chunks: opened, validated and found fit to train, once and
 * with one clear line, rather than on every rank.
 */
int train_options_schedule(const struct options *options,
			   struct job *job) MUST_CHECK;

/* Threads a rank, and the ranks that compute at once, as launched. */
void train_options_place(const struct options *options, const struct job *job,
			 struct calibration *out);

/* How the layers came to be split, and what that was based on. */
struct train_split {
	struct calibration calibration;
	struct costs costs; /* count 0: none were needed */
	struct calibration_rates rates;
	struct partition_result result; /* of a balance */
	char reason[256]; /* "balanced by measured costs: slowest stage ..." */
	bool elsewhere;   /* planned for another machine than this one */
};

/*
 * What --costs says of the model's layers and links, measured at length if it
 * says so, into out->costs and out->rates: train_options_split() then takes
 * those. The caller's to train_split_fini(), in any case.
 */
int train_options_costs(const struct options *options,
			const struct model *model, struct job *job,
			struct train_split *out) MUST_CHECK;

/*
 * The split of model over job->ranks * job->chunks stages, into
 * job->partition: --split, or balanced by --costs under --memory-cap. Costs are
 * taken from out->costs if some are there; else measured only where the split depends on them, or (`everything`) also the
 * optimizer and the links, for a prediction, within a longer time. -EINVAL,
 * logged, when nothing fits the cap, with what would. The caller's to
 * train_split_fini(), in any case.
 */
int train_options_split(const struct options *options,
			const struct model *model, bool everything,
			struct job *job, struct train_split *out) MUST_CHECK;
void train_split_fini(struct train_split *split);

/*
 * The plan of a job whose split is chosen: -EINVAL, logged, where a rank holds
 * more than --memory-cap. Warns where the ranks together need more memory than
 * this machine has free.
 */
int train_options_plan(const struct options *options, const struct job *job,
		       const struct model *model,
		       const struct train_split *split,
		       struct plan **out) MUST_CHECK;

#endif
