#include "base/log.h"
#include "base/random.h"
#include "engine/control.h"
#include "transport/secure/secure.h"
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#define LIMIT 4096

static void make_pair(struct control_channel *a, struct control_channel *b,
		      size_t queue_bytes)
{
	int fds[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
	assert_int_equal(
		control_channel_init(a, fds[0], LIMIT, queue_bytes, true), 0);
	assert_int_equal(
		control_channel_init(b, fds[1], LIMIT, queue_bytes, false), 0);
}

static void frames(void **state)
{
	unsigned char bytes[CONTROL_HEADER_BYTES + 300];
	size_t payload = 0;

	(void)state;
	control_encode_header(bytes, 300);
	for (size_t i = 0; i < sizeof(bytes); i++)
		assert_int_equal(control_frame(bytes, i, LIMIT, &payload), 0);
	assert_int_equal(control_frame(bytes, sizeof(bytes), LIMIT, &payload),
			 1);
	assert_int_equal(payload, 300);
	assert_int_equal(control_frame(bytes, 4, 299, &payload), -EMSGSIZE);
	memset(bytes, 0xff, 4);
	assert_int_equal(control_frame(bytes, 4, LIMIT, &payload), -EMSGSIZE);
}

static void parse_refuses(void **state)
{
	static const char *const bad[] = {
		"",
		"{",
		"[]",
		"null",
		"\"hello\"",
		"{}",
		"{\"kind\":1}",
		"{\"kind\":null}",
		"{\"kind\":\"helo\"}",
		"{\"kind\":\"hello\",\"kind\":\"hello\"}",
		"{\"kind\":\"hello\"} x",
		"{\"kind\":\"hel\xff\"}",
	};
	enum control_kind kind;
	json_t *message = NULL;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		assert_true(control_parse(bad[i], strlen(bad[i]), "test", &kind,
					  &message) < 0);
		assert_null(message);
	}
}

static void every_kind_round_trips(void **state)
{
	struct control_channel a, b;

	(void)state;
	make_pair(&a, &b, 1 << 16);
	for (unsigned i = 0; i < CONTROL_KINDS; i++) {
		enum control_kind kind;
		json_t *message;

		assert_int_equal(control_queue(&a, (enum control_kind)i,
					       json_pack("{s:i}", "n", i)),
				 0);
		assert_int_equal(control_flush(&a), 0);
		assert_int_equal(control_fill(&b), 1);
		assert_int_equal(control_next(&b, "test", &kind, &message), 1);
		assert_int_equal(kind, i);
		assert_int_equal(
			json_integer_value(json_object_get(message, "n")), i);
		json_decref(message);
		assert_int_equal(control_next(&b, "test", &kind, &message), 0);
		assert_int_equal(control_fill(&b), 0);
	}
	control_channel_fini(&a);
	assert_int_equal(control_fill(&b), -ECONNRESET);
	control_channel_fini(&b);
}

/* The stream comes in pieces of any size; several messages at once. */
static void pieces_of_any_size(void **state)
{
	struct random_key key = random_key_named(1, "pieces");
	unsigned char stream[20 * 600];
	struct control_channel a, b;
	unsigned taken = 0;
	size_t length = 0;

	(void)state;
	make_pair(&a, &b, 1 << 16);
	for (unsigned i = 0; i < 20; i++) {
		char text[600];
		int wrote = snprintf(text, sizeof(text),
				     "{\"kind\":\"event\",\"n\":%u,\"s\":"
				     "\"%0*d\"}",
				     i, (int)(1 + i * 25), 0);

		control_encode_header(stream + length, (size_t)wrote);
		memcpy(stream + length + 4, text, (size_t)wrote);
		length += 4 + (size_t)wrote;
	}
	for (size_t at = 0, step = 0; at < length; step++) {
		size_t piece = 1 + random_below(key, step, 700);
		enum control_kind kind;
		json_t *message;

		piece = MIN(piece, length - at);
		assert_int_equal(send(a.fd, stream + at, piece, 0), piece);
		at += piece;
		while (control_fill(&b) > 0) {
			while (control_next(&b, "test", &kind, &message) > 0) {
				assert_int_equal(
					json_integer_value(
						json_object_get(message, "n")),
					taken++);
				json_decref(message);
			}
		}
	}
	assert_int_equal(taken, 20);
	control_channel_fini(&a);
	control_channel_fini(&b);
}

/* A length that lies costs what came, not what it promised. */
static void lying_length_allocates_little(void **state)
{
	unsigned char header[4];
	struct control_channel a, b;
	enum control_kind kind;
	json_t *message;

	(void)state;
	make_pair(&a, &b, 1 << 16);
	b.limit_bytes = CONTROL_MESSAGE_BYTES;
	control_encode_header(header, CONTROL_MESSAGE_BYTES);
	assert_int_equal(send(a.fd, header, 4, 0), 4);
	assert_int_equal(control_fill(&b), 1);
	assert_int_equal(control_next(&b, "test", &kind, &message), 0);
	assert_true(b.in_capacity <= 4096);
	control_channel_fini(&a);
	control_channel_fini(&b);
}

