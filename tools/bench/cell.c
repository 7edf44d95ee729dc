/* Who plays when, and what comes of it. */
#include <errno.h>
#include <math.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "tools/bench/bench.h"

#define THE_END 0xffffffffu

struct command {
	uint32_t player;
	uint32_t count;
};

struct halves {
	struct bench_half *of[BENCH_PLAYERS_MAX];
	unsigned count;
};

static const struct bench_half_ops *const kinds[] = {
	[BENCH_SOCKET] = &bench_socket_ops,
	[BENCH_MEMORY] = &bench_memory_ops,
	[BENCH_MESSAGE] = &bench_message_ops,
};

bool bench_has_yardstick(const struct bench_cell *cell)
{
	return cell->players[0].kind != BENCH_MESSAGE;
}

bool bench_conclusive(const struct bench_cell *cell,
		      const struct bench_result *result)
{
	return bench_has_yardstick(cell) && fabs(result->control - 1) <= 0.03;
}

void bench_produce(void *data, size_t bytes, uint64_t seed)
{
	uint64_t *words = data;
	size_t i;

	for (i = 0; i < bytes / 8; i++)
		words[i] = seed + i;
	memset((unsigned char *)data + bytes / 8 * 8, (int)seed, bytes % 8);
}

uint64_t bench_consume(const void *data, size_t bytes)
{
	const unsigned char *rest = (const unsigned char *)data + bytes / 8 * 8;
	const uint64_t *words = data;
	uint64_t sum = 0;
	size_t i;

	for (i = 0; i < bytes / 8; i++)
		sum += words[i];
	for (i = 0; i < bytes % 8; i++)
		sum += rest[i];
	return sum;
}

static void close_all(struct halves *halves)
{
	while (halves->count) {
		halves->count--;
		halves->of[halves->count]->ops->close(
			halves->of[halves->count]);
	}
}

static int open_all(const struct bench_side *side, struct halves *halves)
{
	const struct bench_player *player;
	int status;

	halves->count = 0;
	while (halves->count < side->cell->player_count) {
		player = &side->cell->players[halves->count];
		status = kinds[player->kind]->open(side, player,
						   &halves->of[halves->count]);
		if (status) {
			close_all(halves);
			return status;
		}
		halves->count++;
	}
	return 0;
}

static int play(struct halves *halves, unsigned player, unsigned count,
		double *samples)
{
	struct bench_half *half = halves->of[player];

	return half->ops->play(half, count, samples);
}

int bench_cell_follow(const struct bench_side *side)
{
	struct command command = {0};
	struct halves halves;
	int status = open_all(side, &halves);

	if (status)
		return status;
	while (!status) {
		status = bench_hear(side->control, &command, sizeof(command));
		if (status || command.player == THE_END)
			break;
		if (command.player >= halves.count || !command.count ||
		    command.count > BENCH_STREAM_MAX)
			status = fail(-EPROTO, "bench: a command that no "
					       "bench gives");
		/* Ready: the clock of rank 0 starts when it hears that. */
		if (!status)
			status = bench_tell(side->control, &command.player,
					    sizeof(command.player));
		if (!status)
			status = play(&halves, command.player, command.count,
				      NULL);
	}
	close_all(&halves);
	return status;
}

/* ---- rank 0 ---- */

struct lead {
	const struct bench_side *side;
	struct halves halves;
	double *samples; /* ns: of the run that was, BENCH_SAMPLES_MAX */
	double *pool;    /* those of all runs that count; latency only */
	unsigned rounds;
	unsigned count; /* messages a run */
};

static int compare(const void *a, const void *b)
{
	double x = *(const double *)a;
	double y = *(const double *)b;

	return (x > y) - (x < y);
}

static double quantile(double *values, size_t count, double of)
{
	qsort(values, count, sizeof(values[0]), compare);
	return values[MIN((size_t)((double)count * of), count - 1)];
}

static int run(struct lead *lead, unsigned player, unsigned count, double *ns)
{
	struct command command = {.player = player, .count = count};
	struct bench_control *control = lead->side->control;
	uint32_t ready;
	int64_t start;
	int status;

	status = bench_tell(control, &command, sizeof(command));
	if (!status)
		status = bench_hear(control, &ready, sizeof(ready));
	if (status)
		return status;
	start = clock_now_ns();
	status = play(&lead->halves, player, count, lead->samples);
	*ns = (double)(clock_now_ns() - start);
	return status;
}

