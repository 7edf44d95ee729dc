/* Credits, writes, completions; and what goes wrong with them. */
#include <arpa/inet.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "transport/rdma/rdma.h"
#include "transport/tcp/tcp.h"

#define SLOT_BYTES   64
#define BATCH        16
#define INLINE_BYTES 128
/* How long the end of a link waits for the peer to have a FAULT. */
#define FAULT_NS (200 * NS_PER_MS)
/* A device that flushes does it at once; destroying the queue is final. */
#define FLUSH_NS (500 * NS_PER_MS)

/* What a work request of the send queue was for. */
enum work {
	WORK_CREDIT,
	WORK_PIECE,
	WORK_LAST, /* with it a message is sent */
	WORK_FAULT,
};

static unsigned rank_of(const struct rdma_link *link)
{
	return link->endpoint->base.config.rank;
}

/* ---- a link's memory and queue pair ---- */

int rdma_link_init(struct rdma_link *link)
{
	unsigned depth = link->endpoint->base.config.depth;
	unsigned limit = link->endpoint->queue_limit;
	size_t bytes;

	/* One for each credit and each write the peer may have outstanding. */
	link->receive_slots = depth + link->offer.depth + 4;
	link->send_slots = MIN(2 * depth + 8, limit);
	if (link->receive_slots > limit)
		return fail(-EINVAL,
			    "rdma: the device has queues of at most %u "
			    "requests, too few for depths of %u and %u",
			    limit, depth, link->offer.depth);
	if (transport_queue_init(&link->send, depth) ||
	    transport_queue_init(&link->receive, depth))
		return -ENOMEM;
	link->credits = calloc(link->offer.depth, sizeof(*link->credits));
	bytes = (size_t)(link->receive_slots + link->send_slots) * SLOT_BYTES;
	link->slots = calloc(1, bytes);
	if (!link->credits || !link->slots)
		return fail(-ENOMEM, "rdma: no memory for a link");
	link->slots_mr = ibv_reg_mr(link->endpoint->pd, link->slots, bytes,
				    IBV_ACCESS_LOCAL_WRITE);
	if (!link->slots_mr)
		return fail(-errno, "rdma: registering %zu bytes: %s", bytes,
			    strerror(errno));
	return 0;
}

void rdma_link_fini(struct rdma_link *link)
{
	if (link->slots_mr)
		ibv_dereg_mr(link->slots_mr);
	free(link->slots);
	free(link->credits);
	transport_queue_fini(&link->send);
	transport_queue_fini(&link->receive);
}

static int post_receive(struct rdma_link *link, unsigned slot)
{
	struct ibv_sge part = {
		.addr = (uintptr_t)link->slots + (size_t)slot * SLOT_BYTES,
		.length = SLOT_BYTES,
		.lkey = link->slots_mr->lkey,
	};
	struct ibv_recv_wr request = {
		.wr_id = slot,
		.sg_list = &part,
		.num_sge = 1,
	};
	struct ibv_recv_wr *bad;
	int error = ibv_post_recv(link->id->qp, &request, &bad);

	/* Some providers return a negative code, some a positive one. */
	if (error)
		return -abs(error);
	link->receives_posted++;
	return 0;
}

static int create_qp(struct rdma_link *link)
{
	struct ibv_qp_init_attr attributes = {
		.qp_context = link,
		.send_cq = link->send_cq,
		.recv_cq = link->receive_cq,
		.qp_type = IBV_QPT_RC,
		.sq_sig_all = 1,
		.cap =
			{
				.max_send_wr = link->send_slots,
				.max_recv_wr = link->receive_slots,
				.max_send_sge = 1,
				.max_recv_sge = 1,
				.max_inline_data = INLINE_BYTES,
			},
	};
	struct ibv_qp_init_attr plain = attributes;

	if (rdma_create_qp(link->id, link->endpoint->pd, &attributes) == 0) {
		link->inline_bytes = attributes.cap.max_inline_data;
		return 0;
	}
	/* A device that cannot inline sends from the registered slots. */
	plain.cap.max_inline_data = 0;
	if (rdma_create_qp(link->id, link->endpoint->pd, &plain) == 0)
		return 0;
	return fail(-errno,
		    "rdma: rank %u: no queue pair for rank %u with queues of "
		    "%u and %u: %s",
		    rank_of(link), link->peer, link->send_slots,
		    link->receive_slots, strerror(errno));
}

