/* Queues to bytes, bytes to queues. Every byte of a peer is checked here. */
#include <errno.h>
#include <inttypes.h>
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
	if (transport_queue_init(&link->send, depth))
		return NULL;
	if (transport_queue_init(&link->receive, depth)) {
		transport_queue_fini(&link->send);
		return NULL;
	}
	endpoint->link_of[peer] = index + 1;
	endpoint->link_count++;
	return link;
}

void tcp_link_fini(struct tcp_link *link)
{
	close(link->fd);
	transport_queue_fini(&link->send);
	transport_queue_fini(&link->receive);
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
		.flags = config->checksum ? WIRE_FLAG_CHECKSUM : 0,
		.sequence = index,
		.tag = operation->tag,
		.length = operation->bytes,
		.payload_crc = operation->crc,
	};
}

/* The rest of [header, payload] from byte `moved` on. */
static unsigned rest(unsigned char *header, struct transport_operation *of,
		     size_t moved, struct iovec parts[2])
{
	unsigned count = 0;
	size_t skip = 0;

	if (moved < WIRE_HEADER_BYTES)
		parts[count++] = (struct iovec){
			.iov_base = header + moved,
			.iov_len = WIRE_HEADER_BYTES - moved,
		};
	else
		skip = moved - WIRE_HEADER_BYTES;
	if (of->bytes > skip)
		parts[count++] = (struct iovec){
			.iov_base = (unsigned char *)of->data + skip,
			.iov_len = of->bytes - skip,
		};
	return count;
}

unsigned tcp_link_send_parts(const struct tcp_endpoint *endpoint,
			     struct tcp_link *link, struct iovec parts[2])
{
	struct transport_operation *operation;
	struct wire_header header;

	if (!transport_queue_pending(&link->send))
		return 0;
	operation = transport_queue_at(&link->send, link->send.done);
	if (!link->sent) {
		header =
			frame(endpoint, link, operation, link->send.done, true);
		wire_header_encode(&header, link->send_header);
	}
	return rest(link->send_header, operation, link->sent, parts);
}

unsigned tcp_link_receive_parts(struct tcp_link *link, struct iovec parts[2])
{
	struct transport_operation *operation;

	if (!transport_queue_pending(&link->receive))
		return 0;
	operation = transport_queue_at(&link->receive, link->receive.done);
	return rest(link->receive_header, operation, link->received, parts);
}

void tcp_link_sent(struct tcp_link *link, size_t bytes)
{
	const struct transport_operation *operation;

	operation = transport_queue_at(&link->send, link->send.done);
	link->sent += bytes;
	ASSERT(link->sent <= WIRE_HEADER_BYTES + operation->bytes);
	if (link->sent < WIRE_HEADER_BYTES + operation->bytes)
		return;
	link->sent = 0;
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

static int check_payload(const struct tcp_endpoint *endpoint,
			 struct tcp_link *link)
{
	const struct transport_operation *operation;
	uint32_t crc;

	if (!endpoint->base.config.checksum)
		return 0;
	operation = transport_queue_at(&link->receive, link->receive.done);
	crc = digest_crc32c(0, operation->data, operation->bytes);
	if (crc == link->receive_crc)
		return 0;
	link_over(link, -EBADMSG);
	return fail(-EBADMSG,
		    "rank %u: the payload of tag 0x%" PRIx64
		    " (%zu bytes) from rank %u is damaged: CRC-32C %08x "
		    "instead of %08x",
		    endpoint->base.config.rank, operation->tag,
		    operation->bytes, link->peer, crc, link->receive_crc);
}

int tcp_link_received(const struct tcp_endpoint *endpoint,
		      struct tcp_link *link, size_t bytes)
{
	const struct transport_operation *operation;
	size_t before = link->received;
	int status;

	operation = transport_queue_at(&link->receive, link->receive.done);
	link->received += bytes;
	ASSERT(link->received <= WIRE_HEADER_BYTES + operation->bytes);
	if (before < WIRE_HEADER_BYTES && link->received >= WIRE_HEADER_BYTES) {
		status = check_header(endpoint, link);
		if (status)
			return status;
	}
	if (link->received < WIRE_HEADER_BYTES + operation->bytes)
		return 0;
	status = check_payload(endpoint, link);
	if (status)
		return status;
	link->received = 0;
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
		  link->received > WIRE_HEADER_BYTES
			  ? link->received - WIRE_HEADER_BYTES
			  : 0,
		  link->peer,
		  error ? strerror(-error)
			: "the peer has closed the connection: it ended or "
			  "died");
}
