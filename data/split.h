/*
 * Splitting text into the pieces that merges never cross: a chain of regular
 * expressions, each applied to the pieces of the one before. Every match is
 * a piece, and so is what lies between two matches ("Isolated").
 *
 * The expressions run on PCRE2 with Unicode properties, compiled to machine
 * code where the system allows. \s means White_Space, as in the Hugging Face
 * library: PCRE2 would count U+180E too.
 */
#ifndef STAGECOACH_DATA_SPLIT_H
#define STAGECOACH_DATA_SPLIT_H

#include "base/compiler.h"
#include "data/utf8.h"

/* The expression of GPT-2's byte-level tokenizer. */
#define SPLIT_GPT2                                                             \
	"'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+"    \
	"|\\s+(?!\\S)|\\s+"

/* Longest piece, 256 MiB: the most that is ever held back of a stream. */
#define SPLIT_PIECE_BYTES ((size_t)256 << 20)

struct splitter; /* immutable once its expressions are added */

int splitter_create(struct splitter **out) MUST_CHECK;
void splitter_destroy(struct splitter *splitter);

/*
 * Adds an expression at the end of the chain. literal: a plain string rather
 * than an expression. `origin` names the file in messages.
 */
int splitter_add(struct splitter *splitter, const char *pattern, bool literal,
		 const char *origin) MUST_CHECK;

/* A text that does not begin with a space gets one (add_prefix_space). */
void splitter_set_prefix_space(struct splitter *splitter, bool prefix);

/* text is valid during the call only. */
typedef int splitter_piece_fn(void *argument, const char *text, size_t length);

/* One caller's work with a splitter: memory, and text held back. */
struct split_stream;
int split_stream_create(const struct splitter *splitter,
			splitter_piece_fn *piece, void *argument,
			struct split_stream **out) MUST_CHECK;
void split_stream_destroy(struct split_stream *stream);

/*
 * Passes on every piece that no later text can change: the first expression
 * runs with PCRE2_PARTIAL_HARD, which tells when a match looked
 * beyond the end of what is there. utf8_text_fn.
 */
int split_stream_push(void *stream, const char *text, size_t length,
		      bool end) MUST_CHECK;
void split_stream_reset(struct split_stream *stream);

#endif
