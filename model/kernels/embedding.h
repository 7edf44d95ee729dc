/*
 * Token and position embeddings of [samples, T] tokens, row-major.
 *
 * Tables, x and its gradient are values of a type, float or bfloat16; the tables'
 * gradients are float.
 *
 * Token ids must lie in [0, V): whoever takes them from a file checks them,
 * with embedding_find_invalid(). Bits do not depend on the number of threads.
 *
 * starts, int32 [samples, T]: a token's position is t - starts[t] (and
 * position_offset), for several examples in a row; NULL: it is t.
 */
#ifndef STAGECOACH_MODEL_KERNELS_EMBEDDING_H
#define STAGECOACH_MODEL_KERNELS_EMBEDDING_H

#include "base/threads.h"
#include "model/kernels/element.h"

/* Index of the first token outside [0, vocabulary), or count. */
size_t embedding_find_invalid(size_t count, const int32_t *tokens,
			      size_t vocabulary);

/*
 * x[samples, T, C] = wte[token] + wpe[position of the token]; wpe [positions, C]
 * may be NULL (no positions are added).
 */
void embedding_forward(struct threads *threads, enum element_type type,
		       size_t samples, size_t length, size_t channels,
		       const int32_t *tokens, size_t position_offset,
		       const int32_t *starts, const void *wte, const void *wpe,
		       void *x);

/*
 * dwte[V, C] += the rows of dx of each token, in ascending order of (sample,
 * position), one vocabulary row wholly by one task; dwpe[positions, C] += the
 * rows of dx of each position, samples ascending, then t. Either may be NULL (frozen).
 */
void embedding_backward_weight(struct threads *threads, enum element_type type,
			       size_t samples, size_t length, size_t channels,
			       const int32_t *tokens, size_t position_offset,
			       const int32_t *starts, const void *dx,
			       float *dwte, float *dwpe);

/*
 * Of a table cut by vocabulary, whose rows [first, first + count) are here:
 * x[tokens, C] = the row of each token that is among them, and -0.0 for the
 * others, which changes no bit of what is added to it. Positions come after the
 * sum over the parts, which is of floats.
 */
void embedding_forward_part(struct threads *threads, enum element_type type,
			    size_t tokens_count, size_t channels,
			    const int32_t *tokens, size_t first, size_t count,
			    const void *wte, float *x);

/*
 * x[samples, T, C] = sums (x itself where the type is float) + wpe[position of
 * the token] (NULL: none).
 */
void embedding_forward_sum(struct threads *threads, enum element_type type,
			   size_t samples, size_t length, size_t channels,
			   size_t position_offset, const int32_t *starts,
			   const float *sums, const void *wpe, void *x);

/* dwte[count, C] += as above, of tokens in [first, first + count) alone. */
void embedding_backward_weight_part(struct threads *threads,
				    enum element_type type, size_t tokens_count,
				    size_t channels, const int32_t *tokens,
				    size_t first, size_t count, const void *dx,
				    float *dwte);

#endif
