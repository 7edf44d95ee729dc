/*
 * The handshake before anything is proved: byte 0 of the input says which end
 * is attacked (bit 0: the one that accepts) and whether the attacker hangs up
 * in the end (bit 1), byte 1 how the rest is cut; the rest is what it says.
 *
 * The attacker may have recorded what one end said to another with the same key
 * (the corpus has), yet never gets through. No more than 4 KiB of it are read.
 */
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/fuzz/fuzz.h"
#include "transport/secure/secure.h"

#define LEAD_BYTES  2
#define INPUT_BYTES 16384

/* As in the corpus. */
static const unsigned char key[SECURE_KEY_BYTES] = "recorded, but not told";

static int go_on(struct secure_session *session)
{
	short events = 0;
	int status = secure_session_step(session, &events);

	FUZZ_CHECK(status != 0); /* or somebody got in */
	if (status == -EAGAIN)
		FUZZ_CHECK(events == POLLIN || events == POLLOUT);
	else
		FUZZ_CHECK(secure_session_reason(session)[0] != '\0');
	FUZZ_CHECK(status == -EAGAIN || status == -EACCES ||
		   status == -ECONNRESET || status == -EPIPE);
	return status;
}

/* What it says back must not fill the socket. */
static void hear(int fd)
{
	unsigned char bytes[4096];

	while (recv(fd, bytes, sizeof(bytes), MSG_DONTWAIT) > 0)
		;
}

static int attack(struct secure_session *session, int fd, const uint8_t *data,
		  size_t size, unsigned seed)
{
	int status = go_on(session);

	while (size && status == -EAGAIN) {
		size_t most = seed ? 1 + (seed * (size + 7)) % 509 : size;
		ssize_t sent = send(fd, data, most < size ? most : size,
				    MSG_NOSIGNAL | MSG_DONTWAIT);

		FUZZ_CHECK(sent > 0);
		data += sent;
		size -= (size_t)sent;
		status = go_on(session);
		hear(fd);
	}
	return status;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct secure_session *session;
	int status, fds[2], unread = 0;

	if (size < LEAD_BYTES || size > INPUT_BYTES)
		return 0;
	FUZZ_CHECK(!socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds));
	FUZZ_CHECK(!secure_session_create(fds[0], data[0] & 1, key, "fuzz",
					  &session));
	status = attack(session, fds[1], data + LEAD_BYTES, size - LEAD_BYTES,
			data[1]);
	if (data[0] & 2 && status == -EAGAIN) {
		shutdown(fds[1], SHUT_WR);
		status = go_on(session);
		FUZZ_CHECK(status != -EAGAIN);
	}
	/* Cut by nothing, all of it was sent: what is left was not read. */
	if (!data[1] && !ioctl(fds[0], FIONREAD, &unread) &&
	    size - LEAD_BYTES > (size_t)unread)
		FUZZ_CHECK(size - LEAD_BYTES - (size_t)unread <=
			   SECURE_HANDSHAKE_BYTES_MAX);
	secure_session_destroy(session);
	close(fds[0]);
	close(fds[1]);
	return 0;
}
