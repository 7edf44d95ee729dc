/*
 * What protects the frames of a link with a job key. Authentic: a MAC over
 * header and payload follows the payload. Encrypted: the payload travels as
 * ciphertext of the same length, and the tag that follows covers the header as
 * well. Frames are protected in their order, so that one that is repeated,
 * left out or moved is noticed. The keys are exported from the handshake.
 *
 * The slot of a message that fails the check holds whatever came; it is never
 * reported as received.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "transport/tcp/tcp.h"

#define BOUNCE_BYTES ((size_t)256 << 10)

int tcp_shield_create(struct tcp_shield *shield, struct secure_session *session,
		      bool encrypts)
{
	unsigned char keys[2][SECURE_KEY_BYTES];
	int status;

	*shield = (struct tcp_shield){.encrypts = encrypts};
	status = secure_session_export(session, "frames", keys[0], keys[1]);
	if (!status)
		status = secure_cipher_create(true, keys[0], &shield->seals);
	if (!status)
		status = secure_cipher_create(false, keys[1], &shield->opens);
	if (!status && encrypts) {
		shield->bounce = malloc(BOUNCE_BYTES);
		if (!shield->bounce)
			status = fail(-ENOMEM, "tcp: no memory to encrypt");
	}
	explicit_bzero(keys, sizeof(keys));
	if (status)
		tcp_shield_fini(shield);
	return status;
}

void tcp_shield_fini(struct tcp_shield *shield)
{
	secure_cipher_destroy(shield->seals);
	secure_cipher_destroy(shield->opens);
	free(shield->bounce);
	*shield = (struct tcp_shield){0};
}

void tcp_shield_begin(struct tcp_shield *shield, const unsigned char *header,
		      const struct transport_operation *operation)
{
	secure_begin(shield->seals);
	secure_add(shield->seals, header, WIRE_HEADER_BYTES);
	if (!shield->encrypts)
		secure_add(shield->seals, operation->data, operation->bytes);
	if (!shield->encrypts || !operation->bytes)
		secure_seal(shield->seals, shield->send_tag);
	shield->bounce_from = 0;
	shield->bounce_to = 0;
}

/* The next piece of ciphertext, once all of the last has been sent. */
static void encrypt_next(struct tcp_shield *shield,
			 const struct transport_operation *operation)
{
	const unsigned char *payload = operation->data;
	size_t from = shield->bounce_to;
	size_t bytes = MIN(operation->bytes - from, BOUNCE_BYTES);

	secure_crypt(shield->seals, payload + from, shield->bounce, bytes);
	shield->bounce_from = from;
	shield->bounce_to = from + bytes;
	if (shield->bounce_to == operation->bytes)
		secure_seal(shield->seals, shield->send_tag);
}

struct iovec tcp_shield_payload(struct tcp_shield *shield,
				const struct transport_operation *operation,
				size_t skip)
{
	unsigned char *payload = operation->data;

	if (!shield->encrypts)
		return (struct iovec){
			.iov_base = payload + skip,
			.iov_len = operation->bytes - skip,
		};
	if (skip == shield->bounce_to && skip < operation->bytes)
		encrypt_next(shield, operation);
	return (struct iovec){
		.iov_base = shield->bounce + (skip - shield->bounce_from),
		.iov_len = shield->bounce_to - skip,
	};
}

void tcp_shield_expect(struct tcp_shield *shield, const unsigned char *header)
{
	secure_begin(shield->opens);
	secure_add(shield->opens, header, WIRE_HEADER_BYTES);
}

void tcp_shield_take(struct tcp_shield *shield, unsigned char *piece,
		     size_t bytes)
{
	if (shield->encrypts)
		secure_crypt(shield->opens, piece, piece, bytes);
	else
		secure_add(shield->opens, piece, bytes);
}

int tcp_shield_open(struct tcp_shield *shield)
{
	return secure_open(shield->opens, shield->receive_tag);
}
