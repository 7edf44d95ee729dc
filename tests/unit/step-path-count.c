#include "step-path-count.h"

#include <errno.h>
#include <execinfo.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <malloc.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#define SHOWN  3 /* allocations whose callers are printed */
#define FRAMES 24

static atomic_uint windows;
static atomic_ullong calls, mappings, left_out;
static atomic_uint shown;
static atomic_int left_out_thread;
static atomic_bool quiet;
static _Thread_local bool in_report;

static bool is_left_out(int thread)
{
	return thread == atomic_load(&left_out_thread);
}

/* ---- the malloc family, in front of the C library's ---- */

static void show_caller(void)
{
	static const char head[] = "allocation in the step path:\n";
	void *frames[FRAMES];
	int count;

	if (atomic_load(&quiet) || atomic_fetch_add(&shown, 1) >= SHOWN)
		return;
	in_report = true;
	count = backtrace(frames, FRAMES);
	if (write(STDERR_FILENO, head, sizeof(head) - 1) > 0)
		backtrace_symbols_fd(frames, count, STDERR_FILENO);
	in_report = false;
}

static void note_call(void)
{
	if (atomic_load_explicit(&windows, memory_order_relaxed) == 0 ||
	    in_report)
		return;
	if (is_left_out((int)syscall(SYS_gettid))) {
		atomic_fetch_add(&left_out, 1);
		return;
	}
	atomic_fetch_add(&calls, 1);
	show_caller();
}

/* What glibc offers to those who stand in front of it. */
void *__libc_malloc(size_t size);
void *__libc_calloc(size_t count, size_t size);
void *__libc_realloc(void *old, size_t size);
void *__libc_memalign(size_t alignment, size_t size);

#define EXPORT __attribute__((visibility("default")))

EXPORT void *malloc(size_t size)
{
	note_call();
	return __libc_malloc(size);
}

EXPORT void *calloc(size_t count, size_t size)
{
	note_call();
	return __libc_calloc(count, size);
}

EXPORT void *realloc(void *old, size_t size)
{
	note_call();
	return __libc_realloc(old, size);
}

EXPORT void *memalign(size_t alignment, size_t size)
{
	note_call();
	return __libc_memalign(alignment, size);
}

EXPORT void *aligned_alloc(size_t alignment, size_t size)
{
	note_call();
	return __libc_memalign(alignment, size);
}

EXPORT void *valloc(size_t size)
{
	note_call();
	return __libc_memalign((size_t)sysconf(_SC_PAGESIZE), size);
}

EXPORT int posix_memalign(void **out, size_t alignment, size_t size)
{
	void *memory;

	note_call();
	if (alignment < sizeof(void *) || (alignment & (alignment - 1)))
		return EINVAL;
	memory = __libc_memalign(alignment, size);
	if (!memory)
		return ENOMEM;
	*out = memory;
	return 0;
}

/* ---- address space, told by the kernel (seccomp user notification) ---- */

struct listener {
	int fd;
	sem_t ready;
};

/* Answers "go on" to each; makes none of these calls itself. */
static void *listen_main(void *argument)
{
	struct listener *listener = argument;
	/* Their true sizes are the kernel's, and may grow. */
	union {
		struct seccomp_notif notice;
		char room[512];
	} in;
	union {
		struct seccomp_notif_resp answer;
		char room[512];
	} out;

	while (sem_wait(&listener->ready) < 0)
		;
	for (;;) {
		memset(&in, 0, sizeof(in));
		memset(&out, 0, sizeof(out));
		if (ioctl(listener->fd, SECCOMP_IOCTL_NOTIF_RECV, &in) < 0) {
			if (errno == EINTR || errno == ENOENT)
				continue;
			return NULL;
		}
		if (atomic_load(&windows) == 0)
			;
		else if (is_left_out((int)in.notice.pid))
			atomic_fetch_add(&left_out, 1);
		else
			atomic_fetch_add(&mappings, 1);
		out.answer.id = in.notice.id;
		out.answer.flags = SECCOMP_USER_NOTIF_FLAG_CONTINUE;
		/* Fails when the caller died or was interrupted: fine. */
		ioctl(listener->fd, SECCOMP_IOCTL_NOTIF_SEND, &out);
	}
}

static int install_filter(void)
{
	static struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS,
			 offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_mmap, 4, 0),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_munmap, 3, 0),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_mremap, 2, 0),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_brk, 1, 0),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_USER_NOTIF),
	};
	static const struct sock_fprog program = {
		.len = ARRAY_SIZE(code),
		.filter = code,
	};
	long fd;

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return -errno;
	fd = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER,
		     SECCOMP_FILTER_FLAG_NEW_LISTENER, &program);
	return fd < 0 ? -errno : (int)fd;
}

/* ---- for the test ---- */

int count_begin(void)
{
	static struct listener listener; /* the thread never ends */
	void *frames[1];
	pthread_t thread;
	int rc;

	(void)backtrace(frames, 1); /* loads a library the first time */
	if (sem_init(&listener.ready, 0, 0) < 0)
		return -errno;
	/* Before the filter: what it starts with is exempt from it. */
	rc = -pthread_create(&thread, NULL, listen_main, &listener);
	if (rc < 0)
		return rc;
	pthread_detach(thread);
	listener.fd = install_filter();
	if (listener.fd < 0)
		return listener.fd; /* the thread sleeps on */
	sem_post(&listener.ready);
	return 0;
}

void count_leave_out(void)
{
	atomic_store(&left_out_thread, (int)syscall(SYS_gettid));
}

void count_open(void)
{
	atomic_fetch_add(&windows, 1);
}

void count_close(void)
{
	atomic_fetch_sub(&windows, 1);
}

void count_set_quiet(bool be_quiet)
{
	atomic_store(&quiet, be_quiet);
}

struct count count_read(void)
{
	return (struct count){
		.calls = atomic_load(&calls),
		.mappings = atomic_load(&mappings),
		.left_out = atomic_load(&left_out),
	};
}
