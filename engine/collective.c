#include "engine/collective.h"
#include "base/log.h"
#include "model/kernels/elementwise.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* Of each link. Four arriving let a slice be two pieces ahead of another. */
#define ARRIVING 4
#define LEAVING  2

/*
 * Up to so many bytes everybody sends everything: one wait instead of two. The
 * additions that it repeats take about as long as a wait does.
 */
#define SMALL_BYTES ((size_t)16 << 10)

/* The link with one other slice. Slots are used in turn, by message number. */
struct channel {
	unsigned peer; /* its rank */
	struct message arriving[ARRIVING];
	struct outgoing leaving[LEAVING];
	uint32_t expected, taken, sent; /* messages of this pass */
	uint32_t before;                /* expected when the call began */
};

struct collective {
	struct collective_config config;
	struct channel *channels; /* [T], one's own not used */
	void **operands;          /* [T], of the piece being combined */
	struct layer_collectives layers;
	uint64_t bytes_sent;
};

typedef void combine_fn(struct threads *threads, size_t count, const float *a,
			const float *b, float *out);

/*
 * One call: an array, and how it is cut. In pieces of a slot that all slices
 * have, or in rounds of T slots of which each slice owns one part.
 */
struct call {
	struct collective *collective;
	unsigned slices;
	unsigned char *data;
	size_t bytes;
	bool parts;
	unsigned rounds;   /* or pieces */
	unsigned messages; /* a link carries each way */
	combine_fn *combine;
};

struct piece {
	size_t first; /* byte of the array */
	size_t bytes;
};

/* ---- how an array is cut ---- */

static unsigned count_pieces(size_t bytes, size_t piece)
{
	return (unsigned)((bytes + piece - 1) / piece);
}

static void cut_whole(struct call *call)
{
	call->rounds = count_pieces(call->bytes, COLLECTIVE_SLOT_BYTES);
	call->messages = call->rounds;
}

static void cut_values(struct call *call)
{
	call->parts = call->slices > 2 && call->bytes > SMALL_BYTES;
	cut_whole(call);
	if (!call->parts)
		return;
	call->rounds =
		count_pieces(call->bytes, call->slices * COLLECTIVE_SLOT_BYTES);
	call->messages = 2 * call->rounds;
}

static struct piece piece_at(const struct call *call, unsigned i)
{
	size_t first = i * COLLECTIVE_SLOT_BYTES;

	return (struct piece){
		.first = first,
		.bytes = MIN(call->bytes - first, COLLECTIVE_SLOT_BYTES),
	};
}

/* Parts begin at cache lines; the last ones of few values may be empty. */
static struct piece part_at(const struct call *call, unsigned round,
			    unsigned owner)
{
	size_t whole = call->slices * COLLECTIVE_SLOT_BYTES;
	size_t begin = round * whole;
	size_t bytes = MIN(call->bytes - begin, whole);
	size_t lines = (bytes + CACHE_LINE_BYTES - 1) / CACHE_LINE_BYTES;
	size_t share = (lines + call->slices - 1) / call->slices;
	size_t first = MIN(owner * share * CACHE_LINE_BYTES, bytes);
	size_t end = MIN(first + share * CACHE_LINE_BYTES, bytes);

	return (struct piece){.first = begin + first, .bytes = end - first};
}

/*
 * A link carries, of parts to combine (C) and combined ones (D) by round:
 * C0  C1 D0  C2 D1  ...  Dlast: the order in which combine_parts() sends them.
 */
static struct piece arriving_piece(const struct call *call, unsigned from,
				   unsigned i)
{
	unsigned slice = call->collective->config.slice;

	if (!call->parts)
		return piece_at(call, i);
	if (i + 1 == call->messages)
		return part_at(call, call->rounds - 1, from);
	if (i > 0 && i % 2 == 0)
		return part_at(call, i / 2 - 1, from);
	return part_at(call, (i + 1) / 2, slice);
}

/* ---- messages ---- */

static struct exchange *exchange_of(const struct call *call)
{
	return call->collective->config.exchange;
}

static struct channel *channel_of(const struct call *call, unsigned slice)
{
	return &call->collective->channels[slice];
}

