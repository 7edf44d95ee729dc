/*
 * Control messages: what ranks and their coordinator say to each other.
 *
 * A message is a 32-bit little-endian length and that many bytes of JSON, an
 * object with a string "kind". Stream sockets only. The length is
 * compared with a limit before anything is allocated, and a buffer grows with
 * the bytes that really came, not with what a length promises.
 *
 *   rank -> coordinator
 *     hello    {version, rank, pid, host, numerics}
 *     event    {event: {...}}
 *     progress {step, action, milliseconds,     the heartbeat
 *               between, moves, wait, peer}
 *     gather   {round, value}
 *     stop     {signal}                         a rank was asked to stop
 *     failed   {code, step, message}
 *     done     {result}
 *   coordinator -> rank
 *     welcome  {rank, size, session, transport, io, threads, cores, job,
 *               silence_ms, remote, bind, key}
 *     gathered {round, values}
 *     beat     {}                               its heartbeat, over a network
 *     state    {}                               write down what you wait for
 *     stop     {}
 *     abort    {rank, reason}
 *     bye      {}
 *
 * Ranks on other hosts, or started by others: a process of ours stands between
 * them and the coordinator (engine/agent.h), which hands on what both say,
 * message by message, over a TCP connection per rank, and says by another one
 * what concerns itself.
 *   agent -> coordinator, in that connection
 *     join     {version, program, job, rank, count, size, host, machine, pid,
 *               launcher, address, cores}
 *     stop     {signal}
 *   coordinator -> agent
 *     accept   {session}
 *     refuse   {reason}
 *     start    {job, folder}                    run your ranks
 *     kill     {}                               end them at once
 *     end      {status, reason}                 there is nothing more to do
 *   agent -> coordinator, in the connection of a rank
 *     attach   {session, job, rank, pid}        its first message
 *     ended    {how}                            its last: the process is gone
 */
#ifndef STAGECOACH_ENGINE_CONTROL_H
#define STAGECOACH_ENGINE_CONTROL_H

#include "base/compiler.h"
#include "base/json.h"

#define CONTROL_VERSION       2
#define CONTROL_HEADER_BYTES  4
#define CONTROL_MESSAGE_BYTES (16u << 20) /* longest payload */

enum control_kind {
	CONTROL_HELLO,
	CONTROL_WELCOME,
	CONTROL_EVENT,
	CONTROL_PROGRESS,
	CONTROL_GATHER,
	CONTROL_GATHERED,
	CONTROL_BEAT,
	CONTROL_STATE,
	CONTROL_STOP,
	CONTROL_FAILED,
	CONTROL_ABORT,
	CONTROL_DONE,
	CONTROL_BYE,
	CONTROL_JOIN,
	CONTROL_ACCEPT,
	CONTROL_REFUSE,
	CONTROL_START,
	CONTROL_KILL,
	CONTROL_END,
	CONTROL_ATTACH,
	CONTROL_ENDED,
	CONTROL_KINDS,
};

const char *control_kind_name(enum control_kind kind);

/* ---- the format, without any socket ---- */

/* Header for a payload of `length` bytes. */
void control_encode_header(unsigned char header[CONTROL_HEADER_BYTES],
			   size_t length);

/*
 * Looks at the first `length` bytes of a stream: 1 when a whole message lies
 * there (*payload_bytes of it follow the header), 0 when more is needed,
 * -EMSGSIZE (silent) when it promises more than `limit`.
 */
int control_frame(const unsigned char *bytes, size_t length, size_t limit,
		  size_t *payload_bytes) MUST_CHECK;

/*
 * Parses one payload. The caller decrefs *message. -EINVAL, logged with
 * `origin`, for anything that is not an object of a known kind.
 */
int control_parse(const void *payload, size_t length, const char *origin,
		  enum control_kind *kind, json_t **message) MUST_CHECK;

/* Makes `text` fit for JSON in place: bytes that are not UTF-8 become '?'. */
void control_clean_text(char *text);

/* ---- one end of a connection ---- */

struct control_seal; /* private */

/*
 * A socket with its unread and unsent bytes. The sending half is bounded:
 * memory for `queue_bytes` is taken at the start if `reserve`, else
 * as needed. Not thread-safe, but sending and receiving touch different fields:
 * two threads may do one each.
 */
struct control_channel {
	int fd;
	size_t limit_bytes; /* longest payload taken in */
	unsigned char *in;
	size_t in_start, in_end, in_capacity;
	unsigned char *out;
	size_t out_start, out_end, out_capacity;
	size_t queue_bytes;
	struct control_seal *seal; /* NULL: the bytes go as they are */
};

/*
 * A TCP socket that a channel will be on: sends at once, and is given up within
 * some 4 s when the other host no longer answers. What comes is always read at
 * once, so that a window that stays shut means the same.
 */
void control_tune_socket(int fd);

/* Takes over fd, makes it non-blocking and close-on-exec. */
int control_channel_init(struct control_channel *channel, int fd,
			 size_t limit_bytes, size_t queue_bytes,
			 bool reserve) MUST_CHECK;
void control_channel_fini(struct control_channel *channel);

/*
 * From here on everything that is sent and read goes in sealed records
 * (transport/secure/secure.h), by these keys. Nothing may be queued or unread.
 */
int control_channel_seal(struct control_channel *channel,
			 const unsigned char *send_key,
			 const unsigned char *receive_key) MUST_CHECK;

/*
 * Queues `head`, `payload`, `tail` as one message. -EAGAIN (silent) when the
 * queue is full, -EMSGSIZE beyond CONTROL_MESSAGE_BYTES, -ENOMEM. Allocates
 * nothing if reserved.
 */
int control_queue_parts(struct control_channel *channel, const char *head,
			const char *payload, size_t payload_bytes,
			const char *tail) MUST_CHECK;

/* Queues a JSON object; sets its "kind". Takes over `message` (NULL: ENOMEM).*/
int control_queue(struct control_channel *channel, enum control_kind kind,
		  json_t *message) MUST_CHECK;

/* Sends what the socket takes: 0, 1 if some is left, or negative errno. */
int control_flush(struct control_channel *channel) MUST_CHECK;
bool control_pending(const struct control_channel *channel);

/*
 * Reads what has come: 1 if bytes came (there may be more: call again), 0 if
 * none are there now, -ECONNRESET (silent) at the end of the stream, -EBADMSG
 * if a record was not sealed by the peer, other negative errno (silent).
 */
int control_fill(struct control_channel *channel) MUST_CHECK;

/*
 * Takes the next whole message out of what was read: 1 and it, 0 if there is
 * none, -EINVAL or -EMSGSIZE (logged) if the stream is damaged.
 */
int control_next(struct control_channel *channel, const char *origin,
		 enum control_kind *kind, json_t **message) MUST_CHECK;

/*
 * Hands whole messages that `from` has read on to the queue of `to`, as they
 * are: how many, or -EMSGSIZE (logged). What does not fit stays in `from`.
 */
int control_forward(struct control_channel *from, struct control_channel *to,
		    const char *origin) MUST_CHECK;

#endif
