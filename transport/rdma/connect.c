/*
 * Builds links: the bootstrap by transport/tcp, offers over it, then queue
 * pairs by the connection manager. The lower rank calls.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "base/clock.h"
#include "base/log.h"
#include "transport/rdma/rdma.h"
#include "transport/tcp/tcp.h"

#define OFFER_TAG 0x726566666full /* "offer" */
#define BACKLOG   128
/*
 * The device asks again seven times, 4.096 us * 2^16 = 0.27 s apart (some
 * wait up to four times as long): a dead path is known in 2 to 8 s.
 */
#define ACK_TIMEOUT 16
#define RETRIES     7

struct meeting {
	struct rdma_endpoint *endpoint;
	struct rdma_link *links; /* the new ones */
	unsigned count;
	int64_t deadline_ns;
};

static unsigned rank_of(const struct meeting *meeting)
{
	return meeting->endpoint->base.config.rank;
}

static bool calls(const struct rdma_link *link)
{
	return link->endpoint->base.config.rank < link->peer;
}

/* ---- offers ---- */

static int listen_here(struct rdma_endpoint *endpoint)
{
	struct sockaddr_storage local = endpoint->local;

	/* Port 0: the kernel chooses. */
	if (rdma_create_id(endpoint->events, &endpoint->listener, NULL,
			   RDMA_PS_TCP))
		return fail(-errno, "rdma: no identifier to listen on: %s",
			    strerror(errno));
	if (rdma_bind_addr(endpoint->listener, (struct sockaddr *)&local) ||
	    rdma_listen(endpoint->listener, BACKLOG))
		return fail(-errno, "rdma: listening on %s: %s",
			    endpoint->local_text, strerror(errno));
	return 0;
}

static void make_offer(const struct rdma_link *link, unsigned char *out)
{
	const struct rdma_endpoint *endpoint = link->endpoint;
	const struct sockaddr_in6 *six = (const void *)&endpoint->local;
	const struct sockaddr_in *four = (const void *)&endpoint->local;
	bool is_four = endpoint->local.ss_family == AF_INET;
	struct rdma_offer offer = {
		.version = RDMA_VERSION,
		.flags = endpoint->immediate ? 0 : RDMA_OFFER_NO_IMMEDIATE,
		.depth = endpoint->base.config.depth,
		.family = is_four ? 4 : 6,
		.port = ntohs(rdma_get_src_port(endpoint->listener)),
	};

	if (is_four)
		memcpy(offer.address, &four->sin_addr, 4);
	else
		memcpy(offer.address, &six->sin6_addr, 16);
	memcpy(offer.token, link->token, sizeof(offer.token));
	rdma_offer_encode(&offer, out);
}

/* What the bootstrap moves: ours at [0, count), theirs behind them. */
static int move_offers(struct meeting *meeting, unsigned char *block)
{
	struct transport_endpoint *tcp = meeting->endpoint->bootstrap;
	unsigned char *in = block + (size_t)meeting->count * RDMA_OFFER_BYTES;
	struct transport_completion done;
	unsigned left = 2 * meeting->count;
	int status = 0;

	for (unsigned i = 0; !status && i < meeting->count; i++) {
		unsigned char *out = block + (size_t)i * RDMA_OFFER_BYTES;
		unsigned peer = meeting->links[i].peer;

		make_offer(&meeting->links[i], out);
		status = transport_post_recv(tcp, peer, OFFER_TAG,
					     in + (size_t)i * RDMA_OFFER_BYTES,
					     RDMA_OFFER_BYTES, NULL);
		if (!status)
			status = transport_post_send(tcp, peer, OFFER_TAG, out,
						     RDMA_OFFER_BYTES, NULL);
	}
	while (!status && left) {
		status = transport_progress(tcp, &done, 1);
		if (status > 0) {
			left--;
			status = 0;
		} else if (!status) {
			status = transport_wait(
				tcp, meeting->deadline_ns,
				transport_wake_fd(&meeting->endpoint->base));
			if (!status &&
			    transport_woken(&meeting->endpoint->base))
				return -ECANCELED; /* whoever rang says why */
		}
	}
	if (status == -ETIMEDOUT)
		return fail(status,
			    "rdma: rank %u: its peers have not said where "
			    "their devices are",
			    rank_of(meeting));
	return status;
}

