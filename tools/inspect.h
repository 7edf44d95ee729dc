/*
 * The parts of `stagecoach inspect` that live in files of their own.
 */
#ifndef STAGECOACH_TOOLS_INSPECT_H
#define STAGECOACH_TOOLS_INSPECT_H

#include "base/compiler.h"

/* A corpus: a prepared folder, or token shards. `verify` reads all of it. */
int inspect_corpus(const char *path, bool json, bool verify) MUST_CHECK;

#endif
