#include "data/tokenizer/tokenizer_impl.h"

#include "base/log.h"

#include <errno.h>
#include <stdlib.h>

struct tokenizer_decoder {
	const struct tokenizer *tokenizer;
	struct decode_stream *stream;
};

int tokenizer_decoder_create(const struct tokenizer *tokenizer,
			     struct tokenizer_decoder **out)
{
	struct tokenizer_decoder *decoder = calloc(1, sizeof(*decoder));
	int err;

	if (!decoder)
		return fail(-ENOMEM, "no memory for a decoder");
	decoder->tokenizer = tokenizer;
	err = decode_stream_create(&tokenizer->decoder, &decoder->stream);
	if (err) {
		free(decoder);
		return err;
	}
	*out = decoder;
	return 0;
}

void tokenizer_decoder_destroy(struct tokenizer_decoder *decoder)
{
	if (!decoder)
		return;
	decode_stream_destroy(decoder->stream);
	free(decoder);
}

int tokenizer_decoder_push(struct tokenizer_decoder *decoder, int32_t id,
			   struct text_builder *out)
{
	size_t length;
	const char *text = tokenizer_token(decoder->tokenizer, id, &length);

	if (!text)
		return fail(-EINVAL,
			    "token %d is not in the vocabulary (%zu ids)",
			    (int)id, tokenizer_vocab_size(decoder->tokenizer));
	return decode_stream_push(decoder->stream, text, length, out);
}

int tokenizer_decoder_finish(struct tokenizer_decoder *decoder,
			     struct text_builder *out)
{
	return decode_stream_finish(decoder->stream, out);
}

int tokenizer_decode(const struct tokenizer *tokenizer, const int32_t *ids,
		     size_t count, struct text_builder *out)
{
	struct tokenizer_decoder *decoder;
	size_t i;
	int err = tokenizer_decoder_create(tokenizer, &decoder);

	if (err)
		return err;
	for (i = 0; i < count && !err; i++)
		err = tokenizer_decoder_push(decoder, ids[i], out);
	if (!err)
		err = tokenizer_decoder_finish(decoder, out);
	tokenizer_decoder_destroy(decoder);
	return err;
}