int rdma_link_create_qp(struct rdma_link *link)
{
	struct rdma_endpoint *endpoint = link->endpoint;
	int status;

	link->send_cq = ibv_create_cq(endpoint->device, (int)link->send_slots,
				      link, endpoint->completions, 0);
	link->receive_cq =
		ibv_create_cq(endpoint->device, (int)link->receive_slots, link,
			      endpoint->completions, 0);
	if (!link->send_cq || !link->receive_cq)
		return fail(-errno, "rdma: no completion queue: %s",
			    strerror(errno));
	status = create_qp(link);
	for (unsigned i = 0; !status && i < link->receive_slots; i++) {
		status = post_receive(link, i);
		if (status)
			return fail(status, "rdma: filling a receive queue: %s",
				    strerror(-status));
	}
	return status;
}

/* ---- the end ---- */

/* Tells the other end that it is over, and stops the device. */
static void hang_up(struct rdma_link *link)
{
	struct ibv_qp_attr attributes = {.qp_state = IBV_QPS_ERR};

	if (link->hung_up)
		return;
	link->hung_up = true;
	if (link->id && link->id->qp) {
		ibv_modify_qp(link->id->qp, &attributes, IBV_QP_STATE);
		rdma_disconnect(link->id);
	}
	/* The sockets back end has nothing to wait for. */
	(void)!transport_cancel(link->endpoint->bootstrap, link->peer, 0);
}

void rdma_link_over(struct rdma_link *link, int status)
{
	link->status = status;
	if (!link->fault_sent)
		hang_up(link);
}

static void drain(struct rdma_link *link, int64_t deadline_ns)
{
	while ((link->sends_posted || link->receives_posted) &&
	       clock_now_ns() < deadline_ns) {
		rdma_link_poll(link);
		if (link->sends_posted || link->receives_posted)
			clock_sleep_ns(50 * NS_PER_US);
	}
	if (link->sends_posted || link->receives_posted)
		log_debug("rdma: rank %u: the device has not flushed %u sends "
			  "and %u receives of rank %u",
			  rank_of(link), link->sends_posted,
			  link->receives_posted, link->peer);
}

void rdma_link_destroy_qp(struct rdma_link *link, int64_t deadline_ns)
{
	int64_t fault_ns = MIN(deadline_ns, clock_now_ns() + FAULT_NS);

	if (!link->id)
		return;
	while (link->fault_sent && !link->hung_up &&
	       clock_now_ns() < fault_ns) {
		rdma_link_poll(link);
		clock_sleep_ns(50 * NS_PER_US);
	}
	hang_up(link);
	if (link->id->qp) {
		drain(link, MIN(deadline_ns, clock_now_ns() + FLUSH_NS));
		rdma_destroy_qp(link->id);
	}
	if (link->send_cq)
		ibv_destroy_cq(link->send_cq);
	if (link->receive_cq)
		ibv_destroy_cq(link->receive_cq);
	link->send_cq = NULL;
	link->receive_cq = NULL;
	rdma_destroy_id(link->id);
	link->id = NULL;
}

/* ---- failures ---- */

/* What a status of a completion means for whoever runs the job. */
static const char *advice(enum ibv_wc_status status)
{
	switch (status) {
	case IBV_WC_RETRY_EXC_ERR:
		return "its device has not answered any more: the host, the "
		       "cable or a switch is down, or the network drops RoCE "
		       "packets (UDP port 4791 filtered, an MTU that does not "
		       "fit, no flow control)";
	case IBV_WC_RNR_RETRY_EXC_ERR:
		return "its receive queue ran dry, which credits should "
		       "prevent: please report this";
	case IBV_WC_REM_ACCESS_ERR:
		return "its device refuses the key or the address: the memory "
		       "is not registered there any more";
	case IBV_WC_REM_INV_REQ_ERR:
	case IBV_WC_REM_OP_ERR:
		return "its device could not carry out the request";
	case IBV_WC_LOC_PROT_ERR:
	case IBV_WC_LOC_LEN_ERR:
	case IBV_WC_LOC_QP_OP_ERR:
		return "this host's device refuses its own request: please "
		       "report this";
	case IBV_WC_WR_FLUSH_ERR:
		return "the queue pair has failed on this host: see the "
		       "kernel's log about the device";
	default:
		return "see the kernel's log about the device";
	}
}

