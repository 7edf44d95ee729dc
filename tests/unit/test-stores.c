/*
 * Runs whose ranks see nothing of the root's files: each rank but the root in a
 * mount namespace of its own, in which the folder with the data, the run, the
 * model and the schedule is empty. What is on disk in the end is compared, file
 * by file, with what a run of one rank leaves there.
 *
 * This program is supervisor and rank at once; the environment says what is
 * to be hidden from whom, and who is killed when (PLAN).
 */
#include "base/clock.h"
#include "base/digest.h"
#include "base/files.h"
#include "base/log.h"
#include "base/text.h"
#include "engine/checkpoint.h"
#include "engine/ferry.h"
#include "engine/job.h"
#include "engine/launch.h"
#include "engine/run.h"
#include "model/io/safetensors.h"
#include "model/kernels/numerics.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cmocka-tap.h"

#define BLOCKS  4
#define VOCAB   61
#define CONTEXT 16
#define TOKENS  3000
#define STEPS   4
#define PLAN    "STORES_PLAN"

/* ---- what is planned for the ranks ---- */

struct plan {
	unsigned blind;      /* bit r: rank r sees nothing of the folder */
	unsigned kill_sent;  /* rank 1 dies in its n-th cargo to the root */
	unsigned kill_write; /* the root dies in its n-th write of a tensor */
};

static char folder[64] = "/tmp/stores-XXXXXX";
static atomic_uint cargoes, writes; /* of this process */

static void plan_set(const struct plan *plan)
{
	char text[256];

	snprintf(text, sizeof(text), "%x %u %u %s", plan->blind,
		 plan->kill_sent, plan->kill_write, folder);
	assert_int_equal(setenv(PLAN, text, 1), 0);
	atomic_store(&cargoes, 0);
	atomic_store(&writes, 0);
}

static struct plan plan_get(char hidden[64])
{
	struct plan plan = {0};
	const char *text = getenv(PLAN);

	if (!text || sscanf(text, "%x %u %u %63s", &plan.blind, &plan.kill_sent,
			    &plan.kill_write, hidden) != 4)
		abort();
	return plan;
}

/* Of the calling thread alone: namespaces are a thread's. */
static int go_blind(const struct world *world, const char *hidden)
{
	char path[FILES_PATH_BYTES];

	if (unshare(CLONE_NEWNS) ||
	    mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) ||
	    mount("none", hidden, "tmpfs", 0, NULL))
		return fail(-errno, "rank %u cannot hide %s: %s", world->rank,
			    hidden, strerror(errno));
	if (files_join(path, sizeof(path), hidden, "data") ||
	    files_exists(path))
		return fail(-EEXIST, "%s is still there", path);
	return 0;
}

static int rank_work(struct world *world)
{
	char hidden[64];
	struct plan plan = plan_get(hidden);
	int rc = 0;

	if (plan.blind >> world->rank & 1)
		rc = go_blind(world, hidden);
	return rc ? rc : run_rank(world);
}

static int rank_program(const char *number)
{
	char numerics[1024];
	int64_t fd;
	int rc = numerics_describe(numerics, sizeof(numerics));

	if (rc || text_parse_integer(number, 3, 1 << 20, &fd) < 0)
		return 2;
	return world_rank_main((int)fd, numerics, rank_work) < 0;
}

/* ---- where they are killed ---- */

int __real_ferry_send(struct ferry *ferry, unsigned peer,
		      const struct ferry_cargo *cargo);
int __wrap_ferry_send(struct ferry *ferry, unsigned peer,
		      const struct ferry_cargo *cargo);
int __real_safetensors_writer_write(struct safetensors_writer *writer,
				    size_t entry, uint64_t first,
				    const void *data, size_t bytes);
int __wrap_safetensors_writer_write(struct safetensors_writer *writer,
				    size_t entry, uint64_t first,
				    const void *data, size_t bytes);

