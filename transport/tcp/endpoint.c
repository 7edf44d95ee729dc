#include <errno.h>
#include <linux/sockios.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/digest.h"
#include "base/log.h"
#include "transport/tcp/tcp.h"

/* So old a look at the sockets is as good as a new one. */
#define FRESH_NS (20 * NS_PER_US)

/* How long close waits for sent bytes to reach the peer's kernel. */
#define LINGER_NS NS_PER_SECOND

static struct tcp_endpoint *tcp(struct transport_endpoint *base)
{
	return (struct tcp_endpoint *)base;
}

static struct tcp_link *find_link(const struct tcp_endpoint *endpoint,
				  unsigned peer)
{
	unsigned place = endpoint->link_of[peer];

	return place ? &endpoint->links[place - 1] : NULL;
}

int tcp_endpoint_socket(const struct transport_endpoint *base, unsigned peer)
{
	return find_link((const struct tcp_endpoint *)base, peer)->fd;
}

int tcp_endpoint_peer_ended(const struct transport_endpoint *base,
			    unsigned peer)
{
	struct pollfd end = {
		.fd = tcp_endpoint_socket(base, peer),
		.events = POLLRDHUP,
	};
	socklen_t length = sizeof(int);
	int error = 0;

	if (poll(&end, 1, 0) != 1)
		return 0;
	getsockopt(end.fd, SOL_SOCKET, SO_ERROR, &error, &length);
	return error == ETIMEDOUT || error == EHOSTUNREACH ? -ETIMEDOUT
							   : -ECONNRESET;
}

static int use_sockets(struct tcp_endpoint *endpoint)
{
	endpoint->backend = &tcp_sockets_backend;
	if (endpoint->backend->open(endpoint))
		return fail(-ENOMEM, "tcp: no memory for an endpoint");
	return 0;
}

static int choose_backend(struct tcp_endpoint *endpoint)
{
	const char *io = endpoint->base.config.io;
	int status;

	if (strcmp(io, "sockets") == 0) {
		snprintf(endpoint->reason, sizeof(endpoint->reason),
			 "plain sockets as asked for");
		return use_sockets(endpoint);
	}
	if (strcmp(io, "uring") != 0 && strcmp(io, "auto") != 0)
		return fail(-EINVAL,
			    "tcp: io is \"%s\", not uring, sockets or auto",
			    io);
	endpoint->backend = &tcp_uring_backend;
	status = endpoint->backend->open(endpoint);
	if (!status) {
		snprintf(endpoint->reason, sizeof(endpoint->reason),
			 "io_uring %s",
			 io[0] == 'a' ? "is available" : "as asked for");
		return 0;
	}
	if (io[0] == 'u')
		return fail(-EOPNOTSUPP,
			    "tcp: the kernel refuses io_uring (%s); choose "
			    "sockets or auto instead",
			    strerror(-status));
	/* Once a job; transport_query() tells of every rank. */
	log_write(endpoint->base.config.rank == 0 ? LOG_INFO : LOG_DEBUG,
		  "tcp: the kernel refuses io_uring (%s), using plain sockets",
		  strerror(-status));
	snprintf(endpoint->reason, sizeof(endpoint->reason),
		 "plain sockets, because the kernel refuses io_uring (%s)",
		 strerror(-status));
	return use_sockets(endpoint);
}

static int endpoint_open(const struct transport_config *config,
			 struct transport_endpoint **out)
{
	struct tcp_endpoint *endpoint;
	int status;

