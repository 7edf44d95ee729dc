/*
 * Latency and bandwidth of every transport beside a bare blocking socket, in
 * one run: the contestants take turns, medians of several rounds. Not part
 * of make check. `bench-transport [rounds]`
 *
 * Ping-pong: half the round trip. Stream: one way, four messages in
 * flight, each into a slot of its own, and an answer at the end.
 */
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/text.h"
#include "transport/transport.h"

#define AHEAD      4
#define ROUNDS_MAX 31

enum kind {
	RAW,
	MESSAGES,
};

struct contestant {
	const char *name;
	enum kind kind;
	const char *transport;
	const char *io;
	bool checksum;
	bool no_spin;
};

static const struct contestant contestants[] = {
	{"raw socket, blocking", RAW, NULL, NULL, false, true},
	{"raw socket, spinning", RAW, NULL, NULL, false, false},
	{"tcp/uring, sleeping", MESSAGES, "tcp", "uring", false, true},
	{"tcp/uring, spinning", MESSAGES, "tcp", "uring", false, false},
	{"tcp/uring, checksum", MESSAGES, "tcp", "uring", true, false},
	{"tcp/sockets, sleeping", MESSAGES, "tcp", "sockets", false, true},
	{"tcp/sockets, spinning", MESSAGES, "tcp", "sockets", false, false},
	{"tcp/sockets, checksum", MESSAGES, "tcp", "sockets", true, false},
	{"inproc, sleeping", MESSAGES, "inproc", NULL, false, true},
	{"inproc, spinning", MESSAGES, "inproc", NULL, false, false},
};

/* One end of one contestant, and its memory. */
struct end {
	const struct contestant *who;
	int fd;
	struct transport_endpoint *endpoint;
	unsigned rank;
	unsigned char *out; /* AHEAD slots */
	unsigned char *in;
	size_t slot;
	uint64_t sent_tag, received_tag;
	unsigned sent, received; /* completions seen */
	/* the job at hand */
	size_t bytes;
	unsigned count;
	bool stream;
};

static _Noreturn void die(const char *what)
{
	fprintf(stderr, "bench-transport: %s: %s\n", what, strerror(errno));
	exit(1);
}

static void raw_send(struct end *end, unsigned char *data)
{
	size_t left = end->bytes;
	ssize_t moved;

	while (left) {
		moved = send(end->fd, data, left, MSG_NOSIGNAL);
		if (moved < 0)
			die("send");
		data += moved;
		left -= (size_t)moved;
	}
}

static void raw_receive(struct end *end, unsigned char *data)
{
	int flags = end->who->no_spin ? MSG_WAITALL : MSG_DONTWAIT;
	size_t left = end->bytes;
	ssize_t moved;

	while (left) {
		moved = recv(end->fd, data, left, flags);
		if (moved < 0 && errno == EAGAIN)
			continue;
		if (moved <= 0)
			die("recv");
		data += moved;
		left -= (size_t)moved;
	}
}

static void post_receive(struct end *end)
{
	uint64_t tag = end->received_tag++;

	if (transport_post_recv(end->endpoint, !end->rank, tag,
				end->in + tag % AHEAD * end->slot, end->bytes,
				NULL))
		die("post_recv");
}

static void post_send(struct end *end)
{
	uint64_t tag = end->sent_tag++;

	if (transport_post_send(end->endpoint, !end->rank, tag,
				end->out + tag % AHEAD * end->slot, end->bytes,
				NULL))
		die("post_send");
}

/* Until so many completions of both kinds have been seen in all. */
static void reach(struct end *end, unsigned sent, unsigned received)
{
	struct transport_completion done[8];
	int count;
	int i;

	while (end->sent < sent || end->received < received) {
		count = transport_progress(end->endpoint, done, 8);
		if (count < 0)
			exit(1);
		for (i = 0; i < count; i++) {
			end->sent += done[i].event == TRANSPORT_SENT;
			end->received += done[i].event == TRANSPORT_RECEIVED;
		}
		if (!count &&
		    transport_wait(end->endpoint,
				   clock_now_ns() + 10 * NS_PER_SECOND, -1))
			exit(1);
	}
}

static void raw_ping_pong(struct end *end)
{
	unsigned i;

	for (i = 0; i < end->count; i++) {
		if (end->rank == 0)
			raw_send(end, end->out);
		raw_receive(end, end->in);
		if (end->rank == 1)
			raw_send(end, end->out);
	}
}

