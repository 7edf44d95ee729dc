/*
 * The back end on io_uring.
 *
 * A large posted receive lies in the kernel as two linked requests, header and
 * payload, both MSG_WAITALL: the kernel fills the slot while the owner thread
 * computes, and the header can be looked at as soon as it is there. One
 * receive and one send per link are in the kernel at a time, so that bytes
 * stay in order.
 *
 * What the owner's own call does at once needs no request (direct.c): a send
 * goes to the kernel only when the socket is full. A small message
 * waits in the socket's buffer, which has room for it, until the owner
 * calls: to fill its slot earlier would save a copy of a few microseconds
 * and cost every message a request. And an owner that comes back after a
 * few microseconds each time (it has nothing to do but to wait for messages)
 * receives the large ones itself, too.
 *
 * The ring runs with COOP_TASKRUN: the kernel goes on with a request whenever
 * the owner enters the kernel, be it by the timer tick (4 ms at 250 Hz), at
 * which it takes all that the socket buffer holds. The default mode
 * interrupts the owner for each segment instead, which costs both ends 10 us
 * a time in a virtual machine (measured: 15 us half round trip against 5);
 * DEFER_TASKRUN would wait for the owner to call in: no overlap.
 *
 * SEND_ZC (and with it registered buffers, which pay only there) is used
 * where the kernel reports that it did not copy; the first large message
 * of a link tells. The payload belongs to the kernel until the notification.
 */
#include <errno.h>
#include <liburing.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "base/log.h"
#include "transport/tcp/tcp.h"

/* Linux 6.2; not in the headers of liburing 2.3. */
#ifndef IORING_SEND_ZC_REPORT_USAGE
#define IORING_SEND_ZC_REPORT_USAGE (1U << 3)
#endif
#ifndef IORING_NOTIF_USAGE_ZC_COPIED
#define IORING_NOTIF_USAGE_ZC_COPIED (1U << 31)
#endif

#define SQ_ENTRIES        256
#define REQUESTS_PER_LINK 8
#define ZERO_COPY_BYTES   ((size_t)64 << 10) /* below it never pays */
#define REQUEST_BYTES     ((size_t)1 << 30)  /* of one request */
#define SMALL_BYTES       ((size_t)64 << 10) /* a payload that can wait */
#define ATTENTIVE_NS      (30 * NS_PER_US)   /* away at most so long */

enum request {
	REQUEST_HEADER,
	REQUEST_PAYLOAD,
	REQUEST_SEND,
	REQUEST_SEND_ZERO_COPY,
	REQUEST_CANCEL,
};

struct tcp_uring {
	struct io_uring ring;
	bool sparse; /* there is a table of registered buffers */
	bool registered[TRANSPORT_REGIONS_MAX];
	unsigned registered_count;
	int64_t away_ns; /* how long the owner stays away; forgets slowly */
	int64_t left_ns; /* the end of its last wait */
	int64_t busy_ns; /* spent since then on moving bytes */
};

static void free_ring(struct tcp_endpoint *endpoint)
{
	io_uring_queue_exit(&endpoint->uring->ring);
	free(endpoint->uring);
	endpoint->uring = NULL;
}

static bool supported(struct io_uring *ring)
{
	struct io_uring_probe *probe = io_uring_get_probe_ring(ring);
	bool good;

	good = probe && io_uring_opcode_supported(probe, IORING_OP_RECV) &&
	       io_uring_opcode_supported(probe, IORING_OP_SENDMSG) &&
	       io_uring_opcode_supported(probe, IORING_OP_ASYNC_CANCEL);
	io_uring_free_probe(probe);
	return good;
}

static int uring_open(struct tcp_endpoint *endpoint)
{
	unsigned cq_entries = MAX(2 * SQ_ENTRIES, endpoint->base.config.size *
							  REQUESTS_PER_LINK);
	struct io_uring_params params = {
		.flags = IORING_SETUP_CQSIZE | IORING_SETUP_CLAMP |
			 IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG,
		.cq_entries = cq_entries,
	};
	struct tcp_uring *uring;
	int status;

	uring = calloc(1, sizeof(*uring));
	if (!uring)
		return -ENOMEM;
	status = io_uring_queue_init_params(SQ_ENTRIES, &uring->ring, &params);
	if (status == -EINVAL) { /* before Linux 5.19 */
		params = (struct io_uring_params){
			.flags = IORING_SETUP_CQSIZE | IORING_SETUP_CLAMP,
			.cq_entries = cq_entries,
		};
		status = io_uring_queue_init_params(SQ_ENTRIES, &uring->ring,
						    &params);
	}
	if (status) {
		free(uring);
		return status;
	}
	endpoint->uring = uring;
	uring->away_ns = NS_PER_MS; /* until it is known */
	if (!supported(&uring->ring)) {
		free_ring(endpoint);
		return -ENOSYS;
	}
	return 0;
}

