#include "model/kernels/rope.h"
#include "base/log.h"
#include "base/math.h"
#include "model/kernels/values.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define PI 3.14159265358979323846

/* Positions whose cosines and sines are kept; others are computed. */
#define TABLE_POSITIONS 4096

/* Tokens of one task. */
#define ROWS 16

struct rope {
	struct rope_config config;
	size_t half;       /* D / 2 */
	float scale;       /* of cosines and sines */
	float *frequency;  /* [half] */
	size_t table_rows; /* positions in the table */
	float *table;      /* [table_rows, 2, half]: cosines, sines */
};

const char *rope_kind_name(enum rope_kind kind)
{
	static const char *const names[ROPE_KINDS] = {
		[ROPE_NONE] = "none",     [ROPE_DEFAULT] = "default",
		[ROPE_LINEAR] = "linear", [ROPE_DYNAMIC] = "dynamic",
		[ROPE_LLAMA3] = "llama3", [ROPE_YARN] = "yarn",
	};

	return names[kind];
}

/* ---- what makes sense ---- */

static int check_least(const char *what, double value, double least)
{
	if (value >= least && value < 1e30)
		return 0;
	return fail(-EINVAL, "rotary positions: %s is %g, not at least %g",
		    what, value, least);
}

static int check_llama3(const struct rope_config *config)
{
	int error = check_least("low_freq_factor", config->low_frequency_factor,
				1e-6);

	if (error)
		return error;
	if (config->high_frequency_factor > config->low_frequency_factor)
		return 0;
	return fail(-EINVAL,
		    "rotary positions: high_freq_factor %g is not above "
		    "low_freq_factor %g",
		    config->high_frequency_factor,
		    config->low_frequency_factor);
}

static int check_yarn(const struct rope_config *config)
{
	int error = check_least("beta_fast", config->beta_fast, 1e-6);

	if (!error)
		error = check_least("beta_slow", config->beta_slow, 1e-6);
	/* Its logarithm divides. */
	if (!error)
		error = check_least("rope_theta of yarn", config->theta, 1.1);
	if (!error)
		error = check_least("attention_factor",
				    config->attention_factor, 0.0);
	return error;
}

/* Angles stay within what sine and cosine are made for. */
int rope_config_check(const struct rope_config *config, size_t head_size)
{
	bool original =
		config->kind == ROPE_LLAMA3 || config->kind == ROPE_YARN;
	int error;

	if (config->kind == ROPE_NONE)
		return 0;
	if ((unsigned)config->kind >= ROPE_KINDS)
		return fail(-EINVAL, "rotary positions: there is no kind %d",
			    (int)config->kind);
	if (head_size % 2 != 0 || head_size < 4)
		return fail(-EINVAL,
			    "rotary positions turn pairs: a head's size must "
			    "be even and at least 4, not %zu",
			    head_size);
	error = check_least("rope_theta", config->theta, 1.0);
	if (!error && config->kind != ROPE_DEFAULT)
		error = check_least("factor", config->factor,
				    config->kind == ROPE_DYNAMIC ? 1.0 : 1e-3);
	if (!error)
		error = check_least("the number of positions",
				    config->positions, 1);
	if (!error && original)
		error = check_least("original_max_position_embeddings",
				    config->original_positions, 1);
	if (!error && config->kind == ROPE_LLAMA3)
		error = check_llama3(config);
	if (!error && config->kind == ROPE_YARN)
		error = check_yarn(config);
	return error;
}

/* ---- frequencies ---- */

static double power(double base, double exponent)
{
	return math_exp(exponent * math_log(base));
}

/* theta^(2i/D), rounded where transformers rounds it. */
static float wave(double theta, size_t i, size_t half)
{
	float exponent = (float)(2 * i) / (float)(2 * half);

	return (float)power(theta, (double)exponent);
}

