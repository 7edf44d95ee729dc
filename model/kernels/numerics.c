#include "model/kernels/numerics.h"
#include "base/digest.h"
#include "base/math.h"
#include "model/kernels/gemm.h"
#include "model/kernels/vector_math.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define STRING(x)          #x
#define STRING_EXPANDED(x) STRING(x)

/* Our loops round alike on every path; it is named for who looks for why. */
static const char *dispatch_path(void)
{
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
	static const char clones[] = STRING_EXPANDED(KERNEL_CLONES);

	__builtin_cpu_init();
	if (clones[0] == '\0')
		return "x86-64 baseline";
	if (__builtin_cpu_supports("x86-64-v4"))
		return "x86-64-v4";
	if (__builtin_cpu_supports("x86-64-v3"))
		return "x86-64-v3";
	return "x86-64 baseline";
#elif defined(__x86_64__)
	return "x86-64 baseline";
#elif defined(__aarch64__)
	return "arm64";
#else
	return "plain C";
#endif
}

/* The bits of the control register that change results, not its status. */
static const char *float_state(char *out, size_t size)
{
#if defined(__x86_64__)
	snprintf(out, size, "mxcsr 0x%04x", __builtin_ia32_stmxcsr() & 0xffc0u);
#elif defined(__aarch64__)
	uint64_t fpcr;

	__asm__ volatile("mrs %0, fpcr" : "=r"(fpcr));
	snprintf(out, size, "fpcr 0x%08" PRIx64, fpcr);
#else
	snprintf(out, size, "default");
#endif
	return out;
}

/* What stands for a string in JSON, without what would need escaping. */
static void plain_copy(char *out, size_t size, const char *text)
{
	size_t length = 0;

	for (; *text != '\0' && length + 1 < size; text++)
		if (*text >= ' ' && *text <= '~' && *text != '"' &&
		    *text != '\\')
			out[length++] = *text;
	while (length > 0 && out[length - 1] == ' ')
		length--;
	out[length] = '\0';
}

int numerics_describe(char *out, size_t size)
{
	return numerics_describe_type(ELEMENT_F32, out, size);
}

/* `"bfloat16":"...",`, or nothing. */
static const char *bfloat16_member(enum element_type type, char *out,
				   size_t size)
{
	char library[128];

	out[0] = '\0';
	if (type != ELEMENT_BF16)
		return out;
	plain_copy(library, sizeof(library), gemm_bfloat16_library());
	snprintf(out, size, "\"bfloat16\":\"%s\",", library);
	return out;
}

int numerics_describe_type(enum element_type type, char *out, size_t size)
{
	char text[NUMERICS_DESCRIPTION_BYTES];
	char library[256], core[64], state[64], products[160];
	int length;

	plain_copy(library, sizeof(library), gemm_library());
	plain_copy(core, sizeof(core), gemm_library_core());
	length = snprintf(text, sizeof(text),
			  "{%s\"blas\":\"%s\",\"blas_core\":\"%s\","
			  "\"dispatch\":\"%s\",\"float_state\":\"%s\","
			  "\"gemm\":\"" GEMM_VERSION "\","
			  "\"math\":\"" MATH_VERSION "\","
			  "\"vector_math\":\"" VECTOR_MATH_VERSION "\"}",
			  bfloat16_member(type, products, sizeof(products)),
			  library, core, dispatch_path(),
			  float_state(state, sizeof(state)));
	if (length < 0 || (size_t)length >= sizeof(text) ||
	    (size_t)length >= size)
		return -ENOSPC;
	memcpy(out, text, (size_t)length + 1);
	return 0;
}

int numerics_digest(char out[NUMERICS_DIGEST_BYTES])
{
	char text[NUMERICS_DESCRIPTION_BYTES];
	int error = numerics_describe(text, sizeof(text));

	if (error != 0)
		return error;
	snprintf(out, NUMERICS_DIGEST_BYTES, "%016" PRIx64,
		 digest_hash64(text, strlen(text)));
	return 0;
}
