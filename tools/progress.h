/*
 * A progress line on stderr.
 *
 * On a terminal one line is rewritten at most every 0.1 s, cut to the
 * terminal's width: "train  42% |####      | 42/100 [00:10<00:14, 4.1 step/s] loss 2.31".
 * Elsewhere (no terminal, TERM=dumb) a plain line now and then. The log
 * clears the line before it writes and the next update draws it again. One
 * at a time per process.
 */
#ifndef STAGECOACH_TOOLS_PROGRESS_H
#define STAGECOACH_TOOLS_PROGRESS_H

#include "base/compiler.h"

struct progress {
	const char *label; /* "train" */
	const char *unit;  /* "step"; "B" prints bytes with MB/s */
	uint64_t first;    /* where this run began (a resumed one) */
	uint64_t total;    /* 0: not known */
	double plain_interval_seconds; /* between plain lines; 0: 5 s */
	/* The rest is the implementation's. */
	uint64_t done;
	int64_t begin_ns, shown_ns;
	bool terminal;
	char note[96]; /* the last one, for progress_end() */
};

/* Set label, unit, first, total (and the interval) before. */
void progress_begin(struct progress *progress);

/* `note` (NULL: none) stands at the end of the line. Cheap when not shown. */
void progress_update(struct progress *progress, uint64_t done,
		     const char *note);

/* The last state, shown for good, and a newline. */
void progress_end(struct progress *progress);

#endif
