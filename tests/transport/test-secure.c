/* Job keys, the handshake, and what protects the bytes behind it. */
#include "tests/unit/cmocka-tap.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "transport/secure/secure.h"

static char last_line[512];

static void keep_line(void *argument, enum log_level level, const char *line)
{
	(void)level;
	(void)argument;
	snprintf(last_line, sizeof(last_line), "%s", line);
}

/* ---- keys ---- */

static void write_file(const char *path, const char *text, mode_t mode)
{
	FILE *file = fopen(path, "w");

	assert_non_null(file);
	fputs(text, file);
	fclose(file);
	assert_int_equal(chmod(path, mode), 0);
}

static void test_key_text(void **state)
{
	unsigned char key[SECURE_KEY_BYTES], again[SECURE_KEY_BYTES];
	unsigned char other[SECURE_KEY_BYTES];
	char text[SECURE_KEY_TEXT_BYTES];

	(void)state;
	assert_int_equal(secure_key_make(key), 0);
	assert_int_equal(secure_key_make(other), 0);
	assert_memory_not_equal(key, other, sizeof(key));
	secure_key_write(key, text);
	assert_int_equal(strlen(text), 2 * SECURE_KEY_BYTES + 1);
	assert_int_equal(secure_key_parse(text, again), 0);
	assert_memory_equal(key, again, sizeof(key));
	text[10] = 'g';
	assert_int_equal(secure_key_parse(text, again), -EINVAL);
	secure_key_write(key, text);
	text[2 * SECURE_KEY_BYTES] = '0'; /* a digit too many */
	assert_int_equal(secure_key_parse(text, again), -EINVAL);
	text[2 * SECURE_KEY_BYTES - 1] = '\0'; /* one too few */
	assert_int_equal(secure_key_parse(text, again), -EINVAL);
	assert_int_equal(secure_key_parse("", again), -EINVAL);
}

static void test_key_file(void **state)
{
	static const char good[] = "000102030405060708090a0b0c0d0e0f"
				   "101112131415161718191A1B1C1D1E1F\n";
	char folder[] = "/tmp/stagecoach-key.XXXXXX";
	unsigned char key[SECURE_KEY_BYTES];
	char path[64];

	(void)state;
	assert_non_null(mkdtemp(folder));
	snprintf(path, sizeof(path), "%s/key", folder);
	assert_int_equal(secure_key_load(path, key), -ENOENT);
	write_file(path, good, 0600);
	assert_int_equal(secure_key_load(path, key), 0);
	for (unsigned i = 0; i < SECURE_KEY_BYTES; i++)
		assert_int_equal(key[i], i);
	write_file(path, good, 0640);
	assert_int_equal(secure_key_load(path, key), -EACCES);
	assert_non_null(strstr(last_line, "chmod 600"));
	write_file(path, "0001020304\n", 0600);
	assert_int_equal(secure_key_load(path, key), -EINVAL);
	assert_non_null(strstr(last_line, "stagecoach key"));
	assert_int_equal(secure_key_load(folder, key), -EINVAL);
	if (geteuid() == 0) {
		write_file(path, good, 0600);
		assert_int_equal(chown(path, 1234, 1234), 0);
		assert_int_equal(secure_key_load(path, key), -EACCES);
		assert_non_null(strstr(last_line, "another user"));
	}
	unlink(path);
	assert_int_equal(mkfifo(path, 0600), 0); /* must not block */
	assert_int_equal(secure_key_load(path, key), -EINVAL);
	unlink(path);
	rmdir(folder);
}

/* ---- the handshake ---- */

struct ends {
	int fd[2];
	struct secure_session *session[2]; /* client, server */
	int status[2];
};

static const unsigned char key_a[SECURE_KEY_BYTES] = {1, 2, 3};
static const unsigned char key_b[SECURE_KEY_BYTES] = {1, 2, 4};

