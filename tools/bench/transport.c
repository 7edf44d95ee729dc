/* The cells of the tables: which transports, tests, sizes, ways of waiting. */
#include "tools/bench/transport.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/text.h"
#include "tools/bench/bench.h"
#include "transport/secure/secure.h"

#define SIZES_MAX 32

static const struct option_spec table[] = {
	{.name = "transport",
	 .kind = OPTION_STRING,
	 .argument = "LIST",
	 .group = "What",
	 .help = "of inproc, shm, tcp, tcp/uring, tcp/sockets, rdma (default: all that run here)"},
	{.name = "list",
	 .kind = OPTION_FLAG,
	 .help = "instead: RDMA devices, ports and GIDs, and why one cannot be used"},
	{.name = "test",
	 .kind = OPTION_CHOICE,
	 .argument = "TEST",
	 .choices = "all|latency|bandwidth|produce",
	 .fallback = "all",
	 .help = "half a round trip; one way, four messages in flight; or the same with every message written before and read after"},
	{.name = "waiting",
	 .kind = OPTION_CHOICE,
	 .argument = "HOW",
	 .choices = "both|sleeping|spinning|adaptive",
	 .fallback = "both",
	 .help = "sleep at once, spin without end, or (as in training) spin a short time and then sleep"},
	{.name = "checksum",
	 .kind = OPTION_CHOICE,
	 .argument = "WHICH",
	 .choices = "both|on|off",
	 .fallback = "both",
	 .help = "CRC-32C over payloads, where bytes travel"},
	{.name = "wire",
	 .kind = OPTION_CHOICE,
	 .argument = "MODE",
	 .choices = "checked|authentic|encrypted",
	 .fallback = "checked",
	 .help = "tcp: what protects the bytes on their way"},
	{.name = "sizes",
	 .kind = OPTION_STRING,
	 .argument = "LIST",
	 .fallback = "8,1K,4K,16K,64K,256K,1M,4M,16M,64M",
	 .help = "bytes a message"},
	{.name = "rounds",
	 .kind = OPTION_INTEGER,
	 .argument = "N",
	 .fallback = "9",
	 .minimum = 1,
	 .maximum = BENCH_ROUNDS_MAX,
	 .group = "How",
	 .help = "turns each takes; medians of them are shown"},
	{.name = "milliseconds",
	 .kind = OPTION_INTEGER,
	 .argument = "MS",
	 .fallback = "15",
	 .minimum = 1,
	 .maximum = 10000,
	 .help = "a turn's length, about"},
	{.name = "listen",
	 .kind = OPTION_FLAG,
	 .group = "Two hosts",
	 .help = "wait for the other host, and do what it asks for"},
	{.name = "connect",
	 .kind = OPTION_STRING,
	 .argument = "ADDRESS",
	 .help = "of the host that listens, as it says it"},
	{.name = "bind",
	 .kind = OPTION_STRING,
	 .argument = "ADDRESS",
	 .fallback = "127.0.0.1",
	 .help = "numeric address of this host that the other one reaches"},
	{.name = "key-file",
	 .kind = OPTION_STRING,
	 .argument = "FILE",
	 .help = "the job key, the same on both; beyond loopback there must be one"},
	{.name = "json",
	 .kind = OPTION_FLAG,
	 .group = "Output",
	 .help = "an object a line instead of tables"},
	{.name = NULL},
};

const struct option_command bench_transport_command = {
	.name = "bench transport",
	.synopsis = "[options]",
	.summary = "latency and bandwidth of the transports, beside yardsticks",
	.description =
		"Two processes (two threads for inproc and rdma) exchange messages of each size over "
		"each transport, and the same over what one would use without it: a plain TCP "
		"socket, or plain shared memory into which the sender copies. All of them take "
		"turns; the ratio to the yardstick is the median of the rounds' ratios. In each "
		"round the yardstick has two turns, and where these differ by more than 3 % the "
		"line says that it is inconclusive: the machine was busy.\n\n"
		"Between two hosts one waits with --listen --bind ADDRESS --key-file FILE, and "
		"the other, with --connect, leads and prints.",
	.table = table,
};

