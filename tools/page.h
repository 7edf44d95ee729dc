/*
 * Pages of HTML: one file each, that needs no network. A page is made of a
 * template (tools/pages/), in which marks like @TITLE@ stand for what is
 * put in their places.
 */
#ifndef STAGECOACH_TOOLS_PAGE_H
#define STAGECOACH_TOOLS_PAGE_H

#include "base/json.h"
#include "base/text.h"

/*
 * Appends the template up to a mark, which is there, and returns what follows
 * the mark.
 */
const char *page_append_until(struct text_builder *page, const char *from,
			      const char *mark);

/* The same, with the text in place of the mark. */
const char *page_fill(struct text_builder *page, const char *from,
		      const char *mark, const char *text);

/*
 * As text of HTML, within an element or an attribute's double quotes: no
 * text can become markup. Bytes that are no UTF-8, and controls that HTML has
 * no place for, become U+FFFD.
 */
void page_append_text(struct text_builder *page, const char *text);

/* Within <script>: neither "</script" nor "<!--" can be. -ENOMEM, silent. */
int page_append_json(struct text_builder *page,
		     const json_t *document) MUST_CHECK;

/*
 * Writes the page durably, replacing what is there, or not at all: a negative
 * errno, logged. `error` (0: none) is what went wrong before; ends the builder
 * in any case.
 */
int page_write(const char *path, struct text_builder *page,
	       int error) MUST_CHECK;

#endif