static int take_offers(struct meeting *meeting, const unsigned char *in)
{
	for (unsigned i = 0; i < meeting->count; i++) {
		struct rdma_link *link = &meeting->links[i];
		const char *wrong = rdma_offer_decode(
			in + (size_t)i * RDMA_OFFER_BYTES, &link->offer);
		int status;

		if (wrong)
			return fail(-EPROTO,
				    "rdma: rank %u: the offer of rank %u is "
				    "not sound: %s",
				    rank_of(meeting), link->peer, wrong);
		link->immediate =
			meeting->endpoint->immediate &&
			!(link->offer.flags & RDMA_OFFER_NO_IMMEDIATE);
		status = rdma_link_init(link);
		if (status)
			return status;
	}
	return 0;
}

static int exchange_offers(struct meeting *meeting)
{
	struct transport_endpoint *tcp = meeting->endpoint->bootstrap;
	size_t half = (size_t)meeting->count * RDMA_OFFER_BYTES;
	unsigned char *block = calloc(2, half);
	int status;

	if (!block)
		return fail(-ENOMEM, "rdma: no memory for %u offers",
			    meeting->count);
	status = transport_register(tcp, block, 2 * half);
	if (status)
		goto out_free;
	status = move_offers(meeting, block);
	if (!status)
		status = take_offers(meeting, block + half);
	else /* what it may still write into must not be freed */
		(void)!transport_cancel(tcp, TRANSPORT_ALL_PEERS,
					NS_PER_SECOND);
	(void)!transport_deregister(tcp, block);
out_free:
	free(block);
	return status;
}

/* ---- queue pairs ---- */

static void offered_address(const struct rdma_offer *offer,
			    const struct sockaddr_storage *local,
			    struct sockaddr_storage *out)
{
	const struct sockaddr_in6 *here = (const void *)local;
	struct sockaddr_in6 *six = (void *)out;
	struct sockaddr_in *four = (void *)out;

	memset(out, 0, sizeof(*out));
	if (offer->family == 4) {
		four->sin_family = AF_INET;
		four->sin_port = htons(offer->port);
		memcpy(&four->sin_addr, offer->address, 4);
		return;
	}
	six->sin6_family = AF_INET6;
	six->sin6_port = htons(offer->port);
	memcpy(&six->sin6_addr, offer->address, 16);
	if (IN6_IS_ADDR_LINKLOCAL(&six->sin6_addr) &&
	    here->sin6_family == AF_INET6)
		six->sin6_scope_id = here->sin6_scope_id;
}

static void address_text(const struct rdma_link *link, char *out, size_t size)
{
	inet_ntop(link->offer.family == 4 ? AF_INET : AF_INET6,
		  link->offer.address, out, (socklen_t)size);
}

static int link_failed(const struct rdma_link *link, int error,
		       const char *step)
{
	char where[INET6_ADDRSTRLEN] = "";

	address_text(link, where, sizeof(where));
	return fail(error ? error : -EHOSTUNREACH,
		    "rdma: rank %u (%s on %s): %s rank %u at %s: %s; do both "
		    "devices share a network (ping -I %s %s)?",
		    link->endpoint->base.config.rank,
		    ibv_get_device_name(link->endpoint->device->device),
		    link->endpoint->local_text, step, link->peer, where,
		    strerror(error ? -error : EHOSTUNREACH),
		    link->endpoint->local_text, where);
}

static int call(struct meeting *meeting, struct rdma_link *link)
{
	struct rdma_endpoint *endpoint = meeting->endpoint;
	int64_t left_ns = meeting->deadline_ns - clock_now_ns();
	struct sockaddr_storage local = endpoint->local;
	struct sockaddr_storage remote;

	offered_address(&link->offer, &local, &remote);
	if (rdma_create_id(endpoint->events, &link->id, link, RDMA_PS_TCP))
		return fail(-errno, "rdma: no identifier to connect with: %s",
			    strerror(errno));
	/* Bound, so that packets leave by the device we registered with. */
	if (rdma_resolve_addr(link->id, (struct sockaddr *)&local,
			      (struct sockaddr *)&remote,
			      (int)(MAX(left_ns, 0) / NS_PER_MS) + 1))
		return link_failed(link, -errno, "looking for");
	return 0;
}

