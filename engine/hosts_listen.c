/* Where rank 0's process listens, and which addresses others may use. */
#include "base/log.h"
#include "base/text.h"
#include "engine/hosts_internal.h"
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static void any_address(struct address *out)
{
	memset(out, 0, sizeof(*out));
	out->six.sin6_family = AF_INET6;
	out->length = sizeof(out->six);
}

static void loopback_address(struct address *out)
{
	memset(out, 0, sizeof(*out));
	out->four.sin_family = AF_INET;
	out->four.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	out->length = sizeof(out->four);
}

static bool is_loopback_name(const char *host)
{
	struct address address;

	return strcmp(host, "localhost") == 0 ||
	       (address_parse(host, 0, &address) == 0 &&
		address_is_loopback(&address));
}

/* The host that place.coordinator names first, and its port. */
static int told(const struct hosts *hosts, char host[ADDRESS_HOST_BYTES],
		unsigned *port)
{
	const char *rest;

	host[0] = '\0';
	*port = 0;
	if (!hosts->place.coordinator[0])
		return 0;
	return address_split(hosts->place.coordinator, host, port, &rest);
}

/*
 * A name that is ours: its address here. Names of hosts often mean 127.0.1.1
 * on the host itself and the real address elsewhere, hence: of a name that
 * is only loopback here, nothing is concluded (false).
 */
static bool own_address_of(const char *host, struct address *out)
{
	struct address found[ADDRESS_MAX];
	unsigned count;
	const char *why;

	if (!host[0] || address_resolve(host, 0, found, &count, &why) < 0)
		return false;
	for (unsigned i = 0; i < count; i++) {
		if ((!address_is_loopback(&found[i]) ||
		     is_loopback_name(host)) &&
		    address_is_local(&found[i])) {
			*out = found[i];
			return true;
		}
	}
	return false;
}

/* With --hosts: the one address that all of them are reached from. */
static bool own_address_towards(const struct nodelist *list,
				struct address *out)
{
	struct address found[ADDRESS_MAX], own;
	bool any = false;
	unsigned count;
	const char *why;

	for (unsigned i = 0; list && i < list->count; i++) {
		const char *name = list->hosts[i].name;
		const char *at = strrchr(name, '@');

		if (address_resolve(at ? at + 1 : name, 0, found, &count,
				    &why) < 0)
			return false; /* a name that only ssh knows */
		if (address_is_local(&found[0]))
			continue;
		if (address_route(&found[0], &own) < 0 ||
		    address_is_loopback(&own) ||
		    (any && !address_equal(&own, out)))
			return false;
		*out = own;
		any = true;
	}
	return any;
}

/* By which kind of address the others will come, as far as one can tell. */
static int family_of(const char *host)
{
	struct address found[ADDRESS_MAX];
	unsigned count;
	const char *why;

	if (!host[0] || address_resolve(host, 0, found, &count, &why) < 0)
		return AF_UNSPEC;
	for (unsigned i = 1; i < count; i++) {
		if (found[i].any.sa_family != found[0].any.sa_family)
			return AF_UNSPEC;
	}
	return found[0].any.sa_family;
}

static int choose_address(struct hosts *hosts, const char *host)
{
	const struct hosts_config *config = &hosts->config;
	struct address *out = &hosts->listening;

	hosts->any = false;
	if (config->interface)
		return address_interface(config->interface, family_of(host),
					 out);
	if (own_address_of(host, out) || own_address_towards(config->list, out))
		return 0;
	hosts->any = config->key != NULL;
	if (hosts->any)
		any_address(out);
	else
		loopback_address(out);
	return 0;
}

static int check_key(const struct hosts *hosts)
{
	char text[ADDRESS_TEXT_BYTES];

	if (hosts->config.key ||
	    (!hosts->any && address_is_loopback(&hosts->listening)))
		return 0;
	return fail(-EACCES,
		    "%s is beyond loopback, where nobody may come uninvited: "
		    "make a job key by `stagecoach key > job.key`, copy it to "
		    "every host, and give --key-file job.key",
		    address_text(&hosts->listening, false, text, sizeof(text)));
}

static int taken(const struct hosts *hosts, unsigned port)
{
	char text[ADDRESS_TEXT_BYTES];

	return fail(-EADDRINUSE,
		    "port %u is taken on %s: by another job? Choose another "
		    "one (%s)",
		    port,
		    hosts->any ? "this host"
			       : address_text(&hosts->listening, false, text,
					      sizeof(text)),
		    hosts->place.source == PLACE_TORCHRUN
			    ? "MASTER_PORT"
			    : "--coordinator HOST:PORT, on all ranks");
}

