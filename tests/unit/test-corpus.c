/*
 * Shards and corpora: the formats of llm.c and nanoGPT, folders, patterns;
 * broken files are refused by name; and the order of samples.
 */
#include "tests/unit/data/support.h"

#include "base/random.h"
#include "data/corpus.h"
#include "data/sampler.h"
#include "data/shard_writer.h"

#include <errno.h>
#include <math.h>

static void write_shards(const char *folder, const char *name,
			 size_t vocab_size, uint64_t shard_tokens, size_t count)
{
	struct shard_writer writer;
	size_t i;

	assert_int_equal(shard_writer_init(&writer, folder, name, vocab_size,
					   shard_tokens),
			 0);
	for (i = 0; i < count; i++) {
		int32_t id = (int32_t)(i * 7919 % vocab_size);

		assert_int_equal(shard_writer_append(&writer, &id, 1), 0);
	}
	assert_int_equal(shard_writer_finish(&writer), 0);
	assert_int_equal(writer.tokens, count);
	shard_writer_fini(&writer);
}

static void assert_tokens(const struct corpus *corpus, enum corpus_split split,
			  size_t vocab_size, size_t count)
{
	int32_t *ids = malloc(count * sizeof(*ids));
	size_t i;

	assert_non_null(ids);
	assert_int_equal(corpus_tokens(corpus, split), count);
	assert_int_equal(corpus_read(corpus, split, 0, count, ids), 0);
	for (i = 0; i < count; i++)
		assert_int_equal(ids[i], i * 7919 % vocab_size);
	free(ids);
}

/* A folder of one test, in the common one. */
static void own_folder(char out[512], void **state, const char *name)
{
	path_in(out, *state, name);
	assert_int_equal(files_make_folder(out), 0);
}

static void test_llm_c(void **state)
{
	static const struct {
		const char *name;
		size_t vocab_size, count;
		uint64_t shard_tokens;
		unsigned token_bytes;
		size_t shards;
	} cases[] = {
		{"one", 50257, 1000, 100000, 2, 1},
		{"many", 65536, 70001, 5000, 2, 15},
		{"exact", 300, 3000, 1000, 2, 3},
		{"wide", 65537, 70000, 33333, 4, 3},
	};
	char folder[512];
	size_t i;

	for (i = 0; i < ARRAY_SIZE(cases); i++) {
		struct corpus_shard_info info;
		struct corpus *corpus;

		own_folder(folder, state, cases[i].name);
		write_shards(folder, "train", cases[i].vocab_size,
			     cases[i].shard_tokens, cases[i].count);
		write_shards(folder, "val", cases[i].vocab_size,
			     cases[i].shard_tokens, 10);
		assert_int_equal(corpus_open(folder, NULL, &corpus), 0);
		assert_int_equal(corpus_shard_count(corpus, CORPUS_TRAIN),
				 cases[i].shards);
		info = corpus_shard(corpus, CORPUS_TRAIN, 0);
		assert_int_equal(info.token_bytes, cases[i].token_bytes);
		assert_string_equal(info.format, "llm.c");
		assert_tokens(corpus, CORPUS_TRAIN, cases[i].vocab_size,
			      cases[i].count);
		assert_tokens(corpus, CORPUS_VALIDATION, cases[i].vocab_size,
			      10);
		assert_int_equal(corpus_vocab_size(corpus), 0);
		assert_true(isnan(corpus_unigram_entropy(corpus)));
		assert_null(corpus_tokenizer_path(corpus));
		assert_int_equal(corpus_verify(corpus), 0);
		corpus_close(corpus);
	}
}

