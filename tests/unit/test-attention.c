/*
 * Attention: the reference against four-point differences, the fast one
 * against the reference over shapes, the same bits for every team, decoding
 * against a cache equals the whole.
 */
#include "base/random.h"
#include "base/threads.h"
#include "model/kernels/attention.h"
#include "model/kernels/dropout.h"
#include "model/kernels/gemm.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define TEAM 4 /* the largest tried */

static const uint64_t sample_ids[] = {1234567890123, 7, 42, 99};

/* Tensors of one case, in float and double. */
enum tensor {
	Q,
	K,
	V,
	OUT,
	LSE,
	DOUT,
	DQ,
	DK,
	DV,
	TENSORS
};

struct attention_case {
	struct attention_shape shape;
	struct dropout dropout;
	size_t count[TENSORS];
	float *fast[TENSORS];
	double *plain[TENSORS];
	void *scratch;
};

static struct attention_layout dense(size_t time, size_t heads, size_t size,
				     size_t gap)
{
	return (struct attention_layout){
		heads * size + gap,
		(heads * size + gap) * time + 3 * gap,
	};
}

/* Separate tensors with `gap` floats between rows. */
static struct attention_shape shape_of(size_t batch, size_t time_q,
				       size_t time_k, size_t heads,
				       size_t kv_heads, size_t size,
				       bool causal, size_t gap)
{
	return (struct attention_shape){
		.batch = batch,
		.time_q = time_q,
		.time_k = time_k,
		.heads = heads,
		.kv_heads = kv_heads,
		.head_size = size,
		.causal = causal,
		.position_offset = causal ? time_k - time_q : 0,
		.scale = 1.0f / sqrtf((float)size),
		.q = dense(time_q, heads, size, gap),
		.k = dense(time_k, kv_heads, size, gap),
		.v = dense(time_k, kv_heads, size, gap ? gap + 2 : 0),
		.out = dense(time_q, heads, size, gap),
	};
}

static struct attention_shape windowed(struct attention_shape shape,
				       size_t window)
{
	shape.window = window;
	return shape;
}

/* Examples that begin at any of `firsts` (ended by 0) in every sample. */
static struct attention_shape packed(struct attention_shape shape,
				     const size_t *firsts)
{
	static int32_t starts[16][2048];
	static unsigned used;
	int32_t *mine = starts[used++ % 16], start = 0;

	assert_true(shape.batch * shape.time_q <= 2048);
	for (size_t i = 0; i < shape.batch * shape.time_q; i++) {
		size_t t = i % shape.time_q;

		if (t == 0)
			start = 0;
		for (const size_t *first = firsts; *first; first++)
			if (*first == t)
				start = (int32_t)t;
		mine[i] = start;
	}
	shape.starts = mine;
	return shape;
}

static void case_init(struct attention_case *test, struct attention_shape shape,
		      float probability)
{
	struct random_key key = random_key_numbered(5, 6, 7, 8);
	size_t q = shape.batch * shape.q.sample_stride;
	size_t k = shape.batch * shape.k.sample_stride;
	size_t v = shape.batch * shape.v.sample_stride;
	size_t out = shape.batch * shape.out.sample_stride;
	size_t lse = shape.batch * shape.heads * shape.time_q;
	const size_t count[TENSORS] = {q, k, v, out, lse, out, q, k, v};

	memset(test, 0, sizeof(*test));
	test->shape = shape;
	test->dropout = (struct dropout){
		.key = dropout_key(1, 2, 3, 4),
		.probability = probability,
		.sample_ids = sample_ids,
	};
	memcpy(test->count, count, sizeof(count));
	for (size_t t = 0; t < TENSORS; t++) {
		test->fast[t] = malloc(count[t] * sizeof(float));
		test->plain[t] = malloc(count[t] * sizeof(double));
		assert_non_null(test->fast[t]);
		assert_non_null(test->plain[t]);
		random_normal(key, t << 32, count[t], 0.0f, 1.0f,
			      test->fast[t]);
		for (size_t i = 0; i < count[t]; i++)
			test->plain[t][i] = test->fast[t][i];
	}
	test->scratch = malloc(attention_scratch_bytes(&shape, true, TEAM));
	assert_non_null(test->scratch);
}

