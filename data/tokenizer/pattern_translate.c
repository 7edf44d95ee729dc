/*
 * From Oniguruma's Ruby syntax (its doc/RE) to PCRE2's (pcre2pattern), for
 * UTF-8. What is the same in both is copied; this file is about the rest.
 */
#include "data/tokenizer/pattern.h"

#include "base/log.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define GROUPS_MAX 128

/* White_Space and its complement, as they stand inside a class. */
#define SPACE                                                                  \
	"\\x{9}-\\x{D}\\x{20}\\x{85}\\x{A0}\\x{1680}\\x{2000}-\\x{200A}"       \
	"\\x{2028}\\x{2029}\\x{202F}\\x{205F}\\x{3000}"
#define NOT_SPACE                                                              \
	"\\x{0}-\\x{8}\\x{E}-\\x{1F}\\x{21}-\\x{84}\\x{86}-\\x{9F}"            \
	"\\x{A1}-\\x{167F}\\x{1681}-\\x{1FFF}\\x{200B}-\\x{2027}"              \
	"\\x{202A}-\\x{202E}\\x{2030}-\\x{205E}\\x{2060}-\\x{2FFF}"            \
	"\\x{3001}-\\x{D7FF}\\x{E000}-\\x{10FFFF}"
/*
 * [:word:] is Alphabetic, marks, decimal numbers and connectors; \w is that and
 * the small and broken numbers of Latin-1, which are in Oniguruma's tables.
 */
#define WORD_CLASS "\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}"
#define WORD       WORD_CLASS "\\x{B2}\\x{B3}\\x{B9}\\x{BC}-\\x{BE}"

struct translation {
	const char *origin;
	const char *at;
	struct byte_buffer *out;
	bool in_class;
	size_t atom; /* where in `out` a quantifier's operand begins */
	size_t groups[GROUPS_MAX];
	unsigned depth;
};

static int refuse(const struct translation *t, const char *what)
{
	return fail(-EINVAL,
		    "%s: expression: %s is not supported, at \"%.40s\"",
		    t->origin, what, t->at);
}

static int put(struct translation *t, const char *text)
{
	return byte_buffer_append(t->out, text, strlen(text));
}

static int copy(struct translation *t, size_t length)
{
	int err = byte_buffer_append(t->out, t->at, length);

	t->at += length;
	return err;
}

/* One of these stands for a class; `inside` is its content. */
static int put_class(struct translation *t, const char *inside, bool negated)
{
	int err = t->in_class ? 0 : put(t, negated ? "[^" : "[");

	if (!err)
		err = put(t, inside);
	if (!err && !t->in_class)
		err = put(t, "]");
	t->at += 2;
	return err;
}

/* Long names of general categories; scripts go by Script, as in Oniguruma. */
static const char *const categories[][2] = {
	{"Letter", "L"},      {"Uppercase_Letter", "Lu"},
	{"Mark", "M"},        {"Lowercase_Letter", "Ll"},
	{"Number", "N"},      {"Nonspacing_Mark", "Mn"},
	{"Symbol", "S"},      {"Decimal_Number", "Nd"},
	{"Punctuation", "P"}, {"Separator", "Z"},
	{"Other", "C"},
};

static const char *const properties[] = {
	"Any",
	"Alphabetic",
	"Lowercase",
	"Uppercase",
	"Ideographic",
	"Emoji",
	"Extended_Pictographic",
	"Math",
};

static int put_property(struct translation *t, const char *name, size_t length)
{
	size_t i;
	int err;

	for (i = 0; i < ARRAY_SIZE(categories); i++) {
		if (strlen(categories[i][0]) == length &&
		    strncmp(categories[i][0], name, length) == 0)
			return put(t, categories[i][1]);
	}
	for (i = 0; i < ARRAY_SIZE(properties); i++) {
		if (strlen(properties[i]) == length &&
		    strncmp(properties[i], name, length) == 0)
			return put(t, properties[i]);
	}
	err = length > 2 ? put(t, "sc:") : 0;
	return err ? err : byte_buffer_append(t->out, name, length);
}

