#include "data/sft/template.h"

#include "base/log.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* Stands for the tokenizer's end of text in a pattern. */
#define END_OF_TEXT "<eos>"

#define TOKENS_MAX 3

/*
 * Patterns: % is the text of the turn; { and } enclose what is supervised, of
 * the assistant's; control tokens are written as they are named.
 */
struct chat_template {
	const char *name;
	const char *tokens[TOKENS_MAX + 1]; /* it cannot do without */
	const char *end;                    /* of an answer; one of them */
	const char *begin;                  /* NULL: what the tokenizer's
					   post-processor puts before a text */
	const char *role[TURN_ROLES];       /* NULL: it has no such turn */
	const char *user_after_system;      /* NULL: no other than the first */
	bool alternates; /* system only first, user and assistant in turn */
};

static const struct chat_template templates[] = {
	{
		.name = "plain",
		.tokens = {END_OF_TEXT},
		.end = END_OF_TEXT,
		.role = {[TURN_SYSTEM] = "%",
			 [TURN_USER] = "%",
			 [TURN_ASSISTANT] = "{%" END_OF_TEXT "}"},
	},
	{
		.name = "alpaca",
		.tokens = {END_OF_TEXT},
		.end = END_OF_TEXT,
		.role = {[TURN_SYSTEM] = "%\n\n",
			 [TURN_USER] = "### Instruction:\n%\n\n",
			 [TURN_INPUT] = "### Input:\n%\n\n",
			 [TURN_ASSISTANT] =
				 "### Response:\n{%" END_OF_TEXT "}"},
	},
	{
		.name = "chatml",
		.tokens = {"<|im_start|>", "<|im_end|>"},
		.end = "<|im_end|>",
		.begin = "",
		.role = {[TURN_SYSTEM] = "<|im_start|>system\n%<|im_end|>\n",
			 [TURN_USER] = "<|im_start|>user\n%<|im_end|>\n",
			 [TURN_ASSISTANT] =
				 "<|im_start|>assistant\n{%<|im_end|>}\n",
			 [TURN_TOOL] = "<|im_start|>tool\n%<|im_end|>\n"},
	},
	{
		.name = "llama3",
		.tokens = {"<|start_header_id|>", "<|end_header_id|>",
			   "<|eot_id|>"},
		.end = "<|eot_id|>",
		.begin = "<|begin_of_text|>",
		.role = {[TURN_SYSTEM] = "<|start_header_id|>system"
					 "<|end_header_id|>\n\n%<|eot_id|>",
			 [TURN_USER] = "<|start_header_id|>user"
				       "<|end_header_id|>\n\n%<|eot_id|>",
			 [TURN_ASSISTANT] = "<|start_header_id|>assistant"
					    "<|end_header_id|>\n\n"
					    "{%<|eot_id|>}",
			 /* As the models were taught it. */
			 [TURN_TOOL] = "<|start_header_id|>ipython"
				       "<|end_header_id|>\n\n%<|eot_id|>"},
	},
	{
		.name = "llama2",
		.tokens = {"<s>", "</s>"},
		.end = "</s>",
		.begin = "",
		.role = {[TURN_SYSTEM] = "<s>[INST] <<SYS>>\n%\n<</SYS>>\n\n",
			 [TURN_USER] = "<s>[INST] % [/INST]",
			 [TURN_ASSISTANT] = "{ % </s>}"},
		.user_after_system = "% [/INST]",
		.alternates = true,
	},
};

const struct chat_template *chat_template_find(const char *name)
{
	for (size_t i = 0; i < ARRAY_SIZE(templates); i++)
		if (strcmp(templates[i].name, name) == 0)
			return &templates[i];
	fail(-EINVAL, "there is no chat template %s; there are %s", name,
	     CHAT_TEMPLATES);
	return NULL;
}

const char *chat_template_name(const struct chat_template *chat)
{
	return chat->name;
}

static int32_t token_id(const struct tokenizer *tokenizer, const char *name)
{
	if (strcmp(name, END_OF_TEXT) == 0)
		return tokenizer_end_of_text(tokenizer);
	return tokenizer_added_token(tokenizer, name);
}

/* The first of its tokens that the tokenizer lacks, NULL: it has all. */
static const char *token_missing(const struct chat_template *chat,
				 const struct tokenizer *tokenizer)
{
	for (size_t i = 0; chat->tokens[i]; i++)
		if (token_id(tokenizer, chat->tokens[i]) < 0)
			return chat->tokens[i];
	if (chat->begin && *chat->begin && token_id(tokenizer, chat->begin) < 0)
		return chat->begin;
	return NULL;
}

bool chat_template_suits(enum example_form one, enum example_form other)
{
	return one == other ||
	       (one >= EXAMPLE_MESSAGES && other >= EXAMPLE_MESSAGES);
}

