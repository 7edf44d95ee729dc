/*
 * The stream between a rank and its coordinator. Byte 0 of the input says how
 * long a message may be; the rest is the stream, taken message by message.
 *
 * What is found lies within the stream and the limit; what parses is an object
 * of a known kind, and parses again when it is written.
 */
#include <string.h>

#include "base/log.h"
#include "engine/control.h"
#include "tests/fuzz/fuzz.h"

static void swallow(void *argument, enum log_level level, const char *line)
{
	(void)argument;
	(void)level;
	FUZZ_CHECK(line[0] != '\0');
}

static void parse(const uint8_t *payload, size_t bytes)
{
	enum control_kind kind = CONTROL_KINDS, again = CONTROL_KINDS;
	json_t *message, *copy;
	int status = control_parse(payload, bytes, "fuzz", &kind, &message);
	char *text;

	FUZZ_CHECK(status <= 0);
	if (status)
		return;
	FUZZ_CHECK(kind < CONTROL_KINDS && json_is_object(message));
	FUZZ_CHECK(control_kind_name(kind)[0] != '\0');
	text = json_dumps(message, JSON_COMPACT);
	FUZZ_CHECK(text != NULL);
	FUZZ_CHECK(!control_parse(text, strlen(text), "again", &again, &copy));
	FUZZ_CHECK(again == kind && json_equal(message, copy));
	free(text);
	json_decref(copy);
	json_decref(message);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	size_t limit, bytes = 0;
	char text[64];

	if (!size)
		return 0;
	log_set_sink(swallow, NULL);
	limit = (size_t)16 << (data[0] & 15);
	data++;
	size--;
	snprintf(text, sizeof(text), "%.*s", (int)(size < 60 ? size : 60),
		 (const char *)data);
	control_clean_text(text);
	while (control_frame(data, size, limit, &bytes) == 1) {
		FUZZ_CHECK(bytes <= limit);
		FUZZ_CHECK(bytes + CONTROL_HEADER_BYTES <= size);
		parse(data + CONTROL_HEADER_BYTES, bytes);
		data += CONTROL_HEADER_BYTES + bytes;
		size -= CONTROL_HEADER_BYTES + bytes;
	}
	return 0;
}
