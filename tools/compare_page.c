#include "tools/compare_page.h"
#include "tools/page.h"
#include "tools/pages/pages.h"

#include <string.h>

int compare_page_write(const char *path, const json_t *document)
{
	const char *title =
		json_string_value(json_object_get(document, "title"));
	const char *rest = page_compare_html;
	struct text_builder page;
	int error;

	text_builder_init(&page);
	rest = page_append_until(&page, rest, "@TITLE@");
	page_append_text(&page, title ? title : "");
	rest = page_fill(&page, rest, "@LOOK@", page_look_css);
	rest = page_append_until(&page, rest, "@DOCUMENT@");
	error = page_append_json(&page, document);
	rest = page_fill(&page, rest, "@THEMES@", page_themes_js);
	text_builder_append_bytes(&page, rest, strlen(rest));
	return page_write(path, &page, error);
}
