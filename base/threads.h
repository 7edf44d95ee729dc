/*
 * A team of threads that shares loops.
 *
 * The caller is thread 0 and takes part; a team of 1 has no other thread and
 * costs nothing. Between loops the workers spin for a short adaptive time and
 * then sleep on a futex. Which thread runs which index is free, hence a
 * task's result must depend on its index alone.
 *
 * A team belongs to one caller at a time. Every thread of a team has the
 * floating-point state (MXCSR: flush to zero, denormals are zero) the bits
 * law asks for; threads_set_float_state() sets it for a thread of one's own.
 */
#ifndef STAGECOACH_BASE_THREADS_H
#define STAGECOACH_BASE_THREADS_H

#include "base/compiler.h"

#define THREADS_MAX 256

struct threads; /* the team */

/*
 * count in [1, THREADS_MAX]. `cores`, if not NULL, has count entries: thread i is
 * pinned to cores[i] (-1: not pinned), the caller too. Allocates; everything
 * after that does not.
 */
int threads_create(unsigned count, const int *cores,
		   struct threads **out) MUST_CHECK;
void threads_destroy(struct threads *threads);
unsigned threads_count(const struct threads *threads);

/*
 * Calls task(argument, index, thread) once for each index in [0, tasks) and
 * returns when all are done. Indexes are handed out one by one, ascending.
 * `thread` in [0, count) names the thread, for its scratch memory. Not
 * reentrant.
 */
typedef void threads_task_fn(void *argument, size_t index, unsigned thread);
void threads_run(struct threads *threads, size_t tasks, threads_task_fn *task,
		 void *argument);

/* Calls task(argument, t, t) exactly once on each thread t of the team. */
void threads_run_each(struct threads *threads, threads_task_fn *task,
		      void *argument);

void threads_set_float_state(void);

/* Cores this process may run on: their number, and their ids. */
unsigned threads_available_cores(int *cores, unsigned capacity);

/*
 * Asks that the calling thread alone goes before others when the cores are
 * busy. For threads that mostly sleep. Where that is not allowed it stays as it
 * is. threads_restore_priority() takes what it returned.
 */
int threads_raise_priority(void);
void threads_restore_priority(int before);

#endif
