/*
 * Small macros every floor uses. No functions, no state.
 */
#ifndef STAGECOACH_BASE_COMPILER_H
#define STAGECOACH_BASE_COMPILER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define ARRAY_SIZE(array) (sizeof(array) / sizeof((array)[0]))
#define MIN(a, b)         ((a) < (b) ? (a) : (b))
#define MAX(a, b)         ((a) > (b) ? (a) : (b))

#define CACHE_LINE_BYTES 64
#define PRINTF_LIKE(position, first)                                           \
	__attribute__((format(printf, position, first)))
#define MUST_CHECK __attribute__((warn_unused_result))

/*
 * A bug in this program: prints where, and aborts. Never for bytes that came
 * from a peer or a file; those get an error code and a message.
 */
#define ASSERT(condition)                                                      \
	do {                                                                   \
		if (!(condition))                                              \
			base_assert_failed(#condition, __FILE__, __LINE__);    \
	} while (0)

_Noreturn void base_assert_failed(const char *condition, const char *file,
				  int line);

#endif
