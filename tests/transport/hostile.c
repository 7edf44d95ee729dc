/*
 * hostile COUNT PORT...: attacks listening sockets of this host, COUNT times
 * each, and says what it did. In turn: random bytes, silence, half a TLS
 * handshake byte by byte, a recorded one, one with another key, half a frame.
 * The last 100 connections stay open, so that the slow ones are slow.
 *
 * hostile --record FILE: the recording to be replayed is that file's content
 * (tests/fuzz/corpus/handshake/replayed-client, behind two bytes).
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "base/clock.h"
#include "transport/secure/secure.h"

#define OPEN_MAX_FDS 100
#define KINDS        6

static unsigned char recorded[4096];
static size_t recorded_bytes;
static unsigned made, refused, answered;

static int call(unsigned port)
{
	struct sockaddr_in remote = {
		.sin_family = AF_INET,
		.sin_port = htons((uint16_t)port),
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK),
	};
	struct timeval patience = {.tv_usec = 20000};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return -1;
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
	if (connect(fd, (struct sockaddr *)&remote, sizeof(remote))) {
		close(fd);
		refused++;
		return -1;
	}
	made++;
	return fd;
}

static void say(int fd, const void *bytes, size_t length)
{
	(void)!send(fd, bytes, length, MSG_NOSIGNAL | MSG_DONTWAIT);
}

static void say_noise(int fd, unsigned seed)
{
	unsigned char bytes[1000];

	for (size_t i = 0; i < sizeof(bytes); i++)
		bytes[i] = (unsigned char)(rand_r(&seed) >> 8);
	say(fd, bytes, sizeof(bytes));
}

/* As an honest rank would, but for the key. */
static void try_key(int fd)
{
	static const unsigned char key[SECURE_KEY_BYTES] = "a guess";
	struct secure_session *session;
	int64_t until_ns = clock_now_ns() + 20 * NS_PER_MS;
	short events = 0;
	int status;

	if (secure_session_create(fd, false, key, "link", &session))
		return;
	fcntl(fd, F_SETFL, O_NONBLOCK);
	do {
		struct pollfd ready = {.fd = fd};

		status = secure_session_step(session, &events);
		ready.events = events;
		if (status == -EAGAIN)
			poll(&ready, 1, 5);
	} while (status == -EAGAIN && clock_now_ns() < until_ns);
	if (!status)
		answered++; /* nobody may ever get here */
	secure_session_destroy(session);
}

static void attack(int fd, unsigned number)
{
	static const unsigned char frame[] = "SGCH\2\0\2\0half a frame";

	switch (number % KINDS) {
	case 0:
		say_noise(fd, number);
		break;
	case 1:
		break;
	case 2:
		say(fd, recorded, number % 7 + 1);
		break;
	case 3:
		say(fd, recorded, recorded_bytes);
		break;
	case 4:
		try_key(fd);
		break;
	default:
		say(fd, frame, sizeof(frame));
	}
}

static int record(const char *path)
{
	FILE *file = fopen(path, "rb");

	if (!file || fseek(file, 2, SEEK_SET))
		return -1;
	recorded_bytes = fread(recorded, 1, sizeof(recorded), file);
	fclose(file);
	return recorded_bytes > 100 ? 0 : -1;
}

static void attack_all(unsigned count, int ports, char **port)
{
	int fds[OPEN_MAX_FDS];
	unsigned next = 0;

	for (unsigned i = 0; i < OPEN_MAX_FDS; i++)
		fds[i] = -1;
	for (unsigned i = 0; i < count; i++) {
		for (int j = 0; j < ports; j++) {
			int *slot = &fds[next++ % OPEN_MAX_FDS];

			if (*slot >= 0) {
				say(*slot, recorded + 7, 1); /* trickles on */
				close(*slot);
			}
			*slot = call((unsigned)strtoul(port[j], NULL, 10));
			if (*slot >= 0)
				attack(*slot, i);
		}
	}
	for (unsigned i = 0; i < OPEN_MAX_FDS; i++)
		if (fds[i] >= 0)
			close(fds[i]);
}

int main(int argc, char **argv)
{
	if (argc < 5 || strcmp(argv[1], "--record") || record(argv[2])) {
		fprintf(stderr, "usage: hostile --record FILE COUNT PORT...\n");
		return 2;
	}
	attack_all((unsigned)strtoul(argv[3], NULL, 10), argc - 4, argv + 4);
	printf("%u connections made, %u not taken, %u let in\n", made, refused,
	       answered);
	return answered ? 1 : 0;
}
