#include "model/kernels/attention.h"
#include "model/kernels/attention_narrow.h"
#include "model/kernels/dropout.h"
#include "model/kernels/gemm.h"
#include "model/kernels/lanes.h"
#include "model/kernels/values.h"

#include <math.h>
#include <string.h>

/*
 * Blocks. A block is narrow along the side on which the causal triangle cuts
 * it (what is computed in vain is half of that) and long along the other, so
 * that products are large enough for BLAS and softmax seldom rescales.
 */
#define NARROW ATTENTION_NARROW
#define LONG   ATTENTION_LONG

struct attention_work {
	const struct attention_shape *shape;
	const void *q, *k, *v;
	void *out; /* forward: written; backward: read */
	float *lse;
	const void *dout;
	void *dq, *dk, *dv;
	const struct dropout *dropout; /* NULL: none */
	unsigned char *scratch;
	size_t scratch_bytes; /* of one thread */
	size_t query_blocks;
	bool backward;
	bool narrow; /* products are of bfloat16 */
};

/* What each thread has of the scratch memory. */
struct attention_scratch {
	float *scores;    /* [NARROW x LONG]: probabilities */
	float *gradients; /* the same: their gradients */
	uint32_t *words;  /* [LONG] of dropout */
	float *maximum;   /* [NARROW] of the scores of each row so far */
	float *sum;       /* [NARROW] of their exponentials */
	float *delta;     /* [time_q] row sums of dout * out */
	/* Where values are bfloat16: */
	float *q, *k, *v;               /* [LONG x D] of a block, widened */
	float *out;                     /* [LONG x D]: sums, or dout widened */
	float *dq;                      /* [time_q x D]: sums of one head */
	float *dk, *dv;                 /* [time_k x D]: of one of keys */
	struct attention_narrow narrow; /* instead of q, k and v */
};

static size_t rounded(size_t floats)
{
	size_t line = CACHE_LINE_BYTES / sizeof(float);

	return (floats + line - 1) / line * line;
}

/* Queries whose packed factors a thread has at once: forward, of a block. */
static size_t narrow_time(const struct attention_shape *shape, bool backward)
{
	return backward ? shape->time_q : MIN(shape->time_q, (size_t)NARROW);
}

/* Floats of widened blocks, or of packed factors in their place. */
static size_t factor_floats(const struct attention_shape *shape, bool backward)
{
	size_t time = narrow_time(shape, backward);

	return rounded(MAX(3 * LONG * shape->head_size,
			   attention_narrow_bytes(time, shape->head_size) /
				   sizeof(float)));
}

static size_t thread_floats(const struct attention_shape *shape, bool backward)
{
	size_t floats =
		2 * NARROW * LONG + LONG + 2 * NARROW + rounded(shape->time_q);

	if (shape->type == ELEMENT_BF16)
		floats += factor_floats(shape, backward) +
			  LONG * shape->head_size;
	if (shape->type == ELEMENT_BF16 && backward)
		floats += rounded(shape->time_q * shape->head_size) +
			  2 * rounded(shape->time_k * shape->head_size);
	return floats;
}

/*
 * Are products of bfloat16? Few queries are not worth the packing, and those of
 * a cache begin anywhere.
 */
static bool is_narrow(const struct attention_shape *shape)
{
	return shape->type == ELEMENT_BF16 && shape->time_q >= NARROW &&
	       shape->position_offset == 0 && attention_narrow_is_there();
}

int attention_prepare(struct threads *threads,
		      const struct attention_shape *shape)
{
	if (!is_narrow(shape))
		return 0;
	return attention_narrow_prepare(
		threads, MAX(shape->time_q, shape->time_k), shape->head_size);
}

size_t attention_scratch_bytes(const struct attention_shape *shape,
			       bool backward, unsigned threads)
{
	return threads * thread_floats(shape, backward) * sizeof(float);
}

