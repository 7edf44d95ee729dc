/*
 * The plan of a reduction: what is cut covers everything once, both ends of a
 * link derive the same messages, the additions are the tree that was promised,
 * and the bytes are those of the formula.
 */
#include "engine/reduction.h"
#include "model/kernels/optimizer.h"
#include "tests/unit/cmocka-tap.h"

#include <stdlib.h>
#include <string.h>

#define BLOCKS 4u
#define LAYERS (BLOCKS + 2)

/* Which stages of a split into four one position holds. */
struct held {
	const char *name;
	unsigned stages[4];
	unsigned count;
};

static const struct held holdings[] = {
	{"all, the last reduced first", {3, 2, 1, 0}, 4},
	{"embedding alone", {0}, 1},
	{"head alone", {3}, 1},
	{"both ends", {0, 3}, 2},
	{"middle, ascending", {1, 2}, 2},
};
#define HOLDINGS (sizeof(holdings) / sizeof(*holdings))

static const struct partition partition = {
	.stages = 4,
	.first = {0, 1, 3, 5, LAYERS},
};

static struct model *model_of(unsigned width, unsigned vocabulary)
{
	struct model_config config;
	struct model *model;

	assert_int_equal(model_config_default("gpt2", &config), 0);
	config.vocab_size = vocabulary;
	config.context = 64;
	config.width = width;
	config.layers = BLOCKS;
	config.heads = 4;
	assert_int_equal(model_create(&config, &model), 0);
	return model;
}

static struct reduction *plan_of(const struct model *model,
				 const struct held *holding, unsigned replicas,
				 bool sharded)
{
	struct reduction_config config = {
		.model = model,
		.partition = &partition,
		.stages = holding->stages,
		.stage_count = holding->count,
		.replicas = replicas,
		.sharded = sharded,
	};
	struct reduction *reduction;

	assert_int_equal(reduction_create(&config, &reduction), 0);
	return reduction;
}

/* Calls `check` for every model, holding, D and kind of sharding. */
typedef void check_fn(const struct reduction *reduction,
		      const struct held *holding);

static void for_all(check_fn *check)
{
	static const unsigned replicas[] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 16};
	static const unsigned sizes[][2] = {{32, 131}, {256, 9000}};

	for (unsigned m = 0; m < 2; m++) {
		struct model *model = model_of(sizes[m][0], sizes[m][1]);

		for (unsigned h = 0; h < HOLDINGS; h++)
			for (unsigned d = 0; d < 10; d++)
				for (unsigned s = 0; s < 2; s++) {
					struct reduction *reduction =
						plan_of(model, &holdings[h],
							replicas[d], s);

					check(reduction, &holdings[h]);
					reduction_destroy(reduction);
				}
		model_destroy(model);
	}
}

static bool holds(const struct held *holding, unsigned layer)
{
	for (unsigned i = 0; i < holding->count; i++)
		if (partition_stage_of(&partition, layer) == holding->stages[i])
			return true;
	return false;
}

/* ---- blocks and shards ---- */

static void check_blocks(const struct reduction *r, const struct held *h)
{
	unsigned count;
	const struct parameter *all = model_parameters(r->model, &count);
	size_t *seen = calloc(count, sizeof(*seen));

	assert_non_null(seen);
	for (unsigned i = 0; i < r->bucket_count; i++) {
		const struct reduction_bucket *bucket = &r->buckets[i];
		size_t at = 0;

		for (unsigned n = 0; n < bucket->piece_count; n++) {
			const struct reduction_piece *piece =
				&r->pieces[bucket->first_piece + n];
			const struct parameter *parameter =
				&all[piece->parameter];

			assert_int_equal(piece->first % OPTIMIZER_BLOCK, 0);
			assert_true(piece->count % OPTIMIZER_BLOCK == 0 ||
				    piece->first + piece->count ==
					    parameter->count);
			assert_int_equal(piece->offset, at);
			assert_int_equal(partition_stage_of(&partition,
							    parameter->layer),
					 bucket->stage);
			assert_true(parameter->layer >= bucket->layer);
			at += (piece->count + 15) / 16 * 16;
			seen[piece->parameter] += piece->count;
		}
		assert_int_equal(at, bucket->floats);
		assert_true(i == 0 ||
			    bucket->stage != r->buckets[i - 1].stage ||
			    bucket->layer <= r->buckets[i - 1].layer);
	}
	for (unsigned i = 0; i < count; i++)
		assert_int_equal(seen[i],
				 holds(h, all[i].layer) ? all[i].count : 0);
	free(seen);
}

