/*
 * Pages compiled into the program, so that it needs no files of its own when it
 * runs. tools/local.mk makes a string of each file of this folder.
 */
#ifndef STAGECOACH_TOOLS_PAGES_PAGES_H
#define STAGECOACH_TOOLS_PAGES_PAGES_H

extern const char page_compare_html[]; /* compare.html */
extern const char page_look_css[];     /* look.css: what all pages look like */
extern const char page_report_html[];  /* report.html */
extern const char page_themes_js[];    /* themes.js: what their scripts share */

#endif
