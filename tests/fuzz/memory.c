#include "tests/fuzz/memory.h"

#include <malloc.h>
#include <stdatomic.h>
#include <stdint.h>

#include "tests/fuzz/fuzz.h"

#define BOUND_BYTES ((size_t)64 << 20)

static size_t now, peak;

static void add(size_t bytes)
{
	now += bytes;
	if (now > peak)
		peak = now;
}

/* What stood there before the count began may go during it. */
static void subtract(size_t bytes)
{
	now -= bytes < now ? bytes : now;
}

/* Absent without sanitizers. */
size_t __sanitizer_get_allocated_size(const volatile void *memory)
	__attribute__((weak));
int __sanitizer_install_malloc_and_free_hooks(
	void (*on_malloc)(const volatile void *, size_t),
	void (*on_free)(const volatile void *)) __attribute__((weak));

#ifdef STAGECOACH_SANITIZED
static void on_malloc(const volatile void *memory, size_t size)
{
	(void)memory;
	add(size);
}

static void on_free(const volatile void *memory)
{
	if (memory)
		subtract(__sanitizer_get_allocated_size(memory));
}
#else
/* What glibc offers to those who stand in front of it. */
void *__libc_malloc(size_t size);
void *__libc_calloc(size_t count, size_t size);
void *__libc_realloc(void *old, size_t size);
void *__libc_memalign(size_t alignment, size_t size);
void __libc_free(void *memory);

#define EXPORT __attribute__((visibility("default")))

static void *counted(void *memory)
{
	if (memory)
		add(malloc_usable_size(memory));
	return memory;
}

EXPORT void *malloc(size_t size)
{
	return counted(__libc_malloc(size));
}

EXPORT void *calloc(size_t count, size_t size)
{
	return counted(__libc_calloc(count, size));
}

/* The old and the new may stand side by side. */
EXPORT void *realloc(void *old, size_t size)
{
	size_t before = old ? malloc_usable_size(old) : 0;
	void *memory = __libc_realloc(old, size);

	counted(memory);
	if (memory || size == 0)
		subtract(before);
	return memory;
}

EXPORT void *memalign(size_t alignment, size_t size)
{
	return counted(__libc_memalign(alignment, size));
}

EXPORT void *aligned_alloc(size_t alignment, size_t size)
{
	return memalign(alignment, size);
}

EXPORT int posix_memalign(void **out, size_t alignment, size_t size)
{
	*out = memalign(alignment, size);
	return *out ? 0 : 12; /* ENOMEM */
}

EXPORT void free(void *memory)
{
	if (memory)
		subtract(malloc_usable_size(memory));
	__libc_free(memory);
}
#endif

void memory_begin(void)
{
#ifdef STAGECOACH_SANITIZED
	static int installed;

	if (!installed)
		installed = __sanitizer_install_malloc_and_free_hooks(on_malloc,
								      on_free);
	FUZZ_CHECK(installed);
#endif
	now = 0;
	peak = 0;
}

size_t memory_peak(void)
{
	return peak;
}

void memory_check(size_t size)
{
	size_t bound = BOUND_BYTES + 2 * size;

	if (peak > bound)
		fprintf(stderr, "%zu bytes of memory for an input of %zu\n",
			peak, size);
	FUZZ_CHECK(peak <= bound);
}
