#include "engine/tensorboard.h"
#include "base/clock.h"
#include "base/log.h"
#include "engine/event_file.h"

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define FOLDER "tensorboard"
#define PREFIX "events.out.tfevents."

/*
 * Readers take the files in the order of their names, and so by this number:
 * the time, or one more than the latest there where the clock went back.
 */
static uint64_t next_number(const char *folder)
{
	uint64_t number = (uint64_t)clock_wall_seconds();
	DIR *listing = opendir(folder);
	const struct dirent *entry;

	while (listing && (entry = readdir(listing))) {
		uint64_t theirs;

		if (strncmp(entry->d_name, PREFIX, strlen(PREFIX)) != 0)
			continue;
		theirs = strtoull(entry->d_name + strlen(PREFIX), NULL, 10);
		/* None of ours has more than ten digits. */
		if (theirs >= number && theirs < 9999999999)
			number = theirs + 1;
	}
	if (listing)
		closedir(listing);
	return number;
}

static void append(struct tensorboard *board, const unsigned char *record,
		   size_t bytes)
{
	journal_append(&board->journal, record, bytes);
}

int tensorboard_open(struct tensorboard *board, const char *run,
		     const char *host, uint64_t first_step)
{
	unsigned char record[EVENT_FILE_RECORD_BYTES];
	char folder[FILES_PATH_BYTES], name[256];
	double now = clock_wall_seconds();
	int rc = files_join(folder, sizeof(folder), run, FOLDER);

	board->journal.fd = -1;
	if (!rc)
		rc = files_make_folder(folder);
	if (rc)
		return rc;
	snprintf(name, sizeof(name), PREFIX "%010" PRIu64 ".%.64s.%ld.0",
		 next_number(folder), host, (long)getpid());
	for (char *at = name; *at; at++)
		if (*at == '/')
			*at = '-';
	rc = journal_open(&board->journal, folder, name, 0);
	if (rc)
		return rc;
	append(board, record, event_file_version(record, now));
	append(board, record,
	       event_file_session(record, now, (int64_t)first_step + 1));
	return 0;
}

void tensorboard_close(struct tensorboard *board)
{
	journal_close(&board->journal);
}

static void append_scalars(struct tensorboard *board, double time,
			   uint64_t step, const struct event_scalar *scalars,
			   unsigned count)
{
	unsigned char record[EVENT_FILE_RECORD_BYTES];

	append(board, record,
	       event_file_scalars(record, time, (int64_t)step, scalars, count));
}

void tensorboard_step(struct tensorboard *board,
		      const struct metrics_step *step)
{
	const struct event_scalar scalars[] = {
		{"train/loss", (float)step->loss},
		{"train/grad_norm", (float)step->gradient_norm},
		{"train/lr", (float)step->learning_rate},
		{"train/tokens_per_sec", (float)step->tokens_per_second},
		{"train/step_seconds", (float)step->step_seconds},
		{"train/bubble", (float)step->bubble},
	};

	if (board->journal.fd >= 0)
		append_scalars(board, step->time, step->step, scalars,
			       ARRAY_SIZE(scalars));
}

void tensorboard_evaluation(struct tensorboard *board,
			    const struct metrics_evaluation *evaluation)
{
	const struct event_scalar loss = {"val/loss", (float)evaluation->loss};

	if (board->journal.fd >= 0)
		append_scalars(board, evaluation->time, evaluation->step, &loss,
			       1);
}

void tensorboard_memory(struct tensorboard *board, uint64_t step, double time,
			const uint64_t *resident, unsigned ranks)
{
	struct event_scalar scalars[EVENT_FILE_SCALARS_MAX];
	unsigned count = 0;

	if (board->journal.fd < 0)
		return;
	for (unsigned rank = 0; rank < ranks; rank++) {
		struct event_scalar *scalar = &scalars[count];

		if (!resident[rank])
			continue;
		snprintf(scalar->tag, sizeof(scalar->tag), "memory/rank_%u_GiB",
			 rank);
		scalar->value = (float)((double)resident[rank] / (1u << 30));
		if (++count == ARRAY_SIZE(scalars)) {
			append_scalars(board, time, step, scalars, count);
			count = 0;
		}
	}
	if (count)
		append_scalars(board, time, step, scalars, count);
}
