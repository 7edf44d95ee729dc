/* The endpoint: everything is passed on; completions may be kept back. */
#include "transport/fault/fault.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/text.h"

#define PULL_MANY   16u
#define CUT_WAIT_NS (100 * NS_PER_MS) /* for the inner link to end */
#define RELAYS_MAX  64u

struct held {
	struct transport_completion completion;
	int64_t due_ns;
};

/* What has completed in one direction of a link, and waits to be told. */
struct flow {
	struct held *entries; /* depth of them */
	uint64_t head, tail;
	uint64_t number; /* of the next completion */
	unsigned placed; /* posted or acquired, and not told yet */
	bool stopped;    /* nothing is told any more */
};

struct fault_link {
	bool connected;
	bool cancelled;
	int status; /* 0, or what the plan made it fail with */
	unsigned acquired;
	struct flow flows[2]; /* by enum transport_event */
};

struct fault_endpoint {
	struct transport_endpoint base;
	struct transport_endpoint *inner;
	struct fault_plan plan;
	char text[FAULT_TEXT_BYTES]; /* of the plan */
	struct fault_link *links;    /* by rank */
	unsigned next;               /* whose turn it is in progress */
	struct fault_relay *relays[RELAYS_MAX];
	unsigned relay_count;
	int timer; /* for those who sleep by poll */
	uint64_t happened[FAULT_KINDS];
};

static struct fault_endpoint *fault_of(const struct transport_endpoint *base)
{
	return (struct fault_endpoint *)base;
}

/* ---- opening, listening, connecting ---- */

/* "tcp:seed=3" is the inner kind and the plan. */
static int read_kind(struct fault_endpoint *endpoint, const char *wrapped,
		     char *inner, size_t size)
{
	size_t length = strcspn(wrapped, ":");
	const char *text = wrapped + length + (wrapped[length] == ':');
	int status;

	if (!length || length >= size || strncmp(wrapped, "fault", length) == 0)
		return fail(-EINVAL,
			    "faults: \"fault:%s\" names no transport to wrap, "
			    "as in fault:tcp:corrupt=0.001",
			    wrapped);
	memcpy(inner, wrapped, length);
	inner[length] = '\0';
	if (text_copy(endpoint->text, sizeof(endpoint->text), text))
		return fail(-EINVAL, "faults: the plan is longer than %zu",
			    sizeof(endpoint->text) - 1);
	status = fault_plan_parse(text, &endpoint->plan);
	if (!status && endpoint->plan.wire && strcmp(inner, "tcp") != 0)
		return fail(-EINVAL,
			    "faults: %s has no wire to put faults on; use "
			    "level=message, or tcp",
			    inner);
	return status;
}

static int endpoint_open(const struct transport_config *config,
			 struct transport_endpoint **out)
{
	struct fault_endpoint *endpoint = calloc(1, sizeof(*endpoint));
	struct transport_config own = *config;
	char inner[16];
	int status;

	if (!endpoint)
		return fail(-ENOMEM, "faults: no memory for an endpoint");
	endpoint->timer = -1;
	status = read_kind(endpoint, config->wrapped, inner, sizeof(inner));
	if (status)
		goto err_free;
	endpoint->links = calloc(config->size, sizeof(*endpoint->links));
	endpoint->timer =
		timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	if (!endpoint->links || endpoint->timer < 0) {
		status = fail(-ENOMEM, "faults: no memory for an endpoint");
		goto err_free;
	}
	own.kind = inner;
	own.wrapped = NULL;
	status = transport_open(&own, &endpoint->inner);
	if (status)
		goto err_free;
	*out = &endpoint->base;
	return 0;

err_free:
	if (endpoint->timer >= 0)
		close(endpoint->timer);
	free(endpoint->links);
	free(endpoint);
	return status;
}

static int endpoint_listen(struct transport_endpoint *base, char *address,
			   size_t size)
{
	return transport_listen(fault_of(base)->inner, address, size);
}

