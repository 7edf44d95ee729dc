/* stagecoach bench WHAT: measures what the program is built on. */
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "tools/bench/generate.h"
#include "tools/bench/kernels.h"
#include "tools/bench/pipeline.h"
#include "tools/bench/step.h"
#include "tools/bench/transport.h"
#include "tools/commands.h"

struct benchmark {
	const char *name;
	const char *help;
	const struct option_command *command;
	int (*run)(const struct options *options); /* the exit status */
};

static const struct benchmark benchmarks[] = {
	{"transport",
	 "latency and bandwidth of the transports, beside yardsticks",
	 &bench_transport_command, bench_transport_run},
	{"kernels", "each kernel of a step against its limit",
	 &bench_kernels_command, bench_kernels_run},
	{"step", "where the time of a training step goes, against the limits",
	 &bench_step_command, bench_step_run},
	{"generate",
	 "where the time of a generated token goes, against reading the "
	 "weights",
	 &bench_generate_command, bench_generate_run},
	{"pipeline", "what a pipeline loses beside the bubble of its schedule",
	 &bench_pipeline_command, bench_pipeline_run},
};

static void print_usage(FILE *out)
{
	fputs("Usage: stagecoach bench WHAT [options]\n\n", out);
	for (size_t i = 0; i < ARRAY_SIZE(benchmarks); i++)
		fprintf(out, "  %-10s %s\n", benchmarks[i].name,
			benchmarks[i].help);
	fputs("\n'stagecoach bench WHAT --help' says more.\n", out);
}

int cmd_bench(int argc, char **argv)
{
	const struct benchmark *benchmark = NULL;
	struct options *options;
	int status;

	if (argc < 2) {
		print_usage(stderr);
		return 2;
	}
	if (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h")) {
		print_usage(stdout);
		return 0;
	}
	for (size_t i = 0; i < ARRAY_SIZE(benchmarks); i++)
		if (!strcmp(argv[1], benchmarks[i].name))
			benchmark = &benchmarks[i];
	if (!benchmark) {
		log_error("stagecoach bench has no '%s'; 'stagecoach bench "
			  "--help' lists what it has",
			  argv[1]);
		return 2;
	}
	status =
		options_parse(benchmark->command, argc - 1, argv + 1, &options);
	if (status)
		return status > 0 ? 0 : 2;
	status = benchmark->run(options);
	options_destroy(options);
	return status;
}
