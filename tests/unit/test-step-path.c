/*
 * A training step allocates nothing: after a first step to warm up, no thread
 * of a rank's process, in no library, calls malloc or changes its address
 * space between a step's first action and its STEP.
 *
 * This program is supervisor and rank at once. The linker sends
 * pipeline_train_step() through the window below; each process counts for
 * itself (step-path-count.h) and leaves a line in the file that
 * STEP_PATH_REPORT names. Under inproc the supervisor's thread shares the
 * ranks' process; it is no part of any rank and is left out.
 */
#include "base/clock.h"
#include "base/files.h"
#include "base/log.h"
#include "base/random.h"
#include "base/text.h"
#include "engine/launch.h"
#include "engine/pipeline.h"
#include "engine/run.h"
#include "model/kernels/numerics.h"
#include "step-path-count.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cmocka-tap.h"

#define STEPS        6
#define PLANT_STEP   3
#define TRAIN_TOKENS 4096
#define REPORT       "STEP_PATH_REPORT"
#define PLANT        "STEP_PATH_PLANT"

/* ---- one process: the ranks, and the window around their steps ---- */

static atomic_uint steps_of_rank[LAUNCH_RANKS_MAX];
static atomic_uint windows_of_rank[LAUNCH_RANKS_MAX];
static bool mappings_counted;

static void *allocate_elsewhere(void *argument)
{
	sem_t *go = argument;
	void *volatile memory;

	while (sem_wait(&go[0]) < 0)
		;
	memory = malloc(100);
	free(memory);
	sem_post(&go[1]);
	return NULL;
}

/* In another thread of the process, which was there before. */
static void plant_thread(bool inside)
{
	static sem_t go[2];
	static pthread_t thread;

	if (!inside) {
		sem_init(&go[0], 0, 0);
		sem_init(&go[1], 0, 0);
		if (pthread_create(&thread, NULL, allocate_elsewhere, go))
			abort();
		return;
	}
	sem_post(&go[0]);
	while (sem_wait(&go[1]) < 0)
		;
	pthread_join(thread, NULL);
}

