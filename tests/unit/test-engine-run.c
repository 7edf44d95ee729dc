/*
 * Whole runs in this process: ranks as threads, a corpus of a few thousand
 * tokens, three steps. However the model is split and scheduled, one digest of
 * the weights and one row of losses.
 */
#include "base/digest.h"
#include "base/files.h"
#include "base/json.h"
#include "base/log.h"
#include "data/corpus.h"
#include "engine/checkpoint.h"
#include "engine/job.h"
#include "engine/launch.h"
#include "engine/run.h"
#include <dirent.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#define BLOCKS  6
#define VOCAB   61
#define CONTEXT 24
#define TOKENS  4000
#define STEPS   3

struct folder {
	char path[64];
	unsigned runs;
};

struct variant {
	const char *schedule; /* name, or the text of a file */
	unsigned ranks, chunks;
	bool recompute;
};

/*
 * V placement: stages 0 and 3 on rank 0. The forward messages of stage 3 stand
 * between gradients of stage 0 that are used only in the end.
 */
static const char v_shape[] =
	"0F0,3F0,3B0,0F1,3F1,3B1,0F2,3F2,3B2,0F3,3F3,3B3,0B0,0B1,0B2,0B3\n"
	"1F0,2F0,2B0,1B0,1F1,2F1,2B1,1B1,1F2,2F2,2B2,1B2,1F3,2F3,2B3,1B3\n";

/* Loop placement, two stages a rank, I and W apart. */
static const char loops[] =
	"0F0,0F1,2F0,2F1,0F2,0F3,2F2,2F3,2I0,2W0,2I1,0I0,0I1,2W1,2I2,2I3,"
	"0W0,0W1,2W2,0I2,2W3,0I3,0W2,0W3\n"
	"1F0,1F1,3F0,3B0,3F1,3B1,1F2,1F3,1I0,1I1,3F2,3I2,3F3,3I3,1W0,1W1,"
	"3W2,3W3,1B2,1B3\n";

static void write_text(const char *path, const char *text)
{
	FILE *file = fopen(path, "w");

	assert_non_null(file);
	assert_true(fputs(text, file) >= 0);
	assert_int_equal(fclose(file), 0);
}

/* A shard as llm.c writes it. */
static void write_shard(const char *folder, const char *name, unsigned seed)
{
	int32_t header[256] = {20240520, 1, TOKENS};
	char path[FILES_PATH_BYTES];
	FILE *file;

	assert_int_equal(files_join(path, sizeof(path), folder, name), 0);
	file = fopen(path, "wb");
	assert_non_null(file);
	assert_int_equal(fwrite(header, sizeof(header), 1, file), 1);
	for (unsigned i = 0; i < TOKENS; i++) {
		uint16_t token = (uint16_t)((i * i + seed) % 97 % VOCAB);

		assert_int_equal(fwrite(&token, sizeof(token), 1, file), 1);
	}
	assert_int_equal(fclose(file), 0);
}

static void describe(struct job *job, const struct folder *folder,
		     const struct variant *v)
{
	double costs[BLOCKS + 2];

	*job = (struct job){.kind = JOB_TRAIN};
	assert_int_equal(model_config_default("gpt2", &job->config), 0);
	job->config.vocab_size = VOCAB;
	job->config.context = CONTEXT;
	job->config.width = 32;
	job->config.layers = BLOCKS;
	job->config.heads = 2;
	job->config.bos_id = job->config.eos_id = -1;
	job->ranks = v->ranks;
	job->chunks = v->chunks;
	job->micro_batches = 4;
	job->micro_batch_size = 2;
	job->context = CONTEXT;
	job->gradient_groups = 1;
	job->recompute = v->recompute;
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
	job->eval_every = 2;
	job->eval_samples = 11;
	job->keep_checkpoints = 1;
	job->end_token = -1;
	for (unsigned i = 0; i < BLOCKS + 2; i++)
		costs[i] = i && i <= BLOCKS ? 1 : 0.3;
	assert_int_equal(partition_balance(costs, BLOCKS + 2,
					   v->ranks * v->chunks,
					   &job->partition),
			 0);
	assert_int_equal(
		files_join(job->data, sizeof(job->data), folder->path, "data"),
		0);
	snprintf(job->out, sizeof(job->out), "%s/run%u", folder->path,
		 folder->runs);
}

static void give_schedule(struct job *job, const struct variant *v)
{
	if (!strchr(v->schedule, '\n')) {
		snprintf(job->schedule, sizeof(job->schedule), "%s",
			 v->schedule);
		return;
	}
	assert_int_equal(files_join(job->schedule, sizeof(job->schedule),
				    job->out, "schedule.csv"),
			 0);
	write_text(job->schedule, v->schedule);
}

static int launch(const struct job *job)
{
	json_t *json = job_to_json(job);
	struct launch launch = {.ranks = job->ranks,
				.threads_per_rank = 1,
				.transport = "inproc",
				.job = json,
				.rank_main = run_rank,
				.keep_signals = true,
				.quiet = true};
	struct launch_result result;
	int rc;

	assert_non_null(json);
	rc = launch_run(&launch, &result);
	assert_false(result.abandoned);
	launch_result_fini(&result);
	json_decref(json);
	return rc;
}