static void uring_close(struct tcp_endpoint *endpoint)
{
	free_ring(endpoint);
}

/*
 * The kernel may refuse to pin (RLIMIT_MEMLOCK) or have no such table: then
 * the region is used as it is.
 */
static void register_buffer(struct tcp_uring *uring,
			    const struct transport_region *region)
{
	struct iovec part = {.iov_base = region->base,
			     .iov_len = region->bytes};
	__u64 no_tag = 0;

	if (!uring->sparse)
		uring->sparse =
			io_uring_register_buffers_sparse(
				&uring->ring, TRANSPORT_REGIONS_MAX) == 0;
	if (!uring->sparse || uring->registered[region->slot])
		return;
	if (io_uring_register_buffers_update_tag(&uring->ring, region->slot,
						 &part, &no_tag, 1) != 1)
		return;
	uring->registered[region->slot] = true;
	uring->registered_count++;
}

static bool any_zero_copy(const struct tcp_endpoint *endpoint)
{
	unsigned i;

	for (i = 0; i < endpoint->link_count; i++) {
		if (endpoint->links[i].zero_copy && !endpoint->links[i].probing)
			return true;
	}
	return false;
}

static void register_all(struct tcp_endpoint *endpoint)
{
	unsigned i;

	for (i = 0; i < endpoint->base.region_count; i++)
		register_buffer(endpoint->uring, &endpoint->base.regions[i]);
}

static void uring_add_region(struct tcp_endpoint *endpoint,
			     const struct transport_region *region)
{
	if (any_zero_copy(endpoint))
		register_buffer(endpoint->uring, region);
}

static void uring_drop_region(struct tcp_endpoint *endpoint,
			      const struct transport_region *region)
{
	struct tcp_uring *uring = endpoint->uring;
	struct iovec none = {.iov_base = NULL};
	__u64 no_tag = 0;

	if (!uring->registered[region->slot])
		return;
	io_uring_register_buffers_update_tag(&uring->ring, region->slot, &none,
					     &no_tag, 1);
	uring->registered[region->slot] = false;
	uring->registered_count--;
}

static bool uring_registered(const struct tcp_endpoint *endpoint)
{
	return endpoint->uring->registered_count > 0;
}

static void uring_attach(struct tcp_endpoint *endpoint, struct tcp_link *link)
{
	enum transport_zero_copy wish = endpoint->base.config.zero_copy;

	link->zero_copy = wish != TRANSPORT_ZERO_COPY_NEVER;
	link->probing = wish == TRANSPORT_ZERO_COPY_AUTO;
	if (wish == TRANSPORT_ZERO_COPY_ALWAYS)
		register_all(endpoint);
}

/*
 * Hands the requests to the kernel. It may be short of memory for a moment;
 * they then stay in the queue, and the next poll tries again.
 */
static int flush(struct tcp_uring *uring)
{
	int status;

	if (!io_uring_sq_ready(&uring->ring))
		return 0;
	do {
		status = io_uring_submit(&uring->ring);
	} while (status == -EINTR);
	if (status >= 0 || status == -EAGAIN || status == -EBUSY)
		return 0;
	return fail(status, "tcp: io_uring_submit: %s", strerror(-status));
}

/* After prep: who asked. */
static void seal(struct io_uring_sqe *sqe, const struct tcp_link *link,
		 enum request kind)
{
	io_uring_sqe_set_data64(sqe, (uint64_t)link->index << 8 | kind);
}

static bool has_room(struct tcp_uring *uring, unsigned requests)
{
	if (io_uring_sq_space_left(&uring->ring) >= requests)
		return true;
	flush(uring);
	return io_uring_sq_space_left(&uring->ring) >= requests;
}

