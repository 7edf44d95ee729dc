/*
 * Token and position embeddings of [samples, T] tokens, row-major.
 *
 * Token ids must lie in [0, V): whoever takes them from a file checks them,
 * with embedding_find_invalid(). Bits do not depend on the number of threads.
 */
#ifndef STAGECOACH_MODEL_KERNELS_EMBEDDING_H
#define STAGECOACH_MODEL_KERNELS_EMBEDDING_H

#include "base/threads.h"

/* Index of the first token outside [0, vocabulary), or count. */
size_t embedding_find_invalid(size_t count, const int32_t *tokens,
			      size_t vocabulary);

/*
 * x[samples, T, C] = wte[token] + wpe[position_offset + t]; wpe [positions, C]
 * may be NULL (no positions are added).
 */
void embedding_forward(struct threads *threads, size_t samples, size_t length,
		       size_t channels, const int32_t *tokens,
		       size_t position_offset, const float *wte,
		       const float *wpe, float *x);

/*
 * dwte[V, C] += the rows of dx of each token, in ascending order of (sample,
 * position), one vocabulary row wholly by one task; dwpe[positions, C] += the
 * rows of dx of each position, samples ascending. Either may be NULL (frozen).
 */
void embedding_backward_weight(struct threads *threads, size_t samples,
			       size_t length, size_t channels,
			       const int32_t *tokens, size_t position_offset,
			       const float *dx, float *dwte, float *dwpe);

#endif
