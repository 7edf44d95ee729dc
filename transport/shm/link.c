/*
 * Messages of a link. Every word the peer writes is read once here, and
 * compared with what is possible before it is used.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "transport/shm/shm.h"

/* A stream moves by parts of the bounce area, so that both ends copy. */
#define PART_BYTES (SHM_BOUNCE_BYTES / 4)

static struct shm_side *our_side(const struct shm_link *link)
{
	return &link->ring.head->side[link->side];
}

static struct shm_side *peer_side(const struct shm_link *link)
{
	return &link->ring.head->side[!link->side];
}

static uint64_t load(const struct shm_counter *counter)
{
	return atomic_load(&counter->value);
}

static void store(struct shm_counter *counter, uint64_t value)
{
	atomic_store(&counter->value, value);
}

/* After something was put where the peer sees it. */
static void ring_bell(struct shm_link *link)
{
	struct shm_counter *sleeping = &peer_side(link)->sleeping;

	if (load(sleeping) && atomic_exchange(&sleeping->value, 0))
		shm_mail_bell(link);
}

/* The slots of the peer that we hold changed; it may wait for that to end. */
static void set_placed(struct shm_link *link, unsigned placed)
{
	link->placed = placed;
	store(&our_side(link)->placed, placed);
	if (!placed && load(&peer_side(link)->closed))
		ring_bell(link);
}

static bool is_over(const struct shm_link *link)
{
	return link->hung_up || load(&peer_side(link)->closed);
}

/* ---- failing ---- */

int shm_link_fail(struct shm_link *link, int status, const char *format, ...)
{
	char text[256];
	va_list arguments;

	if (link->status)
		return link->status;
	va_start(arguments, format);
	vsnprintf(text, sizeof(text), format, arguments);
	va_end(arguments);
	link->status = fail(status, "%s", text);
	if (link->ring.head) {
		store(&our_side(link)->closed, 1);
		ring_bell(link);
	}
	return link->status;
}

static int damaged(const struct shm_endpoint *endpoint, struct shm_link *link,
		   const char *what)
{
	return shm_link_fail(link, -EBADMSG,
			     "rank %u: the link with rank %u failed: damage in "
			     "the memory they share (%s)",
			     endpoint->base.config.rank, link->peer, what);
}

static int disagrees(const struct shm_endpoint *endpoint, struct shm_link *link,
		     bool outwards, uint64_t tag, uint64_t bytes,
		     uint64_t peer_tag, uint64_t peer_bytes)
{
	unsigned rank = endpoint->base.config.rank;

	return shm_link_fail(
		link, -EPROTO,
		"rank %u: the link with rank %u failed: rank %u %s tag "
		"0x%" PRIx64 " (%" PRIu64 " bytes), rank %u %s tag 0x%" PRIx64
		" (%" PRIu64 " bytes)",
		rank, link->peer, rank, outwards ? "sends" : "expects", tag,
		bytes, link->peer, outwards ? "expects" : "sent", peer_tag,
		peer_bytes);
}

static int is_gone(const struct shm_endpoint *endpoint, struct shm_link *link)
{
	return shm_link_fail(
		link, -ECONNRESET,
		"rank %u: rank %u %s (%u sends and %u receives pending here)",
		endpoint->base.config.rank, link->peer,
		load(&peer_side(link)->closed) ? "closed its end of the link"
					       : "died, or left the link",
		transport_queue_pending(&link->send),
		transport_queue_pending(&link->receive));
}

/* ---- entries ---- */

static void put(struct shm_link *link, struct shm_entry *ring, uint64_t index,
		const struct transport_operation *operation, uint64_t way)
{
	struct shm_entry *entry = &ring[index & (link->ring.slots - 1)];

	atomic_store_explicit(&entry->tag, operation->tag,
			      memory_order_relaxed);
	atomic_store_explicit(&entry->bytes, operation->bytes,
			      memory_order_relaxed);
	atomic_store_explicit(&entry->way, way, memory_order_relaxed);
	/* Before this nothing above counts; then look whether it sleeps. */
	atomic_store(&entry->sequence, index + 1);
	ring_bell(link);
}

/* 1: entry `index` is there; 0: not yet; -EBADMSG, silent. */
static int look(const struct shm_link *link, struct shm_entry *ring,
		uint64_t index, struct shm_entry **out)
{
	uint64_t slots = link->ring.slots;
	struct shm_entry *entry = &ring[index & (slots - 1)];
	uint64_t sequence = atomic_load(&entry->sequence);

	*out = entry;
	if (sequence == index + 1)
		return 1;
	/* What was there before: the last round's, or nothing. */
	return sequence == (index < slots ? 0 : index + 1 - slots) ? 0
								   : -EBADMSG;
}

