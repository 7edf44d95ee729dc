#include "engine/agent_connect.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/text.h"
#include "base/threads.h"
#include "engine/cores.h"
#include "engine/hosts_internal.h"
#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define ORIGIN       "the coordinator"
#define TRY_NS       (2 * NS_PER_SECOND)  /* for one address */
#define AGAIN_NS     (20 * NS_PER_SECOND) /* for one more connection */
#define PAUSE_NS     (100 * NS_PER_MS)    /* between rounds, growing */
#define PAUSE_MAX_NS (1 * NS_PER_SECOND)
#define PATIENCE_NS  (3 * NS_PER_SECOND) /* until it says that it waits */
#define CORES_MAX    4096
#define CORES_BYTES  2048 /* as text */

/* The state of looking for the coordinator. */
struct search {
	const struct agent_config *config;
	int64_t deadline_ns;
	char tried[160]; /* the address tried last, or the name */
	char why[200];   /* and what it led to */
	bool final;      /* no use trying again */
};

static PRINTF_LIKE(2, 3) void note_why(struct search *search,
				       const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(search->why, sizeof(search->why), format, arguments);
	va_end(arguments);
}

/* Else the address is one of several or a guess, and may be another job's. */
static bool is_told(const struct search *search)
{
	const struct place *place = search->config->place;

	return place->coordinator[0] && !place->guessed;
}

/* ---- a TCP connection ---- */

static int wait_ready(int fd, short events, int64_t deadline_ns)
{
	for (;;) {
		struct pollfd poll_one = {.fd = fd, .events = events};
		int64_t left_ns = deadline_ns - clock_now_ns();
		int rc;

		if (left_ns <= 0)
			return -ETIMEDOUT;
		rc = poll(&poll_one, 1, (int)(left_ns / NS_PER_MS) + 1);
		if (rc > 0)
			return 0;
		if (rc < 0 && errno != EINTR)
			return -errno;
	}
}

/* From the interface that was asked for, if one was. Silent. */
static int connect_to(const struct agent_config *config,
		      const struct address *to, int64_t deadline_ns, int *out)
{
	int fd = socket(to->any.sa_family,
			SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	socklen_t length = sizeof(int);
	struct address from;
	int rc = 0, error = 0;

	if (fd < 0)
		return -errno;
	control_tune_socket(fd);
	if (config->interface && !address_is_loopback(to)) {
		rc = address_interface(config->interface, to->any.sa_family,
				       &from);
		if (!rc && bind(fd, &from.any, from.length) < 0)
			rc = -errno;
	}
	if (!rc && connect(fd, &to->any, to->length) < 0 &&
	    errno != EINPROGRESS)
		rc = -errno;
	if (!rc)
		rc = wait_ready(fd, POLLOUT, deadline_ns);
	if (!rc && getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &length) == 0)
		rc = -error;
	if (rc < 0) {
		close(fd);
		return rc;
	}
	*out = fd;
	return 0;
}

/* ---- the key ---- */

/* Both ends prove it before anything is said. *why: of a failure. */
static int prove(int fd, const unsigned char *key, int64_t deadline_ns,
		 struct control_channel *channel, char why[SECURE_REASON_BYTES])
{
	unsigned char send_key[SECURE_KEY_BYTES];
	unsigned char receive_key[SECURE_KEY_BYTES];
	struct secure_session *session;
	short events = POLLIN;
	int rc = secure_session_create(fd, false, key, HOSTS_PURPOSE, &session);

	if (rc < 0)
		return rc;
	while ((rc = secure_session_step(session, &events)) == -EAGAIN) {
		rc = wait_ready(fd, events, deadline_ns);
		if (rc < 0)
			break;
	}
	snprintf(why, SECURE_REASON_BYTES, "%s",
		 rc == -ETIMEDOUT ? "does not answer"
				  : secure_session_reason(session));
	if (!rc)
		rc = secure_session_export(session, HOSTS_PURPOSE, send_key,
					   receive_key);
	if (!rc)
		rc = control_channel_seal(channel, send_key, receive_key);
	explicit_bzero(send_key, sizeof(send_key));
	explicit_bzero(receive_key, sizeof(receive_key));
	secure_session_destroy(session);
	return rc;
}