static void oversized_is_refused(void **state)
{
	unsigned char header[4];
	struct control_channel a, b;
	enum control_kind kind;
	json_t *message;

	(void)state;
	make_pair(&a, &b, 1 << 16);
	control_encode_header(header, LIMIT + 1);
	assert_int_equal(send(a.fd, header, 4, 0), 4);
	assert_int_equal(control_fill(&b), 1);
	assert_int_equal(control_next(&b, "test", &kind, &message), -EMSGSIZE);
	control_channel_fini(&a);
	control_channel_fini(&b);
}

/* The longest message allowed does get through. */
static void longest_passes(void **state)
{
	struct control_channel a, b;
	char text[LIMIT + 1];
	enum control_kind kind;
	json_t *message;
	int got = 0;

	(void)state;
	make_pair(&a, &b, 1 << 16);
	memset(text, ' ', LIMIT);
	memcpy(text, "{\"kind\":\"bye\"", 13);
	text[LIMIT - 1] = '}';
	text[LIMIT] = '\0';
	assert_int_equal(control_queue_parts(&a, "", text, LIMIT, ""), 0);
	assert_int_equal(control_flush(&a), 0);
	while (got == 0) {
		assert_int_equal(control_fill(&b), 1);
		got = control_next(&b, "test", &kind, &message);
	}
	assert_int_equal(got, 1);
	assert_int_equal(kind, CONTROL_BYE);
	json_decref(message);
	control_channel_fini(&a);
	control_channel_fini(&b);
}

static void queue_is_bounded(void **state)
{
	struct control_channel a, b;
	unsigned char *before;
	char text[1000];
	unsigned queued = 0;

	(void)state;
	make_pair(&a, &b, 10000);
	memset(text, '1', sizeof(text));
	before = a.out;
	while (control_queue_parts(&a, "", text, sizeof(text), "") == 0)
		queued++;
	assert_int_equal(queued, 9);
	assert_int_equal(control_queue_parts(&a, "", text, sizeof(text), ""),
			 -EAGAIN);
	assert_ptr_equal(a.out, before); /* reserved: did not move */
	assert_int_equal(control_flush(&a), 0);
	assert_int_equal(control_queue_parts(&a, "", text, sizeof(text), ""),
			 0);
	assert_int_equal(control_queue_parts(&a, "", text,
					     CONTROL_MESSAGE_BYTES + 1, ""),
			 -EMSGSIZE);
	control_channel_fini(&a);
	control_channel_fini(&b);
}

/* Random bytes and flipped messages never crash and never loop. */
static void random_bytes(void **state)
{
	static const char good[] =
		"{\"kind\":\"hello\",\"version\":1,\"pid\":4711}";
	struct random_key key = random_key_named(7, "fuzz");
	uint64_t counter = 0;

	(void)state;
	for (unsigned round = 0; round < 2000; round++) {
		struct control_channel a, b;
		unsigned char bytes[4 + sizeof(good)];
		enum control_kind kind;
		json_t *message;
		int rc = 1;

		make_pair(&a, &b, 1 << 12);
		control_encode_header(bytes, sizeof(good) - 1);
		memcpy(bytes + 4, good, sizeof(good));
		for (unsigned i = 0; i < 1 + round % 8; i++) {
			size_t at =
				random_below(key, counter++, sizeof(bytes) - 1);

			bytes[at] ^=
				(unsigned char)(1 + random_below(key, counter++,
								 255));
		}
		assert_int_equal(send(a.fd, bytes, sizeof(bytes) - 1, 0),
				 sizeof(bytes) - 1);
		assert_int_equal(control_fill(&b), 1);
		for (unsigned i = 0; i < 100 && rc > 0; i++) {
			rc = control_next(&b, "fuzz", &kind, &message);
			if (rc > 0)
				json_decref(message);
		}
		assert_true(rc <= 0);
		control_channel_fini(&a);
		control_channel_fini(&b);
	}
}

static void seal_pair(struct control_channel *a, struct control_channel *b)
{
	unsigned char there[SECURE_KEY_BYTES], back[SECURE_KEY_BYTES];

	memset(there, 1, sizeof(there));
	memset(back, 2, sizeof(back));
	assert_int_equal(control_channel_seal(a, there, back), 0);
	assert_int_equal(control_channel_seal(b, back, there), 0);
}

