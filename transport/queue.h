/*
 * The operations of one direction of a link, oldest first.
 *
 *     head <= done <= tail <= reserved <= head + capacity
 *     [head, done)      finished, not yet reported
 *     [done, tail)      posted
 *     [tail, reserved)  acquired, not yet posted (sends only)
 *
 * Indexes count up from 0 over the life of the link, so that an index is also
 * the frame's sequence number.
 */
#ifndef STAGECOACH_TRANSPORT_QUEUE_H
#define STAGECOACH_TRANSPORT_QUEUE_H

#include "base/compiler.h"
#include "transport/transport.h"

struct transport_operation {
	uint64_t tag;
	size_t bytes;
	void *data;
	void *cookie;
	uint32_t crc;  /* of the payload, when the link has checksums */
	bool in_place; /* acquired in the receiver's own slot */
};

struct transport_queue {
	struct transport_operation *entries;
	unsigned capacity;
	uint64_t head, done, tail, reserved;
};

int transport_queue_init(struct transport_queue *queue,
			 unsigned capacity) MUST_CHECK;
void transport_queue_fini(struct transport_queue *queue);

static inline struct transport_operation *
transport_queue_at(const struct transport_queue *queue, uint64_t index)
{
	return &queue->entries[index % queue->capacity];
}

static inline unsigned
transport_queue_pending(const struct transport_queue *queue)
{
	return (unsigned)(queue->tail - queue->done);
}

static inline bool transport_queue_full(const struct transport_queue *queue)
{
	return queue->reserved - queue->head >= queue->capacity;
}

/* The next operation to be posted was acquired: where to, else NULL. */
struct transport_operation *
transport_queue_acquired(const struct transport_queue *queue);

/* Reserves the next place; the caller has looked for room. */
struct transport_operation *
transport_queue_reserve(struct transport_queue *queue, uint64_t tag,
			size_t bytes, void *where);

/*
 * transport_acquire_send() of a transport whose sender writes into its own
 * memory. -EAGAIN when full.
 */
int transport_queue_acquire_own(struct transport_queue *queue, uint64_t tag,
				size_t bytes, void *own,
				void **where) MUST_CHECK;

/*
 * Posts: completes the oldest acquired place (which the caller has found to
 * agree) or appends. -EAGAIN when full.
 */
int transport_queue_post(struct transport_queue *queue, uint64_t tag,
			 void *data, size_t bytes, void *cookie,
			 struct transport_operation **out) MUST_CHECK;

/* Moves the oldest finished operation to *out; false when there is none. */
bool transport_queue_report(struct transport_queue *queue,
			    enum transport_event event, unsigned peer,
			    struct transport_completion *out);

/* As many as there is room for of a link's: first what was received. */
unsigned transport_queue_report_link(struct transport_queue *receive,
				     struct transport_queue *send,
				     unsigned peer,
				     struct transport_completion *out,
				     unsigned capacity);

/* Does anything in [done, reserved) touch [base, base + bytes)? */
bool transport_queue_uses(const struct transport_queue *queue, const void *base,
			  size_t bytes);

/* Forgets everything that is posted or acquired. */
void transport_queue_drop(struct transport_queue *queue);

#endif
