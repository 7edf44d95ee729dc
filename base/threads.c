#include "base/threads.h"

#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"

/*
 * How a loop is shared. The 64-bit ticket holds (generation, next index); a
 * thread takes an index by compare-and-swap. The caller waits until every
 * index has been completed, not until every worker has looked: a worker the
 * kernel did not run in time costs nothing. Such a late worker may see the
 * description of a newer loop half written; its compare-and-swap then fails,
 * for the ticket is closed before the description changes, and opened after.
 */
#define CLOSED      UINT32_MAX       /* in place of the next index: no loop */
#define EACH        (UINT32_MAX - 1) /* each thread its own index, once */
#define RAISED_NICE (-10)
#define SPIN_MIN_NS (2 * NS_PER_US)
#define SPIN_MAX_NS (100 * NS_PER_US)

struct worker {
	struct threads *team;
	pthread_t thread;
	unsigned index;
	uint32_t each_generation; /* the last threads_run_each() served */
	int64_t spin_ns;
} __attribute__((aligned(CACHE_LINE_BYTES)));

struct threads {
	unsigned count;
	unsigned started; /* workers that exist, for destroy */
	bool busy;        /* a loop is running: not reentrant */
	bool pinned;
	cpu_set_t caller_cores; /* as it was, for destroy */
	int64_t caller_spin_ns;

	/* The description of the loop; read by late workers too. */
	_Atomic(threads_task_fn *) task __attribute__((aligned(64)));
	_Atomic(void *) argument;
	_Atomic uint32_t tasks;
	_Atomic bool stop;

	_Atomic uint64_t ticket __attribute__((aligned(64)));
	_Atomic uint32_t completed __attribute__((aligned(64)));
	_Atomic uint32_t caller_sleeps;
	_Atomic uint32_t published __attribute__((aligned(64))); /* futex */
	_Atomic uint32_t sleepers;

	struct worker workers[]; /* count; [0] is unused, the caller's */
};

static void futex_wait(_Atomic uint32_t *word, uint32_t expected)
{
	syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, expected, NULL, NULL, 0);
}

static void futex_wake(_Atomic uint32_t *word, int count)
{
	syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, count, NULL, NULL, 0);
}

static inline void relax(void)
{
#if defined(__x86_64__)
	__builtin_ia32_pause();
#elif defined(__aarch64__)
	__asm__ volatile("isb" ::: "memory");
#endif
}

void threads_set_float_state(void)
{
#if defined(__x86_64__)
	/* MXCSR: flush to zero is bit 15, denormals are zero bit 6. */
	__builtin_ia32_ldmxcsr(__builtin_ia32_stmxcsr() | 0x8040u);
#elif defined(__aarch64__)
	uint64_t fpcr;

	__asm__ volatile("mrs %0, fpcr" : "=r"(fpcr));
	fpcr |= (uint64_t)1 << 24; /* FZ */
	__asm__ volatile("msr fpcr, %0" ::"r"(fpcr));
#endif
}

/*
 * Waits until *word differs from `old`, and returns it. Spins for *spin_ns,
 * which grows where spinning would have been (or was) enough and shrinks
 * where it was in vain.
 */
static uint32_t wait_for_change(_Atomic uint32_t *word, uint32_t old,
				_Atomic uint32_t *sleepers, int64_t *spin_ns)
{
	int64_t start = clock_now_ns();
	int64_t waited = 0;
	uint32_t value;
	int i;

	do {
		for (i = 0; i < 32; i++) {
			value = atomic_load_explicit(word,
						     memory_order_acquire);
			if (value != old)
				goto out;
			relax();
		}
		waited = clock_now_ns() - start;
	} while (waited < *spin_ns);

	atomic_fetch_add(sleepers, 1);
	while ((value = atomic_load(word)) == old)
		futex_wait(word, old);
	atomic_fetch_sub(sleepers, 1);
	waited = clock_now_ns() - start;
out:
	if (waited < SPIN_MAX_NS)
		*spin_ns = MIN(2 * *spin_ns, SPIN_MAX_NS);
	else
		*spin_ns = MAX(*spin_ns / 2, SPIN_MIN_NS);
	return value;
}

