#include "base/log.h"
#include "base/threads.h"
#include "engine/run.h"
#include "model/kernels/numerics.h"
#include "tools/commands.h"
#include "tools/hosts_options.h"

static const struct option_spec table[] = {
	{.name = "control-fd",
	 .kind = OPTION_INTEGER,
	 .argument = "N",
	 .minimum = 0,
	 .maximum = 1 << 20,
	 .group = "Options",
	 .help = "socket to the supervisor that started this rank"},
	{.name = "ranks",
	 .kind = OPTION_INTEGER,
	 .argument = "N",
	 .fallback = "1",
	 .minimum = 1,
	 .maximum = 4096,
	 .help = "with --coordinator: how many, from --rank on"},
	{.name = "key-stdin",
	 .kind = OPTION_FLAG,
	 .help = "the job key comes by standard input, whose end ends this"},
	HOSTS_OPTIONS,
	{.name = NULL},
};

static const struct option_command rank_command = {
	.name = "rank",
	.synopsis = "--control-fd N | --coordinator HOST:PORT --rank R ...",
	.summary = "ranks of a run; started by the other commands",
	.table = table,
};

int cmd_rank(int argc, char **argv)
{
	struct options *options;
	char numerics[1024];
	int rc = options_parse(&rank_command, argc, argv, &options);

	if (rc)
		return rc < 0 ? 2 : 0;
	if (options_flag(options, "key-stdin")) {
		rc = hosts_options_serve(options);
		options_destroy(options);
		return rc;
	}
	if (!options_is_set(options, "control-fd")) {
		log_error(
			"`stagecoach rank` is started by train, eval and generate, not by hand");
		options_destroy(options);
		return 2;
	}
	threads_set_float_state(); /* as the ranks compute */
	rc = numerics_describe(numerics, sizeof(numerics));
	if (!rc)
		rc = world_rank_main(
			(int)options_integer(options, "control-fd"), numerics,
			run_rank);
	options_destroy(options);
	return rc ? 1 : 0;
}
