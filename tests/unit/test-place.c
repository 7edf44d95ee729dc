/* Where a process stands, by tables of environments; lists of hosts. */
#include "base/log.h"
#include "engine/address.h"
#include "engine/nodelist.h"
#include "engine/place.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cmocka-tap.h"

#define ENVIRONMENT_MAX 16

static char lines[4096];

static void keep_line(void *argument, enum log_level level, const char *line)
{
	size_t used = strlen(lines);

	(void)argument;
	(void)level;
	snprintf(lines + used, sizeof(lines) - used, "%s\n", line);
}

static int quiet(void **state)
{
	(void)state;
	lines[0] = '\0';
	log_set_sink(keep_line, NULL);
	return 0;
}

static int loud(void **state)
{
	(void)state;
	log_set_sink(NULL, NULL);
	return 0;
}

struct example {
	const char *name;
	const char *environment[ENVIRONMENT_MAX];
	struct place_flags flags;
	int code;
	struct place wanted;
	const char *line; /* in the log; NULL: nothing is logged */
};

#define NO_FLAGS                                                               \
	{                                                                      \
		-1, 0, NULL                                                    \
	}

static const struct example examples[] = {
	{"nothing",
	 {"HOME=/root"},
	 NO_FLAGS,
	 0,
	 {.source = PLACE_SINGLE, .size = 1},
	 NULL},
	{"flags",
	 {"RANK=1", "WORLD_SIZE=2", "MASTER_ADDR=x", "MASTER_PORT=1"},
	 {3, 4, "a:29500"},
	 0,
	 {.source = PLACE_FLAGS,
	  .rank = 3,
	  .size = 4,
	  .coordinator = "a:29500"},
	 "left over"},
	{"flags without a size",
	 {NULL},
	 {3, 0, "a:1"},
	 -EINVAL,
	 {0},
	 "--world-size"},
	{"flags beyond the size",
	 {NULL},
	 {4, 4, "a:1"},
	 -EINVAL,
	 {0},
	 "count from 0"},
	{"flags without an address",
	 {NULL},
	 {1, 4, NULL},
	 -EINVAL,
	 {0},
	 "--coordinator HOST:PORT"},
	{"a coordinator alone", {NULL}, {-1, 0, "a:1"}, -EINVAL, {0}, "--rank"},
	{"a size alone",
	 {NULL},
	 {-1, 4, NULL},
	 -EINVAL,
	 {0},
	 "which rank this is"},
	{"our own variables",
	 {"STAGECOACH_RANK=2", "STAGECOACH_WORLD_SIZE=3",
	  "STAGECOACH_COORDINATOR=[fd00::1]:77"},
	 NO_FLAGS,
	 0,
	 {.source = PLACE_STAGECOACH,
	  .rank = 2,
	  .size = 3,
	  .coordinator = "[fd00::1]:77"},
	 NULL},
	{"torchrun",
	 {"RANK=5", "LOCAL_RANK=1", "WORLD_SIZE=8", "LOCAL_WORLD_SIZE=4",
	  "MASTER_ADDR=node1", "MASTER_PORT=29500", "TORCHELASTIC_RUN_ID=none",
	  "OMP_NUM_THREADS=1"},
	 NO_FLAGS,
	 0,
	 {.source = PLACE_TORCHRUN,
	  .rank = 5,
	  .size = 8,
	  .local_rank = 1,
	  .local_size = 4,
	  .coordinator = "node1:29501"},
	 NULL},
	{"torchrun inside of srun",
	 {"RANK=5", "WORLD_SIZE=8", "MASTER_ADDR=node1", "MASTER_PORT=29500",
	  "TORCHELASTIC_RUN_ID=job7", "SLURM_STEP_ID=0", "SLURM_PROCID=1",
	  "SLURM_NTASKS=2"},
	 NO_FLAGS,
	 0,
	 {.source = PLACE_TORCHRUN,
	  .rank = 5,
	  .size = 8,
	  .coordinator = "node1:29501",
	  .job = "job7"},
	 NULL},
	{"set by hand, IPv6",
	 {"RANK=1", "WORLD_SIZE=2", "MASTER_ADDR=fd00::1", "MASTER_PORT=29500"},
	 NO_FLAGS,
	 0,
	 {.source = PLACE_TORCHRUN,
	  .rank = 1,
	  .size = 2,
	  .coordinator = "[fd00::1]:29500"},
	 NULL},
	{"RANK without WORLD_SIZE",
	 {"RANK=3"},
	 NO_FLAGS,
	 0,
	 {.source = PLACE_SINGLE, .size = 1},
	 NULL},
	{"RANK is no number",
	 {"RANK=x", "WORLD_SIZE=2"},
	 NO_FLAGS,
	 -EINVAL,
	 {0},
	 "RANK='x'"},
	{"a bad port",
	 {"RANK=0", "WORLD_SIZE=2", "MASTER_ADDR=a", "MASTER_PORT=http"},
	 NO_FLAGS,
	 -EINVAL,
	 {0},
	 "MASTER_PORT='http'"},
	{"RANK against srun",
	 {"RANK=0", "WORLD_SIZE=4", "MASTER_ADDR=a", "MASTER_PORT=1",
	  "SLURM_STEP_ID=0", "SLURM_PROCID=3", "SLURM_STEP_NUM_TASKS=4"},
	 NO_FLAGS,
	 0,
	 {.source = PLACE_TORCHRUN, .rank = 0, .size = 4, .coordinator = "a:1"},
	 "SLURM_PROCID=3"},
	{"everyone is rank 0 of 1",
	 {"RANK=0", "WORLD_SIZE=1", "SLURM_STEP_ID=0", "SLURM_PROCID=3",
	  "SLURM_STEP_NUM_TASKS=4"},
	 NO_FLAGS,
	 0,
	 {.source = PLACE_TORCHRUN, .rank = 0, .size = 1},
	 "rank 0 of 1"},
	{"Open MPI",
	 {"OMPI_COMM_WORLD_RANK=2", "OMPI_COMM_WORLD_SIZE=4",
	  "OMPI_COMM_WORLD_LOCAL_RANK=0", "OMPI_COMM_WORLD_LOCAL_SIZE=2",
	  "PMIX_RANK=2", "PMIX_NAMESPACE=1807417345"},
	 NO_FLAGS,
	 0,
	 {.source = PLACE_OPEN_MPI,
	  .rank = 2,
	  .size = 4,
	  .local_size = 2,
	  .job = "1807417345"},
	 NULL},
	{"Open MPI inside of a Slurm job",
	 {"OMPI_COMM_WORLD_RANK=2", "OMPI_COMM_WORLD_SIZE=4", "SLURM_STEP_ID=0",
	  "SLURM_PROCID=1", "SLURM_NTASKS=2", "SLURM_JOB_ID=9",
	  "PMIX_NAMESPACE=a/b"},
	 NO_FLAGS,
	 0,
	 {.source = PLACE_OPEN_MPI, .rank = 2, .size = 4, .job = "a_b"},
	 NULL},
	{"Open MPI with an address",
	 {"OMPI_COMM_WORLD_RANK=2", "OMPI_COMM_WORLD_SIZE=4"},
	 {-1, 0, "h:5"},
	 0,
	 {.source = PLACE_OPEN_MPI, .rank = 2, .size = 4, .coordinator = "h:5"},
	 NULL},
	{"another size is asked for",
	 {"OMPI_COMM_WORLD_RANK=2", "OMPI_COMM_WORLD_SIZE=4"},
	 {-1, 3, NULL},
	 -EINVAL,
	 {0},
	 "--world-size 3"},
	{"Hydra",
	 {"PMI_RANK=1", "PMI_SIZE=2", "PMI_FD=9", "MPI_LOCALRANKID=1",
	  "MPI_LOCALNRANKS=2", "HYDI_CONTROL_FD=5"},
	 NO_FLAGS,
	 0,
	 {.source = PLACE_PMI,
	  .rank = 1,
	  .size = 2,
	  .local_rank = 1,
	  .local_size = 2},
	 NULL},
	{"srun --mpi=pmi2",
	 {"PMI_RANK=1", "PMI_SIZE=2", "SLURM_STEP_ID=0", "SLURM_PROCID=1",
	  "SLURM_JOB_ID=5", "SLURM_STEP_NUM_TASKS=2",
	  "SLURM_STEP_NODELIST=n[1-2]"},
	 NO_FLAGS,
	 0,
	 {.source = PLACE_PMI,
	  .rank = 1,
	  .size = 2,
	  .coordinator = "n1:29505",
	  .guessed = true,
	  .job = "slurm-5.0"},
	 NULL},
	{"PMIx alone",
	 {"PMIX_RANK=3", "PMIX_NAMESPACE=slurm.pmix.5.0", "SLURM_STEP_ID=0",
	  "SLURM_PROCID=3", "SLURM_JOB_ID=5", "SLURM_STEP_NUM_TASKS=4",
	  "SLURM_STEP_NODELIST=n[1-2]"},
	 NO_FLAGS,
	 0,
	 {.source = PLACE_PMIX,
	  .rank = 3,
	  .size = 4,
	  .coordinator = "n1:29505",
	  .guessed = true,
	  .job = "slurm-5.0"},
	 NULL},
	{"srun",
	 {"SLURM_STEP_ID=2", "SLURM_PROCID=3", "SLURM_STEP_NUM_TASKS=4",
	  "SLURM_LOCALID=0", "SLURM_NODEID=1", "SLURM_STEP_TASKS_PER_NODE=3,1",
	  "SLURM_JOB_ID=1234", "SLURM_STEP_NODELIST=gpu-[007-008]",
	  "SLURM_RESTART_COUNT=1", "SLURMD_NODENAME=gpu-008"},
	 NO_FLAGS,
	 0,
	 {.source = PLACE_SLURM,
	  .rank = 3,
	  .size = 4,
	  .local_size = 1,
	  .coordinator = "gpu-007:29734",
	  .guessed = true,
	  .job = "slurm-1234.2-1",
	  .node = "gpu-008"},
	 NULL},
	{"an sbatch script",
	 {"SLURM_PROCID=0", "SLURM_NTASKS=4", "SLURM_NPROCS=4",
	  "SLURM_JOB_ID=7"},
	 NO_FLAGS,
	 0,
	 {.source = PLACE_SINGLE, .size = 1},
	 "srun stagecoach"},
	{"one task of Slurm",
	 {"SLURM_PROCID=0", "SLURM_NTASKS=1", "SLURM_JOB_ID=7"},
	 NO_FLAGS,
	 0,
	 {.source = PLACE_SINGLE, .size = 1},
	 NULL},
	{"Kubernetes without a size",
	 {"JOB_COMPLETION_INDEX=2"},
	 NO_FLAGS,
	 0,
	 {.source = PLACE_SINGLE, .size = 1},
	 NULL},
	{"Kubernetes",
	 {"JOB_COMPLETION_INDEX=2", "HOSTNAME=train-2"},
	 {-1, 4, "train-0.svc:29500"},
	 0,
	 {.source = PLACE_KUBERNETES,
	  .rank = 2,
	  .size = 4,
	  .coordinator = "train-0.svc:29500"},
	 NULL},
	{"Kubernetes by its names",
	 {"JOB_COMPLETION_INDEX=2", "HOSTNAME=my-train-2",
	  "STAGECOACH_SUBDOMAIN=svc"},
	 {-1, 4, NULL},
	 0,
	 {.source = PLACE_KUBERNETES,
	  .rank = 2,
	  .size = 4,
	  .coordinator = "my-train-0.svc:29500"},
	 NULL},
};

