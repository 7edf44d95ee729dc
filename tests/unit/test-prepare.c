/*
 * Preparing a corpus, end to end: the tokens are those of the text, whatever
 * the size of the chunks; the splits share nothing and lose nothing; misuse
 * is answered by name and leaves nothing behind.
 */
#include "tests/unit/data/support.h"

#include "base/json.h"
#include "data/corpus.h"
#include "data/prepare.h"
#include "data/tokenizer.h"

#include <dirent.h>
#include <errno.h>
#include <math.h>

/* A folder with texts: root/in/a.txt, root/in/sub/b.txt, a hidden one. */
static void make_inputs(const char *root, char in[512])
{
	char path[600], *source = data_path("text.txt"), *text;
	size_t length;

	assert_int_equal(files_read(source, 1 << 24, &text, &length), 0);
	path_in(in, root, "in");
	snprintf(path, sizeof(path), "%s/sub/.git", in);
	assert_int_equal(files_make_folder(path), 0);
	snprintf(path, sizeof(path), "%s/sub/.git/binary", in);
	file_write(path, "\0\1", 2);
	snprintf(path, sizeof(path), "%s/a.txt", in);
	file_write(path, text, length);
	snprintf(path, sizeof(path), "%s/sub/b.txt", in);
	file_write(path, "short <|endoftext|> text\r\n", 26);
	snprintf(path, sizeof(path), "%s/sub/empty.txt", in);
	file_write(path, "", 0);
	free(text);
	free(source);
}

static int prepare(const char *in, const char *out, const char *tokenizer,
		   double validation, size_t chunk, uint64_t shard,
		   struct prepare_result *result)
{
	struct prepare_options options = {
		.inputs = &in,
		.input_count = 1,
		.out = out,
		.tokenizer = tokenizer,
		.validation = validation,
		.seed = 5,
		.chunk_bytes = chunk,
		.shard_tokens = shard,
	};

	return prepare_run(&options, result);
}

/* Every token of a split; the caller frees. */
static int32_t *tokens_of(const struct corpus *corpus, enum corpus_split split,
			  size_t *count)
{
	int32_t *ids;

	*count = corpus_tokens(corpus, split);
	ids = malloc((*count + 1) * sizeof(*ids));
	assert_non_null(ids);
	assert_int_equal(corpus_read(corpus, split, 0, *count, ids), 0);
	return ids;
}

/* What the corpus must hold: both files, each with its end. */
static void encode_inputs(const char *in, const struct tokenizer *tokenizer,
			  struct token_buffer *out)
{
	static const char *const names[] = {"a.txt", "sub/b.txt"};
	int32_t end = tokenizer_end_of_text(tokenizer);
	char path[600], *text;
	size_t i, length;

	for (i = 0; i < 2; i++) {
		snprintf(path, sizeof(path), "%s/%s", in, names[i]);
		assert_int_equal(files_read(path, 1 << 24, &text, &length), 0);
		assert_int_equal(
			tokenizer_encode(tokenizer, text, length, 0, out), 0);
		assert_int_equal(token_buffer_append(out, &end, 1), 0);
		free(text);
	}
}

static void test_no_split(void **state)
{
	static const struct {
		const char *tokenizer;
		size_t chunk;
		uint64_t shard;
	} cases[] = {
		{"byte", 0, 0},    {"byte", 1, 0},      {"bpe:400", 0, 0},
		{"bpe:400", 1, 0}, {"bpe:400", 5, 999}, {"bpe:400", 4096, 50},
	};
	char in[512], out[512], name[64];
	size_t i;

	make_inputs(*state, in);
	for (i = 0; i < ARRAY_SIZE(cases); i++) {
		struct prepare_result result;
		struct token_buffer wanted = {0};
		struct tokenizer *tokenizer;
		struct corpus *corpus;
		size_t count;
		int32_t *ids;

		snprintf(name, sizeof(name), "whole-%zu", i);
		path_in(out, *state, name);
		assert_int_equal(prepare(in, out, cases[i].tokenizer, 0,
					 cases[i].chunk, cases[i].shard,
					 &result),
				 0);
		assert_int_equal(result.documents, 2);
		assert_int_equal(corpus_open(out, NULL, &corpus), 0);
		assert_int_equal(corpus_verify(corpus), 0);
		assert_int_equal(tokenizer_load(corpus_tokenizer_path(corpus),
						&tokenizer),
				 0);
		encode_inputs(in, tokenizer, &wanted);
		ids = tokens_of(corpus, CORPUS_TRAIN, &count);
		assert_int_equal(count, wanted.count);
		assert_memory_equal(ids, wanted.ids, count * sizeof(*ids));
		assert_int_equal(corpus_vocab_size(corpus),
				 tokenizer_vocab_size(tokenizer));
		assert_int_equal(corpus_text_bytes(corpus), result.bytes);
		free(ids);
		token_buffer_fini(&wanted);
		tokenizer_destroy(tokenizer);
		corpus_close(corpus);
	}
}