	endpoint = calloc(1, sizeof(*endpoint));
	if (!endpoint)
		return fail(-ENOMEM, "tcp: no memory for an endpoint");
	endpoint->base.config = *config;
	endpoint->name =
		strcmp(config->bind, TCP_BIND_LOCAL) == 0 ? "shm" : "tcp";
	endpoint->listener = -1;
	endpoint->links = calloc(config->size, sizeof(*endpoint->links));
	endpoint->link_of = calloc(config->size, sizeof(*endpoint->link_of));
	endpoint->polls = calloc(config->size + 2, sizeof(*endpoint->polls));
	if (!endpoint->links || !endpoint->link_of || !endpoint->polls) {
		status = fail(-ENOMEM, "tcp: no memory for an endpoint");
		goto err_free;
	}
	transport_spin_init(&endpoint->spin, config->spin_ns, config->no_spin);
	status = choose_backend(endpoint);
	if (status)
		goto err_free;
	*out = &endpoint->base;
	return 0;

err_free:
	free(endpoint->polls);
	free(endpoint->link_of);
	free(endpoint->links);
	free(endpoint);
	return status;
}

static int endpoint_listen(struct transport_endpoint *base, char *address,
			   size_t size)
{
	return tcp_listen(tcp(base), address, size);
}

static int endpoint_connect(struct transport_endpoint *base,
			    const unsigned *peers, unsigned count,
			    const char *const *addresses, int64_t timeout_ns)
{
	return tcp_connect(tcp(base), peers, count, addresses, timeout_ns);
}

static int endpoint_add_region(struct transport_endpoint *base,
			       const struct transport_region *region)
{
	if (tcp(base)->backend->add_region)
		tcp(base)->backend->add_region(tcp(base), region);
	return 0;
}

static void endpoint_drop_region(struct transport_endpoint *base,
				 const struct transport_region *region)
{
	if (tcp(base)->backend->drop_region)
		tcp(base)->backend->drop_region(tcp(base), region);
}

static struct transport_queue *
endpoint_send_queue(struct transport_endpoint *base, unsigned peer)
{
	struct tcp_link *link = find_link(tcp(base), peer);

	return link ? &link->send : NULL;
}

static bool endpoint_uses(const struct transport_endpoint *base,
			  const void *memory, size_t bytes)
{
	const struct tcp_endpoint *endpoint = (const void *)base;
	const struct tcp_link *link;
	unsigned i;

	for (i = 0; i < endpoint->link_count; i++) {
		link = &endpoint->links[i];
		if (transport_queue_uses(&link->send, memory, bytes) ||
		    transport_queue_uses(&link->receive, memory, bytes))
			return true;
	}
	return false;
}

static int usable(const struct tcp_link *link)
{
	return link->cancelled ? -ECANCELED : link->status;
}

static int endpoint_acquire_send(struct transport_endpoint *base, unsigned peer,
				 uint64_t tag, size_t bytes, void *own,
				 void **where)
{
	struct tcp_link *link = find_link(tcp(base), peer);
	int status = usable(link);

	if (status)
		return status;
	return transport_queue_acquire_own(&link->send, tag, bytes, own, where);
}

static int endpoint_release_send(struct transport_endpoint *base, unsigned peer)
{
	find_link(tcp(base), peer)->send.reserved--;
	return 0;
}

static int endpoint_post_send(struct transport_endpoint *base, unsigned peer,
			      uint64_t tag, const void *data, size_t bytes,
			      void *cookie)
{
	struct tcp_link *link = find_link(tcp(base), peer);
	struct transport_operation *operation;
	int status;

	status = usable(link);
	if (status)
		return status;
	status = transport_queue_post(&link->send, tag, (void *)data, bytes,
				      cookie, &operation);
	if (status)
		return status;
	operation->crc = 0;
	if (base->config.checksum &&
	    base->config.wire == TRANSPORT_WIRE_CHECKED)
		operation->crc = digest_crc32c(0, data, bytes);
	tcp(base)->backend->kick_send(tcp(base), link);
	return 0;
}

static int endpoint_post_recv(struct transport_endpoint *base, unsigned peer,
			      uint64_t tag, void *data, size_t bytes,
			      void *cookie)
{
	struct tcp_link *link = find_link(tcp(base), peer);
	struct transport_operation *operation;
	int status;

	status = usable(link);
	if (status)
		return status;
	status = transport_queue_post(&link->receive, tag, data, bytes, cookie,
				      &operation);
	if (status)
		return status;
	tcp(base)->backend->kick_receive(tcp(base), link);
	return 0;
}

