/* Spins over the rings, then sleeps on the sockets. */
#include <errno.h>

#include "base/clock.h"
#include "base/log.h"
#include "transport/shm/shm.h"

#define LOOKS_PER_CLOCK 16

static struct shm_endpoint *shm(struct transport_endpoint *base)
{
	return (struct shm_endpoint *)base;
}

static void set_sleeping(struct shm_endpoint *endpoint, uint64_t sleeping)
{
	struct shm_link *link;
	unsigned i;

	for (i = 0; i < endpoint->link_count; i++) {
		link = endpoint->links[i];
		if (link->ring.head)
			atomic_store(&link->ring.head->side[link->side]
					      .sleeping.value,
				     sleeping);
	}
}

/*
 * A peer that hangs up wakes as much as its bell; one that has is not listened
 * to any more, since it would wake for ever.
 */
static bool is_heard(const struct shm_link *link)
{
	return shm_link_live(link) && !link->hung_up;
}

static int collect(const struct shm_endpoint *endpoint, struct pollfd *polls,
		   unsigned capacity)
{
	const struct shm_link *link;
	unsigned count = 0;
	unsigned i;

	for (i = 0; i < endpoint->link_count; i++) {
		link = endpoint->links[i];
		if (!is_heard(link))
			continue;
		if (count == capacity)
			return fail(-ENOSPC,
				    "shm: no room to poll for %u links",
				    endpoint->link_count);
		polls[count++] =
			(struct pollfd){.fd = link->fd, .events = POLLIN};
	}
	return (int)count;
}

/* From here on peers ring, so that what they did before has to be looked at. */
static bool fall_asleep(struct shm_endpoint *endpoint)
{
	set_sleeping(endpoint, 1);
	return !shm_links_poll(endpoint);
}

/* What poll has found, in the order of collect(). */
static void hear(struct shm_endpoint *endpoint, const struct pollfd *polls)
{
	struct shm_link *link;
	unsigned i;

	for (i = 0; i < endpoint->link_count; i++) {
		link = endpoint->links[i];
		if (is_heard(link) && polls++->revents)
			shm_mail_read_one(endpoint, link);
	}
}

static int sleep_on(struct shm_endpoint *endpoint, int64_t deadline_ns,
		    int wake_fd, bool *woken)
{
	struct pollfd *polls = endpoint->polls;
	int count = collect(endpoint, polls + 1, endpoint->base.config.size);
	int ready;

	if (count < 0)
		return count;
	polls[0] = (struct pollfd){.fd = wake_fd, .events = POLLIN};
	ready = transport_sleep(polls, (unsigned)count + 1,
				deadline_ns - clock_now_ns());
	if (ready <= 0)
		return ready;
	*woken = polls[0].revents != 0;
	hear(endpoint, polls + 1);
	return 0;
}

static bool spin(struct shm_endpoint *endpoint, int64_t until_ns)
{
	unsigned i;

	do {
		for (i = 0; i < LOOKS_PER_CLOCK; i++) {
			if (shm_links_poll(endpoint))
				return true;
			transport_spin_pause();
		}
	} while (clock_now_ns() < until_ns);
	return false;
}

/* A poll, for whoever calls it again and again. */
static int look(struct shm_endpoint *endpoint)
{
	shm_mail_look_sometimes(endpoint);
	return shm_links_poll(endpoint) ? 0 : -ETIMEDOUT;
}

int shm_wait(struct transport_endpoint *base, int64_t deadline_ns, int wake_fd)
{
	struct shm_endpoint *endpoint = shm(base);
	bool woken = false;
	int64_t start_ns;
	int status = 0;

	if (shm_links_poll(endpoint))
		return 0;
	start_ns = clock_now_ns();
	if (deadline_ns <= start_ns && wake_fd < 0)
		return look(endpoint);
	if (endpoint->spin.budget_ns &&
	    spin(endpoint,
		 MIN(deadline_ns, start_ns + endpoint->spin.budget_ns))) {
		transport_spin_learn(&endpoint->spin,
				     clock_now_ns() - start_ns);
		return 0;
	}
	/* A bell may ring for what has been seen already: then on with it. */
	while (!status && !woken) {
		if (!fall_asleep(endpoint))
			break;
		status = sleep_on(endpoint, deadline_ns, wake_fd, &woken);
	}
	set_sleeping(endpoint, 0);
	/* A timeout looks once more before it is believed. */
	if (status == -ETIMEDOUT && shm_links_poll(endpoint))
		status = 0;
	if (status && status != -ETIMEDOUT)
		fail(status, "shm: rank %u: waiting failed", base->config.rank);
	transport_spin_learn(&endpoint->spin, clock_now_ns() - start_ns);
	return status;
}

int shm_begin_sleep(struct transport_endpoint *base, struct pollfd *fds,
		    unsigned capacity)
{
	struct shm_endpoint *endpoint = shm(base);

	/* So that what was said before does not wake. */
	shm_mail_look(endpoint);
	return fall_asleep(endpoint) ? collect(endpoint, fds, capacity) : 0;
}

void shm_end_sleep(struct transport_endpoint *base)
{
	set_sleeping(shm(base), 0);
	/* What has woken it is to be read. */
	shm(base)->next_look_ns = 0;
}
