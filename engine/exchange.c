#include "engine/exchange.h"
#include "base/clock.h"
#include "base/log.h"

#include <errno.h>
#include <stdlib.h>

#define COMPLETIONS_AT_ONCE 32

/* Between two breaths of a layer. */
#define BREATH_NS (200 * NS_PER_US)

struct exchange {
	struct world *world;
	struct route *route;
	unsigned ahead;
	uint64_t step;
	exchange_place_fn *place;
	void *argument;
	exchange_work_fn *work;
	void *work_argument;
	int64_t waited_ns;
	int64_t breathed_ns;       /* when exchange_breathe() was called last */
	size_t sending, receiving; /* posted, not completed */
	unsigned *sending_to;      /* by rank: posted, not completed */
	int error;
};

/* Opaque to the transport; both ends derive the same from their routes. */
static uint64_t tag_of(const struct exchange *exchange,
		       const struct message *message)
{
	return (uint64_t)message->kind << 56 |
	       (exchange->step & 0xffffff) << 32 |
	       (uint64_t)message->stage << 16 | message->micro_batch;
}

int exchange_create(struct world *world, unsigned ahead,
		    exchange_place_fn *place, void *argument,
		    struct exchange **out)
{
	struct exchange *exchange = calloc(1, sizeof(*exchange));

	if (!exchange)
		return fail(-ENOMEM, "no memory for the exchange");
	exchange->sending_to =
		calloc(world->size, sizeof(*exchange->sending_to));
	if (!exchange->sending_to) {
		free(exchange);
		return fail(-ENOMEM, "no memory for the exchange");
	}
	exchange->world = world;
	exchange->ahead = ahead;
	exchange->place = place;
	exchange->argument = argument;
	*out = exchange;
	return 0;
}

void exchange_destroy(struct exchange *exchange)
{
	if (exchange)
		free(exchange->sending_to);
	free(exchange);
}

static void sort_completions(struct exchange *exchange,
			     const struct transport_completion *completions,
			     int count)
{
	if (count > 0)
		world_note_completions(exchange->world, completions,
				       (unsigned)count);
	for (int i = 0; i < count; i++) {
		if (completions[i].event == TRANSPORT_SENT) {
			*(bool *)completions[i].cookie = false;
			exchange->sending--;
			exchange->sending_to[completions[i].peer]--;
		} else {
			((struct message *)completions[i].cookie)->arrived =
				true;
			exchange->receiving--;
		}
	}
}

static int progress(struct exchange *exchange)
{
	struct transport_completion completions[COMPLETIONS_AT_ONCE];
	int count;

	if (exchange->error)
		return exchange->error;
	if (!exchange->world->endpoint)
		return 0;
	do {
		count = transport_progress(exchange->world->endpoint,
					   completions, COMPLETIONS_AT_ONCE);
		if (count < 0)
			return exchange->error = count;
		sort_completions(exchange, completions, count);
	} while (count == COMPLETIONS_AT_ONCE);
	return 0;
}

static bool works(struct exchange *exchange)
{
	return exchange->work && exchange->work(exchange->work_argument);
}

/* Blocks until something completes, noting what for. */
static int wait_once(struct exchange *exchange, enum liveness_wait wait,
		     unsigned peer)
{
	struct transport_completion completions[COMPLETIONS_AT_ONCE];
	int64_t begin_ns;
	int count;

	if (exchange->error)
		return exchange->error;
	/* Whoever waits looks again before it comes back. */
	if (works(exchange))
		return progress(exchange);
	if (exchange->error)
		return exchange->error;
	begin_ns = clock_now_ns();
	world_note_wait(exchange->world, wait, peer, begin_ns);
	count = world_wait(exchange->world, completions, COMPLETIONS_AT_ONCE);
	world_note_ready(exchange->world);
	exchange->waited_ns += clock_now_ns() - begin_ns;
	if (count < 0)
		return exchange->error = count;
	sort_completions(exchange, completions, count);
	return 0;
}

void exchange_breathe(void *argument)
{
	struct exchange *exchange = argument;

	exchange->breathed_ns = clock_now_ns();
	/* The error sticks, and the next call that can return it does. */
	if (!progress(exchange))
		works(exchange);
}

void exchange_breathe_often(void *argument)
{
	const struct exchange *exchange = argument;

	if (clock_now_ns() - exchange->breathed_ns >= BREATH_NS)
		exchange_breathe(argument);
}

/* Posts receives as far ahead of the messages taken as allowed. */
static int post_ahead(struct exchange *exchange, struct inbox *inbox)
{
	while (inbox->posted < inbox->count) {
		struct message *message = &inbox->messages[inbox->posted];
		unsigned ahead = MAX(message->ahead, exchange->ahead);
		int rc;

		if (inbox->posted >= inbox->done + ahead)
			return 0;
		if (!message->data)
			message->data =
				exchange->place(exchange->argument, message);
		rc = transport_post_recv(exchange->world->endpoint, inbox->peer,
					 tag_of(exchange, message),
					 message->data, message->bytes,
					 message);
		if (rc == -EAGAIN)
			return 0;
		if (rc)
			return exchange->error = rc;
		inbox->posted++;
		exchange->receiving++;
	}
	return 0;
}

static int post_all(struct exchange *exchange)
{
	for (unsigned i = 0; i < exchange->route->inbox_count; i++) {
		int rc = post_ahead(exchange, &exchange->route->inboxes[i]);

		if (rc)
			return rc;
	}
	return 0;
}