/* \p{Name}, \p{^Name}, \P{Name} */
static int translate_property(struct translation *t)
{
	const char *end = t->at[2] == '{' ? strchr(t->at, '}') : NULL;
	bool negated = t->at[1] == 'P';
	const char *name = t->at + 3;
	int err;

	if (!end)
		return refuse(t, "a property without {}");
	if (*name == '^') {
		negated = !negated;
		name++;
	}
	err = put(t, negated ? "\\P{" : "\\p{");
	if (!err)
		err = put_property(t, name, (size_t)(end - name));
	if (!err)
		err = put(t, "}");
	t->at = end + 1;
	return err;
}

/* \uHHHH */
static int translate_unicode(struct translation *t)
{
	char text[16];

	if (strspn(t->at + 2, "0123456789abcdefABCDEF") < 4)
		return refuse(t, "\\u without four digits");
	snprintf(text, sizeof(text), "\\x{%.4s}", t->at + 2);
	t->at += 6;
	return put(t, text);
}

static int translate_boundary(struct translation *t)
{
	bool negated = t->at[1] == 'B';

	t->at += 2;
	if (negated)
		return put(t, "(?:(?<=[" WORD "])(?=[" WORD "])|"
			      "(?<![" WORD "])(?![" WORD "]))");
	return put(t, "(?:(?<=[" WORD "])(?![" WORD "])|"
		      "(?<![" WORD "])(?=[" WORD "]))");
}

static int translate_escape(struct translation *t)
{
	switch (t->at[1]) {
	case '\0':
		return refuse(t, "a \\ at the end");
	case 's':
		return put_class(t, SPACE, false);
	case 'S':
		return put_class(t, t->in_class ? NOT_SPACE : SPACE, true);
	case 'w':
		return put_class(t, WORD, false);
	case 'W':
		if (t->in_class)
			return refuse(t, "\\W in a class");
		return put_class(t, WORD, true);
	case 'h':
		return put_class(t, "0-9A-Fa-f", false);
	case 'p':
	case 'P':
		return translate_property(t);
	case 'u':
		return translate_unicode(t);
	case 'b':
	case 'B':
		if (!t->in_class)
			return translate_boundary(t);
		return copy(t, 2);
	case 'H':
	case 'A':
	case 'z':
	case 'Z':
	case 'G':
	case 'K':
	case 'X':
	case 'y':
	case 'Y':
	case 'O':
	case 'Q':
	case 'E':
	case 'C':
	case 'g':
	case 'k':
	case '1':
	case '2':
	case '3':
	case '4':
	case '5':
	case '6':
	case '7':
	case '8':
	case '9':
		return refuse(t, "this escape");
	default:
		return copy(t, 2);
	}
}

/* [:name:] */
static int translate_posix(struct translation *t)
{
	static const char *const names[][2] = {
		{"[:space:]", SPACE},
		{"[:word:]", WORD_CLASS},
		{"[:digit:]", "\\p{Nd}"},
		{"[:alpha:]", "\\p{Alphabetic}"},
		{"[:alnum:]", "\\p{Alphabetic}\\p{Nd}"},
		{"[:lower:]", "\\p{Lowercase}"},
		{"[:upper:]", "\\p{Uppercase}"},
		{"[:punct:]", "\\p{P}\\p{S}"},
	};
	size_t i;

	for (i = 0; i < ARRAY_SIZE(names); i++) {
		size_t length = strlen(names[i][0]);

		if (strncmp(t->at, names[i][0], length) == 0) {
			t->at += length;
			return put(t, names[i][1]);
		}
	}
	return refuse(t, "a class within a class");
}

