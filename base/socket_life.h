/*
 * Does the other end of a TCP connection still answer?
 *
 * A host that vanished, or a cable that was pulled, says nothing: a receiver
 * waits for ever and a sender for a quarter of an hour. Two things shorten
 * that. An idle connection, or one that only receives, is probed by the kernel
 * (socket_life_probe()). One with unanswered bytes is not probed; there the
 * time since the last packet of the peer tells (socket_life_query()).
 *
 * TCP_USER_TIMEOUT would do both and is not used: it also ends a connection
 * whose peer is well, answers every probe of its closed window, and only
 * computes for longer than that before it reads on.
 *
 * Both look at the peer's kernel: a process that is stopped still answers.
 */
#ifndef STAGECOACH_BASE_SOCKET_LIFE_H
#define STAGECOACH_BASE_SOCKET_LIFE_H

#include "base/compiler.h"

/*
 * Has the kernel probe the peer every second while nothing comes, and fail
 * the connection with ETIMEDOUT after about silence_ns (at least 2 s; 0 or less:
 * never, as without this call). Sockets that are not TCP stay as they are.
 */
void socket_life_probe(int fd, int64_t silence_ns);

struct socket_life {
	bool unanswered;        /* the latest packet sent, for now at least */
	int64_t silent_ns;      /* since the last packet of the peer */
	int64_t data_silent_ns; /* since its last bytes */
	unsigned in_flight;     /* segments sent and not acknowledged */
	uint64_t acknowledged_bytes;
};

/* -EOPNOTSUPP (silent) for a socket that is not TCP. */
int socket_life_query(int fd, struct socket_life *out) MUST_CHECK;

/*
 * Whether the peer's kernel takes what it is sent, its program aside: it has
 * acknowledged something since the last call, or has nothing to. To be asked
 * now and then, with the same *acknowledged_bytes (0 at first), on a
 * connection that something is sent on all the time. That packets come says
 * less: they may be those that try again. False for what is not TCP.
 */
bool socket_life_answers(int fd, uint64_t *acknowledged_bytes);

#endif
