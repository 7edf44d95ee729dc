/* Queues to bytes, bytes to queues. Every byte of a peer is checked here. */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/digest.h"
#include "base/log.h"
#include "transport/tcp/tcp.h"

struct tcp_link *tcp_link_add(struct tcp_endpoint *endpoint, unsigned peer,
			      int fd)
{
	unsigned index = endpoint->link_count;
	struct tcp_link *link = &endpoint->links[index];
	unsigned depth = endpoint->base.config.depth;

	*link = (struct tcp_link){
		.peer = peer,
		.index = index,
		.fd = fd,
	};
	link->stage = malloc(TCP_STAGE_BYTES);
	if (!link->stage) {
		log_error("tcp: no memory for a link");
		return NULL;
	}
	if (transport_queue_init(&link->send, depth))
		goto err_free;
	if (transport_queue_init(&link->receive, depth))
		goto err_send;
	endpoint->link_of[peer] = index + 1;
	endpoint->link_count++;
	return link;

err_send:
	transport_queue_fini(&link->send);
err_free:
	free(link->stage);
	return NULL;
}

void tcp_link_fini(struct tcp_link *link)
{
	close(link->fd);
	free(link->stage);
	tcp_shield_fini(&link->shield);
	transport_queue_fini(&link->send);
	transport_queue_fini(&link->receive);
}

static uint32_t flags_of(const struct transport_config *config)
{
	switch (config->wire) {
	case TRANSPORT_WIRE_ENCRYPTED:
		return WIRE_FLAG_ENCRYPTED;
	case TRANSPORT_WIRE_AUTHENTIC:
		return WIRE_FLAG_AUTHENTIC;
	default:
		return config->checksum ? WIRE_FLAG_CHECKSUM : 0;
	}
}

/* The frame that operation `index` of a direction is to travel in. */
static struct wire_header frame(const struct tcp_endpoint *endpoint,
				const struct tcp_link *link,
				const struct transport_operation *operation,
				uint64_t index, bool outwards)
{
	const struct transport_config *config = &endpoint->base.config;

	return (struct wire_header){
		.version = WIRE_VERSION,
		.type = WIRE_DATA,
		.job = config->job,
		.epoch = config->epoch,
		.source = outwards ? config->rank : link->peer,
		.destination = outwards ? link->peer : config->rank,
		.flags = flags_of(config),
		.sequence = index,
		.tag = operation->tag,
		.length = operation->bytes,
		.payload_crc = operation->crc,
	};
}

static size_t frame_bytes(const struct tcp_link *link,
			  const struct transport_operation *operation)
{
	return WIRE_HEADER_BYTES + operation->bytes + link->tag_bytes;
}

static struct iovec part(unsigned char *base, size_t bytes, size_t skip)
{
	return (struct iovec){.iov_base = base + skip, .iov_len = bytes - skip};
}

/* Header, payload and tag, from byte `moved` on; `payload` begins there. */
static unsigned collect(const struct tcp_link *link, unsigned char *header,
			struct iovec payload, unsigned char *tag,
			size_t tag_skip, size_t moved,
			struct iovec parts[TCP_PARTS])
{
	unsigned count = 0;

	if (moved < WIRE_HEADER_BYTES)
		parts[count++] = part(header, WIRE_HEADER_BYTES, moved);
	if (payload.iov_len)
		parts[count++] = payload;
	if (tag && link->tag_bytes > tag_skip)
		parts[count++] = part(tag, link->tag_bytes, tag_skip);
	return count;
}

/* How many bytes of payload and tag have moved, of a frame's `moved`. */
static size_t payload_skip(const struct transport_operation *operation,
			   size_t moved)
{
	size_t beyond = MAX(moved, WIRE_HEADER_BYTES) - WIRE_HEADER_BYTES;

	return MIN(beyond, operation->bytes);
}

static size_t tag_skip(const struct transport_operation *operation,
		       size_t moved)
{
	size_t before = WIRE_HEADER_BYTES + operation->bytes;

	return MAX(moved, before) - before;
}

unsigned tcp_link_send_parts(const struct tcp_endpoint *endpoint,
			     struct tcp_link *link,
			     struct iovec parts[TCP_PARTS])
{
	struct transport_operation *operation;
	struct wire_header header;
	struct iovec payload;
	size_t skip;

