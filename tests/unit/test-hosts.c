/*
 * The coordinator's door: who is let in and who is not, by connections that
 * say what they should not. Over loopback.
 */
#include "base/clock.h"
#include "base/log.h"
#include "engine/address.h"
#include "engine/agent.h"
#include "engine/control.h"
#include "engine/hosts.h"
#include "transport/secure/secure.h"
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "cmocka-tap.h"

#define SIZE       3
#define SHORT_NS   (300 * NS_PER_MS)
#define TIMEOUT_NS (5 * NS_PER_SECOND)

static char lines[16384];
static pthread_mutex_t lines_lock = PTHREAD_MUTEX_INITIALIZER;

static void keep_line(void *argument, enum log_level level, const char *line)
{
	size_t used;

	(void)argument;
	(void)level;
	pthread_mutex_lock(&lines_lock);
	used = strlen(lines);
	snprintf(lines + used, sizeof(lines) - used, "%s\n", line);
	pthread_mutex_unlock(&lines_lock);
}

/* An open door of a world of SIZE ranks, its gathering in a thread. */
struct door {
	struct place place;
	struct hosts_config config;
	struct hosts *hosts;
	unsigned port;
	pthread_t thread;
	int gathered;
};

static void *gather_main(void *argument)
{
	struct door *door = argument;

	door->gathered = hosts_gather(door->hosts);
	return NULL;
}

/* A port that nobody has, as far as one can know. */
static unsigned free_port(void)
{
	struct address address;
	socklen_t length = sizeof(address.six);
	int fd;

	assert_int_equal(address_parse("127.0.0.1", 0, &address), 0);
	assert_int_equal(address_listen(&address, false, &fd), 0);
	getsockname(fd, &address.any, &length);
	close(fd);
	return address_port(&address);
}

static void open_door(struct door *door, const unsigned char *key,
		      int64_t timeout_ns)
{
	lines[0] = '\0';
	log_set_sink(keep_line, NULL);
	*door = (struct door){.port = free_port()};
	door->place = (struct place){.source = PLACE_FLAGS, .size = SIZE};
	snprintf(door->place.job, sizeof(door->place.job), "job-1");
	snprintf(door->place.coordinator, sizeof(door->place.coordinator),
		 "127.0.0.1:%u", door->port);
	door->config = (struct hosts_config){
		.place = &door->place,
		.key = key,
		.start_timeout_ns = timeout_ns,
	};
	assert_int_equal(hosts_open(&door->config, &door->hosts), 0);
	assert_int_equal(pthread_create(&door->thread, NULL, gather_main, door),
			 0);
}

static int close_door(struct door *door)
{
	pthread_join(door->thread, NULL);
	hosts_close(door->hosts, 0, "");
	log_set_sink(NULL, NULL);
	return door->gathered;
}

static int knock(const struct door *door)
{
	struct address address;
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	assert_int_equal(address_parse("127.0.0.1", door->port, &address), 0);
	assert_true(fd >= 0);
	assert_int_equal(connect(fd, &address.any, address.length), 0);
	return fd;
}

static json_t *join_of(int rank)
{
	return json_pack(
		"{s:i, s:s, s:s, s:i, s:i, s:i, s:s, s:s, s:i, s:s, s:s, s:s}",
		"version", CONTROL_VERSION, "program", PACKAGE_VERSION, "job",
		"job-1", "rank", rank, "count", 1, "size", SIZE, "host", "far",
		"machine", "far", "pid", 7, "launcher", "hand", "address",
		"127.0.0.1", "cores", "0-1");
}

/* What comes within a while: 1 and a message, or what control_fill() said. */
static int answer(struct control_channel *channel, enum control_kind *kind,
		  json_t **message)
{
	int64_t end_ns = clock_now_ns() + TIMEOUT_NS;
	int rc = 0;

	while (rc == 0 && clock_now_ns() < end_ns) {
		struct pollfd one = {.fd = channel->fd, .events = POLLIN};

		rc = control_next(channel, "the door", kind, message);
		if (rc != 0)
			break;
		poll(&one, 1, 100);
		rc = control_fill(channel);
		rc = MIN(rc, 0);
	}
	return rc;
}

/* Joins by `join`; the reason if it is refused, which the caller frees. */
static char *try_join(const struct door *door, json_t *join,
		      struct control_channel *kept)
{
	struct control_channel channel;
	enum control_kind kind;
	json_t *message;
	char *reason = NULL;

	assert_int_equal(control_channel_init(&channel, knock(door),
					      CONTROL_MESSAGE_BYTES,
					      CONTROL_MESSAGE_BYTES, false),
			 0);
	assert_int_equal(control_queue(&channel, CONTROL_JOIN, join), 0);
	assert_int_equal(control_flush(&channel), 0);
	assert_int_equal(answer(&channel, &kind, &message), 1);
	if (kind == CONTROL_REFUSE)
		reason = strdup(
			json_string_value(json_object_get(message, "reason")));
	else
		assert_int_equal(kind, CONTROL_ACCEPT);
	json_decref(message);
	if (!reason && kept)
		*kept = channel;
	else
		control_channel_fini(&channel);
	return reason;
}

