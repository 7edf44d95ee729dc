#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/crypto.h>
#include <openssl/evp.h>

#include "base/log.h"
#include "transport/secure/secure.h"

#define NONCE_BYTES 12
/* The library counts bytes in ints. */
#define PIECE_BYTES ((size_t)1 << 30)

struct secure_cipher {
	EVP_CIPHER_CTX *context;
	uint64_t counter;
	bool sends;
	bool broken; /* the library failed: nothing opens any more */
};

int secure_cipher_create(bool sends, const unsigned char key[SECURE_KEY_BYTES],
			 struct secure_cipher **out)
{
	struct secure_cipher *cipher = calloc(1, sizeof(*cipher));

	if (!cipher)
		goto err_memory;
	cipher->sends = sends;
	cipher->context = EVP_CIPHER_CTX_new();
	if (!cipher->context ||
	    EVP_CipherInit_ex(cipher->context, EVP_aes_256_gcm(), NULL, key,
			      NULL, sends) != 1)
		goto err_destroy;
	*out = cipher;
	return 0;

err_destroy:
	secure_cipher_destroy(cipher);
err_memory:
	return fail(-ENOMEM, "secure: no memory for a cipher");
}

void secure_cipher_destroy(struct secure_cipher *cipher)
{
	if (!cipher)
		return;
	EVP_CIPHER_CTX_free(cipher->context); /* wipes the key */
	free(cipher);
}

void secure_begin(struct secure_cipher *cipher)
{
	unsigned char nonce[NONCE_BYTES] = {0};
	uint64_t counter = cipher->counter++;

	for (unsigned i = 0; i < 8; i++)
		nonce[i] = (unsigned char)(counter >> (8 * i));
	if (EVP_CipherInit_ex(cipher->context, NULL, NULL, NULL, nonce,
			      cipher->sends) != 1)
		cipher->broken = true;
}

static void update(struct secure_cipher *cipher, const unsigned char *in,
		   unsigned char *out, size_t bytes)
{
	while (bytes) {
		int piece = (int)MIN(bytes, PIECE_BYTES);
		int written;

		if (EVP_CipherUpdate(cipher->context, out, &written, in,
				     piece) != 1)
			cipher->broken = true;
		in += piece;
		if (out)
			out += piece;
		bytes -= (size_t)piece;
	}
}

void secure_add(struct secure_cipher *cipher, const void *data, size_t bytes)
{
	update(cipher, data, NULL, bytes);
}

void secure_crypt(struct secure_cipher *cipher, const void *in, void *out,
		  size_t bytes)
{
	update(cipher, in, out, bytes);
}

void secure_seal(struct secure_cipher *cipher,
		 unsigned char tag[SECURE_TAG_BYTES])
{
	unsigned char nothing[16];
	int written;

	/* A tag of zeros is no tag: the peer refuses it. */
	memset(tag, 0, SECURE_TAG_BYTES);
	if (EVP_CipherFinal_ex(cipher->context, nothing, &written) != 1 ||
	    EVP_CIPHER_CTX_ctrl(cipher->context, EVP_CTRL_GCM_GET_TAG,
				SECURE_TAG_BYTES, tag) != 1)
		cipher->broken = true;
	if (cipher->broken)
		memset(tag, 0, SECURE_TAG_BYTES);
}

int secure_open(struct secure_cipher *cipher,
		const unsigned char tag[SECURE_TAG_BYTES])
{
	unsigned char nothing[16], copy[SECURE_TAG_BYTES];
	int written;

	memcpy(copy, tag, sizeof(copy));
	if (cipher->broken ||
	    EVP_CIPHER_CTX_ctrl(cipher->context, EVP_CTRL_GCM_SET_TAG,
				SECURE_TAG_BYTES, copy) != 1 ||
	    EVP_CipherFinal_ex(cipher->context, nothing, &written) != 1) {
		cipher->broken = true;
		return -EBADMSG;
	}
	return 0;
}