	if (!transport_queue_pending(&link->send))
		return 0;
	operation = transport_queue_at(&link->send, link->send.done);
	if (!link->send_ready) {
		header =
			frame(endpoint, link, operation, link->send.done, true);
		wire_header_encode(&header, link->send_header);
		if (link->tag_bytes)
			tcp_shield_begin(&link->shield, link->send_header,
					 operation);
		link->send_ready = true;
	}
	skip = payload_skip(operation, link->sent);
	payload = tcp_shield_payload(&link->shield, operation, skip);
	return collect(link, link->send_header, payload,
		       skip + payload.iov_len == operation->bytes
			       ? link->shield.send_tag
			       : NULL,
		       tag_skip(operation, link->sent), link->sent, parts);
}

unsigned tcp_link_receive_parts(struct tcp_link *link,
				struct iovec parts[TCP_PARTS])
{
	struct transport_operation *operation;
	struct iovec payload;

	if (!transport_queue_pending(&link->receive))
		return 0;
	operation = transport_queue_at(&link->receive, link->receive.done);
	payload = part(operation->data, operation->bytes,
		       payload_skip(operation, link->received));
	return collect(
		link, link->receive_header, payload, link->shield.receive_tag,
		tag_skip(operation, link->received), link->received, parts);
}

void tcp_link_sent(struct tcp_link *link, size_t bytes)
{
	const struct transport_operation *operation;

	operation = transport_queue_at(&link->send, link->send.done);
	link->sent += bytes;
	ASSERT(link->sent <= frame_bytes(link, operation));
	if (link->sent < frame_bytes(link, operation))
		return;
	link->sent = 0;
	link->send_ready = false;
	link->send.done++;
	link->messages_sent++;
	link->bytes_sent += operation->bytes;
}

/* The peer is to learn of it at once, hence the shutdown. */
static void link_over(struct tcp_link *link, int status)
{
	link->status = status;
	shutdown(link->fd, SHUT_RDWR);
}

static int check_header(const struct tcp_endpoint *endpoint,
			struct tcp_link *link)
{
	const struct transport_operation *operation;
	struct wire_header expected;
	struct wire_header actual;
	enum wire_fault fault;
	char values[64] = "";

	operation = transport_queue_at(&link->receive, link->receive.done);
	expected = frame(endpoint, link, operation, link->receive.done, false);
	fault = wire_header_decode(link->receive_header, &actual);
	if (fault == WIRE_BAD_MAGIC || fault == WIRE_BAD_HEADER_CRC) {
		link_over(link, -EBADMSG);
		return fail(-EBADMSG,
			    "rank %u: a frame from rank %u is damaged (%s), "
			    "waiting for tag 0x%" PRIx64 " (%zu bytes)",
			    endpoint->base.config.rank, link->peer,
			    wire_fault_text(fault), operation->tag,
			    operation->bytes);
	}
	if (fault == WIRE_OK)
		fault = wire_header_compare(&expected, &actual);
	if (fault == WIRE_OK) {
		link->receive_crc = actual.payload_crc;
		return 0;
	}
	link_over(link, -EPROTO);
	wire_header_explain(fault, &expected, &actual, values, sizeof(values));
	return fail(-EPROTO,
		    "rank %u: a frame from rank %u is not the expected one, "
		    "%s differs (%s): tag 0x%" PRIx64 " (%" PRIu64
		    " bytes) came, tag 0x%" PRIx64 " (%zu bytes) was expected",
		    endpoint->base.config.rank, link->peer,
		    wire_fault_text(fault), values, actual.tag, actual.length,
		    operation->tag, operation->bytes);
}

static int check_tag(const struct tcp_endpoint *endpoint, struct tcp_link *link,
		     const struct transport_operation *operation)
{
	if (!tcp_shield_open(&link->shield))
		return 0;
	link_over(link, -EBADMSG);
	return fail(-EBADMSG,
		    "rank %u: tag 0x%" PRIx64 " (%zu bytes) from rank %u is "
		    "damaged, or was tampered with: its MAC is wrong",
		    endpoint->base.config.rank, operation->tag,
		    operation->bytes, link->peer);
}

static int check_payload(const struct tcp_endpoint *endpoint,
			 struct tcp_link *link)
{
	const struct transport_operation *operation;
	uint32_t crc = link->arrived_crc;