static void queue_receive(struct tcp_endpoint *endpoint, struct tcp_link *link)
{
	struct iovec parts[TCP_PARTS];
	struct io_uring_sqe *sqe;
	enum request kind;
	unsigned count;
	unsigned i;

	count = tcp_link_receive_parts(link, parts);
	if (!count || !has_room(endpoint->uring, count))
		return;
	for (i = 0; i < count; i++) {
		kind = i == 0 && link->received < WIRE_HEADER_BYTES
			       ? REQUEST_HEADER
			       : REQUEST_PAYLOAD;
		sqe = io_uring_get_sqe(&endpoint->uring->ring);
		io_uring_prep_recv(sqe, link->fd, parts[i].iov_base,
				   MIN(parts[i].iov_len, REQUEST_BYTES),
				   MSG_WAITALL);
		if (i + 1 < count)
			io_uring_sqe_set_flags(sqe, IOSQE_IO_LINK);
		seal(sqe, link, kind);
		link->receives_in_kernel++;
	}
}

/* There is a message to receive, and the kernel does not do so already. */
static bool may_receive(const struct tcp_link *link)
{
	return tcp_link_live(link) && !link->receives_in_kernel &&
	       transport_queue_pending(&link->receive);
}

static size_t next_received(const struct tcp_link *link)
{
	return transport_queue_at(&link->receive, link->receive.done)->bytes;
}

/* Does the owner receive it itself, when it calls? */
static bool is_for_owner(const struct tcp_endpoint *endpoint,
			 const struct tcp_link *link)
{
	return next_received(link) <= SMALL_BYTES ||
	       endpoint->uring->away_ns <= ATTENTIVE_NS;
}

static enum tcp_moved receive_now(struct tcp_endpoint *endpoint,
				  struct tcp_link *link)
{
	enum tcp_moved moved;
	int64_t start;

	if (next_received(link) <= SMALL_BYTES)
		return tcp_direct_receive(endpoint, link);
	start = clock_now_ns();
	moved = tcp_direct_receive(endpoint, link);
	endpoint->uring->busy_ns += clock_now_ns() - start;
	return moved;
}

/* Header first, and then the payload straight from the registered region. */
static void queue_zero_copy(struct tcp_endpoint *endpoint,
			    struct tcp_link *link, const struct iovec *parts)
{
	struct tcp_uring *uring = endpoint->uring;
	struct io_uring_sqe *sqe = io_uring_get_sqe(&uring->ring);
	const struct transport_region *region;
	size_t bytes = MIN(parts[0].iov_len, REQUEST_BYTES);

	if (link->sent < WIRE_HEADER_BYTES) {
		io_uring_prep_send(sqe, link->fd, parts[0].iov_base, bytes,
				   MSG_NOSIGNAL | MSG_WAITALL | MSG_MORE);
		seal(sqe, link, REQUEST_SEND);
		return;
	}
	io_uring_prep_send_zc(sqe, link->fd, parts[0].iov_base, bytes,
			      MSG_NOSIGNAL | MSG_WAITALL,
			      IORING_SEND_ZC_REPORT_USAGE);
	region = transport_region_find(&endpoint->base, parts[0].iov_base,
				       parts[0].iov_len);
	if (region && uring->registered[region->slot]) {
		sqe->ioprio |= IORING_RECVSEND_FIXED_BUF;
		sqe->buf_index = (uint16_t)region->slot;
	}
	link->zero_copy_sent = 0;
	link->zero_copy_pending = true;
	seal(sqe, link, REQUEST_SEND_ZERO_COPY);
}

static void queue_plain(struct tcp_endpoint *endpoint, struct tcp_link *link,
			unsigned count)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(&endpoint->uring->ring);

	link->send_message = (struct msghdr){
		.msg_iov = link->send_parts,
		.msg_iovlen = count,
	};
	io_uring_prep_sendmsg(sqe, link->fd, &link->send_message,
			      MSG_NOSIGNAL | MSG_WAITALL);
	seal(sqe, link, REQUEST_SEND);
}

static bool goes_zero_copy(const struct tcp_link *link)
{
	return link->zero_copy &&
	       transport_queue_at(&link->send, link->send.done)->bytes >=
		       ZERO_COPY_BYTES;
}