static void assert_place(const struct example *example, const struct place *got)
{
	const struct place *wanted = &example->wanted;

	if (got->source != wanted->source || got->rank != wanted->rank ||
	    got->size != wanted->size ||
	    got->local_rank != wanted->local_rank ||
	    got->local_size != wanted->local_size ||
	    got->guessed != wanted->guessed ||
	    strcmp(got->coordinator, wanted->coordinator) != 0 ||
	    strcmp(got->job, wanted->job) != 0 ||
	    strcmp(got->node, wanted->node) != 0)
		fail_msg("%s: source %d, rank %u of %u, local %u of %u, at "
			 "'%s' (%d), job '%s', node '%s'",
			 example->name, (int)got->source, got->rank, got->size,
			 got->local_rank, got->local_size, got->coordinator,
			 got->guessed, got->job, got->node);
}

static void environments(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(examples); i++) {
		const struct example *example = &examples[i];
		struct place place;
		int rc;

		lines[0] = '\0';
		rc = place_find(&example->flags, example->environment, &place);
		if (rc != example->code)
			fail_msg("%s: %d\n%s", example->name, rc, lines);
		if (!rc)
			assert_place(example, &place);
		if (example->line ? !strstr(lines, example->line) : lines[0])
			fail_msg("%s: logged '%s', wanted '%s'", example->name,
				 lines, example->line ? example->line : "");
	}
}

