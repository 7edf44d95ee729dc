#include "transport/queue.h"

#include <errno.h>
#include <stdlib.h>

#include "base/log.h"

int transport_queue_init(struct transport_queue *queue, unsigned capacity)
{
	struct transport_operation *entries;

	entries = calloc(capacity, sizeof(*entries));
	if (!entries)
		return fail(-ENOMEM, "transport: no memory for a queue of %u",
			    capacity);
	*queue = (struct transport_queue){
		.entries = entries,
		.capacity = capacity,
	};
	return 0;
}

void transport_queue_fini(struct transport_queue *queue)
{
	free(queue->entries);
	*queue = (struct transport_queue){0};
}

struct transport_operation *
transport_queue_acquired(const struct transport_queue *queue)
{
	if (queue->reserved == queue->tail)
		return NULL;
	return transport_queue_at(queue, queue->tail);
}

struct transport_operation *
transport_queue_reserve(struct transport_queue *queue, uint64_t tag,
			size_t bytes, void *where)
{
	struct transport_operation *operation;

	operation = transport_queue_at(queue, queue->reserved++);
	*operation = (struct transport_operation){
		.tag = tag,
		.bytes = bytes,
		.data = where,
	};
	return operation;
}

int transport_queue_acquire_own(struct transport_queue *queue, uint64_t tag,
				size_t bytes, void *own, void **where)
{
	if (transport_queue_full(queue))
		return -EAGAIN;
	transport_queue_reserve(queue, tag, bytes, own);
	*where = own;
	return 0;
}

int transport_queue_post(struct transport_queue *queue, uint64_t tag,
			 void *data, size_t bytes, void *cookie,
			 struct transport_operation **out)
{
	struct transport_operation *operation;

	operation = transport_queue_acquired(queue);
	if (!operation) {
		if (transport_queue_full(queue))
			return -EAGAIN;
		operation = transport_queue_reserve(queue, tag, bytes, data);
	}
	operation->data = data;
	operation->cookie = cookie;
	queue->tail++;
	*out = operation;
	return 0;
}

bool transport_queue_report(struct transport_queue *queue,
			    enum transport_event event, unsigned peer,
			    struct transport_completion *out)
{
	const struct transport_operation *operation;

	if (queue->head == queue->done)
		return false;
	operation = transport_queue_at(queue, queue->head++);
	*out = (struct transport_completion){
		.event = event,
		.peer = peer,
		.tag = operation->tag,
		.bytes = operation->bytes,
		.data = operation->data,
		.cookie = operation->cookie,
	};
	return true;
}

unsigned transport_queue_report_link(struct transport_queue *receive,
				     struct transport_queue *send,
				     unsigned peer,
				     struct transport_completion *out,
				     unsigned capacity)
{
	unsigned count = 0;

	while (count < capacity &&
	       transport_queue_report(receive, TRANSPORT_RECEIVED, peer,
				      &out[count]))
		count++;
	while (count < capacity &&
	       transport_queue_report(send, TRANSPORT_SENT, peer, &out[count]))
		count++;
	return count;
}

bool transport_queue_uses(const struct transport_queue *queue, const void *base,
			  size_t bytes)
{
	const struct transport_operation *operation;
	uintptr_t from = (uintptr_t)base;
	uintptr_t at;
	uint64_t i;

	for (i = queue->done; i < queue->reserved; i++) {
		operation = transport_queue_at(queue, i);
		at = (uintptr_t)operation->data;
		if (operation->bytes && !operation->in_place &&
		    at < from + bytes && from < at + operation->bytes)
			return true;
	}
	return false;
}

void transport_queue_drop(struct transport_queue *queue)
{
	queue->tail = queue->done;
	queue->reserved = queue->done;
}
