/*
 * A fuzz target: one file with LLVMFuzzerTestOneInput(), as libFuzzer calls it
 * (llvm.org/docs/LibFuzzer.html), or driver.c where there is none.
 *
 * To add one: fuzz-NAME.c here, corpus/NAME/ with small seeds, NAME.dict with the
 * words of the format if there are any, and NAME in local.mk.
 */
#ifndef STAGECOACH_TESTS_FUZZ_H
#define STAGECOACH_TESTS_FUZZ_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

/* Returns 0. What is wrong with the code under test ends the process. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* As an assertion that no switch turns off: says what and where, and aborts. */
#define FUZZ_CHECK(condition)                                                  \
	do {                                                                   \
		if (!(condition)) {                                            \
			fprintf(stderr, "%s:%d: false: %s\n", __FILE__,        \
				__LINE__, #condition);                         \
			abort();                                               \
		}                                                              \
	} while (0)

#endif
