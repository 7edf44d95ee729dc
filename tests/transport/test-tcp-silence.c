/*
 * Links over which nothing comes any more. A socket filter drops every packet
 * to one end: neither end learns more of it than of a cut cable.
 */
#include <errno.h>
#include <linux/filter.h>
#include <pthread.h>
#include <stdint.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "tests/transport/world.h"
#include "transport/tcp/tcp.h"

#define SILENCE_NS (2 * SECOND)
#define LATEST_NS  (SILENCE_NS + SECOND)
#define BYTES      ((size_t)64 << 20) /* more than any socket buffer */

static const struct conformance_transport transports[] = {
	{.name = "tcp-sockets", .kind = "tcp", .io = "sockets"},
	{.name = "tcp-uring", .kind = "tcp", .io = "uring"},
};

struct play {
	struct world world;
	unsigned char *memory[2];
	int status[2];
	int64_t failed_ns[2];
	int64_t begin_ns;
	unsigned received;
};

/* False: this kernel refuses io_uring. */
static bool begin(struct play *play,
		  const struct conformance_transport *transport)
{
	struct transport_endpoint *endpoint;
	unsigned i;

	*play = (struct play){.received = 0};
	log_capture();
	world_init(&play->world, transport, 2);
	if (transport_open(&play->world.config[0], &endpoint) < 0) {
		CHECK(log_has("refuses io_uring"));
		return false;
	}
	transport_close(endpoint);
	for (i = 0; i < 2; i++)
		play->world.config[i].silence_ns = SILENCE_NS;
	world_open(&play->world);
	world_connect(&play->world, 10 * SECOND);
	for (i = 0; i < 2; i++) {
		CHECK_EQUAL(play->world.connected[i], 0);
		play->memory[i] = region(play->world.endpoint[i], BYTES);
	}
	return true;
}

static void end(struct play *play)
{
	world_close(&play->world);
	free(play->memory[0]);
	free(play->memory[1]);
}

/* From now on no packet reaches this end. */
static void deafen(struct play *play, unsigned rank)
{
	const struct tcp_endpoint *endpoint =
		(const void *)play->world.endpoint[rank];
	struct sock_filter code[] = {BPF_STMT(BPF_RET | BPF_K, 0)};
	struct sock_fprog program = {.len = 1, .filter = code};

	CHECK_EQUAL(setsockopt(endpoint->links[0].fd, SOL_SOCKET,
			       SO_ATTACH_FILTER, &program, sizeof(program)),
		    0);
	play->begin_ns = clock_now_ns();
}

static void drive(struct play *play, int64_t duration_ns)
{
	int64_t end_ns = clock_now_ns() + duration_ns;
	struct transport_completion done;
	unsigned i;
	int status;

	while (clock_now_ns() < end_ns) {
		for (i = 0; i < 2; i++) {
			if (play->status[i])
				continue;
			status = transport_progress(play->world.endpoint[i],
						    &done, 1);
			if (status == 1 && done.event == TRANSPORT_RECEIVED)
				play->received++;
			if (status >= 0)
				continue;
			play->status[i] = status;
			play->failed_ns[i] = clock_now_ns();
		}
		if (play->status[0] && play->status[1])
			return;
		clock_sleep_ns(5 * MS);
	}
}

static void post_receive(struct play *play, unsigned rank, size_t bytes)
{
	CHECK_EQUAL(transport_post_recv(play->world.endpoint[rank], !rank, 7,
					play->memory[rank], bytes, NULL),
		    0);
}

static void post_send(struct play *play, unsigned rank, size_t bytes)
{
	CHECK_EQUAL(transport_post_send(play->world.endpoint[rank], !rank, 7,
					play->memory[rank], bytes, NULL),
		    0);
}

static void check_noticed(const struct play *play, unsigned rank)
{
	int64_t took_ns = play->failed_ns[rank] - play->begin_ns;

	CHECK_EQUAL(play->status[rank], -ETIMEDOUT);
	/* The probes count from the last packet, which came before. */
	CHECK(took_ns > SILENCE_NS / 2);
	CHECK(took_ns < LATEST_NS);
	CHECK(log_has("no answer from rank"));
	CHECK(log_has("(127.0.0.1) for 2."));
}

/* One sends, one waits: nothing passes in either direction. */
static void cut_while_sending(const struct conformance_transport *transport)
{
	struct play play;

	if (!begin(&play, transport))
		return;
	post_receive(&play, 1, BYTES);
	deafen(&play, 0);
	deafen(&play, 1);
	post_send(&play, 0, BYTES);
	drive(&play, 10 * SECOND);
	check_noticed(&play, 0);
	check_noticed(&play, 1);
	end(&play);
}

