/* A transport, by the calls that the engine makes. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "tools/bench/bench.h"

#define PATIENCE_NS (10 * NS_PER_SECOND)
#define JOB         0x62656e6368ull

struct message_half {
	struct bench_half half;
	struct transport_endpoint *endpoint;
	unsigned char *out; /* bench_slots() slots each */
	unsigned char *in;
	size_t bytes;
	unsigned slots;
	/* So many in all: taken a place for, posted, completed. */
	unsigned send_posted, send_done;
	unsigned receive_posted, receive_done;
};

static unsigned peer(const struct message_half *half)
{
	return !half->half.side->rank;
}

static int post_receive(struct message_half *half, size_t bytes)
{
	unsigned number = half->receive_posted++;

	return transport_post_recv(
		half->endpoint, peer(half), number,
		half->in + number % half->slots * half->bytes, bytes, NULL);
}

/* In the receiver's slot where the player asks for that, else in our own. */
static int post_send(struct message_half *half, size_t bytes, bool produce)
{
	unsigned number = half->send_posted++;
	void *where = half->out + number % half->slots * half->bytes;
	int status;

	if (produce && half->half.player->acquire) {
		status = transport_acquire_send(half->endpoint, peer(half),
						number, bytes, where, &where);
		if (status)
			return status;
	}
	if (produce)
		bench_produce(where, bytes, number);
	return transport_post_send(half->endpoint, peer(half), number, where,
				   bytes, NULL);
}

static int await(struct message_half *half)
{
	int status = transport_wait(half->endpoint,
				    clock_now_ns() + PATIENCE_NS, -1);

	if (status == -ETIMEDOUT)
		return fail(status, "bench: no message for %lld s",
			    PATIENCE_NS / NS_PER_SECOND);
	return status;
}

/* Until so many sends and receives have completed in all. */
static int reach(struct message_half *half, unsigned sends, unsigned receives,
		 bool consume)
{
	struct transport_completion done[2 * BENCH_SLOTS];
	int status;
	int count;
	int i;

	while ((int)(half->send_done - sends) < 0 ||
	       (int)(half->receive_done - receives) < 0) {
		count = transport_progress(half->endpoint, done,
					   ARRAY_SIZE(done));
		if (count < 0)
			return count;
		for (i = 0; i < count; i++) {
			if (done[i].event == TRANSPORT_SENT) {
				half->send_done++;
				continue;
			}
			half->receive_done++;
			if (consume)
				bench_consume(done[i].data, done[i].bytes);
		}
		status = count ? 0 : await(half);
		if (status)
			return status;
	}
	return 0;
}

/* The next message, and a slot for our next one is free. */
static int receive_next(struct message_half *half)
{
	return reach(half, half->send_posted - half->slots + 1,
		     half->receive_done + 1, false);
}

static int pong(struct message_half *half)
{
	int status = receive_next(half);

	return status ? status : post_send(half, half->bytes, false);
}

static int ping(struct message_half *half, double *sample)
{
	int64_t start = clock_now_ns();
	int status = post_send(half, half->bytes, false);

	if (!status)
		status = receive_next(half);
	*sample = (double)(clock_now_ns() - start) / 2;
	return status;
}

/*
 * Two receives are always posted ahead, as the engine does; those left at the
 * end are for the next run.
 */
static int ping_pong(struct message_half *half, unsigned count, double *samples)
{
	int status = 0;
	unsigned i;

	while (half->receive_posted - half->receive_done < 2 && !status)
		status = post_receive(half, half->bytes);
	for (i = 0; i < count && !status; i++) {
		status = half->half.side->rank ? pong(half)
					       : ping(half, &samples[i]);
		if (!status)
			status = post_receive(half, half->bytes);
	}
	return status ? status
		      : reach(half, half->send_posted, half->receive_done,
			      false);
}

static int send_stream(struct message_half *half, unsigned count, bool produce)
{
	int status = post_receive(half, 1); /* the answer at the end */
	unsigned i;

	for (i = 0; i < count && !status; i++) {
		if (half->send_posted - half->send_done >= half->slots)
			status =
				reach(half, half->send_posted - half->slots + 1,
				      half->receive_done, false);
		if (!status)
			status = post_send(half, half->bytes, produce);
	}
	return status ? status
		      : reach(half, half->send_posted, half->receive_posted,
			      false);
}

