#include "engine/world.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/text.h"
#include "base/threads.h"
#include "engine/control.h"
#include "engine/world_control.h"
#include "transport/secure/secure.h"
#include "transport/wire.h"
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#define ORIGIN             "the coordinator's welcome"
#define WELCOME_TIMEOUT_NS (60 * NS_PER_SECOND)
#define CONNECT_TIMEOUT_NS (30 * NS_PER_SECOND)
#define FAILED_LINGER_NS   (1 * NS_PER_SECOND)
#define WAIT_SLICE_NS      WORLD_HEARTBEAT_NS /* transport_config.silence_ns */
#define ANY_TIME           (INT64_MAX / 2)

/* What a rank keeps from call to call, besides the public part. */
struct rank {
	struct world world;
	struct transport_hub *hub;
	char transport[TRANSPORT_KIND_BYTES];
	char io[16];
	char bind[64];
	unsigned char key[TRANSPORT_KEY_BYTES];
	uint64_t session;
	uint32_t epoch;
	int64_t round;      /* of the next gather */
	int64_t silence_ns; /* as transport_config takes it */
};

static struct rank *rank_of(struct world *world)
{
	return (struct rank *)((char *)world - offsetof(struct rank, world));
}

/* ---- asking and telling ---- */

static void note_cancel(struct world_control *control)
{
	if (!atomic_exchange(&control->cancel_noted, true))
		log_debug("ending: %s", control->reason);
}

int world_check(struct world *world)
{
	struct world_control *control = world->control;

	if (!atomic_load_explicit(&control->cancelled, memory_order_acquire))
		return 0;
	note_cancel(control);
	return -ECANCELED;
}

int world_wake_fd(const struct world *world)
{
	return world->control->wake_fd;
}

bool world_stop_requested(const struct world *world)
{
	return atomic_load_explicit(&world->control->stop,
				    memory_order_relaxed);
}

/* One thread writes, others read: no locked instruction is needed. */
static void add(_Atomic uint64_t *counter, uint64_t more)
{
	atomic_store_explicit(
		counter,
		atomic_load_explicit(counter, memory_order_relaxed) + more,
		memory_order_relaxed);
}

void world_note_progress(struct world *world, int64_t step, uint64_t action)
{
	struct world_progress *progress = &world->progress;

	atomic_store_explicit(&progress->since_ns, clock_now_ns(),
			      memory_order_relaxed);
	atomic_store_explicit(&progress->action, action, memory_order_relaxed);
	atomic_store_explicit(&progress->step, step, memory_order_relaxed);
	atomic_store_explicit(&progress->between, false, memory_order_relaxed);
	add(&progress->moves, 1);
}

void world_note_between(struct world *world)
{
	struct world_progress *progress = &world->progress;

	atomic_store_explicit(&progress->since_ns, clock_now_ns(),
			      memory_order_relaxed);
	atomic_store_explicit(&progress->between, true, memory_order_relaxed);
	add(&progress->moves, 1);
}

void world_note_wait(struct world *world, enum liveness_wait wait,
		     unsigned peer, int64_t begin_ns)
{
	struct world_progress *progress = &world->progress;

	atomic_store_explicit(&progress->wait_since_ns, begin_ns,
			      memory_order_relaxed);
	atomic_store_explicit(&progress->wait, (uint64_t)wait << 32 | peer,
			      memory_order_relaxed);
}

void world_note_ready(struct world *world)
{
	atomic_store_explicit(&world->progress.wait,
			      (uint64_t)LIVENESS_BUSY << 32,
			      memory_order_relaxed);
}

void world_note_completions(struct world *world,
			    const struct transport_completion *completions,
			    unsigned count)
{
	struct world_link *links =
		atomic_load_explicit(&world->links, memory_order_relaxed);

	for (unsigned i = 0; i < count; i++) {
		struct world_link *link = &links[completions[i].peer];

		if (completions[i].event == TRANSPORT_SENT) {
			add(&link->messages_sent, 1);
			add(&link->bytes_sent, completions[i].bytes);
		} else {
			add(&link->messages_received, 1);
			add(&link->bytes_received, completions[i].bytes);
		}
	}
	if (count)
		add(&world->progress.moves, count);
}

