/*
 * Folders of low-rank adapters as PEFT (https://github.com/huggingface/peft)
 * writes and reads them: adapter_config.json and adapter_model.safetensors,
 * whose tensors are base_model.model.<module>.lora_A.weight [r, in] and
 * lora_B.weight [out, r]. The base model is another folder, which the
 * configuration names.
 */
#ifndef STAGECOACH_MODEL_IO_HF_ADAPTER_H
#define STAGECOACH_MODEL_IO_HF_ADAPTER_H

#include "base/compiler.h"
#include "base/files.h"

struct model;
struct model_adapters;
struct model_config;
struct safetensors;

#define HF_ADAPTER_STEM "adapter_model"

/* Whether a folder holds adapters rather than a model. */
bool hf_adapter_is(const char *folder);

/*
 * Reads FOLDER/adapter_config.json. `base` is what it says of the base model, ""
 * if nothing. -EINVAL, logged with file and key: another kind of adapter, or an
 * option that would change the result and is not supported.
 */
int hf_adapter_read(const char *folder, struct model_adapters *out,
		    char base[FILES_PATH_BYTES]) MUST_CHECK;

/* Writes it, durably, for config->adapters over the model in `base`. */
int hf_adapter_write(const char *folder, const struct model_config *config,
		     const char *base) MUST_CHECK;

/* A parameter's name in the file. */
void hf_adapter_tensor_name(const char *name, char *out, size_t size);

/*
 * FOLDER/<stem>.safetensors (HF_ADAPTER_STEM); -EINVAL, logged, where it holds a tensor
 * that is no adapter of this model.
 */
int hf_adapter_open(const char *folder, const char *stem,
		    const struct model *model,
		    struct safetensors **out) MUST_CHECK;

/*
 * What tells the weights in a model folder from others: a hash of names, types,
 * shapes and some data of each tensor.
 */
int hf_adapter_base_hash(const char *base, uint64_t *out) MUST_CHECK;

/*
 * The configuration of a model, or of adapters and their base model: a folder
 * either way. `base` is set to the folder of the base model: `given`, if that is
 * not NULL, else what adapter_config.json says; "" for a model without
 * adapters. -ENOENT, logged: no such base model.
 */
int hf_adapter_read_model(const char *folder, const char *given,
			  struct model_config *out,
			  char base[FILES_PATH_BYTES]) MUST_CHECK;

#endif
