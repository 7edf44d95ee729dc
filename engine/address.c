#include "engine/address.h"

#include "base/log.h"
#include "base/text.h"
#include <arpa/inet.h>
#include <errno.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define BACKLOG 1024

int address_split(const char *text, char host[ADDRESS_HOST_BYTES],
		  unsigned *port, const char **rest)
{
	size_t length = strcspn(text, ",");
	const char *end = text + length, *host_end = end, *colon = NULL;
	const char *start = text;
	char digits[8] = "0";
	int64_t number;

	if (*text == '[') {
		start++;
		host_end = memchr(text, ']', length);
		if (!host_end)
			goto err_form;
		if (host_end + 1 < end)
			colon = host_end + 1;
	} else {
		const char *first = memchr(text, ':', length);

		if (first && !memchr(first + 1, ':', (size_t)(end - first) - 1))
			colon = host_end = first;
	}
	if (colon && (*colon != ':' || (size_t)(end - colon) > sizeof(digits) ||
		      end - colon < 2))
		goto err_form;
	if (colon)
		snprintf(digits, sizeof(digits), "%.*s", (int)(end - colon) - 1,
			 colon + 1);
	if (text_parse_integer(digits, 0, 65535, &number) ||
	    host_end == start || host_end - start >= ADDRESS_HOST_BYTES)
		goto err_form;
	memcpy(host, start, (size_t)(host_end - start));
	host[host_end - start] = '\0';
	*port = (unsigned)number;
	*rest = *end ? end + 1 : NULL;
	return 0;

err_form:
	return fail(-EINVAL,
		    "'%.200s' is not an address like node1:29500 or "
		    "[fd00::1]:29500",
		    text);
}

char *address_text(const struct address *address, bool with_port, char *buffer,
		   size_t size)
{
	char host[64] = "?", port[8] = "0";

	getnameinfo(&address->any, address->length, host, sizeof(host), port,
		    sizeof(port), NI_NUMERICHOST | NI_NUMERICSERV);
	if (!with_port)
		snprintf(buffer, size, "%s", host);
	else if (address->any.sa_family == AF_INET6)
		snprintf(buffer, size, "[%s]:%s", host, port);
	else
		snprintf(buffer, size, "%s:%s", host, port);
	return buffer;
}

void address_unmap(struct address *address)
{
	struct sockaddr_in four = {.sin_family = AF_INET,
				   .sin_port = address->six.sin6_port};

	if (address->any.sa_family != AF_INET6 ||
	    !IN6_IS_ADDR_V4MAPPED(&address->six.sin6_addr))
		return;
	memcpy(&four.sin_addr, address->six.sin6_addr.s6_addr + 12, 4);
	memset(&address->six, 0, sizeof(address->six));
	address->four = four;
	address->length = sizeof(four);
}

static void take_address(struct address *out, const struct sockaddr *from,
			 socklen_t length)
{
	memset(out, 0, sizeof(*out));
	memcpy(&out->six, from, MIN(length, sizeof(out->six)));
	out->length = length;
	address_unmap(out);
}

static int look_up(const char *host, unsigned port, int flags,
		   struct address out[ADDRESS_MAX], unsigned *count)
{
	struct addrinfo hints = {.ai_flags = flags | AI_NUMERICSERV,
				 .ai_socktype = SOCK_STREAM};
	struct addrinfo *found;
	char service[8];
	int status;

	snprintf(service, sizeof(service), "%u", port);
	status = getaddrinfo(host, service, &hints, &found);
	if (status)
		return status;
	*count = 0;
	for (struct addrinfo *a = found; a && *count < ADDRESS_MAX;
	     a = a->ai_next) {
		if (a->ai_family == AF_INET || a->ai_family == AF_INET6)
			take_address(&out[(*count)++], a->ai_addr,
				     a->ai_addrlen);
	}
	freeaddrinfo(found);
	return *count ? 0 : EAI_NONAME;
}

int address_parse(const char *text, unsigned port, struct address *out)
{
	struct address found[ADDRESS_MAX];
	unsigned count;

	if (look_up(text, port, AI_NUMERICHOST, found, &count))
		return -EINVAL;
	*out = found[0];
	return 0;
}

