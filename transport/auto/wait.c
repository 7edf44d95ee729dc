/* Waits for several endpoints at once: a spin over all, then one poll. */
#include <errno.h>
#include <poll.h>

#include "base/clock.h"
#include "base/log.h"
#include "transport/auto/auto.h"

/* The only transport with links; NULL when there are several, or none. */
static struct transport_endpoint *only_child(struct auto_endpoint *endpoint,
					     unsigned *active)
{
	struct transport_endpoint *only = NULL;

	*active = 0;
	for (unsigned i = 0; i < AUTO_KINDS; i++) {
		if (!endpoint->child[i].links)
			continue;
		only = endpoint->child[i].endpoint;
		++*active;
	}
	return *active == 1 ? only : NULL;
}

/* 0 when one has news, -ETIMEDOUT when none has, or what went wrong. */
static int look(struct auto_endpoint *endpoint)
{
	for (unsigned i = 0; i < AUTO_KINDS; i++) {
		int status;

		if (!endpoint->child[i].links)
			continue;
		status = transport_wait(endpoint->child[i].endpoint, 0, -1);
		if (status != -ETIMEDOUT)
			return status;
	}
	return -ETIMEDOUT;
}

static int spin(struct auto_endpoint *endpoint, int64_t deadline_ns)
{
	int status;

	do {
		status = look(endpoint);
		if (status != -ETIMEDOUT)
			return status;
		transport_spin_pause();
	} while (clock_now_ns() < deadline_ns);
	return -ETIMEDOUT;
}

static void end_sleeps(struct auto_endpoint *endpoint)
{
	for (unsigned i = 0; i < AUTO_KINDS; i++) {
		struct auto_child *child = &endpoint->child[i];

		if (child->asleep)
			child->endpoint->ops->end_sleep(child->endpoint);
		child->asleep = false;
	}
}

/* The number of descriptors; 0: there is news already. */
static int begin_sleeps(struct auto_endpoint *endpoint)
{
	unsigned used = 1; /* the first is wake_fd */

	for (unsigned i = 0; i < AUTO_KINDS; i++) {
		struct auto_child *child = &endpoint->child[i];
		int count;

		if (!child->links)
			continue;
		count = child->endpoint->ops->begin_sleep(
			child->endpoint, endpoint->polls + used,
			endpoint->poll_capacity - used);
		child->asleep = count >= 0;
		if (count <= 0) {
			end_sleeps(endpoint);
			return count;
		}
		used += (unsigned)count;
	}
	return (int)used;
}

static int sleep_all(struct auto_endpoint *endpoint, int64_t deadline_ns,
		     int wake_fd)
{
	int count = begin_sleeps(endpoint);
	int status;

	if (count <= 0)
		return count;
	endpoint->polls[0] = (struct pollfd){.fd = wake_fd, .events = POLLIN};
	status = transport_sleep(endpoint->polls, (unsigned)count,
				 deadline_ns - clock_now_ns());
	end_sleeps(endpoint);
	return MIN(status, 0);
}

int auto_wait(struct transport_endpoint *base, int64_t deadline_ns, int wake_fd)
{
	struct auto_endpoint *endpoint = auto_of(base);
	int64_t begin_ns = clock_now_ns();
	struct transport_endpoint *only;
	unsigned active;
	int status;

	only = only_child(endpoint, &active);
	if (only)
		return transport_wait(only, deadline_ns, wake_fd);
	if (!active) {
		struct pollfd wake = {.fd = wake_fd, .events = POLLIN};

		status =
			transport_sleep(&wake, 1, deadline_ns - clock_now_ns());
		return MIN(status, 0);
	}
	status = spin(endpoint,
		      MIN(deadline_ns, begin_ns + endpoint->spin.budget_ns));
	/* Also when the deadline is past: wake_fd has not been looked at. */
	if (status == -ETIMEDOUT)
		status = sleep_all(endpoint, deadline_ns, wake_fd);
	transport_spin_learn(&endpoint->spin, clock_now_ns() - begin_ns);
	return status;
}
