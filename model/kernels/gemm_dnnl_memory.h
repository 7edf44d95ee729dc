/*
 * The small memory of oneDNN: dnnl_primitive_execute() builds a table of its
 * arguments from half a dozen nodes of up to 104 bytes, by C++'s operator new.
 * A program may put its own in the operator's place, which is what this one
 * does: while a thread is inside a product it gets blocks of a pool of its own;
 * at any other time the C++ library's operators are called as ever.
 */
#ifndef STAGECOACH_MODEL_KERNELS_GEMM_DNNL_MEMORY_H
#define STAGECOACH_MODEL_KERNELS_GEMM_DNNL_MEMORY_H

#include "base/compiler.h"

/*
 * Gives the calling thread a pool until it ends. Idempotent. -ENOMEM: more
 * threads multiply than there are pools for.
 */
int gemm_dnnl_memory_prepare(void) MUST_CHECK;

/* Around a product, on a thread that has a pool. */
void gemm_dnnl_memory_enter(void);
void gemm_dnnl_memory_leave(void);

#endif
