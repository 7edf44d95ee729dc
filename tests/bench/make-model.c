/*
 * make-model FOLDER [LAYERS]: a Llama of 1.1 billion parameters (16 layers of
 * width 2048) in bfloat16, with weights drawn at random, and a tokenizer of bytes: for
 * bench-load.sh. 2.2 GB on disk.
 */
#include <stdio.h>
#include <stdlib.h>

#include "base/files.h"
#include "base/random.h"
#include "data/tokenizer.h"
#include "model/io/hf_config.h"
#include "model/io/safetensors.h"
#include "model/model.h"

#define PIECE ((size_t)1 << 20)

/* Numbers of 2^-7 to 2^-6 and both signs: sound, and no two pages alike. */
static void draw(struct random_key key, size_t first, size_t count,
		 uint16_t *out)
{
	for (size_t i = 0; i < count; i++)
		out[i] = (uint16_t)((random_u64(key, first + i) & 0x807f) |
				    0x3c00);
}

static int write_tensor(struct safetensors_writer *writer, size_t entry,
			const struct parameter *parameter, uint16_t *room)
{
	struct random_key key = random_key_named(1, parameter->name);
	int rc = 0;

	for (size_t at = 0; !rc && at < parameter->count; at += PIECE) {
		size_t count = MIN(PIECE, parameter->count - at);

		draw(key, at, count, room);
		rc = safetensors_writer_write(writer, entry, 2 * at, room,
					      2 * count);
	}
	return rc;
}

static int write_weights(const char *folder, const struct model *model)
{
	unsigned count;
	const struct parameter *all = model_parameters(model, &count);
	struct safetensors_entry *entries = calloc(count, sizeof(*entries));
	uint16_t *room = malloc(PIECE * sizeof(*room));
	struct safetensors_layout *layout = NULL;
	struct safetensors_writer *writer;
	int rc = entries && room ? 0 : -1;

	for (unsigned i = 0; !rc && i < count; i++)
		entries[i] =
			(struct safetensors_entry){.name = all[i].name,
						   .dtype = SAFETENSORS_BF16,
						   .rank = all[i].dimensions,
						   .shape = all[i].whole_shape};
	if (!rc)
		rc = safetensors_layout_create(entries, count, 0, "model",
					       &layout);
	if (!rc)
		rc = safetensors_layout_create_files(layout, folder);
	if (!rc)
		rc = safetensors_writer_open(layout, folder, &writer);
	for (unsigned i = 0; !rc && i < count; i++)
		rc = write_tensor(writer, i, &all[i], room);
	if (!rc)
		rc = safetensors_writer_close(writer);
	safetensors_layout_destroy(layout);
	free(entries);
	free(room);
	return rc;
}

int main(int argc, char **argv)
{
	struct model_config config;
	struct tokenizer *tokenizer;
	struct model *model;
	char path[FILES_PATH_BYTES];
	int rc;

	if (argc < 2) {
		fputs("make-model FOLDER [LAYERS]\n", stderr);
		return 2;
	}
	rc = model_config_default("llama", &config);
	config.vocab_size = 32000;
	config.width = 2048;
	config.layers = argc > 2 ? (unsigned)strtoul(argv[2], NULL, 10) : 16;
	config.heads = 32;
	config.kv_heads = 8;
	config.inner = 8192;
	config.context = 2048;
	config.tied = false;
	if (!rc)
		rc = model_create(&config, &model);
	if (rc)
		return 1;
	rc = files_make_folder(argv[1]);
	if (!rc)
		rc = hf_config_write(argv[1], model_config(model), "bfloat16");
	if (!rc)
		rc = tokenizer_bytes(&tokenizer);
	if (!rc)
		rc = files_join(path, sizeof(path), argv[1], "tokenizer.json");
	if (!rc)
		rc = tokenizer_save(tokenizer, path);
	if (!rc)
		rc = write_weights(argv[1], model);
	printf("%llu parameters\n",
	       (unsigned long long)model_parameter_total(model));
	model_destroy(model);
	return rc ? 1 : 0;
}
