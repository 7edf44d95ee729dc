/* Who connects: an agent, a rank of one, or nobody we know. */
#include "base/clock.h"
#include "base/log.h"
#include "base/text.h"
#include "engine/cores.h"
#include "engine/hosts_internal.h"
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* So many refusals a while are told one by one. */
#define REFUSALS_TOLD     5
#define REFUSALS_WHILE_NS (30 * NS_PER_SECOND)

/* ---- refusing ---- */

static void note_refusal(struct hosts *hosts, const struct address *peer,
			 const char *reason)
{
	char from[ADDRESS_TEXT_BYTES];
	int64_t now_ns = clock_now_ns();

	address_text(peer, false, from, sizeof(from));
	snprintf(hosts->last_refusal, sizeof(hosts->last_refusal),
		 "a connection from %s was refused: %.160s", from, reason);
	if (now_ns - hosts->refusals_since_ns > REFUSALS_WHILE_NS) {
		if (hosts->refusals_untold)
			log_warning("%u more connections were refused",
				    hosts->refusals_untold);
		hosts->refusals_since_ns = now_ns;
		hosts->refusals = hosts->refusals_untold = 0;
	}
	if (++hosts->refusals > REFUSALS_TOLD) {
		hosts->refusals_untold++;
		return;
	}
	log_warning("%s%s", hosts->last_refusal,
		    hosts->refusals == REFUSALS_TOLD
			    ? " (more of these are only counted for a while)"
			    : "");
}

static void leave(struct hosts_visitor *visitor)
{
	secure_session_destroy(visitor->session);
	visitor->session = NULL;
	control_channel_fini(&visitor->channel);
	visitor->refused = false;
}

/* Says why, if the other side still listens, and lets it go. */
static PRINTF_LIKE(3, 4) void refuse(struct hosts *hosts,
				     struct hosts_visitor *visitor,
				     const char *format, ...)
{
	bool again = visitor->elsewhere;
	char reason[256];
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(reason, sizeof(reason), format, arguments);
	va_end(arguments);
	control_clean_text(reason);
	note_refusal(hosts, &visitor->peer, reason);
	if (control_queue(&visitor->channel, CONTROL_REFUSE,
			  json_pack("{s:s, s:b}", "reason", reason, "again",
				    again)) == 0 &&
	    control_flush(&visitor->channel) > 0) {
		visitor->refused = true; /* until it is sent, or time is up */
		return;
	}
	leave(visitor);
}

/* ---- coming in ---- */

/*
 * A free place; if there is none, that of whoever has had one longest, and
 * long enough. NULL: the next ones wait in the kernel's queue, so that many who
 * come at once do not push each other out.
 */
static const struct hosts_visitor *find_place(const struct hosts *hosts)
{
	const struct hosts_visitor *oldest = &hosts->visitors[0];

	for (unsigned i = 0; i < HOSTS_VISITORS; i++) {
		const struct hosts_visitor *visitor = &hosts->visitors[i];

		if (visitor->channel.fd < 0)
			return visitor;
		if (visitor->deadline_ns < oldest->deadline_ns)
			oldest = visitor;
	}
	if (oldest->deadline_ns - HOSTS_VISITOR_NS + HOSTS_SURE_NS >
	    clock_now_ns())
		return NULL;
	return oldest;
}

bool hosts_has_place(const struct hosts *hosts)
{
	return find_place(hosts) != NULL;
}

/* Nobody is pushed out for the sake of one who may not be there. */
static struct hosts_visitor *place_for_visitor(struct hosts *hosts,
					       bool certain)
{
	const struct hosts_visitor *found = find_place(hosts);
	struct hosts_visitor *place;

	if (!found || (found->channel.fd >= 0 && !certain))
		return NULL;
	place = &hosts->visitors[found - hosts->visitors];
	if (place->channel.fd >= 0) {
		note_refusal(hosts, &place->peer,
			     "it has not said who it is, and others wait");
		leave(place);
	}
	return place;
}