static bool may_send(const struct tcp_link *link)
{
	return tcp_link_live(link) && !link->sends_in_kernel &&
	       transport_queue_pending(&link->send);
}

/* At once where it can be, so that the payload need not wait for the owner. */
static void send_header(struct tcp_endpoint *endpoint, struct tcp_link *link)
{
	ssize_t bytes;

	tcp_link_send_parts(endpoint, link, link->send_parts);
	bytes = send(link->fd, link->send_parts[0].iov_base,
		     link->send_parts[0].iov_len,
		     MSG_NOSIGNAL | MSG_DONTWAIT | MSG_MORE);
	if (bytes > 0) /* an error the request finds again */
		tcp_link_sent(link, (size_t)bytes);
}

/* What the socket takes at once, and the rest to the kernel. */
static void send_posted(struct tcp_endpoint *endpoint, struct tcp_link *link)
{
	unsigned count;

	while (may_send(link) && !goes_zero_copy(link)) {
		if (tcp_direct_send(endpoint, link) != TCP_MOVED_MESSAGE)
			break;
	}
	if (!may_send(link) || !has_room(endpoint->uring, 1))
		return;
	if (goes_zero_copy(link) && link->sent < WIRE_HEADER_BYTES)
		send_header(endpoint, link);
	count = tcp_link_send_parts(endpoint, link, link->send_parts);
	link->sends_in_kernel++;
	if (goes_zero_copy(link))
		queue_zero_copy(endpoint, link, link->send_parts);
	else
		queue_plain(endpoint, link, count);
}

static void uring_kick_send(struct tcp_endpoint *endpoint,
			    struct tcp_link *link)
{
	send_posted(endpoint, link);
	flush(endpoint->uring);
}

static void uring_kick_receive(struct tcp_endpoint *endpoint,
			       struct tcp_link *link)
{
	if (!may_receive(link) || is_for_owner(endpoint, link))
		return;
	queue_receive(endpoint, link);
	flush(endpoint->uring);
}

/* The kernel stopped for no fault of the peer: ask again. */
static bool is_transient(int result)
{
	return result == -EAGAIN || result == -EINTR || result == -ECANCELED;
}

static void receive_done(struct tcp_endpoint *endpoint, struct tcp_link *link,
			 int result)
{
	link->receives_in_kernel--;
	if (!tcp_link_live(link) || is_transient(result))
		return;
	if (result > 0)
		tcp_link_received(endpoint, link, (size_t)result);
	else
		tcp_link_receive_failed(endpoint, link, result);
}

static void send_done(struct tcp_endpoint *endpoint, struct tcp_link *link,
		      int result)
{
	link->sends_in_kernel--;
	link->zero_copy_pending = false;
	if (!tcp_link_live(link) || is_transient(result))
		return;
	if (result >= 0)
		tcp_link_sent(link, (size_t)result);
	else
		tcp_link_send_failed(endpoint, link, result);
}

/* The notification tells whether it paid. */
static void learn_zero_copy(struct tcp_endpoint *endpoint,
			    struct tcp_link *link, bool copied)
{
	if (!link->probing)
		return;
	link->probing = false;
	link->zero_copy = !copied;
	link->probe_copied = copied;
	if (link->zero_copy)
		register_all(endpoint);
}

static void zero_copy_done(struct tcp_endpoint *endpoint, struct tcp_link *link,
			   const struct io_uring_cqe *cqe)
{
	if (cqe->flags & IORING_CQE_F_NOTIF) {
		learn_zero_copy(endpoint, link,
				(unsigned)cqe->res &
					IORING_NOTIF_USAGE_ZC_COPIED);
		send_done(endpoint, link, (int)link->zero_copy_sent);
		return;
	}
	if (cqe->flags & IORING_CQE_F_MORE) {
		/* The payload stays the kernel's until the notification. */
		link->zero_copy_sent = cqe->res > 0 ? (size_t)cqe->res : 0;
		if (cqe->res < 0 && tcp_link_live(link) &&
		    !is_transient(cqe->res))
			tcp_link_send_failed(endpoint, link, cqe->res);
		return;
	}
	if (cqe->res == -EINVAL || cqe->res == -EOPNOTSUPP ||
	    cqe->res == -ENOMEM || cqe->res == -ENOBUFS) {
		/* This kernel or limit does not allow it: plain from now on. */
		link->zero_copy = false;
		link->probing = false;
		send_done(endpoint, link, -EAGAIN);
		return;
	}
	send_done(endpoint, link, cqe->res);
}