static double entropy(const int32_t *ids, size_t count)
{
	size_t counts[257] = {0}, i;
	double sum = 0;

	for (i = 0; i < count; i++)
		counts[ids[i]]++;
	for (i = 0; i < 257; i++) {
		double share = (double)counts[i] / (double)count;

		if (counts[i])
			sum -= share * log(share);
	}
	return sum;
}

/* Blocks put back in their order are the whole text again. */
static void test_split(void **state)
{
	struct prepare_result result;
	struct token_buffer wanted = {0};
	struct tokenizer *tokenizer;
	struct corpus *corpus;
	json_t *manifest;
	int32_t *rows[2];
	char in[512], out[512], path[512];
	size_t count[2], at[2] = {0}, block, position = 0, blocks = 0;

	make_inputs(*state, in);
	path_in(out, *state, "split/deep/");
	assert_int_equal(prepare(in, out, "byte", 0.2, 0, 0, &result), 0);
	assert_int_equal(corpus_open(out, NULL, &corpus), 0);
	path_in(path, out, "corpus.json");
	assert_int_equal(json_read(path, 1 << 20, &manifest), 0);
	block = (size_t)json_integer_value(json_object_get(
		json_object_get(manifest, "validation"), "block_tokens"));
	assert_in_range(block, 64, 8192);
	rows[0] = tokens_of(corpus, CORPUS_TRAIN, &count[0]);
	rows[1] = tokens_of(corpus, CORPUS_VALIDATION, &count[1]);
	assert_int_equal(count[0], result.train_tokens);
	assert_int_equal(count[1], result.validation_tokens);
	assert_true(fabs((double)count[1] / (double)(count[0] + count[1]) -
			 0.2) < 0.02);
	assert_true(fabs(corpus_unigram_entropy(corpus) -
			 entropy(rows[0], count[0])) < 1e-9);
	assert_int_equal(tokenizer_bytes(&tokenizer), 0);
	encode_inputs(in, tokenizer, &wanted);
	assert_int_equal(count[0] + count[1], wanted.count);
	while (position < wanted.count) {
		size_t part = MIN(block, wanted.count - position);
		size_t row = at[0] + part <= count[0] &&
					     !memcmp(rows[0] + at[0],
						     wanted.ids + position,
						     part * sizeof(int32_t))
				     ? 0
				     : 1;

		assert_true(at[row] + part <= count[row]);
		assert_memory_equal(rows[row] + at[row], wanted.ids + position,
				    part * sizeof(int32_t));
		at[row] += part;
		position += part;
		blocks += row;
	}
	assert_true(blocks >= 8);
	json_decref(manifest);
	token_buffer_fini(&wanted);
	tokenizer_destroy(tokenizer);
	free(rows[0]);
	free(rows[1]);
	corpus_close(corpus);
}

/* Two runs give the same files, to the byte. */
static void test_deterministic(void **state)
{
	static const char *const names[] = {"train_000000.bin",
					    "val_000000.bin", "tokenizer.json",
					    "corpus.json"};
	struct prepare_result result;
	char in[512], out[2][512], path[2][512], *text[2];
	size_t length[2], i, run;

	make_inputs(*state, in);
	for (run = 0; run < 2; run++) {
		path_in(out[run], *state, run ? "run-b" : "run-a");
		assert_int_equal(prepare(in, out[run], "bpe:500", 0.1,
					 run ? 77 : 0, 0, &result),
				 0);
	}
	for (i = 0; i < ARRAY_SIZE(names); i++) {
		for (run = 0; run < 2; run++) {
			path_in(path[run], out[run], names[i]);
			assert_int_equal(files_read(path[run], 1 << 24,
						    &text[run], &length[run]),
					 0);
		}
		assert_int_equal(length[0], length[1]);
		assert_memory_equal(text[0], text[1], length[0]);
		free(text[0]);
		free(text[1]);
	}
}

/* A tokenizer.json given is kept to the byte. */
static void test_given_tokenizer(void **state)
{
	char in[512], out[512], path[512], *source = data_path("qwen.json");
	char *a, *b;
	struct prepare_result result;
	size_t a_length, b_length;

	make_inputs(*state, in);
	path_in(out, *state, "given");
	assert_int_equal(prepare(in, out, source, 0.05, 0, 0, &result), 0);
	path_in(path, out, "tokenizer.json");
	assert_int_equal(files_read(source, 1 << 24, &a, &a_length), 0);
	assert_int_equal(files_read(path, 1 << 24, &b, &b_length), 0);
	assert_int_equal(a_length, b_length);
	assert_memory_equal(a, b, a_length);
	free(a);
	free(b);
	free(source);
}

/* Nothing called *.partial-* is left in the folder. */
static void assert_clean(const char *folder)
{
	DIR *dir = opendir(folder);
	struct dirent *entry;

	assert_non_null(dir);
	while ((entry = readdir(dir)))
		assert_null(strstr(entry->d_name, "partial"));
	closedir(dir);
}

