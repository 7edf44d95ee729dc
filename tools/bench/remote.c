/*
 * Two hosts. The one that listens is rank 1 and plays what it is told; the one
 * that connects is rank 0, leads, and has the figures. They talk over a link of
 * tcp, so that a job key keeps others out of that, too.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "tools/bench/bench.h"

#define CONTROL_JOB    0x62656e63686374ull
#define RECORD_BYTES   4096
#define LISTEN_SECONDS 600
#define DIAL_SECONDS   10

static int open_endpoint(const struct bench_place *place, unsigned rank,
			 char *address, size_t size,
			 struct transport_endpoint **out)
{
	struct transport_config config;
	int status;

	transport_config_default(&config);
	config.io = "sockets";
	config.rank = rank;
	config.size = 2;
	config.job = CONTROL_JOB;
	config.bind = place->bind;
	config.key = place->key;
	status = transport_open(&config, out);
	if (status)
		return status;
	status = transport_listen(*out, address, size);
	if (status)
		transport_close(*out);
	return status;
}

static int meet(struct bench_control *control, const char *remote,
		int64_t timeout_ns)
{
	const char *addresses[2] = {NULL, remote};
	unsigned other = !control->rank;
	void *record;
	int status;

	status = transport_connect(control->endpoint, &other, 1, addresses,
				   timeout_ns);
	if (!status)
		status = transport_create_region(control->endpoint,
						 RECORD_BYTES, &record);
	if (!status)
		control->record = record;
	return status;
}

int bench_remote_connect(const struct bench_place *place, const char *address,
			 struct bench_control *out)
{
	char own[TRANSPORT_ADDRESS_BYTES];
	char full[TRANSPORT_ADDRESS_BYTES];
	int status;

	*out = (struct bench_control){.fd = -1, .rank = 0};
	snprintf(full, sizeof(full), "%s%s",
		 strncmp(address, "tcp:", 4) ? "tcp:" : "", address);
	status = open_endpoint(place, 0, own, sizeof(own), &out->endpoint);
	if (status)
		return status;
	status = meet(out, full, DIAL_SECONDS * NS_PER_SECOND);
	if (status)
		bench_remote_close(out);
	return status;
}

void bench_remote_close(struct bench_control *control)
{
	transport_close(control->endpoint);
	control->endpoint = NULL;
}

int bench_remote_run(struct bench_control *control,
		     const struct bench_place *place,
		     const struct bench_cell *cell,
		     const struct bench_manner *manner,
		     struct bench_result *out)
{
	struct bench_side side = {
		.cell = cell,
		.rank = 0,
		.control = control,
		.bind = place->bind,
		.key = place->key,
	};
	int status = bench_tell(control, cell, sizeof(*cell));

	return status ? status : bench_cell_lead(&side, manner, out);
}

int bench_remote_end(struct bench_control *control)
{
	static const struct bench_cell none;

	return bench_tell(control, &none, sizeof(none));
}

static bool is_text(const char *text, size_t size)
{
	return memchr(text, '\0', size) != NULL;
}

/* What came from the other host: is it a cell that two hosts can play? */
static bool is_playable(const struct bench_cell *cell)
{
	const struct bench_player *player;
	unsigned i;

	if (cell->test > BENCH_PRODUCE || cell->waiting > BENCH_ADAPTIVE ||
	    cell->player_count > BENCH_PLAYERS_MAX || !cell->bytes ||
	    cell->bytes > BENCH_BYTES_MAX)
		return false;
	for (i = 0; i < cell->player_count; i++) {
		player = &cell->players[i];
		if ((player->kind != BENCH_SOCKET &&
		     player->kind != BENCH_MESSAGE) ||
		    player->checksum > 1 || player->acquire > 1 ||
		    player->wire > TRANSPORT_WIRE_ENCRYPTED ||
		    !is_text(player->name, sizeof(player->name)) ||
		    !is_text(player->transport, sizeof(player->transport)) ||
		    !is_text(player->io, sizeof(player->io)))
			return false;
	}
	return true;
}

static int serve(struct bench_control *control, const struct bench_place *place)
{
	struct bench_cell cell;
	struct bench_side side = {
		.cell = &cell,
		.rank = 1,
		.control = control,
		.bind = place->bind,
		.key = place->key,
	};
	int status;

	for (;;) {
		status = bench_hear(control, &cell, sizeof(cell));
		if (status || !cell.player_count)
			return status;
		if (!is_playable(&cell))
			return fail(-EPROTO,
				    "bench: the other host asks for "
				    "what two hosts cannot measure: is "
				    "it another version?");
		status = bench_cell_follow(&side);
		if (status)
			return status;
	}
}

int bench_remote_listen(const struct bench_place *place)
{
	struct bench_control control = {.fd = -1, .rank = 1};
	char address[TRANSPORT_ADDRESS_BYTES];
	int status;

	status = open_endpoint(place, 1, address, sizeof(address),
			       &control.endpoint);
	if (status)
		return status;
	printf("listening; on the other host: stagecoach bench transport "
	       "--connect %s\n",
	       address + strlen("tcp:"));
	fflush(stdout);
	status = meet(&control, NULL, LISTEN_SECONDS * NS_PER_SECOND);
	if (!status)
		status = serve(&control, place);
	transport_close(control.endpoint);
	return status;
}