static void open_ends(struct ends *ends, const unsigned char *client_key,
		      const unsigned char *server_key)
{
	assert_int_equal(
		socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, ends->fd),
		0);
	assert_int_equal(secure_session_create(ends->fd[0], false, client_key,
					       "test", &ends->session[0]),
			 0);
	assert_int_equal(secure_session_create(ends->fd[1], true, server_key,
					       "test", &ends->session[1]),
			 0);
	ends->status[0] = ends->status[1] = -EAGAIN;
}

static void close_ends(struct ends *ends)
{
	for (unsigned i = 0; i < 2; i++) {
		secure_session_destroy(ends->session[i]);
		close(ends->fd[i]);
	}
}

/* Both in turn until neither goes on. */
static void shake_hands(struct ends *ends)
{
	for (unsigned turn = 0; turn < 20; turn++) {
		for (unsigned i = 0; i < 2; i++) {
			short events = 0;

			if (ends->status[i] != -EAGAIN)
				continue;
			ends->status[i] =
				secure_session_step(ends->session[i], &events);
			if (ends->status[i] == -EAGAIN)
				assert_int_equal(events, POLLIN);
		}
	}
}

static void test_handshake(void **state)
{
	unsigned char keys[2][2][SECURE_KEY_BYTES];
	unsigned char more[2][SECURE_KEY_BYTES];
	unsigned char byte[8] = "behind";
	struct ends ends;

	(void)state;
	open_ends(&ends, key_a, key_a);
	shake_hands(&ends);
	assert_int_equal(ends.status[0], 0);
	assert_int_equal(ends.status[1], 0);
	for (unsigned i = 0; i < 2; i++)
		assert_int_equal(secure_session_export(ends.session[i], "data",
						       keys[i][0], keys[i][1]),
				 0);
	assert_memory_equal(keys[0][0], keys[1][1], SECURE_KEY_BYTES);
	assert_memory_equal(keys[0][1], keys[1][0], SECURE_KEY_BYTES);
	assert_memory_not_equal(keys[0][0], keys[0][1], SECURE_KEY_BYTES);
	assert_int_equal(secure_session_export(ends.session[0], "other",
					       more[0], more[1]),
			 0);
	assert_memory_not_equal(more[0], keys[0][0], SECURE_KEY_BYTES);
	/* The socket is clean: what is sent now arrives, and nothing else. */
	assert_int_equal(send(ends.fd[0], byte, 6, 0), 6);
	memset(byte, 0, sizeof(byte));
	assert_int_equal(recv(ends.fd[1], byte, sizeof(byte), 0), 6);
	assert_memory_equal(byte, "behind", 6);
	assert_int_equal(recv(ends.fd[0], byte, 1, 0), -1);
	close_ends(&ends);
	/* Another session of the same key has other keys. */
	open_ends(&ends, key_a, key_a);
	shake_hands(&ends);
	assert_int_equal(secure_session_export(ends.session[0], "data", more[0],
					       more[1]),
			 0);
	assert_memory_not_equal(more[0], keys[0][0], SECURE_KEY_BYTES);
	close_ends(&ends);
}

/* The client's bytes may arrive together with what it sends next. */
static void test_nothing_is_read_behind(void **state)
{
	struct ends ends;
	short events;
	char text[8];

	(void)state;
	open_ends(&ends, key_a, key_a);
	while (ends.status[0] == -EAGAIN) {
		ends.status[0] = secure_session_step(ends.session[0], &events);
		if (ends.status[0] == 0)
			assert_int_equal(send(ends.fd[0], "next", 4, 0), 4);
		ends.status[1] = secure_session_step(ends.session[1], &events);
	}
	assert_int_equal(ends.status[1], 0);
	assert_int_equal(recv(ends.fd[1], text, sizeof(text), 0), 4);
	assert_memory_equal(text, "next", 4);
	close_ends(&ends);
}

