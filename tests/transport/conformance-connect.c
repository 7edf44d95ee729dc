/* Opening, meeting, registering; and those who do not belong. */
#include <arpa/inet.h>
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "base/clock.h"
#include "tests/transport/world.h"

/* Both ends fail, in time, and the log names the field. */
static void expect_difference(struct world *world, const char *word)
{
	int64_t start = clock_now_ns();
	unsigned i;

	world_open(world);
	world_connect(world, 250 * MS);
	CHECK(clock_now_ns() - start < 5 * SECOND);
	for (i = 0; i < 2; i++)
		CHECK(world->connected[i] == -EPROTO ||
		      world->connected[i] == -ETIMEDOUT);
	CHECK(world->connected[0] == -EPROTO || world->connected[1] == -EPROTO);
	/* Both say it, each once. */
	CHECK_EQUAL(log_count(word), 2);
	world_close(world);
}

static void case_wrong_job(const struct conformance_transport *transport)
{
	struct world world;

	world_init(&world, transport, 2);
	world.config[1].job = 0xbad;
	expect_difference(&world, "job 0xbad");
}

static void case_wrong_epoch(const struct conformance_transport *transport)
{
	struct world world;

	world_init(&world, transport, 2);
	world.config[0].epoch = 4711;
	expect_difference(&world, "epoch 4711");
}

static void
case_wrong_fingerprint(const struct conformance_transport *transport)
{
	struct world world;

	world_init(&world, transport, 2);
	world.config[1].fingerprint[31] = 1;
	expect_difference(&world, "fingerprints");
}

static void case_wrong_checksum(const struct conformance_transport *transport)
{
	struct world world;

	world_init(&world, transport, 2);
	world.config[1].checksum = false;
	expect_difference(&world, "checksum");
}

/*
 * Another key, and none where the peer has one. Whoever calls is told apart
 * at once; who is called cannot tell a rank with a wrong key from a stranger,
 * whom it must not fall for, and may wait for the right one to the end.
 */
static void expect_wrong_key(const struct conformance_transport *transport,
			     const unsigned char *keys[2])
{
	struct world world;
	int64_t start;
	unsigned i;

	log_capture();
	world_init(&world, transport, 2);
	for (i = 0; i < 2; i++) {
		world.config[i].key = keys[i];
		if (!keys[i])
			world.config[i].wire = TRANSPORT_WIRE_AUTO;
	}
	world_open(&world);
	start = clock_now_ns();
	world_connect(&world, patience(transport, SECOND));
	CHECK(clock_now_ns() - start < patience(transport, 5 * SECOND));
	for (i = 0; i < 2; i++)
		CHECK(world.connected[i] == -EACCES ||
		      world.connected[i] == -EPROTO ||
		      world.connected[i] == -ETIMEDOUT);
	CHECK(world.connected[0] != -ETIMEDOUT ||
	      world.connected[1] != -ETIMEDOUT);
	CHECK(log_has("key"));
	CHECK(log_has("rank 0") && log_has("rank 1"));
	world_close(&world);
}

static void case_wrong_key(const struct conformance_transport *transport)
{
	static const unsigned char a[TRANSPORT_KEY_BYTES] = {1, 2, 3};
	static const unsigned char b[TRANSPORT_KEY_BYTES] = {1, 2, 4};
	struct tally tallies[WORLD_MAX] = {0};
	unsigned char *memory[2];
	struct world world;
	unsigned i;

	expect_wrong_key(transport, (const unsigned char *[]){a, b});
	expect_wrong_key(transport, (const unsigned char *[]){a, NULL});
	expect_wrong_key(transport, (const unsigned char *[]){NULL, b});
	/* The control: with the right one they meet. */
	world_init(&world, transport, 2);
	for (i = 0; i < 2; i++)
		world.config[i].key = a;
	world_open(&world);
	world_connect(&world, 20 * SECOND);
	CHECK_EQUAL(world.connected[0] | world.connected[1], 0);
	for (i = 0; i < 2; i++)
		memory[i] = region(world.endpoint[i], 1000);
	CHECK_EQUAL(transport_post_recv(world.endpoint[1], 0, 1, memory[1],
					1000, NULL),
		    0);
	CHECK_EQUAL(transport_post_send(world.endpoint[0], 1, 1, memory[0],
					1000, NULL),
		    0);
	world_finish(&world, tallies, 0, 1, 1, 1);
	world_close(&world);
	free(memory[0]);
	free(memory[1]);
}

