/*
 * Reading "pre_tokenizer" of a tokenizer.json.
 */
#include "data/tokenizer/load.h"
#include "data/tokenizer/unicode_late.h"

#include "base/log.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct load {
	struct splitter *splitter;
	const char *path;
	bool byte_level; /* ByteLevel was the last */
};

static int read_behavior(const json_t *component, const char *fallback,
			 const char *path, enum split_behavior *out)
{
	static const char *const names[] = {
		[SPLIT_ISOLATED] = "Isolated",
		[SPLIT_REMOVED] = "Removed",
		[SPLIT_WITH_PREVIOUS] = "MergedWithPrevious",
		[SPLIT_WITH_NEXT] = "MergedWithNext",
		[SPLIT_CONTIGUOUS] = "Contiguous",
	};
	const char *name;
	size_t i;
	int err = fallback
			  ? json_get_string_or(component, "behavior", fallback,
					       path, &name)
			  : json_get_string(component, "behavior", path, &name);

	if (err)
		return err;
	for (i = 0; i < ARRAY_SIZE(names); i++) {
		if (strcmp(name, names[i]) == 0) {
			*out = (enum split_behavior)i;
			return 0;
		}
	}
	return load_refuse(path, "pre_tokenizer with behavior", name);
}

static int load_split(struct load *load, const json_t *component)
{
	struct split_step *step = splitter_add(load->splitter, load->path);
	int err;

	if (!step)
		return -EINVAL;
	err = load_pattern(component, "pre_tokenizer Split", load->path,
			   &step->pattern);
	if (!err)
		err = json_get_boolean_or(component, "invert", false,
					  load->path, &step->invert);
	if (!err)
		err = read_behavior(component, NULL, load->path,
				    &step->behavior);
	return err;
}

static int load_byte_level(struct load *load, const json_t *component)
{
	struct split_step *step = splitter_add(load->splitter, load->path);
	bool prefix, regex;
	int err;

	if (!step)
		return -EINVAL;
	err = json_get_boolean_or(component, "add_prefix_space", true,
				  load->path, &prefix);
	if (!err)
		err = json_get_boolean_or(component, "use_regex", true,
					  load->path, &regex);
	if (err)
		return err;
	load->byte_level = true;
	if (prefix) {
		step->prefix[0] = ' ';
		step->prefix_bytes = 1;
		step->prefix_scheme = PREFIX_ALWAYS;
	}
	if (regex)
		return pattern_expression(&step->pattern, SPLIT_GPT2,
					  load->path);
	/* Changes nothing: one step less. */
	if (!prefix)
		load->splitter->count--;
	return 0;
}

static int read_scheme(const json_t *component, const char *path,
		       enum split_prefix *out)
{
	const char *scheme;
	bool prefix;
	int err = json_get_boolean_or(component, "add_prefix_space", true, path,
				      &prefix);

	if (!err)
		err = json_get_string_or(component, "prepend_scheme",
					 prefix ? "always" : "never", path,
					 &scheme);
	if (err)
		return err;
	if (strcmp(scheme, "always") == 0)
		*out = PREFIX_ALWAYS;
	else if (strcmp(scheme, "first") == 0)
		*out = PREFIX_FIRST;
	else if (strcmp(scheme, "never") == 0)
		*out = PREFIX_NONE;
	else
		err = load_refuse(path,
				  "pre_tokenizer Metaspace with "
				  "prepend_scheme",
				  scheme);
	return err;
}

static int load_metaspace(struct load *load, const json_t *component)
{
	struct split_step *step = splitter_add(load->splitter, load->path);
	char mark[5];
	bool split;
	int err;

	if (!step)
		return -EINVAL;
	err = load_character(component, "replacement", "\xE2\x96\x81",
			     load->path, mark, &step->prefix_bytes);
	if (!err)
		err = read_scheme(component, load->path, &step->prefix_scheme);
	if (!err)
		err = json_get_boolean_or(component, "split", true, load->path,
					  &split);
	if (err)
		return err;
	memcpy(step->prefix, mark, step->prefix_bytes);
	step->show_spaces = true;
	step->behavior = SPLIT_WITH_NEXT;
	return split ? pattern_string(&step->pattern, PATTERN_STRING, mark) : 0;
}

