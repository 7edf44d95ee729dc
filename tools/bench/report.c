/* Tables of at most 100 columns, or an object a line. */
#include <stdio.h>
#include <string.h>

#include "base/json.h"
#include "base/text.h"
#include "tools/bench/bench.h"

static const char *const tests[] = {
	[BENCH_LATENCY] = "latency",
	[BENCH_BANDWIDTH] = "bandwidth",
	[BENCH_PRODUCE] = "produce",
};

static const char *const waitings[] = {
	[BENCH_SLEEPING] = "sleeping",
	[BENCH_SPINNING] = "spinning",
	[BENCH_ADAPTIVE] = "adaptive",
};

static const char *const wires[] = {
	[TRANSPORT_WIRE_AUTO] = "auto",
	[TRANSPORT_WIRE_CHECKED] = "checked",
	[TRANSPORT_WIRE_AUTHENTIC] = "authentic",
	[TRANSPORT_WIRE_ENCRYPTED] = "encrypted",
};

/* What protects the bytes of the transports, for the heading. */
static const char *protection(const struct bench_player *player)
{
	static const char *const words[] = {
		[TRANSPORT_WIRE_AUTHENTIC] = ", authentic",
		[TRANSPORT_WIRE_ENCRYPTED] = ", encrypted",
	};

	if (player->wire >= TRANSPORT_WIRE_AUTHENTIC)
		return words[player->wire];
	return player->checksum ? ", checksum" : "";
}

static const char *const meanings[] = {
	[BENCH_LATENCY] = "half a round trip in microseconds",
	[BENCH_BANDWIDTH] = "one way in GB/s, four messages in flight",
	[BENCH_PRODUCE] = "written, sent, read: GB/s, four messages in flight",
};

void bench_report_heading(const struct bench_cell *cell, const char *family)
{
	bool latency = cell->test == BENCH_LATENCY;
	const struct bench_player *player;
	unsigned i;

	printf("\n%s, %s%s: %s\n%8s", family, waitings[cell->waiting],
	       protection(&cell->players[cell->player_count - 1]),
	       meanings[cell->test], "");
	for (i = 0; i < cell->player_count; i++) {
		player = &cell->players[i];
		if (player->kind == BENCH_MESSAGE)
			printf("  %*s", latency ? 23 : 15, player->name);
		else
			printf("  %*s", latency ? 16 : 8, player->name);
	}
	printf("\n%8s", "bytes");
	for (i = 0; i < cell->player_count; i++) {
		printf("  %8s", latency ? "median" : "GB/s");
		if (latency)
			printf(" %7s", "p99");
		if (cell->players[i].kind == BENCH_MESSAGE)
			printf(" %6s", "ratio");
	}
	printf("\n");
	fflush(stdout);
}

void bench_report_row(const struct bench_cell *cell,
		      const struct bench_result *result)
{
	bool latency = cell->test == BENCH_LATENCY;
	bool yardstick = bench_has_yardstick(cell);
	const struct bench_score *score;
	char size[32];
	unsigned i;

	printf("%8s", text_bytes(size, sizeof(size), cell->bytes));
	for (i = 0; i < cell->player_count; i++) {
		score = &result->scores[i];
		printf("  %8.*f", latency ? 2 : 3, score->median);
		if (latency)
			printf(" %7.1f", score->p99);
		if (cell->players[i].kind == BENCH_MESSAGE && yardstick)
			printf(" %6.2f", score->ratio);
		else if (cell->players[i].kind == BENCH_MESSAGE)
			printf(" %6s", "-");
	}
	if (yardstick && !bench_conclusive(cell, result))
		printf("  inconclusive: %+.0f %%", 100 * (result->control - 1));
	printf("\n");
	fflush(stdout);
}

void bench_report_json(const struct bench_cell *cell,
		       const struct bench_manner *manner,
		       const struct bench_result *result)
{
	bool latency = cell->test == BENCH_LATENCY;
	const struct bench_player *player;
	const struct bench_score *score;
	json_t *object;
	unsigned i;

	for (i = 0; i < cell->player_count; i++) {
		player = &cell->players[i];
		score = &result->scores[i];
		object = json_pack(
			"{s:s, s:s, s:s, s:s, s:s, s:b, s:I, s:i, s:i}", "test",
			tests[cell->test], "name", player->name, "transport",
			player->transport, "waiting", waitings[cell->waiting],
			"wire", wires[player->wire], "checksum",
			(int)player->checksum, "bytes", (json_int_t)cell->bytes,
			"rounds", (int)manner->rounds, "messages",
			(int)result->count);
		if (player->io[0])
			json_object_set_new(object, "io",
					    json_string(player->io));
		json_object_set_new(object,
				    latency ? "median_us" : "gb_per_second",
				    json_real(score->median));
		if (latency)
			json_object_set_new(object, "p99_us",
					    json_real(score->p99));
		if (player->kind == BENCH_MESSAGE &&
		    bench_has_yardstick(cell)) {
			json_object_set_new(object, "yardstick",
					    json_string(cell->players[0].name));
			json_object_set_new(object, "ratio",
					    json_real(score->ratio));
			json_object_set_new(object, "control",
					    json_real(result->control));
			json_object_set_new(
				object, "conclusive",
				json_boolean(bench_conclusive(cell, result)));
		}
		json_dumpf(object, stdout,
			   JSON_COMPACT | JSON_REAL_PRECISION(6));
		printf("\n");
		json_decref(object);
	}
	fflush(stdout);
}
