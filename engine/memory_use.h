/*
 * What a process holds of the machine's memory, as the kernel counts it.
 */
#ifndef STAGECOACH_ENGINE_MEMORY_USE_H
#define STAGECOACH_ENGINE_MEMORY_USE_H

#include "base/compiler.h"

struct memory_use {
	uint64_t resident; /* now: its own pages and shared memory, not files */
	uint64_t peak;     /* the most so far, mapped files included (VmHWM) */
};

/* Of the calling process, from /proc/self/status; zeros where not known. */
void memory_use_read(struct memory_use *out);

/* From the text of such a file. */
void memory_use_parse(const char *text, struct memory_use *out);

#endif
