/*
 * The records of a file of examples, one after the other: the lines of a JSON
 * Lines file (jsonlines.org; empty ones are passed over), or the elements of
 * a single JSON array, which a file is when its first character is '['. Memory
 * is bounded by the longest record, not by the file.
 */
#ifndef STAGECOACH_DATA_SFT_RECORDS_H
#define STAGECOACH_DATA_SFT_RECORDS_H

#include "base/compiler.h"
#include "base/files.h"

/* What a record may have at most: bytes, and values one within the other. */
#define RECORD_BYTES_MAX  ((size_t)64 << 20)
#define RECORD_VALUES_MAX ((size_t)1 << 16)

struct record_reader {
	const char *path; /* not owned; stands in messages */
	int fd;           /* -1: all there is lies in `chunk` */
	char *own;        /* the chunk, where it is from a file */
	const char *chunk;
	size_t at, have;
	bool begun, ended, array;
	uint64_t line;  /* the one that is read, from 1 */
	uint64_t bytes; /* read so far */
	char *text;     /* the record under way */
	size_t length, capacity;
	/* Of it: */
	uint64_t first_line;
	size_t values;
	unsigned depth;
	bool in_string, escaped;
};

struct record {
	const char *text; /* the reader's, until the next one; no NUL behind */
	size_t length;
	uint64_t line; /* it begins on */
};

/* -errno, logged, when it cannot be opened. */
int record_reader_open(struct record_reader *reader,
		       const char *path) MUST_CHECK;
/* The same of text in memory, which stays the caller's. */
void record_reader_open_text(struct record_reader *reader, const char *text,
			     size_t length, const char *origin);
void record_reader_close(struct record_reader *reader);

/*
 * 1 and a record, or 0 at the end. -EINVAL, logged with the line: an array
 * that does not end or has something behind it, or too large a record.
 */
int record_reader_next(struct record_reader *reader,
		       struct record *out) MUST_CHECK;

#endif
