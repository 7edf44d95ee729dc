/*
 * Connections that are none of ours: turned away, and told of once. Anyone who
 * reaches the port may try a thousand times; that is to cost neither memory
 * nor lines.
 */
#include <errno.h>
#include <inttypes.h>
#include <netdb.h>
#include <stdio.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "transport/tcp/tcp.h"

#define LOOK_NS        (250 * NS_PER_MS)
#define ACCEPTS_A_LOOK 64
#define BACKLOG        1024 /* while we wait for peers */
#define BACKLOG_IDLE   8    /* and when we have them */

static void name_of(int fd, char *out, size_t size)
{
	struct sockaddr_storage address;
	socklen_t length = sizeof(address);

	if (getpeername(fd, (struct sockaddr *)&address, &length) ||
	    getnameinfo((struct sockaddr *)&address, length, out,
			(socklen_t)size, NULL, 0, NI_NUMERICHOST))
		snprintf(out, size, "an address unknown");
}

void tcp_stranger_note(struct tcp_endpoint *endpoint, int fd, const char *why)
{
	char host[64];

	if (endpoint->strangers++)
		return;
	name_of(fd, host, sizeof(host));
	log_warning("tcp: rank %u turns away a connection from %s: %s; others "
		    "like it are counted, not told of",
		    endpoint->base.config.rank, host, why);
}

/* With bytes unread, close would reset and take our answer along. */
void tcp_stranger_drain(int fd)
{
	unsigned char bytes[4096];

	(void)!recv(fd, bytes, sizeof(bytes), MSG_DONTWAIT);
}

int tcp_stranger_begin(struct tcp_endpoint *endpoint)
{
	if (listen(endpoint->listener, BACKLOG))
		return -errno;
	return 0;
}

/* What waits in the kernel takes its memory, not ours, but it shall be little. */
void tcp_stranger_end(struct tcp_endpoint *endpoint)
{
	(void)!listen(endpoint->listener, BACKLOG_IDLE);
}

static void close_some(struct tcp_endpoint *endpoint)
{
	int fd;

	for (unsigned i = 0; i < ACCEPTS_A_LOOK; i++) {
		fd = accept4(endpoint->listener, NULL, NULL,
			     SOCK_CLOEXEC | SOCK_NONBLOCK);
		if (fd < 0)
			return;
		tcp_stranger_note(endpoint, fd, "all links stand already");
		close(fd);
	}
}

void tcp_stranger_look(struct tcp_endpoint *endpoint)
{
	int64_t now_ns;

	if (endpoint->listener < 0)
		return;
	now_ns = clock_now_ns();
	if (now_ns < endpoint->next_stranger_ns)
		return;
	endpoint->next_stranger_ns = now_ns + LOOK_NS;
	close_some(endpoint);
}

void tcp_stranger_sum_up(const struct tcp_endpoint *endpoint)
{
	if (endpoint->strangers > 1)
		log_warning("tcp: rank %u turned away %" PRIu64
			    " connections in all",
			    endpoint->base.config.rank, endpoint->strangers);
}
