/*
 * Tokenizers: text to token ids and back.
 *
 * A tokenizer is what the Hugging Face library writes in tokenizer.json: added
 * tokens, normalizers, pre-tokenizers, one of the models BPE, WordPiece,
 * Unigram and WordLevel, a post-processor and a decoder. The ids are
 * that library's. docs/TOKENIZERS.md lists what there is; whatever else a
 * file asks for is refused by naming it.
 *
 * A tokenizer is immutable once made: any number of threads may use one. What
 * encoding needs to write (piece cache, regex workspace, text held back) is
 * in an encoder, what decoding needs in a decoder, one per caller.
 *
 * Text is UTF-8; anything else is -EILSEQ with the offset.
 */
#ifndef STAGECOACH_DATA_TOKENIZER_H
#define STAGECOACH_DATA_TOKENIZER_H

#include "base/compiler.h"
#include "base/text.h"

#define TOKENIZER_END_OF_TEXT "<|endoftext|>"

struct tokenizer;

/*
 * Reads a tokenizer.json. A tokenizer_config.json beside it, if there is one,
 * names the end-of-text token ("eos_token"). -EINVAL: malformed, or asks for
 * a component this program lacks; the message says which.
 */
int tokenizer_load(const char *path, struct tokenizer **out) MUST_CHECK;

/* The same from memory, without a tokenizer_config.json. */
int tokenizer_parse(const char *text, size_t length, const char *origin,
		    struct tokenizer **out) MUST_CHECK;

/*
 * Raw bytes: id 0 is <|endoftext|>, then the 256 bytes in the order of the
 * byte-level alphabet. 257 ids.
 */
int tokenizer_bytes(struct tokenizer **out) MUST_CHECK;

void tokenizer_destroy(struct tokenizer *tokenizer);

/*
 * Writes tokenizer.json, durably: the very bytes it was loaded from, or for
 * one made here a file that every release of the Hugging Face library reads.
 */
int tokenizer_save(const struct tokenizer *tokenizer,
		   const char *path) MUST_CHECK;

/*
 * Writes the tokenizer_config.json that transformers wants beside it.
 * context: longest sequence of the model, 0 when not known.
 */
int tokenizer_save_config(const struct tokenizer *tokenizer, const char *path,
			  size_t context) MUST_CHECK;

/* Highest id + 1; ids without a token are possible below it. */
size_t tokenizer_vocab_size(const struct tokenizer *tokenizer);

/* The id that ends a document, -1 if there is none. */
int32_t tokenizer_end_of_text(const struct tokenizer *tokenizer);

/* "byte", "bpe" (made here) or "file" (loaded). */
const char *tokenizer_kind(const struct tokenizer *tokenizer);

/* A control token, which plain text never produces. */
bool tokenizer_is_special(const struct tokenizer *tokenizer, int32_t id);

/*
 * One token as it stands in the vocabulary ("##ing"), of a byte-level tokenizer
 * its bytes; NULL and 0 for an id without one.
 */
const char *tokenizer_token(const struct tokenizer *tokenizer, int32_t id,
			    size_t *length);

/* The id of an added token by its content, -1 if there is none. */
int32_t tokenizer_added_token(const struct tokenizer *tokenizer,
			      const char *content);

/* What the post-processor puts before a text (Llama's BOS). */
const int32_t *tokenizer_before(const struct tokenizer *tokenizer,
				size_t *count);

/* Ids that grow at the end. {0} is empty; fini frees. */
struct token_buffer {
	int32_t *ids;
	size_t count;
	size_t capacity;
};
int token_buffer_append(struct token_buffer *buffer, const int32_t *ids,
			size_t count) MUST_CHECK;
/* Room for `count` more ids behind the last. */
int token_buffer_reserve(struct token_buffer *buffer, size_t count) MUST_CHECK;
void token_buffer_fini(struct token_buffer *buffer);

enum tokenizer_flags {
	/*
	 * Recognise special tokens written out in the text. Without it
	 * "<|endoftext|>" in a document is text like any other
	 * (tiktoken's encode_ordinary); added tokens that are not special
	 * are always recognised, as in the Hugging Face library.
	 */
	TOKENIZER_SPECIAL = 1 << 0,
	/* Put the post-processor's ids around the text (Llama's BOS). */
	TOKENIZER_TEMPLATE = 1 << 1,
};

/*
 * Encodes one text, appending to *out (whose content stays on failure, the
 * count too). Makes a temporary encoder: for one prompt, not for a corpus.
 */
int tokenizer_encode(const struct tokenizer *tokenizer, const char *text,
		     size_t length, unsigned flags,
		     struct token_buffer *out) MUST_CHECK;

/*
 * Encoding a stream. Each push hands over the next bytes, cut anywhere (in
 * the middle of a character too); `end` says that the text ends with them.
 * The ids are those of the whole text encoded at once, whatever the cuts;
 * they arrive as soon as no later byte can change them. After `end` the
 * encoder is ready for the next text. After a failure
 * tokenizer_encoder_reset() makes it so.
 *
 * -EILSEQ: not UTF-8 at tokenizer_encoder_offset(); silent, because the caller
 * knows the name of the text. -EFBIG: a single piece of over 256 MiB.
 */
struct tokenizer_encoder;
int tokenizer_encoder_create(const struct tokenizer *tokenizer, unsigned flags,
			     struct tokenizer_encoder **out) MUST_CHECK;
void tokenizer_encoder_destroy(struct tokenizer_encoder *encoder);
int tokenizer_encoder_push(struct tokenizer_encoder *encoder, const char *text,
			   size_t length, bool end,
			   struct token_buffer *out) MUST_CHECK;
void tokenizer_encoder_reset(struct tokenizer_encoder *encoder);
/*
 * Before a text: it follows a token that the caller puts there, and so gets
 * none of what only the begin of all text gets (a Metaspace in front). `within`:
 * it goes on in the middle of a text, and gets nothing of what a normalizer puts
 * before each piece between control tokens, either.
 */
void tokenizer_encoder_continue(struct tokenizer_encoder *encoder, bool within);

/* Bytes of this text found sound so far. */
uint64_t tokenizer_encoder_offset(const struct tokenizer_encoder *encoder);

/*
 * Appends the text of `ids` to *out: their texts as the tokenizer's decoder
 * puts them together (without one, a space between). Bytes that are not
 * UTF-8 become U+FFFD, one per maximal ill-formed part (Unicode 14, table
 * 3-8). -EINVAL: an id without a token.
 */
int tokenizer_decode(const struct tokenizer *tokenizer, const int32_t *ids,
		     size_t count, struct text_builder *out) MUST_CHECK;

/*
 * Decoding token by token. Each push appends what no later token can change:
 * a character whose bytes are not all there yet is held back, for example.
 * finish appends the rest; the decoder is then ready for another text.
 * Together they give what tokenizer_decode() does.
 */
struct tokenizer_decoder;
int tokenizer_decoder_create(const struct tokenizer *tokenizer,
			     struct tokenizer_decoder **out) MUST_CHECK;
void tokenizer_decoder_destroy(struct tokenizer_decoder *decoder);
int tokenizer_decoder_push(struct tokenizer_decoder *decoder, int32_t id,
			   struct text_builder *out) MUST_CHECK;
int tokenizer_decoder_finish(struct tokenizer_decoder *decoder,
			     struct text_builder *out) MUST_CHECK;

#endif