static void case_missing(const struct conformance_transport *transport)
{
	static const unsigned peers[] = {0, 2};
	struct world world;
	int64_t start;

	world_init(&world, transport, 3);
	world_open(&world);
	start = clock_now_ns();
	CHECK_EQUAL(transport_connect(world.endpoint[1], peers, 2,
				      world.addresses, 100 * MS),
		    -ETIMEDOUT);
	CHECK(clock_now_ns() - start >= 100 * MS);
	CHECK(clock_now_ns() - start < 3 * SECOND);
	CHECK(log_has("missing") && log_has("0") && log_has("2"));
	world_close(&world);
}

static void case_refused(const struct conformance_transport *transport)
{
	static const unsigned peer = 1;
	struct world world;
	int64_t start;

	world_init(&world, transport, 2);
	world_open(&world);
	transport_close(world.endpoint[1]);
	world.endpoint[1] = NULL;
	start = clock_now_ns();
	CHECK_EQUAL(transport_connect(world.endpoint[0], &peer, 1,
				      world.addresses, 150 * MS),
		    -ETIMEDOUT);
	CHECK(clock_now_ns() - start < 3 * SECOND);
	CHECK(log_has("Connection refused"));
	CHECK(log_has("rank 1"));
	/* auto tells that of the transport it chose. */
	CHECK(strcmp(transport->kind, "auto") == 0 ||
	      log_has(world.address[1]));
	CHECK_EQUAL(log_count("\n"), 1);
	world_close(&world);
}

/* Not an address, and one beyond loopback. */
static void case_wrong_address(const struct conformance_transport *transport)
{
	static const unsigned peer = 1;
	struct world world;

	world_init(&world, transport, 3);
	world_open(&world);
	world.addresses[1] = "tcp:no";
	CHECK_EQUAL(transport_connect(world.endpoint[0], &peer, 1,
				      world.addresses, SECOND),
		    -EINVAL);
	CHECK(log_has("tcp:no"));
	/* The rest is of those that have hosts in their addresses. */
	if (strncmp(world.address[1], "tcp:", 4) != 0)
		goto out;
	world.addresses[1] = "tcp:192.0.2.1:80";
	CHECK_EQUAL(transport_connect(world.endpoint[0], &peer, 1,
				      world.addresses, SECOND / 4),
		    transport->wire > TRANSPORT_WIRE_CHECKED ? -ETIMEDOUT
							     : -EACCES);
out:
	world_close(&world);
}

/* A link that stands is not built again, and goes on working. */
static void case_connected_twice(const struct conformance_transport *transport)
{
	struct tally tallies[WORLD_MAX] = {0};
	static const unsigned zero = 0;
	struct world world;
	unsigned char *memory[3];
	unsigned i;

	world_init(&world, transport, 2);
	world_open(&world);
	world_connect(&world, 20 * SECOND);
	CHECK_EQUAL(world.connected[0] | world.connected[1], 0);
	CHECK_EQUAL(transport_connect(world.endpoint[1], &zero, 1,
				      world.addresses, SECOND),
		    -EISCONN);
	for (i = 0; i < 2; i++)
		memory[i] = region(world.endpoint[i], 10);
	CHECK_EQUAL(transport_post_recv(world.endpoint[0], 1, 1, memory[0], 10,
					NULL),
		    0);
	CHECK_EQUAL(transport_post_send(world.endpoint[1], 0, 1, memory[1], 10,
					NULL),
		    0);
	world_finish(&world, tallies, 1, 1, 0, 1);
	world_close(&world);
	for (i = 0; i < 2; i++)
		free(memory[i]);
}