static void check_shards(const struct reduction *r, const struct held *h)
{
	unsigned count;
	const struct parameter *all = model_parameters(r->model, &count);

	for (unsigned i = 0; i < count; i++) {
		unsigned char *seen = calloc(1, all[i].count);
		size_t sum = 0;

		assert_non_null(seen);
		for (unsigned d = 0; d < r->replicas; d++) {
			unsigned runs = reduction_shard_count(r, d, i);
			size_t last = 0;

			assert_true(r->replicas > 1 || runs <= 1);
			for (unsigned n = 0; n < runs; n++) {
				struct reduction_run run =
					reduction_shard(r, d, i, n);

				assert_true(run.count > 0);
				assert_true(run.first >= last);
				last = run.first + run.count;
				assert_int_equal(run.first % OPTIMIZER_BLOCK,
						 0);
				assert_true(run.count % OPTIMIZER_BLOCK == 0 ||
					    last == all[i].count);
				assert_true(last <= all[i].count);
				sum += run.count;
				memset(seen + run.first, 1, run.count);
			}
		}
		assert_int_equal(sum,
				 holds(h, all[i].layer) ? all[i].count : 0);
		assert_true(sum == 0 || !memchr(seen, 0, all[i].count));
		free(seen);
	}
}

static void test_blocks(void **state)
{
	(void)state;
	for_all(check_blocks);
}

static void test_shards(void **state)
{
	(void)state;
	for_all(check_shards);
}

/* ---- both ends of a link ---- */

#define MESSAGES_MAX 4096u

struct link {
	unsigned from, to;
	unsigned count;
	struct message messages[MESSAGES_MAX];
};

static void sent(void *argument, unsigned to, const struct message *message)
{
	struct link *link = argument;

	assert_true(message->bytes > 0);
	if (to != link->to)
		return;
	assert_true(link->count < MESSAGES_MAX);
	link->messages[link->count++] = *message;
}

/* As the receiver sees it: from the walk and its own side of the transfers. */
struct receiver {
	const struct reduction *reduction;
	const struct link *link;
	enum reduction_phase phase;
	unsigned at;
};

static void expected(void *argument, unsigned bucket, unsigned round)
{
	struct receiver *receiver = argument;
	const struct reduction *r = receiver->reduction;

	for (unsigned i = 0; i < reduction_transfers(r); i++) {
		struct reduction_transfer t =
			reduction_transfer(r, receiver->link->to, round, i);
		struct reduction_span span = reduction_span(
			r, bucket, t.receive_first, t.receive_end);
		const struct message *message =
			&receiver->link->messages[receiver->at];

		if (t.peer != receiver->link->from || span.count == 0)
			continue;
		assert_true(receiver->at < receiver->link->count);
		assert_int_equal(message->kind, MESSAGE_REDUCE);
		assert_int_equal(reduction_message_phase(message),
				 receiver->phase);
		assert_int_equal(reduction_message_round(message), round);
		assert_int_equal(reduction_message_bucket(message), bucket);
		assert_int_equal(message->bytes, span.count * sizeof(float));
		receiver->at++;
	}
}

static void check_phase(const struct reduction *r, struct link *link,
			enum reduction_phase phase, unsigned stage)
{
	struct receiver receiver = {
		.reduction = r, .link = link, .phase = phase};

	link->count = 0;
	reduction_emit(r, link->from, phase, stage, sent, link);
	reduction_walk(r, phase, stage, expected, &receiver);
	assert_int_equal(receiver.at, link->count);
}

static void check_links(const struct reduction *r, const struct held *h)
{
	static struct link link;

	for (link.from = 0; link.from < r->replicas; link.from++)
		for (link.to = 0; link.to < r->replicas; link.to++) {
			if (link.from == link.to)
				continue;
			for (unsigned s = 0; s < h->count; s++)
				check_phase(r, &link, REDUCTION_REDUCE,
					    h->stages[s]);
			check_phase(r, &link, REDUCTION_TIED, 0);
			check_phase(r, &link, REDUCTION_WEIGHTS, 0);
		}
}

