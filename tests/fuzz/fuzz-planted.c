/* A target with a planted defect, to prove that the driver finds and keeps it. */
#include "tests/fuzz/fuzz.h"
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	FUZZ_CHECK(size < 6 || memcmp(data, "plant!", 6) != 0);
	return 0;
}