/* The same ranks again and again in one process, each time a new epoch. */
static void case_reopen(const struct conformance_transport *transport)
{
	struct tally tallies[WORLD_MAX];
	unsigned char data[2] = {0};
	struct world world;
	unsigned i;
	unsigned j;

	world_init(&world, transport, 2);
	for (i = 0; i < 20; i++) {
		memset(tallies, 0, sizeof(tallies));
		for (j = 0; j < 2; j++)
			world.config[j].epoch = i;
		world_open(&world);
		world_connect(&world, 20 * SECOND);
		for (j = 0; j < 2; j++) {
			CHECK_EQUAL(world.connected[j], 0);
			CHECK_EQUAL(transport_register(world.endpoint[j],
						       &data[j], 1),
				    0);
		}
		data[0] = (unsigned char)i;
		CHECK_EQUAL(transport_post_send(world.endpoint[0], 1, i,
						&data[0], 1, NULL),
			    0);
		CHECK_EQUAL(transport_post_recv(world.endpoint[1], 0, i,
						&data[1], 1, NULL),
			    0);
		world_finish(&world, tallies, 0, 1, 1, 1);
		CHECK_EQUAL(data[1], i);
		for (j = 0; j < 2; j++)
			transport_close(world.endpoint[j ^ (i & 1)]);
	}
	world.endpoint[0] = NULL;
	world.endpoint[1] = NULL;
	world_close(&world);
}

static void case_misuse(const struct conformance_transport *transport)
{
	struct transport_endpoint *endpoint;
	unsigned char stray[8];
	unsigned char *memory;
	struct world world;
	void *where;
	void *made;

	world_up(&world, transport, 2);
	endpoint = world.endpoint[0];
	memory = region(endpoint, 1000);
	CHECK_EQUAL(transport_register(endpoint, memory + 999, 10), -EEXIST);
	CHECK_EQUAL(transport_register(endpoint, memory, 10), -EEXIST);
	CHECK_EQUAL(transport_post_send(endpoint, 1, 0, stray, 8, NULL),
		    -EINVAL);
	CHECK_EQUAL(transport_post_recv(endpoint, 1, 0, memory + 1, 1000, NULL),
		    -EINVAL);
	CHECK_EQUAL(transport_acquire_send(endpoint, 1, 0, 8, stray, &where),
		    -EINVAL);
	CHECK_EQUAL(transport_post_send(endpoint, 0, 0, memory, 8, NULL),
		    -ENOTCONN);
	CHECK_EQUAL(transport_post_recv(endpoint, 7, 0, memory, 8, NULL),
		    -ENOTCONN);
	CHECK_EQUAL(transport_post_recv(endpoint, 1, 0, memory, 8, NULL), 0);
	CHECK_EQUAL(transport_deregister(endpoint, memory), -EBUSY);
	CHECK_EQUAL(transport_deregister(endpoint, memory + 1), -ENOENT);
	CHECK_EQUAL(transport_create_region(endpoint, 100000, &made), 0);
	CHECK(all_bytes_are(made, 100000, 0));
	CHECK_EQUAL(transport_release_region(endpoint, memory), -ENOENT);
	CHECK_EQUAL(transport_release_region(endpoint, made), 0);
	CHECK_EQUAL(transport_create_region(endpoint, 100000, &made), 0);
	CHECK_EQUAL(transport_cancel(endpoint, 1, SECOND), 0);
	CHECK_EQUAL(transport_deregister(endpoint, memory), 0);
	world_close(&world);
	free(memory);
}

static void case_bad_config(const struct conformance_transport *transport)
{
	struct transport_endpoint *endpoint;
	struct transport_config config;
	struct world world;

	world_init(&world, transport, 2);
	config = world.config[0];
	config.job = 0;
	CHECK_EQUAL(transport_open(&config, &endpoint), -EINVAL);
	config = world.config[0];
	config.rank = 2;
	CHECK_EQUAL(transport_open(&config, &endpoint), -EINVAL);
	config = world.config[0];
	config.kind = "pigeon";
	CHECK_EQUAL(transport_open(&config, &endpoint), -EOPNOTSUPP);
	CHECK(log_has("pigeon"));
	transport_close(NULL);
	world_close(&world);
}