static struct attention_scratch scratch_of(const struct attention_work *work,
					   unsigned thread)
{
	float *base =
		(float *)(void *)(work->scratch + thread * work->scratch_bytes);
	size_t size = work->shape->head_size;
	struct attention_scratch scratch = {0};

	scratch.scores = base;
	scratch.gradients = scratch.scores + NARROW * LONG;
	scratch.words = (uint32_t *)(void *)(scratch.gradients + NARROW * LONG);
	scratch.maximum = scratch.gradients + NARROW * LONG + LONG;
	scratch.sum = scratch.maximum + NARROW;
	scratch.delta = scratch.sum + NARROW;
	if (work->shape->type != ELEMENT_BF16)
		return scratch;
	scratch.q = scratch.delta + rounded(work->shape->time_q);
	scratch.k = scratch.q + LONG * size;
	scratch.v = scratch.k + LONG * size;
	scratch.narrow = attention_narrow_place(
		narrow_time(work->shape, work->backward), size, scratch.q);
	scratch.out = scratch.q + factor_floats(work->shape, work->backward);
	if (!work->backward)
		return scratch;
	scratch.dq = scratch.out + LONG * size;
	scratch.dk = scratch.dq + rounded(work->shape->time_q * size);
	scratch.dv = scratch.dk + rounded(work->shape->time_k * size);
	return scratch;
}

struct attention_shape attention_shape_packed(size_t batch, size_t time,
					      size_t heads, size_t head_size)
{
	size_t channels = heads * head_size;
	struct attention_layout qkv = {3 * channels, 3 * channels * time};
	struct attention_layout out = {channels, channels * time};

	return (struct attention_shape){
		.batch = batch,
		.time_q = time,
		.time_k = time,
		.heads = heads,
		.kv_heads = heads,
		.head_size = head_size,
		.causal = true,
		.scale = 1.0f / sqrtf((float)head_size),
		.q = qkv,
		.k = qkv,
		.v = qkv,
		.out = out,
	};
}

static size_t offset_of(struct attention_layout layout, size_t head_size,
			size_t sample, size_t token, size_t head)
{
	return sample * layout.sample_stride + token * layout.row_stride +
	       head * head_size;
}

/* Rows of one head as floats, `stride` apart. */
struct rows {
	float *first;
	size_t stride;
};

/*
 * `count` rows to read from token `token` on: where they lie, or, of bfloat16,
 * widened into `wide`.
 */
static struct rows rows_read(const struct attention_shape *shape,
			     const void *values, struct attention_layout layout,
			     size_t sample, size_t token, size_t head,
			     size_t count, float *wide)
{
	size_t size = shape->head_size;
	size_t at = offset_of(layout, size, sample, token, head);
	const bfloat16 *narrow = values;

	if (shape->type != ELEMENT_BF16)
		return (struct rows){(float *)(uintptr_t)values + at,
				     layout.row_stride};
	for (size_t row = 0; row < count; row++)
		values_row_widen(size, narrow + at + row * layout.row_stride,
				 wide + row * size);
	return (struct rows){wide, size};
}

/* Rows to sum up: where they will lie, or `wide`, to be rounded from there. */
static struct rows rows_sum(const struct attention_shape *shape, void *values,
			    struct attention_layout layout, size_t sample,
			    size_t token, size_t head, float *wide)
{
	size_t size = shape->head_size;

	if (shape->type != ELEMENT_BF16)
		return (struct rows){(float *)values + offset_of(layout, size,
								 sample, token,
								 head),
				     layout.row_stride};
	return (struct rows){wide, size};
}

/* Sums that are done: `count` rows of rows_sum(). */
static void rows_finish(const struct attention_shape *shape, struct rows rows,
			void *values, struct attention_layout layout,
			size_t sample, size_t token, size_t head, size_t count)
{
	size_t size = shape->head_size;
	bfloat16 *narrow = values;

	if (shape->type != ELEMENT_BF16)
		return;
	narrow += offset_of(layout, size, sample, token, head);
	for (size_t row = 0; row < count; row++)
		values_row_round(size, rows.first + row * rows.stride,
				 narrow + row * layout.row_stride);
}

static void rows_clear(const struct attention_shape *shape, struct rows rows,
		       size_t count)
{
	for (size_t row = 0; row < count; row++)
		memset(rows.first + row * rows.stride, 0,
		       shape->head_size * sizeof(float));
}

static const struct dropout *active(const struct dropout *dropout)
{
	return dropout != NULL && dropout->probability > 0.0f ? dropout : NULL;
}

