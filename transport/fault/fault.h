/*
 * fault: wraps another transport and lets things go wrong by a plan, for
 * tests. Its kind is "fault:INNER" or "fault:INNER:PLAN", as in
 * "fault:tcp:seed=7,level=wire,corrupt=0.001" (plan.h says what a plan is).
 *
 * On the level of messages it works over every transport: completions are held
 * back, and what the receiver's end of a link finds damaged, twice or cut it
 * reports as the transport itself would have. Nothing wrong is ever delivered:
 * this stands in for what transports detect, so that those above can be tried.
 *
 * On the level of the wire (tcp) the bytes themselves are changed, by a relay
 * between the two sockets, below checksums and keys: this tries the transport.
 * Shared memory has no such level: there is no place between the two ends, and
 * memory that a third party writes into is not a fault that a link can have.
 *
 * plan.c reads and asks plans; endpoint.c is the endpoint, with the faults of
 * messages; relay.c carries bytes, with the faults of the wire.
 */
#ifndef STAGECOACH_TRANSPORT_FAULT_FAULT_H
#define STAGECOACH_TRANSPORT_FAULT_FAULT_H

#include "transport/fault/plan.h"
#include "transport/transport_ops.h"

#define FAULT_TEXT_BYTES 512

/* What has happened so far, for tests: they must know that it did. */
struct fault_statistics {
	uint64_t connections; /* of relays: attempts included */
	uint64_t happened[FAULT_KINDS];
};

/* `endpoint` is one of kind fault. */
void fault_statistics(const struct transport_endpoint *endpoint,
		      struct fault_statistics *out);

/* ---- relay.c ---- */

struct fault_relay;

/*
 * A relay for the connections that rank `rank` is going to make to `peers`: a
 * port on loopback for each, whose address is written over that of the peer
 * in addresses[] (by rank; texts[] by place in peers is the storage), and a
 * thread that carries the bytes. The peers' real addresses are of tcp, and
 * beyond loopback only if `keyed`: the job has a key.
 */
int fault_relay_create(const struct fault_plan *plan, unsigned rank, bool keyed,
		       const unsigned *peers, unsigned count,
		       const char **addresses,
		       char (*texts)[TRANSPORT_ADDRESS_BYTES],
		       struct fault_relay **out) MUST_CHECK;

/* What is on its way still arrives, if that takes less than a second. */
void fault_relay_destroy(struct fault_relay *relay);
void fault_relay_count(const struct fault_relay *relay,
		       struct fault_statistics *sum);

#endif