/* The negative controls: what must be counted, done once by rank 0. */
static void plant(struct world *world, unsigned step, bool inside)
{
	const char *what = getenv(PLANT);
	void *volatile memory;
	void *page;

	if (!what || world->rank != 0 || step != PLANT_STEP)
		return;
	if (strcmp(what, "thread") == 0)
		plant_thread(inside);
	if (!inside)
		return;
	if (strcmp(what, "malloc") == 0) {
		memory = malloc(100);
		free(memory);
	} else if (strcmp(what, "library") == 0) {
		memory = json_string("x");
		json_decref(memory);
	} else if (strcmp(what, "mmap") == 0) {
		/* As liburing and others do: not through the C library. */
		page = (void *)syscall(SYS_mmap, NULL, 4096, PROT_READ,
				       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		syscall(SYS_munmap, page, 4096);
	}
}

int __real_pipeline_train_step(struct pipeline *pipeline, uint64_t step,
			       uint64_t first_sample, double learning_rate,
			       struct verdict *out);
int __wrap_pipeline_train_step(struct pipeline *pipeline, uint64_t step,
			       uint64_t first_sample, double learning_rate,
			       struct verdict *out);

/*
 * Where ranks share a process, one may be a step ahead of another: warming up
 * when the other is not, writing the last checkpoint when the other is not
 * there yet. Their first two steps and their last are left out.
 */
static bool is_counted(const struct world *world, unsigned step)
{
	if (world->thread && world->size > 1)
		return step >= 2 && step < STEPS - 1;
	return step >= 1;
}

int __wrap_pipeline_train_step(struct pipeline *pipeline, uint64_t step,
			       uint64_t first_sample, double learning_rate,
			       struct verdict *out)
{
	struct world *world = pipeline->world;
	unsigned done = atomic_fetch_add(&steps_of_rank[world->rank], 1);
	bool counted = is_counted(world, done);
	int rc;

	plant(world, done, false);
	if (counted)
		count_open();
	/* Here and there one lasts until a heartbeat falls into it. */
	if (done == 2 && pipeline->job->eval_samples)
		clock_sleep_ns(WORLD_HEARTBEAT_NS + 50 * NS_PER_MS);
	rc = __real_pipeline_train_step(pipeline, step, first_sample,
					learning_rate, out);
	plant(world, done, true);
	if (counted) {
		count_close();
		atomic_fetch_add(&windows_of_rank[world->rank], 1);
	}
	return rc;
}

static int write_report(void)
{
	struct count count = count_read();
	const char *path = getenv(REPORT);
	char line[256];
	unsigned windows = 0;
	int length, fd, rc;

	for (unsigned i = 0; i < LAUNCH_RANKS_MAX; i++)
		windows += atomic_load(&windows_of_rank[i]);
	length = snprintf(line, sizeof(line), "%u %llu %llu %llu %d\n", windows,
			  (unsigned long long)count.calls,
			  (unsigned long long)count.mappings,
			  (unsigned long long)count.left_out, mappings_counted);
	fd = path ? open(path, O_WRONLY | O_APPEND | O_CREAT, 0600) : -1;
	if (fd < 0)
		return fail(-EINVAL, "no report: %s", strerror(errno));
	rc = files_write_all(fd, line, (size_t)length, path);
	close(fd);
	return rc;
}

static void start_counting(void)
{
	count_set_quiet(getenv(PLANT) != NULL);
	mappings_counted = count_begin() == 0;
}

static int rank_program(const char *number)
{
	char numerics[1024];
	int64_t fd;
	int rc;

	if (text_parse_integer(number, 3, 1 << 20, &fd) < 0)
		return 2;
	start_counting();
	rc = numerics_describe(numerics, sizeof(numerics));
	if (!rc)
		rc = world_rank_main((int)fd, numerics, run_rank);
	return rc || write_report() ? 1 : 0;
}

/* ---- the cases ---- */

struct shape {
	unsigned layers, width, heads, context, batch;
};

static const struct shape small = {2, 32, 2, 24, 2};

/* Several tiles, attention blocks and loss blocks, with remainders. */
static const struct shape large = {2, 144, 3, 530, 2};

/* A layer a chunk. */
static const struct shape deep = {3, 48, 3, 40, 2};

/* Heads that two slices share. */
static const struct shape even = {2, 192, 4, 530, 2};

struct place {
	const char *name, *transport, *io;
	unsigned ranks;
	unsigned slices;   /* of them share the layers; 0: none */
	unsigned replicas; /* of them have all layers; 0: none */
};

static const struct place places[] = {
	{"inproc, 1 rank", "inproc", NULL, 1, 0, 0},
	{"inproc, 2 ranks", "inproc", NULL, 2, 0, 0},
	{"tcp/uring, 2 ranks", "tcp", "uring", 2, 0, 0},
	{"tcp/sockets, 2 ranks", "tcp", "sockets", 2, 0, 0},
	{"shm, 2 ranks", "shm", NULL, 2, 0, 0},
	{"shm, 2 slices", "shm", NULL, 2, 2, 0},
	{"tcp, 2 slices", "tcp", NULL, 2, 2, 0},
	{"shm, 4 replicas", "shm", NULL, 4, 0, 4},
	{"tcp, 2 replicas", "tcp", NULL, 2, 0, 2},
	{"inproc, 2 replicas", "inproc", NULL, 2, 0, 2},
	{"tcp, 3 replicas", "tcp", NULL, 3, 0, 3},
	{"shm, 2 replicas of 2 slices", "shm", NULL, 4, 2, 2},
};

struct step_case {
	const struct place *place;
	const char *schedule; /* name, or the rows */
	const struct shape *shape;
	bool recompute;
	unsigned threads, groups;
	bool sgd, evaluate, trace;
	unsigned chunks; /* 0: one stage a rank */
	bool shard;
	bool bfloat16;
	const char *plant;
};

static const char split_rows[] =
	"0F0,0F1,0I0,0F2,0W0,0I1,0F3,0W1,0I2,0W2,0I3,0W3\n"
	"1F0,1I0,1F1,1W0,1I1,1F2,1W1,1I2,1F3,1W2,1I3,1W3\n";
static const char split_row[] =
	"0F0,0F1,0I0,0F2,0W0,0I1,0F3,0W1,0I2,0W2,0I3,0W3\n";

static char folder[] = "/tmp/stagecoach-step-path.XXXXXX";

static int write_schedule(const char *rows, char path[FILES_PATH_BYTES])
{
	snprintf(path, FILES_PATH_BYTES, "%s/split.csv", folder);
	return files_replace(path, rows, strlen(rows));
}

/* Headerless tokens, as nanoGPT writes them. */
static int write_tokens(const char *name, unsigned vocab)
{
	struct random_key key = random_key_named(7, name);
	uint16_t tokens[TRAIN_TOKENS];
	char path[FILES_PATH_BYTES];

	for (unsigned i = 0; i < TRAIN_TOKENS; i++)
		tokens[i] =
			(uint16_t)random_permute(key, TRAIN_TOKENS, i) % vocab;
	snprintf(path, sizeof(path), "%s/data/%s", folder, name);
	return files_replace(path, tokens, sizeof(tokens));
}

static int fill_model(const struct step_case *c, struct model_config *config)
{
	int rc = model_config_default("gpt2", config);

	config->vocab_size = 211;
	config->layers = c->shape->layers;
	config->width = c->shape->width;
	config->heads = c->shape->heads;
	config->context = c->shape->context;
	config->embedding_dropout = 0.1;
	config->residual_dropout = 0.1;
	config->attention_dropout = 0.1;
	config->type = c->bfloat16 ? ELEMENT_BF16 : ELEMENT_F32;
	return rc;
}

static int fill_training(const struct step_case *c, struct job *job)
{
	int rc = 0;

	job->micro_batches = c->place->replicas == 3 ? 6 : 4;
	job->micro_batch_size = c->shape->batch;
	job->context = c->shape->context;
	job->gradient_groups = c->groups;
	job->recompute = c->recompute;
	job->seed = 3;
	job->steps = STEPS;
	job->optimizer = (struct optimizer_config){
		.kind = c->sgd ? OPTIMIZER_SGD : OPTIMIZER_ADAMW,
		.beta1 = 0.9,
		.beta2 = 0.95,
		.epsilon = 1e-8,
		.momentum = 0.9,
		.clip = 1,
	};
	job->learning_rate = (struct learning_rate){
		.peak = 0.01, .decay_steps = STEPS, .decay = DECAY_COSINE};
	job->keep_checkpoints = 1;
	job->eval_every = c->evaluate ? 1 : 0;
	job->eval_samples = c->evaluate ? 3 : 0;
	job->end_token = -1;
	job->trace_steps = c->trace ? STEPS : 0;
	if (strchr(c->schedule, ','))
		rc = write_schedule(c->schedule, job->schedule);
	else
		snprintf(job->schedule, sizeof(job->schedule), "%s",
			 c->schedule);
	return rc;
}

static int fill_job(const struct step_case *c, struct job *job)
{
	int64_t blocks[3] = {c->shape->layers, 0, 0};
	bool shares = c->place->slices || c->place->replicas;
	unsigned ranks = shares ? 1 : c->place->ranks;
	unsigned stages = ranks * MAX(c->chunks, 1);
	int rc = fill_model(c, &job->config);

	job->kind = JOB_TRAIN;
	snprintf(job->out, sizeof(job->out), "%s/run", folder);
	snprintf(job->data, sizeof(job->data), "%s/data", folder);
	job->ranks = ranks;
	job->slices = c->place->slices;
	job->replicas = c->place->replicas;
	job->shard_optimizer = c->shard;
	job->chunks = MAX(c->chunks, 1);
	for (unsigned i = 1; i < stages && blocks[0] > 1; i++, blocks[0]--)
		blocks[i] = 1;
	if (!rc)
		rc = partition_explicit(blocks, stages, c->shape->layers + 2,
					stages, &job->partition);
	return rc ? rc : fill_training(c, job);
}

/* In a process of its own: what it starts and installs ends with it. */
static int run_supervisor(const struct step_case *c)
{
	struct job *job = calloc(1, sizeof(*job));
	struct launch_result result = {0};
	char numerics[1024];
	bool threads = strcmp(c->place->transport, "inproc") == 0;
	struct launch launch = {
		.ranks = c->place->ranks,
		.threads_per_rank = c->threads,
		.transport = c->place->transport,
		.io = c->place->io,
		.rank_main = run_rank,
		.numerics = numerics,
		.quiet = true,
	};
	json_t *json;
	int rc;

	if (!job || fill_job(c, job))
		return 1;
	if (c->plant)
		setenv(PLANT, c->plant, 1);
	if (threads) {
		start_counting();
		count_leave_out();
	}
	json = job_to_json(job);
	launch.job = json;
	rc = numerics_describe(numerics, sizeof(numerics));
	if (!rc)
		rc = launch_run(&launch, &result);
	if (!rc && threads)
		rc = write_report();
	if (rc && strstr(result.reason, "io_uring"))
		return 77;
	return rc ? 1 : 0;
}

struct findings {
	unsigned processes, windows, counting;
	unsigned long long calls, mappings, left_out;
};

static void read_reports(const char *path, struct findings *out)
{
	FILE *file = fopen(path, "r");
	unsigned long long calls, mappings, left_out;
	unsigned windows;
	int counting;

	*out = (struct findings){0};
	if (!file)
		fail_msg("%s: %s", path, strerror(errno));
	while (fscanf(file, "%u %llu %llu %llu %d", &windows, &calls, &mappings,
		      &left_out, &counting) == 5) {
		out->processes++;
		out->windows += windows;
		out->calls += calls;
		out->mappings += mappings;
		out->left_out += left_out;
		out->counting += counting == 1;
	}
	fclose(file);
}

/* False: it cannot run here. */
static bool run_case(const struct step_case *c, struct findings *out)
{
	char path[FILES_PATH_BYTES], run[FILES_PATH_BYTES];
	int status;
	pid_t pid;

	snprintf(path, sizeof(path), "%s/report", folder);
	snprintf(run, sizeof(run), "%s/run", folder);
	unlink(path);
	assert_int_equal(files_remove_tree(run), 0);
	strcat(run, "/checkpoints");
	assert_int_equal(files_make_folder(run), 0);
	assert_int_equal(setenv(REPORT, path, 1), 0);
	fflush(NULL);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0)
		_exit(run_supervisor(c));
	assert_int_equal(waitpid(pid, &status, 0), pid);
	if (WIFEXITED(status) && WEXITSTATUS(status) == 77)
		return false;
	if (status)
		fail_msg("the run failed: status %#x", (unsigned)status);
	read_reports(path, out);
	return true;
}

