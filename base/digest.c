#include "base/digest.h"

#include <errno.h>
#include <fcntl.h>
#include <isa-l/crc.h>
#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <xxhash.h>

#include "base/log.h"

struct digest {
	EVP_MD_CTX *context;
};

int digest_create(struct digest **out)
{
	struct digest *digest = malloc(sizeof(*digest));

	if (!digest)
		return fail(-ENOMEM, "SHA-256: out of memory");
	digest->context = EVP_MD_CTX_new();
	if (!digest->context)
		goto err_free;
	if (EVP_DigestInit_ex(digest->context, EVP_sha256(), NULL) != 1)
		goto err_context;
	*out = digest;
	return 0;

err_context:
	EVP_MD_CTX_free(digest->context);
err_free:
	free(digest);
	return fail(-ENOMEM, "SHA-256: OpenSSL could not start a digest");
}

void digest_update(struct digest *digest, const void *data, size_t length)
{
	/* Can only fail on a context that was never initialised: a bug. */
	ASSERT(EVP_DigestUpdate(digest->context, data, length) == 1);
}

void digest_finish(struct digest *digest, char hex[DIGEST_HEX_BYTES])
{
	static const char digits[] = "0123456789abcdef";
	unsigned char raw[EVP_MAX_MD_SIZE];
	unsigned length = 0;
	unsigned i;

	ASSERT(EVP_DigestFinal_ex(digest->context, raw, &length) == 1);
	ASSERT(length == 32);
	for (i = 0; i < length; i++) {
		hex[2 * i] = digits[raw[i] >> 4];
		hex[2 * i + 1] = digits[raw[i] & 15];
	}
	hex[64] = '\0';
}

void digest_destroy(struct digest *digest)
{
	if (!digest)
		return;
	EVP_MD_CTX_free(digest->context);
	free(digest);
}

static int digest_descriptor(int fd, const char *path, struct digest *digest)
{
	unsigned char buffer[65536];
	ssize_t got;

	for (;;) {
		got = read(fd, buffer, sizeof(buffer));
		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0) {
			int code = -errno;

			return fail(code, "%s: cannot read: %s", path,
				    strerror(-code));
		}
		if (got == 0)
			return 0;
		digest_update(digest, buffer, (size_t)got);
	}
}

int digest_file(const char *path, char hex[DIGEST_HEX_BYTES])
{
	struct digest *digest;
	int code;
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0) {
		code = -errno;
		return fail(code, "%s: cannot open: %s", path, strerror(-code));
	}
	code = digest_create(&digest);
	if (code)
		goto err_close;
	code = digest_descriptor(fd, path, digest);
	if (!code)
		digest_finish(digest, hex);
	digest_destroy(digest);
err_close:
	close(fd);
	return code;
}

int digest_bytes(const void *data, size_t length, char hex[DIGEST_HEX_BYTES])
{
	struct digest *digest;
	int code = digest_create(&digest);

	if (code)
		return code;
	digest_update(digest, data, length);
	digest_finish(digest, hex);
	digest_destroy(digest);
	return 0;
}

uint32_t digest_crc32c(uint32_t seed, const void *data, size_t length)
{
	/* ISA-L wants int lengths, a pointer to non-const, and inverts nothing. */
	unsigned char *bytes = (unsigned char *)(uintptr_t)data;
	uint32_t crc = ~seed;

	while (length > 0) {
		size_t part = MIN(length, (size_t)1 << 30);

		crc = crc32_iscsi(bytes, (int)part, crc);
		bytes += part;
		length -= part;
	}
	return ~crc;
}

uint64_t digest_hash64(const void *data, size_t length)
{
	return XXH3_64bits(data, length);
}
