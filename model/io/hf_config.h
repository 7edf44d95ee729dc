/*
 * config.json of a Hugging Face model folder to and from struct model_config.
 *
 * One table per family (hf_config_gpt2.c, ...) names its keys; a key whose
 * value would change the result and which this program does not know how to
 * honour is refused by name. Keys that change nothing here are ignored.
 */
#ifndef STAGECOACH_MODEL_IO_HF_CONFIG_H
#define STAGECOACH_MODEL_IO_HF_CONFIG_H

#include "base/compiler.h"

struct model_config;

/*
 * Reads FOLDER/config.json. -EINVAL, logged with file and key: an unknown
 * architecture, an option outside what is supported, a missing size.
 */
int hf_config_read(const char *folder, struct model_config *out) MUST_CHECK;

/* The same of a text; `path` is what messages call it. */
int hf_config_parse(const char *text, size_t length, const char *path,
		    struct model_config *out) MUST_CHECK;

/*
 * Writes FOLDER/config.json, durably, such that transformers loads the folder
 * with AutoModelForCausalLM and hf_config_read() gives back the same
 * configuration. `dtype` is that of the tensors: "float32", "bfloat16".
 */
int hf_config_write(const char *folder, const struct model_config *config,
		    const char *dtype) MUST_CHECK;

/*
 * Adds to FOLDER/config.json the keys of SOURCE/config.json that it lacks and
 * that stay true: all that is not about the rotation's spelling, the tensors' type or the
 * program that wrote it. Lists of token ids whose first is what
 * is written stand for it.
 */
int hf_config_carry_over(const char *folder, const char *source) MUST_CHECK;

/* Whether the family keeps matrices [in, out]: PEFT's fan_in_fan_out. */
bool hf_config_transposes(const struct model_config *config);

#endif
