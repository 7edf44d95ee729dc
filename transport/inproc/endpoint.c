#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/text.h"
#include "transport/inproc/inproc.h"

static struct inproc_endpoint *inproc(struct transport_endpoint *endpoint)
{
	return (struct inproc_endpoint *)endpoint;
}

static int inproc_open(const struct transport_config *config,
		       struct transport_endpoint **out)
{
	struct inproc_endpoint *endpoint;
	int status;

	if (!config->hub)
		return fail(-EINVAL, "inproc: the config names no hub");
	if (inproc_hub_size(config->hub) != config->size)
		return fail(-EINVAL,
			    "inproc: a hub of %u ranks for a job of %u",
			    inproc_hub_size(config->hub), config->size);
	endpoint = calloc(1, sizeof(*endpoint));
	if (!endpoint)
		return fail(-ENOMEM, "inproc: no memory for an endpoint");
	endpoint->hub = config->hub;
	endpoint->links = calloc(config->size, sizeof(*endpoint->links));
	if (!endpoint->links) {
		status = fail(-ENOMEM, "inproc: no memory for an endpoint");
		goto err_free;
	}
	status = inproc_bell_init(&endpoint->bell);
	if (status)
		goto err_free_links;
	transport_spin_init(&endpoint->spin, config->spin_ns, config->no_spin);
	*out = &endpoint->base;
	return 0;

err_free_links:
	free(endpoint->links);
err_free:
	free(endpoint);
	return status;
}

static int inproc_listen(struct transport_endpoint *base, char *address,
			 size_t size)
{
	char text[TRANSPORT_ADDRESS_BYTES];
	int status;

	snprintf(text, sizeof(text), "inproc:%u", base->config.rank);
	status = inproc_hub_enter(inproc(base)->hub, base->config.rank);
	if (status)
		return status;
	if (text_copy(address, size, text)) {
		inproc_hub_leave(inproc(base)->hub, base->config.rank);
		return fail(-ENAMETOOLONG, "inproc: no room for %s", text);
	}
	return 0;
}

static int inproc_connect(struct transport_endpoint *base,
			  const unsigned *peers, unsigned count,
			  const char *const *addresses, int64_t timeout_ns)
{
	/* Ranks of one hub need no addresses. */
	(void)addresses;
	return inproc_hub_connect(inproc(base), peers, count, timeout_ns);
}

static struct inproc_link *find_link(struct transport_endpoint *base,
				     unsigned peer)
{
	struct inproc_link *link = &inproc(base)->links[peer];

	return link->pair ? link : NULL;
}

static struct transport_queue *
inproc_send_queue(struct transport_endpoint *base, unsigned peer)
{
	struct inproc_link *link = find_link(base, peer);

	return link ? &inproc_lane_out(link)->send : NULL;
}

static bool inproc_uses(const struct transport_endpoint *base,
			const void *memory, size_t bytes)
{
	const struct inproc_endpoint *endpoint = (const void *)base;
	const struct inproc_link *link;
	unsigned i;

	for (i = 0; i < base->config.size; i++) {
		link = &endpoint->links[i];
		if (link->pair &&
		    (transport_queue_uses(&inproc_lane_out(link)->send, memory,
					  bytes) ||
		     transport_queue_uses(&inproc_lane_in(link)->receive,
					  memory, bytes)))
			return true;
	}
	return false;
}

/* 0, or why nothing can be posted. */
static int usable(struct inproc_endpoint *endpoint, struct inproc_link *link)
{
	if (link->cancelled)
		return -ECANCELED;
	if (!link->status && inproc_pair_over(link->pair))
		inproc_link_fail(endpoint, link);
	if (link->status) {
		pthread_mutex_lock(&link->pair->lock);
		inproc_lane_unplace(link);
		pthread_mutex_unlock(&link->pair->lock);
	}
	return link->status;
}

/* Under the lock. The receiver's slot for message `index`, if it is posted. */
static int find_slot(struct inproc_link *link, uint64_t index, uint64_t tag,
		     size_t bytes, void **slot)
{
	const struct inproc_lane *out = inproc_lane_out(link);
	const struct transport_operation *receive;

	*slot = NULL;
	if (inproc_pair_over(link->pair) || index >= out->receive.tail)
		return 0;
	receive = transport_queue_at(&out->receive, index);
	if (receive->tag != tag || receive->bytes != bytes)
		return fail(-EPROTO,
			    "inproc: message %" PRIu64 " to rank %u is tag "
			    "0x%" PRIx64 " (%zu bytes) here, but tag 0x%" PRIx64
			    " (%zu bytes) there",
			    index, link->peer, tag, bytes, receive->tag,
			    receive->bytes);
	*slot = receive->data;
	return 0;
}

