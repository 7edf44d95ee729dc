#include "base/text.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/checked.h"

/* [text, text + length), decimal digits after an optional sign. */
static int parse_integer(const char *text, size_t length, int64_t *out)
{
	bool negative = length > 0 && text[0] == '-';
	bool overflow = false;
	size_t i = length > 0 && (text[0] == '-' || text[0] == '+');
	int64_t value = 0;

	if (i == length)
		return -EINVAL;
	for (; i < length; i++) {
		int digit = text[i] - '0';

		if (digit < 0 || digit > 9)
			return -EINVAL;
		overflow =
			overflow || __builtin_mul_overflow(value, 10, &value) ||
			__builtin_add_overflow(value, negative ? -digit : digit,
					       &value);
	}
	if (overflow)
		return -ERANGE;
	*out = value;
	return 0;
}

static int parse_integer_within(const char *text, size_t length,
				int64_t minimum, int64_t maximum, int64_t *out)
{
	int64_t value;
	int code = parse_integer(text, length, &value);

	if (code)
		return code;
	if (value < minimum || value > maximum)
		return -ERANGE;
	*out = value;
	return 0;
}

int text_parse_integer(const char *text, int64_t minimum, int64_t maximum,
		       int64_t *out)
{
	return parse_integer_within(text, strlen(text), minimum, maximum, out);
}

int text_parse_real(const char *text, double minimum, double maximum,
		    double *out)
{
	char *end;
	double value;

	/* Rules out spaces, hexadecimal, "nan" and "infinity". */
	if (text[0] == '\0' || text[strspn(text, "+-.0123456789eE")] != '\0')
		return -EINVAL;
	value = strtod(text, &end);
	if (end == text || *end != '\0' || value - value != 0.0)
		return -EINVAL;
	if (value < minimum || value > maximum)
		return -ERANGE;
	*out = value;
	return 0;
}

int text_parse_bytes(const char *text, uint64_t *out)
{
	static const char suffixes[] = "KMGT";
	size_t length = strlen(text);
	const char *suffix;
	unsigned shift = 0;
	int64_t value;
	int code;

	if (length > 0) {
		suffix = strchr(suffixes, text[length - 1]);
		if (suffix) {
			shift = 10 * (unsigned)(suffix - suffixes + 1);
			length--;
		}
	}
	if (length > 0 && (text[0] == '-' || text[0] == '+'))
		return -EINVAL;
	code = parse_integer_within(text, length, 0, INT64_MAX >> shift,
				    &value);
	if (code)
		return code;
	*out = (uint64_t)value << shift;
	return 0;
}

int text_parse_list(const char *text, int64_t minimum, int64_t maximum,
		    int64_t *out, size_t capacity, size_t *count)
{
	const char *item = text;
	size_t n = 0;
	int pass;

	/* Once to check, once to write: out stays whole on an error. */
	for (pass = 0; pass < 2; pass++) {
		item = text;
		for (n = 0;; n++) {
			size_t length = strcspn(item, ",");
			int64_t value;
			int code = parse_integer_within(item, length, minimum,
							maximum, &value);

			if (code)
				return code;
			if (n == capacity)
				return -ERANGE;
			if (pass == 1)
				out[n] = value;
			if (item[length] == '\0')
				break;
			item += length + 1;
		}
	}
	*count = n + 1;
	return 0;
}

char *text_bytes(char *buffer, size_t size, uint64_t bytes)
{
	static const char *const units[] = {"B",   "KiB", "MiB", "GiB",
					    "TiB", "PiB", "EiB"};
	double value = (double)bytes;
	size_t unit = 0;

	/* 1023.95 would be printed as 1024.0. */
	while (value >= (unit == 0 ? 1024.0 : 1023.95) &&
	       unit + 1 < ARRAY_SIZE(units)) {
		value /= 1024.0;
		unit++;
	}
	snprintf(buffer, size, "%.*f %s", unit == 0 ? 0 : 1, value,
		 units[unit]);
	return buffer;
}

char *text_duration(char *buffer, size_t size, double seconds)
{
	uint64_t whole;

	if (!(seconds > 0))
		seconds = 0;
	if (seconds < 0.9995) {
		snprintf(buffer, size, "%.0f ms", seconds * 1e3);
		return buffer;
	}
	if (seconds < 59.95) {
		snprintf(buffer, size, "%.1f s", seconds);
		return buffer;
	}
	whole = seconds < 1e15 ? (uint64_t)(seconds + 0.5) : (uint64_t)1e15;
	if (whole < 3600)
		snprintf(buffer, size, "%d m %d s", (int)(whole / 60),
			 (int)(whole % 60));
	else if (whole < 86400)
		snprintf(buffer, size, "%d h %d m", (int)(whole / 3600),
			 (int)(whole % 3600 / 60));
	else
		snprintf(buffer, size, "%llu d %d h",
			 (unsigned long long)(whole / 86400),
			 (int)(whole % 86400 / 3600));
	return buffer;
}

char *text_grouped(char *buffer, size_t size, uint64_t number)
{
	char digits[24];
	char grouped[32];
	size_t length;
	size_t out = 0;
	size_t i;

	snprintf(digits, sizeof(digits), "%llu", (unsigned long long)number);
	length = strlen(digits);
	for (i = 0; i < length; i++) {
		if (i > 0 && (length - i) % 3 == 0)
			grouped[out++] = ',';
		grouped[out++] = digits[i];
	}
	grouped[out] = '\0';
	snprintf(buffer, size, "%s", grouped);
	return buffer;
}

