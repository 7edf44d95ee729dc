/*
 * What protects the frames of a link (transport/wire.h says how they lie on
 * the wire). link.c asks where bytes go and tells how many have moved.
 */
#include <errno.h>
#include <stdlib.h>

#include "transport/tcp/tcp.h"

#define SEALED_RECORD_BYTES (WIRE_RECORD_BYTES + SECURE_TAG_BYTES)

int tcp_guard_init(struct tcp_guard *guard, enum transport_wire wire,
		   struct secure_session *session)
{
	unsigned char keys[2][SECURE_KEY_BYTES];
	int status;

	*guard = (struct tcp_guard){
		.wire = wire,
		.header_bytes = WIRE_HEADER_BYTES,
	};
	if (wire == TRANSPORT_WIRE_CHECKED)
		return 0;
	guard->header_bytes += SECURE_TAG_BYTES;
	status = secure_session_export(session, wire_mode_text(wire), keys[0],
				       keys[1]);
	if (!status)
		status = secure_cipher_create(true, keys[0], &guard->seal);
	if (!status)
		status = secure_cipher_create(false, keys[1], &guard->open);
	secure_key_wipe(keys, sizeof(keys));
	if (!status && wire == TRANSPORT_WIRE_ENCRYPTED) {
		guard->bounce = malloc(SEALED_RECORD_BYTES);
		if (!guard->bounce)
			status = -ENOMEM;
	}
	if (status)
		tcp_guard_fini(guard);
	return status;
}

void tcp_guard_fini(struct tcp_guard *guard)
{
	secure_cipher_destroy(guard->seal);
	secure_cipher_destroy(guard->open);
	free(guard->bounce);
	*guard = (struct tcp_guard){.wire = guard->wire};
}

size_t tcp_guard_frame_bytes(const struct tcp_guard *guard, size_t payload)
{
	size_t records = 0;

	if (guard->wire == TRANSPORT_WIRE_ENCRYPTED)
		records = (payload + WIRE_RECORD_BYTES - 1) / WIRE_RECORD_BYTES;
	return guard->header_bytes + payload + records * SECURE_TAG_BYTES;
}

size_t tcp_guard_payload_bytes(const struct tcp_guard *guard, size_t moved)
{
	size_t behind;

	if (moved <= guard->header_bytes)
		return 0;
	behind = moved - guard->header_bytes;
	if (guard->wire != TRANSPORT_WIRE_ENCRYPTED)
		return behind;
	return behind / SEALED_RECORD_BYTES * WIRE_RECORD_BYTES +
	       MIN(behind % SEALED_RECORD_BYTES, WIRE_RECORD_BYTES);
}

void tcp_guard_seal_header(struct tcp_guard *guard, unsigned char *header,
			   const struct transport_operation *of)
{
	guard->sealed = 0;
	if (guard->wire == TRANSPORT_WIRE_CHECKED)
		return;
	secure_begin(guard->seal);
	secure_add(guard->seal, header, WIRE_HEADER_BYTES);
	if (guard->wire == TRANSPORT_WIRE_AUTHENTIC)
		secure_add(guard->seal, of->data, of->bytes);
	secure_seal(guard->seal, header + WIRE_HEADER_BYTES);
}

int tcp_guard_open_header(struct tcp_guard *guard, const unsigned char *header)
{
	if (guard->wire == TRANSPORT_WIRE_CHECKED)
		return 0;
	secure_begin(guard->open);
	secure_add(guard->open, header, WIRE_HEADER_BYTES);
	if (guard->wire == TRANSPORT_WIRE_AUTHENTIC)
		return 0; /* the payload belongs to it */
	return secure_open(guard->open, header + WIRE_HEADER_BYTES);
}

/* The record that lies at `behind`, so many bytes behind the header. */
struct record {
	size_t start, bytes; /* of the payload */
	size_t moved;        /* of it and its tag */
};

static bool find_record(const struct transport_operation *of, size_t behind,
			struct record *out)
{
	out->start = behind / SEALED_RECORD_BYTES * WIRE_RECORD_BYTES;
	if (out->start >= of->bytes)
		return false;
	out->bytes = MIN(of->bytes - out->start, WIRE_RECORD_BYTES);
	out->moved = behind % SEALED_RECORD_BYTES;
	return true;
}

static unsigned part(struct iovec *out, void *base, size_t bytes)
{
	if (!bytes)
		return 0;
	*out = (struct iovec){.iov_base = base, .iov_len = bytes};
	return 1;
}

/*
 * Sealed when the record before it has left, so that one place will do: the
 * kernel has copied it by then.
 */
unsigned tcp_guard_send_parts(struct tcp_guard *guard,
			      const struct transport_operation *of,
			      size_t behind, struct iovec *parts)
{
	struct record record;
	unsigned char *from;

	if (guard->wire != TRANSPORT_WIRE_ENCRYPTED)
		return part(parts, (unsigned char *)of->data + behind,
			    of->bytes - behind);
	if (!find_record(of, behind, &record))
		return 0;
	if (guard->sealed <= record.start) {
		from = (unsigned char *)of->data + record.start;
		secure_begin(guard->seal);
		secure_crypt(guard->seal, from, guard->bounce, record.bytes);
		secure_seal(guard->seal, guard->bounce + record.bytes);
		guard->sealed = record.start + record.bytes;
	}
	return part(parts, guard->bounce + record.moved,
		    record.bytes + SECURE_TAG_BYTES - record.moved);
}

unsigned tcp_guard_receive_parts(struct tcp_guard *guard,
				 const struct transport_operation *of,
				 size_t behind, struct iovec *parts)
{
	unsigned char *slot = of->data;
	struct record record;
	unsigned count = 0;
	size_t of_tag = 0;

	if (guard->wire != TRANSPORT_WIRE_ENCRYPTED)
		return part(parts, slot + behind, of->bytes - behind);
	if (!find_record(of, behind, &record))
		return 0;
	if (record.moved < record.bytes)
		count = part(parts, slot + record.start + record.moved,
			     record.bytes - record.moved);
	else
		of_tag = record.moved - record.bytes;
	return count + part(parts + count, guard->tag + of_tag,
			    SECURE_TAG_BYTES - of_tag);
}

/* One record of ciphertext becomes text where it lies. */
static int open_record(struct tcp_guard *guard,
		       const struct transport_operation *of,
		       const struct record *record)
{
	unsigned char *text = (unsigned char *)of->data + record->start;

	secure_begin(guard->open);
	secure_crypt(guard->open, text, text, record->bytes);
	return secure_open(guard->open, guard->tag);
}

int tcp_guard_received(struct tcp_guard *guard, const unsigned char *header,
		       const struct transport_operation *of, size_t before,
		       size_t after)
{
	struct record record;

	if (guard->wire == TRANSPORT_WIRE_AUTHENTIC) {
		secure_add(guard->open, (unsigned char *)of->data + before,
			   after - before);
		return after < of->bytes
			       ? 0
			       : secure_open(guard->open,
					     header + WIRE_HEADER_BYTES);
	}
	/* What receive_parts gives out never reaches beyond a record. */
	if (guard->wire == TRANSPORT_WIRE_ENCRYPTED && after > before &&
	    find_record(of, before, &record) &&
	    record.moved + (after - before) == record.bytes + SECURE_TAG_BYTES)
		return open_record(guard, of, &record);
	return 0;
}