static int link_init(struct fault_link *link, unsigned depth)
{
	unsigned i;

	for (i = 0; i < 2; i++) {
		if (link->flows[i].entries)
			continue;
		link->flows[i].entries =
			calloc(depth, sizeof(*link->flows[i].entries));
		if (!link->flows[i].entries)
			return fail(-ENOMEM, "faults: no memory for a link");
	}
	return 0;
}

/* The connections that this rank makes go through a relay. */
static int connect_by_relay(struct fault_endpoint *endpoint,
			    const unsigned *peers, unsigned count,
			    const char *const *addresses, int64_t timeout_ns)
{
	unsigned size = endpoint->base.config.size;
	const char **changed = calloc(size, sizeof(*changed));
	char(*texts)[TRANSPORT_ADDRESS_BYTES] = calloc(count, sizeof(*texts));
	unsigned *called = calloc(count, sizeof(*called));
	unsigned calls = 0;
	int status = 0;
	unsigned i;

	if (!changed || !texts || !called ||
	    endpoint->relay_count == RELAYS_MAX) {
		status = fail(-ENOMEM, "faults: no room for a relay");
		goto out_free;
	}
	for (i = 0; i < count; i++) {
		changed[peers[i]] = addresses[peers[i]];
		if (peers[i] > endpoint->base.config.rank)
			called[calls++] = peers[i];
	}
	if (calls) {
		status = fault_relay_create(
			&endpoint->plan, endpoint->base.config.rank,
			endpoint->base.config.key != NULL, called, calls,
			changed, texts,
			&endpoint->relays[endpoint->relay_count]);
		endpoint->relay_count += !status;
	}
	if (!status)
		status = transport_connect(endpoint->inner, peers, count,
					   changed, timeout_ns);
out_free:
	free(called);
	free(texts);
	free(changed);
	return status;
}

static int endpoint_connect(struct transport_endpoint *base,
			    const unsigned *peers, unsigned count,
			    const char *const *addresses, int64_t timeout_ns)
{
	struct fault_endpoint *endpoint = fault_of(base);
	int status = 0;
	unsigned i;

	for (i = 0; !status && i < count; i++)
		status = link_init(&endpoint->links[peers[i]],
				   base->config.depth);
	if (status)
		return status;
	if (endpoint->plan.wire)
		status = connect_by_relay(endpoint, peers, count, addresses,
					  timeout_ns);
	else
		status = transport_connect(endpoint->inner, peers, count,
					   addresses, timeout_ns);
	for (i = 0; !status && i < count; i++)
		endpoint->links[peers[i]].connected = true;
	return status;
}

static void endpoint_close(struct transport_endpoint *base)
{
	struct fault_endpoint *endpoint = fault_of(base);
	unsigned i;

	transport_close(endpoint->inner);
	for (i = 0; i < endpoint->relay_count; i++)
		fault_relay_destroy(endpoint->relays[i]);
	for (i = 0; i < base->config.size; i++) {
		free(endpoint->links[i].flows[0].entries);
		free(endpoint->links[i].flows[1].entries);
	}
	close(endpoint->timer);
	free(endpoint->links);
	free(endpoint);
}

/* ---- memory ---- */

static bool knows(const struct transport_endpoint *inner, void *memory,
		  size_t bytes, bool created)
{
	const struct transport_region *found =
		transport_region_find(inner, memory, bytes);

	return found && found->created == created;
}

static int endpoint_add_region(struct transport_endpoint *base,
			       const struct transport_region *region)
{
	struct transport_endpoint *inner = fault_of(base)->inner;

	if (knows(inner, region->base, region->bytes, true))
		return 0;
	return transport_register(inner, region->base, region->bytes);
}

static void endpoint_drop_region(struct transport_endpoint *base,
				 const struct transport_region *region)
{
	struct transport_endpoint *inner = fault_of(base)->inner;

	if (knows(inner, region->base, region->bytes, false))
		transport_deregister(inner, region->base);
}

static int endpoint_map_region(struct transport_endpoint *base, size_t bytes,
			       void **out)
{
	return transport_create_region(fault_of(base)->inner, bytes, out);
}

