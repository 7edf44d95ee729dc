/*
 * A yardstick: sends and receives whole messages, blocking. What it does in a
 * test follows from that.
 */
#ifndef STAGECOACH_TOOLS_BENCH_RAW_H
#define STAGECOACH_TOOLS_BENCH_RAW_H

#include "tools/bench/bench.h"

struct bench_raw {
	struct bench_half half;
	unsigned char *out; /* bench_slots() slots */
	unsigned char *in;
	unsigned sent, received; /* messages so far */
	int (*send)(struct bench_raw *raw, const void *data, size_t bytes);
	/*
	 * The message is in `in`, or where *where says (shared memory, until
	 * the next receive).
	 */
	int (*receive)(struct bench_raw *raw, void *data, size_t bytes,
		       const void **where);
};

int bench_raw_init(struct bench_raw *raw);
void bench_raw_fini(struct bench_raw *raw);
int bench_raw_play(struct bench_half *half, unsigned count, double *samples);

#endif
