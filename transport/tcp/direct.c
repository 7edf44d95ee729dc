/*
 * Bytes moved by the owner's own calls, without blocking: all there is to the
 * back end on sockets, and the shorter way for the one on io_uring while the
 * owner is here anyway.
 */
#include <errno.h>
#include <poll.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "transport/tcp/tcp.h"

/* Of one call, so that the checksum finds the bytes in the cache. */
#define CHUNK_BYTES ((size_t)512 << 10)

/* How often a spinning owner looks at the other descriptor: not to be late. */
#define SPINS_PER_LOOK 32

/* No more than CHUNK_BYTES; how many they are. */
static size_t cut(struct iovec *parts, unsigned *count)
{
	size_t bytes = 0;
	unsigned i;

	for (i = 0; i < *count && bytes < CHUNK_BYTES; i++) {
		parts[i].iov_len = MIN(parts[i].iov_len, CHUNK_BYTES - bytes);
		bytes += parts[i].iov_len;
	}
	*count = i;
	return bytes;
}

static size_t length(const struct iovec *parts, unsigned count)
{
	size_t bytes = 0;
	unsigned i;

	for (i = 0; i < count; i++)
		bytes += parts[i].iov_len;
	return bytes;
}

/*
 * sendmsg and recvmsg cost some 0.1 us more than send and recv, which is more
 * than to copy a short frame.
 */
static ssize_t send_parts(struct tcp_link *link, struct iovec *parts,
			  unsigned count)
{
	struct msghdr message = {.msg_iov = parts, .msg_iovlen = count};
	const int flags = MSG_NOSIGNAL | MSG_DONTWAIT;
	unsigned char *to = link->stage;
	unsigned i;

	if (count == 1)
		return send(link->fd, parts[0].iov_base, parts[0].iov_len,
			    flags);
	if (length(parts, count) > TCP_STAGE_BYTES)
		return sendmsg(link->fd, &message, flags);
	for (i = 0; i < count; i++) {
		memcpy(to, parts[i].iov_base, parts[i].iov_len);
		to += parts[i].iov_len;
	}
	return send(link->fd, link->stage, (size_t)(to - link->stage), flags);
}

static ssize_t receive_parts(struct tcp_link *link, struct iovec *parts,
			     unsigned count, int flags)
{
	struct msghdr message = {.msg_iov = parts, .msg_iovlen = count};
	size_t asked = length(parts, count);
	size_t taken = 0;
	ssize_t bytes;
	unsigned i;

	if (count == 1)
		return recv(link->fd, parts[0].iov_base, asked, flags);
	if (asked > TCP_STAGE_BYTES)
		return recvmsg(link->fd, &message, flags);
	bytes = recv(link->fd, link->stage, asked, flags);
	for (i = 0; bytes > 0 && taken < (size_t)bytes; i++) {
		memcpy(parts[i].iov_base, link->stage + taken,
		       MIN(parts[i].iov_len, (size_t)bytes - taken));
		taken += parts[i].iov_len;
	}
	return bytes;
}

static bool would_block(void)
{
	return errno == EAGAIN || errno == EWOULDBLOCK;
}

enum tcp_moved tcp_direct_send(struct tcp_endpoint *endpoint,
			       struct tcp_link *link)
{
	struct iovec parts[TCP_PARTS];
	enum tcp_moved moved = TCP_MOVED_NOTHING;
	unsigned count;
	ssize_t bytes;

	for (;;) {
		count = tcp_link_send_parts(endpoint, link, parts);
		if (!count)
			return moved;
		bytes = send_parts(link, parts, count);
		if (bytes < 0 && errno == EINTR)
			continue;
		if (bytes < 0 && would_block())
			return moved;
		if (bytes < 0)
			tcp_link_send_failed(endpoint, link, -errno);
		else
			tcp_link_sent(link, (size_t)bytes);
		if (!tcp_link_live(link) || !link->sent)
			return TCP_MOVED_MESSAGE;
		moved = TCP_MOVED_BYTES;
	}
}

