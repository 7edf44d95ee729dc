/*
 * Where io_uring is refused (here by a seccomp filter, as in Docker's default
 * profile), auto uses sockets and says so in one line; uring is an error.
 */
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#include <cmocka.h>

#include "tests/transport/world.h"

static void refuse_io_uring(void)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS,
			 offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_io_uring_setup, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = {
		.len = ARRAY_SIZE(code),
		.filter = code,
	};

	assert_int_equal(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
	assert_int_equal(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program),
			 0);
}

static void test_auto(void **state)
{
	static const struct conformance_transport transport = {
		.name = "fallback",
		.kind = "tcp",
		.io = "auto",
	};
	struct tally tallies[WORLD_MAX] = {0};
	struct transport_link_info info;
	struct world world;
	unsigned char *memory[2];
	unsigned i;

	(void)state;
	log_capture();
	world_up(&world, &transport, 2);
	/* One line, from rank 0. */
	assert_int_equal(log_count("\n"), 1);
	assert_int_equal(log_count("refuses io_uring"), 1);
	for (i = 0; i < 2; i++)
		memory[i] = region(world.endpoint[i], 100);
	CHECK_EQUAL(transport_post_recv(world.endpoint[1], 0, 1, memory[1], 100,
					NULL),
		    0);
	CHECK_EQUAL(transport_post_send(world.endpoint[0], 1, 1, memory[0], 100,
					NULL),
		    0);
	world_finish(&world, tallies, 0, 1, 1, 1);
	CHECK_EQUAL(transport_query(world.endpoint[0], 1, &info), 0);
	assert_string_equal(info.io, "sockets");
	world_close(&world);
	free(memory[0]);
	free(memory[1]);
}

static void test_asked_for(void **state)
{
	struct transport_endpoint *endpoint;
	struct transport_config config;

	(void)state;
	log_capture();
	transport_config_default(&config);
	config.io = "uring";
	config.size = 2;
	config.job = 1;
	assert_int_equal(transport_open(&config, &endpoint), -EOPNOTSUPP);
	assert_true(log_has("Operation not permitted"));
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_auto),
		cmocka_unit_test(test_asked_for),
	};

	refuse_io_uring();
	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