static void endpoint_unmap_region(struct transport_endpoint *base, void *memory,
				  size_t bytes)
{
	(void)bytes;
	transport_release_region(fault_of(base)->inner, memory);
}

/* What is kept back belongs to the transport still. */
static bool flow_uses(const struct flow *flow, unsigned depth,
		      const void *memory, size_t bytes)
{
	const struct transport_completion *held;
	uintptr_t from = (uintptr_t)memory;
	uint64_t i;

	for (i = flow->head; i < flow->tail; i++) {
		held = &flow->entries[i % depth].completion;
		if (held->bytes && (uintptr_t)held->data < from + bytes &&
		    from < (uintptr_t)held->data + held->bytes)
			return true;
	}
	return false;
}

static bool endpoint_uses(const struct transport_endpoint *base,
			  const void *memory, size_t bytes)
{
	const struct fault_endpoint *endpoint = fault_of(base);
	unsigned depth = base->config.depth;
	unsigned i;

	for (i = 0; i < base->config.size; i++) {
		if (flow_uses(&endpoint->links[i].flows[0], depth, memory,
			      bytes) ||
		    flow_uses(&endpoint->links[i].flows[1], depth, memory,
			      bytes))
			return true;
	}
	return endpoint->inner->ops->uses(endpoint->inner, memory, bytes);
}

/* ---- posting ---- */

static struct transport_queue *
endpoint_send_queue(struct transport_endpoint *base, unsigned peer)
{
	struct transport_endpoint *inner = fault_of(base)->inner;

	return inner->ops->send_queue(inner, peer);
}

/* 0, or why nothing can be placed in this direction. */
static int check_room(const struct fault_endpoint *endpoint, unsigned peer,
		      enum transport_event direction)
{
	const struct fault_link *link = &endpoint->links[peer];

	if (link->status && !link->cancelled)
		return link->status;
	/* What is kept back takes up a place of the queue. */
	return link->flows[direction].placed < endpoint->base.config.depth
		       ? 0
		       : -EAGAIN;
}

static int endpoint_acquire_send(struct transport_endpoint *base, unsigned peer,
				 uint64_t tag, size_t bytes, void *own,
				 void **where)
{
	struct fault_endpoint *endpoint = fault_of(base);
	struct fault_link *link = &endpoint->links[peer];
	int status = check_room(endpoint, peer, TRANSPORT_SENT);

	if (!status)
		status = transport_acquire_send(endpoint->inner, peer, tag,
						bytes, own, where);
	if (status)
		return status;
	link->flows[TRANSPORT_SENT].placed++;
	link->acquired++;
	return 0;
}

static int endpoint_release_send(struct transport_endpoint *base, unsigned peer)
{
	struct fault_endpoint *endpoint = fault_of(base);
	struct fault_link *link = &endpoint->links[peer];
	int status = transport_release_send(endpoint->inner, peer);

	if (!status && link->acquired) {
		link->flows[TRANSPORT_SENT].placed--;
		link->acquired--;
	}
	return status;
}

static int endpoint_post_send(struct transport_endpoint *base, unsigned peer,
			      uint64_t tag, const void *data, size_t bytes,
			      void *cookie)
{
	struct fault_endpoint *endpoint = fault_of(base);
	struct fault_link *link = &endpoint->links[peer];
	int status = check_room(endpoint, peer, TRANSPORT_SENT);

	if (status && !(status == -EAGAIN && link->acquired))
		return status;
	status = transport_post_send(endpoint->inner, peer, tag, data, bytes,
				     cookie);
	if (status)
		return status;
	if (link->acquired)
		link->acquired--;
	else
		link->flows[TRANSPORT_SENT].placed++;
	return 0;
}

static int endpoint_post_recv(struct transport_endpoint *base, unsigned peer,
			      uint64_t tag, void *data, size_t bytes,
			      void *cookie)
{
	struct fault_endpoint *endpoint = fault_of(base);
	int status = check_room(endpoint, peer, TRANSPORT_RECEIVED);

	if (!status)
		status = transport_post_recv(endpoint->inner, peer, tag, data,
					     bytes, cookie);
	if (!status)
		endpoint->links[peer].flows[TRANSPORT_RECEIVED].placed++;
	return status;
}

