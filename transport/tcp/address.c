#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/files.h"
#include "base/log.h"
#include "base/text.h"
#include "transport/tcp/tcp.h"

/* Room for a few activations, so that a sender need not wait for a receiver
 * that computes. */
#define BUFFER_BYTES ((size_t)4 << 20)

/* Of sockets within the host: a name in the abstract namespace. */
#define LOCAL_PREFIX     "stagecoach-"
#define LOCAL_NAME_BYTES (sizeof(LOCAL_PREFIX) + 32)

static bool is_loopback(const struct sockaddr_storage *address)
{
	const struct sockaddr_in6 *six = (const void *)address;
	const struct sockaddr_in *four = (const void *)address;

	if (address->ss_family == AF_INET)
		return ntohl(four->sin_addr.s_addr) >> 24 == 127;
	return IN6_IS_ADDR_LOOPBACK(&six->sin6_addr);
}

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
	if (!is_loopback(out) && !keyed)
		return fail(-EACCES,
			    "tcp: %s is beyond loopback, where a job needs a "
			    "key: make one with stagecoach key > job.key, and "
			    "give all ranks --key-file job.key",
			    host);
	return 0;
}

static void local_address(const char *name, struct sockaddr_storage *out,
			  socklen_t *length)
{
	struct sockaddr_un *local = (void *)out;
	size_t bytes = strlen(name);

	memset(out, 0, sizeof(*out));
	local->sun_family = AF_UNIX;
	memcpy(local->sun_path + 1, name, bytes);
	*length =
		(socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + bytes);
}

/* Nobody takes it before us, or finds it: 128 random bits. */
static int local_bind(struct sockaddr_storage *out, socklen_t *length)
{
	char name[LOCAL_NAME_BYTES];
	uint64_t random[2];

	if (getrandom(random, sizeof(random), 0) != sizeof(random))
		return fail(-EIO, "shm: no random bytes: %s", strerror(errno));
	snprintf(name, sizeof(name), LOCAL_PREFIX "%016llx%016llx",
		 (unsigned long long)random[0], (unsigned long long)random[1]);
	local_address(name, out, length);
	return 0;
}

static int local_parse(const char *address, struct sockaddr_storage *out,
		       socklen_t *length)
{
	const char *name = address + strlen(TCP_BIND_LOCAL);

	if (strncmp(name, LOCAL_PREFIX, strlen(LOCAL_PREFIX)) != 0 ||
	    strlen(name) >= LOCAL_NAME_BYTES)
		return fail(-EINVAL,
			    "shm: \"%s\" is not an address like "
			    "shm:" LOCAL_PREFIX "0123456789",
			    address);
	local_address(name, out, length);
	return 0;
}

bool tcp_socket_is_ours(int fd)
{
	struct ucred peer = {.uid = 0};
	socklen_t length = sizeof(peer);
	int domain = 0;
	socklen_t domain_length = sizeof(domain);

	if (getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &domain_length) ||
	    domain != AF_UNIX)
		return true;
	return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &length) == 0 &&
	       peer.uid == geteuid();
}

int tcp_address_bind(const char *host, bool keyed, struct sockaddr_storage *out,
		     socklen_t *length)
{
	if (strcmp(host, TCP_BIND_LOCAL) == 0)
		return local_bind(out, length);
	return resolve(host, "0", keyed, out, length);
}

int tcp_address_parse(const char *address, bool keyed,
		      struct sockaddr_storage *out, socklen_t *length)
{
	char text[TRANSPORT_ADDRESS_BYTES];
	char *host = text + 4;
	char *colon;
	int64_t port;

	if (strncmp(address, TCP_BIND_LOCAL, strlen(TCP_BIND_LOCAL)) == 0)
		return local_parse(address, out, length);
	if (text_copy(text, sizeof(text), address))
		goto err_form;
	/* "rdma:DEVICE@HOST:PORT": its links are set up by tcp. */
	if (strncmp(text, "rdma:", 5) == 0 && strchr(text, '@'))
		host = strchr(text, '@') + 1;
	else if (strncmp(text, "tcp:", 4) != 0)
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

	memset(&address, 0, sizeof(address));
	if (getsockname(fd, (struct sockaddr *)&address, &length) == 0 &&
	    address.ss_family == AF_UNIX) {
		/* All zero behind the name. */
		snprintf(text, sizeof(text), TCP_BIND_LOCAL "%s",
			 ((struct sockaddr_un *)&address)->sun_path + 1);
		if (text_copy(out, size, text))
			return fail(-ENAMETOOLONG, "shm: no room for %s", text);
		return 0;
	}
	length = sizeof(address);
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

	/* Of a unix socket (which refuses this) the sizes do as they are. */
	if (setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one)))
		return;
	set_buffer(fd, SO_SNDBUF, "/proc/sys/net/core/wmem_max", bytes);
	set_buffer(fd, SO_RCVBUF, "/proc/sys/net/core/rmem_max", bytes);
}