static void test_wrong_key(void **state)
{
	struct ends ends;

	(void)state;
	open_ends(&ends, key_a, key_b);
	shake_hands(&ends);
	assert_int_equal(ends.status[0], -EACCES);
	assert_int_equal(ends.status[1], -EACCES);
	for (unsigned i = 0; i < 2; i++)
		assert_non_null(
			strstr(secure_session_reason(ends.session[i]), "key"));
	close_ends(&ends);
}

static void test_wrong_purpose(void **state)
{
	struct ends ends;

	(void)state;
	open_ends(&ends, key_a, key_a);
	secure_session_destroy(ends.session[1]);
	assert_int_equal(secure_session_create(ends.fd[1], true, key_a, "else",
					       &ends.session[1]),
			 0);
	shake_hands(&ends);
	assert_int_equal(ends.status[0], -EACCES);
	assert_int_equal(ends.status[1], -EACCES);
	close_ends(&ends);
}

/* What a stranger may send, to either end. */
static void expect_refused(unsigned end, const void *bytes, size_t count)
{
	struct ends ends;
	short events;
	int status = -EAGAIN;

	open_ends(&ends, key_a, key_a);
	assert_int_equal(send(ends.fd[!end], bytes, count, 0), count);
	assert_int_equal(shutdown(ends.fd[!end], SHUT_WR), 0);
	for (unsigned turn = 0; status == -EAGAIN && turn < 100; turn++)
		status = secure_session_step(ends.session[end], &events);
	assert_true(status == -EACCES || status == -ECONNRESET);
	assert_true(secure_session_reason(ends.session[end])[0]);
	close_ends(&ends);
}

static void test_strangers(void **state)
{
	static const char http[] = "GET / HTTP/1.1\r\nHost: x\r\n\r\n";
	unsigned char bytes[8192];
	unsigned seed = 1;

	(void)state;
	for (unsigned end = 0; end < 2; end++) {
		expect_refused(end, "", 0);
		expect_refused(end, http, sizeof(http));
		for (unsigned i = 0; i < 200; i++) {
			for (size_t j = 0; j < sizeof(bytes); j++)
				bytes[j] = (unsigned char)rand_r(&seed);
			if (i % 2) {
				bytes[0] = 22; /* a handshake record */
				bytes[1] = 3;
				bytes[3] = (unsigned char)(i % 16);
			}
			expect_refused(end, bytes, 1 + i * 40);
		}
	}
}

/* At most 4 KiB are read, however many small records come. */
static void test_too_much(void **state)
{
	static const unsigned char record[6] = {20, 3, 3, 0, 1, 1};
	unsigned char flood[9000];
	struct ends ends;
	short events;
	int status = -EAGAIN, left;

	(void)state;
	for (size_t i = 0; i + 6 <= sizeof(flood); i += 6)
		memcpy(flood + i, record, 6);
	open_ends(&ends, key_a, key_a);
	assert_int_equal(send(ends.fd[0], flood, sizeof(flood), 0),
			 sizeof(flood));
	while (status == -EAGAIN)
		status = secure_session_step(ends.session[1], &events);
	assert_int_equal(status, -EACCES);
	for (left = 0; recv(ends.fd[1], flood, 1, 0) == 1;)
		left++;
	assert_true(left >= 9000 - SECURE_HANDSHAKE_BYTES_MAX);
	close_ends(&ends);
}

/*
 * A handshake in which one byte is changed on its way, each in turn; and one
 * that ends early: never a success at the end that got it.
 */
static void relay(struct ends *ends, unsigned from, size_t *seen, size_t spoil,
		  int *other)
{
	unsigned char byte;

	while (recv(other[from], &byte, 1, 0) == 1) {
		if (from == 0 && (*seen)++ == spoil)
			byte ^= 0x10;
		assert_int_equal(send(other[!from], &byte, 1, 0), 1);
	}
	(void)ends;
}

