/*
 * The work memory of OpenBLAS, one piece a thread.
 *
 * Every product of OpenBLAS packs its operands into a buffer of a process-wide
 * table. A build without threads ("serial") takes a free entry of that table
 * without a lock: two of our threads that multiply at once are at times given
 * the same buffer, and both products are then wrong (measured with Debian's
 * 0.3.21: one in ten small ones). The other builds lock, and map memory
 * whenever more threads meet than ever before. So we put our own functions in
 * place of OpenBLAS's: every thread has a buffer of its own, mapped once.
 */
#ifndef STAGECOACH_MODEL_KERNELS_GEMM_MEMORY_H
#define STAGECOACH_MODEL_KERNELS_GEMM_MEMORY_H

#include "base/compiler.h"

/*
 * Maps the calling thread's buffer, if it has none, and where asked to touches
 * what products of our tiles use. Freed when the thread ends. -ENOMEM.
 */
int gemm_memory_prepare(bool touch) MUST_CHECK;

/*
 * The calling thread's buffer for a use of our own, page-aligned: the caller's
 * until the thread next multiplies by the library or borrows. The first
 * GEMM_MEMORY_BYTES of it; mapped here where gemm_memory_prepare() has not.
 */
#define GEMM_MEMORY_BYTES ((size_t)128 << 20)
void *gemm_memory_borrow(void);

/*
 * How often OpenBLAS asked this thread's buffer: unchanged by a product that
 * must pack when our functions are not the ones it calls (another library, or
 * one linked statically).
 */
uint64_t gemm_memory_requests(void);

#endif
