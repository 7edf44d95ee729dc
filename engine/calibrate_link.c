/*
 * What a message costs on this machine: two endpoints as those of two ranks,
 * in two threads. A long message goes one way and a short one comes back.
 *
 * Times on the clock come from endpoints that spin, as the ranks' do; the
 * ranks' own time, in which they do not compute, from the processor time of
 * threads that sleep while they wait.
 */
#include "base/log.h"
#include "base/numbers.h"
#include "engine/calibrate.h"
#include "transport/transport.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define SHORT_BYTES   64u
#define LONG_MAX      ((size_t)4 << 20)
#define ROUNDS_BYTES  ((size_t)16 << 20) /* about as many in all */
#define ROUNDS_MIN    5u
#define ROUNDS_MAX    40u
#define ROUNDS_WARM   2u
#define TIMEOUT_NS    (5 * NS_PER_SECOND)
#define CALIBRATE_JOB 1

struct pair;

struct end {
	struct pair *pair;
	unsigned rank;
	struct transport_endpoint *endpoint;
	char address[TRANSPORT_ADDRESS_BYTES];
	unsigned char *memory; /* out, then in */
	pthread_t thread;
	uint64_t to_send, to_receive; /* posted so far */
	uint64_t sent, received;
	double processor_seconds; /* a round */
	int rc;
};

struct pair {
	struct end ends[2];
	size_t capacity; /* bytes of the longest message */
	/* The rounds at hand. */
	size_t bytes; /* there; SHORT_BYTES back */
	unsigned rounds;
	double seconds[ROUNDS_MAX]; /* a round, on the clock */
};

