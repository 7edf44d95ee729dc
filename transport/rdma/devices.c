#include "transport/rdma/devices.h"

#include <arpa/inet.h>
#include <errno.h>
#include <ifaddrs.h>
#include <infiniband/verbs.h>
#include <net/if.h>
#include <netdb.h>
#include <netinet/in.h>
#include <rdma/rdma_cma.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"

bool rdma_devices_is_software(const char *device)
{
	char path[128];

	snprintf(path, sizeof(path), "/sys/class/infiniband/%s/device", device);
	return access(path, F_OK) != 0;
}

/* ---- addresses ---- */

static bool is_loopback(const struct sockaddr *address)
{
	const struct sockaddr_in6 *six = (const void *)address;
	const struct sockaddr_in *four = (const void *)address;

	if (address->sa_family == AF_INET)
		return ntohl(four->sin_addr.s_addr) >> 24 == 127;
	return IN6_IS_ADDR_LOOPBACK(&six->sin6_addr);
}

static bool is_link_local(const struct sockaddr *address)
{
	const struct sockaddr_in6 *six = (const void *)address;

	return address->sa_family == AF_INET6 &&
	       IN6_IS_ADDR_LINKLOCAL(&six->sin6_addr);
}

static size_t address_bytes(const struct sockaddr *address)
{
	return address->sa_family == AF_INET ? sizeof(struct sockaddr_in)
					     : sizeof(struct sockaddr_in6);
}

/* The device and port that have this address; false: none has. */
static bool device_of(const struct sockaddr *address, char *device, size_t size,
		      unsigned *port, bool *active)
{
	struct sockaddr_storage local = {0};
	struct ibv_port_attr attributes;
	struct rdma_cm_id *id;
	bool found;

	memcpy(&local, address, address_bytes(address));
	if (rdma_create_id(NULL, &id, NULL, RDMA_PS_TCP))
		return false;
	found = rdma_bind_addr(id, (struct sockaddr *)&local) == 0 && id->verbs;
	if (found) {
		snprintf(device, size, "%s",
			 ibv_get_device_name(id->verbs->device));
		*port = id->port_num;
		*active = ibv_query_port(id->verbs, id->port_num,
					 &attributes) == 0 &&
			  attributes.state == IBV_PORT_ACTIVE;
	}
	rdma_destroy_id(id);
	return found;
}

static bool is_candidate(const struct ifaddrs *one)
{
	const struct sockaddr *address = one->ifa_addr;

	return address && (one->ifa_flags & IFF_UP) &&
	       (address->sa_family == AF_INET ||
		(address->sa_family == AF_INET6 && !is_link_local(address))) &&
	       !is_loopback(address);
}

/* ---- choosing ---- */

/* Why there is nothing to choose from; false: there are devices. */
static bool nothing_there(char *why, size_t size)
{
	struct ibv_device **devices;
	int count = 0;

	devices = ibv_get_device_list(&count);
	if (devices)
		ibv_free_device_list(devices);
	if (!devices || !count) {
		snprintf(why, size,
			 "no RDMA device (without hardware: rdma link add rxe0 "
			 "type rxe netdev eth0)");
		return true;
	}
	if (access("/dev/infiniband/rdma_cm", R_OK | W_OK) != 0) {
		snprintf(why, size, "/dev/infiniband/rdma_cm: %s%s",
			 strerror(errno),
			 errno == ENOENT ? " (modprobe rdma_ucm)" : "");
		return true;
	}
	return false;
}

static bool choose_bound(const char *bind, struct sockaddr_storage *out)
{
	struct addrinfo hints = {.ai_flags = AI_NUMERICHOST};
	struct addrinfo *found;
	char device[64];
	bool good = false;
	bool active;
	unsigned port;

	if (getaddrinfo(bind, NULL, &hints, &found))
		return false;
	if (!is_loopback(found->ai_addr) &&
	    device_of(found->ai_addr, device, sizeof(device), &port, &active)) {
		memset(out, 0, sizeof(*out));
		memcpy(out, found->ai_addr, found->ai_addrlen);
		good = active;
	}
	freeaddrinfo(found);
	return good;
}