static void expands(const char *text, const char *wanted)
{
	struct nodelist list;
	char got[512] = "";

	if (nodelist_expand(text, "LIST", &list) < 0) {
		if (wanted)
			fail_msg("%s: %s", text, lines);
		return;
	}
	for (unsigned i = 0; i < list.count; i++)
		snprintf(got + strlen(got), sizeof(got) - strlen(got), "%s%s",
			 i ? " " : "", list.hosts[i].name);
	nodelist_fini(&list);
	if (!wanted)
		fail_msg("%s was taken for %s", text, got);
	assert_string_equal(got, wanted);
}

static void node_lists(void **state)
{
	(void)state;
	expands("a", "a");
	expands("a,b", "a b");
	expands("a[1-3,7],b-[001-003]", "a1 a2 a3 a7 b-001 b-002 b-003");
	expands("n[9-11]", "n9 n10 n11");
	expands("n[09-11]x", "n09x n10x n11x");
	expands("r[1-2]n[0,2]", "r1n0 r1n2 r2n0 r2n2");
	expands("", NULL);
	expands("a,", NULL);
	expands(",a", NULL);
	expands("a[", NULL);
	expands("a[]", NULL);
	expands("a[1", NULL);
	expands("a1]", NULL);
	expands("a[3-1]", NULL);
	expands("a[1-]", NULL);
	expands("a[1,]", NULL);
	expands("a[1;2]", NULL);
	expands("a[0-99999999]", NULL);
	expands("a[0-999]b[0-999]", NULL);
	expands("a[1-99999999999999999999]", NULL);
	assert_int_equal(nodelist_tasks("3,1", 0), 3);
	assert_int_equal(nodelist_tasks("3,1", 1), 1);
	assert_int_equal(nodelist_tasks("2(x2),1", 1), 2);
	assert_int_equal(nodelist_tasks("2(x2),1", 2), 1);
	assert_int_equal(nodelist_tasks("2(x2),1", 3), 0);
	assert_int_equal(nodelist_tasks("2(x", 5), 0);
	assert_int_equal(nodelist_tasks("", 0), 0);
}