static double processor_seconds(void)
{
	struct timespec now;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
	return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

static size_t slot_bytes(const struct pair *pair)
{
	return (pair->capacity + 4095) / 4096 * 4096;
}

/* ---- rounds ---- */

/* Until so many messages in all have been sent and received. */
static int reach(struct end *end, uint64_t sent, uint64_t received)
{
	int64_t deadline_ns = clock_now_ns() + TIMEOUT_NS;
	struct transport_completion done;

	while (end->sent < sent || end->received < received) {
		int count = transport_progress(end->endpoint, &done, 1);
		int rc = 0;

		if (count < 0)
			return count;
		if (count == 0)
			rc = transport_wait(end->endpoint, deadline_ns, -1);
		else if (done.event == TRANSPORT_SENT)
			end->sent++;
		else
			end->received++;
		if (rc)
			return fail(rc, "measuring the links: %s",
				    strerror(-rc));
	}
	return 0;
}

static int post_receive(struct end *end, size_t bytes)
{
	return transport_post_recv(end->endpoint, !end->rank, end->to_receive++,
				   end->memory + slot_bytes(end->pair), bytes,
				   NULL);
}

static int post_send(struct end *end, size_t bytes)
{
	return transport_post_send(end->endpoint, !end->rank, end->to_send++,
				   end->memory, bytes, NULL);
}

/* A receive is posted before what it takes is sent. */
static int ask(struct end *end)
{
	int rc = post_receive(end, SHORT_BYTES);

	if (!rc)
		rc = post_send(end, end->pair->bytes);
	return rc ? rc : reach(end, end->to_send, end->to_receive);
}

static int answer(struct end *end, bool last)
{
	uint64_t expected = end->to_receive;
	int rc = reach(end, end->to_send, expected);

	if (!rc && !last)
		rc = post_receive(end, end->pair->bytes);
	if (!rc)
		rc = post_send(end, SHORT_BYTES);
	return rc ? rc : reach(end, end->to_send, expected);
}

static void *run_end(void *argument)
{
	struct end *end = argument;
	struct pair *pair = end->pair;
	unsigned rounds = ROUNDS_WARM + pair->rounds;
	double begin_seconds = 0;

	end->rc = end->rank ? post_receive(end, pair->bytes) : 0;
	for (unsigned i = 0; !end->rc && i < rounds; i++) {
		int64_t begin_ns = clock_now_ns();

		if (i == ROUNDS_WARM)
			begin_seconds = processor_seconds();
		end->rc = end->rank ? answer(end, i + 1 == rounds) : ask(end);
		if (end->rank == 0 && i >= ROUNDS_WARM)
			pair->seconds[i - ROUNDS_WARM] =
				clock_seconds(clock_now_ns() - begin_ns);
	}
	end->processor_seconds =
		(processor_seconds() - begin_seconds) / pair->rounds;
	return NULL;
}

static void *connect_end(void *argument)
{
	struct end *end = argument;
	const char *addresses[2] = {end->pair->ends[0].address,
				    end->pair->ends[1].address};
	unsigned peer = !end->rank;

	end->rc = transport_connect(end->endpoint, &peer, 1, addresses,
				    TIMEOUT_NS);
	return NULL;
}

/* Both ends at once, each in a thread of its own. */
static int run_both(struct pair *pair, void *(*function)(void *))
{
	unsigned started = 0;

	for (; started < 2; started++)
		if (pthread_create(&pair->ends[started].thread, NULL, function,
				   &pair->ends[started]))
			break;
	for (unsigned i = 0; i < started; i++)
		pthread_join(pair->ends[i].thread, NULL);
	if (started < 2)
		return fail(-EAGAIN, "cannot start a thread to measure with");
	return pair->ends[0].rc ? pair->ends[0].rc : pair->ends[1].rc;
}

/* ---- life ---- */

static int open_end(struct end *end, const struct transport_config *config)
{
	size_t bytes = 2 * slot_bytes(end->pair);
	void *memory;
	int rc = transport_open(config, &end->endpoint);

	if (!rc)
		rc = transport_listen(end->endpoint, end->address,
				      sizeof(end->address));
	if (!rc)
		rc = transport_create_region(end->endpoint, bytes, &memory);
	if (rc)
		return rc;
	end->memory = memory;
	memset(memory, 1, bytes);
	return 0;
}

static void close_pair(struct pair *pair)
{
	for (unsigned i = 0; i < 2; i++)
		transport_close(pair->ends[i].endpoint);
}

static int open_pair(struct pair *pair, const char *transport, const char *io,
		     bool spin, struct transport_hub *hub)
{
	struct transport_config config;
	int rc = 0;

	transport_config_default(&config);
	config.kind = transport;
	config.io = io;
	config.size = 2;
	config.job = CALIBRATE_JOB;
	config.epoch = spin;
	config.hub = hub;
	config.no_spin = !spin;
	for (unsigned i = 0; !rc && i < 2; i++) {
		struct end *end = &pair->ends[i];

		*end = (struct end){.pair = pair, .rank = i};
		config.rank = i;
		rc = open_end(end, &config);
	}
	return rc ? rc : run_both(pair, connect_end);
}

/* The median of a round with so many bytes there. */
static int time_rounds(struct pair *pair, size_t bytes, double *seconds)
{
	int rc;

	pair->bytes = bytes;
	pair->rounds = (unsigned)(ROUNDS_BYTES / MAX(bytes, 1));
	pair->rounds = MIN(MAX(pair->rounds, ROUNDS_MIN), ROUNDS_MAX);
	rc = run_both(pair, run_end);
	if (rc)
		return rc;
	*seconds = numbers_median(pair->seconds, pair->rounds);
	return 0;
}

static int measure_clock(struct pair *pair, struct costs *costs)
{
	double there_and_back, with_bytes = 0;
	int rc = time_rounds(pair, SHORT_BYTES, &there_and_back);

	if (!rc && pair->capacity > SHORT_BYTES)
		rc = time_rounds(pair, pair->capacity, &with_bytes);
	if (rc)
		return rc;
	costs->latency = there_and_back / 2;
	/* Below the clock's noise there is no limit to be seen. */
	costs->bandwidth =
		with_bytes > there_and_back
			? (double)pair->capacity / (with_bytes - there_and_back)
			: 0;
	return 0;
}

static int measure_processor(struct pair *pair, struct costs *costs)
{
	double factor =
		pair->capacity > SHORT_BYTES
			? MAX(costs->message_bytes / (double)pair->capacity, 1)
			: 1;
	double seconds, brief[2];
	int rc = time_rounds(pair, SHORT_BYTES, &seconds);

	for (unsigned i = 0; i < 2; i++)
		brief[i] = pair->ends[i].processor_seconds / 2;
	if (!rc)
		rc = time_rounds(pair, pair->capacity, &seconds);
	if (rc)
		return rc;
	costs->send =
		MAX(pair->ends[0].processor_seconds - brief[0], 0) * factor;
	costs->receive =
		MAX(pair->ends[1].processor_seconds - brief[1], 0) * factor;
	return 0;
}

int calibrate_link(const char *transport, const char *io, struct costs *costs)
{
	struct transport_hub *hub = transport_hub_create(2);
	struct pair *pair = calloc(1, sizeof(*pair));
	size_t bytes = (size_t)MIN(costs->message_bytes, (double)LONG_MAX);
	int rc = 0;

	if (!hub || !pair)
		rc = fail(-ENOMEM, "no memory to measure the links");
	/* Where memory is shared messages are computed where they are read. */
	if (pair)
		pair->capacity = strcmp(transport, "inproc") == 0 ||
						 strcmp(transport, "shm") == 0
					 ? SHORT_BYTES
					 : MAX(bytes, SHORT_BYTES);
	for (unsigned spin = 0; !rc && spin < 2; spin++) {
		rc = open_pair(pair, transport, io, spin, hub);
		if (!rc)
			rc = spin ? measure_clock(pair, costs)
				  : measure_processor(pair, costs);
		close_pair(pair);
	}
	free(pair);
	transport_hub_destroy(hub);
	return rc;
}
