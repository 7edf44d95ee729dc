#include "base/log.h"

#include <errno.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/text.h"

#define LOG_LINE_BYTES 4096

/*
 * The log is the one place with process-wide state: a process has one stderr.
 * A line is formatted on the stack, so that logging allocates nothing.
 */
static struct {
	pthread_mutex_t lock; /* guards what follows and keeps lines whole */
	log_sink_fn *sink;
	void *argument;
	void (*clear)(void);
} log_state = {.lock = PTHREAD_MUTEX_INITIALIZER};
static _Atomic int log_level_now = LOG_INFO;

static _Thread_local char thread_identity[64];
static _Thread_local char thread_last_error[LOG_LINE_BYTES];
static _Thread_local bool thread_inside; /* a sink that logs: no recursion */

void log_set_level(enum log_level level)
{
	atomic_store(&log_level_now, (int)level);
}

void log_set_identity(const char *identity)
{
	(void)!text_copy(thread_identity, sizeof(thread_identity), identity);
}

const char *log_identity(void)
{
	return thread_identity;
}

void log_set_sink(log_sink_fn *sink, void *argument)
{
	pthread_mutex_lock(&log_state.lock);
	log_state.sink = sink;
	log_state.argument = argument;
	pthread_mutex_unlock(&log_state.lock);
}

void log_set_before_line(void (*clear)(void))
{
	pthread_mutex_lock(&log_state.lock);
	log_state.clear = clear;
	pthread_mutex_unlock(&log_state.lock);
}

/* One write a line: lines of several processes do not mingle. */
static void log_to_stderr(enum log_level level, const char *text)
{
	static const char *const words[] = {
		[LOG_ERROR] = "error: ",
		[LOG_WARNING] = "warning: ",
		[LOG_INFO] = "",
		[LOG_DEBUG] = "debug: ",
	};
	char line[LOG_LINE_BYTES + 128];
	size_t length;
	size_t done = 0;
	int printed =
		snprintf(line, sizeof(line), "%s%s\n", words[level], text);

	if (printed < 0)
		return;
	length = MIN((size_t)printed, sizeof(line) - 1);
	while (done < length) {
		ssize_t n = write(STDERR_FILENO, line + done, length - done);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return; /* nobody is left to tell */
		done += (size_t)n;
	}
}

/* Some messages begin with the rank, for those who log without identity. */
static bool names_itself(const char *message)
{
	size_t length = strlen(thread_identity);

	return !length || (strncmp(message, thread_identity, length) == 0 &&
			   message[length] == ':');
}

static void log_emit(enum log_level level, const char *message)
{
	bool named = names_itself(message);
	char line[LOG_LINE_BYTES + 72];

	if ((int)level > atomic_load(&log_level_now))
		return;
	snprintf(line, sizeof(line), "%s%s%s", named ? "" : thread_identity,
		 named ? "" : ": ", message);
	if (thread_inside) {
		log_to_stderr(level, line);
		return;
	}
	pthread_mutex_lock(&log_state.lock);
	thread_inside = true;
	if (log_state.sink) {
		log_state.sink(log_state.argument, level, line);
	} else {
		if (log_state.clear)
			log_state.clear();
		log_to_stderr(level, line);
	}
	thread_inside = false;
	pthread_mutex_unlock(&log_state.lock);
}

static void PRINTF_LIKE(2, 0)
	log_format(enum log_level level, const char *format, va_list arguments)
{
	char message[LOG_LINE_BYTES];
	int length = vsnprintf(message, sizeof(message), format, arguments);

	if (length < 0)
		(void)!text_copy(message, sizeof(message), format);
	else if ((size_t)length >= sizeof(message))
		memcpy(message + sizeof(message) - 4, "...", 4);
	if (level == LOG_ERROR)
		memcpy(thread_last_error, message, strlen(message) + 1);
	log_emit(level, message);
}

void log_write(enum log_level level, const char *format, ...)
{
	int saved = errno;
	va_list arguments;

	va_start(arguments, format);
	log_format(level, format, arguments);
	va_end(arguments);
	errno = saved;
}

int fail(int code, const char *format, ...)
{
	int saved = errno;
	va_list arguments;

	ASSERT(code < 0);
	va_start(arguments, format);
	log_format(LOG_ERROR, format, arguments);
	va_end(arguments);
	errno = saved;
	return code;
}

const char *log_last_error(void)
{
	return thread_last_error;
}

void log_clear_last_error(void)
{
	thread_last_error[0] = '\0';
}

void base_assert_failed(const char *condition, const char *file, int line)
{
	char text[512];

	/* Straight to stderr: the lock may be held by this very thread. */
	snprintf(text, sizeof(text),
		 "%s%sbug: %s:%d: '%s' does not hold; please report this",
		 thread_identity, thread_identity[0] ? ": " : "", file, line,
		 condition);
	log_to_stderr(LOG_ERROR, text);
	abort();
}
