/* stagecoach bench transport --list: what this host has to send with. */
#include <stdio.h>
#include <stdlib.h>

#include "base/json.h"
#include "base/log.h"
#include "tools/bench/transport.h"
#include "transport/rdma/devices.h"

static void print_port(const struct rdma_port *port)
{
	printf("%s port %u: %s\n", port->device, port->port,
	       port->why_not[0] ? "cannot be used" : "can be used");
	if (port->why_not[0])
		printf("  why not    %s\n", port->why_not);
	printf("  device     %s%s\n", port->transport,
	       port->software ? ", in software" : "");
	if (!port->link_layer[0])
		return;
	printf("  port       %s, %s, MTU %u (at most %u)\n", port->state,
	       port->link_layer, port->mtu, port->mtu_max);
	if (port->netdev[0])
		printf("  interface  %s\n", port->netdev);
	if (port->address[0])
		printf("  address    %s\n", port->address);
	for (unsigned i = 0; i < port->gid_count; i++)
		printf("  GID %-6u %s, %s\n", port->gids[i].index,
		       port->gids[i].text, port->gids[i].type);
}

static json_t *json_of(const struct rdma_port *port)
{
	json_t *gids = json_array();

	for (unsigned i = 0; gids && i < port->gid_count; i++)
		json_array_append_new(gids,
				      json_pack("{s:i, s:s, s:s}", "index",
						(int)port->gids[i].index, "gid",
						port->gids[i].text, "type",
						port->gids[i].type));
	return json_pack(
		"{s:s, s:i, s:b, s:s, s:s, s:b, s:s, s:s, s:i, s:i, s:s, s:s, "
		"s:o}",
		"device", port->device, "port", (int)port->port, "usable",
		!port->why_not[0], "why_not", port->why_not, "transport",
		port->transport, "software", port->software, "state",
		port->state, "link_layer", port->link_layer, "mtu",
		(int)port->mtu, "mtu_max", (int)port->mtu_max, "interface",
		port->netdev, "address", port->address, "gids", gids);
}

static int print_json(const struct rdma_port *port)
{
	json_t *object = json_of(port);

	if (!object || json_dumpf(object, stdout, JSON_COMPACT)) {
		json_decref(object);
		return fail(-1, "bench: no memory for the list");
	}
	printf("\n");
	json_decref(object);
	return 0;
}

int bench_transport_list(bool json)
{
	struct rdma_port *ports;
	unsigned count;
	char why[256];
	int status;

	status = rdma_devices_list(&ports, &count, why, sizeof(why));
	if (status)
		return 1;
	if (!count && !json)
		printf("rdma: %s\n", why);
	for (unsigned i = 0; !status && i < count; i++) {
		if (json)
			status = print_json(&ports[i]);
		else
			print_port(&ports[i]);
	}
	free(ports);
	return status ? 1 : 0;
}
