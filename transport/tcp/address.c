#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/files.h"
#include "base/log.h"
#include "base/text.h"
#include "transport/tcp/tcp.h"

/* Room for a few activations, so that a sender need not wait for a receiver
 * that computes. */
#define BUFFER_BYTES ((size_t)4 << 20)

static bool is_loopback(const struct sockaddr_storage *address)
{
	const struct sockaddr_in6 *six = (const void *)address;
	const struct sockaddr_in *four = (const void *)address;

	if (address->ss_family == AF_INET)
		return ntohl(four->sin_addr.s_addr) >> 24 == 127;
	return IN6_IS_ADDR_LOOPBACK(&six->sin6_addr);
}

static bool is_anything(const struct sockaddr_storage *address)
{
	const struct sockaddr_in6 *six = (const void *)address;
	const struct sockaddr_in *four = (const void *)address;

	if (address->ss_family == AF_INET)
		return four->sin_addr.s_addr == htonl(INADDR_ANY);
	return IN6_IS_ADDR_UNSPECIFIED(&six->sin6_addr);
}

/* keyed: there is a job key, so that strangers find the door locked. */
static int resolve(const char *host, const char *port, bool keyed,
		   struct sockaddr_storage *out, socklen_t *length)
{
	struct addrinfo hints = {
		.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV,
		.ai_socktype = SOCK_STREAM,
	};
	struct addrinfo *found;
	int status;

	status = getaddrinfo(host, port, &hints, &found);
	if (status)
		return fail(-EINVAL, "tcp: %s port %s: %s", host, port,
			    gai_strerror(status));
	memset(out, 0, sizeof(*out));
	memcpy(out, found->ai_addr, found->ai_addrlen);
	*length = found->ai_addrlen;
	freeaddrinfo(found);
	if (!keyed && !is_loopback(out))
		return fail(-EACCES,
			    "tcp: %s is beyond loopback, and links between "
			    "hosts need a job key: make one with `stagecoach "
			    "key > job.key`, copy it to every host, and give "
			    "--key-file job.key",
			    host);
	if (is_anything(out))
		return fail(-EINVAL,
			    "tcp: %s is no address that a peer could call; "
			    "name that of an interface",
			    host);
	return 0;
}

int tcp_address_bind(const char *host, bool keyed, struct sockaddr_storage *out,
		     socklen_t *length)
{
	return resolve(host, "0", keyed, out, length);
}

int tcp_address_parse(const char *address, bool keyed,
		      struct sockaddr_storage *out, socklen_t *length)
{
	char text[TRANSPORT_ADDRESS_BYTES];
	char *host = text + 4;
	char *colon;
	int64_t port;

	if (text_copy(text, sizeof(text), address) ||
	    strncmp(text, "tcp:", 4) != 0)
		goto err_form;
	colon = strrchr(host, ':');
	if (!colon || text_parse_integer(colon + 1, 1, 65535, &port))
		goto err_form;
	*colon = '\0';
	if (host[0] == '[') {
		if (colon[-1] != ']')
			goto err_form;
		colon[-1] = '\0';
		host++;
	}
	return resolve(host, colon + 1, keyed, out, length);

err_form:
	return fail(-EINVAL,
		    "tcp: \"%s\" is not an address like tcp:127.0.0.1:41233",
		    address);
}

int tcp_address_of(int fd, char *out, size_t size)
{
	struct sockaddr_storage address;
	socklen_t length = sizeof(address);
	char text[TRANSPORT_ADDRESS_BYTES];
	char host[64];
	char port[16];

	if (getsockname(fd, (struct sockaddr *)&address, &length) ||
	    getnameinfo((struct sockaddr *)&address, length, host, sizeof(host),
			port, sizeof(port), NI_NUMERICHOST | NI_NUMERICSERV))
		return fail(-EINVAL, "tcp: the listening socket has no name");
	if (address.ss_family == AF_INET6)
		snprintf(text, sizeof(text), "tcp:[%s]:%s", host, port);
	else
		snprintf(text, sizeof(text), "tcp:%s:%s", host, port);
	if (text_copy(out, size, text))
		return fail(-ENAMETOOLONG, "tcp: no room for %s", text);
	return 0;
}

/* What an unprivileged process may ask for. */
static size_t allowed_bytes(const char *path)
{
	char text[32] = "";
	FILE *file = fopen(path, "re");
	size_t length;

	if (!file)
		return 0;
	length = fread(text, 1, sizeof(text) - 1, file);
	fclose(file);
	text[length] = '\0';
	return strtoul(text, NULL, 10);
}

/*
 * Setting a size turns the kernel's own tuning off, hence only where all of
 * it is granted: a host with small limits is better off with the tuning.
 */
static void set_buffer(int fd, int option, const char *limit, size_t bytes)
{
	int value = (int)bytes;

	if (allowed_bytes(limit) >= bytes)
		setsockopt(fd, SOL_SOCKET, option, &value, sizeof(value));
}

void tcp_socket_tune(int fd, size_t buffer_bytes)
{
	size_t bytes = buffer_bytes ? buffer_bytes : BUFFER_BYTES;
	int one = 1;

	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	set_buffer(fd, SO_SNDBUF, "/proc/sys/net/core/wmem_max", bytes);
	set_buffer(fd, SO_RCVBUF, "/proc/sys/net/core/rmem_max", bytes);
}