static uint64_t word(const _Atomic uint64_t *from)
{
	return atomic_load_explicit(from, memory_order_relaxed);
}

/* ---- sending ---- */

/* Where the peer's offer leads: NULL: to nowhere we can write. */
static int offered_slot(const struct shm_endpoint *endpoint,
			struct shm_link *link, struct shm_entry *offer,
			uint64_t bytes, void **slot)
{
	uint64_t region = word(&offer->way);
	uint64_t offset = word(&offer->words[0]);
	uint64_t number = word(&offer->words[1]);
	struct shm_map *map;

	*slot = NULL;
	if (region == SHM_PRIVATE || !bytes)
		return 0;
	if (region >= TRANSPORT_REGIONS_MAX)
		return damaged(endpoint, link, "the region of an offer");
	map = &link->map[region];
	/* The region was sent before the offer: it may wait to be read. */
	if (!map->base || map->number != number)
		shm_mail_read(endpoint, link);
	if (link->status)
		return link->status;
	if (!map->base || map->number != number)
		return 0;
	if (offset > map->bytes || bytes > map->bytes - offset)
		return damaged(endpoint, link, "the place of an offer");
	*slot = map->base + offset;
	return 0;
}

static void notice(struct shm_link *link,
		   const struct transport_operation *operation,
		   enum shm_way way)
{
	put(link, link->ring.notices[link->side], link->send.done, operation,
	    way);
}

/* 1: the receive of message `index` is posted; 0: not yet; or the failure. */
static int find_offer(const struct shm_endpoint *endpoint,
		      struct shm_link *link, uint64_t index, uint64_t tag,
		      uint64_t bytes, void **slot)
{
	struct shm_entry *offer;
	uint64_t peer_tag, peer_bytes;
	int status;

	*slot = NULL;
	status = look(link, link->ring.offers[!link->side], index, &offer);
	if (status < 0)
		return damaged(endpoint, link, "the number of an offer");
	if (!status)
		return 0;
	peer_tag = word(&offer->tag);
	peer_bytes = word(&offer->bytes);
	if (peer_tag != tag || peer_bytes != bytes) {
		/* The peer shall be able to tell, too. */
		if (index < link->send.tail)
			notice(link, transport_queue_at(&link->send, index),
			       SHM_INLINE);
		return disagrees(endpoint, link, true, tag, bytes, peer_tag,
				 peer_bytes);
	}
	status = offered_slot(endpoint, link, offer, bytes, slot);
	return status ? status : 1;
}

/*
 * One more slot of the peer is ours to write into: false when it has closed,
 * and does not wait for us. It closes, and then looks at what we hold.
 */
static bool hold_slot(struct shm_link *link)
{
	set_placed(link, link->placed + 1);
	if (!load(&peer_side(link)->closed))
		return true;
	set_placed(link, link->placed - 1);
	return false;
}

static void notice_inline(struct shm_link *link,
			  const struct transport_operation *operation)
{
	struct shm_entry *entry =
		&link->ring.notices[link->side]
				   [link->send.done & (link->ring.slots - 1)];
	uint64_t words[SHM_INLINE_BYTES / 8] = {0};
	unsigned i;

	if (operation->bytes)
		memcpy(words, operation->data, operation->bytes);
	for (i = 0; i < ARRAY_SIZE(words); i++)
		atomic_store_explicit(&entry->words[i], words[i],
				      memory_order_relaxed);
	notice(link, operation, SHM_INLINE);
}

/* As much of the oldest send as the bounce area takes; true: all of it. */
static bool give(const struct shm_endpoint *endpoint, struct shm_link *link,
		 const struct transport_operation *operation)
{
	struct shm_bounce *bounce = &link->ring.head->bounce[link->side];
	const unsigned char *from = operation->data;
	size_t room, offset, part;
	uint64_t held;

	while (link->given < operation->bytes) {
		held = link->filled - load(&bounce->drained);
		if (held > SHM_BOUNCE_BYTES) {
			damaged(endpoint, link, "the bounce area's reader");
			return false;
		}
		room = SHM_BOUNCE_BYTES - held;
		offset = link->filled & (SHM_BOUNCE_BYTES - 1);
		part = MIN(MIN(room, PART_BYTES), SHM_BOUNCE_BYTES - offset);
		part = MIN(part, operation->bytes - link->given);
		if (!part)
			return false;
		memcpy(link->ring.bytes[link->side] + offset,
		       from + link->given, part);
		link->given += part;
		link->filled += part;
		store(&bounce->filled, link->filled);
		ring_bell(link);
	}
	return true;
}

