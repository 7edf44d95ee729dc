#include <errno.h>

#include "transport/secure/secure.h"

void secure_record_seal(struct secure_cipher *cipher, const void *text,
			size_t bytes, unsigned char *out)
{
	ASSERT(bytes <= SECURE_RECORD_TEXT_BYTES_MAX);
	for (unsigned i = 0; i < SECURE_RECORD_HEADER_BYTES; i++)
		out[i] = (unsigned char)(bytes >> (8 * i));
	secure_begin(cipher);
	secure_add(cipher, out, SECURE_RECORD_HEADER_BYTES);
	out += SECURE_RECORD_HEADER_BYTES;
	secure_crypt(cipher, text, out, bytes);
	secure_seal(cipher, out + bytes);
}

int secure_record_open(struct secure_cipher *cipher, const unsigned char *in,
		       size_t have, unsigned char *out, size_t *text_bytes,
		       size_t *used)
{
	const unsigned char *sealed = in + SECURE_RECORD_HEADER_BYTES;
	size_t bytes = 0;
	int status;

	if (have < SECURE_RECORD_HEADER_BYTES)
		return 0;
	for (unsigned i = 0; i < SECURE_RECORD_HEADER_BYTES; i++)
		bytes |= (size_t)in[i] << (8 * i);
	if (bytes > SECURE_RECORD_TEXT_BYTES_MAX)
		return -EMSGSIZE;
	if (have < bytes + SECURE_RECORD_OVERHEAD)
		return 0;
	secure_begin(cipher);
	secure_add(cipher, in, SECURE_RECORD_HEADER_BYTES);
	secure_crypt(cipher, sealed, out, bytes);
	status = secure_open(cipher, sealed + bytes);
	if (status)
		return status;
	*text_bytes = bytes;
	*used = bytes + SECURE_RECORD_OVERHEAD;
	return 1;
}
