/*
 * Splitting text into the pieces that no token crosses: a chain of steps, each
 * applied to the pieces of the one before. A step may change the piece
 * (a space in front, spaces made visible), then splits it where a pattern is
 * found.
 */
#ifndef STAGECOACH_DATA_TOKENIZER_SPLIT_H
#define STAGECOACH_DATA_TOKENIZER_SPLIT_H

#include "base/compiler.h"
#include "data/tokenizer/pattern.h"
#include "data/utf8.h"

/* The expression of GPT-2's byte-level tokenizer. */
#define SPLIT_GPT2                                                             \
	"'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+"    \
	"|\\s+(?!\\S)|\\s+"

/* Longest piece, 256 MiB: the most that is ever held back of a stream. */
#define SPLIT_PIECE_BYTES ((size_t)256 << 20)
#define SPLIT_STEPS_MAX   16

/* What becomes of a match (and of what lies between two). */
enum split_behavior {
	SPLIT_ISOLATED, /* a piece */
	SPLIT_REMOVED,  /* nothing */
	SPLIT_WITH_PREVIOUS,
	SPLIT_WITH_NEXT,
	SPLIT_CONTIGUOUS, /* a piece with the matches that touch it */
};

enum split_prefix {
	PREFIX_NONE,
	PREFIX_FIRST,  /* the piece that the text begins with */
	PREFIX_ALWAYS, /* every piece */
};

struct split_step {
	/* Put in front of a piece that does not begin with it. */
	char prefix[4];
	size_t prefix_bytes;
	enum split_prefix prefix_scheme;
	bool show_spaces; /* every ' ' becomes the prefix */
	struct pattern pattern;
	enum split_behavior behavior;
	bool invert; /* what is between matches counts as the match */
};

/* {0} does not split. Immutable once made. */
struct splitter {
	struct split_step steps[SPLIT_STEPS_MAX];
	size_t count;
};

/* A new step at the end, all zero, to fill in; NULL, logged: too many. */
struct split_step *splitter_add(struct splitter *splitter, const char *origin);
void splitter_fini(struct splitter *splitter);

/* A step that isolates what an expression matches. */
int splitter_add_expression(struct splitter *splitter, const char *expression,
			    const char *origin) MUST_CHECK;

/* text is valid during the call only. */
typedef int splitter_piece_fn(void *argument, const char *text, size_t length);

/* One caller's work with a splitter: memory, and text held back. */
struct split_stream;
int split_stream_create(const struct splitter *splitter,
			splitter_piece_fn *piece, void *argument,
			struct split_stream **out) MUST_CHECK;
void split_stream_destroy(struct split_stream *stream);

/*
 * Passes on every piece that no later text can change. A segment is split as
 * a text of its own; only the first of a text has its begin. utf8_text_fn.
 */
int split_stream_push(void *stream, const char *text, size_t length,
		      bool end) MUST_CHECK;

/* A token took the place of text here: what follows is not the begin. */
void split_stream_skip(struct split_stream *stream);

/* Ready for the next text. */
void split_stream_reset(struct split_stream *stream);

#endif