int chat_template_choose(enum example_form form,
			 const struct tokenizer *tokenizer,
			 const struct chat_template **out)
{
	static const char *const chats[] = {"chatml", "llama3"};

	if (form == EXAMPLE_PROMPT || form == EXAMPLE_ALPACA) {
		*out = chat_template_find(form == EXAMPLE_PROMPT ? "plain"
								 : "alpaca");
		return 0;
	}
	for (size_t i = 0; i < ARRAY_SIZE(chats); i++) {
		const struct chat_template *chat = chat_template_find(chats[i]);

		if (!token_missing(chat, tokenizer)) {
			*out = chat;
			return 0;
		}
	}
	return fail(-EINVAL,
		    "the examples are conversations, and the tokenizer has the "
		    "tokens of neither chatml nor llama3: say which chat "
		    "template to use with --template (" CHAT_TEMPLATES ")");
}

/* ---- walking through a template ---- */

/* Where the pieces of an example go, in order. */
struct sink {
	int (*text)(void *argument, const char *text, size_t length);
	int (*token)(void *argument, const char *name);
	/* From here on, or up to here, the assistant speaks. */
	int (*answer)(void *argument, bool begins, bool supervised);
	void *argument;
};

/* The control token a pattern goes on with, NULL: none. */
static const char *token_at(const struct chat_template *chat,
			    const char *pattern)
{
	for (size_t i = 0; chat->tokens[i]; i++)
		if (strncmp(pattern, chat->tokens[i],
			    strlen(chat->tokens[i])) == 0)
			return chat->tokens[i];
	return NULL;
}

/* The text of a turn, with the input behind it where that has no place. */
static int walk_text(const struct chat_template *chat, const struct turn *turn,
		     const struct turn *next, const struct sink *sink)
{
	int err = sink->text(sink->argument, turn->text, turn->length);

	if (err || !next || next->role != TURN_INPUT || chat->role[TURN_INPUT])
		return err;
	err = sink->text(sink->argument, "\n", 1);
	return err ? err : sink->text(sink->argument, next->text, next->length);
}

/* turn NULL: up to where the answer begins. */
static int walk_pattern(const struct chat_template *chat, const char *pattern,
			const struct turn *turn, const struct turn *next,
			const struct sink *sink)
{
	int err = 0;

	while (*pattern && !err) {
		const char *token = token_at(chat, pattern);
		size_t literal = 1;

		if (token) {
			err = sink->token(sink->argument, token);
			literal = strlen(token);
		} else if (*pattern == '{' && !turn) {
			return 0;
		} else if (*pattern == '{' || *pattern == '}') {
			err = sink->answer(sink->argument, *pattern == '{',
					   turn && turn->supervised);
		} else if (*pattern == '%') {
			err = walk_text(chat, turn, next, sink);
		} else {
			err = sink->text(sink->argument, pattern, 1);
		}
		pattern += literal;
	}
	return err;
}

static int check_order(const struct chat_template *chat,
		       const struct example *example, size_t i,
		       const char *origin)
{
	const struct turn *turn = &example->turns[i];
	enum turn_role before = i ? turn[-1].role : TURN_SYSTEM, wanted;

	if (turn->role == TURN_INPUT) /* goes with the user's before it */
		return 0;
	if (!chat->role[turn->role])
		return fail(-EINVAL, "%s: the template %s has no role \"%s\"",
			    origin, chat->name, turn_role_name(turn->role));
	if (!chat->alternates || (i == 0 && turn->role == TURN_SYSTEM))
		return 0;
	wanted = before == TURN_USER || before == TURN_INPUT ? TURN_ASSISTANT
							     : TURN_USER;
	if (turn->role == wanted)
		return 0;
	return fail(-EINVAL,
		    "%s: turn %zu is of \"%s\": the template %s needs one of "
		    "\"%s\" there",
		    origin, i, turn_role_name(turn->role), chat->name,
		    turn_role_name(wanted));
}

static int walk(const struct chat_template *chat, const struct example *example,
		const char *origin, const struct sink *sink)
{
	int err = 0;

	for (size_t i = 0; i < example->count && !err; i++) {
		const struct turn *turn = &example->turns[i];
		const struct turn *next =
			i + 1 < example->count ? turn + 1 : NULL;
		const char *pattern = chat->role[turn->role];

		if (turn->role == TURN_USER && i > 0 &&
		    turn[-1].role == TURN_SYSTEM && chat->user_after_system)
			pattern = chat->user_after_system;
		err = check_order(chat, example, i, origin);
		if (!err && pattern)
			err = walk_pattern(chat, pattern, turn, next, sink);
	}
	return err;
}

