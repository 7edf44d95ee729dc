#include "transport/spin.h"

#include <errno.h>
#include <time.h>

#include "base/clock.h"

#define DEFAULT_LIMIT_NS (50 * NS_PER_US)
#define FLOOR_NS         (2 * NS_PER_US)

void transport_spin_init(struct transport_spin *spin, unsigned limit_ns,
			 bool off)
{
	spin->limit_ns = off ? 0 : limit_ns ? limit_ns : DEFAULT_LIMIT_NS;
	spin->budget_ns = spin->limit_ns;
}

void transport_spin_learn(struct transport_spin *spin, int64_t waited_ns)
{
	if (!spin->limit_ns)
		return;
	if (waited_ns <= spin->limit_ns)
		spin->budget_ns =
			MIN(spin->limit_ns, MAX(spin->budget_ns, FLOOR_NS) * 2);
	else
		spin->budget_ns = MAX(FLOOR_NS, spin->budget_ns / 2);
}

int transport_sleep(struct pollfd *fds, unsigned count, int64_t timeout_ns)
{
	struct timespec timeout = {
		.tv_sec = MAX(timeout_ns, 0) / NS_PER_SECOND,
		.tv_nsec = MAX(timeout_ns, 0) % NS_PER_SECOND,
	};
	int ready = ppoll(fds, count, &timeout, NULL);

	if (ready < 0)
		return errno == EINTR ? 0 : -errno;
	return ready ? ready : -ETIMEDOUT;
}
