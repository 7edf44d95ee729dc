#include "model/kernels/gemm_dnnl_memory.h"
#include "base/log.h"
#include "base/threads.h"

#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

/* ---- pools ---- */

#define POOLS       (2 * THREADS_MAX)
#define BLOCKS      32 /* a product wants six at once */
#define BLOCK_BYTES 128

struct pool {
	_Alignas(CACHE_LINE_BYTES) unsigned char block[BLOCKS][BLOCK_BYTES];
	atomic_bool used[BLOCKS];
	atomic_bool taken; /* by a thread */
};

/* All in one place, so that a block is told from other memory by its address. */
static struct pool pools[POOLS];

static _Thread_local struct {
	struct pool *pool;
	bool inside; /* a product */
} own;

static pthread_once_t key_once = PTHREAD_ONCE_INIT;
static pthread_key_t key;
static int key_error;

/* Runs when a thread ends. */
static void pool_return(void *argument)
{
	struct pool *pool = argument;

	own.pool = NULL;
	atomic_store(&pool->taken, false);
}

static void key_create(void)
{
	key_error = pthread_key_create(&key, pool_return);
}

int gemm_dnnl_memory_prepare(void)
{
	if (own.pool != NULL)
		return 0;
	pthread_once(&key_once, key_create);
	if (key_error != 0)
		return fail(-ENOMEM, "no key for a thread's pool");
	for (size_t i = 0; i < POOLS; i++) {
		if (atomic_exchange(&pools[i].taken, true))
			continue;
		if (pthread_setspecific(key, &pools[i]) != 0) {
			atomic_store(&pools[i].taken, false);
			break;
		}
		own.pool = &pools[i];
		return 0;
	}
	return fail(-ENOMEM, "more than %d threads multiply in bfloat16",
		    POOLS);
}

void gemm_dnnl_memory_enter(void)
{
	own.inside = own.pool != NULL;
}

void gemm_dnnl_memory_leave(void)
{
	own.inside = false;
}

/* NULL: the block is to come from elsewhere. */
static void *pool_take(size_t size)
{
	struct pool *pool = own.pool;

	if (size > BLOCK_BYTES)
		return NULL;
	for (size_t i = 0; i < BLOCKS; i++)
		if (!atomic_load_explicit(&pool->used[i],
					  memory_order_acquire)) {
			atomic_store_explicit(&pool->used[i], true,
					      memory_order_relaxed);
			return pool->block[i];
		}
	return NULL;
}

/* On whichever thread. false: it is no block of a pool. */
static bool pool_give_back(void *memory)
{
	uintptr_t offset = (uintptr_t)memory - (uintptr_t)pools;
	struct pool *pool;

	if (offset >= sizeof(pools))
		return false;
	pool = &pools[offset / sizeof(*pool)];
	offset -= (uintptr_t)pool - (uintptr_t)pools;
	atomic_store_explicit(&pool->used[offset / BLOCK_BYTES], false,
			      memory_order_release);
	return true;
}

/* ---- the operators ---- */

/*
 * The C++ library's own. It came with whoever calls an operator; where it
 * cannot be found, malloc() does what it would.
 */
static void *(*library_new)(size_t size);
static void (*library_delete)(void *memory);
static pthread_once_t library_once = PTHREAD_ONCE_INIT;

static void library_find(void)
{
	void *library = dlopen("libstdc++.so.6", RTLD_LAZY | RTLD_NOLOAD);
	void *symbol;

	if (library == NULL)
		return;
	symbol = dlsym(library, "_Znwm");
	memcpy(&library_new, &symbol, sizeof(symbol));
	symbol = dlsym(library, "_ZdlPv");
	memcpy(&library_delete, &symbol, sizeof(symbol));
}

#define OPERATOR __attribute__((visibility("default")))

/* operator new(std::size_t), delete(void *), delete(void *, std::size_t) */
OPERATOR void *_Znwm(size_t size);
OPERATOR void _ZdlPv(void *memory);
OPERATOR void _ZdlPvm(void *memory, size_t size);

void *_Znwm(size_t size)
{
	void *memory = own.inside ? pool_take(size) : NULL;

	if (memory != NULL)
		return memory;
	pthread_once(&library_once, library_find);
	if (library_new != NULL && library_delete != NULL)
		return library_new(size);
	memory = malloc(MAX(size, (size_t)1));
	ASSERT(memory != NULL); /* who calls does not check */
	return memory;
}

void _ZdlPv(void *memory)
{
	if (memory == NULL || pool_give_back(memory))
		return;
	pthread_once(&library_once, library_find);
	if (library_new != NULL && library_delete != NULL)
		library_delete(memory);
	else
		free(memory);
}

void _ZdlPvm(void *memory, size_t size)
{
	(void)size;
	_ZdlPv(memory);
}