/* ---- what completes, and what does not ---- */

/* As the transport itself would say it, and that it was planned. */
static int describe(const struct fault_endpoint *endpoint, enum fault_kind kind,
		    const struct transport_completion *done)
{
	unsigned rank = endpoint->base.config.rank;

	if (kind == FAULT_CUT)
		return fail(-ECONNRESET,
			    "rank %u: the link with rank %u is cut, as if the "
			    "peer had died (planned fault)",
			    rank, done->peer);
	if (kind == FAULT_CORRUPT)
		return fail(-EBADMSG,
			    "rank %u: the payload of tag 0x%" PRIx64
			    " (%zu bytes) from rank %u is damaged (planned "
			    "fault)",
			    rank, done->tag, done->bytes, done->peer);
	return fail(-EPROTO,
		    "rank %u: a message from rank %u is not the expected one: "
		    "tag 0x%" PRIx64 " (%zu bytes) came twice (planned fault)",
		    rank, done->peer, done->tag, done->bytes);
}

/* The first fault that this message meets, FAULT_KINDS if none. */
static enum fault_kind meets(const struct fault_plan *plan,
			     const struct fault_stream *stream, uint64_t number)
{
	static const enum fault_kind order[] = {
		FAULT_CUT,       FAULT_DROP,  FAULT_CORRUPT,
		FAULT_DUPLICATE, FAULT_STALL,
	};
	unsigned i;

	for (i = 0; i < ARRAY_SIZE(order); i++) {
		if (fault_plan_hits(plan, order[i], stream, number))
			return order[i];
	}
	return FAULT_KINDS;
}

/* Takes one direction's completion `number`; true: it goes on as it is. */
static bool suffers(struct fault_endpoint *endpoint, struct fault_link *link,
		    const struct fault_stream *stream,
		    const struct transport_completion *done, uint64_t number)
{
	enum fault_kind kind = meets(&endpoint->plan, stream, number);

	if (kind == FAULT_KINDS)
		return false;
	endpoint->happened[kind]++;
	if (kind == FAULT_DROP || kind == FAULT_STALL) {
		link->flows[done->event].stopped = true;
		log_info("faults: rank %u: message %" PRIu64
			 " of rank %u, tag 0x%" PRIx64 ", never arrives",
			 endpoint->base.config.rank, number, done->peer,
			 done->tag);
		return true;
	}
	link->status = describe(endpoint, kind, done);
	/* The peer is to see that the link is over. */
	(void)!transport_cancel(endpoint->inner, done->peer, CUT_WAIT_NS);
	return true;
}

static void take(struct fault_endpoint *endpoint,
		 const struct transport_completion *done)
{
	bool received = done->event == TRANSPORT_RECEIVED;
	unsigned rank = endpoint->base.config.rank;
	struct fault_link *link = &endpoint->links[done->peer];
	struct flow *flow = &link->flows[done->event];
	struct fault_stream stream = {
		.from = received ? done->peer : rank,
		.to = received ? rank : done->peer,
		.receiver = received,
	};
	uint64_t number = flow->number++;
	struct held *held;
	int64_t due_ns = 0;

	if (!endpoint->plan.wire && !link->cancelled) {
		if (link->status || flow->stopped)
			return;
		if (received && suffers(endpoint, link, &stream, done, number))
			return;
		if (fault_plan_hits(&endpoint->plan, FAULT_DELAY, &stream,
				    number)) {
			endpoint->happened[FAULT_DELAY]++;
			due_ns = clock_now_ns() + endpoint->plan.delay_ns;
		}
	}
	ASSERT(flow->tail - flow->head < endpoint->base.config.depth);
	held = &flow->entries[flow->tail++ % endpoint->base.config.depth];
	*held = (struct held){.completion = *done, .due_ns = due_ns};
}