/* ---- joining ---- */

/* The address that others reach our ranks by. */
static int own_address(const struct agent_config *config, int fd,
		       struct address *out)
{
	*out = (struct address){.length = sizeof(out->six)};
	if (getsockname(fd, &out->any, &out->length) < 0)
		return -errno;
	address_unmap(out);
	if (!config->interface || address_is_loopback(out))
		return 0;
	return address_interface(config->interface, out->any.sa_family, out);
}

static json_t *make_join(const struct agent_config *config,
			 const struct address *own)
{
	const struct place *place = config->place;
	char host[WORLD_HOST_BYTES], machine[HOSTS_MACHINE_BYTES];
	char address[ADDRESS_TEXT_BYTES], text[CORES_BYTES];
	int *cores = malloc(CORES_MAX * sizeof(*cores));
	unsigned count;

	if (!cores)
		return NULL;
	count = MIN(threads_available_cores(cores, CORES_MAX), CORES_MAX);
	cores_to_text(cores, count, text, sizeof(text));
	free(cores);
	hosts_own_name(host, sizeof(host), machine, sizeof(machine));
	return json_pack(
		"{s:i, s:s, s:s, s:i, s:i, s:i, s:s, s:s, s:i, s:s, s:s, s:s, "
		"s:s*}",
		"version", CONTROL_VERSION, "program", PACKAGE_VERSION, "job",
		place->job, "rank", (int)place->rank, "count",
		(int)MAX(config->count, 1), "size", (int)place->size, "host",
		place->node[0] ? place->node : host, "machine", machine, "pid",
		(int)getpid(), "launcher",
		config->launcher ? config->launcher
				 : place_launcher(place->source),
		"address", address_text(own, false, address, sizeof(address)),
		"cores", text, "wire", config->wire);
}

static int take_answer(struct search *search, enum control_kind kind,
		       const json_t *message, struct agent_session *out)
{
	const char *text;
	bool again;

	if (kind == CONTROL_ACCEPT &&
	    json_get_string(message, "session", ORIGIN, &text) == 0 &&
	    text_copy(out->session, sizeof(out->session), text) == 0)
		return 0;
	search->final = true;
	if (kind == CONTROL_END &&
	    json_get_string(message, "reason", ORIGIN, &text) == 0) {
		note_why(search, "%s", text);
		return -ECONNREFUSED;
	}
	if (kind != CONTROL_REFUSE ||
	    json_get_string(message, "reason", ORIGIN, &text) < 0 ||
	    json_get_boolean_or(message, "again", false, ORIGIN, &again) < 0) {
		note_why(search, "it answers with '%s'",
			 control_kind_name(kind));
		return -EPROTO;
	}
	search->final = !again || is_told(search);
	note_why(search, "it refuses us: %s", text);
	return -ECONNREFUSED;
}

static int wait_answer(struct search *search, struct agent_session *out)
{
	struct control_channel *channel = &out->channel;
	enum control_kind kind;
	json_t *message;
	int rc;

	for (;;) {
		rc = control_next(channel, ORIGIN, &kind, &message);
		if (rc != 0)
			break;
		rc = wait_ready(channel->fd, POLLIN, search->deadline_ns);
		if (rc < 0)
			break;
		rc = control_fill(channel);
		if (rc < 0)
			break;
	}
	if (rc < 0) {
		note_why(search, "it does not answer: %s%s",
			 rc == -ECONNRESET ? "it closed the connection"
					   : strerror(-rc),
			 search->config->key
				 ? ""
				 : "; if rank 0 has a --key-file, this rank "
				   "needs it as well");
		return rc;
	}
	rc = take_answer(search, kind, message, out);
	json_decref(message);
	return rc;
}

