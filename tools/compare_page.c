#include "tools/compare_page.h"
#include "base/files.h"
#include "base/log.h"
#include "base/text.h"
#include "tools/pages/pages.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* What the template has in place of the title and of the comparison. */
#define TITLE_MARK    "@TITLE@"
#define DOCUMENT_MARK "@DOCUMENT@"

/* As text of HTML. */
static void append_text(struct text_builder *page, const char *text)
{
	for (; *text; text++)
		switch (*text) {
		case '<':
			text_builder_append(page, "&lt;");
			break;
		case '>':
			text_builder_append(page, "&gt;");
			break;
		case '&':
			text_builder_append(page, "&amp;");
			break;
		default:
			text_builder_append_bytes(page, text, 1);
		}
}

/*
 * JSON within <script>: a '<' can stand in strings only, where \u003c is the
 * same; without one neither "</script" nor "<!--" can be.
 */
static int append_json(struct text_builder *page, const json_t *document)
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

/* Appends the template up to a mark, and returns what follows the mark. */
static const char *append_until(struct text_builder *page, const char *from,
				const char *mark)
{
	const char *at = strstr(from, mark);

	ASSERT(at != NULL);
	text_builder_append_bytes(page, from, (size_t)(at - from));
	return at + strlen(mark);
}

int compare_page_write(const char *path, const json_t *document)
{
	const char *title =
		json_string_value(json_object_get(document, "title"));
	const char *rest = page_compare_html;
	struct text_builder page;
	size_t length;
	char *data;
	int error;

	text_builder_init(&page);
	rest = append_until(&page, rest, TITLE_MARK);
	append_text(&page, title ? title : "");
	rest = append_until(&page, rest, DOCUMENT_MARK);
	error = append_json(&page, document);
	text_builder_append_bytes(&page, rest, strlen(rest));
	length = page.length;
	data = text_builder_finish(&page);
	if (error || data == NULL) {
		free(data);
		return fail(-ENOMEM, "%s: no memory for the page", path);
	}
	error = files_replace(path, data, length);
	free(data);
	return error;
}