/* Levenshtein, one row at a time; swapped neighbours count as one. */
unsigned text_distance(const char *a, const char *b, unsigned limit)
{
	enum {
		LONGEST = 64
	};
	unsigned before[LONGEST + 1] = {0};
	unsigned above[LONGEST + 1];
	unsigned row[LONGEST + 1];
	size_t a_length = strlen(a);
	size_t b_length = strlen(b);
	size_t i;
	size_t j;

	if (a_length > LONGEST || b_length > LONGEST)
		return limit;
	for (j = 0; j <= b_length; j++)
		above[j] = (unsigned)j;
	for (i = 1; i <= a_length; i++) {
		row[0] = (unsigned)i;
		for (j = 1; j <= b_length; j++) {
			unsigned best = above[j - 1] + (a[i - 1] != b[j - 1]);

			best = MIN(best, above[j] + 1);
			best = MIN(best, row[j - 1] + 1);
			if (i > 1 && j > 1 && a[i - 1] == b[j - 2] &&
			    a[i - 2] == b[j - 1])
				best = MIN(best, before[j - 2] + 1);
			row[j] = best;
		}
		memcpy(before, above, sizeof(before));
		memcpy(above, row, (b_length + 1) * sizeof(row[0]));
	}
	return MIN(above[b_length], limit);
}

const char *text_nearest(const char *name, const char *const *candidates,
			 size_t count)
{
	unsigned longest = MAX(2u, (unsigned)(strlen(name) / 3));
	unsigned best = longest + 1;
	const char *nearest = NULL;
	size_t i;

	for (i = 0; i < count; i++) {
		unsigned distance =
			text_distance(name, candidates[i], longest + 1);

		/* "lr" is not near "k": something must be left of the name. */
		if (distance < best && distance < strlen(candidates[i])) {
			best = distance;
			nearest = candidates[i];
		}
	}
	return nearest;
}

/* Length of the valid sequence at p, or 0: Unicode 15, table 3-7. */
static size_t utf8_sequence(const unsigned char *p, size_t left)
{
	unsigned char low = 0x80;
	unsigned char high = 0xBF;
	size_t length;
	size_t i;

	if (p[0] < 0x80)
		return 1;
	if (p[0] < 0xC2 || p[0] > 0xF4)
		return 0;
	length = p[0] < 0xE0 ? 2 : p[0] < 0xF0 ? 3 : 4;
	if (p[0] == 0xE0)
		low = 0xA0;
	if (p[0] == 0xED)
		high = 0x9F;
	if (p[0] == 0xF0)
		low = 0x90;
	if (p[0] == 0xF4)
		high = 0x8F;
	if (length > left || p[1] < low || p[1] > high)
		return 0;
	for (i = 2; i < length; i++)
		if (p[i] < 0x80 || p[i] > 0xBF)
			return 0;
	return length;
}

bool text_is_utf8(const void *bytes, size_t length, size_t *bad)
{
	const unsigned char *p = bytes;
	size_t i = 0;

	while (i < length) {
		size_t step = utf8_sequence(p + i, length - i);

		if (step == 0) {
			*bad = i;
			return false;
		}
		i += step;
	}
	return true;
}

void text_builder_init(struct text_builder *builder)
{
	memset(builder, 0, sizeof(*builder));
}

/* Room for `extra` more bytes and a NUL. */
static bool builder_reserve(struct text_builder *builder, size_t extra)
{
	size_t needed;
	size_t capacity = MAX(builder->capacity, (size_t)64);
	char *data;

	if (builder->failed || !checked_add(builder->length, extra, &needed) ||
	    needed > SIZE_MAX / 4) {
		builder->failed = true;
		return false;
	}
	if (needed < builder->capacity)
		return true;
	while (capacity <= needed)
		capacity *= 2;
	data = realloc(builder->data, capacity);
	if (!data) {
		builder->failed = true;
		return false;
	}
	builder->data = data;
	builder->capacity = capacity;
	return true;
}

void text_builder_append_bytes(struct text_builder *builder, const void *bytes,
			       size_t length)
{
	if (!builder_reserve(builder, length))
		return;
	if (length > 0)
		memcpy(builder->data + builder->length, bytes, length);
	builder->length += length;
	builder->data[builder->length] = '\0';
}

void text_builder_append(struct text_builder *builder, const char *format, ...)
{
	va_list arguments;
	int length;

	va_start(arguments, format);
	length = vsnprintf(NULL, 0, format, arguments);
	va_end(arguments);
	if (length < 0) {
		builder->failed = true;
		return;
	}
	if (!builder_reserve(builder, (size_t)length))
		return;
	va_start(arguments, format);
	vsnprintf(builder->data + builder->length, (size_t)length + 1, format,
		  arguments);
	va_end(arguments);
	builder->length += (size_t)length;
}

char *text_builder_finish(struct text_builder *builder)
{
	char *data;

	text_builder_append_bytes(builder, "", 0); /* "" rather than NULL */
	if (builder->failed) {
		text_builder_fini(builder);
		return NULL;
	}
	data = builder->data;
	text_builder_init(builder);
	return data;
}

void text_builder_fini(struct text_builder *builder)
{
	free(builder->data);
	text_builder_init(builder);
}

int text_copy(char *out, size_t size, const char *text)
{
	size_t length = strnlen(text, size);
	bool cut = length == size;

	ASSERT(size > 0);
	if (cut)
		length = size - 1;
	memmove(out, text, length);
	out[length] = '\0';
	return cut ? -ENAMETOOLONG : 0;
}