static int inproc_acquire_send(struct transport_endpoint *base, unsigned peer,
			       uint64_t tag, size_t bytes, void *own,
			       void **where)
{
	struct inproc_link *link = find_link(base, peer);
	struct inproc_lane *out = inproc_lane_out(link);
	struct transport_operation *operation;
	void *slot;
	int status;

	status = usable(inproc(base), link);
	if (status)
		return status;
	if (transport_queue_full(&out->send))
		return -EAGAIN;
	pthread_mutex_lock(&link->pair->lock);
	status = find_slot(link, out->send.reserved, tag, bytes, &slot);
	if (status == 0) {
		operation = transport_queue_reserve(&out->send, tag, bytes,
						    slot ? slot : own);
		operation->in_place = slot && bytes;
		out->placed += operation->in_place;
		*where = operation->data;
	}
	pthread_mutex_unlock(&link->pair->lock);
	return status;
}

static int inproc_release_send(struct transport_endpoint *base, unsigned peer)
{
	struct inproc_link *link = find_link(base, peer);
	struct inproc_lane *out = inproc_lane_out(link);
	struct transport_operation *operation;

	pthread_mutex_lock(&link->pair->lock);
	operation = transport_queue_at(&out->send, --out->send.reserved);
	if (operation->in_place) {
		operation->in_place = false;
		out->placed--;
		inproc_bell_ring(link->pair->side[!link->side].bell);
	}
	pthread_mutex_unlock(&link->pair->lock);
	return 0;
}

static int inproc_post_send(struct transport_endpoint *base, unsigned peer,
			    uint64_t tag, const void *data, size_t bytes,
			    void *cookie)
{
	struct inproc_link *link = find_link(base, peer);
	struct transport_operation *operation;
	int status;

	status = usable(inproc(base), link);
	if (status)
		return status;
	pthread_mutex_lock(&link->pair->lock);
	status = transport_queue_post(&inproc_lane_out(link)->send, tag,
				      (void *)data, bytes, cookie, &operation);
	if (!status) {
		link->messages_in_place += operation->in_place;
		inproc_lane_match(link->pair, inproc_lane_out(link));
	}
	pthread_mutex_unlock(&link->pair->lock);
	return status;
}

static int inproc_post_recv(struct transport_endpoint *base, unsigned peer,
			    uint64_t tag, void *data, size_t bytes,
			    void *cookie)
{
	struct inproc_link *link = find_link(base, peer);
	struct transport_operation *operation;
	int status;

	status = usable(inproc(base), link);
	if (status)
		return status;
	pthread_mutex_lock(&link->pair->lock);
	status = transport_queue_post(&inproc_lane_in(link)->receive, tag, data,
				      bytes, cookie, &operation);
	if (!status)
		inproc_lane_match(link->pair, inproc_lane_in(link));
	pthread_mutex_unlock(&link->pair->lock);
	return status;
}

static unsigned report(struct inproc_link *link,
		       struct transport_completion *out, unsigned capacity)
{
	struct transport_queue *send = &inproc_lane_out(link)->send;
	struct transport_queue *receive = &inproc_lane_in(link)->receive;
	unsigned count = 0;

	while (count < capacity &&
	       transport_queue_report(receive, TRANSPORT_RECEIVED, link->peer,
				      &out[count])) {
		link->messages_received++;
		link->bytes_received += out[count++].bytes;
	}
	while (count < capacity &&
	       transport_queue_report(send, TRANSPORT_SENT, link->peer,
				      &out[count])) {
		link->messages_sent++;
		link->bytes_sent += out[count++].bytes;
	}
	return count;
}

static int inproc_progress(struct transport_endpoint *base,
			   struct transport_completion *out, unsigned capacity)
{
	struct inproc_endpoint *endpoint = inproc(base);
	unsigned size = base->config.size;
	struct inproc_link *link;
	unsigned count = 0;
	int status = 0;
	unsigned i;

	for (i = 0; i < size && count < capacity; i++) {
		link = &endpoint->links[(endpoint->next + i) % size];
		if (!link->pair || !inproc_link_poll(endpoint, link))
			continue;
		if (!status && !link->cancelled)
			status = link->status;
		count += report(link, out + count, capacity - count);
	}
	endpoint->next = (endpoint->next + 1) % size;
	return count ? (int)count : status;
}

static bool has_news(struct inproc_endpoint *endpoint)
{
	struct inproc_link *link;
	unsigned i;

	for (i = 0; i < endpoint->base.config.size; i++) {
		link = &endpoint->links[i];
		if (link->pair && inproc_link_poll(endpoint, link))
			return true;
	}
	return false;
}

