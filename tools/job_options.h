/*
 * From the command line to a job: what train, eval and generate share.
 */
#ifndef STAGECOACH_TOOLS_JOB_OPTIONS_H
#define STAGECOACH_TOOLS_JOB_OPTIONS_H

#include "engine/job.h"
#include "engine/launch.h"
#include "tools/hosts_options.h"
#include "tools/options.h"

#define JOB_OPTIONS_TRANSPORTS "auto|shm|tcp|rdma|inproc"
#define JOB_OPTIONS_TRANSPORTS_HELP                                              \
	"auto: for each link the best there is (inproc for one stage); shm: "    \
	"memory shared by the processes of one host; tcp: TCP, on this host "    \
	"too; rdma: InfiniBand, RoCE, iWARP; inproc: stages are threads of one " \
	"process"

#define JOB_OPTIONS_STORE_HELP                                                 \
	"who reads and writes tensors on disk; shared: every rank its own; "   \
	"root: rank 0 for all; auto: its own wherever a rank shares rank 0's " \
	"folder"

/* For developers: what fails on purpose; see docs/TRANSPORTS.md. */
#define JOB_OPTIONS_FAULTS                                                      \
	{                                                                       \
		.name = "faults", .kind = OPTION_STRING, .argument = "PLAN",    \
		.help = "for tests: delay, damage or cut the links by a plan, " \
			"e.g. seed=7,corrupt=0.001 (docs/TRANSPORTS.md)"        \
	}
/* clang-format off */
#define JOB_OPTIONS_LIVENESS                                                   \
	{.name = "stall-timeout",                                              \
	 .kind = OPTION_REAL,                                                  \
	 .argument = "SECONDS",                                                \
	 .minimum = 0,                                                         \
	 .maximum = 1e6,                                                       \
	 .help = "end when ranks are alive and none has gone on for so long; " \
		 "0: never (default: ten times the longest action so far, at " \
		 "least 60)"},                                                 \
	{.name = "heartbeat-timeout",                                          \
	 .kind = OPTION_REAL,                                                  \
	 .argument = "SECONDS",                                                \
	 .fallback = "3.5",                                                    \
	 .minimum = 0,                                                         \
	 .maximum = 1e6,                                                       \
	 .help = "give a rank up that gave no sign of life for so long; 0: "   \
		 "never"}
/* clang-format on */

/* Rows every command that runs a pipeline has. */
#define JOB_OPTIONS_PIPELINE                                                                \
	{.name = "stages",                                                                  \
	 .letter = 'P',                                                                     \
	 .kind = OPTION_INTEGER,                                                            \
	 .argument = "P",                                                                   \
	 .fallback = "1",                                                                   \
	 .minimum = 1,                                                                      \
	 .maximum = 1024,                                                                   \
	 .group = "Pipeline",                                                               \
	 .help = "stages to split the layers into, one process each (times D and T)"},      \
		{.name = "split",                                                           \
		 .kind = OPTION_LIST,                                                       \
		 .argument = "N,N,...",                                                     \
		 .minimum = 0,                                                              \
		 .maximum = 100000,                                                         \
		 .help = "layers a stage, e.g. 5,4,3 (default: balanced)"},                 \
		{.name = "transport",                                                       \
		 .kind = OPTION_CHOICE,                                                     \
		 .argument = "KIND",                                                        \
		 .choices = JOB_OPTIONS_TRANSPORTS,                                         \
		 .fallback = "auto",                                                        \
		 .help = JOB_OPTIONS_TRANSPORTS_HELP},                                      \
		{.name = "tcp-io",                                                          \
		 .kind = OPTION_CHOICE,                                                     \
		 .argument = "HOW",                                                         \
		 .choices = "auto|uring|sockets",                                           \
		 .fallback = "auto",                                                        \
		 .help = "how tcp moves bytes; auto: io_uring where the kernel allows it"}, \
		{.name = "threads",                                                         \
		 .letter = 't',                                                             \
		 .kind = OPTION_INTEGER,                                                    \
		 .argument = "N",                                                           \
		 .fallback = "0",                                                           \
		 .minimum = 0,                                                              \
		 .maximum = 256,                                                            \
		 .help = "compute threads a rank; 0: the cores divided by the ranks"},      \
		JOB_OPTIONS_FAULTS,                                                         \
		{.name = "store",                                                           \
		 .kind = OPTION_CHOICE,                                                     \
		 .argument = "HOW",                                                         \
		 .choices = "auto|shared|root",                                             \
		 .fallback = "auto",                                                        \
		 .help = JOB_OPTIONS_STORE_HELP},                                           \
		JOB_OPTIONS_LIVENESS,                                                       \
	{                                                                                   \
		.name = "no-pin", .kind = OPTION_FLAG,                                      \
		.help = "leave threads free to move between cores"                          \
	}

