#include "tests/transport/conformance.h"

#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

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

static const struct conformance_case *const lists[] = {
	conformance_data_cases,    conformance_connect_cases,
	conformance_failure_cases, conformance_process_cases,
	conformance_leak_cases,    conformance_wait_cases,
	conformance_wire_cases,
};

static void run_case(const struct conformance_transport *transport,
		     const struct conformance_case *what)
{
	struct holdings before;

	log_capture();
	before = holdings_now();
	what->run(transport);
	if (holdings_now().fds == before.fds + transport->kept_fds)
		before.fds += transport->kept_fds;
	/* Every case ends with nothing held that was not held before. */
	holdings_check(&before);
}

/* A check that failed in there has said so. */
static void run_isolated(const struct conformance_transport *transport,
			 const struct conformance_case *what)
{
	pid_t child;
	int status;

	fflush(stdout);
	child = fork();
	CHECK(child >= 0);
	if (child == 0) {
		run_case(transport, what);
		_exit(0);
	}
	CHECK_EQUAL(waitpid(child, &status, 0), child);
	if (status)
		exit(1);
}

/* A failed check ends the program, so that this is all there is to a run. */
static void run_one(const struct conformance_transport *transport,
		    const struct conformance_case *what, unsigned number)
{
	const char *excluded = find_exclusion(transport, what->name);

	if (excluded) {
		printf("ok %u - %s: %s # SKIP %s\n", number, transport->name,
		       what->name, excluded);
		return;
	}
	if (transport->isolated)
		run_isolated(transport, what);
	else
		run_case(transport, what);
	printf("ok %u - %s: %s\n", number, transport->name, what->name);
	fflush(stdout);
}

static unsigned count_cases(const struct conformance_transport *transport)
{
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
	return count;
}

int conformance_run_all(const struct conformance_transport *transports,
			unsigned count)
{
	const struct conformance_case *what;
	unsigned number = 0;
	unsigned i;
	size_t j;

	for (i = 0; i < count; i++)
		number += count_cases(&transports[i]);
	printf("1..%u\n", number);
	number = 0;
	for (i = 0; i < count; i++) {
		printf("# the conformance suite over %s\n", transports[i].name);
		for (j = 0; j < ARRAY_SIZE(lists); j++) {
			for (what = lists[j]; what->name; what++)
				run_one(&transports[i], what, ++number);
		}
	}
	return 0;
}

int conformance_run(const struct conformance_transport *transport)
{
	return conformance_run_all(transport, 1);
}