/* How many of the keys first .. first + count - 1 a query sees. */
static size_t keys_seen(const struct attention_shape *shape, size_t query,
			size_t first, size_t count)
{
	size_t end = shape->position_offset + query + 1;

	if (!shape->causal)
		return count;
	return end <= first ? 0 : MIN(end - first, count);
}

/* Whether the first keys may lie before what a query sees. */
static bool has_first(const struct attention_shape *shape)
{
	return shape->causal && (shape->window > 0 || shape->starts);
}

/* The first key of a sample's query: others lie before window or example. */
static size_t first_seen(const struct attention_shape *shape, size_t sample,
			 size_t query)
{
	size_t end = shape->position_offset + query + 1, first = 0;

	if (!has_first(shape))
		return 0;
	if (shape->window > 0 && end > shape->window)
		first = end - shape->window;
	if (shape->starts)
		first = MAX(
			first,
			(size_t)shape->starts[sample * shape->time_q + query]);
	return first;
}

/* How many of the keys first .. first + count - 1 lie before it. */
static size_t keys_before(const struct attention_shape *shape, size_t sample,
			  size_t query, size_t first, size_t count)
{
	size_t seen = first_seen(shape, sample, query);

	return seen <= first ? 0 : MIN(seen - first, count);
}

/*
 * The first key of a block of queries. Where examples begin anywhere it goes
 * back to a multiple of NARROW, so that products have few different shapes.
 */
static size_t first_of_block(const struct attention_shape *shape, size_t sample,
			     size_t query)
{
	size_t first = first_seen(shape, sample, query);

	return shape->starts ? first / NARROW * NARROW : first;
}

/*
 * Queries that see some of the keys up to `last`: those before the end. Other
 * examples' are left out, but for the rest of a block of NARROW.
 */
static size_t queries_end(const struct attention_shape *shape, size_t sample,
			  size_t last)
{
	size_t end = shape->time_q, query = last + 1;

	if (shape->causal && shape->window > 0) {
		size_t seen = last + shape->window;

		end = MIN(end, seen - MIN(seen, shape->position_offset));
	}
	if (!shape->starts)
		return end;
	while (query < end &&
	       (size_t)shape->starts[sample * shape->time_q + query] <= last)
		query++;
	return MIN(end, (query + NARROW - 1) / NARROW * NARROW);
}

static void words_of(const struct attention_work *work, size_t sample,
		     size_t head, size_t query, size_t key, size_t count,
		     uint32_t *words)
{
	size_t position = work->shape->position_offset + query;

	dropout_words(work->dropout->key, work->dropout->sample_ids[sample],
		      dropout_attention_coordinate(
			      work->shape->first_head + head, position),
		      key, count, words);
}

/* ---- loops over one row ---- */

KERNEL_CLONES static float row_maximum(size_t count, const float *restrict x)
{
	float lanes[LANES];

	for (int lane = 0; lane < LANES; lane++)
		lanes[lane] = -INFINITY;
	LANES_FOR(count, i, lane,
		  lanes[lane] = x[i] > lanes[lane] ? x[i] : lanes[lane]);
	return lanes_maximum(lanes);
}

/* x = e^(x - shift); returns the sum. */
KERNEL_CLONES static float row_exp(size_t count, float shift, float *restrict x)
{
	float lanes[LANES] = {0};

	for (size_t i = 0; i < count; i++)
		x[i] = vector_exp(x[i] - shift);
	LANES_FOR(count, i, lane, lanes[lane] += x[i]);
	return lanes_sum(lanes);
}

KERNEL_CLONES static void row_scale(size_t count, float factor,
				    float *restrict x)
{
	for (size_t i = 0; i < count; i++)
		x[i] *= factor;
}

KERNEL_CLONES static void row_drop(size_t count, uint32_t threshold,
				   float scale, const uint32_t *restrict words,
				   float *restrict x)
{
	for (size_t i = 0; i < count; i++) {
		float kept = x[i] * scale;

		x[i] = words[i] >= threshold ? kept : 0.0f;
	}
}

VECTOR_INLINE float dot(enum element_type type, size_t count,
			const void *restrict a, const void *restrict b)
{
	float lanes[LANES] = {0};

	LANES_FOR(count, i, lane,
		  lanes[lane] +=
		  value_load(type, a, i) * value_load(type, b, i));
	return lanes_sum(lanes);
}