static int stop(void *argument, enum prepare_phase phase, uint64_t done,
		uint64_t total)
{
	(void)argument;
	(void)done;
	(void)total;
	return phase == PREPARE_ENCODING ? -EINTR : 0;
}

static void test_misuse(void **state)
{
	struct prepare_options options = {0};
	struct prepare_result result;
	char in[512], out[512], bad[512];
	const char *inputs = in;

	make_inputs(*state, in);
	path_in(out, *state, "misuse");
	path_in(bad, *state, "bad.txt");
	assert_int_equal(prepare(in, *state, "byte", 0, 0, 0, &result),
			 -EEXIST);
	assert_error("exists");
	assert_int_equal(prepare("/nonexistent", out, "byte", 0, 0, 0, &result),
			 -ENOENT);
	assert_error("/nonexistent");
	assert_int_equal(prepare(in, out, "bpe:12", 0, 0, 0, &result), -EINVAL);
	assert_error("bpe:12");
	assert_int_equal(prepare(in, out, "word", 0, 0, 0, &result), -EINVAL);
	assert_error("word");
	assert_int_equal(prepare(in, out, "byte", 0.9, 0, 0, &result), -EINVAL);
	assert_error("0.9");
	file_write(bad, "", 0);
	assert_int_equal(prepare(bad, out, "byte", 0, 0, 0, &result), -EINVAL);
	assert_error("empty");
	file_write(bad, "good text, then \xC3(", 18);
	assert_int_equal(prepare(bad, out, "byte", 0, 5, 0, &result), -EILSEQ);
	assert_error("bad.txt: not UTF-8 at byte 16");
	file_write(bad, "cut in a character \xE2\x82", 21);
	assert_int_equal(prepare(bad, out, "bpe:300", 0, 0, 0, &result),
			 -EILSEQ);
	assert_error("bad.txt: not UTF-8 at byte 19");
	file_write(bad, "ELF\0\0", 5);
	assert_int_equal(prepare(bad, out, "byte", 0, 2, 0, &result), -EILSEQ);
	assert_error("a zero byte at byte 3");
	options = (struct prepare_options){.inputs = &inputs,
					   .input_count = 1,
					   .pattern = "*.pod",
					   .out = out,
					   .tokenizer = "byte"};
	assert_int_equal(prepare_run(&options, &result), -EINVAL);
	assert_error("*.pod");
	options.pattern = "a.*";
	options.progress = stop;
	assert_int_equal(prepare_run(&options, &result), -EINTR);
	assert_false(files_exists(out));
	assert_clean(*state);
	options.progress = NULL;
	assert_int_equal(prepare_run(&options, &result), 0);
	assert_int_equal(result.documents, 1);
}

/* Changed shards and manifests are found out. */
static void test_damage(void **state)
{
	static const char escape[] = "{\"version\": 1, \"shards\": {\"train\": "
				     "[{\"file\": \"../in/a.txt\"}]}}";
	struct prepare_result result;
	struct corpus *corpus;
	char in[512], out[512], path[512], *text;
	size_t length;

	make_inputs(*state, in);
	path_in(out, *state, "damage");
	assert_int_equal(prepare(in, out, "byte", 0.1, 0, 0, &result), 0);
	path_in(path, out, "train_000000.bin");
	assert_int_equal(files_read(path, 1 << 24, &text, &length), 0);
	text[2000] ^= 1;
	file_write(path, text, length);
	assert_int_equal(corpus_open(out, NULL, &corpus), 0);
	assert_int_equal(corpus_verify(corpus), -EINVAL);
	assert_error("SHA-256");
	corpus_close(corpus);
	file_write(path, text, length - 2);
	assert_int_equal(corpus_open(out, NULL, &corpus), -EINVAL);
	assert_error("train_000000.bin");
	text[8] ^= 1;
	file_write(path, text, length);
	assert_int_equal(corpus_open(out, NULL, &corpus), -EINVAL);
	free(text);
	assert_int_equal(unlink(path), 0);
	assert_true(corpus_open(out, NULL, &corpus) < 0);
	path_in(path, out, "corpus.json");
	file_write(path, escape, strlen(escape));
	assert_int_equal(corpus_open(out, NULL, &corpus), -EINVAL);
	assert_error("corpus.json: \"../in/a.txt\" is not a file name");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_no_split, folder_setup,
						folder_teardown),
		cmocka_unit_test_setup_teardown(test_split, folder_setup,
						folder_teardown),
		cmocka_unit_test_setup_teardown(test_deterministic,
						folder_setup, folder_teardown),
		cmocka_unit_test_setup_teardown(test_given_tokenizer,
						folder_setup, folder_teardown),
		cmocka_unit_test_setup_teardown(test_misuse, folder_setup,
						folder_teardown),
		cmocka_unit_test_setup_teardown(test_damage, folder_setup,
						folder_teardown),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	log_set_sink(quiet_sink, NULL);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
