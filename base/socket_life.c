#include "base/socket_life.h"

#include "base/clock.h"
#include <errno.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>

#define PROBE_SECONDS 1
#define ROUND_TRIP_MS 50

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
	unsigned silent_ms;

	memset(&info, 0, sizeof(info));
	if (!is_tcp(fd) ||
	    getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &length))
		return -EOPNOTSUPP;
	silent_ms = MIN(info.tcpi_last_ack_recv, info.tcpi_last_data_recv);
	/*
	 * A peer whose window is shut, or whose memory is short, answers each
	 * packet and acknowledges nothing, while the kernel tries less and
	 * less often: what counts is whether the last try was answered. Probes
	 * carry no data; tcpi_probes counts those without an answer.
	 */
	out->silent_ns = silent_ms * NS_PER_MS;
	out->data_silent_ns = info.tcpi_last_data_recv * NS_PER_MS;
	out->in_flight = info.tcpi_unacked;
	out->acknowledged_bytes = info.tcpi_bytes_acked;
	out->unanswered =
		info.tcpi_probes ||
		(info.tcpi_unacked &&
		 silent_ms > info.tcpi_last_data_sent + ROUND_TRIP_MS);
	return 0;
}

bool socket_life_answers(int fd, uint64_t *acknowledged_bytes)
{
	uint64_t before = *acknowledged_bytes;
	struct socket_life life;

	if (socket_life_query(fd, &life) < 0)
		return false;
	*acknowledged_bytes = life.acknowledged_bytes;
	return life.acknowledged_bytes != before ||
	       (!life.in_flight && !life.unanswered);
}