void world_count_sent(const struct world *world, uint64_t *bytes,
		      uint64_t *messages)
{
	const struct world_link *links =
		atomic_load_explicit(&world->links, memory_order_relaxed);

	*bytes = 0;
	*messages = 0;
	for (unsigned r = 0; links && r < world->size; r++) {
		*bytes += atomic_load_explicit(&links[r].bytes_sent,
					       memory_order_relaxed);
		*messages += atomic_load_explicit(&links[r].messages_sent,
						  memory_order_relaxed);
	}
}

int world_wait(struct world *world, struct transport_completion *out,
	       unsigned capacity)
{
	for (;;) {
		int rc = world_check(world);

		if (rc == 0)
			rc = transport_progress(world->endpoint, out, capacity);
		if (rc != 0)
			return rc;
		rc = transport_wait(world->endpoint,
				    clock_now_ns() + WAIT_SLICE_NS,
				    world->control->wake_fd);
		if (rc < 0 && rc != -ETIMEDOUT)
			return rc;
	}
}

int world_event_text(struct world *world, const char *event)
{
	struct world_control *control = world->control;
	size_t length = strlen(event);
	int rc;

	if (length > WORLD_EVENT_BYTES)
		return fail(-EMSGSIZE,
			    "an event of %zu bytes is too long (at most %u)",
			    length, WORLD_EVENT_BYTES);
	pthread_mutex_lock(&control->send_lock);
	rc = control_queue_parts(&control->channel,
				 "{\"kind\":\"event\",\"event\":", event,
				 length, "}");
	if (rc == 0)
		rc = control_flush(&control->channel);
	pthread_mutex_unlock(&control->send_lock);
	if (rc == -EAGAIN)
		atomic_fetch_add(&control->events_dropped, 1);
	/* The control thread deals with a broken socket, and with the rest. */
	if (rc == -EPIPE || rc == -ECONNRESET)
		return 0;
	return MIN(rc, 0);
}

int world_event(struct world *world, const json_t *event)
{
	char *text = json_dumps(event, JSON_COMPACT);
	int rc;

	if (!text)
		return fail(-ENOMEM, "no memory for an event");
	rc = world_event_text(world, text);
	free(text);
	return rc;
}

void world_set_result(struct world *world, json_t *result)
{
	json_decref(world->result);
	world->result = result;
}

/* ---- together with all ranks ---- */

static bool round_is_over(const struct world_control *control, int64_t round)
{
	return control->gathered_round >= round;
}

int world_all_gather(struct world *world, const json_t *value, json_t **all)
{
	struct world_control *control = world->control;
	int64_t round = rank_of(world)->round++;
	json_t *message, *values;
	int rc;

	rc = world_control_send(control, CONTROL_GATHER,
				json_pack("{s:I, s:O?}", "round",
					  (json_int_t)round, "value", value));
	if (rc < 0)
		return rc;
	world_note_wait(world, LIVENESS_WAITS_ALL, 0, clock_now_ns());
	rc = world_control_wait(control, round_is_over, round, ANY_TIME);
	world_note_ready(world);
	add(&world->progress.moves, 1);
	if (rc == -ECANCELED)
		note_cancel(control);
	if (rc < 0)
		return rc;
	/* Taken whole: no JSON value is ever shared between threads. */
	pthread_mutex_lock(&control->lock);
	message = control->gathered;
	control->gathered = NULL;
	pthread_mutex_unlock(&control->lock);
	values = json_incref(json_object_get(message, "values"));
	json_decref(message);
	if (json_array_size(values) != world->size) {
		json_decref(values);
		return fail(-EPROTO,
			    "the coordinator gathered %zu values, not "
			    "%u",
			    json_array_size(values), world->size);
	}
	*all = values;
	return 0;
}

int world_barrier(struct world *world)
{
	json_t *all;
	int rc = world_all_gather(world, NULL, &all);

	if (rc == 0)
		json_decref(all);
	return rc;
}

static int gather_addresses(struct world *world, const char *own, json_t **all,
			    const char ***out)
{
	json_t *value = json_string(own);
	const char **addresses;
	int rc;

	rc = world_all_gather(world, value, all);
	json_decref(value);
	if (rc < 0)
		return rc;
	addresses = calloc(world->size, sizeof(*addresses));
	if (!addresses) {
		rc = fail(-ENOMEM, "no memory for %u addresses", world->size);
		goto err_decref;
	}
	for (unsigned i = 0; i < world->size; i++) {
		addresses[i] = json_string_value(json_array_get(*all, i));
		if (!addresses[i] ||
		    strlen(addresses[i]) >= TRANSPORT_ADDRESS_BYTES) {
			rc = fail(-EPROTO, "rank %u told no proper address", i);
			goto err_free;
		}
	}
	*out = addresses;
	return 0;

err_free:
	free(addresses);
err_decref:
	json_decref(*all);
	return rc;
}