/* ---- texts alone ---- */

struct texts {
	struct text_builder run;
	template_text_fn *push;
	void *argument;
};

static int texts_text(void *argument, const char *text, size_t length)
{
	struct texts *texts = argument;

	text_builder_append_bytes(&texts->run, text, length);
	return texts->run.failed ? fail(-ENOMEM, "no memory for an example")
				 : 0;
}

static int texts_flush(void *argument, const char *name)
{
	struct texts *texts = argument;
	int err = 0;

	(void)name;
	if (texts->run.length)
		err = texts->push(texts->argument, texts->run.data,
				  texts->run.length);
	texts->run.length = 0;
	return err;
}

static int texts_answer(void *argument, bool begins, bool supervised)
{
	(void)argument;
	(void)begins;
	(void)supervised;
	return 0;
}

int chat_template_texts(const struct chat_template *chat,
			const struct example *example, const char *origin,
			template_text_fn *push, void *argument)
{
	struct texts texts = {.push = push, .argument = argument};
	struct sink sink = {
		.text = texts_text,
		.token = texts_flush,
		.answer = texts_answer,
		.argument = &texts,
	};
	int err;

	text_builder_init(&texts.run);
	err = walk(chat, example, origin, &sink);
	if (!err)
		err = texts_flush(&texts, NULL);
	text_builder_fini(&texts.run);
	return err;
}

/* ---- tokens ---- */

struct renderer {
	const struct chat_template *chat;
	const struct tokenizer *tokenizer;
	struct tokenizer_encoder *encoder;
	/*
	 * The text since the last control token, of which the assistant's
	 * begins at `spoken`, and what it becomes: alone, and with that.
	 */
	struct text_builder run;
	size_t spoken;
	bool answers, supervised;
	bool inside; /* a control token came before */
	struct token_buffer before, whole;
	struct marked_tokens *out;
	const char *origin;
};

void marked_tokens_fini(struct marked_tokens *marked)
{
	token_buffer_fini(&marked->tokens);
	free(marked->marks);
	*marked = (struct marked_tokens){0};
}

int renderer_create(const struct chat_template *chat,
		    const struct tokenizer *tokenizer, struct renderer **out)
{
	const char *missing = token_missing(chat, tokenizer);
	struct renderer *renderer;
	int err;

	if (missing && strcmp(missing, END_OF_TEXT) == 0)
		return fail(-EINVAL,
			    "the template %s ends answers with the end of "
			    "text, and the tokenizer has no such token",
			    chat->name);
	if (missing)
		return fail(-EINVAL,
			    "the template %s needs the token %s, which the "
			    "tokenizer lacks",
			    chat->name, missing);
	renderer = calloc(1, sizeof(*renderer));
	if (!renderer)
		return fail(-ENOMEM, "no memory for a chat template");
	renderer->chat = chat;
	renderer->tokenizer = tokenizer;
	text_builder_init(&renderer->run);
	err = tokenizer_encoder_create(tokenizer, 0, &renderer->encoder);
	if (err) {
		renderer_destroy(renderer);
		return err;
	}
	*out = renderer;
	return 0;
}

void renderer_destroy(struct renderer *renderer)
{
	if (!renderer)
		return;
	tokenizer_encoder_destroy(renderer->encoder);
	token_buffer_fini(&renderer->before);
	token_buffer_fini(&renderer->whole);
	text_builder_fini(&renderer->run);
	free(renderer);
}

int32_t renderer_end(const struct renderer *renderer)
{
	return token_id(renderer->tokenizer, renderer->chat->end);
}

static int put(struct renderer *renderer, const int32_t *ids, size_t count,
	       bool supervised)
{
	struct marked_tokens *out = renderer->out;
	size_t all = out->tokens.count + count;
	int err = token_buffer_append(&out->tokens, ids, count);

	if (err)
		return err;
	if (all > out->capacity) {
		size_t capacity = MAX(2 * out->capacity, all);
		unsigned char *grown = realloc(out->marks, capacity);

		if (!grown)
			return fail(-ENOMEM, "no memory for %zu tokens", all);
		out->marks = grown;
		out->capacity = capacity;
	}
	if (count)
		memset(out->marks + all - count,
		       supervised ? MARK_SUPERVISED : 0, count);
	return 0;
}

static int encode(struct renderer *renderer, size_t first, size_t length,
		  struct token_buffer *out)
{
	int err;

	if (first || renderer->inside)
		tokenizer_encoder_continue(renderer->encoder, first > 0);
	err = tokenizer_encoder_push(renderer->encoder,
				     renderer->run.data + first, length, true,
				     out);

	if (!err)
		return 0;
	if (err == -EILSEQ)
		err = fail(-EINVAL, "%s: not UTF-8", renderer->origin);
	tokenizer_encoder_reset(renderer->encoder);
	return err;
}

