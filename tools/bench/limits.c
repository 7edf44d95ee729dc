#include "tools/bench/limits.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/clock.h"
#include "base/log.h"
#include "model/kernels/elementwise.h"
#include "model/kernels/gemm.h"
#include "model/kernels/vector_math.h"

#define M 768
#define N 768
#define K 3072

#define RUN_NS (75 * NS_PER_MS)
#define FLOATS ((size_t)64 << 20) /* of the array that is read */

struct bench_limits_memory {
	struct threads *team;
	unsigned threads;
	struct arena arena;
	float *operands;  /* [threads]: A, B, C */
	bfloat16 *halves; /* [threads]: A, B; their C is that of operands */
	struct threads *alone[THREADS_MAX]; /* [threads]: a team of one */
	float *array;
	int64_t end_ns;
	atomic_uint done; /* products */
	atomic_int error;
};

#define OPERAND_FLOATS ((size_t)M * K + (size_t)K * N + (size_t)M * N)
#define OPERAND_HALVES ((size_t)M * K + (size_t)K * N)

static void prepare_task(void *argument, size_t index, unsigned thread)
{
	struct bench_limits_memory *memory = argument;
	float *mine = memory->operands + thread * OPERAND_FLOATS;
	bfloat16 *halves = memory->halves + thread * OPERAND_HALVES;
	int error = gemm_prepare_thread();

	(void)index;
	if (!error)
		error = gemm_bfloat16_prepare(
			memory->alone[thread], GEMM_NORMAL, GEMM_NORMAL, M, N,
			K, K, N, 0.0f, ELEMENT_F32, N, false);
	if (error)
		atomic_store(&memory->error, error);
	for (size_t i = 0; i < OPERAND_FLOATS; i++)
		mine[i] = (float)(i % 7) - 3.0f;
	for (size_t i = 0; i < OPERAND_HALVES; i++)
		halves[i] = bfloat16_from_float((float)(i % 7) - 3.0f);
}

static int create_alone(struct bench_limits_memory *memory)
{
	int error = 0;

	for (unsigned i = 0; i < memory->threads && !error; i++)
		error = threads_create(1, NULL, &memory->alone[i]);
	return error;
}

/* From an arena, as the memory of a step: large pages count. */
static int limits_allocate(struct bench_limits_memory *memory)
{
	size_t operands = memory->threads * OPERAND_FLOATS * sizeof(float);
	size_t halves = memory->threads * OPERAND_HALVES * sizeof(bfloat16);
	int error = arena_init(&memory->arena, "limits",
			       arena_piece_bytes(operands) +
				       arena_piece_bytes(halves) +
				       FLOATS * sizeof(float));

	if (error)
		return error;
	memory->operands = arena_allocate(&memory->arena, operands);
	memory->halves = arena_allocate(&memory->arena, halves);
	memory->array = arena_allocate(&memory->arena, FLOATS * sizeof(float));
	return 0;
}

int bench_limits_create(struct threads *team, struct bench_limits_memory **out)
{
	struct bench_limits_memory *memory = calloc(1, sizeof(*memory));
	int error;

	if (!memory)
		return fail(-ENOMEM, "no memory to measure with");
	memory->team = team;
	memory->threads = threads_count(team);
	error = limits_allocate(memory);
	if (!error)
		error = create_alone(memory);
	if (!error) {
		elementwise_zero(team, FLOATS, memory->array);
		threads_run_each(team, prepare_task, memory);
		error = atomic_load(&memory->error);
	}
	if (error) {
		bench_limits_destroy(memory);
		return error;
	}
	*out = memory;
	return 0;
}

void bench_limits_destroy(struct bench_limits_memory *memory)
{
	if (!memory)
		return;
	for (unsigned i = 0; i < memory->threads; i++)
		if (memory->alone[i])
			threads_destroy(memory->alone[i]);
	arena_fini(&memory->arena);
	free(memory);
}

