/* A plain TCP socket: blocking, or non-blocking in a loop. */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/log.h"
#include "tools/bench/raw.h"

struct socket_half {
	struct bench_raw raw;
	int fd;
	int flags; /* of send and recv */
};

static int socket_send(struct bench_raw *raw, const void *data, size_t bytes)
{
	struct socket_half *half = (struct socket_half *)raw;
	const unsigned char *at = data;
	ssize_t moved;

	while (bytes) {
		moved = send(half->fd, at, bytes, half->flags | MSG_NOSIGNAL);
		if (moved < 0 && (errno == EAGAIN || errno == EINTR))
			continue;
		if (moved < 0)
			return fail(-errno, "bench: send: %s", strerror(errno));
		at += moved;
		bytes -= (size_t)moved;
	}
	return 0;
}

static int socket_receive(struct bench_raw *raw, void *data, size_t bytes,
			  const void **where)
{
	struct socket_half *half = (struct socket_half *)raw;
	int flags = half->flags ? half->flags : MSG_WAITALL;
	unsigned char *at = data;
	ssize_t moved;

	*where = data;
	while (bytes) {
		moved = recv(half->fd, at, bytes, flags);
		if (moved < 0 && (errno == EAGAIN || errno == EINTR))
			continue;
		if (moved <= 0)
			return fail(moved ? -errno : -ECONNRESET,
				    "bench: recv: %s",
				    moved ? strerror(errno)
					  : "the other side has ended");
		at += moved;
		bytes -= (size_t)moved;
	}
	return 0;
}

static int parse_bind(const char *text, struct sockaddr_storage *out,
		      socklen_t *length)
{
	struct sockaddr_in6 *six = (struct sockaddr_in6 *)out;
	struct sockaddr_in *four = (struct sockaddr_in *)out;

	memset(out, 0, sizeof(*out));
	if (inet_pton(AF_INET, text, &four->sin_addr) == 1) {
		four->sin_family = AF_INET;
		*length = sizeof(*four);
		return 0;
	}
	if (inet_pton(AF_INET6, text, &six->sin6_addr) == 1) {
		six->sin6_family = AF_INET6;
		*length = sizeof(*six);
		return 0;
	}
	return fail(-EINVAL, "bench: \"%s\" is not a numeric address", text);
}

/* Rank 0 listens, and says where. */
static int accept_half(const struct bench_side *side, int *out)
{
	struct timeval patience = {.tv_sec = 10};
	struct sockaddr_storage address;
	socklen_t length;
	int listener;
	int status;

	status = parse_bind(side->bind, &address, &length);
	if (status)
		return status;
	listener = socket(address.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (listener < 0 ||
	    bind(listener, (struct sockaddr *)&address, length) ||
	    listen(listener, 1) ||
	    getsockname(listener, (struct sockaddr *)&address, &length)) {
		status = fail(-errno, "bench: listening: %s", strerror(errno));
		goto out_close;
	}
	status = bench_tell(side->control, &address, sizeof(address));
	if (status)
		goto out_close;
	setsockopt(listener, SOL_SOCKET, SO_RCVTIMEO, &patience,
		   sizeof(patience));
	/* A ring of an earlier cell may interrupt us while it ends. */
	do {
		*out = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
	} while (*out < 0 && errno == EINTR);
	if (*out < 0)
		status = fail(-errno, "bench: accept: %s", strerror(errno));
out_close:
	if (listener >= 0)
		close(listener);
	return status;
}

static int connect_half(const struct bench_side *side, int *out)
{
	struct sockaddr_storage address;
	socklen_t length;
	int status = bench_hear(side->control, &address, sizeof(address));

	if (status)
		return status;
	length = address.ss_family == AF_INET6 ? sizeof(struct sockaddr_in6)
					       : sizeof(struct sockaddr_in);
	*out = socket(address.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (*out < 0 || connect(*out, (struct sockaddr *)&address, length))
		return fail(-errno, "bench: connect: %s", strerror(errno));
	return 0;
}

static void socket_close(struct bench_half *base)
{
	struct socket_half *half = (struct socket_half *)base;

	if (!half)
		return;
	if (half->fd >= 0)
		close(half->fd);
	bench_raw_fini(&half->raw);
	free(half);
}

static int socket_open(const struct bench_side *side,
		       const struct bench_player *player,
		       struct bench_half **out)
{
	struct socket_half *half = calloc(1, sizeof(*half));
	int one = 1;
	int status;

	if (!half)
		return fail(-ENOMEM, "bench: no memory");
	half->fd = -1;
	half->flags = side->cell->waiting == BENCH_SLEEPING ? 0 : MSG_DONTWAIT;
	half->raw = (struct bench_raw){
		.half = {&bench_socket_ops, side, player},
		.send = socket_send,
		.receive = socket_receive,
	};
	status = bench_raw_init(&half->raw);
	if (!status)
		status = side->rank ? connect_half(side, &half->fd)
				    : accept_half(side, &half->fd);
	if (status) {
		socket_close(&half->raw.half);
		return status;
	}
	setsockopt(half->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	*out = &half->raw.half;
	return 0;
}

const struct bench_half_ops bench_socket_ops = {
	.open = socket_open,
	.play = bench_raw_play,
	.close = socket_close,
};
