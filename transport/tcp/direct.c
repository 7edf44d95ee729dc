/*
 * Bytes moved by the owner's own calls, without blocking: all there is to the
 * back end on sockets, and the shorter way for the one on io_uring while the
 * owner is here anyway.
 */
#include <errno.h>
#include <poll.h>
#include <time.h>

#include "base/clock.h"
#include "base/log.h"
#include "transport/tcp/tcp.h"

/* Of one call, so that the checksum finds the bytes in the cache. */
#define CHUNK_BYTES ((size_t)512 << 10)

/* How often a spinning owner looks at the other descriptor: not to be late. */
#define SPINS_PER_LOOK 32

static size_t cut(struct iovec *parts, size_t *count)
{
	size_t bytes = 0;

	for (size_t i = 0; i < *count && bytes < CHUNK_BYTES; i++) {
		parts[i].iov_len = MIN(parts[i].iov_len, CHUNK_BYTES - bytes);
		bytes += parts[i].iov_len;
		if (bytes == CHUNK_BYTES)
			*count = i + 1;
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
	struct msghdr message = {.msg_iov = parts};
	enum tcp_moved moved = TCP_MOVED_NOTHING;
	ssize_t bytes;

	for (;;) {
		message.msg_iovlen = tcp_link_send_parts(endpoint, link, parts);
		if (!message.msg_iovlen)
			return moved;
		bytes = sendmsg(link->fd, &message,
				MSG_NOSIGNAL | MSG_DONTWAIT);
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

enum tcp_moved tcp_direct_receive(struct tcp_endpoint *endpoint,
				  struct tcp_link *link)
{
	struct iovec parts[TCP_PARTS];
	struct msghdr message = {.msg_iov = parts};
	enum tcp_moved moved = TCP_MOVED_NOTHING;
	ssize_t bytes;
	size_t asked;

	for (;;) {
		message.msg_iovlen = tcp_link_receive_parts(link, parts);
		if (!message.msg_iovlen)
			return moved;
		asked = cut(parts, &message.msg_iovlen);
		bytes = recvmsg(link->fd, &message, MSG_DONTWAIT);
		if (bytes < 0 && errno == EINTR)
			continue;
		if (bytes < 0 && would_block())
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

int tcp_poll_for(struct pollfd *polls, unsigned count, int64_t timeout_ns)
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

/*
 * The time counts from the last byte that moved: in the middle of a message
 * the next one is near.
 */
int tcp_spin(struct tcp_endpoint *endpoint, int64_t deadline_ns, int wake_fd,
	     enum tcp_moved (*move)(struct tcp_endpoint *endpoint))
{
	struct pollfd wake = {.fd = wake_fd, .events = POLLIN};
	int64_t budget_ns = endpoint->spin.budget_ns;
	int64_t now = clock_now_ns();
	int64_t until_ns = MIN(now + budget_ns, deadline_ns);
	unsigned spins = 0;

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
