#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "transport/inproc/inproc.h"

int inproc_bell_init(struct inproc_bell *bell)
{
	int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);

	if (fd < 0)
		return fail(-errno, "inproc: eventfd: %s", strerror(errno));
	bell->fd = fd;
	atomic_init(&bell->rings, 0);
	atomic_init(&bell->sleeping, false);
	return 0;
}

void inproc_bell_fini(struct inproc_bell *bell)
{
	close(bell->fd);
}

void inproc_bell_ring(struct inproc_bell *bell)
{
	uint64_t one = 1;
	ssize_t written;

	if (!bell)
		return;
	atomic_fetch_add(&bell->rings, 1);
	if (!atomic_exchange(&bell->sleeping, false))
		return;
	/* Fails only when the counter is full, and then it is readable. */
	written = write(bell->fd, &one, sizeof(one));
	(void)written;
}

static int sleep_on(struct inproc_bell *bell, int64_t deadline_ns, int wake_fd,
		    bool *woken)
{
	struct pollfd fds[2] = {
		{.fd = bell->fd, .events = POLLIN},
		{.fd = wake_fd, .events = POLLIN},
	};
	uint64_t count;
	ssize_t got;
	int ready;

	ready = transport_sleep(fds, 2, deadline_ns - clock_now_ns());
	if (fds[0].revents) {
		got = read(bell->fd, &count, sizeof(count));
		(void)got;
	}
	*woken = fds[1].revents != 0;
	return MIN(ready, 0);
}

int inproc_bell_wait(struct inproc_bell *bell, uint64_t seen,
		     int64_t deadline_ns, int wake_fd, bool *woken)
{
	int status = 0;

	*woken = false;
	atomic_store(&bell->sleeping, true);
	if (atomic_load(&bell->rings) == seen)
		status = sleep_on(bell, deadline_ns, wake_fd, woken);
	atomic_store(&bell->sleeping, false);
	return status;
}
