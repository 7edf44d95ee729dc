#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/ssl.h>

#include "base/log.h"
#include "transport/secure/secure.h"

#define IDENTITY "stagecoach"
/* A TLS record: type, version, length; then so many bytes. */
#define RECORD_HEADER_BYTES 5
#define OUT_BYTES           4096

struct secure_session {
	int fd;
	bool server;
	bool proved; /* the library is done; what it wrote may be unsent */
	unsigned char key[SECURE_KEY_BYTES];
	char purpose[32];
	SSL *ssl;
	BIO *in, *out; /* the library's ends, in memory */
	/* One record at a time, so that nothing behind the last is read. */
	unsigned char record[SECURE_HANDSHAKE_BYTES_MAX];
	size_t have, total;
	unsigned char unsent[OUT_BYTES];
	size_t unsent_from, unsent_to;
	char reason[SECURE_REASON_BYTES];
};

/* ---- the pre-shared key, as the library asks for it ---- */

static int session_index = -1;

static struct secure_session *session_of(SSL *ssl)
{
	return SSL_get_ex_data(ssl, session_index);
}

/* TLS_AES_256_GCM_SHA384; RFC 8446, appendix B.4. */
static SSL_SESSION *make_psk(SSL *ssl, const struct secure_session *session)
{
	static const unsigned char suite[2] = {0x13, 0x02};
	const SSL_CIPHER *cipher = SSL_CIPHER_find(ssl, suite);
	SSL_SESSION *psk = SSL_SESSION_new();

	if (psk && cipher &&
	    SSL_SESSION_set1_master_key(psk, session->key, SECURE_KEY_BYTES) ==
		    1 &&
	    SSL_SESSION_set_cipher(psk, cipher) == 1 &&
	    SSL_SESSION_set_protocol_version(psk, TLS1_3_VERSION) == 1)
		return psk;
	SSL_SESSION_free(psk);
	return NULL;
}

static void psk_identity(const struct secure_session *session, char *out,
			 size_t size)
{
	snprintf(out, size, IDENTITY " %s", session->purpose);
}

static int client_psk(SSL *ssl, const EVP_MD *digest,
		      const unsigned char **identity, size_t *bytes,
		      SSL_SESSION **out)
{
	struct secure_session *session = session_of(ssl);
	static _Thread_local char name[64];
	SSL_SESSION *psk = make_psk(ssl, session);

	if (!psk)
		return 0;
	if (digest && digest != SSL_CIPHER_get_handshake_digest(
					SSL_SESSION_get0_cipher(psk))) {
		SSL_SESSION_free(psk);
		*out = NULL;
		return 1;
	}
	psk_identity(session, name, sizeof(name));
	*identity = (const unsigned char *)name;
	*bytes = strlen(name);
	*out = psk;
	return 1;
}

static int server_psk(SSL *ssl, const unsigned char *identity, size_t bytes,
		      SSL_SESSION **out)
{
	struct secure_session *session = session_of(ssl);
	char name[64];

	psk_identity(session, name, sizeof(name));
	*out = NULL;
	if (bytes == strlen(name) && memcmp(identity, name, bytes) == 0)
		*out = make_psk(ssl, session);
	return 1;
}

/* ---- life ---- */

static SSL_CTX *create_context(bool server)
{
	SSL_CTX *context =
		SSL_CTX_new(server ? TLS_server_method() : TLS_client_method());

	if (!context)
		return NULL;
	SSL_CTX_set_options(context,
			    SSL_OP_NO_TICKET | SSL_OP_NO_RENEGOTIATION);
	SSL_CTX_clear_options(context, SSL_OP_ENABLE_MIDDLEBOX_COMPAT);
	SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
	/* No server's certificate is ever good enough: the key alone is. */
	if (!server)
		SSL_CTX_set_verify(context, SSL_VERIFY_PEER, NULL);
	if (SSL_CTX_set_min_proto_version(context, TLS1_3_VERSION) != 1 ||
	    SSL_CTX_set_num_tickets(context, 0) != 1 ||
	    SSL_CTX_set_ciphersuites(context, "TLS_AES_256_GCM_SHA384") != 1 ||
	    SSL_CTX_set1_groups_list(context, "X25519:P-256") != 1) {
		SSL_CTX_free(context);
		return NULL;
	}
	SSL_CTX_set_psk_use_session_callback(context, client_psk);
	SSL_CTX_set_psk_find_session_callback(context, server_psk);
	return context;
}

