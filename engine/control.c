#include "engine/control.h"

#include "base/log.h"
#include "base/text.h"
#include "transport/secure/secure.h"
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define FIRST_BUFFER_BYTES 4096

static const char *const kind_names[CONTROL_KINDS] = {
	[CONTROL_HELLO] = "hello",   [CONTROL_WELCOME] = "welcome",
	[CONTROL_EVENT] = "event",   [CONTROL_PROGRESS] = "progress",
	[CONTROL_GATHER] = "gather", [CONTROL_GATHERED] = "gathered",
	[CONTROL_BEAT] = "beat",     [CONTROL_STATE] = "state",
	[CONTROL_STOP] = "stop",     [CONTROL_FAILED] = "failed",
	[CONTROL_ABORT] = "abort",   [CONTROL_DONE] = "done",
	[CONTROL_BYE] = "bye",       [CONTROL_JOIN] = "join",
	[CONTROL_ACCEPT] = "accept", [CONTROL_REFUSE] = "refuse",
	[CONTROL_START] = "start",   [CONTROL_KILL] = "kill",
	[CONTROL_END] = "end",       [CONTROL_ATTACH] = "attach",
	[CONTROL_ENDED] = "ended",
};

#define RECORD_BYTES (SECURE_RECORD_TEXT_BYTES_MAX + SECURE_RECORD_OVERHEAD)

/* What lies between the messages of a channel and its socket. */
struct control_seal {
	struct secure_cipher *send, *receive;
	size_t sealed_start, sealed_end; /* of the record being sent */
	size_t raw_start, raw_end;
	unsigned char sealed[RECORD_BYTES];
	unsigned char raw[RECORD_BYTES];
	unsigned char text[SECURE_RECORD_TEXT_BYTES_MAX];
};

const char *control_kind_name(enum control_kind kind)
{
	return kind_names[kind];
}

void control_encode_header(unsigned char header[CONTROL_HEADER_BYTES],
			   size_t length)
{
	for (unsigned i = 0; i < CONTROL_HEADER_BYTES; i++)
		header[i] = (unsigned char)(length >> (8 * i));
}

int control_frame(const unsigned char *bytes, size_t length, size_t limit,
		  size_t *payload_bytes)
{
	size_t promised = 0;

	if (length < CONTROL_HEADER_BYTES)
		return 0;
	for (unsigned i = 0; i < CONTROL_HEADER_BYTES; i++)
		promised |= (size_t)bytes[i] << (8 * i);
	if (promised > limit)
		return -EMSGSIZE;
	if (length - CONTROL_HEADER_BYTES < promised)
		return 0;
	*payload_bytes = promised;
	return 1;
}

int control_parse(const void *payload, size_t length, const char *origin,
		  enum control_kind *kind, json_t **message)
{
	json_t *object;
	const char *name;
	int rc;

	rc = json_parse(payload, length, origin, &object);
	if (rc < 0)
		return rc;
	rc = json_get_string(object, "kind", origin, &name);
	if (rc < 0)
		goto err_decref;
	for (unsigned i = 0; i < CONTROL_KINDS; i++) {
		if (strcmp(name, kind_names[i]) == 0) {
			*kind = (enum control_kind)i;
			*message = object;
			return 0;
		}
	}
	rc = fail(-EINVAL, "%s: unknown kind of message '%.32s'", origin, name);
err_decref:
	json_decref(object);
	return rc;
}

void control_clean_text(char *text)
{
	size_t length = strlen(text), bad;

	while (!text_is_utf8(text, length, &bad))
		text[bad] = '?';
}

void control_tune_socket(int fd)
{
	static const struct {
		int level, name, value;
	} options[] = {
		{IPPROTO_TCP, TCP_NODELAY, 1},
		{SOL_SOCKET, SO_KEEPALIVE, 1},
		{IPPROTO_TCP, TCP_KEEPIDLE, 1},
		{IPPROTO_TCP, TCP_KEEPINTVL, 1},
		{IPPROTO_TCP, TCP_KEEPCNT, 3},
		{IPPROTO_TCP, TCP_USER_TIMEOUT, 4000},
	};

	for (size_t i = 0; i < ARRAY_SIZE(options); i++)
		setsockopt(fd, options[i].level, options[i].name,
			   &options[i].value, sizeof(options[i].value));
}