static int pull(struct fault_endpoint *endpoint)
{
	struct transport_completion done[PULL_MANY];
	int count;
	int i;

	do {
		count = transport_progress(endpoint->inner, done, PULL_MANY);
		for (i = 0; i < count; i++)
			take(endpoint, &done[i]);
	} while (count > 0);
	return count;
}

static unsigned tell(const struct fault_endpoint *endpoint, struct flow *flow,
		     struct transport_completion *out, unsigned capacity)
{
	const struct held *held;
	unsigned count = 0;

	while (count < capacity && flow->head < flow->tail) {
		held = &flow->entries[flow->head % endpoint->base.config.depth];
		if (held->due_ns && held->due_ns > clock_now_ns())
			break;
		out[count++] = held->completion;
		flow->head++;
		if (flow->placed)
			flow->placed--;
	}
	return count;
}

static bool keeps_back(const struct fault_link *link)
{
	return link->flows[0].head < link->flows[0].tail ||
	       link->flows[1].head < link->flows[1].tail;
}

/* What came before a failure is told before it. */
static bool fails_later(const struct fault_endpoint *endpoint, int status)
{
	struct transport_link_info info;
	unsigned i;

	for (i = 0; i < endpoint->base.config.size; i++) {
		if (endpoint->links[i].connected &&
		    keeps_back(&endpoint->links[i]) &&
		    !transport_query(endpoint->inner, i, &info) &&
		    info.status == status)
			return true;
	}
	return false;
}

static int endpoint_progress(struct transport_endpoint *base,
			     struct transport_completion *out,
			     unsigned capacity)
{
	struct fault_endpoint *endpoint = fault_of(base);
	unsigned size = base->config.size;
	unsigned count = 0;
	int planned = 0;
	unsigned i;
	int status;

	status = pull(endpoint);
	for (i = 0; i < size; i++) {
		struct fault_link *link =
			&endpoint->links[(endpoint->next + i) % size];

		if (!link->connected)
			continue;
		count += tell(endpoint, &link->flows[TRANSPORT_RECEIVED],
			      out + count, capacity - count);
		count += tell(endpoint, &link->flows[TRANSPORT_SENT],
			      out + count, capacity - count);
		if (link->status && !link->cancelled && !planned &&
		    !keeps_back(link))
			planned = link->status;
	}
	endpoint->next = (endpoint->next + 1) % size;
	if (count)
		return (int)count;
	if (planned)
		return planned;
	return status && fails_later(endpoint, status) ? 0 : status;
}

/* ---- waiting ---- */

/* When there is something to tell; 0: now, INT64_MAX: nobody knows. */
static int64_t next_due_ns(const struct fault_endpoint *endpoint)
{
	unsigned depth = endpoint->base.config.depth;
	const struct fault_link *link;
	const struct flow *flow;
	int64_t due_ns = INT64_MAX;
	unsigned i;
	unsigned j;

	for (i = 0; i < endpoint->base.config.size; i++) {
		link = &endpoint->links[i];
		for (j = 0; j < 2; j++) {
			flow = &link->flows[j];
			if (flow->head < flow->tail)
				due_ns = MIN(due_ns,
					     flow->entries[flow->head % depth]
						     .due_ns);
		}
		if (link->status && !link->cancelled && !keeps_back(link))
			return 0;
	}
	return due_ns;
}

static int endpoint_wait(struct transport_endpoint *base, int64_t deadline_ns,
			 int wake_fd)
{
	struct fault_endpoint *endpoint = fault_of(base);
	int64_t due_ns = next_due_ns(endpoint);
	int status;

	if (due_ns <= clock_now_ns())
		return 0;
	status = transport_wait(endpoint->inner, MIN(due_ns, deadline_ns),
				wake_fd);
	return status == -ETIMEDOUT && due_ns <= deadline_ns ? 0 : status;
}

