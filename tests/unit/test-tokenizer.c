/*
 * Tokenizers against ids that the Hugging Face library made
 * (data/make-oracle.py), against themselves (any cut of a stream gives
 * the same ids, decoding gives the text back), and against broken files.
 */
#include "tests/unit/data/support.h"

#include "base/clock.h"
#include "base/json.h"
#include "base/random.h"
#include "data/bpe_train.h"
#include "data/tokenizer.h"

#include <errno.h>

static const char *const kinds[] = {"gpt2", "llama3", "qwen"};

static struct tokenizer *load(const char *kind)
{
	struct tokenizer *tokenizer;
	char name[64], *path;

	snprintf(name, sizeof(name), "%s.json", kind);
	path = data_path(name);
	assert_int_equal(tokenizer_load(path, &tokenizer), 0);
	free(path);
	return tokenizer;
}

static json_t *oracle(void)
{
	char *path = data_path("cases.json");
	json_t *json;

	assert_int_equal(json_read(path, 1 << 24, &json), 0);
	free(path);
	return json;
}

static size_t from_hex(const json_t *value, char *out, size_t capacity)
{
	const char *hex = json_string_value(value);
	size_t length = strlen(hex) / 2, i;
	unsigned byte;

	assert_true(length < capacity);
	for (i = 0; i < length; i++) {
		assert_int_equal(sscanf(hex + 2 * i, "%2x", &byte), 1);
		out[i] = (char)byte;
	}
	return length;
}

static void assert_ids(const struct token_buffer *got, const json_t *wanted,
		       const char *what, size_t row)
{
	size_t i;

	for (i = 0; i < got->count && i < json_array_size(wanted); i++) {
		json_int_t id = json_integer_value(json_array_get(wanted, i));

		if (got->ids[i] != id)
			fail_msg("%s, case %zu: id %zu is %d, not %lld", what,
				 row, i, got->ids[i], (long long)id);
	}
	if (got->count != json_array_size(wanted))
		fail_msg("%s, case %zu: %zu ids, not %zu", what, row,
			 got->count, json_array_size(wanted));
}

/* Encodes in pieces of `chunk` bytes. */
static void encode_cut(const struct tokenizer *tokenizer, const char *text,
		       size_t length, unsigned flags, size_t chunk,
		       struct token_buffer *out)
{
	struct tokenizer_encoder *encoder;
	size_t at = 0, part;

	assert_int_equal(tokenizer_encoder_create(tokenizer, flags, &encoder),
			 0);
	out->count = 0;
	do {
		part = MIN(chunk, length - at);
		assert_int_equal(
			tokenizer_encoder_push(encoder, text + at, part,
					       at + part == length, out),
			0);
		at += part;
	} while (at < length);
	tokenizer_encoder_destroy(encoder);
}

static void check_row(const struct tokenizer *tokenizer, const json_t *row,
		      const char *kind, size_t index)
{
	static const struct {
		const char *name;
		unsigned flags;
	} modes[] = {
		{"plain", 0},
		{"special", TOKENIZER_SPECIAL},
		{"template", TOKENIZER_SPECIAL | TOKENIZER_TEMPLATE},
	};
	static const size_t chunks[] = {1, 2, 3, 7, 64};
	struct token_buffer ids = {0};
	char text[16384], what[64];
	size_t length, mode, i;

	length = from_hex(json_object_get(row, "hex"), text, sizeof(text));
	for (mode = 0; mode < ARRAY_SIZE(modes); mode++) {
		const json_t *wanted = json_object_get(row, modes[mode].name);

		ids.count = 0;
		assert_int_equal(tokenizer_encode(tokenizer, text, length,
						  modes[mode].flags, &ids),
				 0);
		snprintf(what, sizeof(what), "%s %s", kind, modes[mode].name);
		assert_ids(&ids, wanted, what, index);
		for (i = 0; i < ARRAY_SIZE(chunks); i++) {
			encode_cut(tokenizer, text, length, modes[mode].flags,
				   chunks[i], &ids);
			snprintf(what, sizeof(what), "%s %s by %zu", kind,
				 modes[mode].name, chunks[i]);
			assert_ids(&ids, wanted, what, index);
		}
	}
	token_buffer_fini(&ids);
}