static bool begins_with(const struct token_buffer *whole,
			const struct token_buffer *part)
{
	return whole->count >= part->count &&
	       (part->count == 0 ||
		memcmp(whole->ids, part->ids,
		       part->count * sizeof(*part->ids)) == 0);
}

/*
 * Generation begins after the ids of what precedes the answer, so the answer
 * gets the ids that follow those: the rest of the whole's, or, where the two
 * would grow together, its own.
 */
static int flush_both(struct renderer *renderer)
{
	size_t spoken = renderer->spoken, length = renderer->run.length;
	struct token_buffer *before = &renderer->before;
	struct token_buffer *whole = &renderer->whole;
	int err = 0;

	before->count = whole->count = 0;
	if (spoken)
		err = encode(renderer, 0, spoken, before);
	if (!err && length > spoken)
		err = encode(renderer, 0, length, whole);
	if (!err && length > spoken && !begins_with(whole, before)) {
		whole->count = 0;
		err = token_buffer_append(whole, before->ids, before->count);
		if (!err)
			err = encode(renderer, spoken, length - spoken, whole);
	}
	if (!err)
		err = put(renderer, before->ids, before->count, false);
	if (!err && length > spoken)
		err = put(renderer, whole->ids + before->count,
			  whole->count - before->count, renderer->supervised);
	return err;
}

static int flush(struct renderer *renderer)
{
	int err = 0;

	if (!renderer->answers)
		renderer->spoken = renderer->run.length;
	if (renderer->run.length)
		err = flush_both(renderer);
	renderer->run.length = 0;
	renderer->spoken = 0;
	return err;
}

static int render_text(void *argument, const char *text, size_t length)
{
	struct renderer *renderer = argument;

	text_builder_append_bytes(&renderer->run, text, length);
	return renderer->run.failed ? fail(-ENOMEM, "no memory for an example")
				    : 0;
}

static int render_token(void *argument, const char *name)
{
	struct renderer *renderer = argument;
	int32_t id = token_id(renderer->tokenizer, name);
	int err = flush(renderer);

	renderer->inside = true;
	return err ? err
		   : put(renderer, &id, 1,
			 renderer->answers && renderer->supervised);
}

static int render_answer(void *argument, bool begins, bool supervised)
{
	struct renderer *renderer = argument;
	int err = 0;

	if (begins)
		renderer->spoken = renderer->run.length;
	else
		err = flush(renderer);
	renderer->answers = begins;
	renderer->supervised = supervised;
	return err;
}

/* What stands before all turns. */
static int render_begin(struct renderer *renderer)
{
	const struct chat_template *chat = renderer->chat;
	const int32_t *ids;
	size_t count;

	if (chat->begin)
		return *chat->begin ? render_token(renderer, chat->begin) : 0;
	ids = tokenizer_before(renderer->tokenizer, &count);
	return put(renderer, ids, count, false);
}

static int render(struct renderer *renderer, const struct example *example,
		  const char *origin, bool prompt, struct marked_tokens *out)
{
	struct sink sink = {
		.text = render_text,
		.token = render_token,
		.answer = render_answer,
		.argument = renderer,
	};
	const struct chat_template *chat = renderer->chat;
	int err;

	out->tokens.count = 0;
	renderer->out = out;
	renderer->origin = origin;
	renderer->run.length = renderer->spoken = 0;
	renderer->answers = renderer->inside = false;
	err = render_begin(renderer);
	if (!err)
		err = walk(chat, example, origin, &sink);
	if (!err && prompt)
		err = walk_pattern(chat, chat->role[TURN_ASSISTANT], NULL, NULL,
				   &sink);
	return err ? err : flush(renderer);
}

int renderer_example(struct renderer *renderer, const struct example *example,
		     const char *origin, struct marked_tokens *out)
{
	int err = render(renderer, example, origin, false, out);

	if (err)
		return err;
	for (size_t i = 1; i < out->tokens.count; i++) {
		if (!(out->marks[i] & MARK_SUPERVISED))
			continue;
		out->marks[0] |= MARK_FIRST;
		/* Nothing foretells the first token. */
		out->marks[0] &= (unsigned char)~MARK_SUPERVISED;
		return 0;
	}
	return fail(-EINVAL, "%s: no token of it is supervised", origin);
}

int renderer_prompt(struct renderer *renderer, const struct example *example,
		    const char *origin, struct token_buffer *out)
{
	struct marked_tokens marked = {0};
	int err = render(renderer, example, origin, true, &marked);

	if (!err)
		err = token_buffer_append(out, marked.tokens.ids,
					  marked.tokens.count);
	marked_tokens_fini(&marked);
	return err;
}