static int add_class(struct load *load, pattern_class_fn *class,
		     enum split_behavior behavior)
{
	struct split_step *step = splitter_add(load->splitter, load->path);

	if (!step)
		return -EINVAL;
	pattern_class(&step->pattern, class);
	step->behavior = behavior;
	return 0;
}

/* The last two were punctuation when the library's table was made. */
static bool is_punctuation(uint32_t character)
{
	if (character < 0x80)
		return utf8_is_punctuation(character);
	return (utf8_is_punctuation(character) &&
		!unicode_is_late(UNICODE_PUNCTUATION, character)) ||
	       character == 0x166D || character == 0x111C9;
}

static int load_bert(struct load *load, const json_t *component)
{
	int err = add_class(load, utf8_is_space, SPLIT_REMOVED);

	(void)component;
	if (!err)
		err = add_class(load, is_punctuation, SPLIT_ISOLATED);
	return err;
}

static int load_whitespace_split(struct load *load, const json_t *component)
{
	(void)component;
	return add_class(load, utf8_is_space, SPLIT_REMOVED);
}

/* What is neither \w+ nor [^\w\s]+ is removed. */
static int load_whitespace(struct load *load, const json_t *component)
{
	int err = add_class(load, utf8_is_space, SPLIT_REMOVED);

	(void)component;
	if (!err)
		err = add_class(load, utf8_is_word, SPLIT_CONTIGUOUS);
	return err;
}

static int load_digits(struct load *load, const json_t *component)
{
	bool single;
	int err = json_get_boolean_or(component, "individual_digits", false,
				      load->path, &single);

	if (err)
		return err;
	return add_class(load, utf8_is_number,
			 single ? SPLIT_ISOLATED : SPLIT_CONTIGUOUS);
}

static int load_punctuation(struct load *load, const json_t *component)
{
	enum split_behavior behavior;
	int err = read_behavior(component, "Isolated", load->path, &behavior);

	return err ? err : add_class(load, is_punctuation, behavior);
}

static int load_delimiter(struct load *load, const json_t *component)
{
	struct split_step *step = splitter_add(load->splitter, load->path);
	char delimiter[5];
	size_t bytes;
	int err;

	if (!step)
		return -EINVAL;
	step->behavior = SPLIT_REMOVED;
	err = load_character(component, "delimiter", NULL, load->path,
			     delimiter, &bytes);
	return err ? err
		   : pattern_string(&step->pattern, PATTERN_STRING, delimiter);
}

static int load_one(struct load *load, const json_t *component, unsigned depth)
{
	static const struct {
		const char *type;
		int (*load)(struct load *load, const json_t *component);
	} kinds[] = {
		{"ByteLevel", load_byte_level},
		{"Split", load_split},
		{"Metaspace", load_metaspace},
		{"BertPreTokenizer", load_bert},
		{"Whitespace", load_whitespace},
		{"WhitespaceSplit", load_whitespace_split},
		{"Digits", load_digits},
		{"Punctuation", load_punctuation},
		{"CharDelimiterSplit", load_delimiter},
	};
	const char *type = load_type(load->path, component, "pre_tokenizer");
	json_t *list;
	size_t i;
	int err;

	if (!type)
		return -EINVAL;
	if (strcmp(type, "Sequence") == 0) {
		err = load_list(component, "pretokenizers", depth, load->path,
				&list);
		for (i = 0; !err && i < json_array_size(list); i++)
			err = load_one(load, json_array_get(list, i),
				       depth + 1);
		return err;
	}
	if (load->byte_level)
		return load_refuse(load->path, "after ByteLevel, pre_tokenizer",
				   type);
	for (i = 0; i < ARRAY_SIZE(kinds); i++) {
		if (strcmp(type, kinds[i].type) == 0)
			return kinds[i].load(load, component);
	}
	return load_refuse(load->path, "pre_tokenizer", type);
}

int load_pre_tokenizer(struct tokenizer *tokenizer, const json_t *component,
		       const char *path, bool *byte_level)
{
	struct load load = {&tokenizer->splitter, path, false};
	int err = load_is_absent(component) ? 0 : load_one(&load, component, 0);

	*byte_level = load.byte_level;
	return err;
}