int control_channel_init(struct control_channel *channel, int fd,
			 size_t limit_bytes, size_t queue_bytes, bool reserve)
{
	*channel = (struct control_channel){
		.fd = fd,
		.limit_bytes = MIN(limit_bytes, CONTROL_MESSAGE_BYTES),
		.queue_bytes = queue_bytes,
	};
	if (fcntl(fd, F_SETFD, FD_CLOEXEC) < 0 ||
	    fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK) < 0)
		return fail(-errno, "control socket %d: %s", fd,
			    strerror(errno));
	if (!reserve)
		return 0;
	channel->out = malloc(queue_bytes);
	if (!channel->out)
		return fail(-ENOMEM, "no memory for %zu bytes of messages",
			    queue_bytes);
	channel->out_capacity = queue_bytes;
	return 0;
}

static void seal_destroy(struct control_seal *seal)
{
	if (!seal)
		return;
	secure_cipher_destroy(seal->send);
	secure_cipher_destroy(seal->receive);
	explicit_bzero(seal, sizeof(*seal));
	free(seal);
}

int control_channel_seal(struct control_channel *channel,
			 const unsigned char *send_key,
			 const unsigned char *receive_key)
{
	struct control_seal *seal = calloc(1, sizeof(*seal));
	int rc;

	ASSERT(!channel->seal && !control_pending(channel) &&
	       channel->in_start == channel->in_end);
	if (!seal)
		return fail(-ENOMEM, "no memory to seal a connection");
	rc = secure_cipher_create(true, send_key, &seal->send);
	if (!rc)
		rc = secure_cipher_create(false, receive_key, &seal->receive);
	if (rc < 0) {
		seal_destroy(seal);
		return rc;
	}
	channel->seal = seal;
	return 0;
}

void control_channel_fini(struct control_channel *channel)
{
	seal_destroy(channel->seal);
	if (channel->fd >= 0)
		close(channel->fd);
	free(channel->in);
	free(channel->out);
	*channel = (struct control_channel){.fd = -1};
}

/* Room for `bytes` more at out_end. */
static int queue_make_room(struct control_channel *channel, size_t bytes)
{
	size_t waiting = channel->out_end - channel->out_start;
	size_t capacity = MAX(channel->out_capacity, FIRST_BUFFER_BYTES);
	unsigned char *grown;

	if (bytes > channel->queue_bytes ||
	    waiting > channel->queue_bytes - bytes)
		return -EAGAIN;
	if (waiting && channel->out_start)
		memmove(channel->out, channel->out + channel->out_start,
			waiting);
	channel->out_start = 0;
	channel->out_end = waiting;
	if (waiting + bytes <= channel->out_capacity)
		return 0;
	while (capacity < waiting + bytes)
		capacity *= 2;
	grown = realloc(channel->out, capacity);
	if (!grown)
		return fail(-ENOMEM, "no memory for a message of %zu bytes",
			    bytes);
	channel->out = grown;
	channel->out_capacity = capacity;
	return 0;
}

static void queue_append(struct control_channel *channel, const void *bytes,
			 size_t length)
{
	if (length)
		memcpy(channel->out + channel->out_end, bytes, length);
	channel->out_end += length;
}

int control_queue_parts(struct control_channel *channel, const char *head,
			const char *payload, size_t payload_bytes,
			const char *tail)
{
	size_t head_bytes = strlen(head), tail_bytes = strlen(tail);
	unsigned char header[CONTROL_HEADER_BYTES];
	size_t length;
	int rc;

	if (payload_bytes > CONTROL_MESSAGE_BYTES ||
	    head_bytes + tail_bytes > CONTROL_MESSAGE_BYTES - payload_bytes)
		return fail(-EMSGSIZE,
			    "a control message of %zu bytes is too long "
			    "(at most %u)",
			    payload_bytes, CONTROL_MESSAGE_BYTES);
	length = head_bytes + payload_bytes + tail_bytes;
	rc = queue_make_room(channel, length + CONTROL_HEADER_BYTES);
	if (rc < 0)
		return rc;
	control_encode_header(header, length);
	queue_append(channel, header, sizeof(header));
	queue_append(channel, head, head_bytes);
	queue_append(channel, payload, payload_bytes);
	queue_append(channel, tail, tail_bytes);
	return 0;
}