/* Spins until the bell rings; false when it did not. */
static bool spin_for_ring(struct inproc_endpoint *endpoint, uint64_t seen,
			  int64_t deadline_ns)
{
	int64_t start = clock_now_ns();
	int64_t until = MIN(start + endpoint->spin.budget_ns, deadline_ns);

	do {
		if (atomic_load(&endpoint->bell.rings) != seen)
			return true;
		transport_spin_pause();
	} while (clock_now_ns() < until);
	return false;
}

static int inproc_wait(struct transport_endpoint *base, int64_t deadline_ns,
		       int wake_fd)
{
	struct inproc_endpoint *endpoint = inproc(base);
	int64_t start = 0;
	int status = 0;
	bool woken = false;
	uint64_t seen;

	for (;;) {
		seen = atomic_load(&endpoint->bell.rings);
		if (has_news(endpoint))
			break;
		if (!start)
			start = clock_now_ns();
		if (endpoint->spin.budget_ns &&
		    spin_for_ring(endpoint, seen, deadline_ns))
			continue;
		if (status || woken)
			return status;
		/* A timeout looks once more before it is believed. */
		status = inproc_bell_wait(&endpoint->bell, seen, deadline_ns,
					  wake_fd, &woken);
		if (status && status != -ETIMEDOUT)
			return status;
	}
	if (start)
		transport_spin_learn(&endpoint->spin, clock_now_ns() - start);
	return 0;
}

static int settle(struct inproc_endpoint *endpoint, struct inproc_link *link,
		  int64_t deadline_ns)
{
	uint64_t seen;
	bool woken;

	for (;;) {
		seen = atomic_load(&endpoint->bell.rings);
		if (inproc_link_settled(link))
			return 0;
		if (clock_now_ns() >= deadline_ns)
			return fail(-ETIMEDOUT,
				    "inproc: rank %u still writes into slots "
				    "of rank %u that it acquired",
				    link->peer, endpoint->base.config.rank);
		if (inproc_bell_wait(&endpoint->bell, seen, deadline_ns, -1,
				     &woken) == -EINTR)
			continue;
	}
}

static int inproc_cancel(struct transport_endpoint *base, unsigned peer,
			 int64_t timeout_ns)
{
	struct inproc_endpoint *endpoint = inproc(base);
	int64_t deadline_ns = clock_now_ns() + timeout_ns;
	struct inproc_link *link;
	int result = 0;
	int status;
	unsigned i;

	/* All are told before any is waited for: no circle of waiting. */
	for (i = 0; i < base->config.size; i++) {
		link = &endpoint->links[i];
		if (link->pair && (peer == TRANSPORT_ALL_PEERS || peer == i))
			inproc_link_cancel(link);
	}
	for (i = 0; i < base->config.size; i++) {
		link = &endpoint->links[i];
		if (!link->pair || (peer != TRANSPORT_ALL_PEERS && peer != i))
			continue;
		status = settle(endpoint, link, deadline_ns);
		if (status)
			result = status;
	}
	return result;
}

static int inproc_query(const struct transport_endpoint *base, unsigned peer,
			struct transport_link_info *out)
{
	const struct inproc_endpoint *endpoint = (const void *)base;
	const struct inproc_link *link = &endpoint->links[peer];

	if (!link->pair)
		return -ENOTCONN;
	*out = (struct transport_link_info){
		.transport = "inproc",
		.io = "memory",
		.reason = "both ranks are threads of one process",
		.status = link->cancelled ? -ECANCELED : link->status,
		.messages_sent = link->messages_sent,
		.messages_received = link->messages_received,
		.bytes_sent = link->bytes_sent,
		.bytes_received = link->bytes_received,
		.messages_in_place = link->messages_in_place,
		.sends_pending =
			transport_queue_pending(&inproc_lane_out(link)->send),
		.receives_pending =
			transport_queue_pending(&inproc_lane_in(link)->receive),
	};
	return 0;
}

static void inproc_close(struct transport_endpoint *base)
{
	struct inproc_endpoint *endpoint = inproc(base);
	unsigned i;

	for (i = 0; i < base->config.size; i++) {
		if (endpoint->links[i].pair)
			inproc_hub_part(&endpoint->links[i]);
	}
	if (base->listening)
		inproc_hub_leave(endpoint->hub, base->config.rank);
	inproc_bell_fini(&endpoint->bell);
	free(endpoint->links);
	free(endpoint);
}

const struct transport_ops transport_inproc_ops = {
	.kind = "inproc",
	.open = inproc_open,
	.listen = inproc_listen,
	.connect = inproc_connect,
	.send_queue = inproc_send_queue,
	.uses = inproc_uses,
	.acquire_send = inproc_acquire_send,
	.release_send = inproc_release_send,
	.post_send = inproc_post_send,
	.post_recv = inproc_post_recv,
	.progress = inproc_progress,
	.wait = inproc_wait,
	.cancel = inproc_cancel,
	.query = inproc_query,
	.close = inproc_close,
};
