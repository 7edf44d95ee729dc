#include "tools/page.h"
#include "base/files.h"
#include "base/log.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define REPLACEMENT "\xef\xbf\xbd" /* U+FFFD */

const char *page_append_until(struct text_builder *page, const char *from,
			      const char *mark)
{
	const char *at = strstr(from, mark);

	ASSERT(at != NULL);
	text_builder_append_bytes(page, from, (size_t)(at - from));
	return at + strlen(mark);
}

const char *page_fill(struct text_builder *page, const char *from,
		      const char *mark, const char *text)
{
	const char *rest = page_append_until(page, from, mark);

	text_builder_append_bytes(page, text, strlen(text));
	return rest;
}

static void append_character(struct text_builder *page, char character)
{
	switch (character) {
	case '<':
		text_builder_append(page, "&lt;");
		return;
	case '>':
		text_builder_append(page, "&gt;");
		return;
	case '&':
		text_builder_append(page, "&amp;");
		return;
	case '"':
		text_builder_append(page, "&quot;");
		return;
	default:
		break;
	}
	if (((unsigned char)character < ' ' && character != '\n' &&
	     character != '\t') ||
	    character == 127)
		text_builder_append(page, REPLACEMENT);
	else
		text_builder_append_bytes(page, &character, 1);
}

void page_append_text(struct text_builder *page, const char *text)
{
	size_t length = strlen(text);

	while (length) {
		size_t good = length;

		(void)!text_is_utf8(text, length, &good);
		for (size_t i = 0; i < good; i++)
			append_character(page, text[i]);
		if (good < length) {
			text_builder_append(page, REPLACEMENT);
			good++;
		}
		text += good;
		length -= good;
	}
}

/*
 * A '<' can stand in strings of JSON only, where \u003c is the same.
 */
int page_append_json(struct text_builder *page, const json_t *document)
{
	/* Seven digits of a timeline stay seven. */
	char *text =
		json_dumps(document, JSON_COMPACT | JSON_REAL_PRECISION(15));
	const char *at = text;

	if (text == NULL)
		return -ENOMEM;
	while (*at) {
		size_t plain = strcspn(at, "<");

		text_builder_append_bytes(page, at, plain);
		at += plain;
		if (*at == '<') {
			text_builder_append(page, "\\u003c");
			at++;
		}
	}
	free(text);
	return 0;
}

int page_write(const char *path, struct text_builder *page, int error)
{
	size_t length = page->length;
	char *data = text_builder_finish(page);

	if (error || data == NULL) {
		free(data);
		return fail(-ENOMEM, "%s: no memory for the page", path);
	}
	error = files_replace(path, data, length);
	free(data);
	return error;
}