static unsigned count_max(const struct bench_cell *cell)
{
	return cell->test == BENCH_LATENCY ? BENCH_SAMPLES_MAX
					   : BENCH_STREAM_MAX;
}

/* Warms everybody up, and finds how many messages make a run of run_ns. */
static int choose_count(struct lead *lead, int64_t run_ns)
{
	unsigned count = 2;
	int status = 0;
	double ns = 1;
	unsigned i;

	for (i = 0; i < 3 && !status; i++) {
		status = run(lead, 0, count, &ns);
		ns = MAX((double)run_ns / (MAX(ns, 1) / count), 3);
		count = (unsigned)MIN(ns, (double)count_max(lead->side->cell));
	}
	lead->count = count;
	for (i = 0; i < lead->halves.count && !status; i++)
		status = run(lead, i, MAX(count / 2, 2), &ns);
	return status;
}

static double value_of(struct lead *lead, double ns)
{
	const struct bench_cell *cell = lead->side->cell;

	if (cell->test == BENCH_LATENCY)
		return quantile(lead->samples, lead->count, 0.5) / 1e3;
	return (double)cell->bytes * lead->count / ns;
}

/* Keeps what a run gave: its value, and its samples for the p99. */
static void keep(struct lead *lead, unsigned player, unsigned round, double ns,
		 struct bench_result *out)
{
	size_t place = (size_t)player * lead->rounds + round;

	if (lead->pool)
		memcpy(lead->pool + place * lead->count, lead->samples,
		       lead->count * sizeof(double));
	out->scores[player].round[round] = value_of(lead, ns);
}

static int play_rounds(struct lead *lead, struct bench_result *out,
		       double *again)
{
	bool yardstick = bench_has_yardstick(lead->side->cell);
	unsigned player;
	unsigned round;
	int status;
	double ns;

	for (round = 0; round < lead->rounds; round++) {
		for (player = 0; player < lead->halves.count; player++) {
			status = run(lead, player, lead->count, &ns);
			if (status)
				return status;
			keep(lead, player, round, ns, out);
		}
		status = yardstick ? run(lead, 0, lead->count, &ns) : 0;
		if (status)
			return status;
		again[round] = yardstick ? value_of(lead, ns)
					 : out->scores[0].round[round];
	}
	return 0;
}

static double median_ratio(const double *a, const double *b, unsigned rounds)
{
	double ratios[BENCH_ROUNDS_MAX];
	unsigned i;

	for (i = 0; i < rounds; i++)
		ratios[i] = a[i] / b[i];
	return quantile(ratios, rounds, 0.5);
}

static void sum_up(struct lead *lead, const double *again,
		   struct bench_result *out)
{
	size_t samples = (size_t)lead->rounds * lead->count;
	const double *yardstick = out->scores[0].round;
	double sorted[BENCH_ROUNDS_MAX];
	struct bench_score *score;
	unsigned i;

	out->count = lead->count;
	out->control = median_ratio(again, yardstick, lead->rounds);
	for (i = 0; i < lead->halves.count; i++) {
		score = &out->scores[i];
		memcpy(sorted, score->round, sizeof(sorted));
		score->median = quantile(sorted, lead->rounds, 0.5);
		score->ratio =
			median_ratio(score->round, yardstick, lead->rounds);
		if (lead->pool)
			score->p99 = quantile(lead->pool + i * samples, samples,
					      0.99) /
				     1e3;
	}
}

static int lead_rounds(struct lead *lead, int64_t run_ns,
		       struct bench_result *out)
{
	struct command end = {.player = THE_END};
	double again[BENCH_ROUNDS_MAX] = {0};
	size_t runs = (size_t)lead->halves.count * lead->rounds;
	int status = choose_count(lead, run_ns);

	if (status)
		return status;
	if (lead->side->cell->test == BENCH_LATENCY) {
		lead->pool = calloc(runs * lead->count, sizeof(double));
		if (!lead->pool)
			return fail(-ENOMEM, "bench: no memory for samples");
	}
	status = play_rounds(lead, out, again);
	if (status)
		return status;
	sum_up(lead, again, out);
	return bench_tell(lead->side->control, &end, sizeof(end));
}

