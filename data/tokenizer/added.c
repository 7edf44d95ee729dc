#include "data/tokenizer/added.h"

#include "base/log.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static char *copy_of(const char *text, size_t length)
{
	char *copy = malloc(length + 1);

	if (!copy)
		return NULL;
	if (length)
		memcpy(copy, text, length);
	copy[length] = '\0';
	return copy;
}

int added_set_add(struct added_set *set, const struct added_token *token)
{
	struct added_token *grown, *copy;

	grown = reallocarray(set->tokens, set->count + 1, sizeof(*grown));
	if (!grown)
		return fail(-ENOMEM, "no memory for an added token");
	set->tokens = grown;
	copy = &grown[set->count];
	*copy = *token;
	copy->content = copy_of(token->content, token->length);
	copy->pattern = copy_of(token->pattern, token->pattern_length);
	set->count++;
	if (!copy->content || !copy->pattern)
		return fail(-ENOMEM, "no memory for an added token");
	return 0;
}

int added_set_index(struct added_set *set)
{
	size_t i;
	int err = 0;

	for (i = 0; i < set->count && !err; i++) {
		const struct added_token *token = &set->tokens[i];

		if (token->pattern_length)
			err = lexicon_add(&set->patterns[token->normalized],
					  token->pattern, token->pattern_length,
					  (int32_t)i);
	}
	if (!err)
		err = lexicon_sort(&set->patterns[false]);
	return err ? err : lexicon_sort(&set->patterns[true]);
}

void added_set_fini(struct added_set *set)
{
	size_t i;

	for (i = 0; i < set->count; i++) {
		free(set->tokens[i].content);
		free(set->tokens[i].pattern);
	}
	free(set->tokens);
	lexicon_fini(&set->patterns[false]);
	lexicon_fini(&set->patterns[true]);
	*set = (struct added_set){0};
}

void added_scan_init(struct added_scan *scan, const struct added_set *set,
		     bool normalized, bool special, struct added_sink sink)
{
	size_t i;

	*scan = (struct added_scan){
		.set = set,
		.sink = sink,
		.normalized = normalized,
		.special = special,
	};
	for (i = 0; i < set->count; i++) {
		const struct added_token *token = &set->tokens[i];

		if (token->normalized != normalized || !token->pattern_length)
			continue;
		scan->first[(unsigned char)token->pattern[0]] = true;
		scan->longest = MAX(scan->longest, token->pattern_length);
		if (special || !token->special) {
			scan->active = true;
			scan->left_strip |= token->left_strip;
		}
	}
}

void added_scan_fini(struct added_scan *scan)
{
	byte_buffer_fini(&scan->held);
}

void added_scan_reset(struct added_scan *scan)
{
	scan->held.length = 0;
	scan->before = 0;
}

/* The text a scan looks at, and how far it got. */
struct window {
	const char *text;
	size_t length;
	size_t segment; /* where the text not passed on yet begins */
	size_t decided; /* and how far it holds no token */
	bool end;
};

/* The longest token that stands there, NULL if none does. */
static const struct added_token *token_at(const struct added_scan *scan,
					  const struct window *window,
					  size_t position)
{
	const struct lexicon *patterns = &scan->set->patterns[scan->normalized];
	struct lexicon_place place;
	int32_t found = -1, value;

	lexicon_begin(patterns, &place);
	while (position < window->length &&
	       lexicon_step(patterns, &place,
			    (unsigned char)window->text[position])) {
		value = lexicon_value(patterns, &place);
		found = value >= 0 ? value : found;
		position++;
	}
	return found >= 0 ? &scan->set->tokens[found] : NULL;
}

static uint32_t character_before(const struct added_scan *scan,
				 const struct window *window, size_t position)
{
	size_t length;

	if (!position)
		return scan->before;
	position = utf8_previous(window->text, position);
	return utf8_get(window->text + position, &length);
}

