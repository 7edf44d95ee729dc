/*
 * The log: lines on stderr, and the text of the last error.
 *
 * Errors travel as negative errno; the function that detects one logs it once,
 * in full (what, where, what to do), and callers pass the code on. The text
 * of the last error a thread logged stays readable, so that a rank can tell
 * the others why it stopped.
 *
 * Every thread may carry an identity ("rank 1 (stage 1)"), which prefixes its
 * lines; stages that run as threads of one process each set their own.
 */
#ifndef STAGECOACH_BASE_LOG_H
#define STAGECOACH_BASE_LOG_H

#include "base/compiler.h"

enum log_level {
	LOG_ERROR,
	LOG_WARNING,
	LOG_INFO,
	LOG_DEBUG,
};

/* Lines above this level are dropped; the default is LOG_INFO. */
void log_set_level(enum log_level level);

/* Copies at most 63 bytes; "" removes it. Belongs to the calling thread. */
void log_set_identity(const char *identity);
const char *log_identity(void);

/*
 * Receives every line that passes the level, without newline, instead of
 * stderr. NULL restores stderr. The function may be called from any thread.
 */
typedef void log_sink_fn(void *argument, enum log_level level,
			 const char *line);
void log_set_sink(log_sink_fn *sink, void *argument);

void log_write(enum log_level level, const char *format, ...) PRINTF_LIKE(2, 3);
#define log_error(...)   log_write(LOG_ERROR, __VA_ARGS__)
#define log_warning(...) log_write(LOG_WARNING, __VA_ARGS__)
#define log_info(...)    log_write(LOG_INFO, __VA_ARGS__)
#define log_debug(...)   log_write(LOG_DEBUG, __VA_ARGS__)

/*
 * Logs an error and returns the code: `return fail(-EINVAL, "...", ...)`.
 * Code must be negative.
 */
int fail(int code, const char *format, ...) PRINTF_LIKE(2, 3);

/*
 * Text of the last error this thread logged ("" if none), without identity;
 * valid until its next error. log_clear_last_error() empties it.
 */
const char *log_last_error(void);
void log_clear_last_error(void);

/*
 * While a progress line stands on the terminal the log asks to clear it
 * before each line it writes. NULL removes the function.
 */
void log_set_before_line(void (*clear)(void));

#endif