int bench_cell_lead(const struct bench_side *side,
		    const struct bench_manner *manner, struct bench_result *out)
{
	struct lead lead = {.side = side, .rounds = manner->rounds};
	int status;

	memset(out, 0, sizeof(*out));
	lead.samples = calloc(BENCH_SAMPLES_MAX, sizeof(double));
	if (!lead.samples)
		return fail(-ENOMEM, "bench: no memory for samples");
	status = open_all(side, &lead.halves);
	if (!status) {
		status = lead_rounds(&lead, manner->run_ns, out);
		close_all(&lead.halves);
	}
	free(lead.pool);
	free(lead.samples);
	return status;
}

/* ---- both sides on this machine ---- */

static void *follow(void *argument)
{
	const struct bench_side *side = argument;
	int status = bench_cell_follow(side);

	if (status) /* the other side is not to wait for us */
		shutdown(side->control->fd, SHUT_RDWR);
	return (void *)(intptr_t)status;
}

static int run_with_thread(struct bench_side sides[2],
			   const struct bench_manner *manner,
			   struct bench_result *out)
{
	pthread_t thread;
	void *result;
	int status;

	if (pthread_create(&thread, NULL, follow, &sides[1]))
		return fail(-EAGAIN, "bench: cannot start a thread");
	status = bench_cell_lead(&sides[0], manner, out);
	if (status)
		shutdown(sides[0].control->fd, SHUT_RDWR);
	pthread_join(thread, &result);
	return status ? status : (int)(intptr_t)result;
}

static int run_with_process(struct bench_side sides[2],
			    const struct bench_manner *manner,
			    struct bench_result *out)
{
	int status;
	pid_t pid;
	int how;

	fflush(NULL);
	pid = fork();
	if (pid < 0)
		return fail(-errno, "bench: fork: %s", strerror(errno));
	if (!pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		close(sides[0].control->fd);
		_exit(bench_cell_follow(&sides[1]) ? 1 : 0);
	}
	close(sides[1].control->fd);
	sides[1].control->fd = -1;
	status = bench_cell_lead(&sides[0], manner, out);
	if (status)
		kill(pid, SIGKILL);
	while (waitpid(pid, &how, 0) < 0 && errno == EINTR)
		;
	if (!status && how)
		status = fail(-ECONNRESET, "bench: the other side failed");
	return status;
}

static void fini_sides(struct bench_side sides[2],
		       struct bench_control controls[2])
{
	const struct bench_cell *cell = sides[0].cell;
	unsigned i;

	for (i = 0; i < 2; i++)
		if (controls[i].fd >= 0)
			close(controls[i].fd);
	for (i = 0; i < cell->player_count; i++)
		transport_hub_destroy(sides[0].hubs[i]);
	if (sides[0].shared)
		munmap(sides[0].shared, bench_memory_bytes(cell->bytes));
}

static int init_sides(const struct bench_cell *cell, const unsigned char *key,
		      struct bench_side sides[2],
		      struct bench_control controls[2])
{
	size_t bytes = bench_memory_bytes(cell->bytes);
	void *shared;
	int ends[2];
	unsigned i;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends))
		return fail(-errno, "bench: socketpair: %s", strerror(errno));
	for (i = 0; i < 2; i++) {
		controls[i] = (struct bench_control){.fd = ends[i], .rank = i};
		sides[i] = (struct bench_side){
			.cell = cell,
			.rank = i,
			.control = &controls[i],
			.bind = "127.0.0.1",
			.key = key,
		};
	}
	shared = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
		      MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (shared == MAP_FAILED)
		return fail(-ENOMEM, "bench: no memory for %zu bytes", bytes);
	sides[0].shared = shared;
	sides[1].shared = shared;
	for (i = 0; cell->threads && i < cell->player_count; i++) {
		sides[0].hubs[i] = transport_hub_create(2);
		sides[1].hubs[i] = sides[0].hubs[i];
		if (!sides[0].hubs[i])
			return -ENOMEM;
	}
	return 0;
}

int bench_cell_run(const struct bench_cell *cell, const unsigned char *key,
		   const struct bench_manner *manner, struct bench_result *out)
{
	struct bench_control controls[2] = {{.fd = -1}, {.fd = -1}};
	struct bench_side sides[2] = {{.cell = cell}, {.cell = cell}};
	int status = init_sides(cell, key, sides, controls);

	if (!status)
		status = cell->threads ? run_with_thread(sides, manner, out)
				       : run_with_process(sides, manner, out);
	fini_sides(sides, controls);
	return status;
}