KERNEL_CLONES static float row_dot(size_t count, const void *restrict a,
				   const void *restrict b)
{
	return dot(ELEMENT_F32, count, a, b);
}

KERNEL_CLONES static float
row_dot_bfloat16(size_t count, const void *restrict a, const void *restrict b)
{
	return dot(ELEMENT_BF16, count, a, b);
}

/* Through softmax: p = e^(s - lse), ds = p (dp - delta) scale. */
KERNEL_CLONES static void row_softmax_backward(size_t count, float lse,
					       float delta, float scale,
					       float *restrict s_p,
					       float *restrict dp_ds)
{
	for (size_t i = 0; i < count; i++) {
		float p = vector_exp(s_p[i] - lse);

		s_p[i] = p;
		dp_ds[i] = p * (dp_ds[i] - delta) * scale;
	}
}

/* ---- forward: one block of queries, its keys from the first to the last ---- */

struct forward_block {
	size_t sample, head, kv_head;
	size_t query, queries;
	size_t key, keys;
	size_t begin;  /* the first key of the first block */
	size_t stride; /* of scores */
	struct rows q, out;
};

/*
 * Scores of one row to unnormalised probabilities: takes the maximum further
 * and scales what was summed before down to it (algorithm 1, lines 10 to 12).
 */
static void forward_row(const struct attention_work *work,
			const struct attention_scratch *scratch,
			const struct forward_block *block, size_t row)
{
	const struct attention_shape *shape = work->shape;
	size_t query = block->query + row;
	size_t seen = keys_seen(shape, query, block->key, block->keys);
	size_t before = keys_before(shape, block->sample, query, block->key,
				    block->keys);
	/* Were there others before? The first keys of a block may be none. */
	bool further = block->key > block->begin &&
		       block->key > first_seen(shape, block->sample, query);
	float *scores = scratch->scores + row * block->stride;
	float *out = block->out.first + row * block->out.stride;
	float maximum, sum, factor;

	memset(scores + seen, 0, (block->keys - seen) * sizeof(*scores));
	before = MIN(before, seen);
	memset(scores, 0, before * sizeof(*scores));
	if (seen == before)
		return;
	scores += before;
	seen -= before;
	maximum = row_maximum(seen, scores);
	if (further && maximum <= scratch->maximum[row])
		maximum = scratch->maximum[row];
	sum = row_exp(seen, maximum, scores);
	if (further) {
		factor = vector_exp(scratch->maximum[row] - maximum);
		sum = scratch->sum[row] * factor + sum;
		row_scale(shape->head_size, factor, out);
	}
	scratch->maximum[row] = maximum;
	scratch->sum[row] = sum;
	if (work->dropout == NULL)
		return;
	words_of(work, block->sample, block->head, query, block->key + before,
		 seen, scratch->words);
	row_drop(seen, dropout_threshold(work->dropout->probability),
		 dropout_scale(work->dropout->probability), scratch->words,
		 scores);
}

static void forward_keys(const struct attention_work *work,
			 const struct attention_scratch *scratch,
			 const struct forward_block *block)
{
	const struct attention_shape *shape = work->shape;
	size_t size = shape->head_size;
	struct rows k =
		rows_read(shape, work->k, shape->k, block->sample, block->key,
			  block->kv_head, block->keys, scratch->k);
	struct rows v =
		rows_read(shape, work->v, shape->v, block->sample, block->key,
			  block->kv_head, block->keys, scratch->v);

	gemm_block(GEMM_NORMAL, GEMM_TRANSPOSED, block->queries, block->keys,
		   size, shape->scale, block->q.first, block->q.stride, k.first,
		   k.stride, 0.0f, scratch->scores, block->keys);
	for (size_t row = 0; row < block->queries; row++)
		forward_row(work, scratch, block, row);
	gemm_block(GEMM_NORMAL, GEMM_NORMAL, block->queries, size, block->keys,
		   1.0f, scratch->scores, block->keys, v.first, v.stride,
		   block->key == block->begin ? 0.0f : 1.0f, block->out.first,
		   block->out.stride);
}