int address_resolve(const char *host, unsigned port,
		    struct address out[ADDRESS_MAX], unsigned *count,
		    const char **why)
{
	int status = look_up(host, port, 0, out, count);

	if (!status)
		return 0;
	*why = gai_strerror(status);
	return -EHOSTUNREACH;
}

bool address_is_loopback(const struct address *address)
{
	if (address->any.sa_family == AF_INET)
		return ntohl(address->four.sin_addr.s_addr) >> 24 == 127;
	return IN6_IS_ADDR_LOOPBACK(&address->six.sin6_addr);
}

static const void *bytes_of(const struct address *address, size_t *length)
{
	if (address->any.sa_family == AF_INET) {
		*length = 4;
		return &address->four.sin_addr;
	}
	*length = 16;
	return &address->six.sin6_addr;
}

bool address_equal(const struct address *a, const struct address *b)
{
	size_t length, unused;
	const void *bytes = bytes_of(a, &length);

	return a->any.sa_family == b->any.sa_family &&
	       memcmp(bytes, bytes_of(b, &unused), length) == 0;
}

void address_set_port(struct address *address, unsigned port)
{
	if (address->any.sa_family == AF_INET)
		address->four.sin_port = htons((uint16_t)port);
	else
		address->six.sin6_port = htons((uint16_t)port);
}

unsigned address_port(const struct address *address)
{
	return ntohs(address->any.sa_family == AF_INET
			     ? address->four.sin_port
			     : address->six.sin6_port);
}

/* ---- this machine's interfaces ---- */

/* False: of no interest (down, no IP). */
static bool of_interface(const struct ifaddrs *one, struct address *out)
{
	if (!one->ifa_addr || !(one->ifa_flags & IFF_UP))
		return false;
	if (one->ifa_addr->sa_family == AF_INET)
		take_address(out, one->ifa_addr, sizeof(struct sockaddr_in));
	else if (one->ifa_addr->sa_family == AF_INET6)
		take_address(out, one->ifa_addr, sizeof(struct sockaddr_in6));
	else
		return false;
	return true;
}

static bool is_link_local(const struct address *address)
{
	if (address->any.sa_family == AF_INET)
		return ntohl(address->four.sin_addr.s_addr) >> 16 == 0xa9fe;
	return IN6_IS_ADDR_LINKLOCAL(&address->six.sin6_addr);
}

bool address_is_local(const struct address *address)
{
	struct ifaddrs *all;
	struct address own;
	bool found = false;

	if (address_is_loopback(address))
		return true;
	if (getifaddrs(&all) < 0)
		return false;
	for (struct ifaddrs *one = all; one && !found; one = one->ifa_next)
		found = of_interface(one, &own) && address_equal(&own, address);
	freeifaddrs(all);
	return found;
}

unsigned address_list(struct address out[ADDRESS_MAX])
{
	struct ifaddrs *all;
	unsigned count = 0;

	if (getifaddrs(&all) < 0)
		return 0;
	for (struct ifaddrs *one = all; one && count < ADDRESS_MAX;
	     one = one->ifa_next) {
		if (of_interface(one, &out[count]) &&
		    !address_is_loopback(&out[count]) &&
		    !is_link_local(&out[count]))
			count++;
	}
	freeifaddrs(all);
	return count;
}

