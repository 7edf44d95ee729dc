/*
 * Every kind of tokenizer.json against what the Hugging Face library makes of
 * nasty texts (data/make-kinds.py): ids, whatever the cuts of a stream; texts
 * from ids, all at once and token by token.
 */
#include "tests/unit/data/support.h"

#include "base/json.h"
#include "data/tokenizer.h"

#include <errno.h>

#define TEXT_BYTES 16384

static json_t *read_json(const char *name)
{
	char *path = data_path(name);
	json_t *json;

	assert_int_equal(json_read(path, 1 << 24, &json), 0);
	free(path);
	return json;
}

static size_t from_hex(const json_t *value, char out[TEXT_BYTES])
{
	const char *hex = json_string_value(value);
	size_t length = strlen(hex) / 2, i;
	unsigned byte;

	assert_true(length < TEXT_BYTES);
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
			fail_msg("%s, text %zu: id %zu is %d, not %lld", what,
				 row, i, got->ids[i], (long long)id);
	}
	if (got->count != json_array_size(wanted))
		fail_msg("%s, text %zu: %zu ids, not %zu", what, row,
			 got->count, json_array_size(wanted));
}

/* Encodes in stretches of `chunk` bytes. */
static void encode_cut(struct tokenizer_encoder *encoder, const char *text,
		       size_t length, size_t chunk, struct token_buffer *out)
{
	size_t at = 0, part;

	out->count = 0;
	do {
		part = MIN(chunk, length - at);
		assert_int_equal(
			tokenizer_encoder_push(encoder, text + at, part,
					       at + part == length, out),
			0);
		at += part;
	} while (at < length);
}

static void check_ids(const struct tokenizer *tokenizer, const json_t *texts,
		      const json_t *rows, unsigned flags, const char *what)
{
	static const size_t chunks[] = {TEXT_BYTES, 1, 2, 3, 7, 64};
	struct tokenizer_encoder *encoder;
	struct token_buffer ids = {0};
	size_t row, i, length;
	char text[TEXT_BYTES];

	assert_int_equal(json_array_size(rows), json_array_size(texts));
	assert_int_equal(tokenizer_encoder_create(tokenizer, flags, &encoder),
			 0);
	for (row = 0; row < json_array_size(rows); row++) {
		if (!json_is_array(json_array_get(rows, row)))
			continue;
		length = from_hex(json_array_get(texts, row), text);
		for (i = 0; i < ARRAY_SIZE(chunks); i++) {
			encode_cut(encoder, text, length, chunks[i], &ids);
			assert_ids(&ids, json_array_get(rows, row), what, row);
		}
	}
	token_buffer_fini(&ids);
	tokenizer_encoder_destroy(encoder);
}

static void assert_text(const struct text_builder *got, const json_t *hex,
			const char *what, size_t row)
{
	char wanted[TEXT_BYTES];
	size_t length = from_hex(hex, wanted);

	if (got->length != length ||
	    (length && memcmp(got->data, wanted, length) != 0))
		fail_msg("%s, row %zu: \"%.*s\", not \"%.*s\"", what, row,
			 (int)got->length, got->data ? got->data : "",
			 (int)length, wanted);
}

static bool is_utf8(const struct text_builder *text)
{
	size_t bad;

	return !text->length || text_is_utf8(text->data, text->length, &bad);
}

static void check_text(const struct tokenizer *tokenizer, const json_t *ids,
		       const json_t *hex, const char *what, size_t row)
{
	struct tokenizer_decoder *decoder;
	struct token_buffer list = {0};
	struct text_builder whole, parts;
	size_t i;

	text_builder_init(&whole);
	text_builder_init(&parts);
	assert_int_equal(tokenizer_decoder_create(tokenizer, &decoder), 0);
	for (i = 0; i < json_array_size(ids); i++) {
		int32_t id =
			(int32_t)json_integer_value(json_array_get(ids, i));

		assert_int_equal(token_buffer_append(&list, &id, 1), 0);
		assert_int_equal(tokenizer_decoder_push(decoder, id, &parts),
				 0);
		/* What is out is whole characters. */
		assert_true(is_utf8(&parts));
	}
	assert_int_equal(tokenizer_decoder_finish(decoder, &parts), 0);
	assert_text(&parts, hex, what, row);
	assert_int_equal(
		tokenizer_decode(tokenizer, list.ids, list.count, &whole), 0);
	assert_text(&whole, hex, what, row);
	tokenizer_decoder_destroy(decoder);
	token_buffer_fini(&list);
	text_builder_fini(&whole);
	text_builder_fini(&parts);
}

static struct tokenizer *load_kind(const char *kind)
{
	struct tokenizer *tokenizer;
	char name[64], *path;

	snprintf(name, sizeof(name), "kinds/%s.json", kind);
	path = data_path(name);
	assert_int_equal(tokenizer_load(path, &tokenizer), 0);
	free(path);
	return tokenizer;
}

static void test_kinds(void **state)
{
	json_t *json = read_json("kinds/cases.json"), *wanted;
	json_t *texts = json_object_get(json, "texts");
	const char *kind;
	char what[64];
	size_t row;

	(void)state;
	assert_true(json_object_size(json_object_get(json, "kinds")) >= 14);
	json_object_foreach(json_object_get(json, "kinds"), kind, wanted)
	{
		struct tokenizer *tokenizer = load_kind(kind);
		json_t *ids = json_object_get(wanted, "ids");
		json_t *decoded = json_object_get(wanted, "decoded");

		check_ids(tokenizer, texts, ids, TOKENIZER_SPECIAL, kind);
		snprintf(what, sizeof(what), "%s, template", kind);
		check_ids(tokenizer, texts, json_object_get(wanted, "template"),
			  TOKENIZER_SPECIAL | TOKENIZER_TEMPLATE, what);
		for (row = 0; row < json_array_size(ids); row++) {
			if (json_is_string(json_array_get(decoded, row)))
				check_text(tokenizer, json_array_get(ids, row),
					   json_array_get(decoded, row), kind,
					   row);
		}
		tokenizer_destroy(tokenizer);
	}
	json_decref(json);
}

static void check_step(const json_t *step, const json_t *texts, size_t index,
		       const char *path)
{
	json_t *decode = json_object_get(step, "decode");
	struct tokenizer *tokenizer;
	char what[64];
	size_t row;

	snprintf(what, sizeof(what), "step %zu", index);
	assert_int_equal(json_write(path, json_object_get(step, "tokenizer")),
			 0);
	if (tokenizer_load(path, &tokenizer))
		fail_msg("%s: %s", what, log_last_error());
	if (json_object_get(step, "ids"))
		check_ids(tokenizer, texts, json_object_get(step, "ids"), 0,
			  what);
	for (row = 0; row < json_array_size(decode); row++) {
		json_t *one = json_array_get(decode, row);

		check_text(tokenizer, json_object_get(one, "ids"),
			   json_object_get(one, "text"), what, row);
	}
	tokenizer_destroy(tokenizer);
}

static void test_steps(void **state)
{
	json_t *steps = read_json("kinds/steps.json");
	json_t *cases = read_json("kinds/cases.json");
	char path[512];
	size_t i;

	path_in(path, *state, "step.json");
	assert_true(json_array_size(steps) > 60);
	for (i = 0; i < json_array_size(steps); i++)
		check_step(json_array_get(steps, i),
			   json_object_get(cases, "texts"), i, path);
	json_decref(cases);
	json_decref(steps);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_kinds),
		cmocka_unit_test(test_steps),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	log_set_sink(quiet_sink, NULL);
	return cmocka_run_group_tests(tests, folder_setup, folder_teardown);
}