static void case_fini(struct attention_case *test)
{
	for (size_t t = 0; t < TENSORS; t++) {
		free(test->fast[t]);
		free(test->plain[t]);
	}
	free(test->scratch);
}

static void run_fast(struct attention_case *test, struct threads *threads)
{
	float **x = test->fast;

	/* Contents of the scratch memory and of outputs mean nothing. */
	memset(test->scratch, 0xff,
	       attention_scratch_bytes(&test->shape, true,
				       threads_count(threads)));
	attention_forward(threads, &test->shape, x[Q], x[K], x[V], x[OUT],
			  x[LSE], &test->dropout, test->scratch);
	attention_backward(threads, &test->shape, x[Q], x[K], x[V], x[OUT],
			   x[LSE], x[DOUT], x[DQ], x[DK], x[DV], &test->dropout,
			   test->scratch);
}

static void run_plain(struct attention_case *test)
{
	double **x = test->plain;

	assert_int_equal(attention_forward_reference(&test->shape, x[Q], x[K],
						     x[V], x[OUT], x[LSE],
						     &test->dropout),
			 0);
	assert_int_equal(attention_backward_reference(
				 &test->shape, x[Q], x[K], x[V], x[DOUT], x[DQ],
				 x[DK], x[DV], &test->dropout),
			 0);
}

static struct threads *team_create(unsigned count)
{
	struct threads *threads;

	assert_int_equal(threads_create(count, NULL, &threads), 0);
	assert_int_equal(gemm_prepare(threads), 0);
	return threads;
}

/* ---- the reference against differences ---- */

/* A scalar of the outputs whose gradient by out is dout. */
static double objective(struct attention_case *test)
{
	double **x = test->plain;
	double *out = malloc(test->count[OUT] * sizeof(*out));
	double sum = 0.0;

	assert_non_null(out);
	for (size_t i = 0; i < test->count[OUT]; i++)
		out[i] = 0.0;
	assert_int_equal(attention_forward_reference(&test->shape, x[Q], x[K],
						     x[V], out, x[LSE],
						     &test->dropout),
			 0);
	for (size_t i = 0; i < test->count[OUT]; i++)
		sum += out[i] * x[DOUT][i];
	free(out);
	return sum;
}

static double difference(struct attention_case *test, double *x)
{
	static const double step = 1e-3;
	double old = *x, value[4];

	for (int i = 0; i < 4; i++) {
		static const double at[4] = {-2, -1, 1, 2};

		*x = old + at[i] * step;
		value[i] = objective(test);
	}
	*x = old;
	return (value[0] - 8 * value[1] + 8 * value[2] - value[3]) /
	       (12 * step);
}

static void check_differences(struct attention_shape shape, float probability)
{
	static const enum tensor inputs[] = {Q, K, V}, outputs[] = {DQ, DK, DV};
	struct attention_case test;

	case_init(&test, shape, probability);
	run_plain(&test);
	for (size_t t = 0; t < 3; t++)
		for (size_t i = 0; i < test.count[inputs[t]]; i += 3) {
			double expected =
				difference(&test, &test.plain[inputs[t]][i]);

			assert_true(fabs(expected - test.plain[outputs[t]][i]) <
				    1e-7);
		}
	case_fini(&test);
}

