#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "transport/inproc/inproc.h"

static void disagree(struct inproc_pair *pair, const struct inproc_lane *lane,
		     const struct transport_operation *send,
		     const struct transport_operation *receive)
{
	unsigned from = lane == &pair->lane[0] ? pair->low : pair->high;
	unsigned to = lane == &pair->lane[0] ? pair->high : pair->low;

	snprintf(pair->reason, sizeof(pair->reason),
		 "rank %u sent tag 0x%" PRIx64
		 " (%zu bytes), rank %u expected tag 0x%" PRIx64 " (%zu bytes)",
		 from, send->tag, send->bytes, to, receive->tag,
		 receive->bytes);
	atomic_store(&pair->status, -EPROTO);
	inproc_bell_ring(pair->side[0].bell);
	inproc_bell_ring(pair->side[1].bell);
}

static bool agree(const struct transport_operation *send,
		  const struct transport_operation *receive)
{
	return send->tag == receive->tag && send->bytes == receive->bytes;
}

bool inproc_pair_over(const struct inproc_pair *pair)
{
	return atomic_load(&pair->status) ||
	       atomic_load(&pair->side[0].closed) ||
	       atomic_load(&pair->side[1].closed);
}

static void copy(struct inproc_pair *pair, struct inproc_lane *lane,
		 const struct transport_operation *send,
		 const struct transport_operation *receive)
{
	if (!send->bytes || send->data == receive->data)
		return;
	lane->busy = true;
	pthread_mutex_unlock(&pair->lock);
	memcpy(receive->data, send->data, send->bytes);
	pthread_mutex_lock(&pair->lock);
	lane->busy = false;
}

void inproc_lane_match(struct inproc_pair *pair, struct inproc_lane *lane)
{
	const struct transport_operation *receive;
	const struct transport_operation *send;
	uint64_t done;

	/* The one who is copying goes on with what we have posted. */
	while (!lane->busy && !inproc_pair_over(pair)) {
		done = atomic_load(&lane->done);
		if (done == lane->send.tail || done == lane->receive.tail)
			return;
		send = transport_queue_at(&lane->send, done);
		receive = transport_queue_at(&lane->receive, done);
		if (!agree(send, receive)) {
			disagree(pair, lane, send, receive);
			return;
		}
		copy(pair, lane, send, receive);
		if (send->in_place)
			lane->placed--;
		atomic_store(&lane->done, done + 1);
		inproc_bell_ring(pair->side[0].bell);
		inproc_bell_ring(pair->side[1].bell);
	}
}

int inproc_link_fail(const struct inproc_endpoint *endpoint,
		     struct inproc_link *link)
{
	unsigned sends = transport_queue_pending(&inproc_lane_out(link)->send);
	unsigned receives =
		transport_queue_pending(&inproc_lane_in(link)->receive);
	int status = atomic_load(&link->pair->status);

	if (link->status)
		return link->status;
	if (status)
		link->status = fail(status,
				    "rank %u: the link with rank %u failed: %s",
				    endpoint->base.config.rank, link->peer,
				    link->pair->reason);
	else
		link->status = fail(
			-ECONNRESET,
			"rank %u: rank %u closed its end of the link (%u sends "
			"and %u receives pending here)",
			endpoint->base.config.rank, link->peer, sends,
			receives);
	return link->status;
}

bool inproc_link_poll(struct inproc_endpoint *endpoint,
		      struct inproc_link *link)
{
	struct inproc_lane *out = inproc_lane_out(link);
	struct inproc_lane *in = inproc_lane_in(link);
	bool over = inproc_pair_over(link->pair);

	/* In this order: when the pair is over, `done` is final. */
	out->send.done = atomic_load(&out->done);
	in->receive.done = atomic_load(&in->done);
	if (over && !link->cancelled && !link->status &&
	    (transport_queue_pending(&out->send) ||
	     transport_queue_pending(&in->receive)))
		inproc_link_fail(endpoint, link);
	return out->send.head != out->send.done ||
	       in->receive.head != in->receive.done ||
	       (link->status && !link->cancelled);
}

void inproc_lane_unplace(struct inproc_link *link)
{
	struct inproc_lane *out = inproc_lane_out(link);
	struct transport_operation *send;
	uint64_t i;

	for (i = atomic_load(&out->done); i < out->send.reserved; i++) {
		send = transport_queue_at(&out->send, i);
		if (!send->in_place)
			continue;
		send->in_place = false;
		out->placed--;
	}
	out->send.reserved = out->send.tail;
	inproc_bell_ring(link->pair->side[!link->side].bell);
}

void inproc_link_cancel(struct inproc_link *link)
{
	struct inproc_pair *pair = link->pair;

	pthread_mutex_lock(&pair->lock);
	link->cancelled = true;
	atomic_store(&pair->side[link->side].closed, true);
	inproc_lane_unplace(link);
	pthread_mutex_unlock(&pair->lock);
}

bool inproc_link_settled(struct inproc_link *link)
{
	struct inproc_lane *out = inproc_lane_out(link);
	struct inproc_lane *in = inproc_lane_in(link);
	bool settled;

	pthread_mutex_lock(&link->pair->lock);
	settled = !out->busy && !in->busy && !in->placed;
	if (settled) {
		out->send.done = atomic_load(&out->done);
		in->receive.done = atomic_load(&in->done);
		transport_queue_drop(&out->send);
		transport_queue_drop(&in->receive);
	}
	pthread_mutex_unlock(&link->pair->lock);
	return settled;
}
