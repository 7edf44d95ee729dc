/* The corpus part of `stagecoach inspect`. */
#ifndef STAGECOACH_TOOLS_INSPECT_CORPUS_H
#define STAGECOACH_TOOLS_INSPECT_CORPUS_H

#include "base/compiler.h"

/*
 * Verifies a corpus (anything corpus_open() takes: digests, every id) and
 * prints what is in it, as lines or as one JSON object. 0 or negative errno.
 */
int inspect_corpus(const char *folder, bool json) MUST_CHECK;

#endif
