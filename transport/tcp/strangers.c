/*
 * Who calls when all links stand: nobody we wait for. A thousand of them are to
 * cost neither time nor memory nor lines: few may wait in the kernel, the owner
 * closes them now and then while it makes no progress, and one line tells.
 */
#include <inttypes.h>
#include <netdb.h>
#include <stdio.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "transport/tcp/tcp.h"

#define LOOK_NS        (250 * NS_PER_MS)
#define ACCEPTS_A_LOOK 64
#define BACKLOG        1024 /* while peers are waited for */
#define BACKLOG_AFTER  8

void tcp_strangers_admit(struct tcp_endpoint *endpoint)
{
	(void)!listen(endpoint->listener, BACKLOG);
}

/*
 * Each that waits in the kernel may fill a receive buffer. A peer that is early
 * for a second call of connect is among those closed, and calls again.
 */
void tcp_strangers_refuse(struct tcp_endpoint *endpoint)
{
	(void)!listen(endpoint->listener, BACKLOG_AFTER);
}

static void tell_of(const struct tcp_endpoint *endpoint, int fd)
{
	struct sockaddr_storage address;
	socklen_t length = sizeof(address);
	char host[64];

	if (getpeername(fd, (struct sockaddr *)&address, &length) ||
	    getnameinfo((struct sockaddr *)&address, length, host, sizeof(host),
			NULL, 0, NI_NUMERICHOST))
		snprintf(host, sizeof(host), "an address unknown");
	log_warning("%s: rank %u has all its links, and somebody at %s goes on "
		    "calling; such connections are closed and counted",
		    endpoint->name, endpoint->base.config.rank, host);
}

void tcp_strangers_look(struct tcp_endpoint *endpoint)
{
	int64_t now_ns;
	int fd;

	if (endpoint->listener < 0)
		return;
	now_ns = clock_now_ns();
	if (now_ns < endpoint->next_stranger_ns)
		return;
	endpoint->next_stranger_ns = now_ns + LOOK_NS;
	for (unsigned i = 0; i < ACCEPTS_A_LOOK; i++) {
		fd = accept4(endpoint->listener, NULL, NULL,
			     SOCK_CLOEXEC | SOCK_NONBLOCK);
		if (fd < 0)
			return;
		if (!endpoint->strangers++)
			tell_of(endpoint, fd);
		close(fd);
	}
}

void tcp_strangers_sum_up(const struct tcp_endpoint *endpoint)
{
	if (endpoint->strangers > 1)
		log_warning("%s: rank %u has closed %" PRIu64
			    " connections of strangers",
			    endpoint->name, endpoint->base.config.rank,
			    endpoint->strangers);
}
