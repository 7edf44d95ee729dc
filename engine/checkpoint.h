/*
 * Checkpoints: a Hugging Face model folder, and beside the model what it
 * takes to go on.
 *
 *   RUN/checkpoints/step-00000100/
 *       config.json model.safetensors tokenizer.json ...   the model
 *       optimizer.safetensors     exp_avg.<name>, exp_avg_sq.<name>
 *       masters.safetensors       the weights in float, where the model's
 *                                 file has them rounded (--save-dtype)
 *       state.json                step, the run's identity, its numerics
 *       (adapter_config.json adapter_model.safetensors in place of the first two
 *       where low-rank adapters are trained: a PEFT folder)
 *       manifest.json             bytes and SHA-256 of every file above
 *   RUN/checkpoints/latest        "step-00000100"
 *
 * Where every tensor stands follows from the parameter table alone, so
 * each rank writes what it holds into the common files (or has the root do
 * it, where it does not see them), and the result does not depend on how
 * the layers were split. A folder is written under a
 * temporary name, synced, given its manifest, synced, renamed; only then are
 * old ones deleted. What carries no manifest is no checkpoint.
 */
#ifndef STAGECOACH_ENGINE_CHECKPOINT_H
#define STAGECOACH_ENGINE_CHECKPOINT_H

#include "base/files.h"
#include "base/json.h"

struct job;
struct pipeline;

/* ---- on the ranks ---- */

/* Initial weights: from (seed, parameter name) alone. */
void checkpoint_initialise(struct pipeline *pipeline);
void checkpoint_initialise_adapters(struct pipeline *pipeline);

/*
 * Weights and moments of the layers held here from the job's checkpoint, or
 * weights from its model folder, and the adapters of a model that has some
 * from either or from the job's adapter folder; through the root on ranks that do not see it
 * (pipeline->reach). All ranks call it. -EINVAL names file and tensor.
 */
int checkpoint_load_weights(struct pipeline *pipeline) MUST_CHECK;
int checkpoint_load_adapters(struct pipeline *pipeline) MUST_CHECK;
int checkpoint_load_moments(struct pipeline *pipeline) MUST_CHECK;

/*
 * Writes RUN/checkpoints/step-N; all ranks call it, after the same step. All
 * return the same: 0, or what went wrong on one of them (logged there), and
 * then nothing new stands on disk. A link that failed (exchange_error()) ends
 * the run. Keeps the newest `keep_checkpoints`.
 */
int checkpoint_write(struct pipeline *pipeline, uint64_t step) MUST_CHECK;

/* RUN/model from the checkpoint of step N: linked, or else copied. Root. */
int checkpoint_publish(const struct job *job, uint64_t step) MUST_CHECK;

/* ---- before a run, in the command ---- */

struct checkpoint {
	char folder[FILES_PATH_BYTES];
	uint64_t step;
	json_t *identity; /* job_identity() of the run that wrote it */
	json_t *numerics; /* what it computed with; NULL if it did not say */
};

/*
 * The newest checkpoint of RUN whose every file has the size and digest its
 * manifest says. Damaged ones are named; those newer than it are renamed to
 * damaged-step-N, which nothing reads. -ENOENT, logged, if none is left.
 * Removes what interrupted writes have left.
 */
int checkpoint_find(const char *run, struct checkpoint *out) MUST_CHECK;
void checkpoint_fini(struct checkpoint *checkpoint);

/*
 * Stem of the masters' files, and whether there are some in a folder: the weights
 * to go on from, as the model's have been rounded.
 */
#define CHECKPOINT_MASTERS "masters"
int checkpoint_has_masters(const char *folder, bool *out) MUST_CHECK;

/* -EINVAL or -EIO, logged, naming the file that is missing or differs. */
int checkpoint_verify(const char *folder) MUST_CHECK;

#endif
