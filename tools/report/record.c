#include "tools/report/record.h"
#include "base/log.h"
#include "base/numbers.h"
#include "base/text.h"
#include "model/io/hf_adapter.h"
#include "model/model.h"

#include <dirent.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#define RUN_JSON_LIMIT ((size_t)16 << 20)
#define HISTORY_LIMIT  ((size_t)256 << 20)

/* ---- run.json ---- */

static int read_run_json(struct record *record)
{
	char path[FILES_PATH_BYTES];
	int rc = files_join(path, sizeof(path), record->run, "run.json");

	if (!rc && !files_exists(path))
		return fail(
			-ENOENT,
			"%s has no run.json: it is no folder of a run (train --out RUN makes one)",
			record->run);
	if (!rc)
		rc = json_read(path, RUN_JSON_LIMIT, &record->json);
	if (!rc)
		rc = json_get_object(record->json, "options", path,
				     &record->options);
	if (!rc)
		rc = json_get_object(record->json, "numerics", path,
				     &record->numerics);
	if (!rc)
		rc = json_get_string_or(record->json, "version", "", path,
					&record->version);
	return rc;
}

static unsigned option_count(const struct record *record, const char *name)
{
	json_int_t value =
		json_integer_value(json_object_get(record->options, name));

	return value >= 1 && value <= 65536 ? (unsigned)value : 1;
}

/* ---- history.jsonl ---- */

static int read_history(struct record *record)
{
	char path[FILES_PATH_BYTES], *text;
	size_t length;
	int rc = files_join(path, sizeof(path), record->run, "history.jsonl");

	record->history = json_array();
	if (!rc && !record->history)
		rc = fail(-ENOMEM, "no memory for %s", path);
	if (rc || !files_exists(path))
		return rc;
	rc = files_read(path, HISTORY_LIMIT, &text, &length);
	if (rc)
		return rc;
	for (size_t at = 0; at < length;) {
		const char *end = memchr(text + at, '\n', length - at);
		size_t bytes = end ? (size_t)(end - text) - at : length - at;
		json_t *line = json_loadb(text + at, bytes, 0, NULL);

		if (json_is_string(json_object_get(line, "event")))
			json_array_append(record->history, line);
		json_decref(line);
		at += bytes + 1;
	}
	free(text);
	return 0;
}

static bool is_event(const json_t *line, const char *kind)
{
	return strcmp(json_string_value(json_object_get(line, "event")),
		      kind) == 0;
}

static unsigned start_count(const json_t *start, const char *key)
{
	json_int_t value = json_integer_value(json_object_get(start, key));

	return value >= 1 && value <= 65536 ? (unsigned)value : 1;
}

/* A grid of no sense, from a file that was tampered with, is one rank. */
static struct grid checked(struct grid grid)
{
	uint64_t ranks = (uint64_t)grid.replicas * grid.positions;

	if (ranks * grid.slices <= 65536)
		return grid;
	return (struct grid){.replicas = 1, .positions = 1, .slices = 1};
}

static void digest_history(struct record *record)
{
	const json_t *line;
	size_t i;

	json_array_foreach(record->history, i, line)
	{
		if (is_event(line, "start")) {
			record->start = line;
			record->memory = NULL;
		}
		if (json_array_size(json_object_get(line, "resident_bytes")))
			record->memory = line;
	}
	record->grid = checked((struct grid){
		.replicas = option_count(record, "replicas"),
		.positions = option_count(record, "stages"),
		.slices = option_count(record, "tensor"),
	});
	if (record->start)
		record->grid = checked((struct grid){
			.replicas = start_count(record->start, "replicas"),
			.positions = start_count(record->start, "positions"),
			.slices = start_count(record->start, "slices"),
		});
}

/* ---- metrics.jsonl ---- */

static int read_metrics(struct record *record)
{
	char path[FILES_PATH_BYTES];
	struct files_mapping mapping;
	struct stat status;
	int rc = files_join(path, sizeof(path), record->run, "metrics.jsonl");

	if (rc)
		return rc;
	if (stat(path, &status))
		return fail(
			-ENOENT,
			"%s: %s; it is written from the first step on, so there is nothing to report yet",
			path, strerror(errno));
	record->idle = difftime(time(NULL), status.st_mtime);
	rc = files_map(path, &mapping);
	if (rc)
		return rc;
	rc = record_read_metrics((const char *)mapping.data, mapping.length,
				 path, record);
	files_unmap(&mapping);
	return rc;
}

/* ---- checkpoints and the model ---- */

/* A run that goes on deletes its old ones, perhaps just now: false, then. */
static bool measure_checkpoint(const char *path, uint64_t *bytes)
{
	const struct dirent *entry;
	struct stat status;
	DIR *listing = opendir(path);
	bool whole = listing != NULL;

	while (whole && (entry = readdir(listing))) {
		whole = fstatat(dirfd(listing), entry->d_name, &status, 0) == 0;
		if (whole && S_ISREG(status.st_mode))
			*bytes += (uint64_t)status.st_size;
	}
	if (listing)
		closedir(listing);
	return whole;
}

static int compare_checkpoints(const void *a, const void *b)
{
	const struct record_checkpoint *one = a, *other = b;

	return (one->step > other->step) - (one->step < other->step);
}

static int add_checkpoint(struct record *record, const char *folder,
			  const char *name)
{
	struct record_checkpoint *grown, new = {0};
	const char *digits = strstr(name, "step-");
	char path[FILES_PATH_BYTES];
	int rc;

	if (!digits || name[0] == '.' ||
	    (digits != name && strncmp(name, "damaged-", 8) != 0) ||
	    text_copy(new.name, sizeof(new.name), name))
		return 0;
	new.step = strtoull(digits + 5, NULL, 10);
	new.damaged = digits != name;
	rc = files_join(path, sizeof(path), folder, name);
	if (rc || !measure_checkpoint(path, &new.bytes))
		return rc;
	grown = realloc(record->checkpoints,
			(record->checkpoint_count + 1) * sizeof(*grown));
	if (!grown)
		return fail(-ENOMEM, "no memory for the list of checkpoints");
	grown[record->checkpoint_count++] = new;
	record->checkpoints = grown;
	return 0;
}

