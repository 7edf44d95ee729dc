/*
 * What a model folder has besides weights and what this program writes: the
 * files of its tokenizer, chat templates, a licence, and keys of config.json
 * that say nothing about what is computed here. They go from the folder a run began
 * with into every checkpoint, unchanged.
 */
#ifndef STAGECOACH_ENGINE_CARRY_H
#define STAGECOACH_ENGINE_CARRY_H

#include "base/compiler.h"

/*
 * Copies the files of folder `from` that are neither weights nor hidden nor of
 * a checkpoint into `to`, with those in its additional_chat_templates/, and
 * takes over into to/config.json what hf_config_carry_over() does. What cannot
 * be read is left out with a warning.
 */
int carry_over(const char *from, const char *to) MUST_CHECK;

#endif
