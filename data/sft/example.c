#include "data/sft/example.h"

#include "base/log.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

const char *example_form_name(enum example_form form)
{
	static const char *const names[] = {
		[EXAMPLE_PROMPT] = "prompt/completion",
		[EXAMPLE_ALPACA] = "Alpaca",
		[EXAMPLE_MESSAGES] = "messages",
		[EXAMPLE_SHAREGPT] = "ShareGPT",
	};

	return names[form];
}

const char *turn_role_name(enum turn_role role)
{
	static const char *const names[] = {
		[TURN_SYSTEM] = "system", [TURN_USER] = "user",
		[TURN_INPUT] = "input",   [TURN_ASSISTANT] = "assistant",
		[TURN_TOOL] = "tool",
	};

	return names[role];
}

int example_add(struct example *example, enum turn_role role, const char *text,
		size_t length, bool supervised)
{
	struct turn *grown;
	size_t capacity;

	if (example->count == example->capacity) {
		capacity = MAX(example->capacity * 2, (size_t)8);
		grown = reallocarray(example->turns, capacity, sizeof(*grown));
		if (!grown)
			return fail(-ENOMEM, "no memory for %zu turns",
				    capacity);
		example->turns = grown;
		example->capacity = capacity;
	}
	example->turns[example->count++] = (struct turn){
		.role = role,
		.text = text,
		.length = length,
		.supervised = supervised,
	};
	return 0;
}

void example_fini(struct example *example)
{
	json_decref(example->json);
	free(example->turns);
	*example = (struct example){0};
}

/* ---- fields ---- */

static const char *kind_name(const json_t *value)
{
	switch (json_typeof(value)) {
	case JSON_OBJECT:
		return "an object";
	case JSON_ARRAY:
		return "an array";
	case JSON_STRING:
		return "a string";
	case JSON_INTEGER:
	case JSON_REAL:
		return "a number";
	case JSON_NULL:
		return "null";
	default:
		return "true or false";
	}
}

/* One turn from a value that must be a string; `field` names it. */
static int add_string(struct example *example, enum turn_role role,
		      const json_t *value, bool supervised, const char *origin,
		      const char *field)
{
	if (!value)
		return fail(-EINVAL, "%s: \"%s\" is missing", origin, field);
	if (!json_is_string(value))
		return fail(-EINVAL, "%s: \"%s\" must be a string, not %s",
			    origin, field, kind_name(value));
	return example_add(example, role, json_string_value(value),
			   json_string_length(value), supervised);
}

/* The same, where nothing, null and "" mean that there is none. */
static int add_optional(struct example *example, enum turn_role role,
			const char *origin, const char *field)
{
	const json_t *value = json_object_get(example->json, field);

	if (!value || json_is_null(value) ||
	    (json_is_string(value) && json_string_length(value) == 0))
		return 0;
	return add_string(example, role, value, false, origin, field);
}

static int add_field(struct example *example, enum turn_role role,
		     bool supervised, const char *origin, const char *field)
{
	return add_string(example, role, json_object_get(example->json, field),
			  supervised, origin, field);
}

/* ---- the shapes ---- */

static int parse_prompt(struct example *example, const char *origin)
{
	int err = add_field(example, TURN_USER, false, origin, "prompt");

	return err ? err
		   : add_field(example, TURN_ASSISTANT, true, origin,
			       "completion");
}

static int parse_pair(struct example *example, const json_t *pair, size_t index,
		      const char *origin)
{
	char field[64];
	int err = 0;

	snprintf(field, sizeof(field), "history[%zu]", index);
	if (!json_is_array(pair) || json_array_size(pair) != 2)
		return fail(-EINVAL,
			    "%s: \"%s\" must be a pair of strings: what was "
			    "asked and what was answered",
			    origin, field);
	for (size_t i = 0; i < 2 && !err; i++) {
		snprintf(field, sizeof(field), "history[%zu][%zu]", index, i);
		err = add_string(example, i ? TURN_ASSISTANT : TURN_USER,
				 json_array_get(pair, i), i > 0, origin, field);
	}
	return err;
}