/* clang-format off */
#define JOB_OPTION_BASE                                                        \
	{                                                                      \
		.name = "base", .kind = OPTION_STRING, .argument = "DIR",      \
		.help = "where the base model of adapters is (default: where their adapter_config.json says)"                          \
	}

#define JOB_OPTION_TENSOR                                                      \
	{.name = "tensor",                                                     \
	 .kind = OPTION_INTEGER,                                               \
	 .argument = "T",                                                      \
	 .fallback = "1",                                                      \
	 .minimum = 1,                                                         \
	 .maximum = 256,                                                       \
	 .help = "ranks that share each layer (attention heads, inner width, " \
		 "vocabulary); changes the last bits"}

/* Of what layers compute with; `more` is said to what it does. */
#define JOB_OPTION_DTYPE(more)                                                 \
	{.name = "dtype",                                                      \
	 .kind = OPTION_CHOICE,                                                \
	 .argument = "TYPE",                                                   \
	 .choices = JOB_OPTIONS_DTYPES,                                        \
	 .fallback = "fp32",                                                   \
	 .help = "numbers that pass between layers and stages, and matrices "  \
		 "that products read; sums, vectors, logits and losses are "   \
		 "float in either" more}
/* clang-format on */
#define JOB_OPTIONS_DTYPES "fp32|bf16"

/* Operations of each layer, and the split that balances them, or --split. */
int job_options_partition(const struct options *options,
			  const struct model *model,
			  struct job *job) MUST_CHECK;

/* What a choice among JOB_OPTIONS_DTYPES says. */
enum element_type job_options_dtype(const struct options *options,
				    const char *name);

/* The choice that says so; the other way. */
const char *job_options_dtype_name(enum element_type type);

/* --stages; chunks. --split given as text is read in job_options_partition. */
void job_options_pipeline(const struct options *options, struct job *job);

/*
 * --tensor, for a job whose configuration and replicas are known; behind
 * job_options_pipeline(), whose number of ranks it divides where someone else has
 * started them. -EINVAL.
 */
int job_options_slices(const struct options *options,
		       struct job *job) MUST_CHECK;

/* The transport a job of so many ranks is launched with, by --transport. */
const char *job_options_transport(const struct options *options,
				  unsigned ranks);

/* What this program computes with in that type: model/kernels/numerics.h. */
#define JOB_OPTIONS_NUMERICS_BYTES 1024
int job_options_numerics(enum element_type type, char *out,
			 size_t size) MUST_CHECK;

/*
 * Launches the job and waits: 0, or negative errno, the reason logged.
 * The caller calls launch_result_fini().
 */
int job_options_launch(const struct options *options, const struct job *job,
		       void (*event)(void *argument, unsigned rank,
				     const json_t *event),
		       void *argument, struct launch_result *result) MUST_CHECK;

/*
 * The windows of T tokens that a split of `data` has; logs what is wrong
 * with the folder, the split or the context.
 */
struct corpus;
int job_options_windows(const struct corpus *corpus, int split,
			unsigned context, uint64_t *windows) MUST_CHECK;

/*
 * Warns when the text of `corpus` was cut into tokens by another tokenizer
 * than that in a model's folder, where both are known: the model would take
 * them for other words.
 */
void job_options_compare_tokenizers(const struct corpus *corpus,
				    const char *model_folder);

/* Copies a path option into a job's field; -ENAMETOOLONG logged. */
/* Absolute, as others are to find it: adapters name their base model. */
int job_options_whole_path(char path[FILES_PATH_BYTES]) MUST_CHECK;

/*
 * A model folder, or a folder of adapters and its base model (--base): the
 * configuration and where weights are, into the job.
 */
int job_options_model(const struct options *options, const char *folder,
		      struct job *job) MUST_CHECK;

int job_options_path(char out[FILES_PATH_BYTES], const char *path) MUST_CHECK;

#endif
