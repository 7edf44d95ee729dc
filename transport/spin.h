/*
 * How long to spin before sleeping: long where the last waits were short,
 * hardly at all where they were long.
 */
#ifndef STAGECOACH_TRANSPORT_SPIN_H
#define STAGECOACH_TRANSPORT_SPIN_H

#include "base/compiler.h"

struct transport_spin {
	int64_t budget_ns;
	int64_t limit_ns; /* 0: never spin */
};

void transport_spin_init(struct transport_spin *spin, unsigned limit_ns,
			 bool off);
/* A wait took this long in all (spin and sleep). */
void transport_spin_learn(struct transport_spin *spin, int64_t waited_ns);

static inline void transport_spin_pause(void)
{
#if defined(__x86_64__) || defined(__i386__)
	__builtin_ia32_pause();
#endif
}

#endif
