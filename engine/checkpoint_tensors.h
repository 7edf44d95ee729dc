/*
 * The tensors of model folders and checkpoints on their way between disk and
 * the ranks' memory: directly where a rank sees the root's files, else through
 * the root (engine/reach.h, engine/ferry.h). The bytes on disk are the same.
 * Internal to checkpoint.c.
 */
#ifndef STAGECOACH_ENGINE_CHECKPOINT_TENSORS_H
#define STAGECOACH_ENGINE_CHECKPOINT_TENSORS_H

#include "base/compiler.h"

struct pipeline;
struct safetensors_layout;

/* Where every tensor of a checkpoint stands. */
struct checkpoint_layouts {
	struct safetensors_layout *model;
	struct safetensors_layout *optimizer; /* NULL: no moments */
	struct safetensors_layout *masters;   /* NULL: the model has them */
};

/* Entries in parameter order; the optimizer's moment by moment within. */
int checkpoint_layouts_init(const struct pipeline *pipeline,
			    struct checkpoint_layouts *out) MUST_CHECK;
void checkpoint_layouts_fini(struct checkpoint_layouts *layouts);

/*
 * Writes this rank's tensors into the files that stand in `folder`, the root's
 * those of ranks that do not see them as well. All ranks call it. A failure to
 * write stops no other rank; all are to agree on what came out, unless
 * exchange_error() says that links have failed.
 */
int checkpoint_tensors_write(struct pipeline *pipeline,
			     const struct checkpoint_layouts *layouts,
			     const char *folder) MUST_CHECK;

#endif