static int (*real_move)(void *argument, size_t item, uint64_t first, void *data,
			size_t bytes);

static int die_in_second_piece(void *argument, size_t item, uint64_t first,
			       void *data, size_t bytes)
{
	static size_t moved;

	moved += bytes;
	if (moved > FERRY_PIECE_BYTES)
		raise(SIGKILL);
	return real_move(argument, item, first, data, bytes);
}

int __wrap_ferry_send(struct ferry *ferry, unsigned peer,
		      const struct ferry_cargo *cargo)
{
	struct ferry_cargo deadly = *cargo;
	char hidden[64];
	unsigned number = atomic_fetch_add(&cargoes, 1) + 1;

	if (peer != 0 || plan_get(hidden).kill_sent != number)
		return __real_ferry_send(ferry, peer, cargo);
	real_move = cargo->move;
	deadly.move = die_in_second_piece;
	return __real_ferry_send(ferry, peer, &deadly);
}

int __wrap_safetensors_writer_write(struct safetensors_writer *writer,
				    size_t entry, uint64_t first,
				    const void *data, size_t bytes)
{
	char hidden[64];

	if (plan_get(hidden).kill_write == atomic_fetch_add(&writes, 1) + 1)
		raise(SIGKILL);
	return __real_safetensors_writer_write(writer, entry, first, data,
					       bytes);
}

/* ---- jobs ---- */

static void write_shard(const char *name, unsigned seed)
{
	int32_t header[256] = {20240520, 1, TOKENS};
	char path[FILES_PATH_BYTES];
	FILE *file;

	snprintf(path, sizeof(path), "%s/data/%s", folder, name);
	file = fopen(path, "wb");
	assert_non_null(file);
	assert_int_equal(fwrite(header, sizeof(header), 1, file), 1);
	for (unsigned i = 0; i < TOKENS; i++) {
		uint16_t token = (uint16_t)((i * i + seed) % 97 % VOCAB);

		assert_int_equal(fwrite(&token, sizeof(token), 1, file), 1);
	}
	assert_int_equal(fclose(file), 0);
}

static void describe_model(struct job *job)
{
	assert_int_equal(model_config_default("gpt2", &job->config), 0);
	job->config.vocab_size = VOCAB;
	job->config.context = CONTEXT;
	job->config.width = 192; /* weights of several pieces a rank */
	job->config.layers = BLOCKS;
	job->config.heads = 3;
	job->config.bos_id = job->config.eos_id = -1;
	job->end_token = -1;
}

static void describe_split(struct job *job, unsigned ranks)
{
	double costs[BLOCKS + 2];

	job->ranks = ranks;
	job->chunks = 1;
	for (unsigned i = 0; i < BLOCKS + 2; i++)
		costs[i] = i && i <= BLOCKS ? 1 : 0.3;
	assert_int_equal(
		partition_balance(costs, BLOCKS + 2, ranks, &job->partition),
		0);
}

static void describe(struct job *job, const char *run, unsigned ranks)
{
	*job = (struct job){.kind = JOB_TRAIN};
	describe_model(job);
	describe_split(job, ranks);
	snprintf(job->schedule, sizeof(job->schedule), "1f1b");
	job->micro_batches = 4;
	job->micro_batch_size = 2;
	job->context = CONTEXT;
	job->gradient_groups = 1;
	job->seed = 5;
	job->steps = STEPS;
	job->optimizer = (struct optimizer_config){.kind = OPTIMIZER_ADAMW,
						   .beta1 = 0.9,
						   .beta2 = 0.95,
						   .epsilon = 1e-8,
						   .weight_decay = 0.1,
						   .clip = 0.5};
	job->learning_rate =
		(struct learning_rate){.peak = 2e-3, .decay_steps = STEPS};
	job->checkpoint_every = 2;
	job->keep_checkpoints = 2;
	snprintf(job->data, sizeof(job->data), "%s/data", folder);
	snprintf(job->out, sizeof(job->out), "%s/%s", folder, run);
}