int address_route(const struct address *peer, struct address *out)
{
	struct sockaddr_in6 own;
	socklen_t length = sizeof(own);
	struct address to = *peer;
	int fd = socket(peer->any.sa_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	int rc = 0;

	if (fd < 0)
		return -errno;
	if (address_port(&to) == 0)
		address_set_port(&to, 9); /* nothing is sent */
	if (connect(fd, &to.any, to.length) < 0 ||
	    getsockname(fd, (struct sockaddr *)&own, &length) < 0)
		rc = -errno;
	else
		take_address(out, (struct sockaddr *)&own, length);
	close(fd);
	if (!rc)
		address_set_port(out, 0);
	return rc;
}

/* Does `address` lie in `network`, whose first `bits` bits count? */
static bool lies_in(const struct address *address,
		    const struct address *network, unsigned bits)
{
	size_t length, unused;
	const unsigned char *a = bytes_of(address, &length);
	const unsigned char *n = bytes_of(network, &unused);
	unsigned whole = bits / 8, rest = bits % 8;

	if (address->any.sa_family != network->any.sa_family ||
	    bits > 8 * length || memcmp(a, n, whole) != 0)
		return false;
	return !rest || (a[whole] ^ n[whole]) >> (8 - rest) == 0;
}

/* What --interface asks for. */
struct wanted {
	const char *name;       /* of an interface, if no address */
	struct address network; /* else */
	unsigned bits;
};

static int read_wanted(const char *which, struct wanted *out)
{
	const char *slash = strchr(which, '/');
	char text[ADDRESS_TEXT_BYTES];
	int64_t bits;

	*out = (struct wanted){.name = which};
	if (slash) {
		snprintf(text, sizeof(text), "%.*s", (int)(slash - which),
			 which);
		if (address_parse(text, 0, &out->network) ||
		    text_parse_integer(slash + 1, 0, 128, &bits))
			return fail(-EINVAL,
				    "--interface %s: not a network like "
				    "10.0.0.0/8",
				    which);
		out->name = NULL;
		out->bits = (unsigned)bits;
	} else if (address_parse(which, 0, &out->network) == 0) {
		out->name = NULL;
		out->bits = out->network.any.sa_family == AF_INET ? 32 : 128;
	}
	return 0;
}

static bool matches(const struct wanted *wanted, const struct ifaddrs *one,
		    const struct address *address)
{
	if (wanted->name)
		return strcmp(one->ifa_name, wanted->name) == 0 &&
		       !is_link_local(address);
	return lies_in(address, &wanted->network, wanted->bits);
}

static int no_interface(const char *which, int family,
			const struct ifaddrs *all)
{
	struct text_builder text;
	struct address address;
	char *list;
	int rc;

	text_builder_init(&text);
	for (; all; all = all->ifa_next) {
		char number[ADDRESS_TEXT_BYTES];

		if (!of_interface(all, &address) || is_link_local(&address))
			continue;
		text_builder_append(
			&text, "%s%s %s", text.length ? ", " : "",
			all->ifa_name,
			address_text(&address, false, number, sizeof(number)));
	}
	list = text_builder_finish(&text);
	rc = fail(-ENODEV, "--interface %s: no %s address here; there are %s",
		  which,
		  family == AF_INET6  ? "such IPv6"
		  : family == AF_INET ? "such IPv4"
				      : "such",
		  list ? list : "?");
	free(list);
	return rc;
}

int address_interface(const char *which, int family, struct address *out)
{
	struct address address, best;
	struct ifaddrs *all;
	struct wanted wanted;
	bool found = false;
	int rc = read_wanted(which, &wanted);

	if (rc < 0)
		return rc;
	if (getifaddrs(&all) < 0)
		return fail(-errno, "the list of interfaces: %s",
			    strerror(errno));
	for (struct ifaddrs *one = all; one; one = one->ifa_next) {
		if (!of_interface(one, &address) ||
		    !matches(&wanted, one, &address) ||
		    (family != AF_UNSPEC && address.any.sa_family != family))
			continue;
		if (!found || (best.any.sa_family == AF_INET6 &&
			       address.any.sa_family == AF_INET))
			best = address;
		found = true;
	}
	if (found)
		*out = best;
	else
		rc = no_interface(which, family, all);
	freeifaddrs(all);
	return rc;
}

int address_listen(const struct address *address, bool both_families, int *out)
{
	int one = 1, only = !both_families, rc;
	int fd = socket(address->any.sa_family,
			SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	char text[ADDRESS_TEXT_BYTES];

	if (fd < 0)
		return fail(-errno, "a socket: %s", strerror(errno));
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (address->any.sa_family == AF_INET6)
		setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &only, sizeof(only));
	if (bind(fd, &address->any, address->length) < 0 ||
	    listen(fd, BACKLOG) < 0) {
		rc = -errno;
		close(fd);
		if (rc == -EADDRINUSE)
			return rc;
		return fail(rc, "listening on %s: %s",
			    address_text(address, true, text, sizeof(text)),
			    strerror(-rc));
	}
	*out = fd;
	return 0;
}