static int prove_key(struct search *search, struct agent_session *out)
{
	char why[SECURE_REASON_BYTES] = "";
	int rc = prove(out->channel.fd, search->config->key,
		       search->deadline_ns, &out->channel, why);

	if (rc < 0)
		note_why(search, "it %s", why);
	search->final = rc == -EACCES && is_told(search);
	return rc;
}

static int join(struct search *search, int fd, struct agent_session *out)
{
	struct address own;
	int rc = own_address(search->config, fd, &own);

	if (rc < 0) {
		search->final = true;
		note_why(search, "%s", log_last_error());
		close(fd);
		return rc;
	}
	rc = control_channel_init(&out->channel, fd, CONTROL_MESSAGE_BYTES,
				  HOSTS_QUEUE_BYTES, false);
	if (!rc && search->config->key)
		rc = prove_key(search, out);
	if (!rc)
		rc = control_queue(&out->channel, CONTROL_JOIN,
				   make_join(search->config, &own));
	if (!rc)
		rc = control_flush(&out->channel);
	if (rc > 0)
		rc = -EAGAIN; /* a new connection takes such a short message */
	if (!rc)
		rc = wait_answer(search, out);
	if (rc < 0)
		control_channel_fini(&out->channel);
	return rc;
}

/* ---- looking for it ---- */

static int try_address(struct search *search, const struct address *to,
		       struct agent_session *out)
{
	int64_t deadline_ns = MIN(clock_now_ns() + TRY_NS, search->deadline_ns);
	int fd, rc;

	address_text(to, true, search->tried, sizeof(search->tried));
	if (!search->config->key && !address_is_loopback(to)) {
		note_why(search, "it is beyond this host, where a job needs a "
				 "key: give --key-file, as rank 0 has it");
		search->final = true;
		return -EACCES;
	}
	rc = connect_to(search->config, to, deadline_ns, &fd);
	if (rc < 0) {
		note_why(search, "%s", strerror(-rc));
		if (rc == -ENODEV || rc == -EINVAL) { /* --interface */
			note_why(search, "%s", log_last_error());
			search->final = true;
		}
		return rc;
	}
	rc = join(search, fd, out);
	if (rc == 0)
		out->coordinator = *to;
	return rc;
}

/* One "HOST:PORT", which is looked up anew each time. */
static int try_name(struct search *search, const char *host, unsigned port,
		    struct agent_session *out)
{
	struct address found[ADDRESS_MAX];
	unsigned count;
	const char *why;
	int rc = address_resolve(host, port, found, &count, &why);

	if (rc < 0) {
		snprintf(search->tried, sizeof(search->tried), "%.100s:%u",
			 host, port);
		note_why(search, "%s", why);
		return rc;
	}
	for (unsigned i = 0; i < count; i++) {
		rc = try_address(search, &found[i], out);
		if (rc == 0 || search->final)
			return rc;
	}
	return rc;
}

static int try_list(struct search *search, const char *list,
		    struct agent_session *out)
{
	int rc = -ENOENT;

	while (list && rc < 0 && !search->final) {
		char host[ADDRESS_HOST_BYTES];
		unsigned port;

		rc = address_split(list, host, &port, &list);
		if (!rc && port == 0)
			rc = fail(-EINVAL, "--coordinator %s: without a port",
				  host);
		if (rc < 0) {
			search->final = true;
			note_why(search, "%s", log_last_error());
			return rc;
		}
		rc = try_name(search, host, port, out);
	}
	return rc;
}

static int try_all(struct search *search, const char *told,
		   struct agent_session *out)
{
	const char *path = search->config->meeting_file;
	char text[MEETING_TEXT_BYTES];
	int rc = -ENOENT;

	/* The file first: where there is one, it is right. */
	if (path && meeting_file_read(path, text) == 0)
		rc = try_list(search, text, out);
	if (rc < 0 && !search->final && told[0])
		rc = try_list(search, told, out);
	return rc;
}

