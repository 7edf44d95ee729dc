#include "engine/ferry.h"
#include "base/log.h"

#include <errno.h>
#include <stdlib.h>

struct berth {
	unsigned char *data;
	struct message message; /* being received into it */
	bool busy;              /* being sent from it */
};

struct ferry {
	struct exchange *exchange;
	struct berth berths[FERRY_PIECES];
};

/* How far a cargo has been loaded or unloaded. */
struct cursor {
	const struct ferry_cargo *cargo;
	size_t item;
	uint64_t first; /* byte of the item */
};

int ferry_create(struct exchange *exchange, void *memory, struct ferry **out)
{
	struct ferry *ferry = calloc(1, sizeof(*ferry));

	if (!ferry)
		return fail(-ENOMEM, "no memory for the ferry");
	ferry->exchange = exchange;
	for (size_t i = 0; i < FERRY_PIECES; i++)
		ferry->berths[i].data =
			(unsigned char *)memory + i * FERRY_PIECE_BYTES;
	*out = ferry;
	return 0;
}

void ferry_destroy(struct ferry *ferry)
{
	free(ferry);
}

static uint64_t cargo_bytes(const struct ferry_cargo *cargo)
{
	uint64_t bytes = 0;

	for (size_t i = 0; i < cargo->items; i++)
		bytes += cargo->bytes(cargo->argument, i);
	return bytes;
}

/* The piece that begins `done` bytes into the cargo. */
static struct message piece_at(const struct ferry_cargo *cargo, unsigned peer,
			       uint64_t done, uint64_t total)
{
	return (struct message){
		.kind = MESSAGE_PIECE,
		.stage = cargo->kind,
		.micro_batch = (uint16_t)(done / FERRY_PIECE_BYTES),
		.peer = peer,
		.bytes = (size_t)MIN(total - done, FERRY_PIECE_BYTES),
	};
}

static struct berth *berth_at(struct ferry *ferry, uint64_t done)
{
	return &ferry->berths[done / FERRY_PIECE_BYTES % FERRY_PIECES];
}

/* One piece's worth of items, from where the cursor stands. */
static int move_piece(struct cursor *cursor, unsigned char *data, size_t bytes)
{
	const struct ferry_cargo *cargo = cursor->cargo;
	int rc = 0;

	while (!rc && bytes > 0) {
		uint64_t left = cargo->bytes(cargo->argument, cursor->item) -
				cursor->first;
		size_t part = (size_t)MIN(left, (uint64_t)bytes);

		if (part > 0)
			rc = cargo->move(cargo->argument, cursor->item,
					 cursor->first, data, part);
		data += part;
		bytes -= part;
		cursor->first += part;
		if (part == left) {
			cursor->item++;
			cursor->first = 0;
		}
	}
	return rc;
}

int ferry_send(struct ferry *ferry, unsigned peer,
	       const struct ferry_cargo *cargo)
{
	struct cursor cursor = {.cargo = cargo};
	uint64_t total = cargo_bytes(cargo);
	int rc = 0;

	for (uint64_t done = 0; !rc && done < total;
	     done += FERRY_PIECE_BYTES) {
		struct message piece = piece_at(cargo, peer, done, total);
		struct berth *berth = berth_at(ferry, done);

		rc = exchange_await_sent(ferry->exchange, &berth->busy);
		if (!rc)
			rc = move_piece(&cursor, berth->data, piece.bytes);
		if (!rc)
			rc = exchange_send(ferry->exchange, &piece, berth->data,
					   &berth->busy);
	}
	for (size_t i = 0; !rc && i < FERRY_PIECES; i++)
		rc = exchange_await_sent(ferry->exchange,
					 &ferry->berths[i].busy);
	return rc;
}

/* Makes room for the piece that begins at `done`, if there is one. */
static int expect(struct ferry *ferry, unsigned peer,
		  const struct ferry_cargo *cargo, uint64_t done,
		  uint64_t total)
{
	struct berth *berth = berth_at(ferry, done);

	if (done >= total)
		return 0;
	berth->message = piece_at(cargo, peer, done, total);
	berth->message.data = berth->data;
	return exchange_expect(ferry->exchange, &berth->message);
}

int ferry_receive(struct ferry *ferry, unsigned peer,
		  const struct ferry_cargo *cargo)
{
	struct cursor cursor = {.cargo = cargo};
	uint64_t total = cargo_bytes(cargo);
	int rc = 0, moved = 0;

	for (unsigned i = 0; !rc && i < FERRY_PIECES; i++)
		rc = expect(ferry, peer, cargo, i * FERRY_PIECE_BYTES, total);
	for (uint64_t done = 0; !rc && done < total;
	     done += FERRY_PIECE_BYTES) {
		struct berth *berth = berth_at(ferry, done);

		rc = exchange_await_expected(ferry->exchange, &berth->message);
		if (!rc && !moved)
			moved = move_piece(&cursor, berth->data,
					   berth->message.bytes);
		if (!rc)
			rc = expect(ferry, peer, cargo, done + FERRY_BYTES,
				    total);
	}
	return rc ? rc : moved;
}
