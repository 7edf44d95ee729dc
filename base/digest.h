/*
 * Digests: SHA-256 (OpenSSL) for files, CRC-32C (ISA-L) for frames and
 * TensorBoard records, XXH3-64 (xxhash) for hash tables and fingerprints.
 */
#ifndef STAGECOACH_BASE_DIGEST_H
#define STAGECOACH_BASE_DIGEST_H

#include "base/compiler.h"

#define DIGEST_HEX_BYTES 65 /* 64 hexadecimal digits and a NUL */

struct digest; /* a running SHA-256 */
int digest_create(struct digest **out) MUST_CHECK;
void digest_update(struct digest *digest, const void *data, size_t length);
void digest_finish(struct digest *digest, char hex[DIGEST_HEX_BYTES]);
void digest_destroy(struct digest *digest);

int digest_file(const char *path, char hex[DIGEST_HEX_BYTES]) MUST_CHECK;
int digest_bytes(const void *data, size_t length,
		 char hex[DIGEST_HEX_BYTES]) MUST_CHECK;

/*
 * CRC-32C as in RFC 3720 (reflected 0x82F63B78, initial and final inversion):
 * "123456789" gives 0xE3069283. Continue with the previous value as `seed`;
 * start with 0.
 */
uint32_t digest_crc32c(uint32_t seed, const void *data, size_t length);

uint64_t digest_hash64(const void *data, size_t length);

#endif