static int translate_class(struct translation *t)
{
	int err = copy(t, t->at[1] == '^' ? 2 : 1);

	t->in_class = true;
	if (!err && *t->at == ']')
		err = refuse(t, "] as the first of a class");
	while (!err && *t->at && *t->at != ']') {
		if (*t->at == '\\')
			err = translate_escape(t);
		else if (*t->at == '[')
			err = translate_posix(t);
		else if (strncmp(t->at, "&&", 2) == 0)
			err = refuse(t, "&& in a class");
		else
			err = copy(t, 1);
	}
	t->in_class = false;
	if (!err && *t->at != ']')
		err = refuse(t, "a class without its ]");
	return err ? err : copy(t, 1);
}

/* "(?mi-x:" and the like: Ruby's m is PCRE2's s. */
static int translate_options(struct translation *t)
{
	int err = 0;

	for (; !err && *t->at && strchr("mi-", *t->at); t->at++) {
		char option[2] = {*t->at == 'm' ? 's' : *t->at, '\0'};

		err = put(t, option);
	}
	if (!err && *t->at != ':' && *t->at != ')')
		err = refuse(t, "this group");
	if (!err && *t->at == ':')
		err = copy(t, 1);
	return err;
}

static int translate_group(struct translation *t)
{
	int err;

	if (t->depth == GROUPS_MAX)
		return refuse(t, "nesting as deep as this");
	t->groups[t->depth++] = t->out->length;
	if (t->at[1] == '*')
		return refuse(t, "(*");
	if (t->at[1] != '?')
		return copy(t, 1);
	if (strncmp(t->at + 2, "<=", 2) == 0 ||
	    strncmp(t->at + 2, "<!", 2) == 0)
		return copy(t, 4);
	if (t->at[2] && strchr(":=!>", t->at[2]))
		return copy(t, 3);
	if (t->at[2] == '<') {
		size_t name = strcspn(t->at + 3, ">)");

		return copy(t, 3 + name + (t->at[3 + name] == '>'));
	}
	err = copy(t, 2);
	return err ? err : translate_options(t);
}

static int wrap_atom(struct translation *t)
{
	static const char open[] = "(?:";
	int err = put(t, "   ");
	char *data = t->out->data;

	if (err)
		return err;
	memmove(data + t->atom + 3, data + t->atom,
		t->out->length - 3 - t->atom);
	memcpy(data + t->atom, open, 3);
	return put(t, ")");
}

/* {n}, {n,}, {,m} and {n,m}; a + behind repeats it, and is not possessive. */
static int translate_interval(struct translation *t)
{
	size_t low = strspn(t->at + 1, "0123456789"), length = 1 + low;
	size_t high = 0;
	int err;

	if (t->at[length] == ',') {
		high = strspn(t->at + length + 1, "0123456789");
		length += 1 + high;
	}
	if (t->at[length] != '}' || (!low && !high)) {
		t->atom = t->out->length;
		t->at++;
		return put(t, "\\{");
	}
	if (low) {
		err = copy(t, length + 1);
	} else {
		err = put(t, "{0");
		t->at++;
		if (!err)
			err = copy(t, length);
	}
	if (!err && *t->at == '+')
		err = wrap_atom(t);
	return err;
}

static int translate_next(struct translation *t)
{
	switch (*t->at) {
	case '{':
		return translate_interval(t);
	case '*':
	case '+':
	case '?':
		return copy(t, 1);
	case ')':
		if (!t->depth)
			return refuse(t, ") without its (");
		t->atom = t->groups[--t->depth];
		return copy(t, 1);
	}
	if (((unsigned char)*t->at & 0xC0) != 0x80)
		t->atom = t->out->length;
	switch (*t->at) {
	case '\\':
		return translate_escape(t);
	case '[':
		return translate_class(t);
	case '(':
		return translate_group(t);
	default:
		return copy(t, 1);
	}
}

int pattern_translate(const char *expression, const char *origin,
		      struct byte_buffer *out)
{
	struct translation t = {.origin = origin, .at = expression, .out = out};
	int err = 0;

	while (*t.at && !err)
		err = translate_next(&t);
	return err;
}
