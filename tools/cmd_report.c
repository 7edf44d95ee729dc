#include "base/files.h"
#include "base/log.h"
#include "tools/commands.h"
#include "tools/report/page.h"

#include <errno.h>

static const struct option_spec table[] = {
	{.name = "out",
	 .letter = 'o',
	 .kind = OPTION_STRING,
	 .argument = "FILE.html",
	 .group = "Output",
	 .help = "where the page goes (default: RUN/report.html); replaced if it is there"},
	{.name = NULL},
};

const struct option_command report_command = {
	.name = "report",
	.synopsis = "RUN [--out FILE.html]",
	.summary =
		"one page of HTML about a run: its curves, its time, its memory",
	.description =
		"Writes a page that needs no network and no other file: loss, validation, learning rate, gradient norm and throughput; where a step's time goes, action by action where `train --trace` has recorded it; what memory each rank holds; checkpoints and resumes; the options. A run that is still going can be reported on; it is not disturbed.",
	.table = table,
	.operands = "RUN",
};

/* What was measured of the layers; a run that was not recorded has none. */
static int read_costs(const char *run, struct costs *out)
{
	char path[FILES_PATH_BYTES];
	int rc = files_join(path, sizeof(path), run, "costs.json");

	if (rc || !files_exists(path))
		return rc;
	rc = costs_open(path, out);
	if (rc == -ENOMEM)
		return rc;
	if (rc)
		log_warning("the report goes without the time by layer");
	return 0;
}

static int write_page(const struct options *options, const char *run,
		      const struct report *report)
{
	const char *out = options_string(options, "out");
	char path[FILES_PATH_BYTES];
	int rc;

	if (!out) {
		rc = files_join(path, sizeof(path), run, "report.html");
		if (rc)
			return rc;
		out = path;
	}
	rc = report_page_write(out, report);
	if (!rc)
		log_info("the report is in %s", out);
	return rc;
}

static int report(const struct options *options, const char *run)
{
	char trace[FILES_PATH_BYTES];
	struct record record;
	struct recorded_step recorded = {0};
	struct costs costs = {0};
	int rc = record_read(run, &record);

	if (!rc)
		rc = files_join(trace, sizeof(trace), run, "trace.json");
	if (!rc)
		rc = recorded_step_read(trace, &recorded);
	if (!rc)
		rc = read_costs(run, &costs);
	if (!rc)
		rc = write_page(
			options, run,
			&(struct report){.record = &record,
					 .recorded = &recorded,
					 .costs = &costs,
					 .options = train_command.table});
	costs_fini(&costs);
	recorded_step_fini(&recorded);
	record_fini(&record);
	return rc;
}

int cmd_report(int argc, char **argv)
{
	struct options *options;
	const char *const *runs;
	int rc = options_parse(&report_command, argc, argv, &options);

	if (rc)
		return rc < 0 ? 2 : 0;
	if (options_operands(options, &runs) != 1)
		rc = fail(-EINVAL,
			  "report takes one folder of a run: report RUN");
	else if (!files_is_folder(runs[0]))
		rc = fail(-ENOENT, "%s: there is no such run", runs[0]);
	if (rc) {
		options_destroy(options);
		return 2;
	}
	rc = report(options, runs[0]);
	options_destroy(options);
	return rc ? 1 : 0;
}