static void test_reference(void **state)
{
	(void)state;
	check_differences(shape_of(2, 5, 5, 2, 2, 3, true, 0), 0.0f);
	check_differences(shape_of(1, 6, 6, 4, 2, 3, true, 0), 0.3f);
	check_differences(shape_of(1, 3, 7, 2, 1, 4, false, 0), 0.0f);
	check_differences(shape_of(2, 3, 5, 2, 1, 2, true, 0), 0.2f);
	check_differences(windowed(shape_of(1, 7, 7, 2, 1, 3, true, 0), 3),
			  0.0f);
	check_differences(windowed(shape_of(1, 3, 7, 2, 1, 3, true, 0), 2),
			  0.2f);
	check_differences(packed(shape_of(1, 7, 7, 2, 1, 3, true, 0),
				 (const size_t[]){3, 4, 0}),
			  0.2f);
}

/* ---- the fast one against the reference ---- */

/* Elements between rows and samples belong to nobody. */
static bool is_element(struct attention_layout layout, size_t time,
		       size_t width, size_t i)
{
	size_t within = i % layout.sample_stride;

	return within / layout.row_stride < time &&
	       within % layout.row_stride < width;
}

static void compare(const struct attention_case *test, enum tensor t,
		    struct attention_layout layout, size_t time, size_t heads,
		    const char *name)
{
	const struct attention_shape *shape = &test->shape;
	double largest = 0.0, worst = 0.0;

	for (size_t i = 0; i < test->count[t]; i++) {
		double expected = test->plain[t][i];
		double error = fabs(expected - test->fast[t][i]);

		if (!is_element(layout, time, heads * shape->head_size, i)) {
			if (error != 0.0) /* both untouched */
				fail_msg("%s: wrote into a gap at %zu", name,
					 i);
			continue;
		}
		largest = MAX(largest, fabs(expected));
		if (!(error <= worst)) /* NaN too */
			worst = error;
	}
	if (!(worst <= 4e-6 * (1.0 + largest)))
		fail_msg("%s off by %g of %g (B %zu Tq %zu Tk %zu H %zu/%zu D "
			 "%zu causal %d window %zu)",
			 name, worst, largest, shape->batch, shape->time_q,
			 shape->time_k, shape->heads, shape->kv_heads,
			 shape->head_size, shape->causal, shape->window);
}

static void check_case(struct attention_case *test, struct threads *teams[TEAM])
{
	const struct attention_shape *shape = &test->shape;
	float *first[TENSORS];

	run_plain(test);
	run_fast(test, teams[0]);
	compare(test, OUT, shape->out, shape->time_q, shape->heads, "out");
	compare(test, DQ, shape->q, shape->time_q, shape->heads, "dq");
	compare(test, DK, shape->k, shape->time_k, shape->kv_heads, "dk");
	compare(test, DV, shape->v, shape->time_k, shape->kv_heads, "dv");
	for (size_t i = 0; i < test->count[LSE]; i++)
		assert_true(fabs(test->plain[LSE][i] - test->fast[LSE][i]) <
			    4e-6 * (1.0 + fabs(test->plain[LSE][i])));
	for (size_t t = 0; t < TENSORS; t++) {
		first[t] = malloc(test->count[t] * sizeof(float));
		memcpy(first[t], test->fast[t], test->count[t] * sizeof(float));
	}
	for (unsigned team = 1; team < TEAM; team++) {
		run_fast(test, teams[team]);
		for (size_t t = 0; t < TENSORS; t++)
			assert_memory_equal(first[t], test->fast[t],
					    test->count[t] * sizeof(float));
	}
	for (size_t t = 0; t < TENSORS; t++)
		free(first[t]);
}