/* Both wait, nothing is under way. */
static void cut_while_waiting(const struct conformance_transport *transport)
{
	struct play play;

	if (!begin(&play, transport))
		return;
	post_receive(&play, 0, 100);
	post_receive(&play, 1, 100);
	deafen(&play, 0);
	deafen(&play, 1);
	drive(&play, 10 * SECOND);
	check_noticed(&play, 0);
	check_noticed(&play, 1);
	end(&play);
}

/* One hears the other, but not the other way round; the deaf one notices. */
static void cut_one_way(const struct conformance_transport *transport)
{
	struct play play;
	unsigned deaf;

	for (deaf = 0; deaf < 2; deaf++) {
		if (!begin(&play, transport))
			return;
		post_receive(&play, 0, 100);
		post_receive(&play, 1, BYTES);
		deafen(&play, deaf);
		post_send(&play, 0, BYTES);
		drive(&play, 10 * SECOND);
		check_noticed(&play, deaf);
		CHECK(play.status[!deaf] == -ETIMEDOUT ||
		      play.status[!deaf] == -ECONNRESET);
		end(&play);
	}
}

/*
 * The receiver computes for long and takes nothing: no packet of the sender is
 * left unanswered, so nothing is wrong. (TCP_USER_TIMEOUT thinks otherwise.)
 */
static void a_slow_reader_lives(const struct conformance_transport *transport)
{
	struct play play;

	if (!begin(&play, transport))
		return;
	post_send(&play, 0, BYTES);
	drive(&play, 3 * SILENCE_NS);
	CHECK_EQUAL(play.status[0], 0);
	CHECK_EQUAL(play.status[1], 0);
	CHECK_EQUAL(play.received, 0);
	post_receive(&play, 1, BYTES);
	drive(&play, SILENCE_NS);
	CHECK_EQUAL(play.received, 1);
	end(&play);
}

/* Idle for long, and then a message: the idle time does not count. */
static void an_idle_link_lives(const struct conformance_transport *transport)
{
	struct play play;

	if (!begin(&play, transport))
		return;
	post_receive(&play, 1, BYTES);
	drive(&play, 2 * SILENCE_NS);
	post_send(&play, 0, BYTES);
	drive(&play, SILENCE_NS);
	CHECK_EQUAL(play.status[0], 0);
	CHECK_EQUAL(play.status[1], 0);
	CHECK_EQUAL(play.received, 1);
	end(&play);
}

static void *ring_later(void *argument)
{
	uint64_t one = 1;

	clock_sleep_ns(100 * MS);
	CHECK_EQUAL(write(*(int *)argument, &one, sizeof(one)), sizeof(one));
	return NULL;
}

static void connect_is_woken(const struct conformance_transport *transport)
{
	int64_t begin_ns = clock_now_ns();
	static const unsigned peer = 1;
	struct world world;
	pthread_t thread;
	int fd = eventfd(0, EFD_CLOEXEC);

	if (strcmp(transport->io, "uring") == 0)
		return; /* connecting is common to both */
	CHECK(fd > 0);
	log_capture();
	world_init(&world, transport, 2);
	world.config[0].wake_fd = fd;
	world_open(&world);
	CHECK_EQUAL(pthread_create(&thread, NULL, ring_later, &fd), 0);
	CHECK_EQUAL(transport_connect(world.endpoint[0], &peer, 1,
				      world.addresses, 20 * SECOND),
		    -ECANCELED);
	CHECK(clock_now_ns() - begin_ns < SECOND);
	CHECK(!log_has("missing"));
	CHECK_EQUAL(pthread_join(thread, NULL), 0);
	world_close(&world);
	close(fd);
}

/* They wait for most of their time, so all of them run at once. */
static const struct {
	const char *name;
	void (*run)(const struct conformance_transport *transport);
} cases[] = {
	{"cut while sending", cut_while_sending},
	{"cut while waiting", cut_while_waiting},
	{"cut one way", cut_one_way},
	{"a slow reader lives", a_slow_reader_lives},
	{"an idle link lives", an_idle_link_lives},
	{"connect is woken", connect_is_woken},
};

static pid_t start(size_t number, size_t transport)
{
	pid_t pid = fork();

	if (pid == 0) {
		cases[number].run(&transports[transport]);
		_exit(0);
	}
	CHECK(pid > 0);
	return pid;
}

int main(void)
{
	pid_t pids[ARRAY_SIZE(cases)][ARRAY_SIZE(transports)];
	int failures = 0, number = 0, status;

	printf("1..%zu\n", ARRAY_SIZE(cases) * ARRAY_SIZE(transports));
	fflush(stdout);
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		for (size_t j = 0; j < ARRAY_SIZE(transports); j++)
			pids[i][j] = start(i, j);
	}
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		for (size_t j = 0; j < ARRAY_SIZE(transports); j++) {
			CHECK_EQUAL(waitpid(pids[i][j], &status, 0),
				    pids[i][j]);
			failures += status != 0;
			printf("%sok %d - %s, %s\n", status ? "not " : "",
			       ++number, cases[i].name, transports[j].name);
		}
	}
	return failures != 0;
}
