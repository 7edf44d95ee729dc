#include "engine/coordinator.h"

#include "base/clock.h"
#include "base/log.h"
#include "engine/control.h"
#include "engine/cores.h"
#include "engine/liveness.h"
#include "engine/world.h"
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>

#define NAME_BYTES     64
#define PLACE_BYTES    (WORLD_HOST_BYTES + 40)
#define STATE_BYTES    (PLACE_BYTES + NAME_BYTES + 64)
#define NUMERICS_BYTES 512
#define NEVER_NS       INT64_MAX

/* What is known of one rank. */
struct member {
	struct control_channel channel; /* fd -1: none, or closed */
	char name[NAME_BYTES];
	char host[WORLD_HOST_BYTES];
	char numerics[NUMERICS_BYTES];
	bool present; /* was added */
	bool hello;
	bool done;
	bool failed;
	bool ended;     /* its process or thread is gone */
	bool gathering; /* has given its part of the current round */
	json_t *value;  /* that part */
	json_t *result;
	int64_t last_step;
	bool remote;             /* over a network: it needs our heartbeat */
	char action[NAME_BYTES]; /* of the last heartbeat */
	enum liveness_wait wait; /* likewise */
	unsigned wait_peer;
};

/* How good an explanation is, the best last. */
enum cause_rank {
	CAUSE_NONE,
	CAUSE_LINK,    /* lost a link or was cancelled: a consequence, mostly */
	CAUSE_CLOSED,  /* its socket closed; how it ended may still be told */
	CAUSE_FAILED,  /* found an error by itself */
	CAUSE_STALLED, /* does not go on, and keeps the others from it */
	CAUSE_SILENT,  /* gives no sign of life */
	CAUSE_DIED,    /* ended without a word: nothing explains that better */
	CAUSE_ORDER,   /* the user or the supervisor ends the job */
};

struct cause {
	enum cause_rank kind;
	int code;
	int rank;
	char reason[COORDINATOR_REASON_BYTES];
};

struct coordinator {
	struct coordinator_config config;
	struct member *members;
	struct pollfd *polls;
	unsigned *poll_rank; /* whose socket polls[i] is */
	unsigned polls_capacity;
	enum coordinator_state state;
	bool stop_requested;
	uint64_t session;
	int64_t round;
	unsigned hellos, gathered, dones;
	int64_t start_deadline_ns;
	int64_t settle_deadline_ns;
	struct liveness *liveness;
	int64_t beat_ns; /* when the next heartbeat and look are due */
	struct cause cause;
};

int coordinator_create(const struct coordinator_config *config,
		       struct coordinator **out)
{
	struct coordinator *coordinator = calloc(1, sizeof(*coordinator));

	if (!coordinator)
		goto err_memory;
	coordinator->config = *config;
	coordinator->members =
		calloc(config->size, sizeof(*coordinator->members));
	if (!coordinator->members ||
	    liveness_create(config->size, config->silence_ns, config->stall_ns,
			    &coordinator->liveness) < 0)
		goto err_memory;
	for (unsigned i = 0; i < config->size; i++) {
		coordinator->members[i].channel.fd = -1;
		coordinator->members[i].last_step = -1;
		snprintf(coordinator->members[i].name, NAME_BYTES, "rank %u",
			 i);
	}
	if (getrandom(&coordinator->session, sizeof(coordinator->session), 0) !=
	    sizeof(coordinator->session))
		coordinator->session = (uint64_t)clock_now_ns();
	coordinator->session |= 1; /* never 0 */
	coordinator->cause.rank = -1;
	coordinator->settle_deadline_ns = NEVER_NS;
	coordinator->start_deadline_ns =
		clock_now_ns() + config->start_timeout_ns;
	*out = coordinator;
	return 0;

err_memory:
	if (coordinator)
		free(coordinator->members);
	free(coordinator);
	return fail(-ENOMEM, "no memory to coordinate %u ranks", config->size);
}

void coordinator_destroy(struct coordinator *coordinator)
{
	if (!coordinator)
		return;
	for (unsigned i = 0; i < coordinator->config.size; i++) {
		struct member *member = &coordinator->members[i];

		control_channel_fini(&member->channel);
		json_decref(member->value);
		json_decref(member->result);
	}
	liveness_destroy(coordinator->liveness);
	free(coordinator->members);
	free(coordinator->polls);
	free(coordinator->poll_rank);
	free(coordinator);
}

/* ---- failure: collecting causes, choosing one, telling ---- */

