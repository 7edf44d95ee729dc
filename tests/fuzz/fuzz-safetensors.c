/*
 * A safetensors file. Tensors of one that is accepted lie within it, side by
 * side, and can be read to the last element.
 */
#include <string.h>

#include "base/log.h"
#include "model/io/safetensors_header.h"
#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/memory.h"

static void swallow(void *argument, enum log_level level, const char *line)
{
	(void)argument;
	(void)level;
	FUZZ_CHECK(line[0] != '\0');
}

static void use(const struct safetensors_tensor *tensor)
{
	float *values = malloc(tensor->count * sizeof(*values) + 1);
	size_t count = 1;

	for (unsigned i = 0; i < tensor->rank; i++)
		count *= tensor->shape[i];
	FUZZ_CHECK(count == tensor->count);
	FUZZ_CHECK(values != NULL);
	(void)!safetensors_read_floats(tensor, 0, tensor->count, values);
	FUZZ_CHECK(safetensors_read_floats(tensor, 1, tensor->count, values) <
		   0);
	free(values);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct safetensors_header header;
	size_t bytes = 0;
	int rc;

	log_set_sink(swallow, NULL);
	memory_begin();
	rc = safetensors_header_parse("fuzz", data, size, &header);
	memory_check(size);
	FUZZ_CHECK(rc == 0 || rc == -22);
	if (rc) {
		FUZZ_CHECK(strncmp(log_last_error(), "fuzz: ", 6) == 0);
		return 0;
	}
	for (size_t i = 0; i < header.count; i++) {
		const struct safetensors_tensor *tensor = &header.tensors[i];

		FUZZ_CHECK(tensor->bytes == 0 ||
			   (tensor->data >= data &&
			    tensor->data + tensor->bytes <= data + size));
		bytes += tensor->bytes;
		use(tensor);
	}
	FUZZ_CHECK(bytes <= size);
	safetensors_header_fini(&header);
	return 0;
}