#define LINK_BYTES 200

/* "tcp/uring authentic (another host, no RDMA device)": what and why. */
static void describe_link(const struct transport_link_info *info, char *out,
			  size_t size)
{
	const char *io = strcmp(info->io, "memory") == 0 ? "" : info->io;

	snprintf(out, size, "%s%s%s%s%s (%.*s)", info->transport,
		 io[0] ? "/" : "", io, info->wire && io[0] ? " " : "",
		 info->wire && io[0] ? wire_mode_text(info->wire) : "",
		 (int)strcspn(info->reason, ";"), info->reason);
}

/*
 * For the line about this rank: "links to 0 shm (one host), 2 tcp/uring (...)";
 * and what all of them are, if they are alike.
 */
static json_t *describe_links(struct world *world, const unsigned *peers,
			      unsigned count)
{
	char link[LINK_BYTES], first[LINK_BYTES] = "";
	struct transport_link_info info;
	struct text_builder text;
	bool alike = true;
	json_t *event;
	char *links;

	text_builder_init(&text);
	text_builder_append(&text, count == 0   ? "no links"
				   : count == 1 ? "link to"
						: "links to");
	for (unsigned i = 0; i < count; i++) {
		if (transport_query(world->endpoint, peers[i], &info))
			continue;
		describe_link(&info, link, sizeof(link));
		if (!first[0])
			memcpy(first, link, sizeof(first));
		alike &= strcmp(first, link) == 0;
		text_builder_append(&text, "%s %u %s", i ? "," : "", peers[i],
				    link);
	}
	links = text_builder_finish(&text);
	event = links ? json_pack("{s:s, s:s*}", "links", links, "alike",
				  alike ? first : NULL)
		      : NULL;
	free(links);
	return event;
}

static void tell_links(struct world *world, const unsigned *peers,
		       unsigned count)
{
	json_t *event = describe_links(world, peers, count);

	if (event && world_event(world, event) < 0)
		log_debug("the links could not be told");
	json_decref(event);
}

int world_connect(struct world *world, const unsigned *peers, unsigned count,
		  const unsigned char fingerprint[TRANSPORT_FINGERPRINT_BYTES])
{
	struct transport_config *config = &world->transport_config;
	char own[TRANSPORT_ADDRESS_BYTES];
	const char **addresses = NULL;
	json_t *all = NULL;
	int rc;

	transport_close(world->endpoint);
	world->endpoint = NULL;
	config->epoch = rank_of(world)->epoch++;
	memcpy(config->fingerprint, fingerprint, TRANSPORT_FINGERPRINT_BYTES);
	rc = transport_open(config, &world->endpoint);
	if (rc < 0)
		return rc;
	rc = transport_listen(world->endpoint, own, sizeof(own));
	if (rc < 0)
		return rc;
	rc = gather_addresses(world, own, &all, &addresses);
	if (rc < 0)
		return rc;
	rc = transport_connect(world->endpoint, peers, count, addresses,
			       CONNECT_TIMEOUT_NS);
	free(addresses);
	json_decref(all);
	if (!rc && config->epoch == 0)
		tell_links(world, peers, count);
	return rc;
}

/* ---- the life of a rank ---- */

static bool is_welcome(const struct world_control *control, int64_t unused)
{
	(void)unused;
	return control->welcome;
}

static bool is_bye(const struct world_control *control, int64_t unused)
{
	(void)unused;
	return control->bye;
}

static bool is_never(const struct world_control *control, int64_t unused)
{
	(void)control;
	(void)unused;
	return false;
}

static int say_hello(struct world *world, const char *numerics)
{
	int rc;

	if (gethostname(world->host, sizeof(world->host)) < 0)
		text_copy(world->host, sizeof(world->host), "?");
	world->host[sizeof(world->host) - 1] = '\0';
	for (char *c = world->host; *c; c++) {
		if (*c < ' ' || *c > '~')
			*c = '?'; /* JSON takes UTF-8 only */
	}
	rc = world_control_send(world->control, CONTROL_HELLO,
				json_pack("{s:i, s:I, s:s, s:s}", "version",
					  CONTROL_VERSION, "pid",
					  (json_int_t)getpid(), "host",
					  world->host, "numerics", numerics));
	atomic_store(&world->control->greeted, true);
	return rc;
}

