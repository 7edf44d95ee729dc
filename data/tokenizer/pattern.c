#include "data/tokenizer/pattern.h"

#include "base/log.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#define EXPRESSION_BYTES_MAX ((size_t)64 << 10)
#define NESTING_MAX          100

static pcre2_compile_context *compile_context(void)
{
	pcre2_compile_context *context = pcre2_compile_context_create(NULL);

	if (!context)
		return NULL;
	pcre2_set_newline(context, PCRE2_NEWLINE_LF);
	pcre2_set_parens_nest_limit(context, NESTING_MAX);
	return context;
}

static int compile_code(const struct byte_buffer *text, uint32_t extra,
			const char *origin, void **out)
{
	/*
	 * ^ and $ are the ends of lines in Ruby's syntax. What PCRE2 does to
	 * begin with looks at all the text, at each of many calls.
	 */
	uint32_t options = PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE |
			   PCRE2_NEVER_BACKSLASH_C | PCRE2_USE_OFFSET_LIMIT |
			   PCRE2_NO_START_OPTIMIZE;
	pcre2_compile_context *context = compile_context();
	PCRE2_UCHAR reason[256];
	PCRE2_SIZE where = 0;
	int code = 0;

	if (!context)
		return fail(-ENOMEM, "no memory for an expression");
	*out = pcre2_compile((PCRE2_SPTR)text->data, text->length,
			     options | extra, &code, &where, context);
	pcre2_compile_context_free(context);
	if (*out)
		return 0;
	pcre2_get_error_message(code, reason, sizeof(reason));
	return fail(-EINVAL, "%s: expression: %s (at %zu of \"%.*s\")", origin,
		    (const char *)reason, (size_t)where,
		    (int)MIN(text->length, (size_t)200), text->data);
}

static bool compile_machine(void *code)
{
	return pcre2_jit_compile(code, PCRE2_JIT_COMPLETE |
					       PCRE2_JIT_PARTIAL_HARD) == 0;
}

static int compile(struct pattern *pattern, const struct byte_buffer *text,
		   const char *origin)
{
	int err = compile_code(text, 0, origin, &pattern->code);

	if (!err)
		err = compile_code(text, PCRE2_AUTO_CALLOUT, origin,
				   &pattern->careful);
	if (err)
		return err;
	pattern->compiled = compile_machine(pattern->code) &&
			    compile_machine(pattern->careful);
	pcre2_pattern_info(pattern->code, PCRE2_INFO_MAXLOOKBEHIND,
			   &pattern->lookbehind);
	return 0;
}

int pattern_expression(struct pattern *pattern, const char *expression,
		       const char *origin)
{
	struct byte_buffer text = {0};
	int err;

	*pattern = (struct pattern){.kind = PATTERN_EXPRESSION};
	if (!*expression || strlen(expression) > EXPRESSION_BYTES_MAX)
		return fail(-EINVAL,
			    "%s: an expression of %zu bytes (1 to %zu can be)",
			    origin, strlen(expression), EXPRESSION_BYTES_MAX);
	err = pattern_translate(expression, origin, &text);
	if (!err)
		err = compile(pattern, &text, origin);
	byte_buffer_fini(&text);
	return err;
}

int pattern_string(struct pattern *pattern, enum pattern_kind kind,
		   const char *string)
{
	*pattern = (struct pattern){
		.kind = kind,
		.lookbehind = kind == PATTERN_START,
		.string = strdup(string),
		.length = strlen(string),
	};
	ASSERT(pattern->length);
	return pattern->string ? 0 : fail(-ENOMEM, "no memory for a string");
}

void pattern_class(struct pattern *pattern, pattern_class_fn *class)
{
	*pattern = (struct pattern){.kind = PATTERN_CHARACTER, .class = class};
}

void pattern_fini(struct pattern *pattern)
{
	pcre2_code_free(pattern->code);
	pcre2_code_free(pattern->careful);
	free(pattern->string);
	*pattern = (struct pattern){0};
}

size_t pattern_bytes_behind(const struct pattern *pattern, const char *text,
			    size_t position)
{
	uint32_t characters = MAX(pattern->lookbehind, 1u);
	size_t start = position;

	while (start && characters--)
		start = utf8_previous(text, start);
	return position - start;
}