static void test_fast(void **state)
{
	const struct attention_shape shapes[] = {
		shape_of(1, 1, 1, 1, 1, 1, true, 0),
		shape_of(2, 17, 17, 3, 3, 5, true, 0),
		shape_of(1, 64, 64, 2, 2, 64, true, 0),
		shape_of(1, 65, 65, 2, 2, 64, true, 4),
		shape_of(2, 300, 300, 2, 1, 32, true, 1),
		shape_of(1, 530, 530, 2, 2, 16, true, 0),
		shape_of(2, 100, 70, 4, 2, 20, false, 3),
		shape_of(1, 40, 333, 6, 2, 24, false, 0),
		shape_of(1, 37, 333, 4, 4, 24, true, 0),
		shape_of(2, 1, 300, 4, 2, 64, true, 0),
		attention_shape_packed(2, 130, 3, 64),
		/* Windows of one key, within a block, of blocks, of nearly all;
		 * with keys before all queries, of which the first are unseen. */
		windowed(shape_of(1, 70, 70, 2, 1, 8, true, 0), 1),
		windowed(shape_of(2, 300, 300, 2, 1, 32, true, 1), 40),
		windowed(shape_of(1, 530, 530, 2, 2, 16, true, 0), 257),
		windowed(shape_of(1, 700, 700, 2, 1, 16, true, 0), 64),
		windowed(shape_of(1, 131, 131, 2, 2, 16, true, 0), 130),
		windowed(shape_of(1, 131, 131, 2, 2, 16, true, 0), 200),
		windowed(shape_of(1, 37, 333, 4, 2, 24, true, 0), 29),
		windowed(shape_of(2, 1, 300, 4, 2, 64, true, 0), 77),
		/* Examples that begin within, at and next to blocks, that are
		 * longer than some, of one token; in a window, too. */
		packed(shape_of(1, 70, 70, 2, 1, 8, true, 0),
		       (const size_t[]){1, 2, 63, 64, 65, 69, 0}),
		packed(shape_of(2, 300, 300, 2, 1, 32, true, 1),
		       (const size_t[]){100, 130, 0}),
		packed(shape_of(1, 700, 700, 2, 2, 16, true, 0),
		       (const size_t[]){401, 402, 640, 0}),
		packed(shape_of(1, 1000, 1000, 2, 1, 16, true, 0),
		       (const size_t[]){64, 319, 575, 576, 0}),
		packed(windowed(shape_of(1, 700, 700, 2, 1, 16, true, 0), 100),
		       (const size_t[]){150, 410, 0}),
	};
	struct threads *teams[TEAM];

	(void)state;
	for (unsigned i = 0; i < TEAM; i++)
		teams[i] = team_create(i + 1);
	for (size_t i = 0; i < 2 * ARRAY_SIZE(shapes); i++) {
		struct attention_case test;

		case_init(&test, shapes[i / 2], i % 2 == 0 ? 0.0f : 0.25f);
		check_case(&test, teams);
		case_fini(&test);
	}
	for (unsigned i = 0; i < TEAM; i++)
		threads_destroy(teams[i]);
}

/* Scores far apart and of the size that overflows exp without a maximum. */
static void test_large_scores(void **state)
{
	struct threads *teams[TEAM];
	struct attention_case test;

	(void)state;
	for (unsigned i = 0; i < TEAM; i++)
		teams[i] = team_create(i + 1);
	case_init(&test, shape_of(1, 280, 280, 1, 1, 8, true, 0), 0.0f);
	for (size_t i = 0; i < test.count[Q]; i++) {
		test.fast[Q][i] = (float)((int)(test.fast[Q][i] * 4)) * 16.0f;
		test.fast[K][i] = (float)((int)(test.fast[K][i] * 4));
		test.plain[Q][i] = test.fast[Q][i];
		test.plain[K][i] = test.fast[K][i];
	}
	run_plain(&test);
	run_fast(&test, teams[1]);
	for (size_t i = 0; i < test.count[OUT]; i++)
		assert_true(fabs(test.plain[OUT][i] - test.fast[OUT][i]) <
			    1e-4);
	case_fini(&test);
	for (unsigned i = 0; i < TEAM; i++)
		threads_destroy(teams[i]);
}