/* The bytes themselves, as llm.c's data_common.py writes them. */
static void test_llm_c_bytes(void **state)
{
	static const unsigned char start[16] = {0x88, 0xD8, 0x34, 0x01, 1, 0,
						0,    0,    2,    0,    0, 0};
	struct corpus *corpus;
	unsigned char *data;
	size_t length, i;
	char folder[512], path[512];
	int32_t ids[2];

	own_folder(folder, state, "bytes");
	write_shards(folder, "x", 50257, 1000, 2);
	path_in(path, folder, "x_000000.bin");
	assert_int_equal(files_read(path, 1 << 20, (char **)&data, &length), 0);
	assert_int_equal(length, 1024 + 4);
	assert_memory_equal(data, start, sizeof(start));
	for (i = 16; i < 1024; i++)
		assert_int_equal(data[i], 0);
	assert_int_equal(data[1026] | data[1027] << 8, 7919);
	/* And the other magic: 20240801, version 7, uint32. */
	memcpy(data, "\xA1\xD9\x34\x01\x07\0\0\0\x01\0\0\0", 12);
	memcpy(data + 1024, "\xF4\x01\x01\0", 4);
	file_write(path, data, length);
	free(data);
	assert_int_equal(corpus_open(path, NULL, &corpus), 0);
	assert_int_equal(corpus_tokens(corpus, CORPUS_TRAIN), 1);
	assert_int_equal(corpus_read(corpus, CORPUS_TRAIN, 0, 1, ids), 0);
	assert_int_equal(ids[0], 66036);
	assert_int_equal(corpus_read(corpus, CORPUS_TRAIN, 0, 2, ids), -ERANGE);
	assert_int_equal(corpus_read(corpus, CORPUS_TRAIN, 2, 0, ids), -ERANGE);
	corpus_close(corpus);
}

static void test_nanogpt(void **state)
{
	static const unsigned char tokens[] = {1, 0, 0x51, 0xC4, 3, 0, 4, 0};
	struct corpus_options wide = {.plain_token_bytes = 4};
	struct corpus_options small = {.vocab_size = 100};
	struct corpus *corpus;
	char folder[512], path[512], pattern[600];
	int32_t ids[4];

	own_folder(folder, state, "nanogpt");
	path_in(path, folder, "train.bin");
	file_write(path, tokens, 8);
	path_in(path, folder, "val.bin");
	file_write(path, tokens, 4);
	assert_int_equal(corpus_open(folder, NULL, &corpus), 0);
	assert_int_equal(corpus_tokens(corpus, CORPUS_TRAIN), 4);
	assert_int_equal(corpus_tokens(corpus, CORPUS_VALIDATION), 2);
	assert_int_equal(corpus_read(corpus, CORPUS_TRAIN, 1, 3, ids), 0);
	assert_int_equal(ids[0], 0xC451);
	assert_int_equal(ids[2], 4);
	corpus_close(corpus);

	assert_int_equal(corpus_open(folder, &wide, &corpus), 0);
	assert_int_equal(corpus_tokens(corpus, CORPUS_TRAIN), 2);
	assert_int_equal(corpus_read(corpus, CORPUS_TRAIN, 1, 1, ids), 0);
	assert_int_equal(ids[0], 0x40003);
	/* 0xC4510001 does not even fit an id. */
	assert_int_equal(corpus_read(corpus, CORPUS_TRAIN, 0, 1, ids), -EINVAL);
	corpus_close(corpus);

	assert_int_equal(corpus_open(folder, &small, &corpus), 0);
	assert_int_equal(corpus_read(corpus, CORPUS_TRAIN, 2, 2, ids), 0);
	assert_int_equal(corpus_read(corpus, CORPUS_TRAIN, 0, 3, ids), -EINVAL);
	assert_error("train.bin: token 1 is 50257, outside the vocabulary of "
		     "100");
	assert_int_equal(corpus_verify(corpus), -EINVAL);
	corpus_close(corpus);

	snprintf(pattern, sizeof(pattern), "%s/t*.bin", folder);
	assert_int_equal(corpus_open(pattern, NULL, &corpus), 0);
	assert_int_equal(corpus_tokens(corpus, CORPUS_VALIDATION), 0);
	corpus_close(corpus);
	snprintf(pattern, sizeof(pattern), "%s/va", folder);
	assert_int_equal(corpus_open(pattern, NULL, &corpus), 0);
	assert_int_equal(corpus_tokens(corpus, CORPUS_TRAIN), 0);
	assert_int_equal(corpus_tokens(corpus, CORPUS_VALIDATION), 2);
	corpus_close(corpus);
	snprintf(pattern, sizeof(pattern), "%s/nothing", folder);
	assert_int_equal(corpus_open(pattern, NULL, &corpus), -ENOENT);
	assert_error("nothing");
}