/*
 * One for all connections of a side: making it is the dearest part of a
 * handshake that a stranger could have us begin. They know no key.
 */
static CRYPTO_ONCE once = CRYPTO_ONCE_STATIC_INIT;
static SSL_CTX *contexts[2]; /* client, server; NULL: no memory */

static void create_contexts(void)
{
	session_index = SSL_get_ex_new_index(0, NULL, NULL, NULL, NULL);
	contexts[false] = create_context(false);
	contexts[true] = create_context(true);
}

static int create_ssl(struct secure_session *session)
{
	if (!contexts[session->server])
		return -ENOMEM;
	session->ssl = SSL_new(contexts[session->server]);
	session->in = BIO_new(BIO_s_mem());
	session->out = BIO_new(BIO_s_mem());
	if (!session->ssl || !session->in || !session->out) {
		BIO_free(session->in);
		BIO_free(session->out);
		return -ENOMEM;
	}
	SSL_set_bio(session->ssl, session->in, session->out);
	if (SSL_set_ex_data(session->ssl, session_index, session) != 1)
		return -ENOMEM;
	if (session->server)
		SSL_set_accept_state(session->ssl);
	else
		SSL_set_connect_state(session->ssl);
	return 0;
}

int secure_session_create(int fd, bool server,
			  const unsigned char key[SECURE_KEY_BYTES],
			  const char *purpose, struct secure_session **out)
{
	struct secure_session *session = calloc(1, sizeof(*session));

	if (!session)
		goto err_memory;
	session->fd = fd;
	session->server = server;
	memcpy(session->key, key, SECURE_KEY_BYTES);
	snprintf(session->purpose, sizeof(session->purpose), "%s", purpose);
	if (!CRYPTO_THREAD_run_once(&once, create_contexts) ||
	    session_index < 0 || create_ssl(session))
		goto err_destroy;
	*out = session;
	return 0;

err_destroy:
	secure_session_destroy(session);
err_memory:
	ERR_clear_error();
	return fail(-ENOMEM, "secure: no memory for a handshake");
}

void secure_session_destroy(struct secure_session *session)
{
	if (!session)
		return;
	SSL_free(session->ssl);
	OPENSSL_cleanse(session, sizeof(*session));
	free(session);
}

const char *secure_session_reason(const struct secure_session *session)
{
	return session->reason;
}

static int refuse(struct secure_session *session, int status, const char *why)
{
	snprintf(session->reason, sizeof(session->reason), "%s", why);
	return status;
}

/* ---- bytes between the library and the socket ---- */

static int send_unsent(struct secure_session *session)
{
	ssize_t sent;

	for (;;) {
		if (session->unsent_from == session->unsent_to) {
			int got = BIO_read(session->out, session->unsent,
					   sizeof(session->unsent));

			session->unsent_from = 0;
			session->unsent_to = got > 0 ? (size_t)got : 0;
			if (got <= 0)
				return 0;
		}
		sent = send(session->fd, session->unsent + session->unsent_from,
			    session->unsent_to - session->unsent_from,
			    MSG_NOSIGNAL | MSG_DONTWAIT);
		if (sent >= 0)
			session->unsent_from += (size_t)sent;
		else if (errno != EINTR)
			return errno == EAGAIN ? -EAGAIN : -errno;
	}
}

/*
 * The version in front of a record is authenticated by nothing and ignored by
 * TLS. Both ends are ours, so that what it has to be is known (RFC 8446, 5.1).
 */
static bool version_is_wrong(const struct secure_session *session)
{
	bool first = session->server && session->total <= RECORD_HEADER_BYTES;

	return session->record[1] != 3 || session->record[2] != (first ? 1 : 3);
}