static void forward_keys_narrow(const struct attention_work *work,
				const struct attention_scratch *scratch,
				const struct forward_block *block)
{
	const struct attention_shape *shape = work->shape;
	size_t size = shape->head_size;
	const bfloat16 *k = work->k, *v = work->v;

	k += offset_of(shape->k, size, block->sample, block->key,
		       block->kv_head);
	v += offset_of(shape->v, size, block->sample, block->key,
		       block->kv_head);
	attention_narrow_scores(&scratch->narrow, block->keys, k,
				shape->k.row_stride, scratch->scores);
	row_scale(NARROW * block->stride, shape->scale, scratch->scores);
	for (size_t row = 0; row < block->queries; row++)
		forward_row(work, scratch, block, row);
	attention_narrow_values(&scratch->narrow, block->queries, block->keys,
				scratch->scores, v, shape->v.row_stride,
				block->key != block->begin, block->out.first);
}

static void forward_place_queries(const struct attention_work *work,
				  const struct attention_scratch *scratch,
				  struct forward_block *block)
{
	const struct attention_shape *shape = work->shape;
	const bfloat16 *q = work->q;

	if (work->narrow)
		attention_narrow_queries(
			&scratch->narrow, block->queries,
			q + offset_of(shape->q, shape->head_size, block->sample,
				      block->query, block->head),
			shape->q.row_stride);
	else
		block->q = rows_read(shape, work->q, shape->q, block->sample,
				     block->query, block->head, block->queries,
				     scratch->q);
	block->out = rows_sum(shape, work->out, shape->out, block->sample,
			      block->query, block->head, scratch->out);
}

static void forward_finish(const struct attention_work *work,
			   const struct attention_scratch *scratch,
			   const struct forward_block *block)
{
	const struct attention_shape *shape = work->shape;
	size_t head = block->sample * shape->heads + block->head;

	for (size_t row = 0; row < block->queries; row++) {
		size_t query = block->query + row;

		row_scale(shape->head_size, 1.0f / scratch->sum[row],
			  block->out.first + row * block->out.stride);
		if (work->lse != NULL)
			work->lse[head * shape->time_q + query] =
				scratch->maximum[row] +
				vector_log(scratch->sum[row]);
	}
	rows_finish(shape, block->out, work->out, shape->out, block->sample,
		    block->query, block->head, block->queries);
}

static void forward_task(void *argument, size_t index, unsigned thread)
{
	const struct attention_work *work = argument;
	const struct attention_shape *shape = work->shape;
	struct attention_scratch scratch = scratch_of(work, thread);
	size_t head = index / work->query_blocks;
	/* The last queries see the most keys: they go first. */
	size_t order = work->query_blocks - 1 - index % work->query_blocks;
	struct forward_block block = {
		.sample = head / shape->heads,
		.head = head % shape->heads,
		.query = order * NARROW,
	};
	size_t end;

	block.kv_head = block.head / (shape->heads / shape->kv_heads);
	block.queries = MIN((size_t)NARROW, shape->time_q - block.query);
	end = keys_seen(shape, block.query + block.queries - 1, 0,
			shape->time_k);
	block.begin = first_of_block(shape, block.sample, block.query);
	forward_place_queries(work, &scratch, &block);
	for (block.key = block.begin; block.key < end;
	     block.key += block.keys) {
		block.keys = MIN((size_t)LONG, end - block.key);
		block.stride = work->narrow
				       ? attention_narrow_stride(block.keys)
				       : block.keys;
		(work->narrow ? forward_keys_narrow
			      : forward_keys)(work, &scratch, &block);
	}
	forward_finish(work, &scratch, &block);
}

static void check_shape(const struct attention_shape *shape)
{
	ASSERT(shape->kv_heads > 0 && shape->heads % shape->kv_heads == 0);
	ASSERT(shape->time_q > 0 && shape->time_k > 0 && shape->head_size > 0);
	ASSERT(!shape->causal ||
	       shape->position_offset + shape->time_q <= shape->time_k);
	ASSERT(!shape->starts ||
	       (shape->causal && shape->position_offset == 0 &&
		shape->time_q == shape->time_k));
}

