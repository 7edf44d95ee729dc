/*
 * Counts what a process allocates while it is told to: calls of the malloc
 * family, by whichever thread and library, and the system calls that give or
 * take address space (mmap, munmap, mremap, brk), also where a library makes
 * them without the C library.
 *
 * One thread can be left out (count_leave_out()): the supervisor, where it
 * shares the process with the ranks it watches.
 */
#ifndef STAGECOACH_TESTS_STEP_PATH_COUNT_H
#define STAGECOACH_TESTS_STEP_PATH_COUNT_H

#include "base/compiler.h"

struct count {
	uint64_t calls;    /* of the malloc family; freeing is none */
	uint64_t mappings; /* of mmap, munmap, mremap, brk */
	uint64_t left_out; /* both, by the thread left out */
};

/*
 * Once a process, before it starts threads. Returns 0; -errno where the
 * kernel does not report system calls to us (mappings stay 0 then), after
 * which the malloc family is counted all the same. The threads and programs
 * this one starts are subject to it too.
 */
int count_begin(void) MUST_CHECK;

void count_leave_out(void); /* the calling thread */

/* Between these it counts; they nest, over all threads. */
void count_open(void);
void count_close(void);

/* Where the first ones came from goes to stderr; default: it does. */
void count_set_quiet(bool quiet);

struct count count_read(void);

#endif