static void refuse(const char *folder, const void *data, size_t length,
		   const char *part)
{
	struct corpus *corpus;
	char path[512];

	path_in(path, folder, "broken.bin");
	file_write(path, data, length);
	assert_int_equal(corpus_open(path, NULL, &corpus), -EINVAL);
	assert_error("broken.bin");
	assert_error(part);
}

static void test_malformed(void **state)
{
	unsigned char *data;
	size_t length;
	char folder[512], path[512];
	struct corpus *corpus;

	own_folder(folder, state, "malformed");
	write_shards(folder, "x", 50257, 1000, 100);
	path_in(path, folder, "x_000000.bin");
	assert_int_equal(files_read(path, 1 << 20, (char **)&data, &length), 0);
	refuse(folder, data, length - 2, "truncated");
	refuse(folder, data, 1000, "truncated");
	refuse(folder, data, length - 1, "truncated");
	refuse(folder, "", 0, "empty");
	refuse(folder, "\x01\x00\x02", 3, "whole number");
	data[8] = 99;
	refuse(folder, data, length, "size mismatch");
	data[11] = 0xFF;
	refuse(folder, data, length, "tokens");
	data[4] = 2;
	refuse(folder, data, length, "version 2");
	memcpy(data, "\x8A\xD8\x34\x01", 4);
	refuse(folder, data, length, "evaluation");
	memcpy(data, "MMID", 4);
	refuse(folder, data, length, "Megatron");
	free(data);
	path_in(path, folder, "empty");
	assert_int_equal(files_make_folder(path), 0);
	assert_int_equal(corpus_open(path, NULL, &corpus), -ENOENT);
	assert_error("prepare");
}

static void test_mutations(void **state)
{
	struct random_key key = random_key_named(3, "shards");
	unsigned char *data;
	uint64_t counter = 0;
	size_t length, round, opened = 0;
	char folder[512], path[512];

	own_folder(folder, state, "mutations");
	write_shards(folder, "x", 50257, 1000, 50);
	path_in(path, folder, "x_000000.bin");
	assert_int_equal(files_read(path, 1 << 20, (char **)&data, &length), 0);
	path_in(path, folder, "mutated.bin");
	for (round = 0; round < 400; round++) {
		size_t at = random_below(key, counter++, 16);
		unsigned char kept = data[at];
		size_t cut = round % 3 ? length
				       : random_below(key, counter++, length);
		struct corpus *corpus;

		data[at] = (unsigned char)random_u64(key, counter++);
		file_write(path, data, cut);
		data[at] = kept;
		if (corpus_open(path, NULL, &corpus))
			continue;
		opened++;
		assert_int_equal(corpus_verify(corpus), 0);
		corpus_close(corpus);
	}
	assert_in_range(opened, 1, 399);
	free(data);
}

static struct corpus *open_row(void **state, const char *name, size_t tokens,
			       uint64_t shard_tokens)
{
	struct corpus *corpus;
	char folder[512];

	own_folder(folder, state, name);
	/* 65537 is prime: every token tells its position. */
	write_shards(folder, "train", 65537, shard_tokens, tokens);
	assert_int_equal(corpus_open(folder, NULL, &corpus), 0);
	return corpus;
}

