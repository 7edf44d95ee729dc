#include "tools/bench/raw.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"

int bench_raw_init(struct bench_raw *raw)
{
	size_t bytes = (size_t)raw->half.side->cell->bytes *
		       bench_slots(raw->half.side->cell->bytes);

	raw->out = malloc(bytes);
	raw->in = malloc(bytes);
	if (!raw->out || !raw->in) {
		bench_raw_fini(raw);
		return fail(-ENOMEM, "bench: no memory for %zu bytes", bytes);
	}
	memset(raw->out, 1, bytes);
	memset(raw->in, 2, bytes);
	return 0;
}

void bench_raw_fini(struct bench_raw *raw)
{
	free(raw->out);
	free(raw->in);
	raw->out = NULL;
	raw->in = NULL;
}

static int send_next(struct bench_raw *raw, bool produce)
{
	size_t bytes = (size_t)raw->half.side->cell->bytes;
	unsigned slot = raw->sent++ % bench_slots(bytes);

	if (produce)
		bench_produce(raw->out + slot * bytes, bytes, raw->sent);
	return raw->send(raw, raw->out + slot * bytes, bytes);
}

static int receive_next(struct bench_raw *raw, bool consume)
{
	size_t bytes = (size_t)raw->half.side->cell->bytes;
	unsigned slot = raw->received++ % bench_slots(bytes);
	const void *where = raw->in + slot * bytes;
	int status;

	status = raw->receive(raw, raw->in + slot * bytes, bytes, &where);
	if (!status && consume)
		bench_consume(where, bytes);
	return status;
}

static int ping_pong(struct bench_raw *raw, unsigned count, double *samples)
{
	int64_t start;
	int status = 0;
	unsigned i;

	for (i = 0; i < count && !status; i++) {
		if (raw->half.side->rank) {
			status = receive_next(raw, false);
			if (!status)
				status = send_next(raw, false);
			continue;
		}
		start = clock_now_ns();
		status = send_next(raw, false);
		if (!status)
			status = receive_next(raw, false);
		samples[i] = (double)(clock_now_ns() - start) / 2;
	}
	return status;
}

/* An answer at the end: the last message has arrived. */
static int stream(struct bench_raw *raw, unsigned count, bool produce)
{
	const void *where;
	unsigned char byte = 0;
	int status = 0;
	unsigned i;

	for (i = 0; i < count && !status; i++)
		status = raw->half.side->rank ? receive_next(raw, produce)
					      : send_next(raw, produce);
	if (status)
		return status;
	return raw->half.side->rank ? raw->send(raw, &byte, 1)
				    : raw->receive(raw, &byte, 1, &where);
}

int bench_raw_play(struct bench_half *half, unsigned count, double *samples)
{
	struct bench_raw *raw = (struct bench_raw *)half;

	if (half->side->cell->test == BENCH_LATENCY)
		return ping_pong(raw, count, samples);
	return stream(raw, count, half->side->cell->test == BENCH_PRODUCE);
}