/* Finished and not yet reported. */
static bool has_completions(const struct tcp_endpoint *endpoint)
{
	const struct tcp_link *link;
	unsigned i;

	for (i = 0; i < endpoint->link_count; i++) {
		link = &endpoint->links[i];
		if (link->send.head != link->send.done ||
		    link->receive.head != link->receive.done)
			return true;
	}
	return false;
}

static bool has_news(const struct tcp_endpoint *endpoint)
{
	unsigned i;

	for (i = 0; i < endpoint->link_count; i++) {
		if (endpoint->links[i].status && !endpoint->links[i].cancelled)
			return true;
	}
	return has_completions(endpoint);
}

/*
 * A receive that slept took what there was: one look at the sockets so soon
 * after that is spared, as its caller is about to sleep again.
 */
static bool has_just_looked(struct tcp_endpoint *endpoint)
{
	int64_t looked_ns = endpoint->looked_ns;

	endpoint->looked_ns = 0;
	return looked_ns && clock_now_ns() - looked_ns < FRESH_NS;
}

static int endpoint_progress(struct transport_endpoint *base,
			     struct transport_completion *out,
			     unsigned capacity)
{
	struct tcp_endpoint *endpoint = tcp(base);
	unsigned links = endpoint->link_count;
	struct tcp_link *link;
	unsigned count = 0;
	unsigned i;
	int status = 0;

	/* What wait or a post has brought is told first, and at once. */
	if (!has_completions(endpoint) && !has_just_looked(endpoint))
		status = endpoint->backend->poll(endpoint);
	for (i = 0; i < links; i++) {
		link = &endpoint->links[(endpoint->next + i) % links];
		if (!status && !link->cancelled)
			status = link->status;
		count += transport_queue_report_link(
			&link->receive, &link->send, link->peer, out + count,
			capacity - count);
	}
	if (links)
		endpoint->next = (endpoint->next + 1) % links;
	if (!count && !status) {
		tcp_watch_look(endpoint); /* the next call tells */
		tcp_strangers_look(endpoint);
	}
	return count ? (int)count : status;
}

static int endpoint_wait(struct transport_endpoint *base, int64_t deadline_ns,
			 int wake_fd)
{
	if (has_news(tcp(base)))
		return 0;
	return tcp(base)->backend->wait(tcp(base), deadline_ns, wake_fd);
}

static int endpoint_begin_sleep(struct transport_endpoint *base,
				struct pollfd *fds, unsigned capacity)
{
	if (has_news(tcp(base)))
		return 0;
	return tcp(base)->backend->begin_sleep(tcp(base), fds, capacity);
}

static void endpoint_end_sleep(struct transport_endpoint *base)
{
	/* What the descriptors say stays true until progress has looked. */
	(void)base;
}

static void stop(struct tcp_endpoint *endpoint, struct tcp_link *link)
{
	if (link->cancelled)
		return;
	link->cancelled = true;
	link->orderly = !link->status &&
			!transport_queue_pending(&link->send) &&
			!transport_queue_pending(&link->receive);
	shutdown(link->fd, SHUT_RDWR);
	endpoint->backend->stop(endpoint, link);
}

static int drain(struct tcp_endpoint *endpoint, struct tcp_link *link,
		 int64_t deadline_ns)
{
	int status;

	while (endpoint->backend->in_kernel(link)) {
		status = endpoint->backend->wait(endpoint, deadline_ns, -1);
		if (status)
			return fail(status,
				    "tcp: rank %u: the kernel holds %u "
				    "requests of the link with rank %u",
				    endpoint->base.config.rank,
				    endpoint->backend->in_kernel(link),
				    link->peer);
		status = endpoint->backend->poll(endpoint);
		if (status)
			return status;
	}
	transport_queue_drop(&link->send);
	transport_queue_drop(&link->receive);
	return 0;
}