struct outcome {
	char digest[DIGEST_HEX_BYTES];
	double losses[16];
	unsigned count;
};

static void read_losses(const char *run, struct outcome *out)
{
	char path[FILES_PATH_BYTES], line[1024];
	FILE *file;

	assert_int_equal(files_join(path, sizeof(path), run, "metrics.jsonl"),
			 0);
	file = fopen(path, "r");
	assert_non_null(file);
	while (fgets(line, sizeof(line), file)) {
		json_t *json = json_loads(line, 0, NULL);
		const json_t *loss = json_object_get(json, "loss");

		assert_non_null(json);
		if (!loss)
			loss = json_object_get(json, "val_loss");
		assert_true(json_is_real(loss));
		assert_true(out->count < ARRAY_SIZE(out->losses));
		out->losses[out->count++] = json_real_value(loss);
		json_decref(json);
	}
	fclose(file);
}

static void train(struct folder *folder, const struct variant *v,
		  struct outcome *out)
{
	struct job *job = malloc(sizeof(*job));
	char path[FILES_PATH_BYTES + 32];

	assert_non_null(job);
	*out = (struct outcome){0};
	folder->runs++;
	describe(job, folder, v);
	assert_int_equal(files_make_folder(job->out), 0);
	give_schedule(job, v);
	assert_int_equal(launch(job), 0);
	snprintf(path, sizeof(path), "%s/model/model.safetensors", job->out);
	assert_int_equal(digest_file(path, out->digest), 0);
	read_losses(job->out, out);
	free(job);
}

static const struct variant plain = {"gpipe", 1, 1, false};

static void same_bits(void **state)
{
	static const struct variant variants[] = {
		{"1f1b", 1, 1, true},   {"gpipe", 2, 1, false},
		{"1f1b", 2, 1, false},  {"1f1b", 3, 1, true},
		{"gpipe", 3, 1, false}, {v_shape, 2, 2, false},
		{v_shape, 2, 2, true},  {loops, 2, 2, false},
	};
	struct folder *folder = *state;
	struct outcome expected, found;

	train(folder, &plain, &expected);
	/* Evaluations before step 1, after 2 and 3. */
	assert_int_equal(expected.count, STEPS + 3);
	/* It learns: the validation loss before and after. */
	if (expected.losses[STEPS + 2] >= expected.losses[0])
		fail_msg("loss %g, then %g", expected.losses[0],
			 expected.losses[STEPS + 2]);
	for (size_t i = 0; i < ARRAY_SIZE(variants); i++) {
		train(folder, &variants[i], &found);
		if (strcmp(found.digest, expected.digest) != 0)
			fail_msg("variant %zu: other weights", i);
		assert_int_equal(found.count, expected.count);
		assert_memory_equal(found.losses, expected.losses,
				    sizeof(expected.losses));
	}
}

static void ignore_line(void *argument, enum log_level level, const char *line)
{
	(void)argument;
	(void)level;
	(void)line;
}

/* Turns one bit of a file, whose size stays. */
static void damage(const char *run, const char *file)
{
	char path[FILES_PATH_BYTES + 64];
	FILE *stream;
	int byte;

	snprintf(path, sizeof(path), "%s/checkpoints/%s", run, file);
	stream = fopen(path, "r+b");
	assert_non_null(stream);
	assert_int_equal(fseek(stream, -5, SEEK_END), 0);
	byte = fgetc(stream);
	assert_int_equal(fseek(stream, -5, SEEK_END), 0);
	assert_int_equal(fputc(byte ^ 4, stream), byte ^ 4);
	assert_int_equal(fclose(stream), 0);
}

static bool has(const char *run, const char *file)
{
	char path[FILES_PATH_BYTES + 64];

	snprintf(path, sizeof(path), "%s/checkpoints/%s", run, file);
	return files_exists(path);
}

/* What an interrupted write leaves, and what it must not touch. */
static void leave_behind(const char *run)
{
	char path[FILES_PATH_BYTES + 64];

	snprintf(path, sizeof(path), "%s/checkpoints/.step-00000009", run);
	assert_int_equal(mkdir(path, 0777), 0);
	snprintf(path, sizeof(path), "%s/checkpoints/step-9", run);
	assert_int_equal(mkdir(path, 0777), 0);
}

static void append_torn_line(const char *run)
{
	char path[FILES_PATH_BYTES + 64];
	FILE *file;

	snprintf(path, sizeof(path), "%s/metrics.jsonl", run);
	file = fopen(path, "a");
	assert_non_null(file);
	assert_true(fputs("{\"step\":4,\"lo", file) >= 0);
	assert_int_equal(fclose(file), 0);
}

/*
 * The newest checkpoint is damaged: the run goes on from the one before, on
 * more ranks, to the same bits; and the damaged one costs no good one.
 */