static int list_checkpoints(struct record *record)
{
	char folder[FILES_PATH_BYTES];
	const struct dirent *entry;
	DIR *listing;
	int rc = files_join(folder, sizeof(folder), record->run, "checkpoints");

	if (rc)
		return rc;
	listing = opendir(folder);
	while (!rc && listing && (entry = readdir(listing)))
		rc = add_checkpoint(record, folder, entry->d_name);
	if (listing)
		closedir(listing);
	if (record->checkpoint_count)
		qsort(record->checkpoints, record->checkpoint_count,
		      sizeof(*record->checkpoints), compare_checkpoints);
	return rc;
}

/* The newest model there is tells how many parameters it has. */
static int count_parameters(struct record *record)
{
	char folder[FILES_PATH_BYTES], path[FILES_PATH_BYTES];
	char base[FILES_PATH_BYTES];
	struct model_config config;
	struct model *model;
	const char *name = "model";
	int rc;

	rc = files_join(folder, sizeof(folder), record->run, name);
	record->has_model = !rc && files_is_folder(folder);
	if (!record->has_model && record->checkpoint_count) {
		name = record->checkpoints[record->checkpoint_count - 1].name;
		rc = files_join(path, sizeof(path), record->run, "checkpoints");
		if (!rc)
			rc = files_join(folder, sizeof(folder), path, name);
	}
	if (!rc)
		rc = files_join(path, sizeof(path), folder, "config.json");
	if (rc || (!files_exists(path) && !hf_adapter_is(folder)))
		return rc;
	if (hf_adapter_read_model(folder, NULL, &config, base) ||
	    model_create(&config, &model))
		return 0; /* said in a line; the report goes without */
	record->parameters = model_parameter_total(model);
	model_destroy(model);
	return 0;
}

/* ---- all of it ---- */

static double median_seconds(const struct record_steps *steps)
{
	double *copy = calloc(MAX(steps->count, (size_t)1), sizeof(*copy));
	double median;
	size_t count = 0;

	if (!copy)
		return 0;
	for (size_t i = 0; i < steps->count; i++)
		if (isfinite(steps->column[RECORD_STEP_SECONDS][i]))
			copy[count++] = steps->column[RECORD_STEP_SECONDS][i];
	median = numbers_median(copy, count);
	free(copy);
	return median;
}

static enum record_state find_state(const struct record *record)
{
	size_t lines = json_array_size(record->history);
	const json_t *last = json_array_get(record->history, lines - 1);
	double patience = MAX(60.0, 20 * median_seconds(&record->steps));

	if (lines && is_event(last, "end"))
		return json_is_true(json_object_get(last, "stopped"))
			       ? RECORD_STOPPED
			       : RECORD_FINISHED;
	if (lines == 0 && record->has_model)
		return RECORD_FINISHED;
	return record->idle < patience ? RECORD_RUNNING : RECORD_BROKEN;
}

static uint64_t find_planned(const struct record *record)
{
	const json_t *steps = json_object_get(
		record->start ? record->start : record->options, "steps");
	json_int_t value = json_integer_value(steps);

	return value > 0 ? (uint64_t)value : 0;
}

int record_read(const char *run, struct record *out)
{
	int rc;

	*out = (struct record){0};
	if (!files_is_folder(run))
		return fail(-ENOENT, "%s: there is no such run", run);
	if (snprintf(out->run, sizeof(out->run), "%s", run) >=
	    (int)sizeof(out->run))
		return fail(-ENAMETOOLONG, "%.64s...: the path is too long",
			    run);
	rc = read_run_json(out);
	if (!rc)
		rc = read_metrics(out);
	if (!rc)
		rc = read_history(out);
	if (!rc)
		rc = list_checkpoints(out);
	if (!rc)
		rc = count_parameters(out);
	if (rc)
		return rc;
	digest_history(out);
	out->state = find_state(out);
	out->planned = find_planned(out);
	return 0;
}

void record_fini(struct record *record)
{
	json_decref(record->json);
	json_decref(record->history);
	free(record->steps.step);
	for (unsigned c = 0; c < RECORD_COLUMNS; c++)
		free(record->steps.column[c]);
	free(record->evaluations);
	free(record->checkpoints);
	*record = (struct record){0};
}

double record_last_step(const struct record *record)
{
	size_t steps = record->steps.count, found = record->evaluation_count;
	double last = steps ? record->steps.step[steps - 1] : 0;

	return found ? MAX(last, record->evaluations[found - 1].step) : last;
}

unsigned record_ranks(const struct record *record)
{
	return grid_size(&record->grid);
}

void record_rank_label(const struct record *record, unsigned rank, char *buffer,
		       size_t size)
{
	const struct grid *grid = &record->grid;
	struct grid_place place = grid_place(grid, rank);
	size_t used = (size_t)snprintf(buffer, size, "rank %u", rank);

	if (grid->replicas == 1 && grid->slices == 1)
		return;
	if (grid->replicas > 1 && used < size)
		used += (size_t)snprintf(buffer + used, size - used,
					 ", replica %u", place.replica);
	if (grid->positions > 1 && used < size)
		used += (size_t)snprintf(buffer + used, size - used,
					 ", position %u", place.position);
	if (grid->slices > 1 && used < size)
		snprintf(buffer + used, size - used, ", slice %u", place.slice);
}