static int parse_history(struct example *example, const char *origin)
{
	const json_t *history = json_object_get(example->json, "history");
	int err = 0;

	if (!history || json_is_null(history))
		return 0;
	if (!json_is_array(history) ||
	    json_array_size(history) > EXAMPLE_TURNS_MAX / 2)
		return fail(-EINVAL,
			    "%s: \"history\" must be an array of at most %d "
			    "pairs",
			    origin, EXAMPLE_TURNS_MAX / 2);
	for (size_t i = 0; i < json_array_size(history) && !err; i++)
		err = parse_pair(example, json_array_get(history, i), i,
				 origin);
	return err;
}

static int parse_alpaca(struct example *example, const char *origin)
{
	int err = add_optional(example, TURN_SYSTEM, origin, "system");

	if (!err)
		err = parse_history(example, origin);
	if (!err)
		err = add_field(example, TURN_USER, false, origin,
				"instruction");
	if (!err)
		err = add_optional(example, TURN_INPUT, origin, "input");
	return err ? err
		   : add_field(example, TURN_ASSISTANT, true, origin, "output");
}

/* How a shape with a list of turns spells it. */
struct spelling {
	const char *list, *role, *text;
	const char *known;
	struct {
		const char *name;
		enum turn_role role;
	} roles[7];
};

static const struct spelling spellings[EXAMPLE_FORMS] = {
	[EXAMPLE_MESSAGES] = {"messages",
			      "role",
			      "content",
			      "system, user, assistant, tool",
			      {{"system", TURN_SYSTEM},
			       {"user", TURN_USER},
			       {"assistant", TURN_ASSISTANT},
			       {"tool", TURN_TOOL}}},
	[EXAMPLE_SHAREGPT] = {"conversations",
			      "from",
			      "value",
			      "system, human (or user), gpt (or assistant), "
			      "tool",
			      {{"system", TURN_SYSTEM},
			       {"human", TURN_USER},
			       {"user", TURN_USER},
			       {"gpt", TURN_ASSISTANT},
			       {"assistant", TURN_ASSISTANT},
			       {"tool", TURN_TOOL}}},
};

static int find_role(const struct spelling *spelling, const json_t *turn,
		     const char *origin, size_t index, enum turn_role *out)
{
	const json_t *name = json_object_get(turn, spelling->role);

	if (!name)
		return fail(-EINVAL, "%s: \"%s[%zu].%s\" is missing", origin,
			    spelling->list, index, spelling->role);
	for (size_t i = 0; json_is_string(name) && spelling->roles[i].name; i++)
		if (strcmp(json_string_value(name), spelling->roles[i].name) ==
		    0) {
			*out = spelling->roles[i].role;
			return 0;
		}
	return fail(-EINVAL, "%s: \"%s[%zu].%s\" is %.40s%s: known are %s",
		    origin, spelling->list, index, spelling->role,
		    json_is_string(name) ? json_string_value(name)
					 : kind_name(name),
		    json_is_string(name) ? "" : ", no string", spelling->known);
}

/* OpenAI's "weight": 0 leaves an answer out of the loss. */
static int find_weight(const json_t *turn, const char *origin, size_t index,
		       bool *supervised)
{
	const json_t *weight = json_object_get(turn, "weight");

	*supervised = true;
	if (!weight || json_is_null(weight))
		return 0;
	if (!json_is_number(weight) ||
	    (json_number_value(weight) != 0 && json_number_value(weight) != 1))
		return fail(-EINVAL,
			    "%s: \"messages[%zu].weight\" must be 0 or 1",
			    origin, index);
	*supervised = json_number_value(weight) != 0;
	return 0;
}