struct tokens {
	int ids[16];
	unsigned count;
};

static void take_event(void *argument, unsigned rank, const json_t *event)
{
	struct tokens *tokens = argument;
	const json_t *token = json_object_get(event, "token");

	(void)rank;
	if (token && tokens->count < ARRAY_SIZE(tokens->ids))
		tokens->ids[tokens->count++] = (int)json_integer_value(token);
}

static int launch(const struct job *job, const char *transport,
		  struct launch_result *result, struct tokens *tokens)
{
	json_t *json = job_to_json(job);
	char numerics[1024];
	struct launch launch = {.ranks = job->ranks,
				.threads_per_rank = 1,
				.transport = transport,
				.job = json,
				.rank_main = rank_work,
				.numerics = numerics,
				.event = tokens ? take_event : NULL,
				.argument = tokens,
				.keep_signals = true,
				.quiet = true};
	int rc;

	assert_non_null(json);
	assert_int_equal(job_attach_schedule(job, json), 0);
	assert_int_equal(numerics_describe(numerics, sizeof(numerics)), 0);
	rc = launch_run(&launch, result);
	assert_false(result->abandoned);
	json_decref(json);
	return rc;
}

static int run(const struct job *job, const char *transport)
{
	struct launch_result result;
	int rc = launch(job, transport, &result, NULL);

	launch_result_fini(&result);
	return rc;
}

/* ---- what is left on disk ---- */

struct sum {
	struct digest *digest;
	size_t skip; /* of each path: the run's own name */
};

static int add_file(void *argument, const char *path, uint64_t bytes)
{
	struct sum *sum = argument;
	char hex[DIGEST_HEX_BYTES];
	int rc = digest_file(path, hex);

	(void)bytes;
	if (rc || strcmp(path + sum->skip, "/metrics.jsonl") == 0 ||
	    strcmp(path + sum->skip, "/history.jsonl") == 0)
		return rc; /* they tell times */
	digest_update(sum->digest, path + sum->skip, strlen(path + sum->skip));
	digest_update(sum->digest, hex, strlen(hex));
	return 0;
}

/* The name and content of every file of a run. */
static void sum_up(const char *run, char hex[DIGEST_HEX_BYTES])
{
	struct sum sum = {.skip = strlen(run)};

	assert_int_equal(digest_create(&sum.digest), 0);
	assert_int_equal(files_walk(run, add_file, &sum), 0);
	digest_finish(sum.digest, hex);
	digest_destroy(sum.digest);
}

static char reference[DIGEST_HEX_BYTES]; /* of a run of one rank */

static void expect_reference(const struct job *job, const char *what)
{
	char hex[DIGEST_HEX_BYTES];

	sum_up(job->out, hex);
	if (strcmp(hex, reference) != 0)
		fail_msg("%s: not the files of a run of one rank", what);
}

/* ---- the cases ---- */

struct setting {
	const char *transport;
	unsigned ranks;
	unsigned blind;
	enum reach_mode reach;
	bool file; /* the schedule is one, in the folder */
};

static void make_run(const struct job *job)
{
	assert_int_equal(files_remove_tree(job->out), 0);
	assert_int_equal(files_make_folder(job->out), 0);
}

static void give_schedule(struct job *job, const struct setting *setting)
{
	static const char rows[] = "0F0,0F1,0F2,0B0,0F3,0B1,0B2,0B3\n"
				   "1F0,1B0,1F1,1B1,1F2,1B2,1F3,1B3\n";

	if (!setting->file)
		return;
	snprintf(job->schedule, sizeof(job->schedule), "%s/rows.csv", folder);
	assert_int_equal(files_replace(job->schedule, rows, strlen(rows)), 0);
}