static void assert_refused(const struct door *door, json_t *join,
			   const char *words)
{
	char *reason = try_join(door, join, NULL);

	if (!reason)
		fail_msg("let in, though: %s", words);
	if (!strstr(reason, words))
		fail_msg("refused by '%s', wanted '%s'; log: %s", reason, words,
			 lines);
	free(reason);
}

static json_t *changed(json_t *join, const char *key, json_t *value)
{
	json_object_set_new(join, key, value);
	return join;
}

static void lets_in_who_belongs(void **state)
{
	struct control_channel first, second;
	enum control_kind kind;
	json_t *message;
	struct door door;

	(void)state;
	open_door(&door, NULL, TIMEOUT_NS);
	assert_null(try_join(&door, join_of(2), &first));
	assert_null(try_join(&door, join_of(1), &second));
	assert_int_equal(close_door(&door), 0);
	assert_int_equal(answer(&first, &kind, &message), 1);
	assert_int_equal(kind, CONTROL_END);
	json_decref(message);
	control_channel_fini(&first);
	control_channel_fini(&second);
}

static void refuses_who_does_not(void **state)
{
	struct control_channel first, second;
	struct door door;

	(void)state;
	open_door(&door, NULL, TIMEOUT_NS);
	assert_refused(&door,
		       changed(join_of(1), "version",
			       json_integer(CONTROL_VERSION + 1)),
		       "install the same version everywhere");
	assert_refused(&door,
		       changed(join_of(1), "program", json_string("0.0.1")),
		       "it is stagecoach 0.0.1");
	assert_refused(&door, changed(join_of(1), "job", json_string("job-2")),
		       "another job");
	assert_refused(&door, changed(join_of(1), "size", json_integer(4)),
		       "says the world has 4 ranks, rank 0 says 3");
	assert_null(try_join(&door, join_of(1), &first));
	assert_null(try_join(&door, join_of(2), &second));
	assert_int_equal(close_door(&door), 0);
	control_channel_fini(&first);
	control_channel_fini(&second);
}

static void refuses_nonsense(void **state)
{
	struct control_channel first, second;
	struct door door;

	(void)state;
	open_door(&door, NULL, TIMEOUT_NS);
	assert_refused(&door, join_of(3), "rank 3 of 3: there is none");
	assert_null(try_join(&door, join_of(1), &first));
	assert_refused(&door, join_of(1), "rank 1 is there already");
	assert_refused(&door, join_of(0), "rank 0 is there already");
	assert_refused(&door, changed(join_of(2), "count", json_integer(2)),
		       "rank 3 of 3: there is none");
	assert_refused(&door,
		       changed(join_of(2), "address", json_string("host")),
		       "is no address");
	assert_refused(&door, changed(join_of(2), "cores", json_string("x")),
		       "no cores");
	assert_null(try_join(&door, join_of(2), &second));
	assert_int_equal(close_door(&door), 0);
	assert_non_null(strstr(lines, "refused: rank 3 of 3: there is none"));
	assert_null(strstr(lines, "no cores")); /* told only so many times */
	control_channel_fini(&first);
	control_channel_fini(&second);
}

/* Bytes that are no message of ours, or a too long one, end a connection. */
static void hangs_up_on_strangers(void **state)
{
	static const char *const said[] = {
		"GET / HTTP/1.1\r\n\r\n",
		"\x01\x00\x00\x00{",
		"\x02\x00\x00\x00[]",
		"\x10\x00\x00\x00{\"kind\":\"start\"}",
		"\xff\xff\x00\x00",
	};
	static const size_t bytes[] = {18, 5, 6, 20, 4};
	struct control_channel first, second;
	struct door door;

	(void)state;
	open_door(&door, NULL, TIMEOUT_NS);
	for (size_t i = 0; i < ARRAY_SIZE(said); i++) {
		int fd = knock(&door);
		char byte[512];
		ssize_t got;

		assert_int_equal(send(fd, said[i], bytes[i], MSG_NOSIGNAL),
				 bytes[i]);
		do { /* a refusal may come first */
			got = recv(fd, byte, sizeof(byte), 0);
		} while (got > 0);
		assert_true(got == 0 || errno == ECONNRESET);
		close(fd);
	}
	assert_null(try_join(&door, join_of(1), &first));
	assert_null(try_join(&door, join_of(2), &second));
	assert_int_equal(close_door(&door), 0);
	control_channel_fini(&first);
	control_channel_fini(&second);
}

