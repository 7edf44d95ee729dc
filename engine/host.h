/*
 * The machine this process runs on: memory that is still to be had.
 */
#ifndef STAGECOACH_ENGINE_HOST_H
#define STAGECOACH_ENGINE_HOST_H

#include "base/compiler.h"

/*
 * Bytes that can be had without swapping (MemAvailable of /proc/meminfo), or
 * what the control group this process is in still allows if that is less; 0:
 * not known.
 */
uint64_t host_memory_available(void);

#endif
