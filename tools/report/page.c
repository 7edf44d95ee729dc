#include "tools/report/page.h"
#include "tools/page.h"
#include "tools/pages/pages.h"
#include "tools/report/sections.h"

#include <string.h>

static void append_body(struct text_builder *page, const struct report *report)
{
	sections_append_head(page, report);
	text_builder_append(page, "<main>\n");
	sections_append_tiles(page, report);
	sections_append_curves(page, report);
	sections_append_time(page, report);
	sections_append_memory(page, report);
	sections_append_layers(page, report);
	sections_append_history(page, report);
	sections_append_options(page, report);
	sections_append_steps(page, report);
	text_builder_append(page, "</main>\n");
}

int report_page_write(const char *path, const struct report *report)
{
	const char *rest = page_report_html;
	char name[256];
	struct text_builder page;

	sections_run_name(report, name, sizeof(name));
	text_builder_init(&page);
	rest = page_append_until(&page, rest, "@TITLE@");
	page_append_text(&page, name);
	rest = page_fill(&page, rest, "@LOOK@", page_look_css);
	rest = page_append_until(&page, rest, "@BODY@");
	append_body(&page, report);
	rest = page_append_until(&page, rest, "@CURVES@");
	sections_append_data(&page, report);
	rest = page_fill(&page, rest, "@THEMES@", page_themes_js);
	text_builder_append_bytes(&page, rest, strlen(rest));
	return page_write(path, &page, 0);
}