/* theta for sequences of `length` tokens (bloc97, emozilla 2023). */
static double dynamic_theta(const struct rope_config *config, size_t half,
			    size_t length)
{
	double size = 2.0 * (double)half;
	double positions = config->positions;
	double longest =
		length > config->positions ? (double)length : positions;
	double stretch =
		config->factor * longest / positions - (config->factor - 1.0);

	return config->theta * power(stretch, size / (size - 2.0));
}

static float llama3_frequency(const struct rope_config *config, float plain)
{
	double original = config->original_positions;
	double low = config->low_frequency_factor;
	double high = config->high_frequency_factor;
	float length = (float)(2.0 * PI / (double)plain);
	float slow = (float)((double)plain / config->factor), smooth;

	if ((double)length > original / low)
		return slow;
	if ((double)length < original / high)
		return plain;
	smooth = (float)((original / (double)length - low) / (high - low));
	return (1.0f - smooth) * slow + smooth * plain;
}

/* The ramp between what is not divided by the factor and what is. */
struct ramp {
	double low, high;
};

static double floor_of(double x)
{
	double whole = (double)(long)x;

	return whole > x ? whole - 1.0 : whole;
}

/* Where a frequency turns `turns` times within the original positions. */
static double yarn_dimension(const struct rope_config *config, size_t half,
			     double turns)
{
	double original = config->original_positions;

	return 2.0 * (double)half * math_log(original / (turns * 2.0 * PI)) /
	       (2.0 * math_log(config->theta));
}

static struct ramp yarn_ramp(const struct rope_config *config, size_t half)
{
	struct ramp ramp = {
		.low = yarn_dimension(config, half, config->beta_fast),
		.high = yarn_dimension(config, half, config->beta_slow),
	};

	if (!config->untruncated) {
		ramp.low = floor_of(ramp.low);
		ramp.high = -floor_of(-ramp.high);
	}
	ramp.low = MAX(ramp.low, 0.0);
	ramp.high = MIN(ramp.high, 2.0 * (double)half - 1.0);
	if (ramp.low == ramp.high)
		ramp.high += 0.001;
	return ramp;
}

static float yarn_frequency(const struct rope_config *config, float wave,
			    size_t half, size_t i)
{
	struct ramp ramp = yarn_ramp(config, half);
	float plain = 1.0f / wave;
	float slow = 1.0f / ((float)config->factor * wave);
	float part =
		((float)i - (float)ramp.low) / (float)(ramp.high - ramp.low);

	part = MIN(MAX(part, 0.0f), 1.0f);
	return slow * part + plain * (1.0f - part);
}

/* Those of sequences of `length` tokens, which only the dynamic kind minds. */
static void frequencies(const struct rope_config *config, size_t half,
			size_t length, float *out)
{
	double theta = config->theta;

	if (config->kind == ROPE_DYNAMIC)
		theta = dynamic_theta(config, half, length);
	for (size_t i = 0; i < half; i++) {
		float turn = wave(theta, i, half);

		out[i] = 1.0f / turn;
		if (config->kind == ROPE_LINEAR)
			out[i] /= (float)config->factor;
		else if (config->kind == ROPE_LLAMA3)
			out[i] = llama3_frequency(config, out[i]);
		else if (config->kind == ROPE_YARN)
			out[i] = yarn_frequency(config, turn, half, i);
	}
}

static double yarn_mscale(double factor, double mscale)
{
	return factor <= 1.0 ? 1.0 : 0.1 * mscale * math_log(factor) + 1.0;
}

static double attention_factor(const struct rope_config *config)
{
	if (config->kind != ROPE_YARN)
		return 1.0;
	if (config->attention_factor > 0.0)
		return config->attention_factor;
	if (config->mscale != 0.0 && config->mscale_all != 0.0)
		return yarn_mscale(config->factor, config->mscale) /
		       yarn_mscale(config->factor, config->mscale_all);
	return yarn_mscale(config->factor, 1.0);
}

/* ---- cosines and sines ---- */