static bool stands_alone(const struct added_scan *scan,
			 const struct window *window, size_t from, size_t to)
{
	uint32_t before = character_before(scan, window, from);
	size_t length;

	if (before && utf8_is_word(before))
		return false;
	return to == window->length ||
	       !utf8_is_word(utf8_get(window->text + to, &length));
}

static size_t strip_left(const struct window *window, size_t from)
{
	size_t length;

	while (from > window->segment) {
		size_t at = utf8_previous(window->text, from);

		if (!utf8_is_space(utf8_get(window->text + at, &length)))
			break;
		from = at;
	}
	return from;
}

static size_t strip_right(const struct window *window, size_t to)
{
	size_t length;

	while (to < window->length &&
	       utf8_is_space(utf8_get(window->text + to, &length)))
		to += length;
	return to;
}

/*
 * Deals with the token found at `position`. Returns 0 with *next where to look
 * on; -EAGAIN when what follows the text could matter.
 */
static int take_token(struct added_scan *scan, struct window *window,
		      const struct added_token *token, size_t position,
		      size_t *next)
{
	size_t from = position, to = position + token->pattern_length;
	int err = 0;

	*next = to;
	if (token->special && !scan->special)
		return 0;
	if (token->single_word && !stands_alone(scan, window, from, to))
		return 0;
	if (token->left_strip)
		from = strip_left(window, from);
	if (token->right_strip) {
		to = strip_right(window, to);
		if (to == window->length && !window->end)
			return -EAGAIN;
	}
	if (from > window->segment)
		err = scan->sink.text(scan->sink.argument,
				      window->text + window->segment,
				      from - window->segment, true);
	else
		err = scan->sink.text(scan->sink.argument, NULL, 0, true);
	if (!err)
		err = scan->sink.token(scan->sink.argument, token->id);
	if (err)
		return err;
	window->segment = to;
	*next = to;
	return 0;
}

static int scan_window(struct added_scan *scan, struct window *window)
{
	/* A token that begins here or later may not be all there. */
	size_t margin = scan->longest + 4;
	size_t last = window->end               ? window->length
		      : window->length > margin ? window->length - margin
						: 0;
	size_t position = 0, next;
	const struct added_token *token;
	int err;

	while (position < last) {
		if (!scan->first[(unsigned char)window->text[position]]) {
			position++;
			continue;
		}
		token = token_at(scan, window, position);
		if (!token) {
			position++;
			continue;
		}
		err = take_token(scan, window, token, position, &next);
		if (err == -EAGAIN)
			break;
		if (err)
			return err;
		position = next;
	}
	window->decided =
		window->end ? window->length : MIN(position, window->length);
	return 0;
}

/* Passes on what is certain to be text; *done: how much can be forgotten. */
static int pass_on(struct added_scan *scan, struct window *window, size_t *done)
{
	size_t until = window->decided;
	int err;

	/* Whole characters, and no white space a later token may take. */
	while (until > window->segment && until < window->length &&
	       ((unsigned char)window->text[until] & 0xC0) == 0x80)
		until--;
	if (!window->end && scan->left_strip)
		until = strip_left(window, until);
	until = MAX(until, window->segment);
	err = scan->sink.text(scan->sink.argument,
			      window->text + window->segment,
			      until - window->segment, window->end);
	if (err)
		return err;
	*done = until;
	return 0;
}

int added_scan_push(void *argument, const char *text, size_t length, bool end)
{
	struct added_scan *scan = argument;
	struct window window = {.end = end};
	size_t done;
	int err;

	if (!scan->active)
		return scan->sink.text(scan->sink.argument, text, length, end);
	err = byte_buffer_append(&scan->held, text, length);
	if (err)
		return err;
	window.text = scan->held.data ? scan->held.data : "";
	window.length = scan->held.length;
	err = scan_window(scan, &window);
	if (!err)
		err = pass_on(scan, &window, &done);
	if (err)
		return err;
	if (end) {
		added_scan_reset(scan);
		return 0;
	}
	if (done)
		scan->before = character_before(scan, &window, done);
	byte_buffer_consume(&scan->held, done);
	return 0;
}