void attention_forward(struct threads *threads,
		       const struct attention_shape *shape, const void *q,
		       const void *k, const void *v, void *out, float *lse,
		       const struct dropout *dropout, void *scratch)
{
	struct attention_work work = {
		.shape = shape,
		.q = q,
		.k = k,
		.v = v,
		.out = out,
		.lse = lse,
		.dropout = active(dropout),
		.scratch = scratch,
		.scratch_bytes = attention_scratch_bytes(shape, false, 1),
		.query_blocks = (shape->time_q + NARROW - 1) / NARROW,
		.narrow = is_narrow(shape),
	};

	check_shape(shape);
	threads_run(threads, shape->batch * shape->heads * work.query_blocks,
		    forward_task, &work);
}

/* ---- backward: one sample and key-value head, all blocks in order ---- */

struct backward_block {
	size_t sample, head, kv_head;
	size_t query, queries;
	size_t key, keys;
	size_t stride; /* of scores */
	bool first;    /* the first to add to dk and dv of these keys */
	struct rows k, v, dk, dv; /* from `key` on */
	struct rows dq;           /* from 0 on */
};

/*
 * p and ds of one row, from s and dp. The gradient of what dropout let
 * through is scaled like it; delta needs no change, for it is
 * dout . out = sum_j p_j dp_j with or without dropout.
 */
static void backward_row(const struct attention_work *work,
			 const struct attention_scratch *scratch,
			 const struct backward_block *block, size_t row)
{
	const struct attention_shape *shape = work->shape;
	size_t query = block->query + row;
	size_t head = block->sample * shape->heads + block->head;
	size_t seen = keys_seen(shape, query, block->key, block->keys);
	size_t before = keys_before(shape, block->sample, query, block->key,
				    block->keys);
	float *scores = scratch->scores + row * block->stride;
	float *gradients = scratch->gradients + row * block->stride;
	uint32_t threshold = 0;
	float scale = 1.0f;

	before = MIN(before, seen);
	memset(scores, 0, before * sizeof(float));
	memset(gradients, 0, before * sizeof(float));
	memset(scores + seen, 0, (block->keys - seen) * sizeof(float));
	memset(gradients + seen, 0, (block->keys - seen) * sizeof(float));
	scores += before;
	gradients += before;
	seen -= before;
	if (work->dropout != NULL) {
		threshold = dropout_threshold(work->dropout->probability);
		scale = dropout_scale(work->dropout->probability);
		words_of(work, block->sample, block->head, query,
			 block->key + before, seen, scratch->words);
		row_drop(seen, threshold, scale, scratch->words, gradients);
	}
	row_softmax_backward(seen, work->lse[head * shape->time_q + query],
			     scratch->delta[query], shape->scale, scores,
			     gradients);
	if (work->dropout != NULL)
		row_drop(seen, threshold, scale, scratch->words, scores);
}

/* The five products of a block (algorithm 4, lines 11 to 22). */
static void backward_queries(const struct attention_work *work,
			     const struct attention_scratch *scratch,
			     const struct backward_block *block)
{
	const struct attention_shape *shape = work->shape;
	size_t size = shape->head_size;
	size_t queries = block->queries, keys = block->keys;
	struct rows k = block->k, v = block->v;
	struct rows q =
		rows_read(shape, work->q, shape->q, block->sample, block->query,
			  block->head, queries, scratch->q);
	struct rows dout =
		rows_read(shape, work->dout, shape->out, block->sample,
			  block->query, block->head, queries, scratch->out);
	float add = block->first ? 0.0f : 1.0f;

	gemm_block(GEMM_NORMAL, GEMM_TRANSPOSED, queries, keys, size,
		   shape->scale, q.first, q.stride, k.first, k.stride, 0.0f,
		   scratch->scores, keys);
	gemm_block(GEMM_NORMAL, GEMM_TRANSPOSED, queries, keys, size, 1.0f,
		   dout.first, dout.stride, v.first, v.stride, 0.0f,
		   scratch->gradients, keys);
	for (size_t row = 0; row < queries; row++)
		backward_row(work, scratch, block, row);
	gemm_block(GEMM_TRANSPOSED, GEMM_NORMAL, keys, size, queries, 1.0f,
		   scratch->scores, keys, dout.first, dout.stride, add,
		   block->dv.first, block->dv.stride);
	gemm_block(GEMM_TRANSPOSED, GEMM_NORMAL, keys, size, queries, 1.0f,
		   scratch->gradients, keys, q.first, q.stride, add,
		   block->dk.first, block->dk.stride);
	gemm_block(GEMM_NORMAL, GEMM_NORMAL, queries, size, keys, 1.0f,
		   scratch->gradients, keys, k.first, k.stride,
		   block->key == 0 && !has_first(shape) ? 0.0f : 1.0f,
		   block->dq.first + block->query * block->dq.stride,
		   block->dq.stride);
}