static void product_task(void *argument, size_t index, unsigned thread)
{
	struct bench_limits_memory *memory = argument;
	const float *a = memory->operands + thread * OPERAND_FLOATS;
	const float *b = a + (size_t)M * K;
	float *c = memory->operands + thread * OPERAND_FLOATS + (size_t)M * K +
		   (size_t)K * N;

	(void)index;
	do {
		gemm_block(GEMM_NORMAL, GEMM_NORMAL, M, N, K, 1.0f, a, K, b, N,
			   0.0f, c, N);
		atomic_fetch_add(&memory->done, 1);
	} while (clock_now_ns() < memory->end_ns);
}

static void product_bfloat16_task(void *argument, size_t index, unsigned thread)
{
	struct bench_limits_memory *memory = argument;
	const bfloat16 *a = memory->halves + thread * OPERAND_HALVES;
	float *c = memory->operands + thread * OPERAND_FLOATS + (size_t)M * K +
		   (size_t)K * N;

	(void)index;
	do {
		gemm_bfloat16(memory->alone[thread], GEMM_NORMAL, GEMM_NORMAL,
			      M, N, K, a, K, a + (size_t)M * K, N, 0.0f,
			      ELEMENT_F32, c, N, NULL);
		atomic_fetch_add(&memory->done, 1);
	} while (clock_now_ns() < memory->end_ns);
}

static double product_rate(struct bench_limits_memory *memory,
			   threads_task_fn *task)
{
	int64_t begin = clock_now_ns();

	memory->end_ns = begin + RUN_NS;
	atomic_store(&memory->done, 0);
	threads_run_each(memory->team, task, memory);
	return 2.0 * M * N * K * atomic_load(&memory->done) /
	       (double)(clock_now_ns() - begin);
}

static double update_rate(struct bench_limits_memory *memory)
{
	int64_t begin = clock_now_ns(), now;
	double bytes = 0;

	do {
		elementwise_scale(memory->team, FLOATS, 0.5f, memory->array,
				  memory->array);
		bytes += 8.0 * (double)FLOATS;
		now = clock_now_ns();
	} while (now < begin + RUN_NS);
	return bytes / (double)(now - begin);
}

/*
 * Nothing but loads, of whole cache lines where the processor has vectors of
 * that size; the sum keeps them alive. Four chains of additions take less time
 * than the loads.
 */
typedef uint64_t line_words __attribute__((vector_size(CACHE_LINE_BYTES)));

KERNEL_CLONES static uint64_t read_lines(const void *memory, size_t lines)
{
	const line_words *line = memory;
	line_words a = {0}, b = {0}, c = {0}, d = {0};
	uint64_t sum = 0;

	for (size_t i = 0; i + 4 <= lines; i += 4) {
		a += line[i];
		b += line[i + 1];
		c += line[i + 2];
		d += line[i + 3];
	}
	a += b + c + d;
	for (size_t i = 0; i < sizeof(a) / sizeof(sum); i++)
		sum += a[i];
	return sum;
}

struct reading {
	const unsigned char *memory;
	size_t lines; /* of each thread */
	atomic_ullong sum;
};

static void read_task(void *argument, size_t index, unsigned thread)
{
	struct reading *reading = argument;

	(void)thread;
	atomic_fetch_add(&reading->sum,
			 read_lines(reading->memory + index * reading->lines *
							      CACHE_LINE_BYTES,
				    reading->lines));
}

double bench_limits_read(struct threads *team, const void *memory, size_t bytes)
{
	unsigned threads = threads_count(team);
	struct reading reading = {
		.memory = memory,
		.lines = bytes / CACHE_LINE_BYTES / threads,
	};
	int64_t begin = clock_now_ns(), now;
	double sum = 0;

	do {
		threads_run_each(team, read_task, &reading);
		sum += (double)(reading.lines * threads * CACHE_LINE_BYTES);
		now = clock_now_ns();
	} while (now < begin + RUN_NS);
	return sum / (double)(now - begin);
}

void bench_limits_measure(struct bench_limits_memory *memory,
			  struct bench_limits *out)
{
	out->products = product_rate(memory, product_task);
	out->products_bfloat16 = product_rate(memory, product_bfloat16_task);
	out->update = update_rate(memory);
	out->read = bench_limits_read(memory->team, memory->array,
				      FLOATS * sizeof(float));
}
