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
#define BUFFER_BYTES  ((size_t)136 << 20)
#define TOUCHED_BYTES ((size_t)12 << 20)

/* One product needs one buffer; the second is for routines that nest. */
#define BUFFERS 2

struct buffer {
	void *base;
	bool used;
};

struct thread_buffers {
	struct buffer buffer[BUFFERS];
	uint64_t requests;
};

static _Thread_local struct thread_buffers own;
static pthread_once_t key_once = PTHREAD_ONCE_INIT;
static pthread_key_t key;
static int key_error;

static size_t guard_bytes(void)
{
	return (size_t)sysconf(_SC_PAGESIZE);
}

static void buffer_unmap(void *base)
{
	munmap(base, BUFFER_BYTES + guard_bytes());
}

/* Runs when a thread ends. */
static void buffers_destroy(void *argument)
{
	struct thread_buffers *buffers = argument;

	for (size_t i = 0; i < BUFFERS; i++) {
		if (buffers->buffer[i].base != NULL)
			buffer_unmap(buffers->buffer[i].base);
		buffers->buffer[i].base = NULL;
	}
}

static void key_create(void)
{
	key_error = pthread_key_create(&key, buffers_destroy);
}

static int buffer_map(struct buffer *buffer)
{
	char *base;

	pthread_once(&key_once, key_create);
	if (key_error != 0)
		return -key_error;
	base = mmap(NULL, BUFFER_BYTES + guard_bytes(), PROT_READ | PROT_WRITE,
		    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (base == MAP_FAILED)
		return -errno;
	if (mprotect(base + BUFFER_BYTES, guard_bytes(), PROT_NONE) != 0)
		goto err_unmap;
	if (pthread_setspecific(key, &own) != 0)
		goto err_unmap;
	buffer->base = base;
	return 0;

err_unmap:
	buffer_unmap(base);
	return -ENOMEM;
}

int gemm_memory_prepare(void)
{
	struct buffer *buffer = &own.buffer[0];

	if (buffer->base != NULL)
		return 0;
	if (buffer_map(buffer) != 0)
		return fail(-ENOMEM,
			    "no %zu MiB of address space for the work memory "
			    "of matrix products (see ulimit -v)",
			    BUFFER_BYTES >> 20);
	memset(buffer->base, 0, TOUCHED_BYTES);
	return 0;
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
	(void)place;
	own.requests++;
	for (size_t i = 0; i < BUFFERS; i++) {
		struct buffer *buffer = &own.buffer[i];

		if (buffer->used)
			continue;
		if (buffer->base == NULL)
			ASSERT(buffer_map(buffer) == 0);
		buffer->used = true;
		return buffer->base;
	}
	ASSERT(!"OpenBLAS nests its work memory deeper than ever seen");
	return NULL;
}

void blas_memory_free(void *base)
{
	for (size_t i = 0; i < BUFFERS; i++)
		if (own.buffer[i].base == base)
			own.buffer[i].used = false;
}