/* How many bytes the record in hand still lacks; -EACCES: too many. */
static ssize_t missing(const struct secure_session *session)
{
	size_t whole = RECORD_HEADER_BYTES;

	if (session->have == RECORD_HEADER_BYTES && version_is_wrong(session))
		return -EACCES;
	if (session->have >= RECORD_HEADER_BYTES)
		whole += (size_t)session->record[3] << 8 | session->record[4];
	if (whole > sizeof(session->record) ||
	    session->total + (whole - session->have) >
		    SECURE_HANDSHAKE_BYTES_MAX)
		return -EACCES;
	return (ssize_t)(whole - session->have);
}

/* One whole record into the library: 0, -EAGAIN, or why not. */
static int receive_record(struct secure_session *session)
{
	for (;;) {
		ssize_t want = missing(session);
		ssize_t got;

		if (want < 0)
			return refuse(session, (int)want,
				      "has no job key (--key-file), or is no "
				      "rank");
		if (want == 0)
			break;
		got = recv(session->fd, session->record + session->have,
			   (size_t)want, MSG_DONTWAIT);
		if (got == 0)
			return refuse(session, -ECONNRESET,
				      "hung up during the handshake");
		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0 && errno == EAGAIN)
			return -EAGAIN;
		if (got < 0)
			return refuse(session, -errno, strerror(errno));
		session->have += (size_t)got;
		session->total += (size_t)got;
	}
	if (BIO_write(session->in, session->record, (int)session->have) !=
	    (int)session->have)
		return refuse(session, -ENOMEM, "no memory for its handshake");
	session->have = 0;
	return 0;
}

/* ---- the handshake ---- */

static int give_up(struct secure_session *session)
{
	ERR_clear_error();
	(void)!send_unsent(session); /* the alert; as far as it goes */
	return refuse(session, -EACCES,
		      "has another job key, or none, or is no rank");
}

/* 0: done; 1: the library wants a record; -EACCES. */
static int advance(struct secure_session *session)
{
	int result;

	ERR_clear_error();
	result = SSL_do_handshake(session->ssl);
	if (result == 1) {
		/* No other way in: the key itself was the proof. */
		if (!SSL_session_reused(session->ssl))
			return give_up(session);
		session->proved = true;
		return 0;
	}
	if (SSL_get_error(session->ssl, result) == SSL_ERROR_WANT_READ)
		return 1;
	return give_up(session);
}

static int flush(struct secure_session *session, short *events)
{
	int status = send_unsent(session);

	*events = POLLOUT;
	if (status && status != -EAGAIN)
		return refuse(session, status, strerror(-status));
	return status;
}

int secure_session_step(struct secure_session *session, short *events)
{
	int status;

	for (;;) {
		int wants = session->proved ? 0 : advance(session);

		if (wants < 0)
			return wants;
		status = flush(session, events);
		if (status || !wants)
			return status;
		status = receive_record(session);
		*events = POLLIN;
		if (status)
			return status;
	}
}

void secure_refuse(int fd)
{
	/* A fatal alert: access_denied (RFC 8446, section 6). */
	static const unsigned char alert[] = {SECURE_ALERT, 3, 3, 0, 2, 2, 49};
	ssize_t sent;

	sent = send(fd, alert, sizeof(alert), MSG_NOSIGNAL | MSG_DONTWAIT);
	(void)sent;
}

int secure_session_export(struct secure_session *session, const char *label,
			  unsigned char send_key[SECURE_KEY_BYTES],
			  unsigned char receive_key[SECURE_KEY_BYTES])
{
	static const char *const from[2] = {"client", "server"};

	for (unsigned i = 0; i < 2; i++) {
		bool mine = session->server == (i == 1);
		char text[96];

		snprintf(text, sizeof(text), "EXPORTER-stagecoach %s from %s",
			 label, from[i]);
		if (SSL_export_keying_material(session->ssl,
					       mine ? send_key : receive_key,
					       SECURE_KEY_BYTES, text,
					       strlen(text), NULL, 0, 0) != 1)
			return fail(-EACCES,
				    "secure: no keys from the handshake");
	}
	return 0;
}
