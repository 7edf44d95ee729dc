/* The back end on plain non-blocking sockets and poll(2). Works everywhere. */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "base/log.h"
#include "transport/tcp/tcp.h"

static int sockets_open(struct tcp_endpoint *endpoint)
{
	endpoint->polls = calloc(endpoint->base.config.size + 1,
				 sizeof(*endpoint->polls));
	return endpoint->polls ? 0 : -ENOMEM;
}

static void sockets_close(struct tcp_endpoint *endpoint)
{
	free(endpoint->polls);
}

static void sockets_attach(struct tcp_endpoint *endpoint, struct tcp_link *link)
{
	(void)endpoint;
	(void)link;
}

static void send_some(struct tcp_endpoint *endpoint, struct tcp_link *link)
{
	struct iovec parts[TCP_PARTS];
	struct msghdr message = {.msg_iov = parts};
	ssize_t moved;

	while (tcp_link_live(link)) {
		message.msg_iovlen = tcp_link_send_parts(endpoint, link, parts);
		if (!message.msg_iovlen)
			return;
		moved = sendmsg(link->fd, &message, MSG_NOSIGNAL);
		if (moved >= 0)
			tcp_link_sent(link, (size_t)moved);
		else if (errno == EAGAIN || errno == EWOULDBLOCK)
			return;
		else if (errno != EINTR)
			tcp_link_send_failed(endpoint, link, -errno);
	}
}

static void receive_some(struct tcp_endpoint *endpoint, struct tcp_link *link)
{
	struct iovec parts[TCP_PARTS];
	struct msghdr message = {.msg_iov = parts};
	ssize_t moved;

	while (tcp_link_live(link)) {
		message.msg_iovlen = tcp_link_receive_parts(link, parts);
		if (!message.msg_iovlen)
			return;
		moved = recvmsg(link->fd, &message, 0);
		if (moved > 0)
			tcp_link_received(endpoint, link, (size_t)moved);
		else if (moved == 0)
			tcp_link_receive_failed(endpoint, link, 0);
		else if (errno == EAGAIN || errno == EWOULDBLOCK)
			return;
		else if (errno != EINTR)
			tcp_link_receive_failed(endpoint, link, -errno);
	}
}

static int sockets_poll(struct tcp_endpoint *endpoint)
{
	unsigned i;

	for (i = 0; i < endpoint->link_count; i++) {
		receive_some(endpoint, &endpoint->links[i]);
		send_some(endpoint, &endpoint->links[i]);
	}
	return 0;
}

/* Only what is posted is waited for: data nobody wants must not wake us. */
static short wanted(const struct tcp_link *link)
{
	short events = 0;

	if (!tcp_link_live(link))
		return 0;
	if (transport_queue_pending(&link->receive))
		events |= POLLIN;
	if (transport_queue_pending(&link->send))
		events |= POLLOUT;
	return events;
}

static int sockets_begin_sleep(struct tcp_endpoint *endpoint,
			       struct pollfd *fds, unsigned capacity)
{
	const struct tcp_link *link;
	unsigned count = 0;
	unsigned i;

	for (i = 0; i < endpoint->link_count; i++) {
		link = &endpoint->links[i];
		if (!wanted(link))
			continue;
		if (count == capacity)
			return fail(-ENOSPC,
				    "tcp: room for %u descriptors to sleep on",
				    capacity);
		fds[count++] = (struct pollfd){
			.fd = link->fd,
			.events = wanted(link),
		};
	}
	/* 0 would say that there is news: an entry that poll passes over. */
	if (!count && capacity)
		fds[count++] = (struct pollfd){.fd = -1};
	return (int)count;
}

static unsigned fill_polls(struct tcp_endpoint *endpoint, int wake_fd)
{
	struct pollfd *polls = endpoint->polls;
	int count;

	polls[0] = (struct pollfd){.fd = wake_fd, .events = POLLIN};
	count = sockets_begin_sleep(endpoint, polls + 1,
				    endpoint->base.config.size);
	return 1 + (unsigned)count;
}

static int poll_for(struct pollfd *polls, unsigned count, int64_t timeout_ns)
{
	struct timespec timeout = {
		.tv_sec = MAX(timeout_ns, 0) / NS_PER_SECOND,
		.tv_nsec = MAX(timeout_ns, 0) % NS_PER_SECOND,
	};
	int ready;

	ready = ppoll(polls, count, &timeout, NULL);
	if (ready < 0)
		return errno == EINTR
			       ? 0
			       : fail(-errno, "tcp: poll: %s", strerror(errno));
	return ready ? 0 : -ETIMEDOUT;
}

static int sockets_wait(struct tcp_endpoint *endpoint, int64_t deadline_ns,
			int wake_fd)
{
	unsigned count = fill_polls(endpoint, wake_fd);
	struct transport_spin *spin = &endpoint->spin;
	int64_t start = clock_now_ns();
	int64_t now = start;
	int status;

	do {
		status = poll_for(endpoint->polls, count, 0);
		if (status != -ETIMEDOUT)
			break;
		now = clock_now_ns();
	} while (now < MIN(start + spin->budget_ns, deadline_ns));
	if (status == -ETIMEDOUT && now < deadline_ns)
		status = poll_for(endpoint->polls, count, deadline_ns - now);
	transport_spin_learn(spin, clock_now_ns() - start);
	return status;
}

static void sockets_stop(struct tcp_endpoint *endpoint, struct tcp_link *link)
{
	(void)endpoint;
	(void)link;
}

static unsigned sockets_in_kernel(const struct tcp_link *link)
{
	(void)link;
	return 0;
}

static void sockets_kick_receive(struct tcp_endpoint *endpoint,
				 struct tcp_link *link)
{
	/* progress looks; a post stays cheap */
	(void)endpoint;
	(void)link;
}

const struct tcp_backend tcp_sockets_backend = {
	.name = "sockets",
	.open = sockets_open,
	.close = sockets_close,
	.attach = sockets_attach,
	.kick_send = send_some,
	.kick_receive = sockets_kick_receive,
	.poll = sockets_poll,
	.wait = sockets_wait,
	.begin_sleep = sockets_begin_sleep,
	.stop = sockets_stop,
	.in_kernel = sockets_in_kernel,
};