/* The gradients of packed qkv go into one packed buffer, nothing is left out.*/
static void test_packed(void **state)
{
	struct attention_shape shape = attention_shape_packed(2, 70, 2, 8);
	size_t channels = 16, count = 2 * 70 * 3 * channels;
	struct threads *threads = team_create(2);
	float *qkv = malloc(count * sizeof(float));
	float *gradient = malloc(count * sizeof(float));
	float *out = malloc(count * sizeof(float));
	float *lse = malloc(2 * 2 * 70 * sizeof(float));
	void *scratch = malloc(attention_scratch_bytes(&shape, true, 2));

	(void)state;
	random_normal(random_key_numbered(1, 2, 3, 4), 0, count, 0.0f, 1.0f,
		      qkv);
	for (size_t i = 0; i < count; i++)
		gradient[i] = NAN;
	attention_forward(threads, &shape, qkv, qkv + channels,
			  qkv + 2 * channels, out, lse, NULL, scratch);
	attention_backward(threads, &shape, qkv, qkv + channels,
			   qkv + 2 * channels, out, lse, out, gradient,
			   gradient + channels, gradient + 2 * channels, NULL,
			   scratch);
	for (size_t i = 0; i < count; i++)
		assert_true(isfinite(gradient[i]));
	free(qkv);
	free(gradient);
	free(out);
	free(lse);
	free(scratch);
	threads_destroy(threads);
}

/* Token by token against a cache longer than what it holds. */
static void check_decode(size_t window)
{
	enum {
		TIME = 90,
		ROOM = 128,
		HEADS = 3,
		SIZE = 16,
		WIDTH = 48
	};
	struct attention_shape whole = windowed(
		shape_of(1, TIME, TIME, HEADS, HEADS, SIZE, true, 0), window);
	struct threads *threads = team_create(2);
	struct attention_case test;
	float one[WIDTH];

	case_init(&test, whole, 0.0f);
	run_fast(&test, threads);
	for (size_t token = 0; token < TIME; token++) {
		struct attention_shape step = whole;

		step.time_q = 1;
		step.time_k = token + 1;
		step.position_offset = token;
		step.k.sample_stride = ROOM * WIDTH;
		step.v.sample_stride = ROOM * WIDTH;
		attention_forward(threads, &step, test.fast[Q] + token * WIDTH,
				  test.fast[K], test.fast[V], one, NULL, NULL,
				  test.scratch);
		for (size_t i = 0; i < WIDTH; i++)
			assert_true(fabsf(one[i] -
					  test.fast[OUT][token * WIDTH + i]) <
				    4e-6f);
	}
	case_fini(&test);
	threads_destroy(threads);
}

static void test_decode(void **state)
{
	(void)state;
	check_decode(0);
	check_decode(7);
}

/* The mask follows the sample's global id and the position, not the batch. */
static void test_dropout_coordinates(void **state)
{
	struct threads *threads = team_create(2);
	struct attention_case both, second;
	size_t half;

	(void)state;
	case_init(&both, shape_of(2, 80, 80, 2, 2, 16, true, 0), 0.4f);
	case_init(&second, shape_of(1, 80, 80, 2, 2, 16, true, 0), 0.4f);
	half = second.count[Q];
	second.dropout.sample_ids = &sample_ids[1];
	for (int t = Q; t <= V; t++)
		memcpy(second.fast[t], both.fast[t] + half,
		       half * sizeof(float));
	run_fast(&both, threads);
	run_fast(&second, threads);
	assert_memory_equal(second.fast[OUT], both.fast[OUT] + half,
			    half * sizeof(float));
	second.dropout.sample_ids = &sample_ids[2];
	run_fast(&second, threads);
	assert_memory_not_equal(second.fast[OUT], both.fast[OUT] + half,
				half * sizeof(float));
	case_fini(&both);
	case_fini(&second);
	threads_destroy(threads);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_reference),
		cmocka_unit_test(test_fast),
		cmocka_unit_test(test_large_scores),
		cmocka_unit_test(test_packed),
		cmocka_unit_test(test_decode),
		cmocka_unit_test(test_dropout_coordinates),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