static void test_links(void **state)
{
	(void)state;
	for_all(check_links);
}

/* ---- the additions, symbolically ---- */

/*
 * Values are numbers of sums: 0 .. D-1 are the replicas' gradients, the
 * others pairs. Addition commutes, to the bit, and is not associative.
 */
#define SUMS_MAX 4096u
static unsigned sums[SUMS_MAX][2];
static unsigned sum_count;

static unsigned add(unsigned a, unsigned b)
{
	unsigned low = MIN(a, b), high = MAX(a, b);

	for (unsigned i = 0; i < sum_count; i++)
		if (sums[i][0] == low && sums[i][1] == high)
			return 1000 + i;
	assert_true(sum_count < SUMS_MAX);
	sums[sum_count][0] = low;
	sums[sum_count][1] = high;
	return 1000 + sum_count++;
}

static unsigned tree(unsigned first, unsigned count)
{
	if (count == 1)
		return first;
	return add(tree(first, count / 2), tree(first + count / 2, count / 2));
}

static unsigned promised(unsigned replicas)
{
	unsigned sum = 0;

	if ((replicas & (replicas - 1)) == 0)
		return tree(0, replicas);
	for (unsigned d = 1; d < replicas; d++)
		sum = add(sum, d);
	return sum;
}

struct adder {
	const struct reduction *reduction;
	unsigned *values; /* [replica][bucket][chunk] */
	unsigned *before; /* as they were when the round began */
};

static size_t value_count(const struct reduction *r)
{
	return (size_t)r->replicas * r->bucket_count * r->replicas;
}

static size_t place(const struct reduction *r, unsigned replica,
		    unsigned bucket, unsigned chunk)
{
	return ((size_t)replica * r->bucket_count + bucket) * r->replicas +
	       chunk;
}

/* What one replica receives for one chunk in a round, added in its order. */
static void receive_chunk(const struct adder *adder, unsigned replica,
			  unsigned bucket, unsigned round, unsigned chunk)
{
	const struct reduction *r = adder->reduction;
	unsigned *value = &adder->values[place(r, replica, bucket, chunk)];
	bool own_added = false, any = false;
	unsigned sum = 0;

	for (unsigned i = 0; i < reduction_transfers(r); i++) {
		struct reduction_transfer t =
			reduction_transfer(r, replica, round, i);
		unsigned theirs =
			adder->before[place(r, t.peer, bucket, chunk)];

		if (chunk < t.receive_first || chunk >= t.receive_end)
			continue;
		if (round >= r->scatter_rounds) {
			*value = theirs;
			continue;
		}
		if (!own_added && t.peer > replica) {
			sum = any ? add(sum, *value) : *value;
			own_added = any = true;
		}
		sum = any ? add(sum, theirs) : theirs;
		any = true;
	}
	if (any)
		*value = own_added ? sum : add(sum, *value);
}

static void play_round(void *argument, unsigned bucket, unsigned round)
{
	struct adder *adder = argument;
	const struct reduction *r = adder->reduction;

	memcpy(adder->before, adder->values,
	       value_count(r) * sizeof(*adder->values));
	for (unsigned d = 0; d < r->replicas; d++)
		for (unsigned c = 0; c < r->replicas; c++)
			receive_chunk(adder, d, bucket, round, c);
}