int control_queue(struct control_channel *channel, enum control_kind kind,
		  json_t *message)
{
	char *text = NULL;
	int rc;

	if (message && !json_object_set_new(message, "kind",
					    json_string(kind_names[kind])))
		text = json_dumps(message,
				  JSON_COMPACT | JSON_REAL_PRECISION(17));
	json_decref(message);
	if (!text)
		return fail(-ENOMEM, "no memory for a %s message",
			    kind_names[kind]);
	rc = control_queue_parts(channel, "", text, strlen(text), "");
	free(text);
	return rc;
}

/* Sends [*start, end) of `bytes`: 0, 1 if some is left, or negative errno. */
static int send_bytes(int fd, const unsigned char *bytes, size_t *start,
		      size_t end)
{
	while (*start < end) {
		ssize_t sent = send(fd, bytes + *start, end - *start,
				    MSG_DONTWAIT | MSG_NOSIGNAL);

		if (sent < 0 && errno == EINTR)
			continue;
		if (sent < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
			return 1;
		if (sent < 0)
			return -errno;
		*start += (size_t)sent;
	}
	return 0;
}

/* Record by record: what was sealed must go out as it is, and in order. */
static int flush_sealed(struct control_channel *channel)
{
	struct control_seal *seal = channel->seal;

	for (;;) {
		int rc = send_bytes(channel->fd, seal->sealed,
				    &seal->sealed_start, seal->sealed_end);
		size_t bytes = MIN(channel->out_end - channel->out_start,
				   SECURE_RECORD_TEXT_BYTES_MAX);

		if (rc != 0)
			return rc;
		if (bytes == 0)
			return 0;
		secure_record_seal(seal->send,
				   channel->out + channel->out_start, bytes,
				   seal->sealed);
		channel->out_start += bytes;
		seal->sealed_start = 0;
		seal->sealed_end = bytes + SECURE_RECORD_OVERHEAD;
	}
}

int control_flush(struct control_channel *channel)
{
	int rc = channel->seal
			 ? flush_sealed(channel)
			 : send_bytes(channel->fd, channel->out,
				      &channel->out_start, channel->out_end);

	if (rc == 0)
		channel->out_start = channel->out_end = 0;
	return rc;
}

bool control_pending(const struct control_channel *channel)
{
	return channel->out_start < channel->out_end ||
	       (channel->seal &&
		channel->seal->sealed_start < channel->seal->sealed_end);
}

static int fill_make_room(struct control_channel *channel)
{
	size_t unread = channel->in_end - channel->in_start;
	size_t most = channel->limit_bytes + CONTROL_HEADER_BYTES;
	size_t capacity = channel->in_capacity;
	unsigned char *grown;

	if (channel->in_start && unread)
		memmove(channel->in, channel->in + channel->in_start, unread);
	channel->in_start = 0;
	channel->in_end = unread;
	if (unread < capacity)
		return 0;
	if (capacity >= most)
		return -EMSGSIZE;
	capacity = MIN(capacity ? capacity * 2 : FIRST_BUFFER_BYTES, most);
	grown = realloc(channel->in, capacity);
	if (!grown)
		return -ENOMEM;
	channel->in = grown;
	channel->in_capacity = capacity;
	return 0;
}

/* As recv(), but negative errno; 0: nothing there now, or interrupted. */
static ssize_t receive_bytes(int fd, void *into, size_t bytes)
{
	ssize_t got;

	do {
		got = recv(fd, into, bytes, MSG_DONTWAIT);
	} while (got < 0 && errno == EINTR);
	if (got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
		return 0;
	if (got < 0)
		return -errno;
	return got ? got : -ECONNRESET;
}

static int append_text(struct control_channel *channel, size_t bytes)
{
	while (channel->in_capacity - channel->in_end < bytes) {
		size_t unread = channel->in_end - channel->in_start;
		size_t capacity =
			MAX(2 * channel->in_capacity, FIRST_BUFFER_BYTES);
		unsigned char *grown;

		if (channel->in_start) {
			memmove(channel->in, channel->in + channel->in_start,
				unread);
			channel->in_start = 0;
			channel->in_end = unread;
			continue;
		}
		grown = realloc(channel->in, capacity);
		if (!grown)
			return -ENOMEM;
		channel->in = grown;
		channel->in_capacity = capacity;
	}
	memcpy(channel->in + channel->in_end, channel->seal->text, bytes);
	channel->in_end += bytes;
	return 0;
}

/* One record of those read, if the reader is not behind: 1, 0, negative. */
static int open_record(struct control_channel *channel)
{
	struct control_seal *seal = channel->seal;
	size_t unread = channel->in_end - channel->in_start;
	size_t bytes, used;
	int rc;

	if (unread > channel->limit_bytes + CONTROL_HEADER_BYTES)
		return -EMSGSIZE;
	rc = secure_record_open(seal->receive, seal->raw + seal->raw_start,
				seal->raw_end - seal->raw_start, seal->text,
				&bytes, &used);
	if (rc <= 0)
		return rc;
	seal->raw_start += used;
	rc = append_text(channel, bytes);
	return rc < 0 ? rc : 1;
}

static int fill_sealed(struct control_channel *channel)
{
	struct control_seal *seal = channel->seal;

	for (;;) {
		int rc = open_record(channel);
		ssize_t got;

		if (rc != 0)
			return rc;
		memmove(seal->raw, seal->raw + seal->raw_start,
			seal->raw_end - seal->raw_start);
		seal->raw_end -= seal->raw_start;
		seal->raw_start = 0;
		got = receive_bytes(channel->fd, seal->raw + seal->raw_end,
				    sizeof(seal->raw) - seal->raw_end);
		if (got <= 0)
			return (int)got;
		seal->raw_end += (size_t)got;
	}
}

int control_fill(struct control_channel *channel)
{
	ssize_t got;
	int rc;

	if (channel->seal)
		return fill_sealed(channel);
	if (channel->in_end == channel->in_capacity) {
		rc = fill_make_room(channel);
		if (rc < 0)
			return rc;
	}
	got = receive_bytes(channel->fd, channel->in + channel->in_end,
			    channel->in_capacity - channel->in_end);
	if (got <= 0)
		return (int)got;
	channel->in_end += (size_t)got;
	return 1;
}

static int too_long(const struct control_channel *channel, const char *origin)
{
	return fail(-EMSGSIZE,
		    "%s: a message announces more than %zu bytes: this "
		    "is not one of our ranks, or the stream is damaged",
		    origin, channel->limit_bytes);
}

int control_forward(struct control_channel *from, struct control_channel *to,
		    const char *origin)
{
	int moved = 0;

	for (;; moved++) {
		const unsigned char *bytes = from->in + from->in_start;
		size_t length = from->in_end - from->in_start, payload_bytes;
		int rc = 0;

		if (length)
			rc = control_frame(bytes, length, from->limit_bytes,
					   &payload_bytes);
		if (rc < 0)
			return too_long(from, origin);
		if (rc == 0)
			return moved;
		payload_bytes += CONTROL_HEADER_BYTES;
		rc = queue_make_room(to, payload_bytes);
		if (rc == -EAGAIN)
			return moved;
		if (rc < 0)
			return rc;
		queue_append(to, bytes, payload_bytes);
		from->in_start += payload_bytes;
	}
}

int control_next(struct control_channel *channel, const char *origin,
		 enum control_kind *kind, json_t **message)
{
	const unsigned char *bytes = channel->in + channel->in_start;
	size_t length = channel->in_end - channel->in_start;
	size_t payload_bytes;
	int rc;

	if (!length)
		return 0;
	rc = control_frame(bytes, length, channel->limit_bytes, &payload_bytes);
	if (rc == -EMSGSIZE)
		return too_long(channel, origin);
	if (rc <= 0)
		return rc;
	rc = control_parse(bytes + CONTROL_HEADER_BYTES, payload_bytes, origin,
			   kind, message);
	if (rc < 0)
		return rc;
	channel->in_start += CONTROL_HEADER_BYTES + payload_bytes;
	return 1;
}
