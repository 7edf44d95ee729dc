/*
 * Waiting: how long to spin before sleeping (long where the last waits were
 * short, hardly at all where they were long), and the sleep itself.
 */
#ifndef STAGECOACH_TRANSPORT_SPIN_H
#define STAGECOACH_TRANSPORT_SPIN_H

#include <poll.h>

#include "base/compiler.h"

struct transport_spin {
	int64_t budget_ns;
	int64_t limit_ns; /* 0: never spin */
};

void transport_spin_init(struct transport_spin *spin, unsigned limit_ns,
			 bool off);
/* A wait took this long in all (spin and sleep). */
void transport_spin_learn(struct transport_spin *spin, int64_t waited_ns);

/*
 * ppoll() for at most so long (0 or less: only a look). How many are ready; 0
 * when a signal came; -ETIMEDOUT; what else went wrong (silent).
 */
int transport_sleep(struct pollfd *fds, unsigned count,
		    int64_t timeout_ns) MUST_CHECK;

static inline void transport_spin_pause(void)
{
#if defined(__x86_64__) || defined(__i386__)
	__builtin_ia32_pause();
#endif
}

#endif