static void ping_pong(struct end *end)
{
	unsigned i;

	end->sent = 0;
	end->received = 0;
	post_receive(end);
	for (i = 1; i <= end->count; i++) {
		if (end->rank == 0)
			post_send(end);
		reach(end, 0, i);
		if (i < end->count)
			post_receive(end);
		if (end->rank == 1)
			post_send(end);
	}
	reach(end, end->count, end->count);
}

static void raw_stream(struct end *end)
{
	size_t bytes = end->bytes;
	unsigned i;

	for (i = 0; i < end->count; i++) {
		if (end->rank == 0)
			raw_send(end, end->out + i % AHEAD * end->slot);
		else
			raw_receive(end, end->in + i % AHEAD * end->slot);
	}
	end->bytes = 1;
	if (end->rank == 0)
		raw_receive(end, end->in);
	else
		raw_send(end, end->out);
	end->bytes = bytes;
}

static void stream(struct end *end)
{
	size_t bytes = end->bytes;
	unsigned i;

	end->sent = 0;
	end->received = 0;
	for (i = 0; i < end->count; i++) {
		if (end->rank == 0)
			post_send(end);
		else
			post_receive(end);
		if (i + 1 < AHEAD)
			continue;
		if (end->rank == 0)
			reach(end, i + 2 - AHEAD, 0);
		else
			reach(end, 0, i + 2 - AHEAD);
	}
	reach(end, end->rank ? 0 : end->count, end->rank ? end->count : 0);
	end->bytes = 1;
	if (end->rank == 0)
		post_receive(end);
	else
		post_send(end);
	reach(end, end->rank, !end->rank);
	end->sent = 0;
	end->received = 0;
	end->bytes = bytes;
}

static void *work(void *argument)
{
	struct end *end = argument;

	if (end->who->kind == RAW && end->stream)
		raw_stream(end);
	else if (end->who->kind == RAW)
		raw_ping_pong(end);
	else if (end->stream)
		stream(end);
	else
		ping_pong(end);
	return NULL;
}

static double measure(struct end ends[2], size_t bytes, unsigned count,
		      bool is_stream)
{
	pthread_t thread;
	int64_t start;
	unsigned i;

	for (i = 0; i < 2; i++) {
		ends[i].bytes = bytes;
		ends[i].count = count;
		ends[i].stream = is_stream;
	}
	if (pthread_create(&thread, NULL, work, &ends[1]))
		die("pthread_create");
	start = clock_now_ns();
	work(&ends[0]);
	pthread_join(thread, NULL);
	return clock_seconds(clock_now_ns() - start);
}

static void raw_connect(struct end ends[2])
{
	struct sockaddr_in address = {.sin_family = AF_INET};
	socklen_t length = sizeof(address);
	int listener = socket(AF_INET, SOCK_STREAM, 0);
	int one = 1;
	int i;

	address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	if (bind(listener, (struct sockaddr *)&address, length) ||
	    listen(listener, 1) ||
	    getsockname(listener, (struct sockaddr *)&address, &length))
		die("listen");
	ends[0].fd = socket(AF_INET, SOCK_STREAM, 0);
	if (connect(ends[0].fd, (struct sockaddr *)&address, length))
		die("connect");
	ends[1].fd = accept(listener, NULL, NULL);
	close(listener);
	for (i = 0; i < 2; i++)
		setsockopt(ends[i].fd, IPPROTO_TCP, TCP_NODELAY, &one,
			   sizeof(one));
}

static const char *addresses[2];

static void *connect_end(void *argument)
{
	struct end *end = argument;
	unsigned peer = !end->rank;

	if (transport_connect(end->endpoint, &peer, 1, addresses,
			      5 * NS_PER_SECOND))
		exit(1);
	return NULL;
}

static void message_connect(const struct contestant *who, struct end ends[2],
			    struct transport_hub *hub)
{
	static char text[2][TRANSPORT_ADDRESS_BYTES];
	struct transport_config config;
	pthread_t thread;
	unsigned i;

