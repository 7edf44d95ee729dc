#include "engine/event_file.h"
#include "base/digest.h"

#include <string.h>

#define RECORD_HEAD_BYTES 12
/* A message that holds one more: its key and length, 5 bytes at most. */
#define MESSAGE_BYTES (EVENT_FILE_RECORD_BYTES - 64)
#define SCALAR_BYTES  (EVENT_FILE_TAG_BYTES + 16)

/* Field numbers, shifted, with the kind of what follows. */
enum {
	EVENT_WALL_TIME = 1 << 3 | 1,
	EVENT_STEP = 2 << 3,
	EVENT_FILE_VERSION = 3 << 3 | 2,
	EVENT_SUMMARY = 5 << 3 | 2,
	EVENT_SESSION_LOG = 7 << 3 | 2,
	SUMMARY_VALUE = 1 << 3 | 2,
	VALUE_TAG = 1 << 3 | 2,
	VALUE_SIMPLE = 2 << 3 | 5,
	SESSION_STATUS = 1 << 3,
};

#define SESSION_START 1

/* A protocol buffer as it grows. */
struct message {
	unsigned char *bytes;
	size_t length;
};

static void put_fixed(struct message *to, uint64_t value, unsigned bytes)
{
	for (unsigned i = 0; i < bytes; i++)
		to->bytes[to->length++] = (unsigned char)(value >> 8 * i);
}

static void put_varint(struct message *to, uint64_t value)
{
	for (; value > 127; value >>= 7)
		to->bytes[to->length++] = (unsigned char)(value | 0x80);
	to->bytes[to->length++] = (unsigned char)value;
}

static void put_double(struct message *to, unsigned key, double value)
{
	uint64_t bits;

	memcpy(&bits, &value, sizeof(bits));
	put_varint(to, key);
	put_fixed(to, bits, 8);
}

static void put_float(struct message *to, unsigned key, float value)
{
	uint32_t bits;

	memcpy(&bits, &value, sizeof(bits));
	put_varint(to, key);
	put_fixed(to, bits, 4);
}

static void put_bytes(struct message *to, unsigned key, const void *bytes,
		      size_t length)
{
	put_varint(to, key);
	put_varint(to, length);
	memcpy(to->bytes + to->length, bytes, length);
	to->length += length;
}

static uint32_t masked_crc(const void *data, size_t length)
{
	uint32_t crc = digest_crc32c(0, data, length);

	return (crc >> 15 | crc << 17) + 0xa282ead8u;
}

/* An event without content yet, where the frame wants it. */
static struct message begin(unsigned char *record, double wall)
{
	struct message event = {.bytes = record + RECORD_HEAD_BYTES};

	put_double(&event, EVENT_WALL_TIME, wall);
	return event;
}

static size_t frame(unsigned char *record, const struct message *event)
{
	struct message out = {.bytes = record};

	put_fixed(&out, event->length, 8);
	put_fixed(&out, masked_crc(record, 8), 4);
	out.length += event->length;
	put_fixed(&out, masked_crc(event->bytes, event->length), 4);
	return out.length;
}

size_t event_file_version(unsigned char record[EVENT_FILE_RECORD_BYTES],
			  double wall)
{
	static const char version[] = "brain.Event:2";
	struct message event = begin(record, wall);

	put_bytes(&event, EVENT_FILE_VERSION, version, strlen(version));
	return frame(record, &event);
}

size_t event_file_session(unsigned char record[EVENT_FILE_RECORD_BYTES],
			  double wall, int64_t step)
{
	struct message event = begin(record, wall);
	const unsigned char start[] = {SESSION_STATUS, SESSION_START};

	put_varint(&event, EVENT_STEP);
	put_varint(&event, (uint64_t)step);
	put_bytes(&event, EVENT_SESSION_LOG, start, sizeof(start));
	return frame(record, &event);
}

size_t event_file_scalars(unsigned char record[EVENT_FILE_RECORD_BYTES],
			  double wall, int64_t step,
			  const struct event_scalar *scalars, unsigned count)
{
	unsigned char summary_bytes[EVENT_FILE_SCALARS_MAX * SCALAR_BYTES];
	struct message event = begin(record, wall);
	struct message summary = {.bytes = summary_bytes};

	_Static_assert(sizeof(summary_bytes) <= MESSAGE_BYTES,
		       "a record has room for all scalars");
	ASSERT(count <= EVENT_FILE_SCALARS_MAX);
	for (unsigned i = 0; i < count; i++) {
		unsigned char value_bytes[SCALAR_BYTES];
		struct message value = {.bytes = value_bytes};

		put_bytes(&value, VALUE_TAG, scalars[i].tag,
			  strnlen(scalars[i].tag, EVENT_FILE_TAG_BYTES - 1));
		put_float(&value, VALUE_SIMPLE, scalars[i].value);
		put_bytes(&summary, SUMMARY_VALUE, value_bytes, value.length);
	}
	put_varint(&event, EVENT_STEP);
	put_varint(&event, (uint64_t)step);
	put_bytes(&event, EVENT_SUMMARY, summary_bytes, summary.length);
	return frame(record, &event);
}
