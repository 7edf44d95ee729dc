/* Where a comparison goes: see comparison_output.h. */
#include "tools/schedule/comparison_output.h"
#include "base/log.h"
#include "tools/compare_page.h"
#include "tools/schedule/common.h"
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

int comparison_check_sizes(const struct options *options,
			   struct comparison *comparison)
{
	const char *const *names;
	size_t count = options_operands(options, &names);

	if (schedule_command_share(options, &comparison->ranks,
				   &comparison->micro_batches))
		return -EINVAL;
	comparison->chunks = schedule_command_size(options, "chunks");
	if (comparison->ranks && comparison->micro_batches)
		return 0;
	for (size_t i = 0; i < count; i++)
		if (schedule_kind_find(names[i]))
			return fail(-EINVAL,
				    "schedule %s needs --stages and "
				    "--micro-batches",
				    names[i]);
	return 0;
}

int comparison_check_seconds(const struct comparison *comparison)
{
	if (comparison->setting.costs.seconds)
		return 0;
	return fail(-EINVAL,
		    "%s: these are plain numbers; a rehearsal needs times: "
		    "give a unit, as in 20ms,20ms,15ms",
		    comparison->setting.costs.origin);
}

static int print_json(const struct comparison *comparison)
{
	json_t *document = comparison_json(comparison, false);
	char *dump =
		json_dumps(document, JSON_INDENT(2) | JSON_REAL_PRECISION(9));
	struct text_builder text;

	json_decref(document);
	text_builder_init(&text);
	text_builder_append(&text, "%s\n", dump ? dump : "");
	free(dump);
	return schedule_command_print(text_builder_finish(&text));
}

static int write_page(const struct comparison *comparison, const char *path)
{
	json_t *document = comparison_json(comparison, true);
	int rc = document ? compare_page_write(path, document)
			  : fail(-ENOMEM, "no memory for a page");

	json_decref(document);
	return rc;
}

int comparison_output(const struct options *options,
		      struct comparison *comparison)
{
	const char *page = options_string(options, "html");
	const char *trace = options_string(options, "trace");
	int status;

	comparison_sort(comparison);
	status = options_flag(options, "json")
			 ? print_json(comparison)
			 : schedule_command_print(comparison_table(
				   comparison, schedule_command_colour()));
	if (page && write_page(comparison, page))
		status = EXIT_FAILURE;
	if (trace && comparison_trace(comparison, trace))
		status = EXIT_FAILURE;
	return status;
}