static int parse_turn(struct example *example, const struct spelling *spelling,
		      const json_t *turn, size_t index, const char *origin)
{
	bool supervised = true;
	enum turn_role role = TURN_ROLES;
	char field[64];
	int err;

	if (!json_is_object(turn))
		return fail(-EINVAL,
			    "%s: \"%s[%zu]\" must be an object, not %s", origin,
			    spelling->list, index, kind_name(turn));
	err = find_role(spelling, turn, origin, index, &role);
	if (!err && example->form == EXAMPLE_MESSAGES)
		err = find_weight(turn, origin, index, &supervised);
	if (err)
		return err;
	snprintf(field, sizeof(field), "%s[%zu].%s", spelling->list, index,
		 spelling->text);
	return add_string(example, role, json_object_get(turn, spelling->text),
			  supervised && role == TURN_ASSISTANT, origin, field);
}

static int parse_turns(struct example *example, const char *origin)
{
	const struct spelling *spelling = &spellings[example->form];
	const json_t *list = json_object_get(example->json, spelling->list);
	size_t count = json_array_size(list);
	int err = 0;

	if (!json_is_array(list))
		return fail(-EINVAL, "%s: \"%s\" must be an array, not %s",
			    origin, spelling->list, kind_name(list));
	if (count > EXAMPLE_TURNS_MAX)
		return fail(-EINVAL, "%s: \"%s\" has over %d turns", origin,
			    spelling->list, EXAMPLE_TURNS_MAX);
	for (size_t i = 0; i < count && !err; i++)
		err = parse_turn(example, spelling, json_array_get(list, i), i,
				 origin);
	return err;
}

/* ---- which one it is ---- */

static const struct {
	const char *field; /* that tells it from the others */
	int (*parse)(struct example *example, const char *origin);
} forms[EXAMPLE_FORMS] = {
	[EXAMPLE_PROMPT] = {"prompt", parse_prompt},
	[EXAMPLE_ALPACA] = {"instruction", parse_alpaca},
	[EXAMPLE_MESSAGES] = {"messages", parse_turns},
	[EXAMPLE_SHAREGPT] = {"conversations", parse_turns},
};

static int find_form(struct example *example, const char *origin)
{
	int found = -1;

	if (!json_is_object(example->json))
		return fail(-EINVAL, "%s: an example is an object, not %s",
			    origin, kind_name(example->json));
	for (int i = 0; i < EXAMPLE_FORMS; i++) {
		if (!json_object_get(example->json, forms[i].field))
			continue;
		if (found >= 0)
			return fail(-EINVAL,
				    "%s: both \"%s\" and \"%s\": which of them "
				    "is the example?",
				    origin, forms[found].field, forms[i].field);
		found = i;
	}
	if (found < 0)
		return fail(-EINVAL,
			    "%s: none of \"prompt\" (and \"completion\"), "
			    "\"instruction\" (and \"output\"), \"messages\" "
			    "and \"conversations\" is there",
			    origin);
	example->form = (enum example_form)found;
	return 0;
}

static int check_answers(const struct example *example, const char *origin)
{
	bool supervised = false;

	for (size_t i = 0; i < example->count; i++) {
		const struct turn *turn = &example->turns[i];

		if (turn->supervised && turn->length > 0)
			return 0;
		supervised |= turn->supervised;
	}
	if (supervised)
		return fail(
			-EINVAL,
			"%s: the answer is empty: there is nothing to learn",
			origin);
	return fail(-EINVAL,
		    "%s: no turn of the assistant that is to be learnt: "
		    "nothing is supervised",
		    origin);
}

int example_parse(struct example *example, const char *text, size_t length,
		  const char *origin)
{
	int err;

	*example = (struct example){0};
	err = json_parse(text, length, origin, &example->json);
	if (!err)
		err = find_form(example, origin);
	if (!err)
		err = forms[example->form].parse(example, origin);
	return err ? err : check_answers(example, origin);
}