static void request_done(struct tcp_endpoint *endpoint,
			 const struct io_uring_cqe *cqe)
{
	struct tcp_link *link = &endpoint->links[cqe->user_data >> 8];

	switch ((enum request)(cqe->user_data & 255)) {
	case REQUEST_HEADER:
	case REQUEST_PAYLOAD:
		receive_done(endpoint, link, cqe->res);
		break;
	case REQUEST_SEND:
		send_done(endpoint, link, cqe->res);
		break;
	case REQUEST_SEND_ZERO_COPY:
		zero_copy_done(endpoint, link, cqe);
		break;
	case REQUEST_CANCEL:
		break; /* what it cancelled reports for itself */
	}
}

/*
 * One message is received at a time by the owner, so that whoever waits for it
 * gets it without a further call that finds nothing.
 */
static enum tcp_moved move_link(struct tcp_endpoint *endpoint,
				struct tcp_link *link)
{
	enum tcp_moved moved = TCP_MOVED_NOTHING;

	if (may_receive(link) && is_for_owner(endpoint, link))
		moved = receive_now(endpoint, link);
	if (may_receive(link) && !is_for_owner(endpoint, link))
		queue_receive(endpoint, link);
	if (may_send(link))
		send_posted(endpoint, link);
	return moved;
}

static int uring_poll(struct tcp_endpoint *endpoint)
{
	struct io_uring *ring = &endpoint->uring->ring;
	struct io_uring_cqe *cqe;
	unsigned i;

	while (io_uring_peek_cqe(ring, &cqe) == 0) {
		request_done(endpoint, cqe);
		io_uring_cqe_seen(ring, cqe);
	}
	for (i = 0; i < endpoint->link_count; i++)
		move_link(endpoint, &endpoint->links[i]);
	return flush(endpoint->uring);
}

/* A completion, or work that the kernel left for us (TASKRUN_FLAG). */
static bool has_completion(struct io_uring *ring)
{
	struct io_uring_cqe *cqe;

	return io_uring_peek_cqe(ring, &cqe) == 0;
}

static enum tcp_moved move(struct tcp_endpoint *endpoint)
{
	enum tcp_moved most = TCP_MOVED_NOTHING;
	enum tcp_moved moved;
	unsigned i;

	if (has_completion(&endpoint->uring->ring))
		return TCP_MOVED_MESSAGE;
	for (i = 0; i < endpoint->link_count; i++) {
		moved = move_link(endpoint, &endpoint->links[i]);
		most = MAX(most, moved);
	}
	flush(endpoint->uring);
	return most;
}

/*
 * Large receives go to the kernel. Small ones are looked for at their sockets;
 * where there is no room for all of these in `fds`, the kernel gets them, too.
 * The number of descriptors, 0: there is a completion.
 */
static int prepare_sleep(struct tcp_endpoint *endpoint, struct pollfd *fds,
			 unsigned capacity)
{
	struct io_uring *ring = &endpoint->uring->ring;
	struct tcp_link *link;
	unsigned count = 0;
	unsigned i;
	int status;

	if (!capacity)
		return fail(-ENOSPC, "tcp: no room for a descriptor");
	for (i = 0; i < endpoint->link_count; i++) {
		link = &endpoint->links[i];
		if (!may_receive(link))
			continue;
		if (next_received(link) > SMALL_BYTES || count + 1 >= capacity)
			queue_receive(endpoint, link);
		else
			fds[count++] = (struct pollfd){
				.fd = link->fd,
				.events = POLLIN,
			};
	}
	status = flush(endpoint->uring);
	if (status || has_completion(ring))
		return status;
	fds[count++] = (struct pollfd){.fd = ring->ring_fd, .events = POLLIN};
	return (int)count;
}

