/*
 * One example of supervised fine-tuning, from any of the shapes people have
 * them in, as turns of a conversation:
 *
 *   {"prompt": "...", "completion": "..."}
 *   {"instruction": "...", "input": "...", "output": "...", "system": "...",
 *    "history": [["...", "..."], ...]}              (Alpaca; input, system and
 *                                                    history may be missing)
 *   {"messages": [{"role": "system|user|assistant|tool", "content": "...",
 *                  "weight": 0 or 1}, ...]}         (OpenAI; weight 1)
 *   {"conversations": [{"from": "system|human|gpt|tool", "value": "..."},
 *                      ...]}                        (ShareGPT)
 *
 * What the assistant says is supervised, unless its weight is 0. Other keys
 * are left alone.
 */
#ifndef STAGECOACH_DATA_SFT_EXAMPLE_H
#define STAGECOACH_DATA_SFT_EXAMPLE_H

#include "base/compiler.h"
#include "base/json.h"

#define EXAMPLE_TURNS_MAX 4096

enum example_form {
	EXAMPLE_PROMPT,
	EXAMPLE_ALPACA,
	EXAMPLE_MESSAGES,
	EXAMPLE_SHAREGPT,
	EXAMPLE_FORMS,
};

enum turn_role {
	TURN_SYSTEM,
	TURN_USER,
	TURN_INPUT, /* what the user's instruction before it is about (Alpaca) */
	TURN_ASSISTANT,
	TURN_TOOL,
	TURN_ROLES,
};

const char *example_form_name(enum example_form form);
const char *turn_role_name(enum turn_role role);

struct turn {
	enum turn_role role;
	const char *text; /* the example's */
	size_t length;
	bool supervised;
};

struct example {
	enum example_form form;
	struct turn *turns;
	size_t count, capacity;
	json_t *json; /* what the texts lie in; NULL: elsewhere */
};

/*
 * `origin` is "FILE:LINE" for messages. -EINVAL, logged with the field and
 * the reason: not JSON, none or two of the shapes, a field that is missing or
 * has another type, a role that nobody knows, nothing that is supervised, or
 * only empty answers. Fini it in any case.
 */
int example_parse(struct example *example, const char *text, size_t length,
		  const char *origin) MUST_CHECK;

/* By hand: {0} is empty; the text stays the caller's. */
int example_add(struct example *example, enum turn_role role, const char *text,
		size_t length, bool supervised) MUST_CHECK;
void example_fini(struct example *example);

#endif