static int receive_stream(struct message_half *half, unsigned count,
			  bool produce)
{
	int status = 0;
	unsigned i;

	for (i = 0; i < count && !status; i++) {
		if (half->receive_posted - half->receive_done >= half->slots)
			status = reach(half, half->send_done,
				       half->receive_posted - half->slots + 1,
				       produce);
		if (!status)
			status = post_receive(half, half->bytes);
	}
	if (!status)
		status = reach(half, half->send_done, half->receive_posted,
			       produce);
	if (!status)
		status = post_send(half, 1, false);
	return status ? status
		      : reach(half, half->send_posted, half->receive_done,
			      false);
}

static int message_play(struct bench_half *base, unsigned count,
			double *samples)
{
	struct message_half *half = (struct message_half *)base;
	const struct bench_cell *cell = base->side->cell;
	bool produce = cell->test == BENCH_PRODUCE;

	if (cell->test == BENCH_LATENCY)
		return ping_pong(half, count, samples);
	return base->side->rank ? receive_stream(half, count, produce)
				: send_stream(half, count, produce);
}

static int open_endpoint(struct message_half *half)
{
	const struct bench_player *player = half->half.player;
	const struct bench_side *side = half->half.side;
	struct transport_config config;

	transport_config_default(&config);
	config.kind = player->transport;
	config.io = player->io[0] ? player->io : NULL;
	config.rank = side->rank;
	config.size = 2;
	config.job = JOB;
	config.hub = side->hubs[player - side->cell->players];
	config.bind = side->bind;
	config.checksum = player->checksum;
	config.key = side->key;
	config.wire = (enum transport_wire)player->wire;
	config.no_spin = side->cell->waiting == BENCH_SLEEPING;
	if (side->cell->waiting == BENCH_SPINNING)
		config.spin_ns = NS_PER_SECOND;
	return transport_open(&config, &half->endpoint);
}

static int create_slots(struct message_half *half, unsigned char **out)
{
	size_t bytes = half->slots * half->bytes;
	void *memory;
	int status = transport_create_region(half->endpoint, bytes, &memory);

	if (status)
		return status;
	memset(memory, 1, bytes);
	*out = memory;
	return 0;
}

static int connect_endpoint(struct message_half *half)
{
	const struct bench_side *side = half->half.side;
	char text[2][TRANSPORT_ADDRESS_BYTES] = {"", ""};
	const char *addresses[2] = {text[0], text[1]};
	unsigned other = peer(half);
	int status;

	status = transport_listen(half->endpoint, text[side->rank],
				  TRANSPORT_ADDRESS_BYTES);
	if (!status)
		status = bench_tell(side->control, text[side->rank],
				    TRANSPORT_ADDRESS_BYTES);
	if (!status)
		status = bench_hear(side->control, text[other],
				    TRANSPORT_ADDRESS_BYTES);
	if (status)
		return status;
	text[other][TRANSPORT_ADDRESS_BYTES - 1] = '\0';
	return transport_connect(half->endpoint, &other, 1, addresses,
				 PATIENCE_NS);
}

static void message_close(struct bench_half *base)
{
	struct message_half *half = (struct message_half *)base;

	if (!half)
		return;
	transport_close(half->endpoint);
	free(half);
}

static int message_open(const struct bench_side *side,
			const struct bench_player *player,
			struct bench_half **out)
{
	struct message_half *half = calloc(1, sizeof(*half));
	int status;

	if (!half)
		return fail(-ENOMEM, "bench: no memory");
	half->half = (struct bench_half){&bench_message_ops, side, player};
	half->bytes = (size_t)side->cell->bytes;
	half->slots = bench_slots(side->cell->bytes);
	status = open_endpoint(half);
	if (!status)
		status = connect_endpoint(half);
	if (!status)
		status = create_slots(half, &half->out);
	if (!status)
		status = create_slots(half, &half->in);
	if (status) {
		message_close(&half->half);
		return status;
	}
	*out = &half->half;
	return 0;
}

const struct bench_half_ops bench_message_ops = {
	.open = message_open,
	.play = message_play,
	.close = message_close,
};