static void case_bind(const struct conformance_transport *transport)
{
	char address[TRANSPORT_ADDRESS_BYTES];
	struct world world;

	world_init(&world, transport, 2);
	world.config[0].bind = "0.0.0.0";
	CHECK_EQUAL(transport_open(&world.config[0], &world.endpoint[0]), 0);
	CHECK_EQUAL(
		transport_listen(world.endpoint[0], address, sizeof(address)),
		-EACCES);
	CHECK(log_has("0.0.0.0 is beyond loopback"));
	world_close(&world);
}

struct stranger {
	const char *address;
	atomic_bool stop;
};

static int knock(const char *address)
{
	struct sockaddr_in remote = {.sin_family = AF_INET};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	/* The kernel drops who calls while too many wait. */
	struct timeval patience = {.tv_usec = 50000};

	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
	remote.sin_port =
		htons((uint16_t)strtoll(strrchr(address, ':') + 1, NULL, 10));
	remote.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	if (connect(fd, (struct sockaddr *)&remote, sizeof(remote))) {
		close(fd);
		return -1;
	}
	return fd;
}

/* Random bytes, silence, half a frame, in turn; 60 at a time stay open. */
static void *be_strange(void *argument)
{
	struct stranger *stranger = argument;
	unsigned char bytes[256];
	int fds[60];
	unsigned i;
	unsigned round = 0;

	for (i = 0; i < ARRAY_SIZE(fds); i++)
		fds[i] = -1;
	while (!atomic_load(&stranger->stop)) {
		i = round++ % ARRAY_SIZE(fds);
		if (fds[i] >= 0)
			close(fds[i]);
		fds[i] = knock(stranger->address);
		pattern_fill(bytes, sizeof(bytes), round);
		if (fds[i] >= 0 && round % 3)
			send(fds[i], bytes, round % 3 == 1 ? 256 : 50,
			     MSG_NOSIGNAL);
	}
	for (i = 0; i < ARRAY_SIZE(fds); i++) {
		if (fds[i] >= 0)
			close(fds[i]);
	}
	return NULL;
}

static void case_strangers(const struct conformance_transport *transport)
{
	struct tally tallies[WORLD_MAX] = {0};
	struct stranger stranger = {.stop = false};
	unsigned char *memory[2];
	struct world world;
	pthread_t thread;
	unsigned i;

	world_init(&world, transport, 2);
	world_open(&world);
	stranger.address = world.address[1];
	CHECK_EQUAL(pthread_create(&thread, NULL, be_strange, &stranger), 0);
	clock_sleep_ns(20 * MS);
	world_connect(&world, 10 * SECOND);
	CHECK_EQUAL(world.connected[0], 0);
	CHECK_EQUAL(world.connected[1], 0);
	for (i = 0; i < 2; i++)
		memory[i] = region(world.endpoint[i], 100000);
	CHECK_EQUAL(transport_post_recv(world.endpoint[1], 0, 1, memory[1],
					100000, NULL),
		    0);
	CHECK_EQUAL(transport_post_send(world.endpoint[0], 1, 1, memory[0],
					100000, NULL),
		    0);
	world_finish(&world, tallies, 0, 1, 1, 1);
	atomic_store(&stranger.stop, true);
	pthread_join(thread, NULL);
	world_close(&world);
	free(memory[0]);
	free(memory[1]);
}

const struct conformance_case conformance_connect_cases[] = {
	{"wrong job", case_wrong_job},
	{"wrong epoch", case_wrong_epoch},
	{"wrong fingerprint", case_wrong_fingerprint},
	{"wrong checksum", case_wrong_checksum},
	{"wrong key", case_wrong_key},
	{"missing", case_missing},
	{"refused", case_refused},
	{"wrong address", case_wrong_address},
	{"connected twice", case_connected_twice},
	{"reopen", case_reopen},
	{"misuse", case_misuse},
	{"bad config", case_bad_config},
	{"bind", case_bind},
	{"strangers", case_strangers},
	{NULL, NULL},
};
