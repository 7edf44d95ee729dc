/* A peer in a process of its own, that is killed, or stopped for a while. */
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "tests/transport/world.h"

#define BULK ((size_t)32 << 20)

/* Rank 1, as its parent, rank 0, sees it. */
struct neighbour {
	pid_t pid;
	int from_it;
	int to_it; /* closed: it may end */
};

/* In the child. Neither `our` nor the memory is freed: it ends by _exit(). */
static void be_rank_1(struct world *world, int in, int out)
{
	static const unsigned zero = 0;

	CHECK_EQUAL(transport_open(&world->config[1], &world->endpoint[1]), 0);
	CHECK_EQUAL(transport_listen(world->endpoint[1], world->address[1],
				     TRANSPORT_ADDRESS_BYTES),
		    0);
	CHECK_EQUAL(write(out, world->address[1], TRANSPORT_ADDRESS_BYTES),
		    TRANSPORT_ADDRESS_BYTES);
	CHECK_EQUAL(read(in, world->address[0], TRANSPORT_ADDRESS_BYTES),
		    TRANSPORT_ADDRESS_BYTES);
	CHECK_EQUAL(transport_connect(world->endpoint[1], &zero, 1,
				      world->addresses, 10 * SECOND),
		    0);
}

/* Starts rank 1 and links with it; the child runs `body` and ends. */
static void neighbour_start(struct neighbour *neighbour, struct world *world,
			    const struct conformance_transport *transport,
			    void (*body)(struct world *world))
{
	static const unsigned one = 1;
	int to_us[2];
	int to_it[2];
	char byte;

	world_init(world, transport, 2);
	CHECK_EQUAL(pipe(to_us) | pipe(to_it), 0);
	neighbour->pid = fork();
	CHECK(neighbour->pid >= 0);
	if (neighbour->pid == 0) {
		close(to_it[1]);
		be_rank_1(world, to_it[0], to_us[1]);
		body(world);
		CHECK_EQUAL(read(to_it[0], &byte, 1), 0);
		_exit(0);
	}
	close(to_us[1]);
	close(to_it[0]);
	neighbour->from_it = to_us[0];
	neighbour->to_it = to_it[1];
	CHECK_EQUAL(transport_open(&world->config[0], &world->endpoint[0]), 0);
	CHECK_EQUAL(transport_listen(world->endpoint[0], world->address[0],
				     TRANSPORT_ADDRESS_BYTES),
		    0);
	CHECK_EQUAL(write(neighbour->to_it, world->address[0],
			  TRANSPORT_ADDRESS_BYTES),
		    TRANSPORT_ADDRESS_BYTES);
	CHECK_EQUAL(read(neighbour->from_it, world->address[1],
			 TRANSPORT_ADDRESS_BYTES),
		    TRANSPORT_ADDRESS_BYTES);
	CHECK_EQUAL(transport_connect(world->endpoint[0], &one, 1,
				      world->addresses, 10 * SECOND),
		    0);
}

static void neighbour_kill(struct neighbour *neighbour)
{
	int status;

	CHECK_EQUAL(kill(neighbour->pid, SIGKILL), 0);
	CHECK_EQUAL(waitpid(neighbour->pid, &status, 0), neighbour->pid);
	CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
	close(neighbour->from_it);
	close(neighbour->to_it);
}

static void neighbour_stop(const struct neighbour *neighbour)
{
	int status;

	CHECK_EQUAL(kill(neighbour->pid, SIGSTOP), 0);
	CHECK_EQUAL(waitpid(neighbour->pid, &status, WUNTRACED),
		    neighbour->pid);
	CHECK(WIFSTOPPED(status));
}

/* Sends a bit, and then is there until it is killed. */
static void victim(struct world *world)
{
	unsigned char *memory = region(world->endpoint[1], 100);

	CHECK_EQUAL(transport_post_send(world->endpoint[1], 0, 1, memory, 100,
					NULL),
		    0);
	next_completion(world->endpoint[1]);
}