/* Transports that share a yardstick and stand side by side in a table. */
struct family {
	const char *name;
	enum bench_kind yardstick;
	bool threads;
	bool checksums;
	bool in_place; /* acquire_send gives the receiver's own slot */
	const char *ios[3];
};

static const struct family families[] = {
	{.name = "inproc",
	 .yardstick = BENCH_MEMORY,
	 .threads = true,
	 .in_place = true,
	 .ios = {""}},
	{.name = "shm",
	 .yardstick = BENCH_MEMORY,
	 .in_place = true,
	 .ios = {""}},
	{.name = "tcp",
	 .yardstick = BENCH_SOCKET,
	 .checksums = true,
	 .ios = {"uring", "sockets"}},
	/* Threads: the library keeps devices open, which stands no fork. */
	{.name = "rdma",
	 .yardstick = BENCH_SOCKET,
	 .threads = true,
	 .ios = {""}},
};

struct bench {
	const struct options *options;
	struct bench_manner manner;
	struct bench_place place;
	unsigned char key[SECURE_KEY_BYTES];
	struct bench_control remote; /* endpoint NULL: this host alone */
	bool json;
	uint64_t sizes[SIZES_MAX];
	size_t size_count;
	unsigned chosen[ARRAY_SIZE(families)]; /* a bit for each of its ios */
};

static unsigned io_count(const struct family *family)
{
	unsigned count = 0;

	while (count < ARRAY_SIZE(family->ios) && family->ios[count])
		count++;
	return count;
}

static void full_name(const struct family *family, unsigned io, char *out,
		      size_t size)
{
	snprintf(out, size, "%s%s%s", family->name,
		 family->ios[io][0] ? "/" : "", family->ios[io]);
}

static void swallow(void *argument, enum log_level level, const char *line)
{
	(void)argument;
	(void)level;
	(void)line;
}

/* Can an endpoint of this kind be opened here? If not, the last error says
 * why. */
static bool runs_here(const struct family *family, unsigned io)
{
	struct transport_endpoint *endpoint;
	struct transport_config config;
	struct transport_hub *hub = transport_hub_create(2);
	int status;

	transport_config_default(&config);
	config.kind = family->name;
	config.io = family->ios[io][0] ? family->ios[io] : NULL;
	config.size = 2;
	config.job = 1;
	config.hub = hub;
	log_set_sink(swallow, NULL);
	status = transport_open(&config, &endpoint);
	log_set_sink(NULL, NULL);
	if (!status)
		transport_close(endpoint);
	transport_hub_destroy(hub);
	return !status;
}

/* One word of --transport: a family, or one of its ios. */
static int choose_word(struct bench *bench, const char *word, bool asked)
{
	char name[64];
	bool known = false;
	size_t i;
	unsigned io;

	for (i = 0; i < ARRAY_SIZE(families); i++) {
		for (io = 0; io < io_count(&families[i]); io++) {
			full_name(&families[i], io, name, sizeof(name));
			if (strcmp(word, name) &&
			    strcmp(word, families[i].name))
				continue;
			known = true;
			if (runs_here(&families[i], io))
				bench->chosen[i] |= 1u << io;
			else if (asked)
				return fail(-EOPNOTSUPP, "--transport %s: %s",
					    word, log_last_error());
			else
				log_info("without %s: %s", name,
					 log_last_error());
		}
	}
	return known ? 0
		     : fail(-EINVAL,
			    "--transport: '%s' is none of inproc, shm, tcp, "
			    "tcp/uring, tcp/sockets, rdma",
			    word);
}

static int next_word(const char **list, char *word, size_t size)
{
	size_t length = strcspn(*list, ",");

	if (!length || length >= size)
		return -EINVAL;
	memcpy(word, *list, length);
	word[length] = '\0';
	*list += length + ((*list)[length] == ',');
	return 0;
}

static int choose_transports(struct bench *bench)
{
	const char *list = options_string(bench->options, "transport");
	char word[32];
	size_t i;
	int status = 0;

	for (i = 0; !list && i < ARRAY_SIZE(families) && !status; i++)
		status = choose_word(bench, families[i].name, false);
	while (list && *list && !status) {
		status = next_word(&list, word, sizeof(word));
		if (status)
			return fail(status, "--transport takes a list such as "
					    "tcp/uring,inproc");
		status = choose_word(bench, word, true);
	}
	return status;
}