static void check_sums(const struct reduction *r, const struct held *h)
{
	struct adder adder = {
		.reduction = r,
		.values = calloc(value_count(r), sizeof(unsigned)),
		.before = calloc(value_count(r), sizeof(unsigned)),
	};
	unsigned whole;

	assert_non_null(adder.values);
	assert_non_null(adder.before);
	sum_count = 0;
	whole = promised(r->replicas);
	for (unsigned d = 0; d < r->replicas; d++)
		for (unsigned b = 0; b < r->bucket_count; b++)
			for (unsigned c = 0; c < r->replicas; c++)
				adder.values[place(r, d, b, c)] = d;
	for (unsigned s = 0; s < h->count; s++)
		reduction_walk(r, REDUCTION_REDUCE, h->stages[s], play_round,
			       &adder);
	reduction_walk(r, REDUCTION_TIED, 0, play_round, &adder);
	for (unsigned d = 0; d < r->replicas; d++)
		for (unsigned b = 0; b < r->bucket_count; b++)
			for (unsigned c = 0; c < r->replicas; c++) {
				unsigned value =
					adder.values[place(r, d, b, c)];

				if (c == reduction_chunk(r, d) ||
				    (!r->sharded && !r->buckets[b].alias))
					assert_int_equal(value, whole);
			}
	free(adder.values);
	free(adder.before);
}

static void test_sums(void **state)
{
	(void)state;
	for_all(check_sums);
}

/* ---- bytes ---- */

static void count_bytes(void *argument, unsigned to,
			const struct message *message)
{
	(void)to;
	*(uint64_t *)argument += message->bytes;
}

static size_t squares_of_all(const struct reduction *r)
{
	size_t squares = 0;

	for (unsigned d = 0; d < r->replicas; d++)
		squares += reduction_squares(r, d);
	return squares;
}

static size_t counted_blocks(const struct reduction *r, const struct held *h)
{
	unsigned count;
	const struct parameter *all = model_parameters(r->model, &count);
	size_t blocks = 0;

	for (unsigned i = 0; i < count; i++)
		if (holds(h, all[i].layer) &&
		    all[i].tied_to == PARAMETER_NOT_TIED)
			blocks += (all[i].count + OPTIMIZER_BLOCK - 1) /
				  OPTIMIZER_BLOCK;
	return blocks;
}

static void check_bytes(const struct reduction *r, const struct held *h)
{
	uint64_t bytes = 0, counted = 0, scattered = 0, gathered = 0;

	for (unsigned b = 0; b < r->bucket_count; b++) {
		scattered += r->buckets[b].floats * sizeof(float);
		gathered += r->buckets[b].alias
				    ? 0
				    : r->buckets[b].floats * sizeof(float);
	}
	for (unsigned d = 0; d < r->replicas; d++) {
		struct reduction_traffic traffic;
		uint64_t squares = 0;

		for (unsigned s = 0; s < h->count; s++)
			reduction_emit(r, d, REDUCTION_REDUCE, h->stages[s],
				       count_bytes, &bytes);
		reduction_emit(r, d, REDUCTION_TIED, 0, count_bytes, &bytes);
		reduction_emit(r, d, REDUCTION_WEIGHTS, 0, count_bytes, &bytes);
		reduction_emit(r, d, REDUCTION_SQUARES, 0, count_bytes,
			       &squares);
		assert_int_equal(squares,
				 d ? reduction_squares(r, d) * sizeof(double)
				   : 0);
		reduction_count(r, d, &traffic);
		counted += traffic.bytes - squares;
	}
	assert_int_equal(bytes, counted);
	assert_int_equal(squares_of_all(r), counted_blocks(r, h));
	assert_int_equal(bytes, (r->replicas - 1) * (scattered + gathered));
}

static void test_bytes(void **state)
{
	(void)state;
	for_all(check_bytes);
}

/* Where there are blocks enough, no replica has much more than its share. */
static void test_even(void **state)
{
	struct model *model = model_of(256, 9000);

	(void)state;
	for (unsigned d = 2; d <= 9; d++) {
		struct reduction *r = plan_of(model, &holdings[0], d, true);
		size_t floats = 0;

		assert_true(r->bucket_count > 4);
		for (unsigned b = 0; b < r->bucket_count; b++)
			floats += r->buckets[b].floats;
		for (unsigned i = 0; i < d; i++) {
			size_t own = 0;
			unsigned chunk = reduction_chunk(r, i);

			for (unsigned b = 0; b < r->bucket_count; b++)
				own += reduction_span(r, b, chunk, chunk + 1)
					       .count;
			assert_true(own < floats / d * 5 / 4);
			assert_true(own > floats / d * 3 / 4);
		}
		reduction_destroy(r);
	}
	model_destroy(model);
}

/* ---- ties ---- */

