/* Builds the links of each transport in turn. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "transport/auto/auto.h"

/* Of the one byte that two ends tell each other about RDMA. */
#define VERDICT_TAG 0x6175746full /* "auto" */

/* The peers of one transport, and their addresses by rank. */
struct group {
	unsigned *peers;
	unsigned count;
	const char **addresses;
	char (*texts)[TRANSPORT_ADDRESS_BYTES]; /* by place in peers */
};

static void group_fini(struct group *group)
{
	free(group->peers);
	free(group->addresses);
	free(group->texts);
}

static int group_init(struct group *group, unsigned size, unsigned count)
{
	*group = (struct group){
		.peers = calloc(count, sizeof(*group->peers)),
		.addresses = calloc(size, sizeof(*group->addresses)),
		.texts = calloc(count, sizeof(*group->texts)),
	};
	if (group->peers && group->addresses && group->texts)
		return 0;
	group_fini(group);
	return fail(-ENOMEM, "auto: no memory for %u peers", count);
}

static void group_add(struct group *group, unsigned peer, enum auto_kind kind,
		      const char *address)
{
	char *text = group->texts[group->count];

	/* auto_choose() has found the part that is asked for. */
	if (auto_address_part(address, kind, text, sizeof(*group->texts)))
		group->addresses[peer] = text;
	group->peers[group->count++] = peer;
}

/* From its first link on, a transport has to know all regions. */
static int activate(struct auto_endpoint *endpoint, struct auto_child *child)
{
	int status = 0;

	for (unsigned i = 0; !status && i < endpoint->base.region_count; i++) {
		const struct transport_region *region =
			&endpoint->base.regions[i];

		if (!transport_region_find(child->endpoint, region->base,
					   region->bytes))
			status = transport_register(
				child->endpoint, region->base, region->bytes);
	}
	return status;
}

static int connect_group(struct auto_endpoint *endpoint, enum auto_kind kind,
			 const struct group *group, int64_t deadline_ns)
{
	struct auto_child *child = &endpoint->child[kind];
	int status;

	if (!group->count)
		return 0;
	status = transport_connect(child->endpoint, group->peers, group->count,
				   group->addresses,
				   MAX(deadline_ns - clock_now_ns(), 0));
	if (!status && !child->links)
		status = activate(endpoint, child);
	return status;
}

/* Is `peer`, for which RDMA was chosen, to be reached by it from here? */
static bool rdma_reaches(struct auto_endpoint *endpoint, unsigned peer,
			 const char *address)
{
	struct transport_endpoint *rdma = endpoint->child[AUTO_RDMA].endpoint;
	struct auto_route *route = &endpoint->routes[peer];
	char part[TRANSPORT_ADDRESS_BYTES];
	char why[AUTO_WHY_BYTES / 2] = "";

	if (!rdma->ops->reaches ||
	    (auto_address_part(address, AUTO_RDMA, part, sizeof(part)) &&
	     rdma->ops->reaches(rdma, part, why, sizeof(why))))
		return true;
	snprintf(route->why, sizeof(route->why),
		 "another host, not reached by rdma (%s)", why);
	return false;
}

/* Everyone's verdicts: ours at [0, count), theirs behind them. */
static int exchange_verdicts(struct transport_endpoint *tcp,
			     const struct group *group, unsigned char *verdicts,
			     int64_t deadline_ns)
{
	struct transport_completion completion;
	unsigned left = 2 * group->count;
	int status = 0;

	for (unsigned i = 0; !status && i < group->count; i++) {
		status = transport_post_recv(tcp, group->peers[i], VERDICT_TAG,
					     verdicts + group->count + i, 1,
					     NULL);
		if (!status)
			status = transport_post_send(tcp, group->peers[i],
						     VERDICT_TAG, verdicts + i,
						     1, NULL);
	}
	while (!status && left) {
		status = transport_progress(tcp, &completion, 1);
		if (status > 0) {
			left--;
			status = 0;
		} else if (!status) {
			status = transport_wait(tcp, deadline_ns, -1);
		}
	}
	if (status == -ETIMEDOUT)
		return fail(status,
			    "auto: rank %u: no word from its peers whether "
			    "rdma reaches them",
			    tcp->config.rank);
	return status;
}

static void settle(struct auto_endpoint *endpoint, const struct group *group,
		   const unsigned char *verdicts)
{
	for (unsigned i = 0; i < group->count; i++) {
		struct auto_route *route = &endpoint->routes[group->peers[i]];

		if (verdicts[i] && verdicts[group->count + i])
			continue;
		route->kind = AUTO_TCP;
		if (verdicts[i])
			snprintf(route->why, sizeof(route->why),
				 "another host, which rdma does not reach us "
				 "from");
	}
}

/*
 * The candidates for RDMA have a tcp link by now. Both ends try, tell each
 * other, and take RDMA only if both found that it reaches.
 */