static int code_of(enum ibv_wc_status status)
{
	switch (status) {
	case IBV_WC_REM_ACCESS_ERR:
		return -EACCES;
	case IBV_WC_LOC_PROT_ERR:
	case IBV_WC_LOC_LEN_ERR:
	case IBV_WC_LOC_QP_OP_ERR:
	case IBV_WC_RNR_RETRY_EXC_ERR:
		return -EIO;
	default:
		return -ECONNRESET;
	}
}

static void work_failed(struct rdma_link *link, enum ibv_wc_status status)
{
	if (!rdma_link_live(link) || link->hung_up)
		return; /* flushed, as was to be */
	if (!link->gone)
		link->gone = tcp_endpoint_peer_ended(link->endpoint->bootstrap,
						     link->peer);
	if (link->gone)
		return; /* check_gone says what that means */
	log_error("rank %u: the RDMA link with rank %u has failed: %s (status "
		  "%d): %s",
		  rank_of(link), link->peer, ibv_wc_status_str(status), status,
		  advice(status));
	rdma_link_over(link, code_of(status));
}

static void post_failed(struct rdma_link *link, int error)
{
	log_error("rank %u: posting to the RDMA queue of rank %u: %s",
		  rank_of(link), link->peer, strerror(abs(error)));
	rdma_link_over(link, -EIO);
}

static void confused(struct rdma_link *link, const char *what)
{
	log_error("rank %u: rank %u does not keep to the protocol: %s",
		  rank_of(link), link->peer, what);
	rdma_link_over(link, -EPROTO);
}

void rdma_link_check_gone(struct rdma_link *link)
{
	const struct transport_operation *operation;
	bool receiving = transport_queue_pending(&link->receive) > 0;

	if (!link->gone || !rdma_link_live(link))
		return;
	if (!receiving && !transport_queue_pending(&link->send))
		return;
	operation =
		receiving
			? transport_queue_at(&link->receive, link->receive.done)
			: transport_queue_at(&link->send, link->send.done);
	log_error("rank %u: %s tag 0x%" PRIx64 " (%zu bytes) %s rank %u: %s",
		  rank_of(link), receiving ? "waiting for" : "sending",
		  operation->tag, operation->bytes, receiving ? "from" : "to",
		  link->peer,
		  link->gone == -ETIMEDOUT
			  ? "its host does not answer any more: it or the "
			    "network between is down"
			  : "the peer has closed the connection: it ended or "
			    "died");
	rdma_link_over(link, link->gone);
}

bool rdma_link_has_news(const struct rdma_link *link)
{
	return link->send.head != link->send.done ||
	       link->receive.head != link->receive.done ||
	       (link->status && !link->cancelled);
}

/* ---- outwards ---- */

/* The last place is kept for a FAULT. */
static unsigned send_room(const struct rdma_link *link)
{
	return link->send_slots - 1 - link->sends_posted;
}

static bool post_work(struct rdma_link *link, struct ibv_send_wr *request,
		      enum work work)
{
	struct ibv_send_wr *bad;
	int error;

	request->wr_id = work;
	error = ibv_post_send(link->id->qp, request, &bad);
	if (error) {
		post_failed(link, error);
		return false;
	}
	link->sends_posted++;
	link->next_send_slot = (link->next_send_slot + 1) % link->send_slots;
	return true;
}

/* Small enough for the work request itself: the device reads no memory. */
static unsigned inline_flag(const struct rdma_link *link, size_t bytes)
{
	return bytes <= link->inline_bytes ? IBV_SEND_INLINE : 0;
}

static bool send_control(struct rdma_link *link,
			 const struct rdma_control *control, enum work work)
{
	unsigned char *slot = link->slots + (size_t)(link->receive_slots +
						     link->next_send_slot) *
						    SLOT_BYTES;
	struct ibv_sge part = {
		.addr = (uintptr_t)slot,
		.length = RDMA_CONTROL_BYTES,
		.lkey = link->slots_mr->lkey,
	};
	struct ibv_send_wr request = {
		.opcode = IBV_WR_SEND,
		.sg_list = &part,
		.num_sge = 1,
		.send_flags = inline_flag(link, RDMA_CONTROL_BYTES),
	};

	rdma_control_encode(control, slot);
	return post_work(link, &request, work);
}