static void test_spoiled(void **state)
{
	size_t total = 1;

	(void)state;
	for (size_t spoil = 0; spoil < total; spoil++) {
		int client[2], server[2];
		int other[2];
		struct ends ends;
		size_t seen = 0;

		open_ends(&ends, key_a, key_a);
		for (unsigned i = 0; i < 2; i++) {
			secure_session_destroy(ends.session[i]);
			close(ends.fd[i]);
		}
		assert_int_equal(socketpair(AF_UNIX,
					    SOCK_STREAM | SOCK_NONBLOCK, 0,
					    client),
				 0);
		assert_int_equal(socketpair(AF_UNIX,
					    SOCK_STREAM | SOCK_NONBLOCK, 0,
					    server),
				 0);
		ends.fd[0] = client[0];
		ends.fd[1] = server[0];
		other[0] = client[1];
		other[1] = server[1];
		for (unsigned i = 0; i < 2; i++) {
			assert_int_equal(
				secure_session_create(ends.fd[i], i == 1, key_a,
						      "test", &ends.session[i]),
				0);
			ends.status[i] = -EAGAIN;
		}
		for (unsigned turn = 0; turn < 10; turn++) {
			for (unsigned i = 0; i < 2; i++) {
				short events;

				if (ends.status[i] == -EAGAIN)
					ends.status[i] = secure_session_step(
						ends.session[i], &events);
				relay(&ends, i, &seen, spoil, other);
			}
		}
		total = MAX(total, seen);
		assert_int_not_equal(ends.status[1], 0);
		close_ends(&ends);
		close(other[0]);
		close(other[1]);
	}
	assert_true(total > 200);
}

/* ---- ciphers ---- */

static void test_messages(void **state)
{
	static const unsigned char key[SECURE_KEY_BYTES] = {9};
	unsigned char text[1000], sealed[2][1000], opened[1000];
	unsigned char tag[2][SECURE_TAG_BYTES];
	struct secure_cipher *sends, *receives;

	(void)state;
	for (unsigned i = 0; i < sizeof(text); i++)
		text[i] = (unsigned char)(i * 7);
	assert_int_equal(secure_cipher_create(true, key, &sends), 0);
	for (unsigned i = 0; i < 2; i++) {
		secure_begin(sends);
		secure_add(sends, text, 10);
		secure_crypt(sends, text, sealed[i], 500);
		secure_crypt(sends, text + 500, sealed[i] + 500, 500);
		secure_seal(sends, tag[i]);
	}
	assert_memory_not_equal(sealed[0], text, sizeof(text));
	assert_memory_not_equal(sealed[0], sealed[1], sizeof(text));
	/* In order; cut up in another way. */
	assert_int_equal(secure_cipher_create(false, key, &receives), 0);
	for (unsigned i = 0; i < 2; i++) {
		secure_begin(receives);
		secure_add(receives, text, 3);
		secure_add(receives, text + 3, 7);
		secure_crypt(receives, sealed[i], opened, 1000);
		assert_int_equal(secure_open(receives, tag[i]), 0);
		assert_memory_equal(opened, text, sizeof(text));
	}
	secure_cipher_destroy(receives);
	/* The second first; the first twice. */
	for (unsigned first = 0; first < 2; first++) {
		assert_int_equal(secure_cipher_create(false, key, &receives),
				 0);
		for (unsigned i = 0; i <= !first; i++) {
			secure_begin(receives);
			secure_add(receives, text, 10);
			secure_crypt(receives, sealed[first], opened, 1000);
			assert_int_equal(secure_open(receives, tag[first]),
					 i == 0 && first == 0 ? 0 : -EBADMSG);
		}
		secure_cipher_destroy(receives);
	}
	secure_cipher_destroy(sends);
}