static unsigned expected_windows(const struct step_case *c)
{
	bool threads = strcmp(c->place->transport, "inproc") == 0;

	if (threads && c->place->ranks > 1)
		return (STEPS - 3) * c->place->ranks;
	return (STEPS - 1) * c->place->ranks;
}

static void expect_nothing(const struct step_case *c)
{
	struct findings found;

	if (!run_case(c, &found)) {
		print_message("# io_uring is refused here\n");
		skip();
	}
	print_message(
		"# %s, %s, threads %u, groups %u%s%s%s%s: %u windows in %u "
		"processes, %llu allocations, %llu mappings%s "
		"(supervisor's thread: %llu)\n",
		c->place->name,
		strchr(c->schedule, ',') ? "I and W apart" : c->schedule,
		c->threads, c->groups, c->recompute ? ", recompute" : "",
		c->shape == &large ? ", large" : "", c->trace ? ", traced" : "",
		c->bfloat16 ? ", bfloat16" : "", found.windows, found.processes,
		found.calls, found.mappings,
		found.counting == found.processes ? "" : " (not counted)",
		found.left_out);
	assert_int_equal(found.windows, expected_windows(c));
	assert_int_equal(found.calls, 0);
	assert_int_equal(found.mappings, 0);
}

static void test_schedule(const struct place *place, const char *schedule)
{
	for (unsigned i = 0; i < 4; i++) {
		struct step_case c = {
			.place = place,
			.schedule = schedule,
			.shape = &small,
			.recompute = i & 1,
			.threads = i < 2 ? 1 : 2,
			.groups = i == 1 || i == 2 ? 2 : 1,
			.sgd = i == 3,
			.evaluate = i == 0,
			.trace = i == 0 || i == 3,
		};

		expect_nothing(&c);
	}
}