static void train(const struct setting *setting)
{
	struct plan plan = {.blind = setting->blind};
	struct job *job = malloc(sizeof(*job));
	bool alone = strcmp(setting->transport, "inproc") == 0;
	char what[64];

	assert_non_null(job);
	describe(job, "run", setting->ranks);
	job->reach = setting->reach;
	give_schedule(job, setting);
	make_run(job);
	plan_set(&plan);
	snprintf(what, sizeof(what), "%s, %u ranks, blind %#x",
		 setting->transport, setting->ranks, setting->blind);
	if (run(job, setting->transport))
		fail_msg("%s: failed", what);
	expect_reference(job, what);
	/* Two cargoes a checkpoint from each rank that does not see RUN. */
	if (alone)
		assert_int_equal(atomic_load(&cargoes),
				 4 * (setting->reach == REACH_ROOT
					      ? setting->ranks - 1
					      : (unsigned)__builtin_popcount(
							setting->blind)));
	free(job);
}

static bool can_hide;

static void needs_namespaces(void)
{
	if (can_hide)
		return;
	print_message("# mount namespaces need root here\n");
	skip();
}

static void everyone_sees(void **state)
{
	static const struct setting settings[] = {
		{"inproc", 3, 0, REACH_AUTO, false},
		{"tcp", 2, 0, REACH_AUTO, false},
		{"inproc", 2, 0, REACH_SHARED, false},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(settings); i++)
		train(&settings[i]);
}

static void only_the_root(void **state)
{
	static const struct setting settings[] = {
		{"inproc", 2, 0, REACH_ROOT, false},
		{"inproc", 4, 0, REACH_ROOT, false},
		{"tcp", 2, 0, REACH_ROOT, false},
		{"tcp", 4, 0, REACH_ROOT, false},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(settings); i++)
		train(&settings[i]);
}

static void blind_ranks(void **state)
{
	static const struct setting settings[] = {
		{"inproc", 2, 0x2, REACH_AUTO, true},
		{"inproc", 4, 0xe, REACH_AUTO, false},
		{"inproc", 4, 0x4, REACH_AUTO, false},
		{"tcp", 2, 0x2, REACH_AUTO, true},
		{"tcp", 4, 0xe, REACH_AUTO, false},
		{"tcp", 4, 0xa, REACH_AUTO, false},
	};

	(void)state;
	needs_namespaces();
	for (size_t i = 0; i < ARRAY_SIZE(settings); i++)
		train(&settings[i]);
}

/* In the middle of a run: another number of ranks, other ones blind. */
static void resumes_elsewhere(void **state)
{
	struct plan plan = {.blind = 0xe};
	struct checkpoint found;
	struct job *job;

	(void)state;
	needs_namespaces();
	job = malloc(sizeof(*job));
	assert_non_null(job);
	describe(job, "run", 4);
	make_run(job);
	plan_set(&plan);
	job->steps = 2;
	assert_int_equal(run(job, "tcp"), 0);
	assert_int_equal(checkpoint_find(job->out, &found), 0);
	assert_int_equal(found.step, 2);

	describe(job, "run", 3);
	snprintf(job->resume, sizeof(job->resume), "%s", found.folder);
	job->first_step = 2;
	checkpoint_fini(&found);
	plan.blind = 0x4;
	plan_set(&plan);
	assert_int_equal(run(job, "inproc"), 0);
	expect_reference(job, "resumed on 3 ranks, one of them blind");
	free(job);
}

/* The model of the reference, to go on from, to evaluate, to generate with. */
static void use_model(struct job *job, enum job_kind kind, unsigned ranks)
{
	describe(job, kind == JOB_TRAIN ? "tuned" : "none", ranks);
	job->kind = kind;
	snprintf(job->model, sizeof(job->model), "%s/reference/model", folder);
	if (kind == JOB_TRAIN) {
		make_run(job);
		job->steps = 1;
		return;
	}
	job->out[0] = '\0';
	job->split = 1; /* validation */
	job->eval_samples = 8;
	if (kind != JOB_GENERATE)
		return;
	job->micro_batches = job->micro_batch_size = 1;
	job->tokens = 8;
	job->prompt = calloc(1, sizeof(*job->prompt));
	job->prompt_count = 1;
	assert_non_null(job->prompt);
}