static void case_peer_killed(const struct conformance_transport *transport)
{
	struct transport_completion done;
	struct neighbour neighbour;
	struct world world;
	unsigned char *memory;
	int64_t start;

	neighbour_start(&neighbour, &world, transport, victim);
	memory = region(world.endpoint[0], BULK);
	CHECK_EQUAL(
		transport_post_recv(world.endpoint[0], 1, 1, memory, 100, NULL),
		0);
	CHECK_EQUAL(next_completion(world.endpoint[0]).tag, 1);
	CHECK_EQUAL(
		transport_post_recv(world.endpoint[0], 1, 2, memory, 100, NULL),
		0);
	CHECK_EQUAL(transport_post_send(world.endpoint[0], 1, 3, memory, BULK,
					NULL),
		    0);
	CHECK_EQUAL(transport_progress(world.endpoint[0], &done, 1), 0);
	start = clock_now_ns();
	neighbour_kill(&neighbour);
	CHECK_EQUAL(world_fails(&world, 0), -ECONNRESET);
	CHECK(clock_now_ns() - start < patience(transport, SECOND));
	CHECK(log_has("rank 1"));
	CHECK_EQUAL(log_count("\n"), 1);
	world_close(&world);
	free(memory);
}

/* Takes what it is sent, answers with it, and asks for more. */
static void answerer(struct world *world)
{
	struct transport_endpoint *endpoint = world->endpoint[1];
	unsigned char *memory = region(endpoint, BULK);

	CHECK_EQUAL(transport_post_recv(endpoint, 0, 1, memory, BULK, NULL), 0);
	CHECK(next_completion(endpoint).event == TRANSPORT_RECEIVED);
	CHECK(pattern_holds(memory, BULK, 11));
	CHECK_EQUAL(transport_post_send(endpoint, 0, 2, memory, 1000, NULL), 0);
	CHECK(next_completion(endpoint).event == TRANSPORT_SENT);
	CHECK_EQUAL(transport_post_recv(endpoint, 0, 3, memory, BULK, NULL), 0);
}

/*
 * Whom the kernel has stopped is not dead: no call blocks for longer than it
 * says, nothing fails (that is for whoever watches the peers to declare),
 * and with the peer the link goes on.
 */
static void stay_calm(const struct conformance_transport *transport,
		      struct transport_endpoint *endpoint)
{
	int64_t until = clock_now_ns() + 300 * MS;
	struct transport_completion done;
	int64_t start;
	int status;

	while (clock_now_ns() < until) {
		start = clock_now_ns();
		status = transport_progress(endpoint, &done, 1);
		CHECK(status >= 0);
		CHECK(!status || done.event == TRANSPORT_SENT);
		CHECK(clock_now_ns() - start < patience(transport, SECOND));
		start = clock_now_ns();
		status = transport_wait(endpoint, start + 20 * MS, -1);
		CHECK(!status || status == -ETIMEDOUT);
		CHECK(clock_now_ns() - start < patience(transport, SECOND));
	}
}

static void case_peer_stopped(const struct conformance_transport *transport)
{
	struct transport_endpoint *endpoint;
	struct neighbour neighbour;
	unsigned char *memory;
	struct world world;
	int64_t start;

	neighbour_start(&neighbour, &world, transport, answerer);
	endpoint = world.endpoint[0];
	memory = region(endpoint, BULK + 1000);
	pattern_fill(memory, BULK, 11);
	neighbour_stop(&neighbour);
	CHECK_EQUAL(
		transport_post_recv(endpoint, 1, 2, memory + BULK, 1000, NULL),
		0);
	CHECK_EQUAL(transport_post_send(endpoint, 1, 1, memory, BULK, NULL), 0);
	stay_calm(transport, endpoint);
	CHECK_EQUAL(kill(neighbour.pid, SIGCONT), 0);
	while (next_completion(endpoint).event != TRANSPORT_RECEIVED)
		;
	CHECK_EQUAL(memcmp(memory + BULK, memory, 1000), 0);
	CHECK_EQUAL(log_count("\n"), 0);
	/* Nor does calling off wait for it, or closing. */
	neighbour_stop(&neighbour);
	CHECK_EQUAL(transport_post_send(endpoint, 1, 3, memory, BULK, NULL), 0);
	start = clock_now_ns();
	CHECK_EQUAL(transport_cancel(endpoint, 1, 5 * SECOND), 0);
	CHECK(clock_now_ns() - start < patience(transport, 2 * SECOND));
	start = clock_now_ns();
	world_close(&world);
	CHECK(clock_now_ns() - start < patience(transport, 3 * SECOND));
	neighbour_kill(&neighbour);
	free(memory);
}

const struct conformance_case conformance_process_cases[] = {
	{"peer killed", case_peer_killed},
	{"peer stopped", case_peer_stopped},
	{NULL, NULL},
};
