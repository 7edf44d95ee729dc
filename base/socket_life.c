#include "base/socket_life.h"

#include "base/clock.h"
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/socket.h>

#define PROBE_SECONDS 1

static bool is_tcp(int fd)
{
	int domain = 0, protocol = 0;
	socklen_t length = sizeof(int);

	if (getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &length) ||
	    getsockopt(fd, SOL_SOCKET, SO_PROTOCOL, &protocol, &length))
		return false;
	return (domain == AF_INET || domain == AF_INET6) &&
	       protocol == IPPROTO_TCP;
}

void socket_life_probe(int fd, int64_t silence_ns)
{
	int on = 1, seconds = PROBE_SECONDS;
	int probes = (int)MIN((silence_ns + NS_PER_SECOND - 1) / NS_PER_SECOND -
				      PROBE_SECONDS,
			      127);

	if (silence_ns <= 0 || !is_tcp(fd))
		return;
	probes = MAX(probes, 1);
	setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &seconds, sizeof(seconds));
	setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &seconds, sizeof(seconds));
	setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &probes, sizeof(probes));
	setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
}

int socket_life_query(int fd, struct socket_life *out)
{
	struct tcp_info info;
	socklen_t length = sizeof(info);

	memset(&info, 0, sizeof(info));
	if (!is_tcp(fd) ||
	    getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &length))
		return -EOPNOTSUPP;
	*out = (struct socket_life){
		.waits = info.tcpi_unacked || info.tcpi_probes,
		.silent_ns =
			MIN(info.tcpi_last_ack_recv, info.tcpi_last_data_recv) *
			NS_PER_MS,
		.segments = info.tcpi_unacked,
	};
	return 0;
}
