#include "tests/transport/conformance.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/transport/world.h"

#define CASE_SECONDS 100u

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

/* What runs now, for the handler. */
static char running[128];

static void too_long(int number)
{
	ssize_t written;

	(void)number;
	written = write(STDOUT_FILENO, running, strlen(running));
	_exit(written > 0 ? 1 : 2);
}

/* A case that never ends is to say which one it is. */
static void watch(const struct conformance_transport *transport,
		  const struct conformance_case *what)
{
	snprintf(running, sizeof(running),
		 "Bail out! %s: %s has not ended within %u s\n",
		 transport->name, what->name, CASE_SECONDS);
	signal(SIGALRM, too_long);
	alarm(CASE_SECONDS);
}

static void run_case(const struct conformance_transport *transport,
		     const struct conformance_case *what)
{
	struct holdings before;

	log_capture();
	before = holdings_now();
	watch(transport, what);
	what->run(transport);
	alarm(0);
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

static void run_suite(const struct conformance_transport *transport,
		      unsigned number)
{
	const struct conformance_case *what;
	size_t i;

	printf("# the conformance suite over %s\n", transport->name);
	for (i = 0; i < ARRAY_SIZE(lists); i++) {
		for (what = lists[i]; what->name; what++)
			run_one(transport, what, number++);
	}
}

/* Cases wait more than they compute: a few suites share the time. */
#define AT_ONCE 3u

struct suite {
	pid_t pid;
	FILE *output; /* a file without a name */
};

static void suite_start(struct suite *suite,
			const struct conformance_transport *transport,
			unsigned number)
{
	suite->output = tmpfile();
	CHECK(suite->output);
	fflush(stdout);
	suite->pid = fork();
	CHECK(suite->pid >= 0);
	if (suite->pid)
		return;
	CHECK(dup2(fileno(suite->output), STDOUT_FILENO) == STDOUT_FILENO);
	fclose(suite->output);
	run_suite(transport, number);
	fflush(stdout);
	_exit(0);
}

/* What it has said, once it is over; its exit status. */
static int suite_end(struct suite *suite)
{
	char text[4096];
	size_t bytes;
	int status;

	CHECK_EQUAL(waitpid(suite->pid, &status, 0), suite->pid);
	rewind(suite->output);
	while ((bytes = fread(text, 1, sizeof(text), suite->output)) > 0)
		fwrite(text, 1, bytes, stdout);
	fclose(suite->output);
	fflush(stdout);
	return status;
}

int conformance_run_all(const struct conformance_transport *transports,
			unsigned count)
{
	struct suite suites[AT_ONCE];
	unsigned started = 0;
	unsigned number = 1;
	unsigned cases;
	unsigned i;
	int failed = 0;

	cases = count_cases(&transports[0]);
	for (i = 1; i < count; i++)
		CHECK_EQUAL(count_cases(&transports[i]), cases);
	printf("1..%u\n", count * cases);
	for (i = 0; i < count; i++) {
		while (started < count && started < i + AT_ONCE) {
			suite_start(&suites[started % AT_ONCE],
				    &transports[started], number);
			number += cases;
			started++;
		}
		failed |= suite_end(&suites[i % AT_ONCE]);
	}
	return failed ? 1 : 0;
}

int conformance_run(const struct conformance_transport *transport)
{
	printf("1..%u\n", count_cases(transport));
	run_suite(transport, 1);
	return 0;
}