static int read_session(const json_t *welcome, uint64_t *session)
{
	const char *text;
	char *end;

	if (json_get_string(welcome, "session", ORIGIN, &text) < 0)
		return -EPROTO;
	errno = 0;
	*session = strtoull(text, &end, 16);
	if (errno || *end || end == text || *session == 0)
		return fail(-EPROTO, ORIGIN ": session '%.20s'", text);
	return 0;
}

/* Where the data links listen, and the key that they ask for. */
static int read_links(struct rank *rank, const json_t *welcome)
{
	struct transport_config *config = &rank->world.transport_config;
	const char *bind_to, *key, *wire;

	if (json_get_string_or(welcome, "bind", NULL, ORIGIN, &bind_to) < 0 ||
	    json_get_string_or(welcome, "key", NULL, ORIGIN, &key) < 0 ||
	    json_get_string_or(welcome, "wire", "auto", ORIGIN, &wire) < 0)
		return -EPROTO;
	if (wire_mode_parse(wire, &config->wire) < 0)
		return fail(-EPROTO, ORIGIN ": wire '%.20s'", wire);
	if (bind_to) {
		if (text_copy(rank->bind, sizeof(rank->bind), bind_to) < 0)
			return fail(-EPROTO, ORIGIN ": bind");
		config->bind = rank->bind;
	}
	if (!key)
		return 0;
	if (secure_key_parse(key, rank->key) < 0)
		return fail(-EPROTO, ORIGIN ": key");
	config->key = rank->key;
	return 0;
}

/* Everything the welcome says, but the cores. */
static int read_welcome(struct rank *rank, const json_t *welcome)
{
	struct world *world = &rank->world;
	const char *transport, *io;
	int64_t number, size, silence_ms;
	json_t *job;

	if (json_get_integer(welcome, "size", 1, TRANSPORT_RANKS_MAX, ORIGIN,
			     &size) < 0 ||
	    json_get_integer(welcome, "rank", 0, size - 1, ORIGIN, &number) <
		    0 ||
	    json_get_string(welcome, "transport", ORIGIN, &transport) < 0 ||
	    json_get_string(welcome, "io", ORIGIN, &io) < 0 ||
	    json_get_integer_or(welcome, "silence_ms", 0, INT32_MAX, 0, ORIGIN,
				&silence_ms) < 0 ||
	    read_session(welcome, &rank->session) < 0)
		return -EPROTO;
	job = json_object_get(welcome, "job");
	if (!job)
		return fail(-EPROTO, ORIGIN ": no job");
	if (text_copy(rank->transport, sizeof(rank->transport), transport) <
		    0 ||
	    text_copy(rank->io, sizeof(rank->io), io) < 0)
		return fail(-EPROTO, ORIGIN ": transport '%.20s', io '%.20s'",
			    transport, io);
	rank->silence_ns = silence_ms ? silence_ms * NS_PER_MS : -1;
	world->rank = (unsigned)number;
	world->size = (unsigned)size;
	world->job = job;
	world->transport = rank->transport;
	transport_config_default(&world->transport_config);
	world->transport_config.kind = rank->transport;
	world->transport_config.io = rank->io;
	world->transport_config.rank = world->rank;
	world->transport_config.size = world->size;
	world->transport_config.job = rank->session;
	world->transport_config.hub = rank->hub;
	world->transport_config.wake_fd = world->control->wake_fd;
	world->transport_config.silence_ns = rank->silence_ns;
	return read_links(rank, welcome);
}

static int create_team(struct world *world, const json_t *welcome)
{
	int cores[THREADS_MAX];
	int64_t count;
	json_t *array;

	if (json_get_integer(welcome, "threads", 1, THREADS_MAX, ORIGIN,
			     &count) < 0 ||
	    json_get_array(welcome, "cores", ORIGIN, &array) < 0)
		return -EPROTO;
	if (json_array_size(array) != (size_t)count)
		return fail(-EPROTO,
			    ORIGIN ": %zu cores for %" PRId64 " threads",
			    json_array_size(array), count);
	for (size_t i = 0; i < (size_t)count; i++) {
		const json_t *core = json_array_get(array, i);
		json_int_t id = json_integer_value(core);

		if (!json_is_integer(core) || id < -1 || id > INT32_MAX)
			return fail(-EPROTO, ORIGIN ": cores[%zu]", i);
		cores[i] = (int)id;
	}
	return threads_create((unsigned)count, cores, &world->team);
}

