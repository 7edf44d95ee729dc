/*
 * Rotary positions in config.json, in all spellings: `rope_theta` beside
 * `rope_scaling` (transformers 4, and older still with "type" for "rope_type"),
 * or `rope_parameters` (transformers 5, perhaps once for each type of layer).
 * Internal to model/io.
 */
#ifndef STAGECOACH_MODEL_IO_HF_CONFIG_ROPE_H
#define STAGECOACH_MODEL_IO_HF_CONFIG_ROPE_H

#include "base/json.h"
#include "model/model.h"

/*
 * Into config->rope, whose `positions` and the layers are known; sets
 * config->context. -EINVAL, logged: a kind or a key that is not known.
 */
int hf_config_rope_read(const json_t *root, const char *path,
			struct model_config *config) MUST_CHECK;

/*
 * Writes max_position_embeddings, and the rotation the old way, which all
 * versions read. False: no memory.
 */
bool hf_config_rope_write(json_t *root, const struct model_config *config);

#endif