/* -EOPNOTSUPP where the wrapped transport cannot. */
static int endpoint_begin_sleep(struct transport_endpoint *base,
				struct pollfd *fds, unsigned capacity)
{
	struct fault_endpoint *endpoint = fault_of(base);
	struct transport_endpoint *inner = endpoint->inner;
	int64_t due_ns = next_due_ns(endpoint);
	struct itimerspec timer = {.it_value = {0, 0}};
	int count;

	if (!inner->ops->begin_sleep)
		return -EOPNOTSUPP;
	if (due_ns <= clock_now_ns() || capacity < 2)
		return 0;
	count = inner->ops->begin_sleep(inner, fds, capacity - 1);
	if (count <= 0 || due_ns == INT64_MAX)
		return count;
	timer.it_value.tv_sec = due_ns / NS_PER_SECOND;
	timer.it_value.tv_nsec = due_ns % NS_PER_SECOND;
	timerfd_settime(endpoint->timer, TFD_TIMER_ABSTIME, &timer, NULL);
	fds[count] = (struct pollfd){.fd = endpoint->timer, .events = POLLIN};
	return count + 1;
}

static void endpoint_end_sleep(struct transport_endpoint *base)
{
	struct transport_endpoint *inner = fault_of(base)->inner;

	if (inner->ops->end_sleep)
		inner->ops->end_sleep(inner);
}

/* ---- the end of links, and what is known of them ---- */

static void link_reset(struct fault_link *link)
{
	unsigned i;

	link->cancelled = true;
	link->acquired = 0;
	for (i = 0; i < 2; i++) {
		link->flows[i].head = link->flows[i].tail;
		link->flows[i].placed = 0;
	}
}

static int endpoint_cancel(struct transport_endpoint *base, unsigned peer,
			   int64_t timeout_ns)
{
	struct fault_endpoint *endpoint = fault_of(base);
	int status = transport_cancel(endpoint->inner, peer, timeout_ns);
	unsigned i;

	for (i = 0; i < base->config.size; i++) {
		if (endpoint->links[i].connected &&
		    (peer == TRANSPORT_ALL_PEERS || peer == i))
			link_reset(&endpoint->links[i]);
	}
	return status;
}

static int endpoint_query(const struct transport_endpoint *base, unsigned peer,
			  struct transport_link_info *out)
{
	const struct fault_endpoint *endpoint = fault_of(base);
	const struct fault_link *link = &endpoint->links[peer];
	struct transport_link_info info;
	int status = transport_query(endpoint->inner, peer, &info);

	if (status)
		return status;
	*out = info;
	snprintf(out->transport, sizeof(out->transport), "fault:%.9s",
		 info.transport);
	snprintf(out->reason, sizeof(out->reason), "%.100s; faults: %.40s",
		 info.reason, endpoint->text[0] ? endpoint->text : "none");
	if (link->status && !link->cancelled)
		out->status = link->status;
	return 0;
}

void fault_statistics(const struct transport_endpoint *base,
		      struct fault_statistics *out)
{
	const struct fault_endpoint *endpoint = fault_of(base);
	unsigned i;

	*out = (struct fault_statistics){.connections = 0};
	memcpy(out->happened, endpoint->happened, sizeof(out->happened));
	for (i = 0; i < endpoint->relay_count; i++)
		fault_relay_count(endpoint->relays[i], out);
}

const struct transport_ops transport_fault_ops = {
	.kind = "fault",
	.open = endpoint_open,
	.listen = endpoint_listen,
	.connect = endpoint_connect,
	.add_region = endpoint_add_region,
	.drop_region = endpoint_drop_region,
	.map_region = endpoint_map_region,
	.unmap_region = endpoint_unmap_region,
	.send_queue = endpoint_send_queue,
	.uses = endpoint_uses,
	.acquire_send = endpoint_acquire_send,
	.release_send = endpoint_release_send,
	.post_send = endpoint_post_send,
	.post_recv = endpoint_post_recv,
	.progress = endpoint_progress,
	.wait = endpoint_wait,
	.begin_sleep = endpoint_begin_sleep,
	.end_sleep = endpoint_end_sleep,
	.cancel = endpoint_cancel,
	.query = endpoint_query,
	.close = endpoint_close,
};