static void turn_of(size_t half, const float *frequency, float scale,
		    size_t position, float *out)
{
	for (size_t i = 0; i < half; i++) {
		double angle = (double)((float)position * frequency[i]);

		out[i] = (float)math_cos(angle) * scale;
		out[half + i] = (float)math_sin(angle) * scale;
	}
}

int rope_create(const struct rope_config *config, size_t head_size,
		size_t longest, struct rope **out)
{
	struct rope *rope = calloc(1, sizeof(*rope));
	size_t half = head_size / 2;

	if (!rope)
		return fail(-ENOMEM, "no memory for rotary positions");
	rope->config = *config;
	rope->half = half;
	rope->scale = (float)attention_factor(config);
	rope->table_rows = MIN(longest, (size_t)TABLE_POSITIONS);
	/* Beyond them each length has frequencies of its own. */
	if (config->kind == ROPE_DYNAMIC)
		rope->table_rows =
			MIN(rope->table_rows, (size_t)config->positions);
	rope->frequency = calloc(half, sizeof(float));
	rope->table = calloc(rope->table_rows * 2 * half, sizeof(float));
	if (!rope->frequency || !rope->table) {
		fail(-ENOMEM, "no memory for %zu rotary positions",
		     rope->table_rows);
		rope_destroy(rope);
		return -ENOMEM;
	}
	frequencies(config, half, config->positions, rope->frequency);
	for (size_t p = 0; p < rope->table_rows; p++)
		turn_of(half, rope->frequency, rope->scale, p,
			rope->table + p * 2 * half);
	*out = rope;
	return 0;
}

void rope_destroy(struct rope *rope)
{
	if (!rope)
		return;
	free(rope->table);
	free(rope->frequency);
	free(rope);
}

/* ---- turning ---- */

struct rope_work {
	const struct rope *rope;
	const struct rope_shape *shape;
	const float *frequency; /* of sequences this long */
	bool tabled;            /* the table holds for them */
	float *scratch;         /* [threads, D] */
	const void *in;
	void *out;
	bool back;
};

size_t rope_scratch_bytes(size_t head_size, unsigned threads)
{
	return (threads + 1) * head_size * sizeof(float);
}

VECTOR_INLINE void turn_values(enum element_type type, size_t half,
			       const float *restrict cosine,
			       const float *restrict sine,
			       const void *restrict x, void *restrict y)
{
	for (size_t i = 0; i < half; i++) {
		float a = value_load(type, x, i);
		float b = value_load(type, x, i + half);

		value_store(type, y, i, a * cosine[i] - b * sine[i]);
		value_store(type, y, i + half, b * cosine[i] + a * sine[i]);
	}
}

KERNEL_CLONES static void turn_head(size_t half, const float *restrict cosine,
				    const float *restrict sine,
				    const void *restrict x, void *restrict y)
{
	turn_values(ELEMENT_F32, half, cosine, sine, x, y);
}

KERNEL_CLONES static void turn_head_bfloat16(size_t half,
					     const float *restrict cosine,
					     const float *restrict sine,
					     const void *restrict x,
					     void *restrict y)
{
	turn_values(ELEMENT_BF16, half, cosine, sine, x, y);
}

/* Its transpose. */
VECTOR_INLINE void turn_values_back(enum element_type type, size_t half,
				    const float *restrict cosine,
				    const float *restrict sine,
				    const void *restrict x, void *restrict y)
{
	for (size_t i = 0; i < half; i++) {
		float a = value_load(type, x, i);
		float b = value_load(type, x, i + half);

		value_store(type, y, i, a * cosine[i] + b * sine[i]);
		value_store(type, y, i + half, b * cosine[i] - a * sine[i]);
	}
}

KERNEL_CLONES static void turn_head_back(size_t half,
					 const float *restrict cosine,
					 const float *restrict sine,
					 const void *restrict x,
					 void *restrict y)
{
	turn_values_back(ELEMENT_F32, half, cosine, sine, x, y);
}

