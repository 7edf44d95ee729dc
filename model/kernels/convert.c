#include "model/kernels/convert.h"
#include "model/kernels/bfloat16.h"
#include "model/kernels/vector_math.h"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__,
	       "files are little endian, and so must be this machine");

/* Stores bits rather than a float: no flush to zero on the way. */
VECTOR_INLINE void store_bits(float *out, uint32_t bits)
{
	__builtin_memcpy(out, &bits, sizeof(bits));
}

VECTOR_INLINE uint32_t load_half(const unsigned char *in)
{
	uint16_t half;

	__builtin_memcpy(&half, in, sizeof(half));
	return half;
}

KERNEL_CLONES void convert_f16_to_floats(size_t count, const void *in,
					 float *out)
{
	const unsigned char *bytes = in;

	VECTOR_LOOP
	for (size_t i = 0; i < count; i++) {
		uint32_t half = load_half(bytes + 2 * i);
		uint32_t magnitude = half & 0x7fff;
		/* The bias grows by 112; infinity's exponent by 224. */
		uint32_t normal = (magnitude << 13) + (112u << 23) +
				  (magnitude >= 0x7c00 ? 112u << 23 : 0);
		/* Subnormal: a whole number of 2^-24, which float holds. */
		float small = (float)(int32_t)magnitude * 0x1p-24f;
		uint32_t bits = magnitude < 0x0400
					? (uint32_t)vector_float_bits(small)
					: normal;

		store_bits(out + i, bits | (half & 0x8000) << 16);
	}
}

KERNEL_CLONES void convert_bf16_to_floats(size_t count, const void *in,
					  float *out)
{
	const unsigned char *bytes = in;

	VECTOR_LOOP
	for (size_t i = 0; i < count; i++)
		store_bits(out + i, load_half(bytes + 2 * i) << 16);
}

/* Steps of a subnormal half are 2^-24, as are those of floats from 0.5 on. */
static uint16_t half_of_small(uint32_t magnitude)
{
	uint32_t half_bits = 0x3f000000;
	float small, half;

	__builtin_memcpy(&small, &magnitude, sizeof(small));
	__builtin_memcpy(&half, &half_bits, sizeof(half));
	small += half;
	__builtin_memcpy(&magnitude, &small, sizeof(small));
	return (uint16_t)(magnitude - half_bits);
}

static uint16_t half_from_float(float value)
{
	uint32_t bits, magnitude;
	uint16_t half;

	__builtin_memcpy(&bits, &value, sizeof(bits));
	magnitude = bits & 0x7fffffff;
	if (magnitude > 0x7f800000)
		half = 0x7e00;
	else if (magnitude >= 0x47800000) /* 2^16 */
		half = 0x7c00;
	else if (magnitude < 0x38800000) /* 2^-14 */
		half = half_of_small(magnitude);
	else /* the bias shrinks by 112; rounding may carry into it */
		half = (uint16_t)((magnitude - (112u << 23) + 0xfff +
				   (magnitude >> 13 & 1)) >>
				  13);
	return (uint16_t)(half | (bits >> 16 & 0x8000));
}

void convert_floats_to_f16(size_t count, const float *in, void *out)
{
	unsigned char *bytes = out;

	for (size_t i = 0; i < count; i++) {
		uint16_t half = half_from_float(in[i]);

		__builtin_memcpy(bytes + 2 * i, &half, sizeof(half));
	}
}

KERNEL_CLONES void convert_floats_to_bf16(size_t count, const float *in,
					  void *out)
{
	unsigned char *bytes = out;

	VECTOR_LOOP
	for (size_t i = 0; i < count; i++) {
		bfloat16 rounded = bfloat16_from_float(in[i]);

		__builtin_memcpy(bytes + 2 * i, &rounded, sizeof(rounded));
	}
}