static void assert_list(struct nodelist *list, const char *wanted)
{
	char got[512] = "";

	for (unsigned i = 0; i < list->count; i++)
		snprintf(got + strlen(got), sizeof(got) - strlen(got),
			 "%s%s=%u", i ? " " : "", list->hosts[i].name,
			 list->hosts[i].ranks);
	assert_string_equal(got, wanted);
	nodelist_fini(list);
}

static void host_lists(void **state)
{
	static const char *const bad[] = {
		"",         "a:",         "a:0",   "a:x",  "a,",        ":2",
		"[fd00::1", "[fd00::1]2", "-oX:1", "[]:1", "a:99999999"};
	struct nodelist list;

	(void)state;
	assert_int_equal(nodelist_parse("a:1,b:2", &list), 0);
	assert_int_equal(nodelist_ranks(&list), 3);
	assert_list(&list, "a=1 b=2");
	assert_int_equal(nodelist_parse("me@a,[fd00::1]:2,fd00::2", &list), 0);
	assert_list(&list, "me@a=1 fd00::1=2 fd00::2=1");
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		lines[0] = '\0';
		if (nodelist_parse(bad[i], &list) == 0)
			fail_msg("'%s' was taken", bad[i]);
		assert_non_null(strstr(lines, "--hosts"));
	}
}