static int take_welcome(struct rank *rank)
{
	struct world *world = &rank->world;
	char identity[32];
	int rc;

	rc = world_control_wait(world->control, is_welcome, 0,
				clock_now_ns() + WELCOME_TIMEOUT_NS);
	if (rc == -ECANCELED) {
		note_cancel(world->control);
		return rc;
	}
	if (rc < 0)
		return fail(rc, "the coordinator did not answer within %.0f s",
			    clock_seconds(WELCOME_TIMEOUT_NS));
	rc = read_welcome(rank, world->control->welcome);
	if (rc < 0)
		return rc;
	world->links = calloc(world->size, sizeof(struct world_link));
	if (!world->links)
		return fail(-ENOMEM, "no memory for what passes on %u links",
			    world->size);
	snprintf(identity, sizeof(identity), "rank %u", world->rank);
	log_set_identity(identity);
	return create_team(world, world->control->welcome);
}

/*
 * Tells how it ended, and stays until all know: a link closed early would
 * look like a failure to the neighbours.
 */
static int report(struct world *world, int code)
{
	struct world_control *control = world->control;
	int64_t step = atomic_load(&world->progress.step);
	char message[WORLD_REASON_BYTES];
	int rc;

	if (code == 0) {
		rc = world_control_send(
			control, CONTROL_DONE,
			json_pack("{s:O?}", "result", world->result));
		world_note_wait(world, LIVENESS_WAITS_ALL, 0, clock_now_ns());
		if (rc == 0)
			rc = world_control_wait(control, is_bye, 0, ANY_TIME);
		if (rc == -ECANCELED)
			note_cancel(control);
		return rc;
	}
	/* Found by another rank, which is about to tell it, or has. */
	if (code == -ECANCELED &&
	    world_control_wait(control, is_never, 0,
			       clock_now_ns() + FAILED_LINGER_NS) == -ECANCELED)
		note_cancel(control);
	if (atomic_load(&control->cancelled))
		return code;
	snprintf(message, sizeof(message), "%s", log_last_error());
	control_clean_text(message);
	rc = world_control_send(control, CONTROL_FAILED,
				json_pack("{s:i, s:I, s:s}", "code", code,
					  "step", (json_int_t)step, "message",
					  message));
	if (rc == 0)
		rc = world_control_wait(control, is_never, 0,
					clock_now_ns() + FAILED_LINGER_NS);
	if (rc == -ECANCELED)
		atomic_store(&control->cancel_noted, true); /* our own fault */
	return code;
}

static int run(int control_fd, bool process, const char *numerics,
	       rank_main_fn *rank_main, struct transport_hub *hub)
{
	struct rank *rank = calloc(1, sizeof(*rank));
	struct world *world;
	int rc;

	if (!rank) {
		close(control_fd);
		return fail(-ENOMEM, "no memory for a rank");
	}
	world = &rank->world;
	world->thread = !process;
	rank->hub = hub;
	atomic_store(&world->progress.step, -1);
	atomic_store(&world->progress.between, true);
	rc = world_control_create(control_fd, process, world, &world->control);
	if (rc < 0)
		goto err_free;
	log_clear_last_error();
	threads_set_float_state();
	rc = say_hello(world, numerics ? numerics : "");
	if (rc == 0)
		rc = take_welcome(rank);
	if (rc == 0)
		rc = rank_main(world);
	rc = report(world, MIN(rc, 0));
	transport_close(world->endpoint);
	threads_destroy(world->team);
	atomic_store(&world->finished, true);
	world_control_destroy(world->control);
	free(world->links);
	json_decref(world->result);
	log_set_identity("");
err_free:
	free(rank);
	return rc;
}

int world_rank_main(int control_fd, const char *numerics,
		    rank_main_fn *rank_main)
{
	prctl(PR_SET_NAME, "stagecoach-rank");
	return run(control_fd, true, numerics, rank_main, NULL);
}

int world_thread_main(int control_fd, const char *numerics,
		      rank_main_fn *rank_main, struct transport_hub *hub)
{
	return run(control_fd, false, numerics, rank_main, hub);
}