static int agree_on_rdma(struct auto_endpoint *endpoint,
			 const struct group *candidates,
			 const char *const *addresses, int64_t deadline_ns)
{
	struct transport_endpoint *tcp = endpoint->child[AUTO_TCP].endpoint;
	unsigned char *verdicts;
	int status;

	if (!candidates->count)
		return 0;
	verdicts = calloc(2, candidates->count);
	if (!verdicts)
		return fail(-ENOMEM, "auto: no memory for %u peers",
			    candidates->count);
	for (unsigned i = 0; i < candidates->count; i++) {
		unsigned peer = candidates->peers[i];

		verdicts[i] = rdma_reaches(endpoint, peer, addresses[peer]);
	}
	status = transport_register(tcp, verdicts, 2 * candidates->count);
	if (status)
		goto err_free;
	status = exchange_verdicts(tcp, candidates, verdicts, deadline_ns);
	if (!status)
		settle(endpoint, candidates, verdicts);
	else /* what it may still write into must not be freed */
		(void)!transport_cancel(tcp, TRANSPORT_ALL_PEERS,
					NS_PER_SECOND);
	transport_deregister(tcp, verdicts);
err_free:
	free(verdicts);
	return status;
}

/* The links that RDMA takes over; those that tcp keeps go on. */
static int connect_rdma(struct auto_endpoint *endpoint,
			const struct group *candidates,
			const char *const *addresses, int64_t deadline_ns)
{
	struct transport_endpoint *tcp = endpoint->child[AUTO_TCP].endpoint;
	struct group group;
	int status;

	if (!candidates->count)
		return 0;
	status = group_init(&group, endpoint->base.config.size,
			    candidates->count);
	if (status)
		return status;
	for (unsigned i = 0; !status && i < candidates->count; i++) {
		unsigned peer = candidates->peers[i];

		if (endpoint->routes[peer].kind != AUTO_RDMA)
			continue;
		group_add(&group, peer, AUTO_RDMA, addresses[peer]);
		status = transport_cancel(tcp, peer,
					  MAX(deadline_ns - clock_now_ns(), 0));
	}
	if (!status)
		status =
			connect_group(endpoint, AUTO_RDMA, &group, deadline_ns);
	group_fini(&group);
	return status;
}

static int connect_groups(struct auto_endpoint *endpoint,
			  const struct group groups[AUTO_KINDS],
			  const char *const *addresses, int64_t deadline_ns)
{
	const struct group *candidates = &groups[AUTO_RDMA];
	int status;

	status = connect_group(endpoint, AUTO_SHM, &groups[AUTO_SHM],
			       deadline_ns);
	if (!status)
		status = connect_group(endpoint, AUTO_TCP, &groups[AUTO_TCP],
				       deadline_ns);
	if (!status)
		status = agree_on_rdma(endpoint, candidates, addresses,
				       deadline_ns);
	if (!status)
		status = connect_rdma(endpoint, candidates, addresses,
				      deadline_ns);
	return status;
}

/* Candidates for RDMA are in its group and in that of tcp. */
static int sort_peers(struct auto_endpoint *endpoint, const unsigned *peers,
		      unsigned count, const char *const *addresses,
		      struct auto_route *routes,
		      struct group groups[AUTO_KINDS])
{
	for (unsigned i = 0; i < count; i++) {
		unsigned peer = peers[i];
		int status = auto_choose(endpoint, peer, addresses[peer],
					 &routes[i]);

		if (status)
			return status;
		group_add(&groups[routes[i].kind], peer, routes[i].kind,
			  addresses[peer]);
		if (routes[i].kind == AUTO_RDMA)
			group_add(&groups[AUTO_TCP], peer, AUTO_TCP,
				  addresses[peer]);
	}
	return 0;
}

int auto_connect(struct transport_endpoint *base, const unsigned *peers,
		 unsigned count, const char *const *addresses,
		 int64_t timeout_ns)
{
	struct auto_endpoint *endpoint = auto_of(base);
	int64_t deadline_ns = clock_now_ns() + timeout_ns;
	struct auto_route *routes = calloc(count, sizeof(*routes));
	struct group groups[AUTO_KINDS] = {0};
	int status = 0;

	if (!routes)
		return fail(-ENOMEM, "auto: no memory for %u peers", count);
	for (unsigned i = 0; !status && i < AUTO_KINDS; i++)
		status = group_init(&groups[i], base->config.size, count);
	if (!status)
		status = sort_peers(endpoint, peers, count, addresses, routes,
				    groups);
	/* Kept in case of failure too: close has to find what was built. */
	for (unsigned i = 0; !status && i < count; i++)
		endpoint->routes[peers[i]] = routes[i];
	if (!status)
		status = connect_groups(endpoint, groups, addresses,
					deadline_ns);
	for (unsigned i = 0; !status && i < count; i++)
		endpoint->child[endpoint->routes[peers[i]].kind].links++;
	endpoint->connected = true;
	for (unsigned i = 0; i < AUTO_KINDS; i++)
		group_fini(&groups[i]);
	free(routes);
	return status;
}
