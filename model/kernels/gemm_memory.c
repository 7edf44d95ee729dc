#include "model/kernels/gemm_memory.h"
#include "base/log.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/*
 * What OpenBLAS expects of a buffer: BUFFER_SIZE of its common.h is 128 MiB on
 * x86-64 and arm64, address space rather than memory. The kernels cut their
 * operands to fit it; our tiles need a few MiB. Behind it lies a page that may
 * not be touched.
 */
#define BUFFER_BYTES  (GEMM_MEMORY_BYTES + ((size_t)8 << 20))
#define TOUCHED_BYTES ((size_t)12 << 20)

/*
 * A buffer is preceded by a page with this. The OpenMP build takes buffers on
 * one thread for others and keeps them: hence a list, and a flag anyone may
 * clear.
 */
struct buffer {
	struct buffer *next; /* of the same thread */
	atomic_bool used;
	bool touched;
};

struct thread_buffers {
	struct buffer *first;
	uint64_t requests;
};

static _Thread_local struct thread_buffers own;
static pthread_once_t key_once = PTHREAD_ONCE_INIT;
static pthread_key_t key;
static int key_error;

static size_t page_bytes(void)
{
	return (size_t)sysconf(_SC_PAGESIZE);
}

static void *buffer_memory(struct buffer *buffer)
{
	return (unsigned char *)buffer + page_bytes();
}

/* Runs when a thread ends. What the library still holds stays. */
static void buffers_destroy(void *argument)
{
	struct thread_buffers *buffers = argument;
	struct buffer *buffer = buffers->first;

	buffers->first = NULL;
	while (buffer != NULL) {
		struct buffer *next = buffer->next;

		if (!atomic_load(&buffer->used))
			munmap(buffer, BUFFER_BYTES + 2 * page_bytes());
		buffer = next;
	}
}

static void key_create(void)
{
	key_error = pthread_key_create(&key, buffers_destroy);
}

/* NULL: no memory. */
static struct buffer *buffer_map(void)
{
	size_t bytes = BUFFER_BYTES + 2 * page_bytes();
	struct buffer *buffer;
	unsigned char *base;

	pthread_once(&key_once, key_create);
	if (key_error != 0 || pthread_setspecific(key, &own) != 0)
		return NULL;
	base = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
		    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (base == MAP_FAILED)
		return NULL;
	if (mprotect(base + bytes - page_bytes(), page_bytes(), PROT_NONE) !=
	    0) {
		munmap(base, bytes);
		return NULL;
	}
	buffer = (struct buffer *)(void *)base;
	buffer->next = own.first;
	own.first = buffer;
	return buffer;
}

/* One that is not in use, of the calling thread. */
static struct buffer *buffer_find(void)
{
	for (struct buffer *buffer = own.first; buffer != NULL;
	     buffer = buffer->next)
		if (!atomic_load_explicit(&buffer->used, memory_order_acquire))
			return buffer;
	return buffer_map();
}

int gemm_memory_prepare(bool touch)
{
	struct buffer *buffer = buffer_find();

	if (buffer == NULL)
		return fail(-ENOMEM,
			    "no %zu MiB of address space for the work memory "
			    "of matrix products (see ulimit -v)",
			    BUFFER_BYTES >> 20);
	if (touch && !buffer->touched)
		memset(buffer_memory(buffer), 0, TOUCHED_BYTES);
	buffer->touched |= touch;
	return 0;
}

/* Never fails, like the library's own way here. */
void *gemm_memory_borrow(void)
{
	struct buffer *buffer = buffer_find();

	ASSERT(buffer != NULL);
	return buffer_memory(buffer);
}

uint64_t gemm_memory_requests(void)
{
	return own.requests;
}

/*
 * OpenBLAS's driver/others/memory.c has these two; being in the program, ours
 * come first for the dynamic linker. Weak, so that a static OpenBLAS links.
 */
__attribute__((weak, visibility("default"))) void *blas_memory_alloc(int place);
__attribute__((weak, visibility("default"))) void blas_memory_free(void *base);

/* Never fails: OpenBLAS does not check. Without memory there is no way on. */
void *blas_memory_alloc(int place)
{
	struct buffer *buffer = buffer_find();

	(void)place;
	ASSERT(buffer != NULL);
	own.requests++;
	atomic_store_explicit(&buffer->used, true, memory_order_relaxed);
	return buffer_memory(buffer);
}

void blas_memory_free(void *base)
{
	struct buffer *buffer =
		(struct buffer *)(void *)((unsigned char *)base - page_bytes());

	atomic_store_explicit(&buffer->used, false, memory_order_release);
}
