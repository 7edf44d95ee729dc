/*
 * The tests of `stagecoach bench transport` by MPI, for bench-mpi.sh to compare
 * with. Two ranks: mpi-messages TEST BYTES MILLISECONDS prints one figure, of
 * latency the median half round trip in us, else GB/s. Messages lie in four
 * slots and four are in flight, as there.
 */
#include <mpi.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SLOTS       4
#define SAMPLES_MAX 4000

static int rank;
static size_t bytes;
static unsigned char *memory; /* SLOTS slots */

static void produce(unsigned char *data, uint64_t seed)
{
	uint64_t *words = (uint64_t *)(void *)data;
	size_t i;

	for (i = 0; i < bytes / 8; i++)
		words[i] = seed + i;
}

static uint64_t consume(const unsigned char *data)
{
	const uint64_t *words = (const uint64_t *)(const void *)data;
	uint64_t sum = 0;
	size_t i;

	for (i = 0; i < bytes / 8; i++)
		sum += words[i];
	return sum;
}

static void ping_pong(int count, double *samples)
{
	MPI_Request next;
	double start;
	int i;

	/* The receive is posted ahead. */
	for (i = 0; i < count; i++) {
		MPI_Irecv(memory + bytes, (int)bytes, MPI_BYTE, !rank, 0,
			  MPI_COMM_WORLD, &next);
		start = MPI_Wtime();
		if (!rank)
			MPI_Send(memory, (int)bytes, MPI_BYTE, 1, 0,
				 MPI_COMM_WORLD);
		MPI_Wait(&next, MPI_STATUS_IGNORE);
		if (rank)
			MPI_Send(memory, (int)bytes, MPI_BYTE, 0, 0,
				 MPI_COMM_WORLD);
		samples[i] = (MPI_Wtime() - start) / 2 * 1e6;
	}
}

static void finish(int slot, MPI_Request *requests, int works, uint64_t *sum)
{
	MPI_Wait(&requests[slot], MPI_STATUS_IGNORE);
	if (works && rank)
		*sum += consume(memory + slot * bytes);
}

static double stream(int count, int works)
{
	MPI_Request requests[SLOTS];
	double start = MPI_Wtime();
	uint64_t sum = 0;
	int slot;
	int i;

	for (i = 0; i < count + SLOTS; i++) {
		slot = i % SLOTS;
		if (i >= SLOTS)
			finish(slot, requests, works, &sum);
		if (i >= count)
			continue;
		if (works && !rank)
			produce(memory + slot * bytes, (uint64_t)i);
		if (rank)
			MPI_Irecv(memory + slot * bytes, (int)bytes, MPI_BYTE,
				  0, 0, MPI_COMM_WORLD, &requests[slot]);
		else
			MPI_Isend(memory + slot * bytes, (int)bytes, MPI_BYTE,
				  1, 0, MPI_COMM_WORLD, &requests[slot]);
	}
	MPI_Bcast(&sum, 1, MPI_UINT64_T, 1, MPI_COMM_WORLD);
	return MPI_Wtime() - start;
}

static int compare(const void *a, const void *b)
{
	double x = *(const double *)a;
	double y = *(const double *)b;

	return (x > y) - (x < y);
}

/* How many messages take so long, found out by trying. */
static int choose_count(int works, double seconds)
{
	int count = 4;
	int i;

	for (i = 0; i < 3; i++) {
		count = (int)(seconds / (stream(count, works) / count)) + SLOTS;
		count = count > SAMPLES_MAX ? SAMPLES_MAX : count;
		MPI_Bcast(&count, 1, MPI_INT, 0, MPI_COMM_WORLD);
	}
	return count;
}

int main(int argc, char **argv)
{
	static double samples[SAMPLES_MAX];
	double seconds;
	int count;

	MPI_Init(&argc, &argv);
	MPI_Comm_rank(MPI_COMM_WORLD, &rank);
	if (argc != 4) {
		fprintf(stderr, "usage: mpi-messages TEST BYTES MS\n");
		MPI_Abort(MPI_COMM_WORLD, 2);
	}
	bytes = strtoull(argv[2], NULL, 10);
	seconds = strtod(argv[3], NULL) / 1e3;
	memory = malloc(SLOTS * bytes);
	if (!memory)
		MPI_Abort(MPI_COMM_WORLD, 1);
	memset(memory, 1, SLOTS * bytes);
	count = choose_count(argv[1][0] == 'p', seconds);
	if (argv[1][0] == 'l') {
		ping_pong(count, samples);
		ping_pong(count, samples);
		qsort(samples, (size_t)count, sizeof(samples[0]), compare);
		seconds = samples[count / 2];
	} else {
		seconds = stream(count, argv[1][0] == 'p');
		seconds = (double)bytes * count / seconds / 1e9;
	}
	if (!rank)
		printf("%.4f\n", seconds);
	free(memory);
	MPI_Finalize();
	return 0;
}
