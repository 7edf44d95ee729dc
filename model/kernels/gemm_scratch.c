#include "model/kernels/gemm_scratch.h"
#include "base/log.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

struct scratch {
	void *memory[GEMM_PIECES];
	size_t bytes[GEMM_PIECES];
};

static _Thread_local struct scratch own;
static pthread_once_t key_once = PTHREAD_ONCE_INIT;
static pthread_key_t key;
static int key_error;

/* Runs when a thread ends. */
static void scratch_free(void *argument)
{
	struct scratch *scratch = argument;

	for (size_t piece = 0; piece < GEMM_PIECES; piece++)
		free(scratch->memory[piece]);
	*scratch = (struct scratch){0};
}

static void key_create(void)
{
	key_error = pthread_key_create(&key, scratch_free);
}

int gemm_scratch_grow(enum gemm_piece piece, size_t bytes)
{
	size_t lines = (bytes + CACHE_LINE_BYTES - 1) / CACHE_LINE_BYTES;

	if (bytes <= own.bytes[piece])
		return 0;
	pthread_once(&key_once, key_create);
	if (key_error != 0 || pthread_setspecific(key, &own) != 0)
		return fail(-ENOMEM, "no key for a thread's work memory");
	free(own.memory[piece]);
	own.bytes[piece] = 0;
	own.memory[piece] =
		aligned_alloc(CACHE_LINE_BYTES, lines * CACHE_LINE_BYTES);
	if (own.memory[piece] == NULL)
		return fail(-ENOMEM,
			    "no %zu bytes of work memory for products in "
			    "bfloat16",
			    bytes);
	/* Touched here, by who works with it, and not in the first step. */
	memset(own.memory[piece], 0, lines * CACHE_LINE_BYTES);
	own.bytes[piece] = lines * CACHE_LINE_BYTES;
	return 0;
}

void *gemm_scratch(enum gemm_piece piece)
{
	return own.memory[piece];
}