/* Both ends count alike, so that a slip between them is found by the tag. */
static struct message numbered(unsigned peer, uint32_t number, size_t bytes)
{
	return (struct message){
		.kind = MESSAGE_SLICE,
		.stage = (uint16_t)(number >> 16),
		.micro_batch = (uint16_t)number,
		.peer = peer,
		.bytes = bytes,
	};
}

/* Posts receives of this call as long as there are free slots. */
static int expect_ahead(const struct call *call, unsigned from)
{
	struct channel *channel = channel_of(call, from);
	int rc = 0;

	while (!rc && channel->expected - channel->before < call->messages &&
	       channel->expected - channel->taken < ARRIVING) {
		uint32_t number = channel->expected++;
		struct message *message = &channel->arriving[number % ARRIVING];
		struct piece piece =
			arriving_piece(call, from, number - channel->before);
		void *slot = message->data;

		*message = numbered(channel->peer, number, piece.bytes);
		message->data = slot;
		rc = exchange_expect(exchange_of(call), message);
	}
	return rc;
}

/* The next message of a slice; its slot is ours until take(). */
static int await(const struct call *call, unsigned from, void **out)
{
	struct channel *channel = channel_of(call, from);
	struct message *message = &channel->arriving[channel->taken % ARRIVING];

	*out = message->data;
	return exchange_await_expected(exchange_of(call), message);
}

static int take(const struct call *call, unsigned from)
{
	channel_of(call, from)->taken++;
	return expect_ahead(call, from);
}

static int send(const struct call *call, unsigned to, struct piece piece)
{
	struct collective *collective = call->collective;
	struct channel *channel = channel_of(call, to);
	struct outgoing *out = &channel->leaving[channel->sent % LEAVING];
	struct message message =
		numbered(channel->peer, channel->sent, piece.bytes);
	int rc = exchange_acquire(exchange_of(call), &message, out);

	if (rc)
		return rc;
	if (call->combine)
		elementwise_copy(
			collective->config.threads, piece.bytes / sizeof(float),
			(const float *)(call->data + piece.first), out->where);
	else if (piece.bytes)
		memcpy(out->where, call->data + piece.first, piece.bytes);
	channel->sent++;
	collective->bytes_sent += piece.bytes;
	return exchange_post(exchange_of(call), &message, out);
}

/* The k-th other slice to turn to: all begin with another one. */
static unsigned other(const struct call *call, unsigned k)
{
	return (call->collective->config.slice + k) % call->slices;
}

static int begin_call(const struct call *call, unsigned from)
{
	struct channel *channel = channel_of(call, from);

	channel->before = channel->expected;
	return expect_ahead(call, from);
}

static int begin_all(const struct call *call)
{
	int rc = exchange_error(exchange_of(call));

	for (unsigned k = 1; !rc && k < call->slices; k++)
		rc = begin_call(call, other(call, k));
	return rc;
}

/*
 * What is still here leaves, since nobody moves messages while this rank
 * computes; mostly it has.
 */
static int end_all(const struct call *call)
{
	int rc = 0;

	for (unsigned k = 1; !rc && k < call->slices; k++) {
		struct channel *channel = channel_of(call, other(call, k));

		for (unsigned i = 0; !rc && i < LEAVING; i++)
			rc = exchange_await_sent(exchange_of(call),
						 &channel->leaving[i].busy);
	}
	return rc;
}

static int send_to_all(const struct call *call, struct piece piece)
{
	int rc = 0;

	for (unsigned k = 1; !rc && k < call->slices; k++)
		rc = send(call, other(call, k), piece);
	return rc;
}

/* ---- combining ---- */

/*
 * The operands as an aligned binary tree, lower slices to the left. Slots
 * serve as the tree's inner nodes.
 */
static void combine_tree(const struct call *call, size_t count, float *out)
{
	void **operands = call->collective->operands;

	for (unsigned step = 1; step < call->slices; step *= 2)
		for (unsigned i = 0; i + step < call->slices; i += 2 * step) {
			bool last = 2 * step >= call->slices;

			call->combine(call->collective->config.threads, count,
				      operands[i], operands[i + step],
				      last ? out : operands[i]);
		}
}

