/*
 * One suite over every transport. A transport's test file names it, and lists
 * what it cannot do, with the reason; a case is a function over a world.
 */
#ifndef STAGECOACH_TESTS_TRANSPORT_CONFORMANCE_H
#define STAGECOACH_TESTS_TRANSPORT_CONFORMANCE_H

#include "base/compiler.h"
#include "transport/transport.h"

struct conformance_exclusion {
	const char *name;
	const char *reason;
};

struct conformance_transport {
	const char *name; /* of the suite: "tcp-uring" */
	const char *kind;
	const char *io;
	enum transport_zero_copy zero_copy;
	enum transport_wire wire; /* beyond checked: all ranks have a key */
	/*
	 * Each case in a process of its own: libraries that keep a device open
	 * stand no fork, and cases fork.
	 */
	bool isolated;
	bool patient; /* the processor is an emulated one */
	unsigned kept_fds; /* that such a library opens once, and keeps */
	const struct conformance_exclusion *exclusions;
	unsigned exclusion_count;
};

/* What main() returns. */
int conformance_run(const struct conformance_transport *transport);
/* Several, a few at once, each in a process of its own. */
int conformance_run_all(const struct conformance_transport *transports,
			unsigned count);

struct conformance_case {
	const char *name;
	void (*run)(const struct conformance_transport *transport);
};

/* One list a file; ends with a NULL name. */
extern const struct conformance_case conformance_data_cases[];
extern const struct conformance_case conformance_connect_cases[];
extern const struct conformance_case conformance_failure_cases[];
extern const struct conformance_case conformance_process_cases[];
extern const struct conformance_case conformance_leak_cases[];
extern const struct conformance_case conformance_wait_cases[];
extern const struct conformance_case conformance_wire_cases[];

#endif