	operation = transport_queue_at(&link->receive, link->receive.done);
	if (link->tag_bytes)
		return check_tag(endpoint, link, operation);
	if (!endpoint->base.config.checksum || crc == link->receive_crc)
		return 0;
	link_over(link, -EBADMSG);
	return fail(-EBADMSG,
		    "rank %u: the payload of tag 0x%" PRIx64
		    " (%zu bytes) from rank %u is damaged: CRC-32C %08x "
		    "instead of %08x",
		    endpoint->base.config.rank, operation->tag,
		    operation->bytes, link->peer, crc, link->receive_crc);
}

/*
 * Piece by piece, while it is in the cache. The kernel writes beyond a piece
 * only, so that it can be decrypted where it lies.
 */
static void take_piece(const struct tcp_endpoint *endpoint,
		       struct tcp_link *link,
		       const struct transport_operation *operation,
		       size_t before)
{
	size_t from = payload_skip(operation, before);
	size_t bytes = payload_skip(operation, link->received) - from;
	unsigned char *piece = (unsigned char *)operation->data + from;

	if (!bytes)
		return;
	if (link->tag_bytes)
		tcp_shield_take(&link->shield, piece, bytes);
	else if (endpoint->base.config.checksum)
		link->arrived_crc =
			digest_crc32c(link->arrived_crc, piece, bytes);
}

int tcp_link_received(const struct tcp_endpoint *endpoint,
		      struct tcp_link *link, size_t bytes)
{
	const struct transport_operation *operation;
	size_t before = link->received;
	int status;

	operation = transport_queue_at(&link->receive, link->receive.done);
	link->received += bytes;
	ASSERT(link->received <= frame_bytes(link, operation));
	if (before < WIRE_HEADER_BYTES && link->received >= WIRE_HEADER_BYTES) {
		status = check_header(endpoint, link);
		if (status)
			return status;
		if (link->tag_bytes)
			tcp_shield_expect(&link->shield, link->receive_header);
	}
	take_piece(endpoint, link, operation, before);
	if (link->received < frame_bytes(link, operation))
		return 0;
	status = check_payload(endpoint, link);
	if (status)
		return status;
	link->received = 0;
	link->arrived_crc = 0;
	link->receive.done++;
	link->messages_received++;
	link->bytes_received += operation->bytes;
	return 0;
}

void tcp_link_silent(const struct tcp_endpoint *endpoint, struct tcp_link *link,
		     int64_t silent_ns)
{
	link_over(link, -ETIMEDOUT);
	log_error(
		"rank %u: no answer from rank %u (%s) for %.1f s: its host is "
		"gone, or the network between drops packets",
		endpoint->base.config.rank, link->peer, link->host,
		clock_seconds(silent_ns));
}

void tcp_link_send_failed(const struct tcp_endpoint *endpoint,
			  struct tcp_link *link, int error)
{
	const struct transport_operation *operation;
	int status = error == -EPIPE ? -ECONNRESET : error;

	if (error == -ETIMEDOUT) {
		tcp_link_silent(endpoint, link,
				endpoint->base.config.silence_ns);
		return;
	}
	operation = transport_queue_at(&link->send, link->send.done);
	link_over(link, status);
	log_error("rank %u: sending tag 0x%" PRIx64 " (%zu bytes) to rank %u: "
		  "%s: the peer has ended or died",
		  endpoint->base.config.rank, operation->tag, operation->bytes,
		  link->peer, strerror(-error));
}

void tcp_link_receive_failed(const struct tcp_endpoint *endpoint,
			     struct tcp_link *link, int error)
{
	const struct transport_operation *operation;

	if (error == -ETIMEDOUT) {
		tcp_link_silent(endpoint, link,
				endpoint->base.config.silence_ns);
		return;
	}
	operation = transport_queue_at(&link->receive, link->receive.done);
	link_over(link, error ? error : -ECONNRESET);
	log_error("rank %u: waiting for tag 0x%" PRIx64
		  " (%zu bytes, %zu of them here) from rank %u: %s",
		  endpoint->base.config.rank, operation->tag, operation->bytes,
		  payload_skip(operation, link->received), link->peer,
		  error ? strerror(-error)
			: "the peer has closed the connection: it ended or "
			  "died");
}