static const struct ibv_mr *mr_of(const struct rdma_link *link,
				  const struct transport_operation *operation)
{
	const struct transport_region *region = transport_region_find(
		&link->endpoint->base, operation->data, operation->bytes);

	return region ? link->endpoint->mrs[region->slot] : NULL;
}

static bool send_credit(struct rdma_link *link)
{
	const struct transport_operation *operation =
		transport_queue_at(&link->receive, link->advertised);
	struct rdma_control control = {
		.type = RDMA_CREDIT,
		.sequence = link->advertised,
		.tag = operation->tag,
		.bytes = operation->bytes,
	};

	if (operation->bytes) {
		control.address = (uintptr_t)operation->data;
		control.rkey = mr_of(link, operation)->rkey;
	}
	if (!send_control(link, &control, WORK_CREDIT))
		return false;
	link->advertised++;
	return true;
}

static void send_fault(struct rdma_link *link,
		       const struct transport_operation *operation,
		       const struct rdma_credit *credit)
{
	struct rdma_control control = {
		.type = RDMA_FAULT,
		.sequence = link->written,
		.tag = operation->tag,
		.bytes = operation->bytes,
	};

	log_error("rank %u: tag 0x%" PRIx64 " (%zu bytes) is to go to rank %u, "
		  "which waits for tag 0x%" PRIx64 " (%" PRIu64 " bytes)",
		  rank_of(link), operation->tag, operation->bytes, link->peer,
		  credit->tag, credit->bytes);
	link->fault_sent = true;
	rdma_link_over(link, -EPROTO);
	if (!send_control(link, &control, WORK_FAULT))
		hang_up(link);
}

static bool send_done(struct rdma_link *link)
{
	struct rdma_control control = {
		.type = RDMA_DONE,
		.sequence = link->written,
	};

	return send_control(link, &control, WORK_LAST);
}

/* The next piece of the message; false: no room, or the link has failed. */
static bool write_piece(struct rdma_link *link,
			const struct transport_operation *operation,
			const struct rdma_credit *credit)
{
	size_t left = operation->bytes - link->written_bytes;
	size_t bytes = MIN(left, link->endpoint->piece_bytes);
	bool last = bytes == left;
	struct ibv_sge part = {
		.addr = (uintptr_t)operation->data + link->written_bytes,
		.length = (uint32_t)bytes,
	};
	struct ibv_send_wr request = {
		.opcode = IBV_WR_RDMA_WRITE,
		.sg_list = &part,
		.num_sge = bytes > 0,
		.send_flags = bytes ? inline_flag(link, bytes) : 0,
		.wr.rdma.remote_addr = credit->address + link->written_bytes,
		.wr.rdma.rkey = credit->rkey,
	};

	if (send_room(link) < 2)
		return false;
	if (bytes)
		part.lkey = mr_of(link, operation)->lkey;
	if (last && link->immediate) {
		request.opcode = IBV_WR_RDMA_WRITE_WITH_IMM;
		request.imm_data = htonl((uint32_t)link->written);
	}
	if ((bytes || link->immediate) &&
	    !post_work(link, &request,
		       last && link->immediate ? WORK_LAST : WORK_PIECE))
		return false;
	if (last && !link->immediate && !send_done(link))
		return false;
	link->written_bytes += bytes;
	if (last) {
		link->written++;
		link->written_bytes = 0;
	}
	return true;
}

void rdma_link_push(struct rdma_link *link)
{
	while (rdma_link_live(link) && link->advertised < link->receive.tail &&
	       send_room(link)) {
		if (!send_credit(link))
			return;
	}
	while (rdma_link_live(link) && link->written < link->send.tail &&
	       link->written < link->credited) {
		const struct transport_operation *operation =
			transport_queue_at(&link->send, link->written);
		const struct rdma_credit *credit =
			&link->credits[link->written % link->offer.depth];

		if (operation->tag != credit->tag ||
		    operation->bytes != credit->bytes) {
			/* After those before it, so that it is the next one. */
			if (link->written_bytes == 0)
				send_fault(link, operation, credit);
			return;
		}
		if (!write_piece(link, operation, credit))
			return;
	}
}

/* ---- inwards ---- */

static void message_sent(struct rdma_link *link)
{
	const struct transport_operation *operation =
		transport_queue_at(&link->send, link->send.done);

	link->send.done++;
	link->messages_sent++;
	link->bytes_sent += operation->bytes;
}

