/*
 * Chat templates: how the turns of an example become one row of tokens, and
 * which of them are supervised. They have names (a Jinja template of a model
 * on the hub is not run):
 *
 *   plain    prompt and answer as they are, then the end of text
 *   alpaca   ### Instruction:, ### Input:, ### Response:, then the end of text
 *   chatml   <|im_start|>ROLE\nTEXT<|im_end|>\n      (Qwen, SmolLM2)
 *   llama3   <|begin_of_text|><|start_header_id|>ROLE<|end_header_id|>\n\n
 *            TEXT<|eot_id|>
 *   llama2   <s>[INST] <<SYS>>\nS\n<</SYS>>\n\nU [/INST] A </s>
 *
 * Supervised is what the assistant says, with the token that ends its turn.
 * Texts are encoded without special tokens: "<|im_end|>" in one is text. What
 * comes before an answer has the ids that it has in generation, where nothing
 * follows it yet.
 */
#ifndef STAGECOACH_DATA_SFT_TEMPLATE_H
#define STAGECOACH_DATA_SFT_TEMPLATE_H

#include "base/compiler.h"
#include "data/sft/example.h"
#include "data/tokenizer.h"

struct chat_template;

#define CHAT_TEMPLATES "plain, alpaca, chatml, llama3, llama2"

/* NULL, logged with the names there are, when there is none of that name. */
const struct chat_template *chat_template_find(const char *name);
const char *chat_template_name(const struct chat_template *chat);

/* Whether two shapes go with the same template. */
bool chat_template_suits(enum example_form one, enum example_form other);

/*
 * What an example of this shape is in when nobody says: plain and alpaca for the
 * shapes that go with them; for conversations the one whose tokens the
 * tokenizer has. -EINVAL, logged: it has none's.
 */
int chat_template_choose(enum example_form form,
			 const struct tokenizer *tokenizer,
			 const struct chat_template **out) MUST_CHECK;

/* Bits of a token's mark, a byte each. */
enum mark {
	MARK_SUPERVISED = 1 << 0, /* as a label, what is before it given */
	MARK_FIRST = 1 << 1,      /* of an example */
};

/* An example as tokens; {0} is empty. */
struct marked_tokens {
	struct token_buffer tokens;
	unsigned char *marks; /* [tokens.count] */
	size_t capacity;
};
void marked_tokens_fini(struct marked_tokens *marked);

/* A template with a tokenizer's ids for its tokens. */
struct renderer;

/*
 * The tokenizer stays the caller's, and in use. -EINVAL, logged: it lacks a
 * token that the template needs, which is named.
 */
int renderer_create(const struct chat_template *chat,
		    const struct tokenizer *tokenizer,
		    struct renderer **out) MUST_CHECK;
void renderer_destroy(struct renderer *renderer); /* NULL is fine */

/*
 * Replaces what *out holds by the example's tokens and their marks. -EINVAL,
 * logged: a role or an order of roles the template has no place for, or
 * nothing supervised that something comes before.
 */
int renderer_example(struct renderer *renderer, const struct example *example,
		     const char *origin, struct marked_tokens *out) MUST_CHECK;

/* Appends what comes before the assistant's next answer. */
int renderer_prompt(struct renderer *renderer, const struct example *example,
		    const char *origin, struct token_buffer *out) MUST_CHECK;

/* The token that ends an answer. */
int32_t renderer_end(const struct renderer *renderer);

/*
 * The texts between the template's tokens, one after the other, to train a
 * tokenizer on. -EINVAL as above.
 */
typedef int template_text_fn(void *argument, const char *text, size_t length);
int chat_template_texts(const struct chat_template *chat,
			const struct example *example, const char *origin,
			template_text_fn *push, void *argument) MUST_CHECK;

#endif
