#include "model/io/safetensors.h"

static const struct {
	const char *name;
	unsigned bits;
} dtypes[SAFETENSORS_DTYPES] = {
	[SAFETENSORS_BOOL] = {"BOOL", 8},
	[SAFETENSORS_F4] = {"F4", 4},
	[SAFETENSORS_F6_E2M3] = {"F6_E2M3", 6},
	[SAFETENSORS_F6_E3M2] = {"F6_E3M2", 6},
	[SAFETENSORS_U8] = {"U8", 8},
	[SAFETENSORS_I8] = {"I8", 8},
	[SAFETENSORS_F8_E5M2] = {"F8_E5M2", 8},
	[SAFETENSORS_F8_E4M3] = {"F8_E4M3", 8},
	[SAFETENSORS_F8_E8M0] = {"F8_E8M0", 8},
	[SAFETENSORS_F8_E4M3FNUZ] = {"F8_E4M3FNUZ", 8},
	[SAFETENSORS_F8_E5M2FNUZ] = {"F8_E5M2FNUZ", 8},
	[SAFETENSORS_I16] = {"I16", 16},
	[SAFETENSORS_U16] = {"U16", 16},
	[SAFETENSORS_F16] = {"F16", 16},
	[SAFETENSORS_BF16] = {"BF16", 16},
	[SAFETENSORS_I32] = {"I32", 32},
	[SAFETENSORS_U32] = {"U32", 32},
	[SAFETENSORS_F32] = {"F32", 32},
	[SAFETENSORS_C64] = {"C64", 64},
	[SAFETENSORS_F64] = {"F64", 64},
	[SAFETENSORS_I64] = {"I64", 64},
	[SAFETENSORS_U64] = {"U64", 64},
};

const char *safetensors_dtype_name(enum safetensors_dtype dtype)
{
	ASSERT((unsigned)dtype < SAFETENSORS_DTYPES);
	return dtypes[dtype].name;
}

unsigned safetensors_dtype_bits(enum safetensors_dtype dtype)
{
	ASSERT((unsigned)dtype < SAFETENSORS_DTYPES);
	return dtypes[dtype].bits;
}
