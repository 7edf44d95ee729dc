/* Types of the elements of tensors. */
#ifndef STAGECOACH_MODEL_KERNELS_ELEMENT_H
#define STAGECOACH_MODEL_KERNELS_ELEMENT_H

#include "base/compiler.h"

enum element_type {
	ELEMENT_F32,
	ELEMENT_BF16,
	ELEMENT_F16,
	ELEMENT_I32,
};

size_t element_type_bytes(enum element_type type);
const char *element_type_name(enum element_type type); /* "F32", ... */

#endif
