/*
 * Secure: what keeps the uninvited out of a job's connections.
 *
 * A job has a key of 32 bytes. Two ends of a connection prove to each other
 * that they have it by TLS 1.3 with an external pre-shared key (RFC 8446,
 * sections 2.2 and 4.2.11; always with an ephemeral key exchange, never with
 * early data or certificates), before anything of ours is read or written.
 * Then TLS is left: keys are exported from it (section 7.5), one a direction,
 * and the bytes that follow are protected by them here, so that whoever moves
 * the bytes keeps its own buffers and frames.
 *
 * key.c reads and makes keys; session.c is the handshake; cipher.c the MAC and
 * the encryption of what follows; record.c a byte stream cut into sealed
 * records, for connections that have no frames of their own.
 *
 * Nothing here logs, but the functions on key files: others decide how often
 * a stranger is worth a line.
 */
#ifndef STAGECOACH_TRANSPORT_SECURE_SECURE_H
#define STAGECOACH_TRANSPORT_SECURE_SECURE_H

#include "base/compiler.h"

#define SECURE_KEY_BYTES    32
#define SECURE_TAG_BYTES    16
#define SECURE_REASON_BYTES 160

/* ---- keys ---- */

/* In a file: 64 hexadecimal digits and a line feed. */
#define SECURE_KEY_TEXT_BYTES (2 * SECURE_KEY_BYTES + 2)

/* A new random key. -EIO: the system has no random bytes to give. */
int secure_key_make(unsigned char key[SECURE_KEY_BYTES]) MUST_CHECK;

void secure_key_write(const unsigned char key[SECURE_KEY_BYTES],
		      char text[SECURE_KEY_TEXT_BYTES]);

/* White space at the end is allowed. -EINVAL (silent). */
int secure_key_parse(const char *text,
		     unsigned char key[SECURE_KEY_BYTES]) MUST_CHECK;

/*
 * From a file that is regular, belongs to this user (or root), and that no one
 * else may read. -EACCES, -EINVAL, or what opening it failed with, logged.
 */
int secure_key_load(const char *path,
		    unsigned char key[SECURE_KEY_BYTES]) MUST_CHECK;

/* ---- the handshake ---- */

/*
 * At most so much is read of a peer that has not proved itself, and kept. An
 * honest handshake takes about 500 bytes each way.
 */
#define SECURE_HANDSHAKE_BYTES_MAX 4096

struct secure_session;

/*
 * One end's half of a handshake on `fd`, a connected stream socket in
 * non-blocking mode, which stays the caller's. One end is the server. `key`
 * is copied. `purpose` (a short constant) is mixed into the proof: both ends
 * must name the same. -ENOMEM (logged).
 */
int secure_session_create(int fd, bool server,
			  const unsigned char key[SECURE_KEY_BYTES],
			  const char *purpose,
			  struct secure_session **out) MUST_CHECK;

/*
 * Goes on as far as the socket allows. 0: both ends have proved the key, and
 * not a byte behind the handshake has been read. -EAGAIN: call again when the
 * socket is ready for *events (POLLIN or POLLOUT). -EACCES: the peer has
 * another key, or none, or is no rank at all. -ECONNRESET: it hung up. Other
 * negative errno: of the socket. The caller sees to it that a slow peer does
 * not take for ever (5 s), and that not too many are held at once.
 */
int secure_session_step(struct secure_session *session,
			short *events) MUST_CHECK;

/* Why step failed, in words that follow the peer's name. */
const char *secure_session_reason(const struct secure_session *session);

/*
 * After success: keys for what this end sends and receives. `label` keeps
 * several uses of one session apart.
 */
int secure_session_export(struct secure_session *session, const char *label,
			  unsigned char send_key[SECURE_KEY_BYTES],
			  unsigned char receive_key[SECURE_KEY_BYTES])
	MUST_CHECK;

/*
 * Tells whoever is at the other end of a socket, in the words of TLS, that it
 * is not welcome; as far as that goes without blocking.
 */
void secure_refuse(int fd);

/* The first byte of a TLS record, followed by 3: what the peer talks about. */
#define SECURE_ALERT     21
#define SECURE_HANDSHAKE 22

void secure_session_destroy(struct secure_session *session);

/* ---- protection of what follows ---- */

/*
 * One direction: AES-256-GCM, with a counter for a nonce, so that both ends
 * must protect and check the same messages in the same order: one that is
 * repeated, left out or moved is found as much as one that is changed.
 * Nothing is allocated after create.
 */
struct secure_cipher;

int secure_cipher_create(bool sends, const unsigned char key[SECURE_KEY_BYTES],
			 struct secure_cipher **out) MUST_CHECK;
void secure_cipher_destroy(struct secure_cipher *cipher);

/*
 * A message: begin; then any number of add (bytes that are authenticated but
 * not encrypted; all of them first) and crypt (bytes that are both; in == out
 * is legal); then seal, or open, which is -EBADMSG (silent) when the message is
 * not the one that was sealed: the bytes crypt gave out must not be used then.
 * Only adding makes a MAC (GMAC).
 */
void secure_begin(struct secure_cipher *cipher);
void secure_add(struct secure_cipher *cipher, const void *data, size_t bytes);
void secure_crypt(struct secure_cipher *cipher, const void *in, void *out,
		  size_t bytes);
void secure_seal(struct secure_cipher *cipher,
		 unsigned char tag[SECURE_TAG_BYTES]);
int secure_open(struct secure_cipher *cipher,
		const unsigned char tag[SECURE_TAG_BYTES]) MUST_CHECK;

/* ---- sealed records ---- */

/*
 * offset 0: length n of the text, 32 bits, little endian, authenticated;
 * 4: n bytes, encrypted; 4 + n: the tag.
 */
#define SECURE_RECORD_HEADER_BYTES   4
#define SECURE_RECORD_OVERHEAD       (SECURE_RECORD_HEADER_BYTES + SECURE_TAG_BYTES)
#define SECURE_RECORD_TEXT_BYTES_MAX 65536u

/* Writes bytes + SECURE_RECORD_OVERHEAD to `out`; bytes at most the maximum. */
void secure_record_seal(struct secure_cipher *cipher, const void *text,
			size_t bytes, unsigned char *out);

/*
 * Looks at the first `have` bytes of a stream. 1: a whole record lies there;
 * its text was written to `out` (room for the maximum), *text_bytes of it,
 * and *used bytes of the stream are done with. 0: more is needed. -EMSGSIZE:
 * it promises more than the maximum; -EBADMSG: it was not sealed by the peer,
 * in this place; both silent.
 */
int secure_record_open(struct secure_cipher *cipher, const unsigned char *in,
		       size_t have, unsigned char *out, size_t *text_bytes,
		       size_t *used) MUST_CHECK;

#endif