static void member_send(struct coordinator *coordinator, unsigned rank,
			const char *text);

static void broadcast(struct coordinator *coordinator, enum control_kind kind,
		      json_t *message)
{
	char *text = NULL;

	if (message &&
	    !json_object_set_new(message, "kind",
				 json_string(control_kind_name(kind))))
		text = json_dumps(message, JSON_COMPACT);
	json_decref(message);
	if (!text) {
		log_error("no memory for a %s message",
			  control_kind_name(kind));
		return;
	}
	for (unsigned i = 0; i < coordinator->config.size; i++)
		member_send(coordinator, i, text);
	free(text);
}

static void tell_abort(struct coordinator *coordinator)
{
	const struct cause *cause = &coordinator->cause;

	coordinator->state = COORDINATOR_ABORTED;
	coordinator->settle_deadline_ns = NEVER_NS;
	broadcast(coordinator, CONTROL_ABORT,
		  json_pack("{s:i, s:s}", "rank", cause->rank, "reason",
			    cause->reason));
	/* Who has not been welcomed yet understands a closed socket. */
	for (unsigned i = 0; i < coordinator->config.size; i++) {
		if (!coordinator->members[i].hello)
			control_channel_fini(&coordinator->members[i].channel);
	}
}

/* Nobody is left whose report could explain more. */
static bool all_accounted(const struct coordinator *coordinator)
{
	for (unsigned i = 0; i < coordinator->config.size; i++) {
		const struct member *member = &coordinator->members[i];

		if (!member->failed && !member->done && !member->ended)
			return false;
	}
	return true;
}

static PRINTF_LIKE(5, 6) void blame(struct coordinator *coordinator,
				    enum cause_rank kind, int code, int rank,
				    const char *format, ...)
{
	struct cause *cause = &coordinator->cause;
	va_list arguments;

	if (coordinator->state == COORDINATOR_ABORTED)
		return;
	if (kind > cause->kind) {
		cause->kind = kind;
		cause->code = code;
		cause->rank = rank;
		va_start(arguments, format);
		vsnprintf(cause->reason, sizeof(cause->reason), format,
			  arguments);
		va_end(arguments);
		control_clean_text(cause->reason);
	}
	if (coordinator->state != COORDINATOR_FAILING) {
		coordinator->state = COORDINATOR_FAILING;
		coordinator->settle_deadline_ns =
			clock_now_ns() + coordinator->config.settle_ns;
	}
	if (kind >= CAUSE_STALLED || all_accounted(coordinator))
		tell_abort(coordinator);
}

/* The latest step heard of; all ranks are at about the same one. */
static int64_t latest_step(const struct coordinator *coordinator)
{
	int64_t step = -1;

	for (unsigned i = 0; i < coordinator->config.size; i++)
		step = MAX(step, coordinator->members[i].last_step);
	return step;
}

/* " at step 12 on n1", as far as it is known. */
static const char *at_step(const struct coordinator *coordinator,
			   const struct member *member, char *buffer,
			   size_t size)
{
	int64_t number = member->last_step;
	char step[32] = "";

	if (number < 0 && member->hello)
		number = latest_step(coordinator);
	if (number >= 0)
		snprintf(step, sizeof(step), " at step %" PRId64, number);
	snprintf(buffer, size, "%s%s%s", step, member->hello ? " on " : "",
		 member->host);
	return buffer;
}

/* Codes that a rank reports because another one has gone. */
static bool code_is_link(int code)
{
	static const int codes[] = {
		ECONNRESET, EPIPE,     ECONNREFUSED, ECONNABORTED,
		ENOTCONN,   ETIMEDOUT, EHOSTUNREACH, ENETUNREACH,
		ENETDOWN,   EHOSTDOWN, ECANCELED,
	};

	for (size_t i = 0; i < ARRAY_SIZE(codes); i++) {
		if (code == -codes[i])
			return true;
	}
	return false;
}

/* ---- one rank's socket ---- */

/* The socket ended: expected after a failure or bye, else a death. */
static void member_lost(struct coordinator *coordinator, unsigned rank)
{
	struct member *member = &coordinator->members[rank];
	char step[PLACE_BYTES];

	control_channel_fini(&member->channel);
	liveness_forget(coordinator->liveness, rank);
	if (member->remote && !member->failed && !member->ended &&
	    coordinator->state != COORDINATOR_DONE) {
		/* Nobody is left there who could tell how. */
		blame(coordinator, CAUSE_DIED, -ECONNRESET, (int)rank,
		      "%s is gone%s: its connection broke off (killed, or its "
		      "host or the network is down)",
		      member->name,
		      at_step(coordinator, member, step, sizeof(step)));
		return;
	}
	if (member->failed || member->ended ||
	    coordinator->state == COORDINATOR_DONE)
		return;
	blame(coordinator, CAUSE_CLOSED, -ECONNRESET, (int)rank,
	      "%s closed its control connection without a word%s", member->name,
	      at_step(coordinator, member, step, sizeof(step)));
}