/* This slice's version of a piece with those of the others. */
static int combine_arrived(const struct call *call, struct piece piece)
{
	struct collective *collective = call->collective;
	unsigned char *own = call->data + piece.first;
	int rc = 0;

	collective->operands[collective->config.slice] = own;
	for (unsigned k = 1; !rc && k < call->slices; k++) {
		unsigned from = other(call, k);

		rc = await(call, from, &collective->operands[from]);
	}
	if (rc)
		return rc;
	combine_tree(call, piece.bytes / sizeof(float), (float *)own);
	for (unsigned k = 1; !rc && k < call->slices; k++)
		rc = take(call, other(call, k));
	return rc;
}

/* Everybody sends everything; a piece leaves before it is combined. */
static int combine_whole(const struct call *call)
{
	int rc = 0;

	for (unsigned i = 0; !rc && i <= call->rounds; i++) {
		if (i < call->rounds)
			rc = send_to_all(call, piece_at(call, i));
		if (!rc && i > 0)
			rc = combine_arrived(call, piece_at(call, i - 1));
	}
	return rc;
}

static int scatter(const struct call *call, unsigned round)
{
	int rc = 0;

	for (unsigned k = 1; !rc && k < call->slices; k++)
		rc = send(call, other(call, k),
			  part_at(call, round, other(call, k)));
	return rc;
}

/* What the owners have made of their parts. */
static int gather(const struct call *call, unsigned round)
{
	int rc = 0;

	for (unsigned k = 1; !rc && k < call->slices; k++) {
		unsigned from = other(call, k);
		struct piece piece = part_at(call, round, from);
		void *slot;

		rc = await(call, from, &slot);
		if (rc)
			break;
		elementwise_copy(call->collective->config.threads,
				 piece.bytes / sizeof(float), slot,
				 (float *)(call->data + piece.first));
		rc = take(call, from);
	}
	return rc;
}

/* Each round's three moves, those of later rounds begun before. */
static int combine_parts(const struct call *call)
{
	unsigned slice = call->collective->config.slice;
	int rc = 0;

	for (unsigned i = 0; !rc && i < call->rounds + 2; i++) {
		if (i < call->rounds)
			rc = scatter(call, i);
		if (!rc && i >= 1 && i <= call->rounds) {
			struct piece own = part_at(call, i - 1, slice);

			rc = combine_arrived(call, own);
			if (!rc)
				rc = send_to_all(call, own);
		}
		if (!rc && i >= 2)
			rc = gather(call, i - 2);
	}
	return rc;
}

/* Errors stay with the exchange, where the engine looks for them. */
static void combine(void *argument, float *values, size_t count,
		    combine_fn *function)
{
	struct collective *collective = argument;
	struct call call = {
		.collective = collective,
		.slices = collective->config.slices,
		.data = (unsigned char *)values,
		.bytes = count * sizeof(float),
		.combine = function,
	};
	int rc;

	cut_values(&call);
	rc = begin_all(&call);
	if (!rc)
		rc = call.parts ? combine_parts(&call) : combine_whole(&call);
	if (!rc)
		(void)!end_all(&call);
}

static void sum(void *argument, float *values, size_t count)
{
	combine(argument, values, count, elementwise_add);
}

static void maximum(void *argument, float *values, size_t count)
{
	combine(argument, values, count, elementwise_maximum);
}

/* ---- bytes ---- */

static int receive_bytes(const struct call *call, unsigned from, unsigned i,
			 unsigned char *out)
{
	struct piece piece = piece_at(call, i);
	void *slot;
	int rc = await(call, from, &slot);

	if (rc)
		return rc;
	memcpy(out + piece.first, slot, piece.bytes);
	return take(call, from);
}