static void test_oracle_ids(void **state)
{
	json_t *json = oracle();
	size_t kind, row;

	(void)state;
	for (kind = 0; kind < ARRAY_SIZE(kinds); kind++) {
		struct tokenizer *tokenizer = load(kinds[kind]);
		json_t *rows = json_object_get(json_object_get(json, "cases"),
					       kinds[kind]);

		assert_true(json_array_size(rows) > 30);
		for (row = 0; row < json_array_size(rows); row++)
			check_row(tokenizer, json_array_get(rows, row),
				  kinds[kind], row);
		tokenizer_destroy(tokenizer);
	}
	json_decref(json);
}

static void check_decode(const struct tokenizer *tokenizer, const json_t *row)
{
	const json_t *list = json_object_get(row, "special");
	struct token_buffer ids = {0};
	struct text_builder out;
	char wanted[16384];
	size_t length, i;
	char *text;

	for (i = 0; i < json_array_size(list); i++) {
		int32_t id =
			(int32_t)json_integer_value(json_array_get(list, i));

		assert_int_equal(token_buffer_append(&ids, &id, 1), 0);
	}
	length = from_hex(json_object_get(row, "decoded"), wanted,
			  sizeof(wanted));
	text_builder_init(&out);
	assert_int_equal(tokenizer_decode(tokenizer, ids.ids, ids.count, &out),
			 0);
	assert_int_equal(out.length, length);
	text = text_builder_finish(&out);
	assert_non_null(text);
	assert_memory_equal(text, wanted, length);
	free(text);
	token_buffer_fini(&ids);
}

static void test_oracle_text(void **state)
{
	json_t *json = oracle();
	size_t kind, row;

	(void)state;
	for (kind = 0; kind < ARRAY_SIZE(kinds); kind++) {
		struct tokenizer *tokenizer = load(kinds[kind]);
		json_t *rows = json_object_get(json_object_get(json, "cases"),
					       kinds[kind]);

		for (row = 0; row < json_array_size(rows); row++)
			if (json_object_get(json_array_get(rows, row),
					    "decoded"))
				check_decode(tokenizer,
					     json_array_get(rows, row));
		tokenizer_destroy(tokenizer);
	}
	json_decref(json);
}

/* Without a normalizer, decode(encode(text)) is text, for bytes and BPE. */
static void test_round_trip(void **state)
{
	json_t *json = oracle();
	json_t *rows = json_object_get(json_object_get(json, "cases"), "gpt2");
	struct tokenizer *tokenizers[2];
	size_t which, row;

	(void)state;
	assert_int_equal(tokenizer_bytes(&tokenizers[0]), 0);
	assert_int_equal(tokenizer_vocab_size(tokenizers[0]), 257);
	tokenizers[1] = load("gpt2");
	for (which = 0; which < 2; which++) {
		for (row = 0; row < json_array_size(rows); row++) {
			struct token_buffer ids = {0};
			struct text_builder out;
			char text[16384];
			size_t length = from_hex(
				json_object_get(json_array_get(rows, row),
						"hex"),
				text, sizeof(text));

			text_builder_init(&out);
			assert_int_equal(tokenizer_encode(tokenizers[which],
							  text, length, 0,
							  &ids),
					 0);
			if (which == 0)
				assert_int_equal(ids.count, length);
			assert_int_equal(tokenizer_decode(tokenizers[which],
							  ids.ids, ids.count,
							  &out),
					 0);
			/* <r> takes the white space behind it along. */
			if (which == 0 || !memmem(text, length, "<r>", 3)) {
				assert_int_equal(out.length, length);
				if (length)
					assert_memory_equal(out.data, text,
							    length);
			}
			text_builder_fini(&out);
			token_buffer_fini(&ids);
		}
		tokenizer_destroy(tokenizers[which]);
	}
	json_decref(json);
}

static struct tokenizer *train(const char *text, size_t length, size_t chunk,
			       size_t vocab_size, uint64_t minimum)
{
	struct tokenizer *tokenizer;
	struct bpe_train *training;
	size_t at, part;

	assert_int_equal(bpe_train_create(&training), 0);
	for (at = 0; at < length; at += part) {
		part = MIN(chunk, length - at);
		assert_int_equal(bpe_train_push(training, text + at, part,
						at + part == length),
				 0);
	}
	assert_int_equal(bpe_train_finish(training, vocab_size, minimum, NULL,
					  NULL, &tokenizer),
			 0);
	bpe_train_destroy(training);
	return tokenizer;
}

