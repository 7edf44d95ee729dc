#include "data/sft/records.h"

#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define CHUNK_BYTES 65536

int record_reader_open(struct record_reader *reader, const char *path)
{
	*reader = (struct record_reader){.path = path, .line = 1};
	reader->own = malloc(CHUNK_BYTES);
	if (!reader->own)
		return fail(-ENOMEM, "%s: no memory to read it", path);
	reader->chunk = reader->own;
	reader->fd = open(path, O_RDONLY | O_CLOEXEC);
	if (reader->fd < 0) {
		int err = fail(-errno, "%s: cannot open it: %s", path,
			       strerror(errno));

		free(reader->own);
		return err;
	}
	return 0;
}

void record_reader_open_text(struct record_reader *reader, const char *text,
			     size_t length, const char *origin)
{
	*reader = (struct record_reader){
		.path = origin,
		.line = 1,
		.fd = -1,
		.chunk = text,
		.have = length,
	};
}

void record_reader_close(struct record_reader *reader)
{
	if (reader->fd >= 0)
		close(reader->fd);
	free(reader->own);
	free(reader->text);
	*reader = (struct record_reader){.fd = -1};
}

static int refuse(const struct record_reader *reader, uint64_t line,
		  const char *what)
{
	return fail(-EINVAL, "%s:%llu: %s", reader->path,
		    (unsigned long long)line, what);
}

/* The next byte into *byte: 1, 0 at the end, or negative. */
static int next_byte(struct record_reader *reader, char *byte)
{
	ssize_t got;

	if (reader->at == reader->have) {
		if (reader->fd < 0)
			return 0;
		do {
			got = read(reader->fd, reader->own, CHUNK_BYTES);
		} while (got < 0 && errno == EINTR);
		if (got < 0)
			return fail(-errno, "%s: cannot read it: %s",
				    reader->path, strerror(errno));
		reader->at = 0;
		reader->have = (size_t)got;
		if (!got)
			return 0;
	}
	*byte = reader->chunk[reader->at++];
	reader->bytes++;
	if (*byte == '\n')
		reader->line++;
	return 1;
}

static bool is_space(char byte)
{
	return byte == ' ' || byte == '\t' || byte == '\r' || byte == '\n';
}

static int append(struct record_reader *reader, char byte)
{
	size_t capacity;
	char *grown;

	if (reader->length == RECORD_BYTES_MAX)
		return refuse(reader, reader->first_line,
			      "an example of over 64 MiB");
	if (reader->length == reader->capacity) {
		capacity = MAX(reader->capacity * 2, (size_t)4096);
		grown = realloc(reader->text, capacity);
		if (!grown)
			return fail(-ENOMEM, "%s: no memory for a line of it",
				    reader->path);
		reader->text = grown;
		reader->capacity = capacity;
	}
	reader->text[reader->length++] = byte;
	return 0;
}

/*
 * Follows strings and brackets. A value costs the parser many times its text,
 * so they are counted before it sees them.
 */
static int follow(struct record_reader *reader, char byte)
{
	if (reader->in_string) {
		if (reader->escaped)
			reader->escaped = false;
		else if (byte == '\\')
			reader->escaped = true;
		else if (byte == '"')
			reader->in_string = false;
		return 0;
	}
	if (byte == '"')
		reader->in_string = true;
	else if (byte == '{' || byte == '[')
		reader->depth++;
	else if ((byte == '}' || byte == ']') && reader->depth > 0)
		reader->depth--;
	if ((byte == ',' || byte == '{' || byte == '[') &&
	    ++reader->values > RECORD_VALUES_MAX)
		return refuse(reader, reader->first_line,
			      "an example of over 65,536 values");
	return 0;
}

/* The rest of a record that begins with `byte`; *end: what ended it. */
static int read_record(struct record_reader *reader, char byte, char *end)
{
	int rc = 1;

	reader->length = 0;
	reader->values = 0;
	reader->depth = 0;
	reader->in_string = reader->escaped = false;
	reader->first_line = reader->line - (byte == '\n');
	*end = '\0';
	while (rc > 0) {
		bool outside = !reader->in_string && reader->depth == 0;

		if (reader->array ? outside && (byte == ',' || byte == ']')
				  : byte == '\n') {
			*end = byte;
			return 0;
		}
		rc = follow(reader, byte);
		if (!rc)
			rc = append(reader, byte);
		if (rc)
			return rc;
		rc = next_byte(reader, &byte);
	}
	return rc;
}

static int skip_space(struct record_reader *reader, char *byte)
{
	int rc;

	do {
		rc = next_byte(reader, byte);
	} while (rc > 0 && is_space(*byte));
	return rc;
}

/* Past a byte order mark: 1 with the byte behind it. */
static int skip_mark(struct record_reader *reader, char *byte)
{
	static const char mark[] = "\xEF\xBB\xBF";

	for (int i = 0; i < 3; i++) {
		int rc;

		if (*byte != mark[i])
			return refuse(reader, 1, "not UTF-8");
		rc = i < 2 ? next_byte(reader, byte) : skip_space(reader, byte);
		if (rc <= 0)
			return rc;
	}
	return 1;
}

static int finish_array(struct record_reader *reader)
{
	char byte;
	int rc = skip_space(reader, &byte);

	reader->ended = true;
	return rc > 0 ? refuse(reader, reader->line,
			       "something follows the array of examples")
		      : rc;
}

/* The first byte of the file that is no white space says what it is. */
static int begin(struct record_reader *reader, char *byte)
{
	int rc = skip_space(reader, byte);

	reader->begun = true;
	if (rc > 0 && *byte == '\xEF')
		rc = skip_mark(reader, byte);
	if (rc <= 0 || *byte != '[')
		return rc;
	reader->array = true;
	rc = skip_space(reader, byte);
	if (rc == 0)
		return refuse(reader, reader->line, "the array does not end");
	return rc > 0 && *byte == ']' ? finish_array(reader) : rc;
}

int record_reader_next(struct record_reader *reader, struct record *out)
{
	char byte, end;
	int rc;

	if (reader->ended)
		return 0;
	rc = reader->begun ? skip_space(reader, &byte) : begin(reader, &byte);
	if (rc == 0 && reader->array && !reader->ended)
		return refuse(reader, reader->line, "the array does not end");
	if (rc <= 0)
		return rc;
	rc = read_record(reader, byte, &end);
	if (rc)
		return rc;
	if (reader->array && !end)
		return refuse(reader, reader->first_line,
			      "the array does not end");
	*out = (struct record){reader->text, reader->length,
			       reader->first_line};
	if (reader->array && end == ']') {
		rc = finish_array(reader);
		if (rc)
			return rc;
	}
	return 1;
}