int collective_broadcast(struct collective *collective, void *data,
			 size_t bytes)
{
	struct call call = {
		.collective = collective,
		.slices = collective->config.slices,
		.data = data,
		.bytes = bytes,
	};
	bool speaks = collective->config.slice == 0;
	int rc = exchange_error(exchange_of(&call));

	cut_whole(&call);
	if (!rc && !speaks)
		rc = begin_call(&call, 0);
	for (unsigned i = 0; !rc && i < call.rounds; i++)
		rc = speaks ? send_to_all(&call, piece_at(&call, i))
			    : receive_bytes(&call, 0, i, data);
	return rc ? rc : end_all(&call);
}

int collective_all_gather(struct collective *collective, const void *mine,
			  size_t bytes, void *all)
{
	unsigned char *out = all;
	struct call call = {
		.collective = collective,
		.slices = collective->config.slices,
		.data = out + collective->config.slice * bytes,
		.bytes = bytes,
	};
	int rc;

	cut_whole(&call);
	if (bytes)
		memcpy(call.data, mine, bytes);
	rc = begin_all(&call);
	for (unsigned i = 0; !rc && i <= call.rounds; i++) {
		if (i < call.rounds)
			rc = send_to_all(&call, piece_at(&call, i));
		for (unsigned k = 1; !rc && i > 0 && k < call.slices; k++) {
			unsigned from = other(&call, k);

			rc = receive_bytes(&call, from, i - 1,
					   out + from * bytes);
		}
	}
	return rc ? rc : end_all(&call);
}

/* ---- life ---- */

size_t collective_region_bytes(unsigned slices)
{
	return (size_t)(slices - 1) * (ARRIVING + LEAVING) *
	       COLLECTIVE_SLOT_BYTES;
}

static void cut_memory(struct collective *collective)
{
	const struct collective_config *config = &collective->config;
	unsigned char *slot = config->memory;

	for (unsigned s = 0; s < config->slices; s++) {
		struct channel *channel = &collective->channels[s];

		if (s == config->slice)
			continue;
		channel->peer = config->first_rank + s;
		for (unsigned i = 0; i < ARRIVING; i++) {
			channel->arriving[i].data = slot;
			slot += COLLECTIVE_SLOT_BYTES;
		}
		for (unsigned i = 0; i < LEAVING; i++) {
			channel->leaving[i].own = slot;
			slot += COLLECTIVE_SLOT_BYTES;
		}
	}
}

int collective_create(const struct collective_config *config,
		      struct collective **out)
{
	struct collective *collective = calloc(1, sizeof(*collective));

	if (!collective)
		return fail(-ENOMEM, "no memory for the collectives");
	collective->config = *config;
	collective->channels =
		calloc(config->slices, sizeof(*collective->channels));
	collective->operands =
		calloc(config->slices, sizeof(*collective->operands));
	if (!collective->channels || !collective->operands) {
		collective_destroy(collective);
		return fail(-ENOMEM, "no memory for the collectives");
	}
	cut_memory(collective);
	collective->layers = (struct layer_collectives){
		.slices = config->slices,
		.slice = config->slice,
		.sum = sum,
		.maximum = maximum,
		.argument = collective,
	};
	*out = collective;
	return 0;
}

void collective_destroy(struct collective *collective)
{
	if (!collective)
		return;
	free(collective->channels);
	free(collective->operands);
	free(collective);
}

void collective_begin(struct collective *collective)
{
	if (!collective)
		return;
	collective->bytes_sent = 0;
	for (unsigned s = 0; s < collective->config.slices; s++) {
		struct channel *channel = &collective->channels[s];

		channel->expected = 0;
		channel->taken = 0;
		channel->sent = 0;
	}
}

const struct layer_collectives *
collective_layers(const struct collective *collective)
{
	return collective ? &collective->layers : NULL;
}

uint64_t collective_bytes_sent(const struct collective *collective)
{
	return collective->bytes_sent;
}

uint64_t collective_sum_bytes(unsigned slices, unsigned slice, size_t count)
{
	struct call call = {
		.slices = slices,
		.bytes = count * sizeof(float),
	};
	uint64_t own = 0;

	cut_values(&call);
	if (!call.parts)
		return (uint64_t)(slices - 1) * call.bytes;
	for (unsigned i = 0; i < call.rounds; i++)
		own += part_at(&call, i, slice).bytes;
	return call.bytes - own + (slices - 1) * own;
}
