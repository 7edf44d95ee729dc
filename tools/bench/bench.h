/*
 * stagecoach bench transport: what a transport costs, beside a yardstick.
 *
 * A cell is one cell of the tables: a test at one message size, of a few
 * players that take turns: a yardstick first and last (two identical runs, whose
 * difference tells how far the rest can be believed), and the transports.
 * Two sides play a cell, rank 0 and rank 1: two processes, two threads
 * (inproc), or two hosts. Rank 0 leads: it says over a control socket who
 * plays next and how many messages, and takes the time.
 */
#ifndef STAGECOACH_TOOLS_BENCH_BENCH_H
#define STAGECOACH_TOOLS_BENCH_BENCH_H

#include "base/compiler.h"
#include "transport/transport.h"

#define BENCH_PLAYERS_MAX 5
#define BENCH_ROUNDS_MAX  99
#define BENCH_SAMPLES_MAX 4000       /* messages of a run, at most */
#define BENCH_STREAM_MAX  (1u << 18) /* ... of one that is not latency */
#define BENCH_SLOTS       4          /* messages in flight */
#define BENCH_BYTES_MAX   ((uint64_t)1 << 30)

enum bench_test {
	BENCH_LATENCY,   /* half a round trip */
	BENCH_BANDWIDTH, /* one way, BENCH_SLOTS in flight */
	BENCH_PRODUCE,   /* bandwidth; each message is written and read, too */
};

enum bench_waiting {
	BENCH_SLEEPING, /* at once, always */
	BENCH_SPINNING, /* a second before it sleeps */
	BENCH_ADAPTIVE, /* the default: a short time, then sleep */
};

enum bench_kind {
	BENCH_SOCKET,  /* a plain socket */
	BENCH_MEMORY,  /* plain shared memory: a copy in, and a flag */
	BENCH_MESSAGE, /* transport.h */
};

/* A player, as both sides are told of it. No pointers: it travels. */
struct bench_player {
	uint32_t kind;
	uint32_t acquire; /* BENCH_PRODUCE: writes where acquire_send says */
	uint32_t checksum;
	uint32_t wire; /* enum transport_wire */
	char name[24]; /* of its column */
	char transport[16];
	char io[16];
};

struct bench_cell {
	uint32_t test;
	uint32_t waiting;
	uint32_t player_count;
	uint32_t threads; /* the other side is a thread of this process */
	uint64_t bytes;
	struct bench_player players[BENCH_PLAYERS_MAX];
};

/*
 * What the two sides say to each other between runs: over a socket pair on one
 * host, over a link of tcp between two. control.c
 */
struct bench_control {
	int fd; /* -1: the endpoint */
	struct transport_endpoint *endpoint;
	unsigned rank;
	uint64_t told, heard; /* records so far */
	unsigned char *record;
};

/* Whole records. -ECONNRESET: the other side has ended. */
int bench_tell(struct bench_control *control, const void *record,
	       size_t bytes) MUST_CHECK;
int bench_hear(struct bench_control *control, void *record,
	       size_t bytes) MUST_CHECK;

/* Where this host's sockets listen, and who may come. */
struct bench_place {
	const char *bind;         /* numeric address */
	const unsigned char *key; /* NULL: none */
};

/* One of the two sides that play a cell. */
struct bench_side {
	const struct bench_cell *cell;
	unsigned rank;
	struct bench_control *control;
	const char *bind;
	const unsigned char *key;
	struct transport_hub *hubs[BENCH_PLAYERS_MAX]; /* threads */
	void *shared; /* bench_memory_bytes(), for BENCH_MEMORY */
};

/*
 * A player's half on one side. play does `count` messages of the cell's test;
 * rank 0 of BENCH_LATENCY writes the half round trips to samples (ns).
 */
struct bench_half;
struct bench_half_ops {
	int (*open)(const struct bench_side *side,
		    const struct bench_player *player, struct bench_half **out);
	int (*play)(struct bench_half *half, unsigned count, double *samples);
	void (*close)(struct bench_half *half); /* NULL is legal */
};

struct bench_half {
	const struct bench_half_ops *ops;
	const struct bench_side *side;
	const struct bench_player *player;
};

extern const struct bench_half_ops bench_socket_ops;
extern const struct bench_half_ops bench_memory_ops;
extern const struct bench_half_ops bench_message_ops;

/* Slots of a test: BENCH_SLOTS, or fewer where messages are large. */
unsigned bench_slots(uint64_t bytes);
size_t bench_memory_bytes(uint64_t bytes);

/* The work of a producer and a consumer: every byte, as fast as memory goes. */
void bench_produce(void *data, size_t bytes, uint64_t seed);
uint64_t bench_consume(const void *data, size_t bytes);

/* How a run is done: `rounds` times each player, about run_ns long. */
struct bench_manner {
	unsigned rounds;
	int64_t run_ns;
};

/* Of one player: a value a round, and over all rounds. */
struct bench_score {
	double round[BENCH_ROUNDS_MAX]; /* us, or GB/s */
	double median;
	double p99;   /* us; latency only */
	double ratio; /* to the yardstick: median of the rounds' ratios */
};

struct bench_result {
	struct bench_score scores[BENCH_PLAYERS_MAX];
	double control; /* the yardstick's second runs by its first, likewise */
	unsigned count; /* messages a run */
};

/* Is there one? Then it is player 0, and each round ends with it again. */
bool bench_has_yardstick(const struct bench_cell *cell);
/* Two runs of it differ by more than 3 %: no ratio can be believed. */
bool bench_conclusive(const struct bench_cell *cell,
		      const struct bench_result *result);

/* Rank 0's half of a cell; the other side runs bench_cell_follow(). */
int bench_cell_lead(const struct bench_side *side,
		    const struct bench_manner *manner,
		    struct bench_result *out) MUST_CHECK;
int bench_cell_follow(const struct bench_side *side) MUST_CHECK;

/* Both halves on this machine: starts the other side, and ends it. */
int bench_cell_run(const struct bench_cell *cell, const unsigned char *key,
		   const struct bench_manner *manner,
		   struct bench_result *out) MUST_CHECK;

/*
 * remote.c: two hosts. listen: waits ten minutes for the other host, then plays
 * what it asks for, until it ends. connect to its address; run cells; end.
 */
int bench_remote_listen(const struct bench_place *place) MUST_CHECK;
int bench_remote_connect(const struct bench_place *place, const char *address,
			 struct bench_control *out) MUST_CHECK;
int bench_remote_run(struct bench_control *control,
		     const struct bench_place *place,
		     const struct bench_cell *cell,
		     const struct bench_manner *manner,
		     struct bench_result *out) MUST_CHECK;
int bench_remote_end(struct bench_control *control) MUST_CHECK;
void bench_remote_close(struct bench_control *control);

/* report.c */
void bench_report_heading(const struct bench_cell *cell, const char *family);
void bench_report_row(const struct bench_cell *cell,
		      const struct bench_result *result);
void bench_report_json(const struct bench_cell *cell,
		       const struct bench_manner *manner,
		       const struct bench_result *result);

#endif