/* Takes indexes until there are none; returns how many it completed. */
static uint32_t take_indexes(struct threads *team, unsigned thread)
{
	uint64_t ticket = atomic_load(&team->ticket);
	uint32_t done = 0;

	for (;;) {
		uint32_t next = (uint32_t)ticket;
		threads_task_fn *task;
		void *argument;

		if (next >= EACH || next >= atomic_load(&team->tasks))
			return done;
		task = atomic_load(&team->task);
		argument = atomic_load(&team->argument);
		if (!atomic_compare_exchange_weak(&team->ticket, &ticket,
						  ticket + 1))
			continue;
		task(argument, next, thread);
		done++;
		ticket = atomic_load(&team->ticket);
	}
}

static void worker_serve(struct worker *self)
{
	struct threads *team = self->team;
	uint64_t ticket = atomic_load(&team->ticket);
	uint32_t done = 0;

	if ((uint32_t)ticket != EACH) {
		done = take_indexes(team, self->index);
	} else if (self->each_generation != (uint32_t)(ticket >> 32)) {
		/* This loop waits for us: its description cannot change. */
		threads_task_fn *task = atomic_load(&team->task);

		self->each_generation = (uint32_t)(ticket >> 32);
		task(atomic_load(&team->argument), self->index, self->index);
		done = 1;
	}
	if (done > 0) {
		atomic_fetch_add(&team->completed, done);
		if (atomic_load(&team->caller_sleeps) > 0)
			futex_wake(&team->completed, 1);
	}
}

static void *worker_main(void *argument)
{
	struct worker *self = argument;
	struct threads *team = self->team;
	uint32_t seen = 0;

	threads_set_float_state();
	for (;;) {
		seen = wait_for_change(&team->published, seen, &team->sleepers,
				       &self->spin_ns);
		if (atomic_load(&team->stop))
			return NULL;
		worker_serve(self);
	}
}

static void publish(struct threads *team, int wake)
{
	atomic_fetch_add(&team->published, 1);
	if (atomic_load(&team->sleepers) > 0)
		futex_wake(&team->published, wake);
}

static void team_run(struct threads *team, uint32_t tasks, bool each,
		     threads_task_fn *task, void *argument)
{
	uint64_t generation = (atomic_load(&team->ticket) >> 32) + 1;
	uint32_t done;
	uint32_t completed;

	ASSERT(!team->busy);
	team->busy = true;
	generation = (generation & UINT32_MAX) << 32;
	atomic_store(&team->ticket, generation | CLOSED);
	atomic_store(&team->task, task);
	atomic_store(&team->argument, argument);
	atomic_store(&team->tasks, tasks);
	atomic_store(&team->completed, 0);
	atomic_store(&team->ticket, generation | (each ? EACH : 0));
	publish(team, (int)MIN(tasks - 1, (uint32_t)THREADS_MAX));

	if (each) {
		task(argument, 0, 0);
		done = 1;
	} else {
		done = take_indexes(team, 0);
	}
	completed = atomic_fetch_add(&team->completed, done) + done;
	while (completed != tasks)
		completed = wait_for_change(&team->completed, completed,
					    &team->caller_sleeps,
					    &team->caller_spin_ns);
	team->busy = false;
}

void threads_run(struct threads *threads, size_t tasks, threads_task_fn *task,
		 void *argument)
{
	size_t i;

	if (tasks == 0)
		return;
	if (tasks == 1 || threads->count == 1) {
		for (i = 0; i < tasks; i++)
			task(argument, i, 0);
		return;
	}
	ASSERT(tasks < EACH);
	team_run(threads, (uint32_t)tasks, false, task, argument);
}

void threads_run_each(struct threads *threads, threads_task_fn *task,
		      void *argument)
{
	if (threads->count == 1)
		task(argument, 0, 0);
	else
		team_run(threads, threads->count, true, task, argument);
}

unsigned threads_count(const struct threads *threads)
{
	return threads->count;
}

/* A core that cannot be had costs speed, not correctness: a warning. */
static void pin(pthread_t thread, unsigned index, int core)
{
	cpu_set_t cores;
	int error = EINVAL;

	if (core < 0)
		return;
	if (core < CPU_SETSIZE) {
		CPU_ZERO(&cores);
		CPU_SET(core, &cores);
		error = pthread_setaffinity_np(thread, sizeof(cores), &cores);
	}
	if (error)
		log_warning("cannot pin thread %u to core %d: %s", index, core,
			    strerror(error));
}