static int try_listen(struct hosts *hosts, unsigned port)
{
	int rc;

	address_set_port(&hosts->listening, port);
	rc = address_listen(&hosts->listening, hosts->any, &hosts->listen_fd);
	if (rc == -EAFNOSUPPORT && hosts->any) {
		/* No IPv6 at all here. */
		loopback_address(&hosts->listening);
		hosts->listening.four.sin_addr.s_addr = htonl(INADDR_ANY);
		address_set_port(&hosts->listening, port);
		rc = address_listen(&hosts->listening, false,
				    &hosts->listen_fd);
	}
	return rc;
}

int hosts_listen(struct hosts *hosts)
{
	char host[ADDRESS_HOST_BYTES];
	socklen_t length;
	unsigned port;
	int rc = told(hosts, host, &port);

	if (!rc)
		rc = choose_address(hosts, host);
	if (!rc)
		rc = check_key(hosts);
	if (rc < 0)
		return rc;
	rc = try_listen(hosts, port);
	/* Where the others also look elsewhere, another port will do. */
	if (rc == -EADDRINUSE && hosts->place.guessed &&
	    hosts->config.meeting_file)
		rc = try_listen(hosts, 0);
	if (rc == -EADDRINUSE)
		return taken(hosts, port);
	if (rc < 0)
		return rc;
	length = hosts->listening.length;
	if (getsockname(hosts->listen_fd, &hosts->listening.any, &length) < 0)
		return fail(-errno, "getsockname: %s", strerror(errno));
	return 0;
}

void hosts_reachable(const struct hosts *hosts, char text[MEETING_TEXT_BYTES])
{
	struct address list[ADDRESS_MAX];
	unsigned count = 1;
	size_t used = 0;

	list[0] = hosts->listening;
	if (hosts->any) {
		count = address_list(list);
		if (count == 0) {
			loopback_address(&list[0]);
			count = 1;
		}
	}
	text[0] = '\0';
	for (unsigned i = 0; i < count; i++) {
		char one[ADDRESS_TEXT_BYTES];

		address_set_port(&list[i], address_port(&hosts->listening));
		address_text(&list[i], true, one, sizeof(one));
		if (used + strlen(one) + 2 > MEETING_TEXT_BYTES)
			return;
		used += (size_t)snprintf(text + used, MEETING_TEXT_BYTES - used,
					 "%s%s", used ? "," : "", one);
	}
}

/* ---- the addresses of the data links ---- */

/*
 * This process's ranks and those of agents that came over loopback are on one
 * machine. Towards others they use the address that those came in by.
 */
static int choose_own(struct hosts *hosts, const struct hosts_guest *far)
{
	struct address own = hosts->listening;

	if (hosts->any)
		own = far->own;
	if (address_is_loopback(&own))
		return fail(-EINVAL,
			    "%s comes from another host, but this one would "
			    "have to be called 127.0.0.1 there: give "
			    "--interface",
			    far->name);
	address_text(&own, false, hosts->address, sizeof(hosts->address));
	return 0;
}

static int compare_families(const struct hosts *hosts)
{
	bool six = strchr(hosts->bind[0], ':') != NULL;

	for (unsigned i = 1; i < hosts->size; i++) {
		bool other = strchr(hosts->bind[i], ':') != NULL;

		if (other != six)
			return fail(-EINVAL,
				    "rank 0 would listen on %s (%s) and rank "
				    "%u on %s (%s), and the two kinds cannot "
				    "talk: choose one on all hosts by "
				    "--interface",
				    hosts->bind[0], six ? "IPv6" : "IPv4", i,
				    hosts->bind[i], other ? "IPv6" : "IPv4");
	}
	return 0;
}

int hosts_settle_addresses(struct hosts *hosts)
{
	const struct hosts_guest *far = NULL;

	for (unsigned i = 0; i < hosts->guest_count && !far; i++) {
		if (!hosts->guests[i].loopback)
			far = &hosts->guests[i];
	}
	address_text(&hosts->listening, false, hosts->address,
		     sizeof(hosts->address));
	if (hosts->any || !far)
		snprintf(hosts->address, sizeof(hosts->address), "%s",
			 hosts->guest_count &&
					 strchr(hosts->guests[0].address, ':')
				 ? "::1"
				 : "127.0.0.1");
	if (far) {
		int rc = choose_own(hosts, far);

		if (rc < 0)
			return rc;
	}
	for (unsigned i = 0; i < hosts->size; i++) {
		int guest = hosts->guest_of[i];

		hosts->bind[i] = hosts->address;
		if (guest >= 0 && !hosts->guests[guest].loopback)
			hosts->bind[i] = hosts->guests[guest].address;
	}
	return compare_families(hosts);
}
