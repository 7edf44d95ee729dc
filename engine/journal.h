/*
 * Journals: files that only grow, by whole records: metrics.jsonl,
 * history.jsonl, TensorBoard's event files. Each record is one write, so that
 * whoever reads along sees whole ones.
 *
 * A disk that is full ends no training. What it took of a record is cut off
 * again, the record is lost, the log says so once; later ones are tried
 * anew, and when a number of them have succeeded, or at the end, the log says how
 * many are missing.
 */
#ifndef STAGECOACH_ENGINE_JOURNAL_H
#define STAGECOACH_ENGINE_JOURNAL_H

#include "base/files.h"

struct journal {
	int fd; /* -1: closed; appending is a no-op then */
	uint64_t length;
	uint64_t lost;  /* records, since the disk was last known to be well */
	unsigned taken; /* in a row, since one was lost */
	char path[FILES_PATH_BYTES];
};

/*
 * Opens folder/name, made if it is not there; what lies past the first `keep`
 * bytes is cut off (UINT64_MAX: nothing). A negative errno, logged.
 */
int journal_open(struct journal *journal, const char *folder, const char *name,
		 uint64_t keep) MUST_CHECK;
void journal_close(struct journal *journal);

/* Allocates nothing; may block as long as the disk's cache does. */
void journal_append(struct journal *journal, const void *record, size_t bytes);

#endif