static int with_qp(struct rdma_link *link)
{
	uint8_t timeout = ACK_TIMEOUT;

	if (link->id->verbs != link->endpoint->device)
		return link_failed(link, -EXDEV,
				   "by another device than the one bound to "
				   "goes the way to");
	rdma_set_option(link->id, RDMA_OPTION_ID, RDMA_OPTION_ID_ACK_TIMEOUT,
			&timeout, sizeof(timeout));
	return rdma_link_create_qp(link);
}

/* What the other end has to hear to know that it is us. */
static struct rdma_conn_param parameters(const struct rdma_link *link)
{
	return (struct rdma_conn_param){
		.private_data = link->offer.token,
		.private_data_len = RDMA_TOKEN_BYTES,
		.retry_count = RETRIES,
		.rnr_retry_count = 0,
	};
}

/* In a time that does not depend on how much of it is right. */
static bool is_token(const struct rdma_link *link,
		     const struct rdma_conn_param *said)
{
	const unsigned char *bytes = said->private_data;
	unsigned char wrong = 0;

	if (!bytes || said->private_data_len < RDMA_TOKEN_BYTES)
		return false;
	for (unsigned i = 0; i < RDMA_TOKEN_BYTES; i++)
		wrong |= bytes[i] ^ link->token[i];
	return !wrong;
}

static int address_known(struct rdma_link *link)
{
	int64_t timeout_ms = 2000;

	if (rdma_resolve_route(link->id, (int)timeout_ms))
		return link_failed(link, -errno, "no route to");
	return 0;
}

static int route_known(struct rdma_link *link)
{
	struct rdma_conn_param parameter = parameters(link);
	int status = with_qp(link);

	if (status)
		return status;
	if (rdma_connect(link->id, &parameter))
		return link_failed(link, -errno, "connecting to");
	return 0;
}

static int established(struct rdma_link *link,
		       const struct rdma_conn_param *said)
{
	if (calls(link) && !is_token(link, said))
		return fail(-EACCES,
			    "rdma: rank %u: what answers for rank %u does not "
			    "know the token: it is not rank %u",
			    link->endpoint->base.config.rank, link->peer,
			    link->peer);
	link->established = true;
	return 0;
}

/* Of all who call, only who knows a token is one of ours. */
static int called(struct meeting *meeting, struct rdma_cm_event *event)
{
	struct rdma_conn_param parameter;
	struct rdma_link *link = NULL;
	struct rdma_cm_id *id = event->id;
	int status;

	for (unsigned i = 0; i < meeting->count; i++) {
		struct rdma_link *one = &meeting->links[i];

		if (!calls(one) && !one->id &&
		    is_token(one, &event->param.conn))
			link = one;
	}
	rdma_ack_cm_event(event);
	if (!link) {
		rdma_reject(id, NULL, 0);
		rdma_destroy_id(id);
		return 0;
	}
	link->id = id;
	id->context = link;
	status = with_qp(link);
	if (status)
		return status;
	parameter = parameters(link);
	if (rdma_accept(id, &parameter))
		return link_failed(link, -errno, "accepting");
	return 0;
}

static int refused(struct rdma_link *link, enum rdma_cm_event_type type,
		   int error)
{
	/* Some are errno, some are reasons of the connection manager. */
	int code = error < 0 ? error : -ECONNREFUSED;

	switch (type) {
	case RDMA_CM_EVENT_ADDR_ERROR:
		return link_failed(link, error < 0 ? error : 0, "looking for");
	case RDMA_CM_EVENT_ROUTE_ERROR:
		return link_failed(link, error < 0 ? error : 0, "no route to");
	case RDMA_CM_EVENT_UNREACHABLE:
		return link_failed(link, error < 0 ? error : 0, "no answer of");
	default:
		return link_failed(link, code, rdma_event_str(type));
	}
}