static void test_ties(void **state)
{
	struct model *model = model_of(256, 9000);

	(void)state;
	for (unsigned d = 1; d <= 16; d++) {
		struct reduction *first = plan_of(model, &holdings[1], d, true);
		struct reduction *last = plan_of(model, &holdings[2], d, true);
		struct reduction *middle =
			plan_of(model, &holdings[4], d, true);
		int target = reduction_tied(first);
		int follower = reduction_tied(last);
		size_t sum = 0;

		assert_int_equal(target, 0);
		assert_true(follower > 0);
		assert_int_equal(reduction_tied(middle), -1);
		for (unsigned i = 0; i < d; i++) {
			static struct reduction_run a[64], b[64];
			unsigned count =
				reduction_tie_count(first, i, (unsigned)target);

			assert_true(count <= 64);
			assert_int_equal(
				count, reduction_tie_count(last, i,
							   (unsigned)follower));
			reduction_tie_pieces(first, i, (unsigned)target, a);
			reduction_tie_pieces(last, i, (unsigned)follower, b);
			for (unsigned n = 0; n < count; n++) {
				assert_int_equal(a[n].first, b[n].first);
				assert_int_equal(a[n].count, b[n].count);
				assert_true(a[n].count > 0);
				assert_true(a[n].count * sizeof(float) <=
					    REDUCTION_TIE_PIECE_BYTES);
				sum += a[n].count;
			}
		}
		assert_int_equal(sum, 256 * 9000);
		reduction_destroy(first);
		reduction_destroy(last);
		reduction_destroy(middle);
	}
	model_destroy(model);
}

/* ---- windows ---- */

static struct reduction *plan_at(const char *name, unsigned chunks,
				 unsigned replicas, bool sharded)
{
	static const struct partition six = {
		.stages = 6,
		.first = {0, 1, 2, 3, 4, 5, LAYERS},
	};
	struct schedule_lowering lowering = {.train = true};
	struct model *model = model_of(64, 200);
	struct schedule *compute, *lowered;
	struct reduction *reduction;

	assert_int_equal(
		schedule_generate(name, 6 / chunks, 4, chunks, &compute), 0);
	assert_int_equal(schedule_lower(compute, &lowering, &lowered), 0);
	assert_int_equal(reduction_create_at(model, &six, lowered, 0, replicas,
					     sharded, &reduction),
			 0);
	schedule_destroy(lowered);
	schedule_destroy(compute);
	/* What is asked below is in the plan itself. */
	reduction->model = NULL;
	model_destroy(model);
	return reduction;
}

static void expect_windows(const char *name, unsigned chunks, unsigned replicas,
			   bool sharded, unsigned windows)
{
	struct reduction *r = plan_at(name, chunks, replicas, sharded);

	assert_int_equal(r->stage_count, chunks);
	assert_int_equal(r->window_count, windows);
	assert_true(!r->windows == !windows);
	for (unsigned i = 0; r->windows && i < r->stage_count; i++)
		assert_true(reduction_stage_floats(r, r->stages[i]) <=
			    r->window_floats[r->windows[i]]);
	reduction_destroy(r);
}

static void test_windows(void **state)
{
	(void)state;
	/* Stage after stage; each begins when the one before has ended. The
	 * last one, of the loss, adds in F already. */
	expect_windows("looped-bfs", 3, 2, true, 1);
	expect_windows("looped-bfs", 3, 8, true, 1);
	expect_windows("looped-bfs", 6, 2, true, 1);
	/* Nothing is kept in shards. */
	expect_windows("looped-bfs", 3, 2, false, 0);
	expect_windows("looped-bfs", 3, 1, true, 0);
	/* All stages of a rank at once, or only one. */
	expect_windows("interleaved", 3, 8, true, 0);
	expect_windows("1f1b", 1, 8, true, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_blocks), cmocka_unit_test(test_shards),
		cmocka_unit_test(test_links),  cmocka_unit_test(test_sums),
		cmocka_unit_test(test_bytes),  cmocka_unit_test(test_even),
		cmocka_unit_test(test_ties),   cmocka_unit_test(test_windows),
	};

	return RUN_TESTS("reduction", tests);
}