static void member_flush(struct coordinator *coordinator, unsigned rank)
{
	/* A broken socket shows itself when it is read: its last words first. */
	if (control_flush(&coordinator->members[rank].channel) < 0)
		coordinator->members[rank].channel.out_start =
			coordinator->members[rank].channel.out_end;
}

static void member_send(struct coordinator *coordinator, unsigned rank,
			const char *text)
{
	struct member *member = &coordinator->members[rank];
	int rc;

	if (member->channel.fd < 0 || !member->hello)
		return;
	rc = control_queue_parts(&member->channel, "", text, strlen(text), "");
	if (rc < 0) {
		blame(coordinator, CAUSE_FAILED, rc, (int)rank,
		      "%s does not take its control messages: %s", member->name,
		      strerror(-rc));
		return;
	}
	member_flush(coordinator, rank);
}

static json_t *cores_to_json(const struct cores_plan *plan, unsigned rank)
{
	const int *core = cores_of_rank(plan, rank);
	json_t *array = json_array();

	for (unsigned i = 0; i < cores_threads(plan, rank); i++)
		json_array_append_new(array, json_integer(core[i]));
	return array;
}

static int welcome(struct coordinator *coordinator, unsigned rank)
{
	const struct coordinator_config *config = &coordinator->config;
	struct member *member = &coordinator->members[rank];
	char session[17];
	int rc;

	snprintf(session, sizeof(session), "%016" PRIx64, coordinator->session);
	rc = control_queue(
		&member->channel, CONTROL_WELCOME,
		json_pack(
			"{s:i, s:i, s:s, s:s, s:s, s:i, s:o, s:O, s:I, s:b, s:s*, "
			"s:s*, s:s*}",
			"rank", (int)rank, "size", (int)config->size, "session",
			session, "transport", config->transport, "io",
			config->io, "threads",
			(int)cores_threads(config->cores, rank), "cores",
			cores_to_json(config->cores, rank), "job", config->job,
			"silence_ms",
			(json_int_t)(config->silence_ns / NS_PER_MS), "remote",
			member->remote, "bind",
			config->links.bind ? config->links.bind[rank] : NULL,
			"key", config->links.key, "wire", config->links.wire));
	if (rc < 0)
		return rc;
	member_flush(coordinator, rank);
	return 0;
}

/* Ranks that compute differently are told apart before the first step. */
static int compare_numerics(struct coordinator *coordinator, unsigned rank)
{
	const struct member *member = &coordinator->members[rank];

	for (unsigned i = 0; i < coordinator->config.size; i++) {
		const struct member *other = &coordinator->members[i];

		if (i == rank || !other->hello ||
		    strcmp(other->numerics, member->numerics) == 0)
			continue;
		blame(coordinator, CAUSE_FAILED, -EPROTO, (int)rank,
		      "%s on %s computes differently from %s on %s: numerics "
		      "'%s' and '%s'; use the same build and libraries "
		      "everywhere",
		      member->name, member->host, other->name, other->host,
		      member->numerics, other->numerics);
		return -EPROTO;
	}
	return 0;
}

static int take_hello(struct coordinator *coordinator, unsigned rank,
		      const json_t *message)
{
	struct member *member = &coordinator->members[rank];
	const char *host, *numerics;
	int64_t version, said_rank;

	if (member->hello)
		return fail(-EPROTO, "%s says hello twice", member->name);
	if (json_get_integer(message, "version", 0, INT32_MAX, member->name,
			     &version) < 0 ||
	    json_get_integer_or(message, "rank", -1, INT32_MAX, -1,
				member->name, &said_rank) < 0 ||
	    json_get_string_or(message, "host", "?", member->name, &host) < 0 ||
	    json_get_string_or(message, "numerics", "", member->name,
			       &numerics) < 0)
		return -EPROTO;
	if (version != CONTROL_VERSION)
		return fail(-EPROTO,
			    "%s speaks control version %" PRId64
			    ", this program %d: install the same version "
			    "everywhere",
			    member->name, version, CONTROL_VERSION);
	if (said_rank != -1 && said_rank != (int64_t)rank)
		return fail(-EPROTO, "%s says it is rank %" PRId64,
			    member->name, said_rank);
	snprintf(member->host, sizeof(member->host), "%s", host);
	snprintf(member->numerics, sizeof(member->numerics), "%s", numerics);
	member->hello = true;
	coordinator->hellos++;
	liveness_expect(coordinator->liveness, rank, clock_now_ns());
	if (compare_numerics(coordinator, rank) < 0)
		return 0; /* blamed */
	if (welcome(coordinator, rank) < 0)
		return -ENOMEM;
	if (coordinator->stop_requested)
		member_send(coordinator, rank, "{\"kind\":\"stop\"}");
	return 0;
}