/* True: the oldest send is done. */
static bool send_oldest(const struct shm_endpoint *endpoint,
			struct shm_link *link,
			const struct transport_operation *operation)
{
	void *slot;
	int status;

	if (link->giving)
		return give(endpoint, link, operation);
	if (operation->in_place) {
		notice(link, operation, SHM_IN_SLOT);
		set_placed(link, link->placed - 1);
		return true;
	}
	status = find_offer(endpoint, link, link->send.done, operation->tag,
			    operation->bytes, &slot);
	if (status <= 0)
		return false;
	if (operation->bytes <= SHM_INLINE_BYTES) {
		notice_inline(link, operation);
		return true;
	}
	if (slot) {
		if (!hold_slot(link))
			return false;
		memcpy(slot, operation->data, operation->bytes);
		notice(link, operation, SHM_IN_SLOT);
		set_placed(link, link->placed - 1);
		return true;
	}
	notice(link, operation, SHM_BOUNCE);
	link->giving = true;
	link->given = 0;
	return give(endpoint, link, operation);
}

void shm_link_push(const struct shm_endpoint *endpoint, struct shm_link *link)
{
	const struct transport_operation *operation;

	while (shm_link_live(link) && link->send.done < link->send.tail) {
		operation = transport_queue_at(&link->send, link->send.done);
		if (!send_oldest(endpoint, link, operation))
			return;
		link->giving = false;
		link->messages_sent++;
		link->bytes_sent += operation->bytes;
		link->send.done++;
	}
}

int shm_link_acquire(const struct shm_endpoint *endpoint, struct shm_link *link,
		     uint64_t tag, size_t bytes, void *own, void **where)
{
	struct transport_operation *operation;
	void *slot;
	int status;

	status = find_offer(endpoint, link, link->send.reserved, tag, bytes,
			    &slot);
	if (status < 0)
		return status;
	if (slot && !hold_slot(link))
		slot = NULL;
	operation = transport_queue_reserve(&link->send, tag, bytes,
					    slot ? slot : own);
	operation->in_place = slot != NULL;
	*where = operation->data;
	return 0;
}

void shm_link_release(struct shm_link *link)
{
	struct transport_operation *operation;

	operation = transport_queue_at(&link->send, --link->send.reserved);
	if (!operation->in_place)
		return;
	operation->in_place = false;
	set_placed(link, link->placed - 1);
}

bool shm_link_uses_map(const struct shm_link *link, const struct shm_map *map)
{
	const struct transport_operation *operation;
	uint64_t i;

	for (i = link->send.done; i < link->send.reserved; i++) {
		operation = transport_queue_at(&link->send, i);
		if (operation->in_place &&
		    (uintptr_t)operation->data - (uintptr_t)map->base <
			    map->bytes)
			return true;
	}
	return false;
}

/* ---- receiving ---- */

static void offer_one(const struct shm_endpoint *endpoint,
		      struct shm_link *link)
{
	uint64_t index = link->offered++;
	const struct transport_operation *operation =
		transport_queue_at(&link->receive, index);
	uint64_t at = index & (link->ring.slots - 1);
	struct shm_entry *entry = &link->ring.offers[link->side][at];
	const struct transport_region *region = NULL;
	uint64_t way = SHM_PRIVATE;

	if (operation->bytes)
		region = transport_region_find(&endpoint->base, operation->data,
					       operation->bytes);
	link->shared[at] = region && link->told[region->slot] == SHM_TOLD;
	if (link->shared[at]) {
		way = region->slot;
		atomic_store_explicit(&entry->words[1],
				      endpoint->number[region->slot],
				      memory_order_relaxed);
		atomic_store_explicit(&entry->words[0],
				      (uintptr_t)operation->data -
					      (uintptr_t)region->base,
				      memory_order_relaxed);
	}
	put(link, link->ring.offers[link->side], index, operation, way);
}

void shm_link_offer(const struct shm_endpoint *endpoint, struct shm_link *link)
{
	while (link->offered < link->receive.tail &&
	       link->offered - link->receive.done < link->ring.slots)
		offer_one(endpoint, link);
}

static bool take_inline(const struct shm_endpoint *endpoint,
			struct shm_link *link, const struct shm_entry *entry,
			const struct transport_operation *operation)
{
	uint64_t words[SHM_INLINE_BYTES / 8];
	unsigned i;

	if (operation->bytes > sizeof(words)) {
		damaged(endpoint, link, "the length of a small message");
		return false;
	}
	for (i = 0; i < ARRAY_SIZE(words); i++)
		words[i] = word(&entry->words[i]);
	if (operation->bytes)
		memcpy(operation->data, words, operation->bytes);
	return true;
}