static enum tcp_moved receive(struct tcp_endpoint *endpoint,
			      struct tcp_link *link, int flags)
{
	struct iovec parts[TCP_PARTS];
	enum tcp_moved moved = TCP_MOVED_NOTHING;
	unsigned count;
	ssize_t bytes;
	size_t asked;

	for (;;) {
		count = tcp_link_receive_parts(link, parts);
		if (!count)
			return moved;
		asked = cut(parts, &count);
		bytes = receive_parts(link, parts, count, flags);
		if (bytes < 0 && (errno == EINTR || would_block()))
			return moved;
		if (bytes > 0)
			tcp_link_received(endpoint, link, (size_t)bytes);
		else
			tcp_link_receive_failed(endpoint, link,
						bytes ? -errno : 0);
		if (!tcp_link_live(link) || !link->received)
			return TCP_MOVED_MESSAGE;
		moved = TCP_MOVED_BYTES;
		if ((size_t)bytes < asked) /* that was all there is */
			return moved;
	}
}

enum tcp_moved tcp_direct_receive(struct tcp_endpoint *endpoint,
				  struct tcp_link *link)
{
	return receive(endpoint, link, MSG_DONTWAIT);
}

/* The link with a receive to wait for, if there is nothing else to wait for. */
static struct tcp_link *only_receiver(struct tcp_endpoint *endpoint)
{
	struct tcp_link *only = NULL;
	struct tcp_link *link;
	unsigned i;

	for (i = 0; i < endpoint->link_count; i++) {
		link = &endpoint->links[i];
		if (link->sends_in_kernel || link->receives_in_kernel)
			return NULL;
		if (!tcp_link_live(link))
			continue;
		if (transport_queue_pending(&link->send) ||
		    (only && transport_queue_pending(&link->receive)))
			return NULL;
		if (transport_queue_pending(&link->receive))
			only = link;
	}
	return only;
}

bool tcp_sleep_in_receive(struct tcp_endpoint *endpoint, int64_t deadline_ns,
			  int wake_fd)
{
	struct tcp_link *link = NULL;

	if (wake_fd < 0 && deadline_ns - clock_now_ns() > TCP_PATIENCE_NS)
		link = only_receiver(endpoint);
	if (!link)
		return false;
	receive(endpoint, link, MSG_WAITALL);
	endpoint->looked_ns = clock_now_ns();
	return true;
}

int tcp_poll_for(struct pollfd *polls, unsigned count, int64_t timeout_ns)
{
	int ready = transport_sleep(polls, count, timeout_ns);

	if (ready < 0 && ready != -ETIMEDOUT)
		return fail(ready, "tcp: poll: %s", strerror(-ready));
	return MIN(ready, 0);
}

/*
 * The time counts from the last byte that moved: in the middle of a message
 * the next one is near.
 */
int tcp_spin(struct tcp_endpoint *endpoint, int64_t deadline_ns, int wake_fd,
	     enum tcp_moved (*move)(struct tcp_endpoint *endpoint))
{
	struct pollfd wake = {.fd = wake_fd, .events = POLLIN};
	int64_t budget_ns = endpoint->spin.budget_ns;
	unsigned spins = 0;
	int64_t until_ns;
	int64_t now;

	if (!budget_ns)
		return -ETIMEDOUT;
	now = clock_now_ns();
	until_ns = MIN(now + budget_ns, deadline_ns);
	while (now < until_ns) {
		switch (move(endpoint)) {
		case TCP_MOVED_MESSAGE:
			return 0;
		case TCP_MOVED_BYTES:
			until_ns = MIN(clock_now_ns() + budget_ns, deadline_ns);
			break;
		case TCP_MOVED_NOTHING:
			transport_spin_pause();
		}
		if (wake_fd >= 0 && ++spins % SPINS_PER_LOOK == 0 &&
		    tcp_poll_for(&wake, 1, 0) == 0)
			return 0;
		now = clock_now_ns();
	}
	return -ETIMEDOUT;
}