static void note_step(struct member *member, const json_t *object)
{
	const json_t *step = json_object_get(object, "step");

	if (json_is_integer(step))
		member->last_step =
			MAX(member->last_step, json_integer_value(step));
}

static int take_event(struct coordinator *coordinator, unsigned rank,
		      const json_t *message)
{
	struct member *member = &coordinator->members[rank];
	json_t *event;

	if (json_get_object(message, "event", member->name, &event) < 0)
		return -EPROTO;
	note_step(member, event);
	if (coordinator->config.event)
		coordinator->config.event(coordinator->config.argument, rank,
					  event);
	return 0;
}

/* What is out of range says nothing, and is not worth a failure. */
static int64_t integer_within(const json_t *object, const char *name,
			      int64_t below)
{
	int64_t value = json_integer_value(json_object_get(object, name));

	return value < 0 || value >= below ? 0 : value;
}

static int take_progress(struct coordinator *coordinator, unsigned rank,
			 const json_t *message)
{
	struct member *member = &coordinator->members[rank];
	struct liveness_state state = {
		.moves = (uint64_t)integer_within(message, "moves", INT64_MAX),
		.wait = (enum liveness_wait)integer_within(message, "wait",
							   LIVENESS_WAITS),
		.peer = (unsigned)integer_within(message, "peer", UINT32_MAX),
		.between = json_is_true(json_object_get(message, "between")),
	};
	const char *action;

	if (json_get_string_or(message, "action", "", member->name, &action) <
	    0)
		return -EPROTO;
	note_step(member, message);
	state.step = member->last_step;
	snprintf(member->action, sizeof(member->action), "%s", action);
	member->wait = state.wait;
	member->wait_peer = state.peer;
	liveness_told(coordinator->liveness, rank, clock_now_ns(), &state);
	return 0;
}

static void give_gathered(struct coordinator *coordinator)
{
	json_t *values = json_array();

	for (unsigned i = 0; i < coordinator->config.size; i++) {
		struct member *member = &coordinator->members[i];

		json_array_append_new(values, member->value);
		member->value = NULL;
		member->gathering = false;
	}
	coordinator->gathered = 0;
	broadcast(coordinator, CONTROL_GATHERED,
		  json_pack("{s:I, s:o}", "round",
			    (json_int_t)coordinator->round++, "values",
			    values));
}

/* A rank waits for all, and another one has left: a bug, but not a hang. */
static void check_gather_possible(struct coordinator *coordinator)
{
	const struct member *waits = NULL, *left = NULL;
	unsigned rank = 0;

	for (unsigned i = 0; i < coordinator->config.size; i++) {
		if (coordinator->members[i].gathering)
			waits = &coordinator->members[i];
		if (coordinator->members[i].done) {
			left = &coordinator->members[i];
			rank = i;
		}
	}
	if (waits && left)
		blame(coordinator, CAUSE_FAILED, -EPROTO, (int)rank,
		      "%s has finished while %s waits for all ranks at a "
		      "barrier",
		      left->name, waits->name);
}

static int take_gather(struct coordinator *coordinator, unsigned rank,
		       json_t *message)
{
	struct member *member = &coordinator->members[rank];
	json_t *value = json_object_get(message, "value");
	int64_t round;

	if (json_get_integer(message, "round", 0, INT64_MAX, member->name,
			     &round) < 0)
		return -EPROTO;
	if (member->gathering || round != coordinator->round)
		return fail(-EPROTO,
			    "%s is at barrier %" PRId64 ", the others at "
			    "%" PRId64,
			    member->name, round, coordinator->round);
	member->value = value ? json_incref(value) : json_null();
	member->gathering = true;
	if (++coordinator->gathered == coordinator->config.size)
		give_gathered(coordinator);
	else
		check_gather_possible(coordinator);
	return 0;
}