static int open_spoiled(unsigned bit, const unsigned char *text, size_t bytes)
{
	static const unsigned char key[SECURE_KEY_BYTES] = {5};
	unsigned char message[80], tag[SECURE_TAG_BYTES];
	struct secure_cipher *cipher;
	int status;

	memcpy(message, text, bytes);
	assert_int_equal(secure_cipher_create(true, key, &cipher), 0);
	secure_begin(cipher);
	secure_add(cipher, message, bytes);
	secure_seal(cipher, tag);
	secure_cipher_destroy(cipher);
	if (bit < 8 * bytes)
		message[bit / 8] ^= (unsigned char)(1 << bit % 8);
	else if (bit < 8 * (bytes + sizeof(tag)))
		tag[bit / 8 - bytes] ^= (unsigned char)(1 << bit % 8);
	assert_int_equal(secure_cipher_create(false, key, &cipher), 0);
	secure_begin(cipher);
	secure_add(cipher, message, bytes);
	status = secure_open(cipher, tag);
	secure_cipher_destroy(cipher);
	return status;
}

/* Every bit of a message with a MAC, and of the MAC. */
static void test_mac(void **state)
{
	unsigned char text[64] = "a message";

	(void)state;
	for (unsigned bit = 0; bit < 8 * (64 + SECURE_TAG_BYTES); bit++)
		assert_int_equal(open_spoiled(bit, text, 64), -EBADMSG);
	assert_int_equal(open_spoiled(8 * 80, text, 64), 0);
}

static void test_records(void **state)
{
	static const unsigned char key[SECURE_KEY_BYTES] = {7};
	unsigned char stream[3][100] = {0}, text[3][40];
	unsigned char *out = malloc(SECURE_RECORD_TEXT_BYTES_MAX);
	struct secure_cipher *sends, *receives;
	size_t bytes, used;

	(void)state;
	assert_non_null(out);
	assert_int_equal(secure_cipher_create(true, key, &sends), 0);
	for (unsigned i = 0; i < 3; i++) {
		memset(text[i], (int)i + 1, sizeof(text[i]));
		secure_record_seal(sends, text[i], i * 20, stream[i]);
	}
	assert_int_equal(secure_cipher_create(false, key, &receives), 0);
	for (unsigned i = 0; i < 3; i++) {
		size_t whole = i * 20 + SECURE_RECORD_OVERHEAD;

		for (size_t have = 0; have < whole; have++)
			assert_int_equal(secure_record_open(receives, stream[i],
							    have, out, &bytes,
							    &used),
					 0);
		assert_int_equal(secure_record_open(receives, stream[i],
						    whole + 5, out, &bytes,
						    &used),
				 1);
		assert_int_equal(bytes, i * 20);
		assert_int_equal(used, whole);
		assert_memory_equal(out, text[i], bytes);
	}
	/* Replayed. */
	assert_int_equal(secure_record_open(receives, stream[0], 100, out,
					    &bytes, &used),
			 -EBADMSG);
	secure_cipher_destroy(receives);
	/* Longer than any; shorter than sealed. */
	assert_int_equal(secure_cipher_create(false, key, &receives), 0);
	assert_int_equal(secure_record_open(receives,
					    (unsigned char *)"\1\0\1\0", 4, out,
					    &bytes, &used),
			 -EMSGSIZE);
	stream[0][0] ^= 1;
	assert_int_equal(secure_record_open(receives, stream[0], 100, out,
					    &bytes, &used),
			 -EBADMSG);
	secure_cipher_destroy(receives);
	secure_cipher_destroy(sends);
	free(out);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_key_text),
		cmocka_unit_test(test_key_file),
		cmocka_unit_test(test_handshake),
		cmocka_unit_test(test_nothing_is_read_behind),
		cmocka_unit_test(test_wrong_key),
		cmocka_unit_test(test_wrong_purpose),
		cmocka_unit_test(test_strangers),
		cmocka_unit_test(test_too_much),
		cmocka_unit_test(test_spoiled),
		cmocka_unit_test(test_messages),
		cmocka_unit_test(test_mac),
		cmocka_unit_test(test_records),
	};

	log_set_sink(keep_line, NULL);
	return RUN_TESTS("secure", tests);
}