static int read_text(const char *text, struct nodelist *list)
{
	char path[] = "/tmp/test-place.XXXXXX";
	int fd = mkstemp(path), rc;

	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, strlen(text)), strlen(text));
	close(fd);
	rc = nodelist_read(path, list);
	unlink(path);
	return rc;
}

static void hostfiles(void **state)
{
	struct nodelist list;

	(void)state;
	assert_int_equal(read_text("# ours\nnode1 slots=2 max_slots=4\n\n"
				   "  node2:3  # three\r\nnode3\nnode1\n",
				   &list),
			 0);
	assert_list(&list, "node1=2 node2=3 node3=1 node1=1");
	assert_int_equal(read_text("# nobody\n", &list), -EINVAL);
	assert_non_null(strstr(lines, "names no host"));
	lines[0] = '\0';
	assert_int_equal(read_text("a\nb slots=two\n", &list), -EINVAL);
	assert_non_null(strstr(lines, "line 2"));
}

static void addresses(void **state)
{
	static const char *const bad[] = {
		"",        ":1",       "a:",         "a:x",
		"a:70000", "[fd00::1", "[fd00::1]1", "[]:1"};
	char host[ADDRESS_HOST_BYTES], text[ADDRESS_TEXT_BYTES];
	struct address address, other;
	const char *rest;
	unsigned port;

	(void)state;
	assert_int_equal(address_split("a:1,[fd00::1]:2", host, &port, &rest),
			 0);
	assert_string_equal(host, "a");
	assert_int_equal(port, 1);
	assert_int_equal(address_split(rest, host, &port, &rest), 0);
	assert_string_equal(host, "fd00::1");
	assert_int_equal(port, 2);
	assert_null(rest);
	assert_int_equal(address_split("fd00::1", host, &port, &rest), 0);
	assert_int_equal(port, 0);
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		if (address_split(bad[i], host, &port, &rest) == 0)
			fail_msg("'%s' was taken", bad[i]);
	}
	assert_int_equal(address_parse("::ffff:127.0.0.2", 9, &address), 0);
	assert_string_equal(address_text(&address, true, text, sizeof(text)),
			    "127.0.0.2:9");
	assert_true(address_is_loopback(&address));
	assert_true(address_is_local(&address));
	assert_int_equal(address_parse("::1", 9, &other), 0);
	assert_true(address_is_loopback(&other));
	assert_false(address_equal(&address, &other));
	assert_string_equal(address_text(&other, true, text, sizeof(text)),
			    "[::1]:9");
	assert_int_equal(address_parse("localhost", 9, &address), -EINVAL);
}

static void interfaces(void **state)
{
	static const char *const loopback[] = {"lo", "127.0.0.1", "127.0.0.0/8",
					       "127.0.0.0/9"};
	static const char *const none[] = {"no-such0",       "203.0.113.77",
					   "203.0.113.0/24", "127.128.0.0/9",
					   "127.0.0.0/x",    "127.0.0.0/200"};
	char text[ADDRESS_TEXT_BYTES];
	struct address address, peer;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(loopback); i++) {
		assert_int_equal(
			address_interface(loopback[i], AF_INET, &address), 0);
		assert_string_equal(
			address_text(&address, false, text, sizeof(text)),
			"127.0.0.1");
	}
	for (size_t i = 0; i < ARRAY_SIZE(none); i++) {
		lines[0] = '\0';
		if (address_interface(none[i], AF_INET, &address) == 0)
			fail_msg("'%s' was found", none[i]);
		assert_non_null(strstr(lines, none[i]));
	}
	assert_int_equal(address_parse("127.0.0.3", 0, &peer), 0);
	assert_int_equal(address_route(&peer, &address), 0);
	assert_true(address_is_loopback(&address));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(environments, quiet, loud),
		cmocka_unit_test_setup_teardown(node_lists, quiet, loud),
		cmocka_unit_test_setup_teardown(host_lists, quiet, loud),
		cmocka_unit_test_setup_teardown(hostfiles, quiet, loud),
		cmocka_unit_test_setup_teardown(addresses, quiet, loud),
		cmocka_unit_test_setup_teardown(interfaces, quiet, loud),
	};

	return RUN_TESTS("place", tests);
}