static int endpoint_cancel(struct transport_endpoint *base, unsigned peer,
			   int64_t timeout_ns)
{
	struct tcp_endpoint *endpoint = tcp(base);
	int64_t deadline_ns = clock_now_ns() + timeout_ns;
	struct tcp_link *link;
	int result = 0;
	int status;
	unsigned i;

	for (i = 0; i < endpoint->link_count; i++) {
		link = &endpoint->links[i];
		if (peer == TRANSPORT_ALL_PEERS || peer == link->peer)
			stop(endpoint, link);
	}
	for (i = 0; i < endpoint->link_count; i++) {
		link = &endpoint->links[i];
		if (peer != TRANSPORT_ALL_PEERS && peer != link->peer)
			continue;
		status = drain(endpoint, link, deadline_ns);
		if (status)
			result = status;
	}
	return result;
}

static int endpoint_query(const struct transport_endpoint *base, unsigned peer,
			  struct transport_link_info *out)
{
	const struct tcp_endpoint *endpoint = (const void *)base;
	const struct tcp_backend *backend = endpoint->backend;
	const struct tcp_link *link = find_link(endpoint, peer);
	const char *more = "";

	if (!link)
		return -ENOTCONN;
	*out = (struct transport_link_info){
		.transport = "tcp",
		.status = usable(link),
		.checksum = base->config.checksum &&
			    base->config.wire == TRANSPORT_WIRE_CHECKED,
		.wire = base->config.wire,
		.zero_copy = link->zero_copy && !link->probing,
		.registered =
			backend->registered && backend->registered(endpoint),
		.messages_sent = link->messages_sent,
		.messages_received = link->messages_received,
		.bytes_sent = link->bytes_sent,
		.bytes_received = link->bytes_received,
		.sends_pending = transport_queue_pending(&link->send),
		.receives_pending = transport_queue_pending(&link->receive),
	};
	if (link->probe_copied)
		more = "; no zero-copy send: the kernel copies on this path";
	snprintf(out->io, sizeof(out->io), "%s", backend->name);
	snprintf(out->reason, sizeof(out->reason), "%s%s", endpoint->reason,
		 more);
	return 0;
}

/* Reset: nobody takes what is left, though the kernel still counts it. */
static bool is_reset(int fd)
{
	struct pollfd look = {.fd = fd};

	return poll(&look, 1, 0) > 0 && (look.revents & (POLLERR | POLLHUP));
}

/*
 * close(2) with unread bytes resets the connection, and a reset drops what the
 * peer's kernel does not have yet. A link that ends in the middle of something
 * is not waited for, nor is any once nothing is worth it (wake_fd).
 */
static void linger(const struct tcp_endpoint *endpoint)
{
	int64_t deadline_ns = clock_now_ns() + LINGER_NS;
	int unsent;
	unsigned i;

	for (i = 0; i < endpoint->link_count; i++) {
		while (endpoint->links[i].orderly &&
		       !transport_woken(&endpoint->base) &&
		       ioctl(endpoint->links[i].fd, SIOCOUTQ, &unsent) == 0 &&
		       unsent > 0 && !is_reset(endpoint->links[i].fd) &&
		       clock_now_ns() < deadline_ns)
			clock_sleep_ns(NS_PER_MS);
	}
}

static void endpoint_close(struct transport_endpoint *base)
{
	struct tcp_endpoint *endpoint = tcp(base);
	unsigned i;

	tcp_strangers_sum_up(endpoint);
	linger(endpoint);
	/* The ring first: it holds references to the sockets. */
	endpoint->backend->close(endpoint);
	for (i = 0; i < endpoint->link_count; i++)
		tcp_link_fini(&endpoint->links[i]);
	if (endpoint->listener >= 0)
		close(endpoint->listener);
	free(endpoint->polls);
	free(endpoint->link_of);
	free(endpoint->links);
	free(endpoint);
}

const struct transport_ops transport_tcp_ops = {
	.kind = "tcp",
	.open = endpoint_open,
	.listen = endpoint_listen,
	.connect = endpoint_connect,
	.add_region = endpoint_add_region,
	.drop_region = endpoint_drop_region,
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