int rdma_devices_choose(const char *bind, struct sockaddr_storage *out,
			char *why, size_t size)
{
	struct ifaddrs *all;
	char device[64];
	int status = -ENODEV;
	unsigned port;
	bool active;

	if (nothing_there(why, size))
		return -ENODEV;
	if (choose_bound(bind, out))
		return 0;
	snprintf(why, size, "no RDMA port that is up and has an IP address");
	if (getifaddrs(&all))
		return -ENODEV;
	for (const struct ifaddrs *one = all; status && one;
	     one = one->ifa_next) {
		if (!is_candidate(one) ||
		    !device_of(one->ifa_addr, device, sizeof(device), &port,
			       &active) ||
		    !active)
			continue;
		memset(out, 0, sizeof(*out));
		memcpy(out, one->ifa_addr, address_bytes(one->ifa_addr));
		status = 0;
	}
	freeifaddrs(all);
	return status;
}

/* ---- listing ---- */

static const char *transport_name(enum ibv_transport_type type)
{
	switch (type) {
	case IBV_TRANSPORT_IB:
		return "InfiniBand";
	case IBV_TRANSPORT_IWARP:
		return "iWARP";
	case IBV_TRANSPORT_USNIC:
	case IBV_TRANSPORT_USNIC_UDP:
		return "usNIC";
	default:
		return "unknown";
	}
}

static const char *state_name(enum ibv_port_state state)
{
	switch (state) {
	case IBV_PORT_DOWN:
		return "down";
	case IBV_PORT_INIT:
		return "initializing";
	case IBV_PORT_ARMED:
		return "armed";
	case IBV_PORT_ACTIVE:
		return "active";
	case IBV_PORT_ACTIVE_DEFER:
		return "deferred";
	default:
		return "unknown";
	}
}

static unsigned mtu_bytes(enum ibv_mtu mtu)
{
	return mtu >= IBV_MTU_256 && mtu <= IBV_MTU_4096 ? 128u << (unsigned)mtu
							 : 0;
}

static const char *gid_type_name(uint32_t type)
{
	static const char *const names[] = {
		[IBV_GID_TYPE_IB] = "IB",
		[IBV_GID_TYPE_ROCE_V1] = "RoCE v1",
		[IBV_GID_TYPE_ROCE_V2] = "RoCE v2",
	};

	return type < ARRAY_SIZE(names) ? names[type] : "unknown";
}

static void list_gids(struct ibv_context *context, struct rdma_port *out)
{
	struct ibv_gid_entry entries[256];
	char name[IF_NAMESIZE];
	ssize_t count;

	count = ibv_query_gid_table(context, entries, ARRAY_SIZE(entries), 0);
	for (ssize_t i = 0; i < count; i++) {
		struct rdma_gid *gid = &out->gids[out->gid_count];

		if (entries[i].port_num != out->port ||
		    out->gid_count == RDMA_GIDS_MAX)
			continue;
		gid->index = entries[i].gid_index;
		inet_ntop(AF_INET6, entries[i].gid.raw, gid->text,
			  sizeof(gid->text));
		snprintf(gid->type, sizeof(gid->type), "%s",
			 gid_type_name(entries[i].gid_type));
		out->gid_count++;
		if (!out->netdev[0] && entries[i].ndev_ifindex &&
		    if_indextoname(entries[i].ndev_ifindex, name))
			snprintf(out->netdev, sizeof(out->netdev), "%s", name);
	}
}

static void find_address(const struct ifaddrs *all, struct rdma_port *out)
{
	char device[64];
	unsigned port;
	bool active;

	for (const struct ifaddrs *one = all; one && !out->address[0];
	     one = one->ifa_next) {
		if (!is_candidate(one) ||
		    !device_of(one->ifa_addr, device, sizeof(device), &port,
			       &active) ||
		    port != out->port || strcmp(device, out->device) != 0)
			continue;
		getnameinfo(one->ifa_addr,
			    (socklen_t)address_bytes(one->ifa_addr),
			    out->address, sizeof(out->address), NULL, 0,
			    NI_NUMERICHOST);
	}
}