/* The trained tokenizer as it is saved. */
static json_t *saved(const struct tokenizer *tokenizer, const char *folder)
{
	char path[512];
	json_t *json;

	path_in(path, folder, "saved.json");
	assert_int_equal(tokenizer_save(tokenizer, path), 0);
	assert_int_equal(json_read(path, 1 << 24, &json), 0);
	return json;
}

static void test_training(void **state)
{
	static const char *const minimums[] = {"0", "2"};
	json_t *json = oracle();
	char *path = data_path("text.txt"), *text;
	size_t length, which, i;

	assert_int_equal(files_read(path, 1 << 24, &text, &length), 0);
	for (which = 0; which < 4; which++) {
		const char *minimum = minimums[which % 2];
		json_t *wanted = json_object_get(
			json_object_get(json, "trained"), minimum);
		json_t *merges = json_object_get(wanted, "merges");
		struct tokenizer *tokenizer =
			train(text, length, which < 2 ? length : 13, 1500,
			      (uint64_t)(*minimum - '0'));
		json_t *file = saved(tokenizer, *state);
		json_t *got = json_object_get(json_object_get(file, "model"),
					      "merges");

		assert_int_equal(json_integer_value(
					 json_object_get(wanted, "vocab_size")),
				 tokenizer_vocab_size(tokenizer));
		assert_int_equal(json_array_size(got), json_array_size(merges));
		for (i = 0; i < json_array_size(got); i++)
			assert_string_equal(
				json_string_value(json_array_get(got, i)),
				json_string_value(json_array_get(merges, i)));
		json_decref(file);
		tokenizer_destroy(tokenizer);
	}
	free(text);
	free(path);
	json_decref(json);
}

/* What we write, we read; and it encodes the same. */
static void test_save_and_load(void **state)
{
	static const char text[] =
		"the quick brown fox, the quick fox <|endoftext|>";
	struct tokenizer *made[2], *loaded;
	struct token_buffer a = {0}, b = {0};
	size_t i;
	char path[512];

	assert_int_equal(tokenizer_bytes(&made[0]), 0);
	made[1] = train(text, strlen(text), 7, 280, 1);
	path_in(path, *state, "tokenizer.json");
	for (i = 0; i < 2; i++) {
		assert_int_equal(tokenizer_save(made[i], path), 0);
		assert_int_equal(tokenizer_load(path, &loaded), 0);
		assert_int_equal(tokenizer_vocab_size(loaded),
				 tokenizer_vocab_size(made[i]));
		assert_int_equal(tokenizer_end_of_text(loaded), 0);
		a.count = b.count = 0;
		assert_int_equal(tokenizer_encode(made[i], text, strlen(text),
						  TOKENIZER_SPECIAL, &a),
				 0);
		assert_int_equal(tokenizer_encode(loaded, text, strlen(text),
						  TOKENIZER_SPECIAL, &b),
				 0);
		assert_int_equal(a.count, b.count);
		assert_memory_equal(a.ids, b.ids, a.count * sizeof(*a.ids));
		assert_int_equal(a.ids[a.count - 1], 0);
		tokenizer_destroy(loaded);
		tokenizer_destroy(made[i]);
	}
	token_buffer_fini(&a);
	token_buffer_fini(&b);
}

static void test_config(void **state)
{
	struct tokenizer *tokenizer, *loaded;
	char path[512], config[512];

	assert_int_equal(tokenizer_bytes(&tokenizer), 0);
	path_in(path, *state, "tokenizer.json");
	path_in(config, *state, "tokenizer_config.json");
	assert_int_equal(tokenizer_save(tokenizer, path), 0);
	file_write(config, "{\"eos_token\": \"<nothing>\"}", 26);
	assert_int_equal(tokenizer_load(path, &loaded), 0);
	/* A name that is no token leaves the usual one. */
	assert_int_equal(tokenizer_end_of_text(loaded), 0);
	tokenizer_destroy(loaded);
	assert_int_equal(tokenizer_save_config(tokenizer, config, 128), 0);
	assert_int_equal(tokenizer_load(path, &loaded), 0);
	assert_int_equal(tokenizer_end_of_text(loaded), 0);
	tokenizer_destroy(loaded);
	tokenizer_destroy(tokenizer);
	assert_int_equal(unlink(config), 0);
}

