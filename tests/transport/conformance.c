#include "tests/transport/conformance.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "tests/transport/world.h"

struct one {
	const struct conformance_transport *transport;
	const struct conformance_case *what;
	const char *excluded; /* why */
};

static void run_one(void **state)
{
	const struct one *one = *state;
	unsigned before = open_fds();

	if (one->excluded) {
		print_message("# %s: excluded: %s\n", one->what->name,
			      one->excluded);
		skip();
	}
	log_capture();
	one->what->run(one->transport);
	/* Every case ends with nothing open that was not open before. */
	assert_int_equal(open_fds(), before);
}

static const char *find_exclusion(const struct conformance_transport *transport,
				  const char *name)
{
	unsigned i;

	for (i = 0; i < transport->exclusion_count; i++) {
		if (strcmp(transport->exclusions[i].name, name) == 0)
			return transport->exclusions[i].reason;
	}
	return NULL;
}

int conformance_run(const struct conformance_transport *transport)
{
	static const struct conformance_case *const lists[] = {
		conformance_data_cases,    conformance_connect_cases,
		conformance_failure_cases, conformance_wait_cases,
		conformance_wire_cases,
	};
	static struct CMUnitTest tests[128];
	static struct one ones[128];
	const struct conformance_case *what;
	size_t count = 0;
	unsigned named = 0;
	size_t i;

	for (i = 0; i < ARRAY_SIZE(lists); i++) {
		for (what = lists[i]; what->name; what++) {
			CHECK(count < ARRAY_SIZE(tests));
			ones[count] = (struct one){
				.transport = transport,
				.what = what,
				.excluded =
					find_exclusion(transport, what->name),
			};
			named += ones[count].excluded != NULL;
			tests[count] = (struct CMUnitTest){
				.name = what->name,
				.test_func = run_one,
				.initial_state = &ones[count],
			};
			count++;
		}
	}
	CHECK_EQUAL(named, transport->exclusion_count); /* no misspelt name */
	cmocka_set_message_output(CM_OUTPUT_TAP);
	return _cmocka_run_group_tests(transport->name, tests, count, NULL,
				       NULL);
}