static void tune(unsigned ranks, unsigned blind, const char *transport,
		 char hex[DIGEST_HEX_BYTES])
{
	struct plan plan = {.blind = blind};
	struct job *job = malloc(sizeof(*job));

	assert_non_null(job);
	use_model(job, JOB_TRAIN, ranks);
	plan_set(&plan);
	assert_int_equal(run(job, transport), 0);
	sum_up(job->out, hex);
	free(job);
}

static double evaluate(unsigned ranks, unsigned blind, const char *transport)
{
	struct plan plan = {.blind = blind};
	struct job *job = malloc(sizeof(*job));
	struct launch_result result;
	double loss;

	assert_non_null(job);
	use_model(job, JOB_EVAL, ranks);
	plan_set(&plan);
	assert_int_equal(launch(job, transport, &result, NULL), 0);
	loss = json_number_value(json_object_get(result.done, "loss"));
	launch_result_fini(&result);
	free(job);
	return loss;
}

static void generate(unsigned ranks, unsigned blind, const char *transport,
		     struct tokens *out)
{
	struct plan plan = {.blind = blind};
	struct job *job = malloc(sizeof(*job));
	struct launch_result result;

	assert_non_null(job);
	*out = (struct tokens){0};
	use_model(job, JOB_GENERATE, ranks);
	plan_set(&plan);
	assert_int_equal(launch(job, transport, &result, out), 0);
	launch_result_fini(&result);
	job_fini(job);
	free(job);
}

static void reads_models(void **state)
{
	char tuned[DIGEST_HEX_BYTES], hex[DIGEST_HEX_BYTES];
	double loss = evaluate(1, 0, "inproc");
	struct tokens wanted, found;

	(void)state;
	needs_namespaces();
	assert_true(loss > 0);
	assert_true(evaluate(3, 0x6, "inproc") == loss);
	assert_true(evaluate(2, 0x2, "tcp") == loss);
	generate(1, 0, "inproc", &wanted);
	assert_int_equal(wanted.count, 8);
	generate(3, 0x6, "tcp", &found);
	assert_memory_equal(&found, &wanted, sizeof(found));
	tune(1, 0, "inproc", tuned);
	tune(3, 0x6, "tcp", hex);
	assert_string_equal(hex, tuned);
}

static void ignore_line(void *argument, enum log_level level, const char *line)
{
	(void)argument;
	(void)level;
	(void)line;
}

/* Rank 0 on a host where the command was not started. */
static void root_without_run(void **state)
{
	static const struct plan nothing;
	struct job *job = malloc(sizeof(*job));

	(void)state;
	assert_non_null(job);
	describe(job, "nowhere", 2);
	plan_set(&nothing);
	log_set_sink(ignore_line, NULL);
	assert_int_equal(run(job, "inproc"), -ENOENT);
	job->reach = REACH_ROOT;
	assert_int_equal(run(job, "inproc"), -ENOENT);
	log_set_sink(NULL, NULL);
	assert_false(files_exists(job->out));
	free(job);
}

/*
 * A disk that is full under the root: no rank hangs, the run goes on where it may
 * and ends with that error where it must.
 */
