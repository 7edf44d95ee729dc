/*
 * A Hugging Face config.json. What is read is a model, where it is small enough to
 * make one here; what is refused is so with the file's name.
 */
#include <string.h>

#include "base/log.h"
#include "model/io/hf_config.h"
#include "model/model.h"
#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/memory.h"

static void swallow(void *argument, enum log_level level, const char *line)
{
	(void)argument;
	(void)level;
	FUZZ_CHECK(line[0] != '\0');
}

/* One way or the other, but it ends. */
static void make(const struct model_config *config)
{
	struct model *model;

	if (config->layers > 16 || config->context > 4096 ||
	    config->rope.positions > 4096 || config->head_size > 4096 ||
	    config->width > 1 << 20 || config->heads > 4096)
		return;
	if (!model_create(config, &model))
		model_destroy(model);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct model_config config = {.layers = 0};
	int rc;

	log_set_sink(swallow, NULL);
	memory_begin();
	rc = hf_config_parse((const char *)data, size, "fuzz", &config);
	memory_check(size);
	FUZZ_CHECK(rc == 0 || rc == -22);
	if (rc)
		FUZZ_CHECK(strncmp(log_last_error(), "fuzz: ", 6) == 0);
	else
		make(&config);
	return 0;
}