int exchange_begin(struct exchange *exchange, struct route *route,
		   uint64_t step)
{
	if (exchange->error)
		return exchange->error;
	exchange->route = route;
	exchange->step = step;
	exchange->waited_ns = 0;
	route_reset(route);
	return post_all(exchange);
}

static struct inbox *inbox_of(const struct exchange *exchange, unsigned peer)
{
	for (unsigned i = 0; i < exchange->route->inbox_count; i++)
		if (exchange->route->inboxes[i].peer == peer)
			return &exchange->route->inboxes[i];
	ASSERT(!"a message from a rank that sends none");
	return NULL;
}

int exchange_await(struct exchange *exchange, struct message *message)
{
	struct inbox *inbox = inbox_of(exchange, message->peer);
	int rc = progress(exchange);

	while (!rc && !message->arrived) {
		/* Only back-pressure keeps a needed receive unposted. */
		if (inbox->posted < inbox->count)
			rc = post_ahead(exchange, inbox);
		if (!rc && !message->arrived)
			rc = wait_once(exchange, LIVENESS_WAITS_DATA,
				       message->peer);
	}
	return rc;
}

int exchange_take(struct exchange *exchange, struct message *message)
{
	struct inbox *inbox = inbox_of(exchange, message->peer);

	message->taken = true;
	while (inbox->done < inbox->posted &&
	       inbox->messages[inbox->done].taken)
		inbox->done++;
	return exchange->error ? exchange->error : post_ahead(exchange, inbox);
}

int exchange_acquire(struct exchange *exchange, const struct message *message,
		     struct outgoing *out)
{
	int rc = exchange_await_sent(exchange, &out->busy);

	while (!rc) {
		rc = transport_acquire_send(
			exchange->world->endpoint, message->peer,
			tag_of(exchange, message), message->bytes, out->own,
			&out->where);
		if (rc != -EAGAIN)
			break;
		rc = wait_once(exchange, LIVENESS_WAITS_ROOM, message->peer);
	}
	if (rc)
		exchange->error = rc;
	return rc;
}

int exchange_try_send(struct exchange *exchange, const struct message *message,
		      const void *data, bool *busy)
{
	int rc = exchange->error;

	if (!rc)
		rc = transport_post_send(
			exchange->world->endpoint, message->peer,
			tag_of(exchange, message), data, message->bytes, busy);
	if (rc == -EAGAIN)
		return rc;
	if (rc)
		return exchange->error = rc;
	*busy = true;
	exchange->sending++;
	exchange->sending_to[message->peer]++;
	return 0;
}

int exchange_send(struct exchange *exchange, const struct message *message,
		  const void *data, bool *busy)
{
	int rc = exchange_try_send(exchange, message, data, busy);

	while (rc == -EAGAIN) {
		rc = wait_once(exchange, LIVENESS_WAITS_ROOM, message->peer);
		if (!rc)
			rc = exchange_try_send(exchange, message, data, busy);
	}
	return rc;
}

int exchange_post(struct exchange *exchange, const struct message *message,
		  struct outgoing *out)
{
	return exchange_send(exchange, message, out->where, &out->busy);
}

/* Whom a message is on its way to. */
static unsigned some_receiver(const struct exchange *exchange)
{
	unsigned size = exchange->world->size;

	for (unsigned i = 0; i < size; i++)
		if (exchange->sending_to[i])
			return i;
	return size;
}

int exchange_await_sent(struct exchange *exchange, const bool *busy)
{
	int rc = progress(exchange);

	while (!rc && *busy)
		rc = wait_once(exchange, LIVENESS_WAITS_ROOM,
			       some_receiver(exchange));
	return rc;
}

bool exchange_poll(struct exchange *exchange, struct inbox *inbox,
		   const struct message *message)
{
	if (message->arrived || exchange->error)
		return message->arrived;
	/* Only back-pressure keeps a needed receive unposted. */
	if (inbox->posted < inbox->count)
		(void)!post_ahead(exchange, inbox); /* the error sticks */
	return false;
}

int exchange_pause(struct exchange *exchange, enum liveness_wait wait,
		   unsigned peer)
{
	return wait_once(exchange, wait, peer);
}

void exchange_set_work(struct exchange *exchange, exchange_work_fn *work,
		       void *argument)
{
	exchange->work = work;
	exchange->work_argument = argument;
}

int exchange_expect(struct exchange *exchange, struct message *message)
{
	int rc = exchange->error;

	message->arrived = false;
	while (!rc) {
		rc = transport_post_recv(
			exchange->world->endpoint, message->peer,
			tag_of(exchange, message), message->data,
			message->bytes, message);
		if (rc != -EAGAIN)
			break;
		rc = wait_once(exchange, LIVENESS_WAITS_ROOM, message->peer);
	}
	if (rc)
		return exchange->error = rc;
	exchange->receiving++;
	return 0;
}

int exchange_await_expected(struct exchange *exchange,
			    const struct message *message)
{
	int rc = progress(exchange);

	while (!rc && !message->arrived)
		rc = wait_once(exchange, LIVENESS_WAITS_DATA, message->peer);
	return rc;
}

int exchange_flush(struct exchange *exchange)
{
	int rc = progress(exchange);

	while (!rc && exchange->sending)
		rc = wait_once(exchange, LIVENESS_WAITS_ROOM,
			       some_receiver(exchange));
	return rc;
}

int exchange_error(const struct exchange *exchange)
{
	return exchange->error;
}

bool exchange_is_idle(const struct exchange *exchange)
{
	return !exchange->error && !exchange->sending && !exchange->receiving;
}

int64_t exchange_waited_ns(const struct exchange *exchange)
{
	return exchange->waited_ns;
}