/* With a key nothing of ours is said or heard before it is proved. */
static int greet(struct hosts *hosts, struct hosts_visitor *visitor, int fd)
{
	int rc =
		control_channel_init(&visitor->channel, fd, HOSTS_VISITOR_BYTES,
				     HOSTS_QUEUE_BYTES, false);

	if (rc < 0 || !hosts->config.key)
		return rc;
	visitor->events = POLLIN;
	return secure_session_create(fd, true, hosts->config.key, HOSTS_PURPOSE,
				     &visitor->session);
}

/* True once it is proved; false: not yet, or the visitor is gone. */
static bool prove(struct hosts *hosts, struct hosts_visitor *visitor)
{
	unsigned char send_key[SECURE_KEY_BYTES];
	unsigned char receive_key[SECURE_KEY_BYTES];
	int rc = secure_session_step(visitor->session, &visitor->events);

	if (rc == -EAGAIN)
		return false;
	if (rc < 0) {
		note_refusal(hosts, &visitor->peer,
			     secure_session_reason(visitor->session));
		leave(visitor);
		return false;
	}
	rc = secure_session_export(visitor->session, HOSTS_PURPOSE, send_key,
				   receive_key);
	if (!rc)
		rc = control_channel_seal(&visitor->channel, send_key,
					  receive_key);
	explicit_bzero(send_key, sizeof(send_key));
	explicit_bzero(receive_key, sizeof(receive_key));
	secure_session_destroy(visitor->session);
	visitor->session = NULL;
	if (rc < 0)
		leave(visitor);
	return rc == 0;
}

void hosts_accept(struct hosts *hosts)
{
	struct hosts_visitor *visitor = place_for_visitor(hosts, true);

	for (; visitor; visitor = place_for_visitor(hosts, false)) {
		struct address peer = {.length = sizeof(peer.six)};
		int fd = accept4(hosts->listen_fd, &peer.any, &peer.length,
				 SOCK_CLOEXEC | SOCK_NONBLOCK);

		if (fd < 0)
			return;
		address_unmap(&peer);
		control_tune_socket(fd);
		*visitor = (struct hosts_visitor){
			.peer = peer,
			.deadline_ns = clock_now_ns() + HOSTS_VISITOR_NS,
		};
		if (greet(hosts, visitor, fd) < 0)
			leave(visitor);
	}
}

void hosts_visitors_expire(struct hosts *hosts)
{
	int64_t now_ns = clock_now_ns();

	for (unsigned i = 0; i < HOSTS_VISITORS; i++) {
		struct hosts_visitor *visitor = &hosts->visitors[i];

		if (visitor->channel.fd < 0 || now_ns < visitor->deadline_ns)
			continue;
		if (!visitor->refused)
			note_refusal(hosts, &visitor->peer,
				     "it did not say in time who it is");
		leave(visitor);
	}
}

/* ---- an agent ---- */

struct join {
	const char *program, *job, *host, *machine, *launcher, *address, *cores;
	const char *wire; /* NULL: as rank 0 says */
	int64_t version, rank, count, size, pid;
};

static int read_join(const json_t *message, struct join *join)
{
	static const char origin[] = "a connection that wants to join";

	if (json_get_integer(message, "version", 0, INT32_MAX, origin,
			     &join->version) < 0 ||
	    json_get_integer(message, "rank", 0, INT32_MAX, origin,
			     &join->rank) < 0 ||
	    json_get_integer(message, "count", 1, TRANSPORT_RANKS_MAX, origin,
			     &join->count) < 0 ||
	    json_get_integer(message, "size", 1, INT32_MAX, origin,
			     &join->size) < 0 ||
	    json_get_integer_or(message, "pid", 0, INT32_MAX, 0, origin,
				&join->pid) < 0 ||
	    json_get_string(message, "program", origin, &join->program) < 0 ||
	    json_get_string_or(message, "job", "", origin, &join->job) < 0 ||
	    json_get_string(message, "host", origin, &join->host) < 0 ||
	    json_get_string(message, "machine", origin, &join->machine) < 0 ||
	    json_get_string(message, "launcher", origin, &join->launcher) < 0 ||
	    json_get_string(message, "address", origin, &join->address) < 0 ||
	    json_get_string(message, "cores", origin, &join->cores) < 0 ||
	    json_get_string_or(message, "wire", NULL, origin, &join->wire) < 0)
		return -EPROTO;
	return 0;
}

