#include "tools/progress.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/text.h"

#define TERMINAL_INTERVAL_NS   (NS_PER_SECOND / 10)
#define PLAIN_INTERVAL_SECONDS 5.0
#define BAR_CELLS              10
#define LINE_BYTES             512

/* Whether a line stands on the terminal. The log's hook has no argument. */
static pthread_mutex_t line_lock = PTHREAD_MUTEX_INITIALIZER;
static bool line_stands;

static void put(const char *text, size_t length)
{
	(void)!write(STDERR_FILENO, text, length);
}

static void clear_line(void)
{
	pthread_mutex_lock(&line_lock);
	if (line_stands)
		put("\r\033[K", 4);
	line_stands = false;
	pthread_mutex_unlock(&line_lock);
}

static bool stderr_is_terminal(void)
{
	const char *term = getenv("TERM");
	const char *no_color = getenv("NO_COLOR");

	return isatty(STDERR_FILENO) && !(no_color && no_color[0]) && term &&
	       strcmp(term, "dumb") != 0;
}

static size_t terminal_width(void)
{
	struct winsize size;

	if (ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0)
		return size.ws_col;
	return 80;
}

void progress_begin(struct progress *progress)
{
	progress->done = progress->first;
	progress->begin_ns = clock_now_ns();
	progress->shown_ns = 0;
	progress->terminal = stderr_is_terminal();
	if (progress->terminal)
		log_set_before_line(clear_line);
	else /* the first plain line comes after one interval */
		progress->shown_ns = progress->begin_ns;
}

/* "1.2 MiB" or "1,200". */
static char *quantity(const struct progress *progress, uint64_t amount,
		      char *buffer, size_t size)
{
	if (!strcmp(progress->unit, "B"))
		return text_bytes(buffer, size, amount);
	return text_grouped(buffer, size, amount);
}

/* " 42% |####      | 42/100", or "42 steps" where the total is not known. */
static void format_share(const struct progress *progress, char *out,
			 size_t size)
{
	bool bytes = !strcmp(progress->unit, "B");
	uint64_t done = progress->done;
	char bar[BAR_CELLS + 1];
	char a[32];
	char b[32];
	double share;
	int cells;

	quantity(progress, done, a, sizeof(a));
	if (progress->total == 0) {
		snprintf(out, size, " %s%s%s", a, bytes ? "" : " ",
			 bytes ? "" : progress->unit);
		return;
	}
	share = (double)MIN(done, progress->total) / (double)progress->total;
	cells = (int)(share * BAR_CELLS);
	memset(bar, ' ', BAR_CELLS);
	memset(bar, '#', (size_t)cells);
	bar[BAR_CELLS] = '\0';
	snprintf(out, size, " %3d%% |%s| %s/%s", (int)(share * 100), bar, a,
		 quantity(progress, progress->total, b, sizeof(b)));
}

/* "00:10", "1:02:03". */
static char *clock_text(double seconds, char *buffer, size_t size)
{
	unsigned long long whole = seconds < 1e9
					   ? (unsigned long long)(seconds + 0.5)
					   : 1000000000ULL;

	if (whole < 3600)
		snprintf(buffer, size, "%02llu:%02llu", whole / 60, whole % 60);
	else
		snprintf(buffer, size, "%llu:%02llu:%02llu", whole / 3600,
			 whole / 60 % 60, whole % 60);
	return buffer;
}

/* " [00:10<00:14, 4.1 step/s]"; the rate is that of this run alone. */
static void format_time(const struct progress *progress, int64_t now_ns,
			char *out, size_t size)
{
	double seconds = clock_seconds(now_ns - progress->begin_ns);
	uint64_t here = progress->done > progress->first
				? progress->done - progress->first
				: 0;
	double rate = seconds > 0 ? (double)here / seconds : 0;
	char elapsed[32];
	char left[32];
	char speed[64];

	clock_text(seconds, elapsed, sizeof(elapsed));
	if (rate <= 0) {
		snprintf(out, size, " [%s]", elapsed);
		return;
	}
	if (!strcmp(progress->unit, "B"))
		snprintf(speed, sizeof(speed), "%.3g MB/s", rate / 1e6);
	else
		snprintf(speed, sizeof(speed), "%.3g %s/s", rate,
			 progress->unit);
	if (progress->total > progress->done)
		snprintf(out, size, " [%s<%s, %s]", elapsed,
			 clock_text((double)(progress->total - progress->done) /
					    rate,
				    left, sizeof(left)),
			 speed);
	else
		snprintf(out, size, " [%s, %s]", elapsed, speed);
}

static void format_line(const struct progress *progress, int64_t now_ns,
			const char *note, char line[LINE_BYTES])
{
	char share[128];
	char time[160];

	format_share(progress, share, sizeof(share));
	format_time(progress, now_ns, time, sizeof(time));
	snprintf(line, LINE_BYTES, "%s%s%s%s%s", progress->label, share, time,
		 note ? " " : "", note ? note : "");
}

static void draw(const char *line)
{
	char out[LINE_BYTES + 8];
	size_t width = terminal_width();
	size_t length = strlen(line);

	/* A full last column would wrap, and \r would return too low. */
	length = MIN(length, width > 1 ? width - 1 : 1);
	out[0] = '\r';
	memcpy(out + 1, line, length);
	memcpy(out + 1 + length, "\033[K", 3);
	pthread_mutex_lock(&line_lock);
	put(out, length + 4);
	line_stands = true;
	pthread_mutex_unlock(&line_lock);
}

static int64_t interval_ns(const struct progress *progress)
{
	double seconds = progress->plain_interval_seconds > 0
				 ? progress->plain_interval_seconds
				 : PLAIN_INTERVAL_SECONDS;

	if (progress->terminal)
		return TERMINAL_INTERVAL_NS;
	return (int64_t)(seconds * (double)NS_PER_SECOND);
}

static void show(struct progress *progress, int64_t now_ns, const char *note)
{
	char line[LINE_BYTES];

	format_line(progress, now_ns, note, line);
	progress->shown_ns = now_ns;
	if (progress->terminal)
		draw(line);
	else
		log_info("%s", line);
}

void progress_update(struct progress *progress, uint64_t done, const char *note)
{
	int64_t now = clock_now_ns();

	progress->done = done;
	(void)!text_copy(progress->note, sizeof(progress->note),
			 note ? note : "");
	if (progress->shown_ns &&
	    now - progress->shown_ns < interval_ns(progress))
		return;
	show(progress, now, note);
}

void progress_end(struct progress *progress)
{
	show(progress, clock_now_ns(),
	     progress->note[0] ? progress->note : NULL);
	if (!progress->terminal)
		return;
	pthread_mutex_lock(&line_lock);
	put("\n", 1);
	line_stands = false;
	pthread_mutex_unlock(&line_lock);
	log_set_before_line(NULL);
}