static void test_stream_decoding(void **state)
{
	/* One character in four tokens, an ill-formed one, a cut one. */
	static const char text[] = "\xF0\x9F\x91\x8D\xED\xA0\x80x\xE2\x82";
	static const char wanted[] =
		"\xF0\x9F\x91\x8D\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBDx"
		"\xEF\xBF\xBD";
	struct tokenizer_decoder *decoder;
	struct tokenizer *tokenizer;
	struct text_builder out;
	size_t i, length;

	(void)state;
	assert_int_equal(tokenizer_bytes(&tokenizer), 0);
	assert_int_equal(tokenizer_decoder_create(tokenizer, &decoder), 0);
	text_builder_init(&out);
	for (i = 0; i < strlen(text); i++) {
		int32_t id;

		for (id = 1; id < 257; id++) {
			if (*tokenizer_token(tokenizer, id, &length) == text[i])
				break;
		}
		assert_int_equal(tokenizer_decoder_push(decoder, id, &out), 0);
		if (i < 3)
			assert_int_equal(out.length, 0);
	}
	assert_int_equal(tokenizer_decoder_finish(decoder, &out), 0);
	assert_int_equal(out.length, strlen(wanted));
	assert_memory_equal(out.data, wanted, out.length);
	assert_int_equal(tokenizer_decoder_push(decoder, 257, &out), -EINVAL);
	tokenizer_decoder_destroy(decoder);
	text_builder_fini(&out);
	tokenizer_destroy(tokenizer);
}

static void test_not_utf8(void **state)
{
	struct tokenizer *tokenizer = load("gpt2");
	struct tokenizer_encoder *encoder;
	struct token_buffer ids = {0};

	(void)state;
	assert_int_equal(tokenizer_encode(tokenizer, "ab\xFF", 3, 0, &ids),
			 -EILSEQ);
	assert_int_equal(ids.count, 0);
	assert_int_equal(tokenizer_encode(tokenizer, "ab\xC3", 3, 0, &ids),
			 -EILSEQ);
	assert_int_equal(tokenizer_encoder_create(tokenizer, 0, &encoder), 0);
	assert_int_equal(
		tokenizer_encoder_push(encoder, "abc\xE2", 4, false, &ids), 0);
	assert_int_equal(
		tokenizer_encoder_push(encoder, "\x28\x28", 2, false, &ids),
		-EILSEQ);
	assert_int_equal(tokenizer_encoder_offset(encoder), 3);
	tokenizer_encoder_reset(encoder);
	ids.count = 0;
	assert_int_equal(tokenizer_encoder_push(encoder, "ok", 2, true, &ids),
			 0);
	assert_true(ids.count > 0);
	tokenizer_encoder_destroy(encoder);
	token_buffer_fini(&ids);
	tokenizer_destroy(tokenizer);
}

/* Long runs must not cost the square of their length. */
static void test_hostile_runs(void **state)
{
	static const char *const runs[] = {
		"a", " ", "\n", "=", "1", "ab", "\xCC\x81\xCC\xA3", "\r ", "'"};
	size_t length = 2000000, run, kind, i;
	char *text = malloc(length + 1);

	(void)state;
	assert_non_null(text);
	for (kind = 0; kind < ARRAY_SIZE(kinds); kind++) {
		struct tokenizer *tokenizer = load(kinds[kind]);

		for (run = 0; run < ARRAY_SIZE(runs); run++) {
			struct token_buffer whole = {0}, cut = {0};
			size_t period = strlen(runs[run]);
			int64_t start = clock_now_ns();

			for (i = 0; i < length; i++)
				text[i] = runs[run][i % period];
			text[length] = 'x';
			encode_cut(tokenizer, text, length + 1, 0, length + 1,
				   &whole);
			encode_cut(tokenizer, text, length + 1, 0, 5000, &cut);
			assert_int_equal(whole.count, cut.count);
			assert_memory_equal(whole.ids, cut.ids,
					    cut.count * sizeof(*cut.ids));
			/* A square would take minutes. */
			assert_true(clock_seconds(clock_now_ns() - start) < 20);
			token_buffer_fini(&whole);
			token_buffer_fini(&cut);
		}
		tokenizer_destroy(tokenizer);
	}
	free(text);
}