/* False: refused. */
static bool check_join(struct hosts *hosts, struct hosts_visitor *visitor,
		       const struct join *join)
{
	if (join->version != CONTROL_VERSION ||
	    strcmp(join->program, PACKAGE_VERSION) != 0) {
		refuse(hosts, visitor,
		       "it is stagecoach %.40s (protocol %" PRId64
		       "), rank 0 is %s (protocol %d): install the same "
		       "version everywhere",
		       join->program, join->version, PACKAGE_VERSION,
		       CONTROL_VERSION);
		return false;
	}
	if (join->job[0] && hosts->place.job[0] &&
	    strcmp(join->job, hosts->place.job) != 0) {
		visitor->elsewhere = true;
		refuse(hosts, visitor,
		       "it belongs to another job ('%.60s', this is '%.60s')",
		       join->job, hosts->place.job);
		return false;
	}
	if (join->size != (int64_t)hosts->size) {
		refuse(hosts, visitor,
		       "rank %" PRId64 " says the world has %" PRId64
		       " ranks, rank 0 says %u",
		       join->rank, join->size, hosts->size);
		return false;
	}
	if (join->wire && hosts->config.wire &&
	    strcmp(join->wire, hosts->config.wire) != 0) {
		refuse(hosts, visitor,
		       "rank %" PRId64 " asks for links that are %.20s "
		       "(--wire), rank 0 for %s ones: give all the same",
		       join->rank, join->wire, hosts->config.wire);
		return false;
	}
	if (join->rank + join->count > (int64_t)hosts->size) {
		refuse(hosts, visitor, "rank %" PRId64 " of %u: there is none",
		       join->rank + join->count - 1, hosts->size);
		return false;
	}
	for (int64_t i = join->rank; i < join->rank + join->count; i++) {
		if (hosts->guest_of[i] == HOSTS_NOBODY)
			continue;
		refuse(hosts, visitor, "rank %" PRId64 " is there already", i);
		return false;
	}
	return true;
}

/* What others will connect to: a number, and not loopback unless we are one. */
static bool check_address(struct hosts *hosts, struct hosts_visitor *visitor,
			  const struct join *join, struct address *address)
{
	if (address_parse(join->address, 0, address) < 0) {
		refuse(hosts, visitor, "'%.60s' is no address", join->address);
		return false;
	}
	if (address_is_loopback(address) &&
	    !address_is_loopback(&visitor->peer)) {
		refuse(hosts, visitor,
		       "it comes from another host and offers %.60s, which "
		       "others cannot reach: give it --interface",
		       join->address);
		return false;
	}
	return true;
}

static void name_guest(struct hosts_guest *guest, const struct join *join)
{
	if (guest->count == 1)
		snprintf(guest->name, sizeof(guest->name),
			 "rank %u (pid %" PRId64 " on %.60s)", guest->first,
			 join->pid, guest->host);
	else
		snprintf(guest->name, sizeof(guest->name),
			 "ranks %u-%u (pid %" PRId64 " on %.60s)", guest->first,
			 guest->first + guest->count - 1, join->pid,
			 guest->host);
}

static void let_in(struct hosts *hosts, struct hosts_visitor *visitor,
		   const struct join *join, const struct address *address)
{
	struct hosts_guest *guest = &hosts->guests[hosts->guest_count];
	char session[17];

	*guest = (struct hosts_guest){
		.channel = visitor->channel,
		.first = (unsigned)join->rank,
		.count = (unsigned)join->count,
		.loopback = address_is_loopback(address),
	};
	if (cores_from_text(join->cores, &guest->cores, &guest->core_count)) {
		refuse(hosts, visitor, "it has no cores ('%.40s')",
		       join->cores);
		return;
	}
	visitor->channel = (struct control_channel){.fd = -1};
	guest->channel.limit_bytes = CONTROL_MESSAGE_BYTES;
	snprintf(guest->host, sizeof(guest->host), "%s", join->host);
	snprintf(guest->machine, sizeof(guest->machine), "%s", join->machine);
	snprintf(guest->launcher, sizeof(guest->launcher), "%s",
		 join->launcher);
	address_text(address, false, guest->address, sizeof(guest->address));
	guest->own.length = sizeof(guest->own.six);
	getsockname(guest->channel.fd, &guest->own.any, &guest->own.length);
	address_unmap(&guest->own);
	name_guest(guest, join);
	for (unsigned i = 0; i < guest->count; i++)
		hosts->guest_of[guest->first + i] = (int)hosts->guest_count;
	hosts->guest_count++;
	hosts->missing -= guest->count;
	snprintf(session, sizeof(session), "%016" PRIx64, hosts->session);
	if (control_queue(&guest->channel, CONTROL_ACCEPT,
			  json_pack("{s:s}", "session", session)) < 0 ||
	    control_flush(&guest->channel) < 0)
		hosts_guest_lost(hosts, guest);
}