static void backward_queries_narrow(const struct attention_work *work,
				    const struct attention_scratch *scratch,
				    const struct backward_block *block)
{
	const struct attention_shape *shape = work->shape;
	const struct attention_narrow_sums sums = {
		.query = block->query,
		.queries = block->queries,
		.keys = block->keys,
		.p = scratch->scores,
		.ds = scratch->gradients,
		.add = !block->first,
		.add_dq = block->key > 0 || has_first(shape),
		.dq = block->dq.first + block->query * block->dq.stride,
		.dk = block->dk.first,
		.dv = block->dv.first,
	};

	attention_narrow_both(&scratch->narrow, block->query, block->queries,
			      scratch->scores, scratch->gradients);
	row_scale(block->queries * block->stride, shape->scale,
		  scratch->scores);
	for (size_t row = 0; row < block->queries; row++)
		backward_row(work, scratch, block, row);
	attention_narrow_gradients(&scratch->narrow, &sums);
}

static void backward_delta(const struct attention_work *work,
			   const struct attention_scratch *scratch,
			   size_t sample, size_t head)
{
	const struct attention_shape *shape = work->shape;
	bool narrow = shape->type == ELEMENT_BF16;

	for (size_t query = 0; query < shape->time_q; query++) {
		size_t at = offset_of(shape->out, shape->head_size, sample,
				      query, head);

		scratch->delta[query] = (narrow ? row_dot_bfloat16 : row_dot)(
			shape->head_size, values_at(shape->type, work->out, at),
			values_at(shape->type, work->dout, at));
	}
}

static void backward_pack_keys(const struct attention_work *work,
			       const struct attention_scratch *scratch,
			       const struct backward_block *block)
{
	const struct attention_shape *shape = work->shape;
	const bfloat16 *k = work->k, *v = work->v;
	size_t size = shape->head_size;

	k += offset_of(shape->k, size, block->sample, block->key,
		       block->kv_head);
	v += offset_of(shape->v, size, block->sample, block->key,
		       block->kv_head);
	attention_narrow_keys(&scratch->narrow, block->keys, k,
			      shape->k.row_stride, v, shape->v.row_stride);
}

static void backward_pack_head(const struct attention_work *work,
			       const struct attention_scratch *scratch,
			       const struct backward_block *block)
{
	const struct attention_shape *shape = work->shape;
	const bfloat16 *q = work->q, *dout = work->dout;
	size_t size = shape->head_size;

	q += offset_of(shape->q, size, block->sample, 0, block->head);
	dout += offset_of(shape->out, size, block->sample, 0, block->head);
	attention_narrow_head(&scratch->narrow, q, shape->q.row_stride, dout,
			      shape->out.row_stride);
}

/* Finds the block's keys, and where their gradients go. */
static void backward_place_keys(const struct attention_work *work,
				const struct attention_scratch *scratch,
				struct backward_block *block)
{
	const struct attention_shape *shape = work->shape;
	size_t sample = block->sample, key = block->key, head = block->kv_head;
	size_t at = key * shape->head_size; /* of the sums, where widened */
	bool narrow = shape->type == ELEMENT_BF16;

	if (work->narrow) {
		backward_pack_keys(work, scratch, block);
	} else {
		block->k = rows_read(shape, work->k, shape->k, sample, key,
				     head, block->keys, scratch->k);
		block->v = rows_read(shape, work->v, shape->v, sample, key,
				     head, block->keys, scratch->v);
	}
	block->dk = rows_sum(shape, work->dk, shape->k, sample, key, head,
			     narrow ? scratch->dk + at : NULL);
	block->dv = rows_sum(shape, work->dv, shape->v, sample, key, head,
			     narrow ? scratch->dv + at : NULL);
}