static int choose_sizes(struct bench *bench)
{
	const char *list = options_string(bench->options, "sizes");
	uint64_t bytes;
	char word[32];

	while (*list) {
		if (next_word(&list, word, sizeof(word)) ||
		    text_parse_bytes(word, &bytes) || !bytes ||
		    bytes > BENCH_BYTES_MAX || bench->size_count == SIZES_MAX)
			return fail(-EINVAL,
				    "--sizes takes a list such as 8,64K,1M, of "
				    "at most %d sizes up to 1G",
				    SIZES_MAX);
		bench->sizes[bench->size_count++] = bytes;
	}
	return 0;
}

static void add_yardstick(struct bench_cell *cell, const struct family *family)
{
	bool socket = family->yardstick == BENCH_SOCKET;
	struct bench_player *player = &cell->players[cell->player_count++];

	*player = (struct bench_player){.kind = family->yardstick};
	snprintf(player->name, sizeof(player->name), "%s",
		 socket ? "plain socket" : "copy");
	snprintf(player->transport, sizeof(player->transport), "%s",
		 socket ? "socket" : "memory");
}

static void add_player(struct bench_cell *cell, const struct family *family,
		       unsigned io, bool checksum, enum transport_wire wire,
		       bool acquire)
{
	struct bench_player *player = &cell->players[cell->player_count++];

	*player = (struct bench_player){
		.kind = BENCH_MESSAGE,
		.checksum = checksum,
		.acquire = acquire,
		.wire = wire,
	};
	full_name(family, io, player->name, sizeof(player->name));
	if (acquire)
		snprintf(player->name, sizeof(player->name), "in place");
	snprintf(player->transport, sizeof(player->transport), "%s",
		 family->name);
	snprintf(player->io, sizeof(player->io), "%s", family->ios[io]);
}

static enum transport_wire wire_of(const struct options *options)
{
	const char *wire = options_string(options, "wire");

	switch (wire[0]) {
	case 'a':
		return TRANSPORT_WIRE_AUTHENTIC;
	case 'e':
		return TRANSPORT_WIRE_ENCRYPTED;
	default:
		return TRANSPORT_WIRE_CHECKED;
	}
}

static void make_cell(const struct bench *bench, size_t which,
		      enum bench_test test, enum bench_waiting waiting,
		      bool checksum, struct bench_cell *out)
{
	const struct family *family = &families[which];
	enum transport_wire wire = TRANSPORT_WIRE_CHECKED;
	unsigned io;

	if (family->checksums)
		wire = wire_of(bench->options);
	*out = (struct bench_cell){
		.test = test,
		.waiting = waiting,
		.threads = family->threads,
	};
	add_yardstick(out, family);
	for (io = 0; io < io_count(family); io++) {
		if (!(bench->chosen[which] & 1u << io))
			continue;
		add_player(out, family, io, checksum, wire, false);
		if (test == BENCH_PRODUCE && family->in_place)
			add_player(out, family, io, checksum, wire, true);
	}
}

static int run_cell(struct bench *bench, const struct bench_cell *cell,
		    struct bench_result *result)
{
	if (bench->remote.endpoint)
		return bench_remote_run(&bench->remote, &bench->place, cell,
					&bench->manner, result);
	return bench_cell_run(cell, bench->place.key, &bench->manner, result);
}

static int run_table(struct bench *bench, size_t which, enum bench_test test,
		     enum bench_waiting waiting, bool checksum)
{
	struct bench_result result;
	struct bench_cell cell;
	int status = 0;
	size_t i;

	make_cell(bench, which, test, waiting, checksum, &cell);
	if (!bench->json)
		bench_report_heading(&cell, families[which].name);
	for (i = 0; i < bench->size_count && !status; i++) {
		cell.bytes = bench->sizes[i];
		status = run_cell(bench, &cell, &result);
		if (status)
			break;
		if (bench->json)
			bench_report_json(&cell, &bench->manner, &result);
		else
			bench_report_row(&cell, &result);
	}
	return status;
}

