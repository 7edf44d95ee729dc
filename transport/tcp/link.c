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
			      int fd, struct secure_session *session)
{
	const struct transport_config *config = &endpoint->base.config;
	unsigned index = endpoint->link_count;
	struct tcp_link *link = &endpoint->links[index];

	*link = (struct tcp_link){
		.peer = peer,
		.index = index,
		.fd = fd,
	};
	if (tcp_guard_init(&link->guard, config->wire, session)) {
		log_error("tcp: no memory to protect a link");
		return NULL;
	}
	if (transport_queue_init(&link->send, config->depth))
		goto err_guard;
	if (transport_queue_init(&link->receive, config->depth))
		goto err_send;
	endpoint->link_of[peer] = index + 1;
	endpoint->link_count++;
	return link;

err_send:
	transport_queue_fini(&link->send);
err_guard:
	tcp_guard_fini(&link->guard);
	return NULL;
}

void tcp_link_fini(struct tcp_link *link)
{
	close(link->fd);
	transport_queue_fini(&link->send);
	transport_queue_fini(&link->receive);
	tcp_guard_fini(&link->guard);
}

/* The MAC of a frame that has one makes a checksum idle. */
static bool has_checksum(const struct tcp_endpoint *endpoint,
			 const struct tcp_link *link)
{
	return endpoint->base.config.checksum &&
	       link->guard.wire == TRANSPORT_WIRE_CHECKED;
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
		.flags = has_checksum(endpoint, link) ? WIRE_FLAG_CHECKSUM : 0,
		.sequence = index,
		.tag = operation->tag,
		.length = operation->bytes,
		.payload_crc = operation->crc,
	};
}

/* What is left of a header, of which `moved` bytes have moved. */
static unsigned header_part(const struct tcp_guard *guard,
			    unsigned char *header, size_t moved,
			    struct iovec *out)
{
	if (moved >= guard->header_bytes)
		return 0;
	*out = (struct iovec){
		.iov_base = header + moved,
		.iov_len = guard->header_bytes - moved,
	};
	return 1;
}

/* How many bytes behind the header have moved. */
static size_t behind(const struct tcp_guard *guard, size_t moved)
{
	return moved > guard->header_bytes ? moved - guard->header_bytes : 0;
}

unsigned tcp_link_send_parts(const struct tcp_endpoint *endpoint,
			     struct tcp_link *link,
			     struct iovec parts[TCP_PARTS])
{
	struct transport_operation *operation;
	struct wire_header header;
	unsigned count;

	if (!transport_queue_pending(&link->send))
		return 0;
	operation = transport_queue_at(&link->send, link->send.done);
	if (!link->send_ready) {
		header =
			frame(endpoint, link, operation, link->send.done, true);
		wire_header_encode(&header, link->send_header);
		tcp_guard_seal_header(&link->guard, link->send_header,
				      operation);
		link->send_ready = true;
	}
	count = header_part(&link->guard, link->send_header, link->sent, parts);
	return count + tcp_guard_send_parts(&link->guard, operation,
					    behind(&link->guard, link->sent),
					    parts + count);
}

unsigned tcp_link_receive_parts(struct tcp_link *link,
				struct iovec parts[TCP_PARTS])
{
	struct transport_operation *operation;
	unsigned count;

	if (!transport_queue_pending(&link->receive))
		return 0;
	operation = transport_queue_at(&link->receive, link->receive.done);
	count = header_part(&link->guard, link->receive_header, link->received,
			    parts);
	return count +
	       tcp_guard_receive_parts(&link->guard, operation,
				       behind(&link->guard, link->received),
				       parts + count);
}

void tcp_link_sent(struct tcp_link *link, size_t bytes)
{
	const struct transport_operation *operation;
	size_t whole;

	operation = transport_queue_at(&link->send, link->send.done);
	whole = tcp_guard_frame_bytes(&link->guard, operation->bytes);
	link->sent += bytes;
	ASSERT(link->sent <= whole);
	if (link->sent < whole)
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

/* Changed, repeated, or left out by someone between us. */
static int forged(const struct tcp_endpoint *endpoint, struct tcp_link *link)
{
	const struct transport_operation *operation;

	operation = transport_queue_at(&link->receive, link->receive.done);
	link_over(link, -EBADMSG);
	return fail(-EBADMSG,
		    "rank %u: what came for tag 0x%" PRIx64
		    " (%zu bytes) is not what rank %u sent: changed or "
		    "repeated on its way (%s)",
		    endpoint->base.config.rank, operation->tag,
		    operation->bytes, link->peer,
		    link->guard.wire == TRANSPORT_WIRE_ENCRYPTED
			    ? "its encryption is not ours"
			    : "its MAC is wrong");
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
	if (tcp_guard_open_header(&link->guard, link->receive_header))
		return forged(endpoint, link);
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

	if (!has_checksum(endpoint, link))
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
	struct tcp_guard *guard = &link->guard;
	const struct transport_operation *operation;
	size_t before = link->received;
	size_t whole;
	int status;

	operation = transport_queue_at(&link->receive, link->receive.done);
	whole = tcp_guard_frame_bytes(guard, operation->bytes);
	link->received += bytes;
	ASSERT(link->received <= whole);
	if (link->received < guard->header_bytes)
		return 0;
	if (before < guard->header_bytes) {
		status = check_header(endpoint, link);
		if (status)
			return status;
	}
	if (tcp_guard_received(guard, link->receive_header, operation,
			       behind(guard, before),
			       behind(guard, link->received)))
		return forged(endpoint, link);
	if (link->received < whole)
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
		  tcp_guard_payload_bytes(&link->guard, link->received),
		  link->peer,
		  error ? strerror(-error)
			: "the peer has closed the connection: it ended or "
			  "died");
}
