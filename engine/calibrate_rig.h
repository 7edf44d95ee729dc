/*
 * A rig: some layers of a model, with weights, a team of threads and a stage,
 * on which micro-batches run as they run on a rank: for calibration and
 * benchmarks.
 */
#ifndef STAGECOACH_ENGINE_CALIBRATE_RIG_H
#define STAGECOACH_ENGINE_CALIBRATE_RIG_H

#include "engine/optimizer.h"
#include "engine/stage.h"

struct rig_config {
	const struct model *model;
	unsigned first_layer; /* layers [first_layer, end_layer) */
	unsigned end_layer;
	size_t batch; /* at most */
	size_t time;
	unsigned threads;
	const int *cores; /* [threads]; NULL: not pinned */
	bool recompute;
	bool decoding;    /* rig_decode() alone, of a whole model */
	unsigned moments; /* floats of optimizer state a weight */
};

struct rig {
	struct rig_config config;
	struct threads *team;
	struct store *store;
	struct stage *stage;
	unsigned char *messages;
	void *output;
	void *input_gradient;
	int32_t *columns; /* tokens, then labels: [batch, time] each */
	struct stage_pass pass;
	/* A slice computes here without the others. */
	struct layer_collectives alone;
};

/*
 * When the F, I and W of each layer of a pass ended, on the clock; in decoding
 * when each operation of each layer did.
 */
struct rig_stamps {
	unsigned count;
	int64_t *at_ns; /* [3 * layers], or [operations] */
};

/*
 * The calling thread becomes the team's first; it should be one made for
 * this, for its core, floating-point state and work memory stay what they
 * become. -ENOMEM, logged; rig_destroy() takes what is half made.
 */
int rig_create(struct rig *rig, const struct rig_config *config) MUST_CHECK;
void rig_destroy(struct rig *rig);

/*
 * F and B of one micro-batch of batch x time tokens. seconds[3 * layers]: F,
 * I and W of each layer; stamps as room. Both NULL: not timed.
 */
void rig_pass(struct rig *rig, size_t batch, size_t time,
	      struct rig_stamps *stamps, double *seconds);

/*
 * Decoding: one token at a position, behind whatever keys and values of earlier
 * ones there are (zeros at first). Its logits [V], until the next call. stamps:
 * NULL, not timed.
 */
const float *rig_decode(struct rig *rig, int32_t token, size_t position,
			struct rig_stamps *stamps);

/* One optimizer step; the weights it updated. */
size_t rig_update(struct rig *rig, const struct optimizer_config *optimizer,
		  uint64_t step);

#endif