static int sleep_on_ring(struct io_uring *ring, int64_t left_ns)
{
	struct __kernel_timespec patience = {
		.tv_sec = left_ns / NS_PER_SECOND,
		.tv_nsec = left_ns % NS_PER_SECOND,
	};
	struct io_uring_cqe *cqe;
	int status;

	status = io_uring_wait_cqe_timeout(ring, &cqe, &patience);
	if (status == -ETIME)
		return -ETIMEDOUT;
	if (!status || status == -EINTR)
		return 0;
	return fail(status, "tcp: waiting for io_uring: %s", strerror(-status));
}

/*
 * A request that ends queues work for the owner, which wakes it; ppoll does the
 * work, finds the completion and comes back.
 */
static int sleep_until(struct tcp_endpoint *endpoint, int64_t deadline_ns,
		       int wake_fd)
{
	struct io_uring *ring = &endpoint->uring->ring;
	struct pollfd *polls = endpoint->polls;
	int64_t left_ns;
	int status;
	int count;

	count = prepare_sleep(endpoint, polls, endpoint->base.config.size + 1);
	if (count <= 0)
		return count;
	left_ns = MAX(deadline_ns - clock_now_ns(), 0);
	if (count == 1 && wake_fd < 0) {
		status = sleep_on_ring(ring, left_ns);
	} else {
		polls[count] = (struct pollfd){.fd = wake_fd, .events = POLLIN};
		status = tcp_poll_for(polls, (unsigned)count + 1, left_ns);
	}
	return status == -ETIMEDOUT && has_completion(ring) ? 0 : status;
}

/* What the owner did since the last wait is what it will do after this one. */
static void learn_attention(struct tcp_uring *uring, int64_t now)
{
	int64_t away_ns = now - uring->left_ns - uring->busy_ns;

	/* No more than a millisecond: it is to be forgotten some day. */
	if (uring->left_ns)
		uring->away_ns = MAX(MIN(away_ns, NS_PER_MS),
				     uring->away_ns - uring->away_ns / 4);
}

static int uring_wait(struct tcp_endpoint *endpoint, int64_t deadline_ns,
		      int wake_fd)
{
	struct tcp_uring *uring = endpoint->uring;
	int64_t start = clock_now_ns();
	int status;

	learn_attention(uring, start);
	status = flush(uring);
	if (status || has_completion(&uring->ring))
		return status;
	status = tcp_spin(endpoint, deadline_ns, wake_fd, move);
	if (status == -ETIMEDOUT &&
	    tcp_sleep_in_receive(endpoint, deadline_ns, wake_fd))
		status = 0;
	if (status == -ETIMEDOUT)
		status = sleep_until(endpoint, deadline_ns, wake_fd);
	uring->left_ns = clock_now_ns();
	uring->busy_ns = 0;
	transport_spin_learn(&endpoint->spin, uring->left_ns - start);
	return status;
}

/*
 * The socket is shut down already, which ends most of them. A zero-copy send
 * ends only when the peer has acknowledged all of it, which it may never
 * do: then the connection is thrown away, and with it the kernel's hold.
 */
static void uring_stop(struct tcp_endpoint *endpoint, struct tcp_link *link)
{
	struct sockaddr nowhere = {.sa_family = AF_UNSPEC};
	struct io_uring_sqe *sqe;

	if (link->zero_copy_pending &&
	    connect(link->fd, &nowhere, sizeof(nowhere)))
		log_warning("tcp: resetting the link with rank %u: %s",
			    link->peer, strerror(errno));
	if (!has_room(endpoint->uring, 1))
		return;
	sqe = io_uring_get_sqe(&endpoint->uring->ring);
	io_uring_prep_cancel_fd(sqe, link->fd, IORING_ASYNC_CANCEL_ALL);
	seal(sqe, link, REQUEST_CANCEL);
	flush(endpoint->uring);
}

static unsigned uring_in_kernel(const struct tcp_link *link)
{
	return link->sends_in_kernel + link->receives_in_kernel;
}

const struct tcp_backend tcp_uring_backend = {
	.name = "uring",
	.open = uring_open,
	.close = uring_close,
	.attach = uring_attach,
	.kick_send = uring_kick_send,
	.kick_receive = uring_kick_receive,
	.poll = uring_poll,
	.wait = uring_wait,
	.begin_sleep = prepare_sleep,
	.stop = uring_stop,
	.in_kernel = uring_in_kernel,
	.add_region = uring_add_region,
	.drop_region = uring_drop_region,
	.registered = uring_registered,
};