/* More silent ones than there are places: the oldest have to go. */
static void silent_ones_do_not_keep_others_out(void **state)
{
	struct control_channel first, second;
	struct door door;
	int fds[200];

	(void)state;
	open_door(&door, NULL, TIMEOUT_NS);
	for (size_t i = 0; i < ARRAY_SIZE(fds); i++)
		fds[i] = knock(&door);
	assert_null(try_join(&door, join_of(1), &first));
	assert_null(try_join(&door, join_of(2), &second));
	assert_int_equal(close_door(&door), 0);
	assert_non_null(strstr(lines, "only counted"));
	for (size_t i = 0; i < ARRAY_SIZE(fds); i++)
		close(fds[i]);
	control_channel_fini(&first);
	control_channel_fini(&second);
}

static void names_who_is_missing(void **state)
{
	struct control_channel first;
	struct door door;

	(void)state;
	open_door(&door, NULL, SHORT_NS);
	assert_null(try_join(&door, join_of(1), &first));
	assert_int_equal(close_door(&door), -ETIMEDOUT);
	assert_non_null(strstr(lines, "rank 2 did not connect to port"));
	control_channel_fini(&first);
}

static void says_who_has_gone_again(void **state)
{
	struct control_channel first;
	struct door door;

	(void)state;
	open_door(&door, NULL, TIMEOUT_NS);
	assert_null(try_join(&door, join_of(1), &first));
	control_channel_fini(&first);
	assert_int_equal(close_door(&door), -ECONNRESET);
	assert_non_null(strstr(lines, "rank 1 (pid 7 on far) is gone"));
}

/* An agent with the key, one with another, one without. */
static int agent_status(const struct door *door, const unsigned char *key,
			unsigned rank, int64_t timeout_ns)
{
	struct place place = door->place;
	struct agent_config config = {
		.place = &place,
		.key = key,
		.start_timeout_ns = timeout_ns,
		.input_fd = -1,
	};

	place.rank = rank;
	return agent_run(&config);
}

struct invited {
	const struct door *door;
	const unsigned char *key;
	unsigned rank;
	int status;
};

static void *invited_main(void *argument)
{
	struct invited *invited = argument;

	invited->status = agent_status(invited->door, invited->key,
				       invited->rank, TIMEOUT_NS);
	return NULL;
}

static void asks_for_the_key(void **state)
{
	unsigned char key[SECURE_KEY_BYTES], other[SECURE_KEY_BYTES];
	struct invited invited;
	pthread_t thread;
	struct door door;

	(void)state;
	assert_int_equal(secure_key_make(key), 0);
	assert_int_equal(secure_key_make(other), 0);
	open_door(&door, key, TIMEOUT_NS);
	assert_int_equal(agent_status(&door, other, 1, SHORT_NS), 1);
	assert_non_null(strstr(lines, "rank 1 cannot join the coordinator"));
	assert_int_equal(agent_status(&door, NULL, 1, SHORT_NS), 1);
	assert_non_null(strstr(lines, "has a --key-file"));
	/* One at a time: a process watches its signals for one only. */
	invited = (struct invited){&door, key, 2, -1};
	assert_int_equal(pthread_create(&thread, NULL, invited_main, &invited),
			 0);
	clock_sleep_ns(SHORT_NS);
	assert_int_equal(agent_status(&door, other, 1, SHORT_NS), 1);
	pthread_join(door.thread, NULL);
	assert_int_equal(door.gathered, -ETIMEDOUT); /* rank 1 never came */
	hosts_close(door.hosts, 3, "for a reason");
	pthread_join(thread, NULL);
	assert_int_equal(invited.status, 3);
	assert_non_null(strstr(lines, "the job failed: for a reason"));
	log_set_sink(NULL, NULL);
}

static void needs_a_key_beyond_loopback(void **state)
{
	struct address own[ADDRESS_MAX];
	struct place place = {.source = PLACE_FLAGS, .size = 2};
	struct hosts_config config = {.place = &place};
	struct hosts *hosts;

	(void)state;
	if (address_list(own) == 0) {
		print_message("# SKIP no address beyond loopback\n");
		skip();
	}
	lines[0] = '\0';
	log_set_sink(keep_line, NULL);
	address_set_port(&own[0], free_port());
	address_text(&own[0], true, place.coordinator,
		     sizeof(place.coordinator));
	assert_int_equal(hosts_open(&config, &hosts), -EACCES);
	assert_non_null(strstr(lines, "stagecoach key"));
	log_set_sink(NULL, NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(lets_in_who_belongs),
		cmocka_unit_test(refuses_who_does_not),
		cmocka_unit_test(refuses_nonsense),
		cmocka_unit_test(hangs_up_on_strangers),
		cmocka_unit_test(silent_ones_do_not_keep_others_out),
		cmocka_unit_test(names_who_is_missing),
		cmocka_unit_test(says_who_has_gone_again),
		cmocka_unit_test(asks_for_the_key),
		cmocka_unit_test(needs_a_key_beyond_loopback),
	};

	return RUN_TESTS("hosts", tests);
}