static int take_event(struct meeting *meeting, struct rdma_cm_event *event)
{
	struct rdma_link *link = event->id->context;
	enum rdma_cm_event_type type = event->event;
	int error = event->status;
	int status = 0;

	if (type == RDMA_CM_EVENT_CONNECT_REQUEST)
		return called(meeting, event);
	if (link && type == RDMA_CM_EVENT_ESTABLISHED)
		status = established(link, &event->param.conn);
	rdma_ack_cm_event(event);
	if (!link)
		return 0;
	switch (type) {
	case RDMA_CM_EVENT_ADDR_RESOLVED:
		return address_known(link);
	case RDMA_CM_EVENT_ROUTE_RESOLVED:
		return route_known(link);
	case RDMA_CM_EVENT_ADDR_ERROR:
	case RDMA_CM_EVENT_ROUTE_ERROR:
	case RDMA_CM_EVENT_CONNECT_ERROR:
	case RDMA_CM_EVENT_UNREACHABLE:
	case RDMA_CM_EVENT_REJECTED:
		return refused(link, type, error);
	case RDMA_CM_EVENT_DISCONNECTED:
		link->gone = -ECONNRESET;
		return 0;
	default:
		return status;
	}
}

static unsigned missing(const struct meeting *meeting,
			const struct rdma_link **first)
{
	unsigned count = 0;

	for (unsigned i = meeting->count; i-- > 0;) {
		if (meeting->links[i].established)
			continue;
		*first = &meeting->links[i];
		count++;
	}
	return count;
}

/* Who fails closes its bootstrap; the others need not wait for the deadline. */
static int check_peers(const struct meeting *meeting)
{
	for (unsigned i = 0; i < meeting->count; i++) {
		const struct rdma_link *link = &meeting->links[i];

		if (!link->established &&
		    tcp_endpoint_peer_ended(meeting->endpoint->bootstrap,
					    link->peer))
			return fail(-ECONNRESET,
				    "rdma: rank %u: rank %u has given up "
				    "before its queue pair was made",
				    rank_of(meeting), link->peer);
	}
	return 0;
}

static int meet(struct meeting *meeting)
{
	struct pollfd events = {
		.fd = meeting->endpoint->events->fd,
		.events = POLLIN,
	};
	const struct rdma_link *first = NULL;
	struct rdma_cm_event *event;
	int status = 0;

	while (!status && missing(meeting, &first)) {
		if (rdma_get_cm_event(meeting->endpoint->events, &event) == 0) {
			status = take_event(meeting, event);
			continue;
		}
		status = check_peers(meeting);
		if (!status && clock_now_ns() >= meeting->deadline_ns)
			status = link_failed(first, -ETIMEDOUT,
					     "no queue pair in time with");
		if (!status && transport_woken(&meeting->endpoint->base))
			return -ECANCELED; /* whoever rang says why */
		if (!status)
			poll(&events, 1, 10);
	}
	return status;
}

static int add_links(struct meeting *meeting, const unsigned *peers)
{
	struct rdma_endpoint *endpoint = meeting->endpoint;

	for (unsigned i = 0; i < meeting->count; i++) {
		struct rdma_link *link = &meeting->links[i];

		*link = (struct rdma_link){
			.endpoint = endpoint,
			.peer = peers[i],
		};
		if (getrandom(link->token, sizeof(link->token), 0) !=
		    sizeof(link->token))
			return fail(-EIO, "rdma: no random bytes");
		/* From here on close takes care of it. */
		endpoint->link_of[peers[i]] = ++endpoint->link_count;
	}
	return 0;
}

int rdma_endpoint_connect(struct rdma_endpoint *endpoint, const unsigned *peers,
			  unsigned count, const char *const *addresses,
			  int64_t timeout_ns)
{
	struct meeting meeting = {
		.endpoint = endpoint,
		.links = endpoint->links + endpoint->link_count,
		.count = count,
		.deadline_ns = clock_now_ns() + timeout_ns,
	};
	int status;

	status = transport_connect(endpoint->bootstrap, peers, count, addresses,
				   timeout_ns);
	if (!status)
		status = add_links(&meeting, peers);
	if (!status)
		status = listen_here(endpoint);
	if (!status)
		status = exchange_offers(&meeting);
	for (unsigned i = 0; !status && i < count; i++) {
		if (calls(&meeting.links[i]))
			status = call(&meeting, &meeting.links[i]);
	}
	if (!status)
		status = meet(&meeting);
	if (endpoint->listener)
		rdma_destroy_id(endpoint->listener);
	endpoint->listener = NULL;
	return status;
}
