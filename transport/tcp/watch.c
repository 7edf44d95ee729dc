/*
 * Links whose peer no longer answers. Where nothing is under way the kernel's
 * keepalive finds out (base/socket_life.h); where something is, the look here
 * does, a few times a second while the owner makes no progress.
 */
#include <errno.h>
#include <netdb.h>
#include <stdio.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/socket_life.h"
#include "transport/tcp/tcp.h"

#define LOOK_NS (250 * NS_PER_MS)
#define JUMP_NS (1000 * NS_PER_MS)

/* "10.0.0.2", for messages. */
static void name_peer(const struct tcp_link *link, char *out, size_t size)
{
	struct sockaddr_storage address;
	socklen_t length = sizeof(address);

	if (getpeername(link->fd, (struct sockaddr *)&address, &length) ||
	    getnameinfo((struct sockaddr *)&address, length, out,
			(socklen_t)size, NULL, 0, NI_NUMERICHOST))
		snprintf(out, size, "an address unknown");
}

void tcp_watch_begin(const struct tcp_endpoint *endpoint, struct tcp_link *link)
{
	link->answered_ns = clock_now_ns();
	name_peer(link, link->host, sizeof(link->host));
	socket_life_probe(link->fd, endpoint->base.config.silence_ns);
}

static void look_at(const struct tcp_endpoint *endpoint, struct tcp_link *link,
		    int64_t now_ns)
{
	struct socket_life life;
	int64_t silent_ns;

	if (!tcp_link_live(link) || socket_life_query(link->fd, &life) < 0)
		return;
	if (!life.unanswered) {
		link->answered_ns = now_ns;
		return;
	}
	/* It may have been idle for long before it had something to answer. */
	silent_ns = MIN(life.silent_ns, now_ns - link->answered_ns);
	if (silent_ns >= endpoint->base.config.silence_ns)
		tcp_link_silent(endpoint, link, silent_ns);
}

void tcp_watch_look(struct tcp_endpoint *endpoint)
{
	int64_t now_ns;
	bool jumped;
	unsigned i;

	if (endpoint->base.config.silence_ns <= 0)
		return;
	now_ns = clock_now_ns();
	if (now_ns < endpoint->next_look_ns)
		return;
	/* Nobody is blamed for a time in which we did not look. */
	jumped = now_ns - endpoint->next_look_ns > JUMP_NS;
	endpoint->next_look_ns = now_ns + LOOK_NS;
	for (i = 0; i < endpoint->link_count; i++) {
		if (jumped)
			endpoint->links[i].answered_ns = now_ns;
		look_at(endpoint, &endpoint->links[i], now_ns);
	}
}
