/*
 * Pages compiled into the program, so that it needs no files of its own when it
 * runs. tools/local.mk makes a string of each HTML file of this folder.
 */
#ifndef STAGECOACH_TOOLS_PAGES_PAGES_H
#define STAGECOACH_TOOLS_PAGES_PAGES_H

extern const char page_compare_html[]; /* compare.html */

#endif
