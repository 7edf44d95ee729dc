/* Where the ranks of one process meet, and their handshake. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "base/log.h"
#include "transport/inproc/inproc.h"

#define WOKEN_NS (20 * NS_PER_MS)

struct transport_hub {
	pthread_mutex_t lock;
	pthread_cond_t arrival;
	unsigned size;
	bool *present;              /* by rank: listens */
	struct inproc_pair **pairs; /* the newest of [low * size + high] */
};

struct transport_hub *transport_hub_create(unsigned size)
{
	struct transport_hub *hub;
	pthread_condattr_t attributes;

	if (!size || size > TRANSPORT_RANKS_MAX) {
		log_error("inproc: a hub for %u ranks", size);
		return NULL;
	}
	hub = calloc(1, sizeof(*hub));
	if (!hub)
		goto err_log;
	hub->size = size;
	hub->present = calloc(size, sizeof(*hub->present));
	hub->pairs = calloc((size_t)size * size, sizeof(struct inproc_pair *));
	if (!hub->present || !hub->pairs)
		goto err_free;
	pthread_mutex_init(&hub->lock, NULL);
	pthread_condattr_init(&attributes);
	pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
	pthread_cond_init(&hub->arrival, &attributes);
	pthread_condattr_destroy(&attributes);
	return hub;

err_free:
	free(hub->pairs);
	free(hub->present);
	free(hub);
err_log:
	log_error("inproc: no memory for a hub of %u ranks", size);
	return NULL;
}

void transport_hub_destroy(struct transport_hub *hub)
{
	unsigned i;

	if (!hub)
		return;
	for (i = 0; i < hub->size; i++)
		ASSERT(!hub->present[i]); /* close the endpoints first */
	pthread_cond_destroy(&hub->arrival);
	pthread_mutex_destroy(&hub->lock);
	free(hub->pairs);
	free(hub->present);
	free(hub);
}

unsigned inproc_hub_size(const struct transport_hub *hub)
{
	return hub->size;
}

int inproc_hub_enter(struct transport_hub *hub, unsigned rank)
{
	bool taken;

	pthread_mutex_lock(&hub->lock);
	taken = hub->present[rank];
	hub->present[rank] = true;
	pthread_mutex_unlock(&hub->lock);
	if (taken)
		return fail(-EADDRINUSE,
			    "inproc: another endpoint of this hub is rank %u",
			    rank);
	return 0;
}

void inproc_hub_leave(struct transport_hub *hub, unsigned rank)
{
	pthread_mutex_lock(&hub->lock);
	hub->present[rank] = false;
	pthread_mutex_unlock(&hub->lock);
}

static struct inproc_pair **pair_place(struct transport_hub *hub, unsigned low,
				       unsigned high)
{
	return &hub->pairs[(size_t)low * hub->size + high];
}

static void pair_free(struct inproc_pair *pair)
{
	unsigned i;

	for (i = 0; i < 2; i++) {
		transport_queue_fini(&pair->lane[i].send);
		transport_queue_fini(&pair->lane[i].receive);
	}
	pthread_mutex_destroy(&pair->lock);
	free(pair);
}

void inproc_hub_part(struct inproc_link *link)
{
	struct inproc_pair *pair = link->pair;
	struct transport_hub *hub = pair->hub;
	struct inproc_pair **place = pair_place(hub, pair->low, pair->high);
	bool last;

	pthread_mutex_lock(&pair->lock);
	pair->side[link->side].bell = NULL;
	pthread_mutex_unlock(&pair->lock);
	pthread_mutex_lock(&hub->lock);
	pair->side[link->side].left = true;
	last = --pair->references == 0;
	if (last && *place == pair)
		*place = NULL;
	pthread_mutex_unlock(&hub->lock);
	link->pair = NULL;
	if (last)
		pair_free(pair);
}

/* Under hub->lock: the pair that waits for this side, or a new one. */
static struct inproc_pair *pair_find(struct transport_hub *hub, unsigned rank,
				     unsigned peer)
{
	unsigned low = MIN(rank, peer);
	unsigned high = MAX(rank, peer);
	unsigned side = rank == high;
	struct inproc_pair **place = pair_place(hub, low, high);
	struct inproc_pair *pair = *place;
	bool gone;

	if (pair) {
		/*
		 * One that gave up waiting leaves its hello behind for nobody;
		 * one of an earlier epoch may still be held by the peer.
		 */
		gone = pair->side[!side].left && !pair->side[side].arrived;
		if (!pair->side[side].arrived && !gone)
			return pair;
	}
	pair = calloc(1, sizeof(*pair));
	if (!pair)
		return NULL;
	pthread_mutex_init(&pair->lock, NULL);
	pair->hub = hub;
	pair->low = low;
	pair->high = high;
	*place = pair;
	return pair;
}