static int take_done(struct coordinator *coordinator, unsigned rank,
		     json_t *message)
{
	struct member *member = &coordinator->members[rank];
	json_t *result = json_object_get(message, "result");

	if (member->done || member->failed)
		return fail(-EPROTO, "%s says twice how it ended",
			    member->name);
	if (result && !json_is_null(result))
		member->result = json_incref(result);
	member->done = true;
	if (++coordinator->dones < coordinator->config.size) {
		check_gather_possible(coordinator);
		return 0;
	}
	if (coordinator->state == COORDINATOR_RUNNING) {
		coordinator->state = COORDINATOR_DONE;
		broadcast(coordinator, CONTROL_BYE, json_object());
	}
	return 0;
}

static int take_failed(struct coordinator *coordinator, unsigned rank,
		       const json_t *message)
{
	struct member *member = &coordinator->members[rank];
	const char *text;
	char step[PLACE_BYTES];
	int64_t code;

	if (json_get_integer(message, "code", INT32_MIN, -1, member->name,
			     &code) < 0 ||
	    json_get_string_or(message, "message", "", member->name, &text) < 0)
		return -EPROTO;
	note_step(member, message);
	member->failed = true;
	liveness_forget(coordinator->liveness, rank);
	if (!text[0])
		text = strerror((int)-code);
	blame(coordinator, code_is_link((int)code) ? CAUSE_LINK : CAUSE_FAILED,
	      (int)code, (int)rank, "%s failed%s: %s", member->name,
	      at_step(coordinator, member, step, sizeof(step)), text);
	return 0;
}

static void rank_ended(struct coordinator *coordinator, unsigned rank,
		       const char *how)
{
	struct member *member = &coordinator->members[rank];
	char step[PLACE_BYTES];

	member->ended = true;
	liveness_forget(coordinator->liveness, rank);
	if (member->failed) {
		if (coordinator->state == COORDINATOR_FAILING &&
		    all_accounted(coordinator))
			tell_abort(coordinator);
		return;
	}
	if (!how && coordinator->state == COORDINATOR_DONE)
		return;
	blame(coordinator, CAUSE_DIED, -ECHILD, (int)rank, "%s %s%s%s",
	      member->name, how ? how : "ended without a word",
	      at_step(coordinator, member, step, sizeof(step)),
	      member->done ? ", after it was done" : "");
}

/* What waitpid() told where the rank ran. */
static int take_ended(struct coordinator *coordinator, unsigned rank,
		      const json_t *message)
{
	const char *how;

	if (!coordinator->members[rank].remote)
		return fail(-EPROTO, "%s says that it has ended",
			    coordinator->members[rank].name);
	if (json_get_string_or(message, "how", NULL,
			       coordinator->members[rank].name, &how) < 0)
		return -EPROTO;
	rank_ended(coordinator, rank, how);
	return 0;
}

static int take_message(struct coordinator *coordinator, unsigned rank,
			enum control_kind kind, json_t *message)
{
	struct member *member = &coordinator->members[rank];

	if (!member->hello && kind != CONTROL_HELLO && kind != CONTROL_ENDED)
		return fail(-EPROTO, "%s sends '%s' before hello", member->name,
			    control_kind_name(kind));
	switch (kind) {
	case CONTROL_HELLO:
		return take_hello(coordinator, rank, message);
	case CONTROL_EVENT:
		return take_event(coordinator, rank, message);
	case CONTROL_PROGRESS:
		return take_progress(coordinator, rank, message);
	case CONTROL_GATHER:
		return take_gather(coordinator, rank, message);
	case CONTROL_STOP:
		coordinator_stop(coordinator);
		return 0;
	case CONTROL_DONE:
		return take_done(coordinator, rank, message);
	case CONTROL_FAILED:
		return take_failed(coordinator, rank, message);
	case CONTROL_ENDED:
		return take_ended(coordinator, rank, message);
	case CONTROL_JOIN:
	case CONTROL_ACCEPT:
	case CONTROL_REFUSE:
	case CONTROL_START:
	case CONTROL_KILL:
	case CONTROL_END:
	case CONTROL_ATTACH:
	case CONTROL_WELCOME:
	case CONTROL_GATHERED:
	case CONTROL_BEAT:
	case CONTROL_STATE:
	case CONTROL_ABORT:
	case CONTROL_BYE:
	case CONTROL_KINDS:
		break;
	}
	return fail(-EPROTO, "%s sends '%s', which a rank may not",
		    member->name, control_kind_name(kind));
}