/* Is `value` what the option asks for, or does it ask for all? */
static bool wanted(const struct bench *bench, const char *option,
		   const char *value, bool in_all)
{
	const char *asked = options_string(bench->options, option);

	if (!strcmp(asked, "all") || !strcmp(asked, "both"))
		return in_all;
	return !strcmp(asked, value);
}

static int run_family(struct bench *bench, size_t which)
{
	static const char *const waitings[] = {"sleeping", "spinning",
					       "adaptive"};
	static const char *const tests[] = {"latency", "bandwidth", "produce"};
	static const char *const checksums[] = {"off", "on"};
	/* A MAC takes the checksum's place. */
	bool sealed = wire_of(bench->options) != TRANSPORT_WIRE_CHECKED;
	int status = 0;
	unsigned check;
	unsigned test;
	unsigned wait;

	for (test = 0; test < 3; test++) {
		for (wait = 0; wait < 3; wait++) {
			for (check = 0; check < 2 && !status; check++) {
				if (!wanted(bench, "test", tests[test], true) ||
				    !wanted(bench, "waiting", waitings[wait],
					    wait != BENCH_ADAPTIVE))
					continue;
				if (families[which].checksums && !sealed
					    ? !wanted(bench, "checksum",
						      checksums[check], true)
					    : check)
					continue;
				status = run_table(bench, which, test, wait,
						   check);
			}
		}
	}
	return status;
}

/* From a file, or a new one where both sides are processes of this host. */
static int choose_key(struct bench *bench)
{
	const char *path = options_string(bench->options, "key-file");
	int status = 0;

	bench->place.bind = options_string(bench->options, "bind");
	if (path)
		status = secure_key_load(path, bench->key);
	else if (wire_of(bench->options) != TRANSPORT_WIRE_CHECKED)
		status = secure_key_make(bench->key);
	else
		return 0;
	bench->place.key = bench->key;
	return status;
}

static int choose_remote(struct bench *bench)
{
	const char *address = options_string(bench->options, "connect");
	size_t i;

	if (!address)
		return 0;
	for (i = 0; i < ARRAY_SIZE(families); i++) {
		if (families[i].yardstick != BENCH_SOCKET)
			bench->chosen[i] = 0; /* memory does not reach so far */
	}
	return bench_remote_connect(&bench->place, address, &bench->remote);
}

static int run_all(struct bench *bench)
{
	int status = 0;
	size_t i;

	for (i = 0; i < ARRAY_SIZE(families) && !status; i++)
		if (bench->chosen[i])
			status = run_family(bench, i);
	if (bench->remote.endpoint && !status)
		status = bench_remote_end(&bench->remote);
	if (bench->remote.endpoint)
		bench_remote_close(&bench->remote);
	return status;
}

static int check_hosts(const struct options *options)
{
	bool listens = options_flag(options, "listen");
	bool connects = options_string(options, "connect");

	if (listens && connects)
		return fail(-EINVAL,
			    "--listen and --connect: one host listens, "
			    "the other connects");
	if (wire_of(options) != TRANSPORT_WIRE_CHECKED && connects &&
	    !options_string(options, "key-file"))
		return fail(-EINVAL,
			    "--wire %s between two hosts needs "
			    "--key-file FILE",
			    options_string(options, "wire"));
	return 0;
}

int bench_transport_run(const struct options *options)
{
	struct bench bench = {
		.options = options,
		.json = options_flag(options, "json"),
	};
	int status;

	if (options_flag(options, "list"))
		return bench_transport_list(bench.json);
	bench.manner = (struct bench_manner){
		.rounds = (unsigned)options_integer(options, "rounds"),
		.run_ns = options_integer(options, "milliseconds") * NS_PER_MS,
	};
	status = check_hosts(options);
	if (!status)
		status = choose_key(&bench);
	if (!status && options_flag(options, "listen"))
		return bench_remote_listen(&bench.place) ? 1 : 0;
	if (!status)
		status = choose_sizes(&bench);
	if (!status)
		status = choose_transports(&bench);
	if (status)
		return status == -EINVAL ? 2 : 1;
	status = choose_remote(&bench);
	return status || run_all(&bench) ? 1 : 0;
}