static void take_join(struct hosts *hosts, struct hosts_visitor *visitor,
		      const json_t *message)
{
	struct address address;
	struct join join;

	if (read_join(message, &join) < 0)
		refuse(hosts, visitor, "%s", log_last_error());
	else if (check_join(hosts, visitor, &join) &&
		 check_address(hosts, visitor, &join, &address))
		let_in(hosts, visitor, &join, &address);
}

/* ---- a rank of an agent ---- */

static void take_attach(struct hosts *hosts, struct hosts_visitor *visitor,
			const json_t *message)
{
	static const char origin[] = "a connection of a rank";
	char mine[17], name[HOSTS_NAME_BYTES];
	int64_t job, rank, pid;
	const char *session;
	const struct hosts_guest *guest;

	if (json_get_string(message, "session", origin, &session) < 0 ||
	    json_get_integer(message, "job", 0, INT64_MAX, origin, &job) < 0 ||
	    json_get_integer(message, "rank", 0, hosts->size - 1, origin,
			     &rank) < 0 ||
	    json_get_integer(message, "pid", 0, INT32_MAX, origin, &pid) < 0) {
		refuse(hosts, visitor, "%s", log_last_error());
		return;
	}
	snprintf(mine, sizeof(mine), "%016" PRIx64, hosts->session);
	if (strcmp(session, mine) != 0 || job != hosts->job ||
	    !hosts->coordinator || hosts->guest_of[rank] < 0 ||
	    coordinator_is_attached(hosts->coordinator, (unsigned)rank)) {
		refuse(hosts, visitor, "rank %" PRId64 " of a job that is over",
		       rank);
		return;
	}
	guest = &hosts->guests[hosts->guest_of[rank]];
	snprintf(name, sizeof(name),
		 "rank %" PRId64 " (pid %" PRId64 " on %.40s)", rank, pid,
		 guest->host);
	visitor->channel.limit_bytes = CONTROL_MESSAGE_BYTES;
	visitor->channel.queue_bytes = 2 * (size_t)CONTROL_MESSAGE_BYTES;
	coordinator_attach(hosts->coordinator, (unsigned)rank,
			   &visitor->channel, name);
}

void hosts_visitor_read(struct hosts *hosts, struct hosts_visitor *visitor)
{
	static const char origin[] = "a connection";
	enum control_kind kind;
	json_t *message;
	int filled, rc;

	if (visitor->refused) {
		if (control_flush(&visitor->channel) <= 0)
			leave(visitor);
		return;
	}
	if (visitor->session && !prove(hosts, visitor))
		return;
	filled = control_fill(&visitor->channel);
	rc = filled == -EMSGSIZE
		     ? filled
		     : control_next(&visitor->channel, origin, &kind, &message);
	if (rc < 0) {
		refuse(hosts, visitor, "it does not speak our protocol");
		return;
	}
	if (rc == 0) {
		if (filled < 0) {
			note_refusal(hosts, &visitor->peer,
				     filled == -EBADMSG
					     ? "what it sends is not sealed"
					     : "it left without a word");
			leave(visitor);
		}
		return;
	}
	if (kind == CONTROL_JOIN)
		take_join(hosts, visitor, message);
	else if (kind == CONTROL_ATTACH)
		take_attach(hosts, visitor, message);
	else
		refuse(hosts, visitor, "it begins with '%s'",
		       control_kind_name(kind));
	json_decref(message);
}