/* Longer than a record, and more than a socket takes at once. */
static void sealed_messages_arrive(void **state)
{
	static char text[200000];
	struct control_channel a, b;
	unsigned sent = 0, came = 0;
	enum control_kind kind;
	json_t *message;

	(void)state;
	make_pair(&a, &b, sizeof(text) + 100);
	b.limit_bytes = sizeof(text) + 100;
	seal_pair(&a, &b);
	memset(text, 'x', sizeof(text) - 1);
	while (came < 20) {
		int rc;

		if (sent < 20 && control_queue(&a, CONTROL_DONE,
					       json_pack("{s:s, s:i}", "result",
							 text, "n", sent)) == 0)
			sent++;
		assert_true(control_flush(&a) >= 0);
		rc = control_fill(&b);
		assert_true(rc >= 0);
		rc = control_next(&b, "test", &kind, &message);
		assert_true(rc >= 0);
		if (rc == 0)
			continue;
		assert_int_equal(kind, CONTROL_DONE);
		assert_int_equal(
			json_integer_value(json_object_get(message, "n")),
			came++);
		assert_int_equal(
			json_string_length(json_object_get(message, "result")),
			sizeof(text) - 1);
		json_decref(message);
	}
	assert_false(control_pending(&a));
	control_channel_fini(&a);
	assert_int_equal(control_fill(&b), -ECONNRESET);
	control_channel_fini(&b);
}

/* Any byte changed, and plain text: found before a message is made of it. */
static void sealed_bytes_do_not_change(void **state)
{
	static const char plain[] = "\x0e\x00\x00\x00{\"kind\":\"bye\"}";

	(void)state;
	for (unsigned at = 0;; at++) {
		struct control_channel a, b, c, d;
		unsigned char bytes[256];
		ssize_t got;
		int rc;

		make_pair(&a, &b, LIMIT);
		make_pair(&c, &d, LIMIT);
		seal_pair(&a, &b);
		seal_pair(&c, &d);
		assert_int_equal(control_queue(&a, CONTROL_BYE, json_object()),
				 0);
		assert_int_equal(control_flush(&a), 0);
		got = recv(b.fd, bytes, sizeof(bytes), 0);
		assert_true(got > 20 && at <= (unsigned)got);
		if (at < (unsigned)got)
			bytes[at] ^= 1;
		else
			memcpy(bytes, plain, sizeof(plain) - 1);
		assert_int_equal(send(c.fd, bytes, (size_t)got, 0), got);
		control_channel_fini(&c);
		while ((rc = control_fill(&d)) > 0)
			assert_int_equal(d.in_end, 0);
		assert_int_equal(d.in_end, 0);
		assert_true(rc == -EBADMSG || rc == -EMSGSIZE ||
			    rc == -ECONNRESET);
		control_channel_fini(&a);
		control_channel_fini(&b);
		control_channel_fini(&d);
		if (at == (unsigned)got)
			return;
	}
}

/* Whole messages only, as they are; what does not fit waits. */
static void messages_are_handed_on(void **state)
{
	struct control_channel a, b, c, d;
	enum control_kind kind;
	json_t *message;
	unsigned handed = 0;

	(void)state;
	make_pair(&a, &b, LIMIT);
	make_pair(&c, &d, 100);
	for (int i = 0; i < 10; i++)
		assert_int_equal(control_queue(&a, CONTROL_STOP,
					       json_pack("{s:i}", "signal", i)),
				 0);
	assert_int_equal(control_queue_parts(&a, "{\"ki", "", 0, ""), 0);
	a.out_end--; /* the last one is not whole */
	assert_int_equal(control_flush(&a), 0);
	assert_int_equal(control_fill(&b), 1);
	assert_true(control_forward(&b, &c, "test") < 10);
	for (int i = 0; i < 10;) {
		assert_true(control_flush(&c) >= 0);
		assert_true(control_forward(&b, &c, "test") >= 0);
		assert_true(control_fill(&d) >= 0);
		while (control_next(&d, "test", &kind, &message) == 1) {
			assert_int_equal(kind, CONTROL_STOP);
			assert_int_equal(json_integer_value(json_object_get(
						 message, "signal")),
					 i++);
			json_decref(message);
			handed++;
		}
	}
	assert_int_equal(handed, 10);
	assert_int_equal(control_forward(&b, &c, "test"), 0);
	assert_true(b.in_end - b.in_start > 0);
	b.limit_bytes = 2;
	assert_int_equal(control_forward(&b, &c, "test"), -EMSGSIZE);
	control_channel_fini(&a);
	control_channel_fini(&b);
	control_channel_fini(&c);
	control_channel_fini(&d);
}

static void text_is_cleaned(void **state)
{
	char text[] = "disk \xff\xc3\xa4 is f\xc3";

	(void)state;
	control_clean_text(text);
	assert_string_equal(text, "disk ?\xc3\xa4 is f?");
}

static void quiet(void *argument, enum log_level level, const char *line)
{
	(void)argument;
	(void)level;
	(void)line;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(frames),
		cmocka_unit_test(parse_refuses),
		cmocka_unit_test(every_kind_round_trips),
		cmocka_unit_test(pieces_of_any_size),
		cmocka_unit_test(lying_length_allocates_little),
		cmocka_unit_test(oversized_is_refused),
		cmocka_unit_test(longest_passes),
		cmocka_unit_test(queue_is_bounded),
		cmocka_unit_test(random_bytes),
		cmocka_unit_test(sealed_messages_arrive),
		cmocka_unit_test(sealed_bytes_do_not_change),
		cmocka_unit_test(messages_are_handed_on),
		cmocka_unit_test(text_is_cleaned),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	log_set_sink(quiet, NULL);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
