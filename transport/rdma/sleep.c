/* Waiting: a spin over the completion queues, then a poll(2). */
#include <errno.h>
#include <poll.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "transport/rdma/rdma.h"
#include "transport/tcp/tcp.h"

/* A poll that never sleeps asks the kernel for bad news this often. */
#define LOOK_NS (2 * NS_PER_MS)

static bool has_news(const struct rdma_endpoint *endpoint)
{
	for (unsigned i = 0; i < endpoint->link_count; i++) {
		if (rdma_link_has_news(&endpoint->links[i]))
			return true;
	}
	return false;
}

static void link_gone(struct rdma_link *link, int code)
{
	link->gone = code;
	/* What came before the end is taken first. */
	rdma_link_poll(link);
}

/* After connect only the end of a link is news. */
static void take_events(struct rdma_endpoint *endpoint)
{
	struct rdma_cm_event *event;

	while (rdma_get_cm_event(endpoint->events, &event) == 0) {
		struct rdma_link *link = event->id->context;
		enum rdma_cm_event_type type = event->event;

		rdma_ack_cm_event(event);
		if (!link || !rdma_link_live(link))
			continue;
		if (type == RDMA_CM_EVENT_DISCONNECTED) {
			link_gone(link, -ECONNRESET);
		} else if (type == RDMA_CM_EVENT_DEVICE_REMOVAL) {
			log_error(
				"rank %u: the RDMA device %s is being "
				"removed",
				endpoint->base.config.rank,
				ibv_get_device_name(endpoint->device->device));
			rdma_link_over(link, -ENODEV);
		}
	}
}

static void look(struct rdma_endpoint *endpoint)
{
	endpoint->looked_ns = clock_now_ns();
	take_events(endpoint);
	for (unsigned i = 0; i < endpoint->link_count; i++) {
		struct rdma_link *link = &endpoint->links[i];
		int code;

		if (!rdma_link_live(link) || link->gone)
			continue;
		code = tcp_endpoint_peer_ended(endpoint->bootstrap, link->peer);
		if (code)
			link_gone(link, code);
	}
}

void rdma_endpoint_poll(struct rdma_endpoint *endpoint, bool now)
{
	if (now || clock_now_ns() - endpoint->looked_ns > LOOK_NS)
		look(endpoint);
	for (unsigned i = 0; i < endpoint->link_count; i++) {
		rdma_link_poll(&endpoint->links[i]);
		rdma_link_check_gone(&endpoint->links[i]);
	}
}

/* Credits sent are of no interest; sends are, and a queue that is full. */
static bool awaits_sends(const struct rdma_link *link)
{
	return transport_queue_pending(&link->send) || link->fault_sent ||
	       link->advertised < link->receive.tail;
}

static void arm(struct rdma_link *link)
{
	if (!link->receive_cq || link->hung_up)
		return;
	if (!link->receive_armed)
		link->receive_armed =
			ibv_req_notify_cq(link->receive_cq, 0) == 0;
	if (!link->send_armed && awaits_sends(link))
		link->send_armed = ibv_req_notify_cq(link->send_cq, 0) == 0;
}

int rdma_endpoint_begin_sleep(struct transport_endpoint *base,
			      struct pollfd *fds, unsigned capacity)
{
	struct rdma_endpoint *endpoint = rdma_of(base);
	unsigned count = 0;

	rdma_endpoint_poll(endpoint, false);
	if (has_news(endpoint))
		return 0;
	for (unsigned i = 0; i < endpoint->link_count; i++)
		arm(&endpoint->links[i]);
	/* What came before a queue was armed raises no event. */
	rdma_endpoint_poll(endpoint, false);
	if (has_news(endpoint))
		return 0;
	ASSERT(capacity >= endpoint->link_count + 2);
	fds[count++] = (struct pollfd){
		.fd = endpoint->completions->fd,
		.events = POLLIN,
	};
	fds[count++] = (struct pollfd){
		.fd = endpoint->events->fd,
		.events = POLLIN,
	};
	for (unsigned i = 0; i < endpoint->link_count; i++) {
		struct rdma_link *link = &endpoint->links[i];

		if (rdma_link_live(link) && !link->gone)
			fds[count++] = (struct pollfd){
				.fd = tcp_endpoint_socket(endpoint->bootstrap,
							  link->peer),
				.events = POLLRDHUP,
			};
	}
	return (int)count;
}

static void take_notifications(struct rdma_endpoint *endpoint)
{
	struct ibv_cq *queue;
	void *context;

	while (ibv_get_cq_event(endpoint->completions, &queue, &context) == 0) {
		struct rdma_link *link = context;

		if (queue == link->send_cq)
			link->send_armed = false;
		else
			link->receive_armed = false;
		ibv_ack_cq_events(queue, 1);
	}
}

void rdma_endpoint_end_sleep(struct transport_endpoint *base)
{
	take_notifications(rdma_of(base));
	/* Which descriptor it was that woke us is not known here. */
	rdma_of(base)->looked_ns = 0;
}

/* Something else than completions: worth asking the kernel. */
static bool is_bad_news(const struct pollfd *fds, unsigned count)
{
	for (unsigned i = 0; i < count; i++) {
		if (fds[i].revents)
			return true;
	}
	return false;
}

/* 0: look again; 1: wake_fd is readable, or a signal came; -ETIMEDOUT. */
static int sleep_once(struct rdma_endpoint *endpoint, int64_t deadline_ns,
		      int wake_fd)
{
	struct pollfd *fds = endpoint->polls;
	int count;
	int ready;

	count = rdma_endpoint_begin_sleep(&endpoint->base, fds + 1,
					  endpoint->base.config.size + 2);
	if (count <= 0)
		return count;
	fds[0] = (struct pollfd){.fd = wake_fd, .events = POLLIN};
	ready = transport_sleep(fds, (unsigned)count + 1,
				deadline_ns - clock_now_ns());
	if (ready < 0 && ready != -ETIMEDOUT)
		return fail(ready, "rdma: poll: %s", strerror(-ready));
	if (fds[1].revents)
		take_notifications(endpoint);
	if (is_bad_news(fds + 2, (unsigned)count - 1))
		endpoint->looked_ns = 0;
	if (ready < 0)
		return ready;
	return !ready || fds[0].revents;
}

static int wait_until(struct rdma_endpoint *endpoint, int64_t start_ns,
		      int64_t deadline_ns, int wake_fd)
{
	int64_t spin_ns = MIN(start_ns + endpoint->spin.budget_ns, deadline_ns);
	int status;

	do {
		rdma_endpoint_poll(endpoint, false);
		if (has_news(endpoint))
			return 0;
		transport_spin_pause();
	} while (clock_now_ns() < spin_ns);
	for (;;) {
		status = sleep_once(endpoint, deadline_ns, wake_fd);
		if (status)
			return status > 0 ? 0 : status;
		/* A credit, or the end of a link nobody waits on: no news. */
		rdma_endpoint_poll(endpoint, false);
		if (has_news(endpoint))
			return 0;
		if (clock_now_ns() >= deadline_ns)
			return -ETIMEDOUT;
	}
}

int rdma_endpoint_wait(struct transport_endpoint *base, int64_t deadline_ns,
		       int wake_fd)
{
	struct rdma_endpoint *endpoint = rdma_of(base);
	int64_t start_ns = clock_now_ns();
	int status;

	status = wait_until(endpoint, start_ns, deadline_ns, wake_fd);
	transport_spin_learn(&endpoint->spin, clock_now_ns() - start_ns);
	return status;
}
