#include "model/kernels/element.h"

static const struct {
	const char *name;
	size_t bytes;
} element_types[] = {
	[ELEMENT_F32] = {"F32", 4},
	[ELEMENT_BF16] = {"BF16", 2},
	[ELEMENT_F16] = {"F16", 2},
	[ELEMENT_I32] = {"I32", 4},
};

size_t element_type_bytes(enum element_type type)
{
	ASSERT((size_t)type < ARRAY_SIZE(element_types));
	return element_types[type].bytes;
}

const char *element_type_name(enum element_type type)
{
	ASSERT((size_t)type < ARRAY_SIZE(element_types));
	return element_types[type].name;
}