static void test_place(const struct place *place)
{
	const struct step_case tall = {
		.place = place,
		.schedule = "1f1b",
		.shape = &large,
		.threads = 2,
		.groups = 1,
	};

	test_schedule(place, "gpipe");
	test_schedule(place, "1f1b");
	test_schedule(place, place->ranks == 1 ? split_row : split_rows);
	expect_nothing(&tall);
}

static void test_inproc_1(void **state)
{
	(void)state;
	test_place(&places[0]);
}

static void test_inproc_2(void **state)
{
	(void)state;
	test_place(&places[1]);
}

static void test_tcp_uring(void **state)
{
	(void)state;
	test_place(&places[2]);
}

static void test_tcp_sockets(void **state)
{
	(void)state;
	test_place(&places[3]);
}

static void test_shm(void **state)
{
	(void)state;
	test_place(&places[4]);
}

/* One schedule is like another to what slices exchange. */
static void test_slices(void **state)
{
	(void)state;
	for (unsigned i = 5; i < 7; i++) {
		struct step_case c = {
			.place = &places[i],
			.schedule = "1f1b",
			.shape = i == 5 ? &small : &even,
			.threads = 1,
			.groups = 1,
			.trace = true,
		};

		expect_nothing(&c);
	}
}

/* Sums in turn, and beside those of slices: whole, and in shares. */
static void test_uneven_replicas(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 4; i++) {
		unsigned replicas = places[10 + i / 2].replicas;
		struct step_case c = {
			.place = &places[10 + i / 2],
			.schedule = "1f1b",
			.shape = &small,
			.threads = 1,
			.groups = replicas,
			.shard = i & 1,
			.recompute = i & 1,
			.evaluate = true,
		};

		expect_nothing(&c);
	}
}