	transport_config_default(&config);
	config.kind = who->transport;
	config.io = who->io;
	config.size = 2;
	config.job = 1;
	config.hub = hub;
	config.checksum = who->checksum;
	config.no_spin = who->no_spin;
	for (i = 0; i < 2; i++) {
		config.rank = i;
		if (transport_open(&config, &ends[i].endpoint) ||
		    transport_listen(ends[i].endpoint, text[i],
				     sizeof(text[i])) ||
		    transport_register(ends[i].endpoint, ends[i].out,
				       AHEAD * ends[i].slot) ||
		    transport_register(ends[i].endpoint, ends[i].in,
				       AHEAD * ends[i].slot))
			exit(1);
		addresses[i] = text[i];
	}
	if (pthread_create(&thread, NULL, connect_end, &ends[1]))
		die("pthread_create");
	connect_end(&ends[0]);
	pthread_join(thread, NULL);
}

static int compare(const void *a, const void *b)
{
	double x = *(const double *)a;
	double y = *(const double *)b;

	return (x > y) - (x < y);
}

static void print_row(const char *what, size_t bytes,
		      double seconds[][ROUNDS_MAX], unsigned rounds,
		      double factor, bool rate)
{
	char text[32];
	size_t i;

	printf("%-10s %9s", what, text_bytes(text, sizeof(text), bytes));
	for (i = 0; i < ARRAY_SIZE(contestants); i++) {
		qsort(seconds[i], rounds, sizeof(double), compare);
		if (rate)
			printf(" %8.3f", factor / seconds[i][rounds / 2]);
		else
			printf(" %8.2f", seconds[i][rounds / 2] / factor);
	}
	printf("\n");
	fflush(stdout);
}

static void run(struct end ends[][2], size_t bytes, bool is_stream,
		unsigned rounds)
{
	static double seconds[ARRAY_SIZE(contestants)][ROUNDS_MAX];
	unsigned count = is_stream        ? (unsigned)((192u << 20) / bytes)
			 : bytes > 100000 ? 60
					  : 600;
	unsigned round;
	size_t i;

	for (i = 0; i < ARRAY_SIZE(contestants); i++)
		measure(ends[i], bytes, count / 4, is_stream);
	for (round = 0; round < rounds; round++) {
		for (i = 0; i < ARRAY_SIZE(contestants); i++)
			seconds[i][round] =
				measure(ends[i], bytes, count, is_stream);
	}
	if (is_stream)
		print_row("GB/s", bytes, seconds, rounds,
			  (double)bytes * count / 1e9, true);
	else
		print_row("us one way", bytes, seconds, rounds, 2e-6 * count,
			  false);
}

int main(int argc, char **argv)
{
	static const size_t pings[] = {8, 4096, 65536, 1 << 20};
	static const size_t streams[] = {65536, 1 << 18, 1 << 20, 1 << 22};
	static struct end ends[ARRAY_SIZE(contestants)][2];
	struct transport_hub *hubs[ARRAY_SIZE(contestants)];
	int64_t rounds = 5;
	size_t i;
	unsigned j;

	if (argc > 1 && text_parse_integer(argv[1], 1, ROUNDS_MAX, &rounds)) {
		fprintf(stderr, "usage: bench-transport [rounds, 1 to %d]\n",
			ROUNDS_MAX);
		return 2;
	}
	for (i = 0; i < ARRAY_SIZE(contestants); i++) {
		for (j = 0; j < 2; j++) {
			ends[i][j] = (struct end){
				.who = &contestants[i],
				.rank = j,
				.slot = 1 << 22,
				.out = calloc(AHEAD, 1 << 22),
				.in = calloc(AHEAD, 1 << 22),
			};
			if (!ends[i][j].out || !ends[i][j].in)
				die("calloc");
			memset(ends[i][j].out, 1, AHEAD * (size_t)(1 << 22));
			memset(ends[i][j].in, 2, AHEAD * (size_t)(1 << 22));
		}
		hubs[i] = transport_hub_create(2);
		if (contestants[i].kind == RAW)
			raw_connect(ends[i]);
		else
			message_connect(&contestants[i], ends[i], hubs[i]);
		printf("column %zu: %s\n", i + 1, contestants[i].name);
	}
	for (i = 0; i < ARRAY_SIZE(pings); i++)
		run(ends, pings[i], false, (unsigned)rounds);
	for (i = 0; i < ARRAY_SIZE(streams); i++)
		run(ends, streams[i], true, (unsigned)rounds);
	for (i = 0; i < ARRAY_SIZE(contestants); i++) {
		for (j = 0; j < 2; j++) {
			transport_close(ends[i][j].endpoint);
			if (contestants[i].kind == RAW)
				close(ends[i][j].fd);
			free(ends[i][j].out);
			free(ends[i][j].in);
		}
		transport_hub_destroy(hubs[i]);
	}
	return 0;
}
