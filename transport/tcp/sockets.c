/* The back end on plain sockets and poll(2). Works everywhere. */
#include <errno.h>
#include <poll.h>

#include "base/clock.h"
#include "base/log.h"
#include "transport/tcp/tcp.h"

static int sockets_open(struct tcp_endpoint *endpoint)
{
	(void)endpoint;
	return 0;
}

static void sockets_close(struct tcp_endpoint *endpoint)
{
	(void)endpoint;
}

static void sockets_attach(struct tcp_endpoint *endpoint, struct tcp_link *link)
{
	(void)endpoint;
	(void)link;
}

static enum tcp_moved send_all(struct tcp_endpoint *endpoint,
			       struct tcp_link *link)
{
	enum tcp_moved most = TCP_MOVED_NOTHING;
	enum tcp_moved moved;

	while (tcp_link_live(link)) {
		moved = tcp_direct_send(endpoint, link);
		most = MAX(most, moved);
		if (moved != TCP_MOVED_MESSAGE)
			break;
	}
	return most;
}

static void sockets_kick_send(struct tcp_endpoint *endpoint,
			      struct tcp_link *link)
{
	send_all(endpoint, link);
}

/*
 * One message is received at a time, so that whoever waits for it gets it
 * without a further call that finds nothing.
 */
static enum tcp_moved move(struct tcp_endpoint *endpoint)
{
	enum tcp_moved most = TCP_MOVED_NOTHING;
	enum tcp_moved moved;
	struct tcp_link *link;
	unsigned i;

	for (i = 0; i < endpoint->link_count; i++) {
		link = &endpoint->links[i];
		if (tcp_link_live(link)) {
			moved = tcp_direct_receive(endpoint, link);
			most = MAX(most, moved);
		}
		moved = send_all(endpoint, link);
		most = MAX(most, moved);
	}
	return most;
}

static int sockets_poll(struct tcp_endpoint *endpoint)
{
	move(endpoint);
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

static int sockets_wait(struct tcp_endpoint *endpoint, int64_t deadline_ns,
			int wake_fd)
{
	int64_t start = clock_now_ns();
	int status;

	status = tcp_spin(endpoint, deadline_ns, wake_fd, move);
	if (status == -ETIMEDOUT &&
	    tcp_sleep_in_receive(endpoint, deadline_ns, wake_fd))
		status = 0;
	if (status == -ETIMEDOUT)
		status = tcp_poll_for(endpoint->polls,
				      fill_polls(endpoint, wake_fd),
				      deadline_ns - clock_now_ns());
	transport_spin_learn(&endpoint->spin, clock_now_ns() - start);
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
	.kick_send = sockets_kick_send,
	.kick_receive = sockets_kick_receive,
	.poll = sockets_poll,
	.wait = sockets_wait,
	.begin_sleep = sockets_begin_sleep,
	.stop = sockets_stop,
	.in_kernel = sockets_in_kernel,
};