/* The last with stages that take turns with their accumulators. */
static void test_replicas(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 4; i++) {
		struct step_case c = {
			.place = &places[7 + MIN(i, 2)],
			.schedule = i < 3 ? "1f1b" : "looped-bfs",
			.shape = i < 3 ? &small : &deep,
			.chunks = i < 3 ? 1 : 3,
			.threads = 1,
			.groups = 4,
			.shard = i > 0,
			.trace = true,
		};

		expect_nothing(&c);
	}
}

/*
 * In bfloat16 the library of products is another: what it needs is there
 * before the first step, of evaluation too, on each team of threads.
 */
static void test_bfloat16(void **state)
{
	static const struct step_case cases[] = {
		{.place = &places[0],
		 .schedule = "1f1b",
		 .shape = &large,
		 .threads = 2,
		 .groups = 1,
		 .evaluate = true},
		{.place = &places[1],
		 .schedule = split_rows,
		 .shape = &small,
		 .threads = 1,
		 .groups = 2,
		 .recompute = true,
		 .evaluate = true},
		{.place = &places[4],
		 .schedule = "gpipe",
		 .shape = &large,
		 .threads = 1,
		 .groups = 1,
		 .trace = true},
		{.place = &places[5],
		 .schedule = "1f1b",
		 .shape = &even,
		 .threads = 2,
		 .groups = 1,
		 .evaluate = true},
		{.place = &places[8],
		 .schedule = "1f1b",
		 .shape = &small,
		 .threads = 1,
		 .groups = 4,
		 .shard = true,
		 .sgd = true},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct step_case c = cases[i];

		c.bfloat16 = true;
		expect_nothing(&c);
	}
}

static void expect_found(const struct place *place, const char *planted)
{
	struct step_case c = {
		.place = place,
		.schedule = "1f1b",
		.shape = &small,
		.threads = 1,
		.groups = 1,
		.plant = planted,
	};
	struct findings found;

	if (!run_case(&c, &found))
		print_message("# io_uring is refused here\n");
	else if (strcmp(planted, "mmap") != 0)
		assert_true(found.calls > 0);
	else if (found.counting == found.processes)
		assert_int_equal(found.mappings, 2);
	else
		print_message("# no seccomp notification here: mappings that "
			      "bypass the C library go unseen\n");
}

/* Each of these is found, or the zeros above say nothing. */
static void test_planted(void **state)
{
	(void)state;
	for (unsigned i = 0; i < ARRAY_SIZE(places); i++) {
		if (places[i].slices || places[i].replicas)
			continue;
		expect_found(&places[i], "malloc");
		expect_found(&places[i], "library");
		expect_found(&places[i], "thread");
		expect_found(&places[i], "mmap");
	}
}

static int set_up(void **state)
{
	char data[FILES_PATH_BYTES];

	(void)state;
	if (!mkdtemp(folder))
		return -1;
	snprintf(data, sizeof(data), "%s/data", folder);
	return files_make_folder(data) || write_tokens("train.bin", 211) ||
	       write_tokens("val.bin", 211);
}

static int tear_down(void **state)
{
	(void)state;
	return files_remove_tree(folder);
}

int main(int count, char **arguments)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_inproc_1),
		cmocka_unit_test(test_inproc_2),
		cmocka_unit_test(test_tcp_uring),
		cmocka_unit_test(test_tcp_sockets),
		cmocka_unit_test(test_shm),
		cmocka_unit_test(test_slices),
		cmocka_unit_test(test_replicas),
		cmocka_unit_test(test_uneven_replicas),
		cmocka_unit_test(test_bfloat16),
		cmocka_unit_test(test_planted),
	};

	if (count == 4 && strcmp(arguments[1], "rank") == 0)
		return rank_program(arguments[3]);
	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, set_up, tear_down);
}
