#include "engine/history.h"
#include "base/clock.h"
#include "base/log.h"
#include "engine/job.h"
#include "engine/memory_use.h"
#include "engine/route.h"
#include "engine/tensorboard.h"
#include "engine/world.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

int history_open(struct history *history, struct world *world,
		 const struct job *job)
{
	*history = (struct history){
		.world = world, .job = job, .journal = {.fd = -1}};
	if (world->rank != ROUTE_ROOT)
		return 0;
	return journal_open(&history->journal, job->out, "history.jsonl",
			    UINT64_MAX);
}

void history_close(struct history *history)
{
	journal_close(&history->journal);
}

/* Takes over `line`. A line that memory lacks for is a line lost. */
static void append(struct history *history, json_t *line)
{
	char *text =
		line ? json_dumps(line, JSON_COMPACT | JSON_REAL_PRECISION(15))
		     : NULL;
	size_t length = text ? strlen(text) : 0;

	json_decref(line);
	if (!text) {
		log_warning("no memory for a line of %s",
			    history->journal.path);
		return;
	}
	text[length] = '\n';
	journal_append(&history->journal, text, length + 1);
	free(text);
}

/* Milliseconds are enough, and short to read. */
static double now(void)
{
	return round(clock_wall_seconds() * 1e3) / 1e3;
}

static json_t *split_of(const struct partition *partition)
{
	json_t *array = json_array();

	for (unsigned s = 0; s < partition->stages; s++)
		json_array_append_new(array,
				      json_integer(partition->first[s + 1] -
						   partition->first[s]));
	return array;
}

/* Takes over `hosts`. */
static json_t *start_line(const struct history *history, json_t *hosts)
{
	const struct job *job = history->job;
	struct grid grid = job_grid(job);

	return json_pack(
		"{s:s, s:f, s:I, s:I, s:s, s:i, s:i, s:i, s:i, s:s, s:i, s:s, s:o, s:o}",
		"event", "start", "time", now(), "step",
		(json_int_t)job->first_step, "steps", (json_int_t)job->steps,
		"version", PACKAGE_VERSION, "replicas", (int)grid.replicas,
		"positions", (int)grid.positions, "slices", (int)grid.slices,
		"chunks", (int)job->chunks, "schedule", job->schedule,
		"micro_batches", (int)job->micro_batches, "transport",
		history->world->transport ? history->world->transport : "",
		"layers", split_of(&job->partition), "hosts", hosts);
}

int history_start(struct history *history)
{
	json_t *host = json_string(history->world->host), *hosts;
	int rc = world_all_gather(history->world, host, &hosts);

	json_decref(host);
	if (rc)
		return rc;
	if (history->journal.fd >= 0)
		append(history, start_line(history, json_incref(hosts)));
	json_decref(hosts);
	return 0;
}

/* One of the two numbers every rank has sent; null stays null. */
static json_t *column(const json_t *all, size_t index)
{
	json_t *array = json_array();
	const json_t *entry;
	size_t rank;

	json_array_foreach(all, rank, entry)
	{
		json_t *value = json_array_get(entry, index);

		json_array_append_new(array,
				      value ? json_incref(value) : json_null());
	}
	return array;
}

static void tell_board(struct tensorboard *board, uint64_t step,
		       const json_t *all)
{
	unsigned ranks = (unsigned)json_array_size(all);
	uint64_t *resident = calloc(MAX(ranks, 1u), sizeof(*resident));

	for (unsigned r = 0; resident && r < ranks; r++)
		resident[r] = (uint64_t)json_integer_value(
			json_array_get(json_array_get(all, r), 0));
	if (resident)
		tensorboard_memory(board, step, now(), resident, ranks);
	free(resident);
}

int history_checkpoint(struct history *history, uint64_t step, bool written,
		       double seconds, struct tensorboard *board)
{
	const struct world *world = history->world;
	bool counted = world->thread && world->rank != ROUTE_ROOT;
	struct memory_use use;
	json_t *mine, *all;
	int rc;

	memory_use_read(&use);
	mine = counted ? json_null()
		       : json_pack("[I, I]", (json_int_t)use.resident,
				   (json_int_t)use.peak);
	rc = world_all_gather(history->world, mine, &all);
	json_decref(mine);
	if (rc)
		return rc;
	if (history->journal.fd >= 0) {
		tell_board(board, step, all);
		append(history,
		       json_pack("{s:s, s:f, s:I, s:f, s:b, s:o, s:o}", "event",
				 "checkpoint", "time", now(), "step",
				 (json_int_t)step, "seconds", seconds,
				 "written", written, "resident_bytes",
				 column(all, 0), "peak_bytes", column(all, 1)));
	}
	json_decref(all);
	return 0;
}

void history_end(struct history *history, uint64_t step, bool stopped)
{
	if (history->journal.fd >= 0)
		append(history,
		       json_pack("{s:s, s:f, s:I, s:b}", "event", "end", "time",
				 now(), "step", (json_int_t)step, "stopped",
				 stopped));
}
