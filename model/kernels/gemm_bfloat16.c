#include "model/kernels/gemm.h"

#include <stdlib.h>

static float *widened(size_t rows, size_t columns, const bfloat16 *in,
		      size_t stride)
{
	float *out = calloc(rows * columns + 1, sizeof(*out));

	ASSERT(out);
	for (size_t r = 0; r < rows; r++)
		for (size_t c = 0; c < columns; c++)
			out[r * columns + c] =
				float_from_bfloat16(in[r * stride + c]);
	return out;
}

void gemm_bfloat16(struct threads *threads, enum gemm_transpose transpose_a,
		   enum gemm_transpose transpose_b, size_t m, size_t n,
		   size_t k, const bfloat16 *a, size_t lda, const bfloat16 *b,
		   size_t ldb, float beta, enum element_type c_type, void *c,
		   size_t ldc, const float *bias)
{
	bool a_turned = transpose_a == GEMM_TRANSPOSED;
	bool b_turned = transpose_b == GEMM_TRANSPOSED;
	float *wide_a = widened(a_turned ? k : m, a_turned ? m : k, a, lda);
	float *wide_b = widened(b_turned ? n : k, b_turned ? k : n, b, ldb);
	float *wide_c = calloc(m * n + 1, sizeof(*wide_c));
	struct gemm_epilogue epilogue = {.bias = bias};

	ASSERT(wide_c);
	for (size_t i = 0; beta > 0 && i < m * n; i++)
		wide_c[i] =
			c_type == ELEMENT_BF16
				? float_from_bfloat16(
					  ((bfloat16 *)c)[i / n * ldc + i % n])
				: ((float *)c)[i / n * ldc + i % n];
	gemm(threads, transpose_a, transpose_b, m, n, k, wide_a,
	     a_turned ? m : k, wide_b, b_turned ? k : n, beta, wide_c, n,
	     &epilogue);
	for (size_t i = 0; i < m * n; i++) {
		size_t at = i / n * ldc + i % n;

		if (c_type == ELEMENT_BF16)
			((bfloat16 *)c)[at] = bfloat16_from_float(wide_c[i]);
		else
			((float *)c)[at] = wide_c[i];
	}
	free(wide_a);
	free(wide_b);
	free(wide_c);
}

int gemm_bfloat16_prepare(struct threads *threads,
			  enum gemm_transpose transpose_a,
			  enum gemm_transpose transpose_b, size_t m, size_t n,
			  size_t k, size_t lda, size_t ldb, float beta,
			  enum element_type c_type, size_t ldc, bool bias)
{
	(void)threads, (void)transpose_a, (void)transpose_b, (void)m, (void)n;
	(void)k, (void)lda, (void)ldb, (void)beta, (void)c_type, (void)ldc;
	(void)bias;
	return 0;
}