/* Everything that has come, then the end of the stream if it is there. */
static void member_read(struct coordinator *coordinator, unsigned rank)
{
	struct member *member = &coordinator->members[rank];
	enum control_kind kind;
	json_t *message;
	int filled, rc;

	do {
		filled = control_fill(&member->channel);
		if (filled > 0)
			liveness_heard(coordinator->liveness, rank,
				       clock_now_ns());
		while ((rc = control_next(&member->channel, member->name, &kind,
					  &message)) > 0) {
			rc = take_message(coordinator, rank, kind, message);
			json_decref(message);
			if (rc < 0)
				break;
		}
		if (rc < 0) {
			blame(coordinator, CAUSE_FAILED, rc, (int)rank,
			      "%s broke the control protocol: %s", member->name,
			      log_last_error());
			member->failed = true;
			control_channel_fini(&member->channel);
			return;
		}
	} while (filled > 0);
	if (filled < 0)
		member_lost(coordinator, rank);
}

/* ---- signs of life ---- */

static void beat(struct coordinator *coordinator)
{
	for (unsigned i = 0; i < coordinator->config.size; i++) {
		if (coordinator->members[i].remote)
			member_send(coordinator, i, "{\"kind\":\"beat\"}");
	}
}

/* "at step 3 in 1F2, waiting for data from rank 0" */
static const char *describe(const struct coordinator *coordinator,
			    const struct member *member, char *text,
			    size_t size)
{
	char step[PLACE_BYTES];
	int used;

	used = snprintf(text, size, "%s%s%s",
			at_step(coordinator, member, step, sizeof(step)),
			member->action[0] ? " in " : "", member->action);
	used = MIN(used, (int)size - 1);
	if (member->wait == LIVENESS_WAITS_DATA)
		snprintf(text + used, size - (size_t)used,
			 ", waiting for data from rank %u", member->wait_peer);
	else if (member->wait == LIVENESS_WAITS_ROOM)
		snprintf(text + used, size - (size_t)used,
			 ", waiting for rank %u to take a message",
			 member->wait_peer);
	else if (member->wait == LIVENESS_WAITS_ALL)
		snprintf(text + used, size - (size_t)used,
			 ", waiting for all ranks");
	return text;
}

static void blame_silent(struct coordinator *coordinator,
			 const struct liveness_verdict *verdict)
{
	const struct member *member = &coordinator->members[verdict->rank];
	char text[STATE_BYTES];

	blame(coordinator, CAUSE_SILENT, -ETIMEDOUT, (int)verdict->rank,
	      "%s gives no sign of life for %.1f s, last heard of%s: %s",
	      member->name, clock_seconds(verdict->quiet_ns),
	      describe(coordinator, member, text, sizeof(text)),
	      member->remote ? "it is stopped, or its host or the network "
			       "between is gone"
			     : "it is stopped");
}

static void blame_stalled(struct coordinator *coordinator,
			  const struct liveness_verdict *verdict)
{
	const struct member *member = &coordinator->members[verdict->rank];
	char text[STATE_BYTES], other[STATE_BYTES];

	broadcast(coordinator, CONTROL_STATE, json_object());
	if (verdict->finding == LIVENESS_STALLED) {
		blame(coordinator, CAUSE_STALLED, -ETIMEDOUT,
		      (int)verdict->rank,
		      "%s is alive and has not gone on for %.0f s%s "
		      "(--stall-timeout, now %.0f s)",
		      member->name, clock_seconds(verdict->quiet_ns),
		      describe(coordinator, member, text, sizeof(text)),
		      clock_seconds(verdict->limit_ns));
		return;
	}
	blame(coordinator, CAUSE_STALLED, -ETIMEDOUT, (int)verdict->rank,
	      "%s and rank %u wait for each other for %.0f s: the one%s, the "
	      "other%s; a message between them is lost (--stall-timeout, now "
	      "%.0f s)",
	      member->name, verdict->peer, clock_seconds(verdict->quiet_ns),
	      describe(coordinator, member, text, sizeof(text)),
	      describe(coordinator, &coordinator->members[verdict->peer], other,
		       sizeof(other)),
	      clock_seconds(verdict->limit_ns));
}