KERNEL_CLONES static void turn_head_back_bfloat16(size_t half,
						  const float *restrict cosine,
						  const float *restrict sine,
						  const void *restrict x,
						  void *restrict y)
{
	turn_values_back(ELEMENT_BF16, half, cosine, sine, x, y);
}

/* The one of these for a call. */
static void (*turning_of(const struct rope_work *work))(
	size_t half, const float *restrict cosine, const float *restrict sine,
	const void *restrict x, void *restrict y)
{
	if (work->shape->type == ELEMENT_BF16)
		return work->back ? turn_head_back_bfloat16
				  : turn_head_bfloat16;
	return work->back ? turn_head_back : turn_head;
}

static size_t position_of(const struct rope_shape *shape, size_t row)
{
	size_t place = row % shape->time;

	if (shape->starts)
		place -= (size_t)shape->starts[row];
	return shape->position_offset + place;
}

/* The longest of the sequences there are, for the dynamic kind. */
static size_t longest(const struct rope_shape *shape)
{
	size_t rows = shape->batch * shape->time, length = 0;

	if (!shape->starts)
		return shape->position_offset + shape->time;
	for (size_t row = 0; row < rows; row++)
		length = MAX(length, position_of(shape, row) + 1);
	return length;
}

static void turn_row(const struct rope_work *work, size_t row, float *own)
{
	const struct rope *rope = work->rope;
	const struct rope_shape *shape = work->shape;
	size_t size = shape->head_size, half = rope->half;
	size_t turned = shape->heads + shape->kv_heads;
	size_t bytes = size * element_type_bytes(shape->type); /* of a head */
	size_t at = row * (turned + shape->kv_heads) * bytes;
	size_t position = position_of(shape, row);
	const float *turn = rope->table + position * size;
	const unsigned char *in = (const unsigned char *)work->in + at;
	unsigned char *out = (unsigned char *)work->out + at;

	if (!work->tabled || position >= rope->table_rows) {
		turn_of(half, work->frequency, rope->scale, position, own);
		turn = own;
	}
	for (size_t head = 0; head < turned; head++)
		turning_of(work)(half, turn, turn + half, in + head * bytes,
				 out + head * bytes);
	memcpy(out + turned * bytes, in + turned * bytes,
	       shape->kv_heads * bytes);
}

static void turn_task(void *argument, size_t index, unsigned thread)
{
	const struct rope_work *work = argument;
	size_t rows = work->shape->batch * work->shape->time;
	size_t end = MIN(rows, (index + 1) * ROWS);

	for (size_t row = index * ROWS; row < end; row++)
		turn_row(work, row,
			 work->scratch + thread * work->shape->head_size);
}

static void turn(struct threads *threads, const struct rope *rope,
		 const struct rope_shape *shape, const void *in, void *out,
		 bool back, float *scratch)
{
	size_t rows = shape->batch * shape->time;
	size_t length = 0;
	struct rope_work work = {
		.rope = rope,
		.shape = shape,
		.frequency = rope->frequency,
		.tabled = true,
		.scratch = scratch + shape->head_size,
		.in = in,
		.out = out,
		.back = back,
	};

	ASSERT(shape->head_size == 2 * rope->half);
	if (rope->config.kind == ROPE_DYNAMIC)
		length = longest(shape);
	if (length > rope->config.positions) {
		frequencies(&rope->config, rope->half, length, scratch);
		work.frequency = scratch;
		work.tabled = false;
	}
	threads_run(threads, (rows + ROWS - 1) / ROWS, turn_task, &work);
}

void rope_forward(struct threads *threads, const struct rope *rope,
		  const struct rope_shape *shape, const void *in, void *out,
		  void *scratch)
{
	turn(threads, rope, shape, in, out, false, scratch);
}

void rope_backward(struct threads *threads, const struct rope *rope,
		   const struct rope_shape *shape, const void *dout, void *din,
		   void *scratch)
{
	turn(threads, rope, shape, dout, din, true, scratch);
}
