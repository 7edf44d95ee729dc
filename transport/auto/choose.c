#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "transport/auto/auto.h"

#define PREFIX    "auto:"
#define SEPARATOR '|'

const char *auto_kind_name(enum auto_kind kind)
{
	static const char *const names[AUTO_KINDS] = {
		[AUTO_SHM] = "shm",
		[AUTO_RDMA] = "rdma",
		[AUTO_TCP] = "tcp",
	};

	return kind < AUTO_KINDS ? names[kind] : "none";
}

static bool read_boot(char *out, size_t size)
{
	FILE *file = fopen("/proc/sys/kernel/random/boot_id", "re");
	bool good;

	if (!file)
		return false;
	good = fgets(out, (int)size, file) != NULL;
	fclose(file);
	out[good ? strcspn(out, "\n|") : 0] = '\0';
	return good && out[0];
}

void auto_host_identity(char *out, size_t size)
{
	struct stat network;
	char boot[48];

	out[0] = '\0';
	if (!read_boot(boot, sizeof(boot)) ||
	    stat("/proc/self/ns/net", &network))
		return;
	snprintf(out, size, "%s.%" PRIuMAX ".%" PRIuMAX, boot,
		 (uintmax_t)network.st_ino, (uintmax_t)geteuid());
}

int auto_address_write(const struct auto_endpoint *endpoint, char *out,
		       size_t size)
{
	char text[TRANSPORT_ADDRESS_BYTES];
	size_t used;

	used = (size_t)snprintf(text, sizeof(text), PREFIX "%s",
				endpoint->host);
	for (unsigned i = 0; i < AUTO_KINDS && used < sizeof(text); i++) {
		const struct auto_child *child = &endpoint->child[i];

		if (child->endpoint)
			used += (size_t)snprintf(text + used,
						 sizeof(text) - used, "%c%s",
						 SEPARATOR, child->address);
	}
	if (used >= sizeof(text) || text_copy(out, size, text))
		return fail(-ENAMETOOLONG,
			    "auto: no room for the addresses of rank %u",
			    endpoint->base.config.rank);
	return 0;
}

/* The end of the piece that begins at `piece`. */
static size_t piece_bytes(const char *piece)
{
	const char *end = strchr(piece, SEPARATOR);

	return end ? (size_t)(end - piece) : strlen(piece);
}

bool auto_address_part(const char *address, enum auto_kind kind, char *out,
		       size_t size)
{
	const char *name = auto_kind_name(kind);
	const char *piece = strchr(address, SEPARATOR);
	size_t length = strlen(name);
	size_t bytes;

	while (piece) {
		piece++;
		bytes = piece_bytes(piece);
		if (bytes > length && bytes < size && piece[length] == ':' &&
		    strncmp(piece, name, length) == 0) {
			memcpy(out, piece, bytes);
			out[bytes] = '\0';
			return true;
		}
		piece = strchr(piece, SEPARATOR);
	}
	return false;
}

static bool is_same_host(const struct auto_endpoint *endpoint,
			 const char *address)
{
	const char *host = address + strlen(PREFIX);
	size_t bytes = piece_bytes(host);

	return bytes && bytes == strlen(endpoint->host) &&
	       strncmp(host, endpoint->host, bytes) == 0;
}

static void choose(struct auto_route *route, enum auto_kind kind,
		   const char *why)
{
	route->kind = kind;
	snprintf(route->why, sizeof(route->why), "%s", why);
}

static void choose_tcp(const struct auto_endpoint *endpoint, unsigned peer,
		       bool same_host, struct auto_route *out)
{
	enum auto_kind better = same_host ? AUTO_SHM : AUTO_RDMA;
	const struct auto_child *child = &endpoint->child[better];

	out->kind = AUTO_TCP;
	if (!child->endpoint)
		snprintf(out->why, sizeof(out->why), "%s, %.90s",
			 same_host ? "one host" : "another host",
			 child->why_not);
	else
		snprintf(out->why, sizeof(out->why), "%s, rank %u has no %s",
			 same_host ? "one host" : "another host", peer,
			 auto_kind_name(better));
}

int auto_choose(const struct auto_endpoint *endpoint, unsigned peer,
		const char *address, struct auto_route *out)
{
	char part[TRANSPORT_ADDRESS_BYTES];
	bool same_host;

	if (!address || strncmp(address, PREFIX, strlen(PREFIX)) != 0 ||
	    !auto_address_part(address, AUTO_TCP, part, sizeof(part)))
		return fail(-EINVAL,
			    "auto: rank %u has the address \"%s\", which does "
			    "not come from a rank with --transport auto",
			    peer, address ? address : "");
	same_host = is_same_host(endpoint, address);
	if (same_host && endpoint->child[AUTO_SHM].endpoint &&
	    auto_address_part(address, AUTO_SHM, part, sizeof(part)))
		choose(out, AUTO_SHM, "one host");
	else if (!same_host && endpoint->child[AUTO_RDMA].endpoint &&
		 auto_address_part(address, AUTO_RDMA, part, sizeof(part)))
		choose(out, AUTO_RDMA, "both hosts have it");
	else
		choose_tcp(endpoint, peer, same_host, out);
	return 0;
}