/* The address by PMIx, where the launcher has it and nothing else is told. */
static int ask_launcher(const struct search *search,
			char told[MEETING_TEXT_BYTES])
{
	const struct place *place = search->config->place;
	int rc;

	snprintf(told, MEETING_TEXT_BYTES, "%s", place->coordinator);
	if ((told[0] && !place->guessed) ||
	    (place->source != PLACE_OPEN_MPI && place->source != PLACE_PMIX))
		return 0;
	rc = meeting_pmix(place->rank, told,
			  search->deadline_ns - clock_now_ns());
	return rc == -ENOSYS ? 0 : rc;
}

static int not_found(const struct search *search)
{
	const struct place *place = search->config->place;
	struct address address;
	bool loopback = address_parse(search->tried, 0, &address) == 0 ||
			strncmp(search->tried, "127.", 4) == 0 ||
			strncmp(search->tried, "[::1]", 5) == 0;

	if (search->final)
		return fail(-ECONNREFUSED,
			    "rank %u cannot join the coordinator at %s: %s",
			    place->rank, search->tried, search->why);
	if (!search->tried[0])
		return fail(-ETIMEDOUT,
			    "rank %u does not know where rank 0 listens: give "
			    "--coordinator HOST:PORT on all ranks",
			    place->rank);
	return fail(-ETIMEDOUT,
		    "rank %u could not reach the coordinator (rank 0) at %s "
		    "in time (--start-timeout): %s%s",
		    place->rank, search->tried, search->why,
		    loopback ? "; that address is this host itself: if rank 0 "
			       "runs on another, name that one"
			     : "");
}

static void note_patience(const struct search *search, int64_t start_ns,
			  bool *noted)
{
	if (*noted || clock_now_ns() - start_ns < PATIENCE_NS)
		return;
	*noted = true;
	log_info("rank %u waits for the coordinator%s%s%s%s",
		 search->config->place->rank, search->tried[0] ? " at " : "",
		 search->tried, search->tried[0] ? ": " : "",
		 search->tried[0] ? search->why : "");
}

int agent_connect(const struct agent_config *config, struct agent_session *out)
{
	int64_t timeout_ns = config->start_timeout_ns ? config->start_timeout_ns
						      : HOSTS_START_TIMEOUT_NS;
	int64_t start_ns = clock_now_ns(), pause_ns = PAUSE_NS;
	struct search search = {.config = config,
				.deadline_ns = start_ns + timeout_ns};
	char told[MEETING_TEXT_BYTES];
	bool noted = false;
	int rc = ask_launcher(&search, told);

	if (rc < 0)
		return rc;
	if (!told[0] && !config->meeting_file)
		return not_found(&search);
	for (;;) {
		rc = try_all(&search, told, out);
		if (rc == 0)
			return 0;
		if (search.final ||
		    clock_now_ns() + pause_ns >= search.deadline_ns)
			return not_found(&search);
		note_patience(&search, start_ns, &noted);
		clock_sleep_ns(pause_ns);
		pause_ns = MIN(pause_ns * 2, PAUSE_MAX_NS);
	}
}

int agent_connect_again(const struct agent_config *config,
			const struct agent_session *session,
			struct control_channel *out)
{
	char text[ADDRESS_TEXT_BYTES], why[SECURE_REASON_BYTES] = "";
	int64_t deadline_ns = clock_now_ns() + AGAIN_NS;
	int fd, rc;

	rc = connect_to(config, &session->coordinator, deadline_ns, &fd);
	if (rc < 0)
		return fail(rc,
			    "a second connection to the coordinator at "
			    "%s: %s",
			    address_text(&session->coordinator, true, text,
					 sizeof(text)),
			    strerror(-rc));
	rc = control_channel_init(out, fd, CONTROL_MESSAGE_BYTES,
				  HOSTS_QUEUE_BYTES, false);
	if (!rc && config->key)
		rc = prove(fd, config->key, deadline_ns, out, why);
	if (rc < 0) {
		control_channel_fini(out);
		return fail(rc,
			    "a second connection to the coordinator at "
			    "%s: %s",
			    address_text(&session->coordinator, true, text,
					 sizeof(text)),
			    why[0] ? why : strerror(-rc));
	}
	return 0;
}