static void backward_keys(const struct attention_work *work,
			  const struct attention_scratch *scratch,
			  struct backward_block *block)
{
	const struct attention_shape *shape = work->shape;
	size_t query = 0;
	size_t end =
		queries_end(shape, block->sample, block->key + block->keys - 1);

	/* The first query that sees the block's first key. */
	if (shape->causal && block->key > shape->position_offset)
		query = block->key - shape->position_offset;
	backward_place_keys(work, scratch, block);
	/* Keys that no query sees get no gradient. */
	if (query >= end && block->first) {
		rows_clear(shape, block->dk, block->keys);
		rows_clear(shape, block->dv, block->keys);
	}
	for (; query < end; query += block->queries) {
		block->query = query;
		block->queries = MIN((size_t)LONG, end - query);
		(work->narrow ? backward_queries_narrow
			      : backward_queries)(work, scratch, block);
		block->first = false;
	}
}

/* All keys' gradients, of all heads. */
static void backward_finish_keys(const struct attention_work *work,
				 const struct attention_scratch *scratch,
				 const struct backward_block *block)
{
	const struct attention_shape *shape = work->shape;
	struct rows dk = {scratch->dk, shape->head_size};
	struct rows dv = {scratch->dv, shape->head_size};

	rows_finish(shape, dk, work->dk, shape->k, block->sample, 0,
		    block->kv_head, shape->time_k);
	rows_finish(shape, dv, work->dv, shape->v, block->sample, 0,
		    block->kv_head, shape->time_k);
}

static void backward_head(const struct attention_work *work,
			  const struct attention_scratch *scratch,
			  struct backward_block *block, bool first)
{
	const struct attention_shape *shape = work->shape;

	backward_delta(work, scratch, block->sample, block->head);
	if (work->narrow)
		backward_pack_head(work, scratch, block);
	block->dq = rows_sum(shape, work->dq, shape->q, block->sample, 0,
			     block->head, scratch->dq);
	/* Where not every query meets the first keys dq begins as zeros. */
	if (has_first(shape))
		rows_clear(shape, block->dq, shape->time_q);
	for (block->key = 0; block->key < shape->time_k;
	     block->key += block->keys) {
		block->keys = MIN((size_t)NARROW, shape->time_k - block->key);
		block->stride = work->narrow ? NARROW : block->keys;
		block->first = first;
		backward_keys(work, scratch, block);
	}
	rows_finish(shape, block->dq, work->dq, shape->q, block->sample, 0,
		    block->head, shape->time_q);
}

/*
 * dk and dv of a block of keys sum over heads, then queries, ascending; dq sums
 * over blocks of keys, ascending. Since one thread does all of it, scores are
 * computed once for the three.
 */
static void backward_task(void *argument, size_t index, unsigned thread)
{
	const struct attention_work *work = argument;
	const struct attention_shape *shape = work->shape;
	struct attention_scratch scratch = scratch_of(work, thread);
	size_t group = shape->heads / shape->kv_heads;
	struct backward_block block = {
		.sample = index / shape->kv_heads,
		.kv_head = index % shape->kv_heads,
	};

	for (size_t member = 0; member < group; member++) {
		block.head = block.kv_head * group + member;
		backward_head(work, &scratch, &block, member == 0);
	}
	backward_finish_keys(work, &scratch, &block);
}

void attention_backward(struct threads *threads,
			const struct attention_shape *shape, const void *q,
			const void *k, const void *v, const void *out,
			const float *lse, const void *dout, void *dq, void *dk,
			void *dv, const struct dropout *dropout, void *scratch)
{
	struct attention_work work = {
		.shape = shape,
		.q = q,
		.k = k,
		.v = v,
		.out = (void *)(uintptr_t)out, /* only read here */
		.lse = (float *)(uintptr_t)lse,
		.dout = dout,
		.dq = dq,
		.dk = dk,
		.dv = dv,
		.dropout = active(dropout),
		.scratch = scratch,
		.scratch_bytes = attention_scratch_bytes(shape, true, 1),
		.backward = true,
		.narrow = is_narrow(shape),
	};

	check_shape(shape);
	threads_run(threads, shape->batch * shape->kv_heads, backward_task,
		    &work);
}