/* After everything that has come was read. */
static void check_life(struct coordinator *coordinator)
{
	int64_t now_ns = clock_now_ns();
	struct liveness_verdict verdict;

	if (now_ns < coordinator->beat_ns)
		return;
	coordinator->beat_ns = now_ns + LIVENESS_BEAT_NS;
	beat(coordinator);
	if (coordinator->state != COORDINATOR_RUNNING &&
	    coordinator->state != COORDINATOR_FAILING)
		return;
	verdict = liveness_look(coordinator->liveness, now_ns);
	if (verdict.finding == LIVENESS_SILENT)
		blame_silent(coordinator, &verdict);
	else if (verdict.finding != LIVENESS_FINE &&
		 coordinator->state == COORDINATOR_RUNNING)
		blame_stalled(coordinator, &verdict);
}

void coordinator_ask_states(struct coordinator *coordinator)
{
	int64_t now_ns = clock_now_ns();

	broadcast(coordinator, CONTROL_STATE, json_object());
	for (unsigned i = 0; i < coordinator->config.size; i++) {
		const struct member *member = &coordinator->members[i];
		int64_t quiet_ns =
			liveness_silence_ns(coordinator->liveness, i, now_ns);

		if (!member->hello)
			log_info("%s has not said hello yet", member->name);
		else if (quiet_ns > LIVENESS_DOUBT_NS)
			log_info("%s gives no sign of life for %.1f s",
				 member->name, clock_seconds(quiet_ns));
	}
}

bool coordinator_is_silent(const struct coordinator *coordinator, unsigned rank)
{
	return coordinator->cause.kind == CAUSE_SILENT &&
	       coordinator->cause.rank == (int)rank;
}

/* A lost link may be the first sign of a rank that is about to be missed. */
static bool is_settled(const struct coordinator *coordinator, int64_t now_ns)
{
	if (coordinator->state != COORDINATOR_FAILING ||
	    now_ns < coordinator->settle_deadline_ns)
		return false;
	return coordinator->cause.kind != CAUSE_LINK ||
	       !liveness_in_doubt(coordinator->liveness, now_ns);
}

/* ---- the loop ---- */

static int make_polls(struct coordinator *coordinator, unsigned extra_count)
{
	unsigned needed = coordinator->config.size + extra_count;
	struct pollfd *polls;
	unsigned *poll_rank;

	if (needed <= coordinator->polls_capacity)
		return 0;
	polls = realloc(coordinator->polls, needed * sizeof(*polls));
	if (!polls)
		goto err_memory;
	coordinator->polls = polls;
	poll_rank =
		realloc(coordinator->poll_rank, needed * sizeof(*poll_rank));
	if (!poll_rank)
		goto err_memory;
	coordinator->poll_rank = poll_rank;
	coordinator->polls_capacity = needed;
	return 0;

err_memory:
	return fail(-ENOMEM, "no memory to poll %u sockets", needed);
}

static unsigned fill_polls(struct coordinator *coordinator)
{
	unsigned count = 0;

	for (unsigned i = 0; i < coordinator->config.size; i++) {
		const struct control_channel *channel =
			&coordinator->members[i].channel;

		if (channel->fd < 0)
			continue;
		coordinator->polls[count] = (struct pollfd){
			.fd = channel->fd,
			.events = (short)(POLLIN |
					  (control_pending(channel) ? POLLOUT
								    : 0)),
		};
		coordinator->poll_rank[count++] = i;
	}
	return count;
}

static int timeout_ms(int64_t deadline_ns)
{
	int64_t left_ns = deadline_ns - clock_now_ns();

	if (left_ns <= 0)
		return 0;
	return (int)MIN((left_ns + NS_PER_MS - 1) / NS_PER_MS, 60000);
}

static void check_deadlines(struct coordinator *coordinator)
{
	int64_t now_ns = clock_now_ns();

	if (is_settled(coordinator, now_ns))
		tell_abort(coordinator);
	if (coordinator->state != COORDINATOR_RUNNING ||
	    coordinator->hellos == coordinator->config.size ||
	    now_ns < coordinator->start_deadline_ns)
		return;
	for (unsigned i = 0; i < coordinator->config.size; i++) {
		if (!coordinator->members[i].hello) {
			blame(coordinator, CAUSE_DIED, -ETIMEDOUT, (int)i,
			      "%s did not say hello within %.0f s",
			      coordinator->members[i].name,
			      clock_seconds(
				      coordinator->config.start_timeout_ns));
			return;
		}
	}
}