static void message_arrived(struct rdma_link *link, uint32_t sequence)
{
	const struct transport_operation *operation =
		transport_queue_at(&link->receive, link->receive.done);

	if (link->receive.done == link->advertised ||
	    sequence != (uint32_t)link->receive.done) {
		confused(link, "a message out of turn");
		return;
	}
	link->receive.done++;
	link->messages_received++;
	link->bytes_received += operation->bytes;
}

static void take_credit(struct rdma_link *link,
			const struct rdma_control *control)
{
	if (control->sequence != link->credited ||
	    link->credited - link->send.done >= link->offer.depth) {
		confused(link, "a credit out of turn");
		return;
	}
	link->credits[link->credited % link->offer.depth] =
		(struct rdma_credit){
			.tag = control->tag,
			.bytes = control->bytes,
			.address = control->address,
			.rkey = control->rkey,
		};
	link->credited++;
}

static void take_fault(struct rdma_link *link,
		       const struct rdma_control *control)
{
	const struct transport_operation *operation =
		transport_queue_at(&link->receive, link->receive.done);

	if (link->receive.done == link->advertised ||
	    control->sequence != link->receive.done) {
		confused(link, "a fault out of turn");
		return;
	}
	log_error("rank %u: the message of rank %u is not the expected one: "
		  "tag 0x%" PRIx64 " (%" PRIu64 " bytes) came, tag 0x%" PRIx64
		  " (%zu bytes) was expected",
		  rank_of(link), link->peer, control->tag, control->bytes,
		  operation->tag, operation->bytes);
	rdma_link_over(link, -EPROTO);
}

static void take_control(struct rdma_link *link, const unsigned char *bytes,
			 size_t length)
{
	struct rdma_control control;
	const char *wrong = rdma_control_decode(bytes, length, &control);

	if (wrong) {
		log_error("rank %u: a control message from rank %u is damaged "
			  "(%s)",
			  rank_of(link), link->peer, wrong);
		rdma_link_over(link, -EBADMSG);
	} else if (control.type == RDMA_CREDIT) {
		take_credit(link, &control);
	} else if (control.type == RDMA_DONE) {
		message_arrived(link, (uint32_t)control.sequence);
	} else {
		take_fault(link, &control);
	}
}

static void receive_done(struct rdma_link *link, const struct ibv_wc *done)
{
	unsigned slot = (unsigned)done->wr_id;
	unsigned char bytes[SLOT_BYTES];
	int status;

	link->receives_posted--;
	if (done->status != IBV_WC_SUCCESS) {
		work_failed(link, done->status);
		return;
	}
	if (!rdma_link_live(link))
		return;
	memcpy(bytes, link->slots + (size_t)slot * SLOT_BYTES, SLOT_BYTES);
	/* First refilled, then answered: the peer finds a place for more. */
	status = post_receive(link, slot);
	if (status)
		post_failed(link, status);
	else if (done->opcode == IBV_WC_RECV_RDMA_WITH_IMM)
		message_arrived(link, ntohl(done->imm_data));
	else
		take_control(link, bytes, done->byte_len);
}

static void send_completed(struct rdma_link *link, const struct ibv_wc *done)
{
	link->sends_posted--;
	if (done->wr_id == WORK_FAULT)
		hang_up(link);
	else if (done->status != IBV_WC_SUCCESS)
		work_failed(link, done->status);
	else if (done->wr_id == WORK_LAST && rdma_link_live(link))
		message_sent(link);
}

static void poll_queue(struct rdma_link *link, struct ibv_cq *queue,
		       void (*take)(struct rdma_link *, const struct ibv_wc *))
{
	struct ibv_wc done[BATCH];
	int count;

	do {
		count = ibv_poll_cq(queue, BATCH, done);
		for (int i = 0; i < count; i++)
			take(link, &done[i]);
	} while (count == BATCH);
	if (count < 0 && rdma_link_live(link)) {
		log_error("rank %u: the completion queue of rank %u cannot be "
			  "read",
			  rank_of(link), link->peer);
		rdma_link_over(link, -EIO);
	}
}

void rdma_link_poll(struct rdma_link *link)
{
	if (!link->receive_cq || !link->send_cq)
		return;
	poll_queue(link, link->receive_cq, receive_done);
	poll_queue(link, link->send_cq, send_completed);
	rdma_link_push(link);
}
