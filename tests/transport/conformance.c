#include "tests/transport/conformance.h"

#include <stdio.h>
#include <string.h>

#include "tests/transport/world.h"

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

/* A failed check ends the program, so that this is all there is to a run. */
static void run_one(const struct conformance_transport *transport,
		    const struct conformance_case *what, unsigned number)
{
	const char *excluded = find_exclusion(transport, what->name);
	struct holdings before;

	if (excluded) {
		printf("ok %u - %s # SKIP %s\n", number, what->name, excluded);
		return;
	}
	log_capture();
	before = holdings_now();
	what->run(transport);
	/* Every case ends with nothing held that was not held before. */
	holdings_check(&before);
	printf("ok %u - %s\n", number, what->name);
	fflush(stdout);
}

int conformance_run(const struct conformance_transport *transport)
{
	static const struct conformance_case *const lists[] = {
		conformance_data_cases,    conformance_connect_cases,
		conformance_failure_cases, conformance_process_cases,
		conformance_leak_cases,    conformance_wait_cases,
		conformance_wire_cases,
	};
	const struct conformance_case *what;
	unsigned excluded = 0;
	unsigned count = 0;
	size_t i;

	for (i = 0; i < ARRAY_SIZE(lists); i++) {
		for (what = lists[i]; what->name; what++) {
			excluded += find_exclusion(transport, what->name) != 0;
			count++;
		}
	}
	CHECK_EQUAL(excluded, transport->exclusion_count); /* no typing error */
	printf("# the conformance suite over %s\n1..%u\n", transport->name,
	       count);
	count = 0;
	for (i = 0; i < ARRAY_SIZE(lists); i++) {
		for (what = lists[i]; what->name; what++)
			run_one(transport, what, ++count);
	}
	return 0;
}
