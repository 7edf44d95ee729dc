/* stagecoach bench WHAT: measures what the program is built on. */
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "tools/bench/transport.h"
#include "tools/commands.h"

static const char usage[] =
	"Usage: stagecoach bench transport [options]\n\n"
	"  transport  latency and bandwidth of the transports, beside "
	"yardsticks\n\n"
	"'stagecoach bench transport --help' says more.\n";

int cmd_bench(int argc, char **argv)
{
	struct options *options;
	int status;

	if (argc < 2) {
		fputs(usage, stderr);
		return 2;
	}
	if (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h")) {
		fputs(usage, stdout);
		return 0;
	}
	if (strcmp(argv[1], "transport")) {
		log_error("stagecoach bench has no '%s'; it has transport",
			  argv[1]);
		return 2;
	}
	status = options_parse(&bench_transport_command, argc - 1, argv + 1,
			       &options);
	if (status)
		return status > 0 ? 0 : 2;
	status = bench_transport_run(options);
	options_destroy(options);
	return status;
}