static void resumes(void **state)
{
	static const struct variant two = {"1f1b", 2, 1, false};
	static const struct variant three = {"gpipe", 3, 1, false};
	struct folder *folder = *state;
	struct job *job = malloc(sizeof(*job));
	struct checkpoint found = {.step = 0};
	struct outcome expected, out = {.count = 0};
	char path[FILES_PATH_BYTES + 64];

	assert_non_null(job);
	train(folder, &plain, &expected);
	folder->runs++;
	describe(job, folder, &two);
	job->checkpoint_every = 1;
	job->keep_checkpoints = 3;
	assert_int_equal(files_make_folder(job->out), 0);
	give_schedule(job, &two);
	assert_int_equal(launch(job), 0);
	assert_int_equal(checkpoint_find(job->out, &found), 0);
	assert_int_equal(found.step, 3);
	checkpoint_fini(&found);

	log_set_sink(ignore_line, NULL);
	damage(job->out, "step-00000003/optimizer.safetensors");
	damage(job->out, "step-00000002/model.safetensors");
	leave_behind(job->out);
	assert_int_equal(checkpoint_find(job->out, &found), 0);
	assert_int_equal(found.step, 1);
	assert_true(has(job->out, "damaged-step-00000003"));
	assert_false(has(job->out, "step-00000003"));
	assert_false(has(job->out, ".step-00000009"));
	assert_true(has(job->out, "step-9"));
	log_set_sink(NULL, NULL);

	append_torn_line(job->out);
	describe(job, folder, &three);
	give_schedule(job, &three);
	snprintf(job->resume, sizeof(job->resume), "%s", found.folder);
	checkpoint_fini(&found);
	job->first_step = 1;
	job->steps = 2; /* stops before the damaged one is written anew */
	assert_int_equal(launch(job), 0);
	assert_true(has(job->out, "step-00000002"));
	assert_false(has(job->out, "step-00000001"));
	log_set_sink(ignore_line, NULL);
	assert_int_equal(checkpoint_find(job->out, &found), 0);
	log_set_sink(NULL, NULL);
	assert_int_equal(found.step, 2);

	snprintf(job->resume, sizeof(job->resume), "%s", found.folder);
	checkpoint_fini(&found);
	job->first_step = 2;
	job->steps = STEPS;
	assert_int_equal(launch(job), 0);
	snprintf(path, sizeof(path), "%s/model/model.safetensors", job->out);
	assert_int_equal(digest_file(path, out.digest), 0);
	assert_string_equal(out.digest, expected.digest);
	read_losses(job->out, &out);
	assert_int_equal(out.count, expected.count);
	assert_memory_equal(out.losses, expected.losses,
			    sizeof(expected.losses));
	free(job);
}

static unsigned open_files(void)
{
	DIR *dir = opendir("/proc/self/fd");
	unsigned count = 0;

	assert_non_null(dir);
	while (readdir(dir))
		count++;
	closedir(dir);
	return count;
}

static void leaves_nothing_open(void **state)
{
	static const struct variant two = {"1f1b", 2, 1, false};
	struct folder *folder = *state;
	struct outcome out;
	unsigned before;

	train(folder, &two, &out);
	before = open_files();
	for (unsigned i = 0; i < 3; i++)
		train(folder, &two, &out);
	assert_int_equal(open_files(), before);
}

/* What is wrong with a job ends it with a code, whoever finds it. */
static void refuses(void **state)
{
	static const struct variant two = {"1f1b", 2, 1, false};
	struct folder *folder = *state;
	struct job *job = malloc(sizeof(*job));

	assert_non_null(job);
	log_set_sink(ignore_line, NULL);
	describe(job, folder, &two);
	give_schedule(job, &two);
	job->micro_batches = 0;
	assert_int_equal(launch(job), -EINVAL);
	job->micro_batches = 4;
	job->context = CONTEXT + 1;
	assert_int_equal(launch(job), -EINVAL);
	job->context = CONTEXT;
	job->gradient_groups = 3;
	assert_int_equal(launch(job), -EINVAL);
	job->gradient_groups = 1;
	job->partition.first[2] = BLOCKS;
	assert_int_equal(launch(job), -EINVAL);
	job->partition.first[2] = BLOCKS + 2;
	snprintf(job->schedule, sizeof(job->schedule), "forward");
	assert_int_equal(launch(job), -EINVAL);
	snprintf(job->schedule, sizeof(job->schedule), "1f1b");
	job->config.vocab_size = 7; /* the corpus has greater ids */
	assert_true(launch(job) < 0);
	log_set_sink(NULL, NULL);
	free(job);
}

static int make_folder(void **state)
{
	static struct folder folder = {.path = "/tmp/engine-run-XXXXXX"};
	char data[FILES_PATH_BYTES];

	if (!mkdtemp(folder.path))
		return -1;
	snprintf(data, sizeof(data), "%s/data", folder.path);
	if (mkdir(data, 0777))
		return -1;
	write_shard(data, "train_000000.bin", 17);
	write_shard(data, "val_000000.bin", 23);
	*state = &folder;
	return 0;
}

static int remove_folder(void **state)
{
	struct folder *folder = *state;

	return files_remove_tree(folder->path);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(same_bits),
		cmocka_unit_test(resumes),
		cmocka_unit_test(leaves_nothing_open),
		cmocka_unit_test(refuses),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