static void judge(struct rdma_port *out, bool active)
{
	if (!active)
		snprintf(out->why_not, sizeof(out->why_not),
			 "the port is %s%s%s", out->state,
			 out->netdev[0] ? ": ip link set up " : "",
			 out->netdev);
	else if (access("/dev/infiniband/rdma_cm", R_OK | W_OK) != 0)
		snprintf(out->why_not, sizeof(out->why_not),
			 "/dev/infiniband/rdma_cm: %s%s", strerror(errno),
			 errno == ENOENT ? " (modprobe rdma_ucm)" : "");
	else if (!out->address[0])
		snprintf(out->why_not, sizeof(out->why_not),
			 "it has no IP address, by which ranks find each "
			 "other: ip addr add ... dev %s",
			 out->netdev[0] ? out->netdev : "DEVICE");
}

static void list_port(struct ibv_context *context, unsigned number,
		      const struct ifaddrs *all, struct rdma_port *out)
{
	struct ibv_port_attr port;
	bool active;

	out->port = number;
	if (ibv_query_port(context, (uint8_t)number, &port)) {
		snprintf(out->why_not, sizeof(out->why_not),
			 "the device does not say how this port is");
		return;
	}
	active = port.state == IBV_PORT_ACTIVE;
	snprintf(out->state, sizeof(out->state), "%s", state_name(port.state));
	snprintf(out->link_layer, sizeof(out->link_layer), "%s",
		 port.link_layer == IBV_LINK_LAYER_ETHERNET ? "Ethernet"
							    : "InfiniBand");
	out->mtu = mtu_bytes(port.active_mtu);
	out->mtu_max = mtu_bytes(port.max_mtu);
	list_gids(context, out);
	find_address(all, out);
	judge(out, active);
}

struct list {
	struct rdma_port *ports;
	unsigned count;
};

static struct rdma_port *list_add(struct list *list, struct ibv_device *device)
{
	struct rdma_port *ports =
		realloc(list->ports, (list->count + 1) * sizeof(*list->ports));
	struct rdma_port *port;

	if (!ports)
		return NULL;
	list->ports = ports;
	port = &ports[list->count++];
	*port = (struct rdma_port){.software = rdma_devices_is_software(
					   ibv_get_device_name(device))};
	snprintf(port->device, sizeof(port->device), "%s",
		 ibv_get_device_name(device));
	snprintf(port->transport, sizeof(port->transport), "%s",
		 transport_name(device->transport_type));
	return port;
}

static int list_device(struct list *list, struct ibv_device *device,
		       const struct ifaddrs *all)
{
	struct ibv_context *context = ibv_open_device(device);
	struct ibv_device_attr attributes = {.phys_port_cnt = 1};
	struct rdma_port *port;
	int error = errno;

	if (!context) {
		port = list_add(list, device);
		if (port)
			snprintf(port->why_not, sizeof(port->why_not),
				 "it cannot be opened: %s%s", strerror(error),
				 error == EACCES || error == EPERM
					 ? " (/dev/infiniband/uverbs*)"
					 : "");
		return port ? 0 : -ENOMEM;
	}
	port = NULL;
	if (ibv_query_device(context, &attributes))
		attributes.phys_port_cnt = 1;
	for (unsigned i = 1; i <= attributes.phys_port_cnt; i++) {
		port = list_add(list, device);
		if (!port)
			break;
		list_port(context, i, all, port);
	}
	ibv_close_device(context);
	return port ? 0 : -ENOMEM;
}

int rdma_devices_list(struct rdma_port **out, unsigned *count, char *why,
		      size_t size)
{
	struct ibv_device **devices;
	struct list list = {NULL, 0};
	struct ifaddrs *all = NULL;
	int status = 0;

	if (getifaddrs(&all))
		all = NULL;
	devices = ibv_get_device_list(NULL);
	for (unsigned i = 0; !status && devices && devices[i]; i++)
		status = list_device(&list, devices[i], all);
	if (devices)
		ibv_free_device_list(devices);
	freeifaddrs(all);
	if (status) {
		free(list.ports);
		return fail(status, "rdma: no memory to list devices");
	}
	if (!list.count)
		(void)!nothing_there(why, size);
	*out = list.ports;
	*count = list.count;
	return 0;
}