static void full_disk(void **state)
{
	struct plan plan = {.blind = 0xe};
	struct job *job;
	char path[FILES_PATH_BYTES + 16], *text;
	size_t length;
	int rc;

	(void)state;
	needs_namespaces();
	job = malloc(sizeof(*job));
	assert_non_null(job);
	describe(job, "full", 4);
	make_run(job);
	snprintf(path, sizeof(path), "%s/checkpoints", job->out);
	assert_int_equal(mkdir(path, 0777), 0);
	assert_int_equal(mount("none", path, "tmpfs", 0, "size=5m"), 0);
	plan_set(&plan);
	log_set_sink(ignore_line, NULL);
	rc = run(job, "inproc");
	log_set_sink(NULL, NULL);
	assert_int_equal(umount(path), 0);
	assert_int_equal(rc, -ENOSPC);
	/* All four steps were made: the first failure did not end the run. */
	snprintf(path, sizeof(path), "%s/metrics.jsonl", job->out);
	assert_int_equal(files_read(path, 1 << 20, &text, &length), 0);
	assert_non_null(strstr(text, "\"step\":4,"));
	free(text);
	free(job);
}

/* Killed while step 4 is being written: step 2 stands, and is gone on from. */
static void killed(const char *what, const struct plan *plan)
{
	static const struct plan peace = {.blind = 0x2};
	struct checkpoint found;
	struct job *job = malloc(sizeof(*job));
	char path[FILES_PATH_BYTES + 64];

	assert_non_null(job);
	describe(job, "killed", 2);
	make_run(job);
	plan_set(plan);
	log_set_sink(ignore_line, NULL);
	if (run(job, "tcp") == 0)
		fail_msg("%s: nobody was killed", what);
	log_set_sink(NULL, NULL);
	assert_int_equal(checkpoint_find(job->out, &found), 0);
	if (found.step != 2)
		fail_msg("%s: step %d stands", what, (int)found.step);
	snprintf(path, sizeof(path), "%s/checkpoints/.step-00000004", job->out);
	assert_false(files_exists(path));

	snprintf(job->resume, sizeof(job->resume), "%s", found.folder);
	job->first_step = 2;
	checkpoint_fini(&found);
	plan_set(&peace);
	assert_int_equal(run(job, "tcp"), 0);
	expect_reference(job, what);
	free(job);
}

static void killed_in_the_middle(void **state)
{
	/* Its third cargo is the weights of the second checkpoint. */
	static const struct plan weights = {.blind = 0x2, .kill_sent = 3};
	static const struct plan moments = {.blind = 0x2, .kill_sent = 4};
	static const struct setting two = {"inproc", 2, 0x2, REACH_AUTO, false};
	struct plan root = {.blind = 0x2};

	(void)state;
	needs_namespaces();
	killed("a rank, in its weights", &weights);
	killed("a rank, in its moments", &moments);
	/* All writes are the root's; half of the second checkpoint's. */
	train(&two);
	root.kill_write = atomic_load(&writes) * 3 / 4;
	killed("the root", &root);
}

/* ---- set-up ---- */

static int set_up(void **state)
{
	static const struct plan nothing;
	struct job *job = malloc(sizeof(*job));
	char path[FILES_PATH_BYTES];
	int rc;

	(void)state;
	if (!job || !mkdtemp(folder))
		return -1;
	snprintf(path, sizeof(path), "%s/data", folder);
	if (mkdir(path, 0777))
		return -1;
	write_shard("train_000000.bin", 17);
	write_shard("val_000000.bin", 23);
	can_hide = unshare(CLONE_NEWNS) == 0 &&
		   mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0;
	describe(job, "reference", 1);
	make_run(job);
	plan_set(&nothing);
	rc = run(job, "inproc");
	if (!rc)
		sum_up(job->out, reference);
	free(job);
	return rc;
}

static int tear_down(void **state)
{
	(void)state;
	return files_remove_tree(folder);
}

int main(int count, char **arguments)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(everyone_sees),
		cmocka_unit_test(only_the_root),
		cmocka_unit_test(blind_ranks),
		cmocka_unit_test(resumes_elsewhere),
		cmocka_unit_test(reads_models),
		cmocka_unit_test(root_without_run),
		cmocka_unit_test(full_disk),
		cmocka_unit_test(killed_in_the_middle),
	};

	if (count == 4 && strcmp(arguments[1], "rank") == 0)
		return rank_program(arguments[3]);
	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, set_up, tear_down);
}