/* Replaces `from` in gpt2.json and expects a refusal that says `part`. */
static void refuse(const char *folder, const char *from, const char *to,
		   const char *part)
{
	char *source = data_path("gpt2.json"), *text, *at, *changed;
	struct tokenizer *tokenizer = NULL;
	char path[512];
	size_t length;

	assert_int_equal(files_read(source, 1 << 24, &text, &length), 0);
	at = strstr(text, from);
	assert_non_null(at);
	assert_true(asprintf(&changed, "%.*s%s%s", (int)(at - text), text, to,
			     at + strlen(from)) > 0);
	path_in(path, folder, "changed.json");
	file_write(path, changed, strlen(changed));
	assert_int_equal(tokenizer_load(path, &tokenizer), -EINVAL);
	assert_error(part);
	free(changed);
	free(text);
	free(source);
}

static void test_refusals(void **state)
{
	const char *folder = *state;

	refuse(folder, "\"normalizer\": null",
	       "\"normalizer\": {\"type\": \"NFX\"}", "NFX");
	refuse(folder, "\"type\": \"ByteLevel\"",
	       "\"type\": \"UnicodeScripts\"", "UnicodeScripts");
	refuse(folder, "\"type\": \"BPE\"", "\"type\": \"Unigram\"", "Unigram");
	refuse(folder, "\"version\": \"1.0\"", "\"version\": \"2.0\"", "2.0");
	refuse(folder, "\"merges\": [", "\"merges\": [\"a\", ", "merges[0]");
	refuse(folder, "\"merges\": [", "\"merges\": [\"a QQQ\", ", "QQQ");
	refuse(folder, "\"dropout\": null", "\"dropout\": 0.1", "dropout");
	refuse(folder, "\"id\": 0", "\"id\": 5", "<|endoftext|>");
	refuse(folder, "\"vocab\": {", "\"vocab\": {\"QQQ\": -3, ", "QQQ");
	refuse(folder, "\"vocab\": {", "\"vocab\": {\"QQQ\": 7, ",
	       "two tokens");
	refuse(folder, "\"vocab\": {", "\"vocab\": {\"QQQ\": 2147483647, ",
	       "QQQ");
	refuse(folder, "{", "[", "changed.json");
}

/*
 * Damaged files: refused or loaded, and what loads can encode. Never a
 * crash, which the sanitizers watch over.
 */
static void test_mutations(void **state)
{
	char *source, *text, *copy;
	struct random_key key = random_key_named(7, "mutations");
	uint64_t counter = 0;
	size_t length, round, i, loaded = 0;
	char path[512];

	log_set_level(LOG_ERROR);
	source = data_path("llama3.json");
	assert_int_equal(files_read(source, 1 << 24, &text, &length), 0);
	copy = malloc(length);
	assert_non_null(copy);
	path_in(path, *state, "mutated.json");
	for (round = 0; round < 250; round++) {
		struct tokenizer *tokenizer;
		struct token_buffer ids = {0};
		size_t cut = length;

		memcpy(copy, text, length);
		for (i = 0; i <= round % 4; i++) {
			size_t at = random_below(key, counter++, length);
			uint64_t kind = random_below(key, counter++, 3);

			if (round % 16 == 15)
				cut = at;
			copy[at] = kind ? "0\"]}{[,:7\\ x"[random_below(
						  key, counter++, 12)]
					: (char)random_u64(key, counter++);
		}
		file_write(path, copy, cut);
		if (tokenizer_load(path, &tokenizer))
			continue;
		loaded++;
		if (!tokenizer_encode(tokenizer, "some text 12\n\n <r> x", 20,
				      TOKENIZER_SPECIAL, &ids)) {
			struct text_builder out;

			text_builder_init(&out);
			assert_int_equal(tokenizer_decode(tokenizer, ids.ids,
							  ids.count, &out),
					 0);
			text_builder_fini(&out);
		}
		token_buffer_fini(&ids);
		tokenizer_destroy(tokenizer);
	}
	assert_in_range(loaded, 1, 249);
	free(copy);
	free(text);
	free(source);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_oracle_ids),
		cmocka_unit_test(test_oracle_text),
		cmocka_unit_test(test_round_trip),
		cmocka_unit_test(test_training),
		cmocka_unit_test(test_save_and_load),
		cmocka_unit_test(test_config),
		cmocka_unit_test(test_stream_decoding),
		cmocka_unit_test(test_not_utf8),
		cmocka_unit_test(test_hostile_runs),
		cmocka_unit_test(test_refusals),
		cmocka_unit_test(test_mutations),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	log_set_sink(quiet_sink, NULL);
	return cmocka_run_group_tests(tests, folder_setup, folder_teardown);
}