static int start_workers(struct threads *team, const int *cores)
{
	sigset_t all;
	sigset_t before;
	int error = 0;

	/* Signals are for the program's own threads, not for workers. */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	while (team->started < team->count) {
		struct worker *worker = &team->workers[team->started];

		error = pthread_create(&worker->thread, NULL, worker_main,
				       worker);
		if (error)
			break;
		if (cores)
			pin(worker->thread, worker->index,
			    cores[worker->index]);
		team->started++;
	}
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (error)
		return fail(-error, "cannot start thread %u of %u: %s",
			    team->started, team->count, strerror(error));
	return 0;
}

static void stop_workers(struct threads *team)
{
	unsigned i;

	atomic_store(&team->stop, true);
	publish(team, INT_MAX);
	for (i = 1; i < team->started; i++)
		pthread_join(team->workers[i].thread, NULL);
}

static struct threads *team_allocate(unsigned count)
{
	size_t bytes = sizeof(struct threads) + count * sizeof(struct worker);
	struct threads *team;
	unsigned i;

	team = aligned_alloc(CACHE_LINE_BYTES, (bytes + CACHE_LINE_BYTES - 1) /
						       CACHE_LINE_BYTES *
						       CACHE_LINE_BYTES);
	if (!team)
		return NULL;
	memset(team, 0, bytes);
	team->count = count;
	team->started = 1; /* the caller */
	team->caller_spin_ns = SPIN_MAX_NS / 4;
	atomic_store(&team->ticket, CLOSED);
	for (i = 0; i < count; i++) {
		team->workers[i].team = team;
		team->workers[i].index = i;
		team->workers[i].spin_ns = SPIN_MAX_NS / 4;
	}
	return team;
}

int threads_create(unsigned count, const int *cores, struct threads **out)
{
	struct threads *team;
	int code;

	if (count < 1 || count > THREADS_MAX)
		return fail(-EINVAL, "%u threads asked for, expected 1 to %d",
			    count, THREADS_MAX);
	team = team_allocate(count);
	if (!team)
		return fail(-ENOMEM, "no memory for a team of %u threads",
			    count);
	code = start_workers(team, cores);
	if (code) {
		stop_workers(team);
		free(team);
		return code;
	}
	/* Last: a thread inherits the cores of the one that creates it. */
	if (cores && cores[0] >= 0 &&
	    pthread_getaffinity_np(pthread_self(), sizeof(team->caller_cores),
				   &team->caller_cores) == 0) {
		team->pinned = true;
		pin(pthread_self(), 0, cores[0]);
	}
	threads_set_float_state();
	*out = team;
	return 0;
}

void threads_destroy(struct threads *threads)
{
	if (!threads)
		return;
	stop_workers(threads);
	if (threads->pinned)
		pthread_setaffinity_np(pthread_self(),
				       sizeof(threads->caller_cores),
				       &threads->caller_cores);
	free(threads);
}

unsigned threads_available_cores(int *cores, unsigned capacity)
{
	cpu_set_t sets[16]; /* 16,384 cores: more than one set may be needed */
	unsigned count = 0;
	int core;

	memset(sets, 0, sizeof(sets));
	if (sched_getaffinity(0, sizeof(sets), sets) != 0) {
		if (cores && capacity > 0)
			cores[0] = 0;
		return 1;
	}
	for (core = 0; core < (int)(8 * sizeof(sets)); core++) {
		if (!CPU_ISSET_S(core, sizeof(sets), sets))
			continue;
		if (cores && count < capacity)
			cores[count] = core;
		count++;
	}
	return count;
}

int threads_raise_priority(void)
{
	id_t self = (id_t)gettid();
	int before = getpriority(PRIO_PROCESS, self);

	if (before > RAISED_NICE &&
	    setpriority(PRIO_PROCESS, self, RAISED_NICE) < 0)
		log_debug("a thread stays at nice %d: %s", before,
			  strerror(errno));
	return before;
}

void threads_restore_priority(int before)
{
	if (setpriority(PRIO_PROCESS, (id_t)gettid(), before) < 0)
		log_debug("back to nice %d: %s", before, strerror(errno));
}
