/*
 * tokenizer.json. The input is the file; what loads encodes a text, whole and
 * in stretches, to the same ids, all of them in the vocabulary, and these
 * decode to the same UTF-8, at once and one by one.
 */
#include <string.h>

#include "base/log.h"
#include "data/tokenizer.h"
#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/memory.h"

static void swallow(void *argument, enum log_level level, const char *line)
{
	(void)argument;
	(void)level;
	FUZZ_CHECK(line[0] != '\0');
}

static const char *const texts[] = {
	"a ab  abc\n\nThe 12 'll x\xC3\xA9 e\xCC\x81, \xE2\x96\x81 b",
	"<s> one</s>  <mask> \xE4\xB8\xAD\xE6\x96\x87\xF0\x9F\x91\x8D\t.",
	"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
	"",
};

/* Encodes in stretches of `chunk` bytes. */
static int encode(const struct tokenizer *tokenizer, const char *text,
		  size_t chunk, struct token_buffer *out)
{
	struct tokenizer_encoder *encoder;
	size_t length = strlen(text), at = 0, part;
	int err = 0;

	if (tokenizer_encoder_create(tokenizer, TOKENIZER_SPECIAL, &encoder))
		return -1;
	do {
		part = chunk < length - at ? chunk : length - at;
		err = tokenizer_encoder_push(encoder, text + at, part,
					     at + part == length, out);
		at += part;
	} while (at < length && !err);
	tokenizer_encoder_destroy(encoder);
	return err;
}

static void decode(const struct tokenizer *tokenizer,
		   const struct token_buffer *ids)
{
	struct tokenizer_decoder *decoder;
	struct text_builder whole, parts;
	size_t i, bad;

	text_builder_init(&whole);
	text_builder_init(&parts);
	if (tokenizer_decode(tokenizer, ids->ids, ids->count, &whole) ||
	    tokenizer_decoder_create(tokenizer, &decoder))
		goto out_free;
	for (i = 0; i < ids->count; i++)
		FUZZ_CHECK(
			!tokenizer_decoder_push(decoder, ids->ids[i], &parts));
	FUZZ_CHECK(!tokenizer_decoder_finish(decoder, &parts));
	FUZZ_CHECK(whole.length == parts.length);
	FUZZ_CHECK(!whole.length ||
		   (!memcmp(whole.data, parts.data, whole.length) &&
		    text_is_utf8(whole.data, whole.length, &bad)));
	tokenizer_decoder_destroy(decoder);
out_free:
	text_builder_fini(&whole);
	text_builder_fini(&parts);
}

static void use(const struct tokenizer *tokenizer, const char *text)
{
	struct token_buffer whole = {0}, cut = {0};
	size_t i;
	int err = encode(tokenizer, text, SIZE_MAX, &whole);

	if (!err && !encode(tokenizer, text, 3, &cut)) {
		FUZZ_CHECK(whole.count == cut.count);
		FUZZ_CHECK(!cut.count || !memcmp(whole.ids, cut.ids,
						 cut.count * sizeof(*cut.ids)));
		for (i = 0; i < whole.count; i++)
			FUZZ_CHECK(whole.ids[i] >= 0 &&
				   (size_t)whole.ids[i] <
					   tokenizer_vocab_size(tokenizer));
		decode(tokenizer, &whole);
	}
	token_buffer_fini(&whole);
	token_buffer_fini(&cut);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct tokenizer *tokenizer;
	size_t i;
	int err;

	log_set_sink(swallow, NULL);
	memory_begin();
	err = tokenizer_parse((const char *)data, size, "fuzz", &tokenizer);
	memory_check(size);
	if (err) {
		FUZZ_CHECK(strncmp(log_last_error(), "fuzz: ", 6) == 0);
		return 0;
	}
	for (i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
		use(tokenizer, texts[i]);
	tokenizer_destroy(tokenizer);
	return 0;
}