static int arrive(struct inproc_endpoint *endpoint, unsigned peer)
{
	const struct transport_config *config = &endpoint->base.config;
	struct inproc_link *link = &endpoint->links[peer];
	unsigned side = config->rank > peer;
	struct transport_queue send;
	struct transport_queue receive;
	struct inproc_pair *pair;
	int status;

	status = transport_queue_init(&send, config->depth);
	if (status)
		return status;
	status = transport_queue_init(&receive, config->depth);
	if (status)
		goto err_free_send;
	pthread_mutex_lock(&endpoint->hub->lock);
	pair = pair_find(endpoint->hub, config->rank, peer);
	if (!pair) {
		pthread_mutex_unlock(&endpoint->hub->lock);
		status = fail(-ENOMEM, "inproc: no memory for a link");
		goto err_free_receive;
	}
	pair->references++;
	pthread_mutex_lock(&pair->lock);
	pair->lane[side].send = send;
	pair->lane[!side].receive = receive;
	pair->side[side].config = *config;
	pair->side[side].bell = &endpoint->bell;
	pair->side[side].arrived = true;
	pthread_mutex_unlock(&pair->lock);
	pthread_cond_broadcast(&endpoint->hub->arrival);
	pthread_mutex_unlock(&endpoint->hub->lock);
	*link = (struct inproc_link){
		.pair = pair,
		.peer = peer,
		.side = side,
	};
	return 0;

err_free_receive:
	transport_queue_fini(&receive);
err_free_send:
	transport_queue_fini(&send);
	return status;
}

static int compare(const struct transport_config *mine,
		   const struct transport_config *other)
{
	if (other->job != mine->job)
		return fail(-EPROTO,
			    "inproc: rank %u belongs to job 0x%" PRIx64
			    ", rank %u to job 0x%" PRIx64,
			    other->rank, other->job, mine->rank, mine->job);
	if (other->epoch != mine->epoch)
		return fail(-EPROTO,
			    "inproc: rank %u is in epoch %u, rank %u in epoch "
			    "%u",
			    other->rank, other->epoch, mine->rank, mine->epoch);
	if (other->size != mine->size)
		return fail(-EPROTO,
			    "inproc: rank %u counts %u ranks, rank %u counts "
			    "%u",
			    other->rank, other->size, mine->rank, mine->size);
	if (other->checksum != mine->checksum)
		return fail(-EPROTO,
			    "inproc: ranks %u and %u differ in checksum "
			    "(on or off)",
			    other->rank, mine->rank);
	if (memcmp(other->fingerprint, mine->fingerprint,
		   sizeof(mine->fingerprint)) != 0)
		return fail(-EPROTO,
			    "inproc: the fingerprints of ranks %u and %u "
			    "differ: other shapes, schedule or numerics",
			    other->rank, mine->rank);
	return 0;
}

/* Under hub->lock. 0: all are there; -EAGAIN: some are missing. */
static int handshake(struct inproc_endpoint *endpoint, const unsigned *peers,
		     unsigned count, char *missing, size_t size)
{
	const struct inproc_link *link;
	const struct inproc_side *other;
	size_t used = 0;
	unsigned i;
	int status;

	missing[0] = '\0';
	for (i = 0; i < count; i++) {
		link = &endpoint->links[peers[i]];
		other = &link->pair->side[!link->side];
		if (!other->arrived) {
			if (used < size)
				used += (size_t)snprintf(missing + used,
							 size - used, " %u",
							 peers[i]);
			continue;
		}
		status = compare(&endpoint->base.config, &other->config);
		if (status)
			return status;
	}
	return missing[0] ? -EAGAIN : 0;
}

/* Under hub->lock, which it lets go. */
static void await_arrival(struct transport_hub *hub, int64_t deadline_ns)
{
	struct timespec until = {
		.tv_sec = deadline_ns / NS_PER_SECOND,
		.tv_nsec = deadline_ns % NS_PER_SECOND,
	};

	pthread_cond_timedwait(&hub->arrival, &hub->lock, &until);
}

static int meet(struct inproc_endpoint *endpoint, const unsigned *peers,
		unsigned count, int64_t timeout_ns)
{
	struct transport_hub *hub = endpoint->hub;
	int64_t deadline_ns = clock_now_ns() + timeout_ns;
	char missing[128];
	int64_t now_ns;
	int status;

	pthread_mutex_lock(&hub->lock);
	for (;;) {
		status = handshake(endpoint, peers, count, missing,
				   sizeof(missing));
		now_ns = clock_now_ns();
		if (status != -EAGAIN || now_ns >= deadline_ns)
			break;
		status = transport_woken(&endpoint->base) ? -ECANCELED : 0;
		if (status)
			break;
		/* A condition cannot be waited for along with wake_fd. */
		await_arrival(hub, MIN(deadline_ns, now_ns + WOKEN_NS));
	}
	pthread_mutex_unlock(&hub->lock);
	if (status == -EAGAIN)
		return fail(-ETIMEDOUT,
			    "inproc: rank %u has waited %.1f s to connect; "
			    "missing ranks:%s",
			    endpoint->base.config.rank,
			    clock_seconds(timeout_ns), missing);
	return status;
}

int inproc_hub_connect(struct inproc_endpoint *endpoint, const unsigned *peers,
		       unsigned count, int64_t timeout_ns)
{
	unsigned arrived;
	int status = 0;

	for (arrived = 0; arrived < count; arrived++) {
		status = arrive(endpoint, peers[arrived]);
		if (status)
			goto err_part;
	}
	status = meet(endpoint, peers, count, timeout_ns);
	if (status)
		goto err_part;
	return 0;

err_part:
	while (arrived--) {
		inproc_link_cancel(&endpoint->links[peers[arrived]]);
		inproc_hub_part(&endpoint->links[peers[arrived]]);
	}
	return status;
}