static void test_sampler(void **state)
{
	enum {
		T = 16,
		N = 61
	};
	struct corpus *corpus = open_row(state, "row", N * T + 1 + 5, 100);
	struct sampler sampler, other;
	int32_t tokens[3 * T], labels[3 * T], again[3 * T], more[3 * T];
	bool seen[N];
	size_t i, t, epoch, moved = 0;

	assert_int_equal(sampler_init(&sampler, corpus, CORPUS_TRAIN,
				      SAMPLER_SHUFFLED, 42, T),
			 0);
	assert_int_equal(sampler_epoch_samples(&sampler), N);
	for (epoch = 0; epoch < 3; epoch++) {
		memset(seen, 0, sizeof(seen));
		for (i = 0; i < N; i++) {
			uint64_t window =
				sampler_window(&sampler, epoch * N + i);

			assert_true(window < N);
			assert_false(seen[window]);
			seen[window] = true;
			moved += window != i;
			moved += window != sampler_window(&sampler, i);
		}
	}
	assert_true(moved > 3 * N);
	/* Across an epoch's end, and one by one: the same samples. */
	assert_int_equal(sampler_fill(&sampler, N - 2, 3, tokens, labels, NULL),
			 0);
	for (i = 0; i < 3; i++) {
		uint64_t window = sampler_window(&sampler, N - 2 + i);

		assert_int_equal(sampler_fill(&sampler, N - 2 + i, 1,
					      again + i * T, more + i * T,
					      NULL),
				 0);
		for (t = 0; t < T; t++) {
			assert_int_equal(tokens[i * T + t],
					 (window * T + t) * 7919 % 65537);
			assert_int_equal(labels[i * T + t],
					 (window * T + t + 1) * 7919 % 65537);
		}
	}
	assert_memory_equal(tokens, again, sizeof(tokens));
	assert_memory_equal(labels, more, sizeof(labels));

	assert_int_equal(sampler_init(&other, corpus, CORPUS_TRAIN,
				      SAMPLER_SHUFFLED, 43, T),
			 0);
	for (moved = 0, i = 0; i < N; i++)
		moved += sampler_window(&other, i) !=
			 sampler_window(&sampler, i);
	assert_true(moved > N / 2);
	assert_int_equal(sampler_init(&other, corpus, CORPUS_TRAIN,
				      SAMPLER_SEQUENTIAL, 43, T),
			 0);
	for (i = 0; i < 2 * N; i++)
		assert_int_equal(sampler_window(&other, i), i % N);
	corpus_close(corpus);
}

static void test_sampler_short(void **state)
{
	struct corpus *corpus = open_row(state, "short", 17, 100);
	struct sampler sampler;
	int32_t tokens[16], labels[16];

	assert_int_equal(sampler_init(&sampler, corpus, CORPUS_TRAIN,
				      SAMPLER_SHUFFLED, 1, 17),
			 -EINVAL);
	assert_error("17 tokens; a context of 17 needs at least 18");
	assert_int_equal(sampler_init(&sampler, corpus, CORPUS_VALIDATION,
				      SAMPLER_SEQUENTIAL, 1, 8),
			 -EINVAL);
	assert_error("the val split has 0 tokens");
	assert_int_equal(sampler_init(&sampler, corpus, CORPUS_TRAIN,
				      SAMPLER_SHUFFLED, 1, 16),
			 0);
	assert_int_equal(sampler_epoch_samples(&sampler), 1);
	assert_int_equal(sampler_fill(&sampler, 12345678901234567u, 1, tokens,
				      labels, NULL),
			 0);
	assert_int_equal(labels[15], 16 * 7919 % 65537);
	corpus_close(corpus);
}

static void test_fingerprint(void **state)
{
	struct corpus *a = open_row(state, "print-a", 5000, 1000);
	struct corpus *b = open_row(state, "print-b", 5000, 1000);
	struct corpus *c = open_row(state, "print-c", 4999, 1000);

	assert_true(corpus_fingerprint(a) == corpus_fingerprint(b));
	assert_true(corpus_fingerprint(a) != corpus_fingerprint(c));
	corpus_close(a);
	corpus_close(b);
	corpus_close(c);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_llm_c),
		cmocka_unit_test(test_llm_c_bytes),
		cmocka_unit_test(test_nanogpt),
		cmocka_unit_test(test_malformed),
		cmocka_unit_test(test_mutations),
		cmocka_unit_test(test_sampler),
		cmocka_unit_test(test_sampler_short),
		cmocka_unit_test(test_fingerprint),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	log_set_sink(quiet_sink, NULL);
	return cmocka_run_group_tests(tests, folder_setup, folder_teardown);
}