/* As much of the oldest receive as has come; true: all of it. */
static bool take(const struct shm_endpoint *endpoint, struct shm_link *link,
		 const struct transport_operation *operation)
{
	struct shm_bounce *bounce = &link->ring.head->bounce[!link->side];
	unsigned char *to = operation->data;
	size_t offset, part;
	uint64_t held;

	while (link->taken < operation->bytes) {
		held = load(&bounce->filled) - link->drained;
		if (held > SHM_BOUNCE_BYTES) {
			damaged(endpoint, link, "the bounce area's writer");
			return false;
		}
		offset = link->drained & (SHM_BOUNCE_BYTES - 1);
		part = MIN(MIN(held, PART_BYTES), SHM_BOUNCE_BYTES - offset);
		part = MIN(part, operation->bytes - link->taken);
		if (!part)
			return false;
		memcpy(to + link->taken, link->ring.bytes[!link->side] + offset,
		       part);
		link->taken += part;
		link->drained += part;
		store(&bounce->drained, link->drained);
		ring_bell(link);
	}
	return true;
}

/* True: the oldest receive is done. */
static bool receive_oldest(const struct shm_endpoint *endpoint,
			   struct shm_link *link,
			   const struct transport_operation *operation)
{
	uint64_t index = link->receive.done;
	uint64_t tag, bytes, way;
	struct shm_entry *entry;
	int status;

	if (link->taking)
		return take(endpoint, link, operation);
	status = look(link, link->ring.notices[!link->side], index, &entry);
	if (status < 0)
		damaged(endpoint, link, "the number of a message");
	if (status <= 0)
		return false;
	tag = word(&entry->tag);
	bytes = word(&entry->bytes);
	way = word(&entry->way);
	if (tag != operation->tag || bytes != operation->bytes) {
		disagrees(endpoint, link, false, operation->tag,
			  operation->bytes, tag, bytes);
		return false;
	}
	if (way == SHM_IN_SLOT && link->shared[index & (link->ring.slots - 1)])
		return true;
	if (way == SHM_INLINE)
		return take_inline(endpoint, link, entry, operation);
	if (way != SHM_BOUNCE) {
		damaged(endpoint, link, "the way of a message");
		return false;
	}
	link->taking = true;
	link->taken = 0;
	return take(endpoint, link, operation);
}

static void pull(const struct shm_endpoint *endpoint, struct shm_link *link)
{
	const struct transport_operation *operation;

	while (shm_link_live(link) && link->receive.done < link->offered) {
		operation =
			transport_queue_at(&link->receive, link->receive.done);
		if (!receive_oldest(endpoint, link, operation))
			break;
		link->taking = false;
		link->messages_received++;
		link->bytes_received += operation->bytes;
		link->receive.done++;
	}
	if (shm_link_live(link))
		shm_link_offer(endpoint, link);
}

/* ---- both ---- */

bool shm_link_poll(const struct shm_endpoint *endpoint, struct shm_link *link)
{
	bool over;

	if (shm_link_live(link) && link->ring.head) {
		/* In this order: what it sent before it closed is all there. */
		over = is_over(link);
		pull(endpoint, link);
		shm_link_push(endpoint, link);
		if (over && shm_link_live(link) &&
		    (transport_queue_pending(&link->send) ||
		     transport_queue_pending(&link->receive)))
			is_gone(endpoint, link);
	}
	return link->send.head != link->send.done ||
	       link->receive.head != link->receive.done ||
	       (link->status && !link->cancelled);
}

bool shm_links_poll(struct shm_endpoint *endpoint)
{
	bool news = false;
	unsigned i;

	for (i = 0; i < endpoint->link_count; i++)
		news |= shm_link_poll(endpoint, endpoint->links[i]);
	return news;
}

/* Nothing that was acquired will be sent. */
static void unplace(struct shm_link *link)
{
	while (link->send.reserved > link->send.tail)
		shm_link_release(link);
	/* And of those that were posted, none is looked at any more. */
	if (link->placed)
		set_placed(link, 0);
}

int shm_link_usable(const struct shm_endpoint *endpoint, struct shm_link *link)
{
	if (link->cancelled)
		return -ECANCELED;
	if (!link->status && is_over(link)) {
		shm_link_poll(endpoint, link);
		is_gone(endpoint, link);
	}
	if (link->status)
		unplace(link);
	return link->status;
}

void shm_link_cancel(struct shm_link *link)
{
	if (link->cancelled)
		return;
	link->cancelled = true;
	if (!link->ring.head)
		return;
	store(&our_side(link)->closed, 1);
	unplace(link);
	/* Whether it sleeps or not: its next look shall find that we closed. */
	shm_mail_bell(link);
}

bool shm_link_settle(struct shm_link *link)
{
	if (!link->settled && link->ring.head && !link->hung_up &&
	    load(&peer_side(link)->placed))
		return false;
	link->settled = true;
	transport_queue_drop(&link->send);
	transport_queue_drop(&link->receive);
	return true;
}
