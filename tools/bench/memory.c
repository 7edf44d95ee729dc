/*
 * Plain shared memory, as one would write it first: the sender copies into a
 * slot that both see and sets a flag; the receiver reads it there. At 8 bytes
 * that is what a cache line costs between two cores, at many what memcpy
 * costs.
 */
#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "tools/bench/raw.h"
#include "transport/spin.h"

#define PATIENCE_SECONDS 10

/* One direction; a line each, so that the sides do not tread on each other. */
struct way {
	_Alignas(128) _Atomic uint32_t sent;
	_Alignas(128) _Atomic uint32_t taken;
};

struct shared {
	struct way ways[2]; /* by the sender's rank */
	_Alignas(4096) unsigned char slots[];
};

struct memory_half {
	struct bench_raw raw;
	struct shared *shared;
	bool sleeps;
	uint32_t sent, taken; /* our count of both ways */
	bool holds;           /* the message taken last is still being read */
};

unsigned bench_slots(uint64_t bytes)
{
	return bytes > (16 << 20) ? 2 : BENCH_SLOTS;
}

static size_t slot_bytes(uint64_t bytes)
{
	return ((size_t)bytes + 4095) / 4096 * 4096;
}

size_t bench_memory_bytes(uint64_t bytes)
{
	return sizeof(struct shared) +
	       2 * bench_slots(bytes) * slot_bytes(bytes);
}

static unsigned char *slot(const struct memory_half *half, unsigned from,
			   uint32_t number)
{
	uint64_t bytes = half->raw.half.side->cell->bytes;
	unsigned slots = bench_slots(bytes);

	return half->shared->slots +
	       (from * slots + number % slots) * slot_bytes(bytes);
}

static long futex(_Atomic uint32_t *word, int what, uint32_t value)
{
	struct timespec patience = {.tv_sec = 1};

	return syscall(SYS_futex, word, what, value, &patience, NULL, 0);
}

/* Until *word is no longer `old`. */
static int await(const struct memory_half *half, _Atomic uint32_t *word,
		 uint32_t old)
{
	int64_t until_ns = clock_now_ns() + PATIENCE_SECONDS * NS_PER_SECOND;
	unsigned spins = 0;

	while (atomic_load_explicit(word, memory_order_acquire) == old) {
		if (half->sleeps)
			futex(word, FUTEX_WAIT, old);
		else
			transport_spin_pause();
		if ((half->sleeps || ++spins % 4096 == 0) &&
		    clock_now_ns() > until_ns)
			return fail(-ETIMEDOUT,
				    "bench: the other side is silent");
	}
	return 0;
}

static void set(const struct memory_half *half, _Atomic uint32_t *word,
		uint32_t value)
{
	atomic_store_explicit(word, value, memory_order_release);
	if (half->sleeps)
		futex(word, FUTEX_WAKE, INT_MAX);
}

static int memory_send(struct bench_raw *raw, const void *data, size_t bytes)
{
	struct memory_half *half = (struct memory_half *)raw;
	unsigned rank = raw->half.side->rank;
	struct way *way = &half->shared->ways[rank];
	unsigned slots = bench_slots(raw->half.side->cell->bytes);
	uint32_t taken =
		atomic_load_explicit(&way->taken, memory_order_acquire);
	int status;

	while (half->sent - taken >= slots) {
		status = await(half, &way->taken, taken);
		if (status)
			return status;
		taken = atomic_load_explicit(&way->taken, memory_order_acquire);
	}
	memcpy(slot(half, rank, half->sent), data, bytes);
	set(half, &way->sent, ++half->sent);
	return 0;
}

static int memory_receive(struct bench_raw *raw, void *data, size_t bytes,
			  const void **where)
{
	struct memory_half *half = (struct memory_half *)raw;
	unsigned from = !raw->half.side->rank;
	struct way *way = &half->shared->ways[from];
	int status;

	(void)data;
	(void)bytes;
	if (half->holds)
		set(half, &way->taken, ++half->taken);
	half->holds = false;
	status = await(half, &way->sent, half->taken);
	if (status)
		return status;
	*where = slot(half, from, half->taken);
	half->holds = true;
	return 0;
}

static void memory_close(struct bench_half *base)
{
	struct memory_half *half = (struct memory_half *)base;

	if (!half)
		return;
	bench_raw_fini(&half->raw);
	free(half);
}

static int memory_open(const struct bench_side *side,
		       const struct bench_player *player,
		       struct bench_half **out)
{
	struct memory_half *half = calloc(1, sizeof(*half));
	int status;

	if (!half)
		return fail(-ENOMEM, "bench: no memory");
	half->shared = side->shared;
	half->sleeps = side->cell->waiting == BENCH_SLEEPING;
	half->raw = (struct bench_raw){
		.half = {&bench_memory_ops, side, player},
		.send = memory_send,
		.receive = memory_receive,
	};
	status = bench_raw_init(&half->raw);
	if (status) {
		memory_close(&half->raw.half);
		return status;
	}
	*out = &half->raw.half;
	return 0;
}

const struct bench_half_ops bench_memory_ops = {
	.open = memory_open,
	.play = bench_raw_play,
	.close = memory_close,
};