int coordinator_poll(struct coordinator *coordinator, struct pollfd *extra,
		     unsigned count, int64_t deadline_ns)
{
	unsigned sockets;
	int rc;

	rc = make_polls(coordinator, count);
	if (rc < 0)
		return rc;
	sockets = fill_polls(coordinator);
	if (count)
		memcpy(coordinator->polls + sockets, extra,
		       count * sizeof(*extra));
	deadline_ns = MIN(deadline_ns, coordinator->beat_ns);
	if (coordinator->settle_deadline_ns > clock_now_ns())
		deadline_ns = MIN(deadline_ns, coordinator->settle_deadline_ns);
	if (coordinator->hellos < coordinator->config.size &&
	    coordinator->state == COORDINATOR_RUNNING)
		deadline_ns = MIN(deadline_ns, coordinator->start_deadline_ns);
	rc = poll(coordinator->polls, sockets + count, timeout_ms(deadline_ns));
	if (rc < 0 && errno != EINTR)
		return fail(-errno, "poll of %u control sockets: %s", sockets,
			    strerror(errno));
	for (unsigned i = 0; i < count; i++)
		extra[i].revents =
			rc > 0 ? coordinator->polls[sockets + i].revents : 0;
	for (unsigned i = 0; rc > 0 && i < sockets; i++) {
		unsigned rank = coordinator->poll_rank[i];
		short revents = coordinator->polls[i].revents;

		if (revents & POLLOUT)
			member_flush(coordinator, rank);
		if (revents & ~POLLOUT &&
		    coordinator->members[rank].channel.fd >= 0)
			member_read(coordinator, rank);
	}
	check_life(coordinator);
	check_deadlines(coordinator);
	return 0;
}

int coordinator_add(struct coordinator *coordinator, unsigned rank, int fd,
		    const char *name)
{
	struct member *member = &coordinator->members[rank];
	socklen_t length = sizeof(int);
	int domain = AF_UNIX;

	ASSERT(rank < coordinator->config.size && !member->present);
	getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &length);
	member->present = true;
	member->remote = domain != AF_UNIX;
	snprintf(member->name, sizeof(member->name), "%s", name);
	return control_channel_init(&member->channel, fd, CONTROL_MESSAGE_BYTES,
				    2 * (size_t)CONTROL_MESSAGE_BYTES, false);
}

void coordinator_attach(struct coordinator *coordinator, unsigned rank,
			struct control_channel *channel, const char *name)
{
	struct member *member = &coordinator->members[rank];

	ASSERT(rank < coordinator->config.size && !member->present);
	member->present = member->remote = true;
	snprintf(member->name, sizeof(member->name), "%s", name);
	member->channel = *channel;
	*channel = (struct control_channel){.fd = -1};
	member_read(coordinator, rank); /* what came along with the attach */
}

bool coordinator_is_attached(const struct coordinator *coordinator,
			     unsigned rank)
{
	return coordinator->members[rank].present;
}

bool coordinator_is_gone(const struct coordinator *coordinator, unsigned rank)
{
	const struct member *member = &coordinator->members[rank];

	return member->ended || (member->present && member->channel.fd < 0);
}

void coordinator_rank_ended(struct coordinator *coordinator, unsigned rank,
			    const char *how)
{
	struct member *member = &coordinator->members[rank];

	if (member->channel.fd >= 0)
		member_read(coordinator, rank); /* its last words */
	if (!member->ended)
		rank_ended(coordinator, rank, how);
}

void coordinator_stop(struct coordinator *coordinator)
{
	if (coordinator->stop_requested)
		return;
	coordinator->stop_requested = true;
	broadcast(coordinator, CONTROL_STOP, json_object());
}

void coordinator_abort(struct coordinator *coordinator, int code,
		       const char *reason)
{
	blame(coordinator, CAUSE_ORDER, code, -1, "%s", reason);
}

enum coordinator_state coordinator_state(const struct coordinator *coordinator)
{
	return coordinator->state;
}

bool coordinator_stop_requested(const struct coordinator *coordinator)
{
	return coordinator->stop_requested;
}

int coordinator_failure(const struct coordinator *coordinator, int *rank,
			const char **reason)
{
	*rank = coordinator->cause.rank;
	*reason = coordinator->cause.reason;
	return coordinator->cause.code;
}

json_t *coordinator_result(const struct coordinator *coordinator, unsigned rank)
{
	return coordinator->members[rank].result;
}

int64_t coordinator_last_step(const struct coordinator *coordinator,
			      unsigned rank)
{
	return coordinator->members[rank].last_step;
}
