/*
 * Calibration: what the layers of a model, the end of a step and the links
 * take on this machine, measured in this process in a fraction of a second,
 * without data, ranks or the whole model.
 *
 * A small model of the same layers is trained for a few micro-batches by the
 * code the ranks run (engine/stage.h), on a team of threads as a rank's, pinned
 * as a rank's; as many teams as ranks will compute on this machine work at
 * the same time, since cores share memory. Layers are timed one by one: alike
 * ones (layer_is_alike) together, so that equal blocks cost the same to the
 * last digit. The sample has few blocks and a small vocabulary, and where even
 * that would take too long fewer tokens; what is smaller there is scaled by
 * operations (layer_cost).
 *
 * Everything it makes is gone when it returns; the calling thread keeps its
 * cores and its floating-point state.
 */
#ifndef STAGECOACH_ENGINE_CALIBRATE_H
#define STAGECOACH_ENGINE_CALIBRATE_H

#include "base/clock.h"
#include "engine/costs.h"
#include "engine/optimizer.h"

struct model;

/* Before a run, and for `plan`, which is asked for nothing else. */
#define CALIBRATION_SHORT_NS (3 * NS_PER_SECOND / 10)
#define CALIBRATION_LONG_NS  (2 * NS_PER_SECOND)

struct calibration {
	unsigned micro_batch_size; /* B and T of a micro-batch */
	unsigned context;
	unsigned threads; /* of a rank; see calibration_place() */
	unsigned copies;  /* ranks that compute at once on this machine */
	bool pin;
	bool recompute;
	/*
	 * Aimed at, not kept to: a team must start, and one pass over some 256
	 * tokens is the least. Small models take a few milliseconds.
	 */
	int64_t budget_ns;
	/* Of which the rates below are measured; NULL: not wanted. */
	const struct optimizer_config *optimizer;
};

/* Seconds for each weight a rank holds. */
struct calibration_rates {
	double update; /* the optimizer's step */
	double square; /* the norm, for the vote */
	double add;    /* adding a tied gradient */
};

/*
 * threads, copies and pin for `ranks` ranks on this machine, as
 * engine/launch.h divides its cores; threads 0: cores / ranks.
 */
void calibration_place(struct calibration *calibration, unsigned ranks,
		       unsigned threads, bool pin);

/*
 * A row a layer, in seconds, with the bytes each holds; message_bytes and
 * tied_bytes. Links and the step's end are left 0. -ENOMEM, logged, when the
 * sample does not fit the memory; the caller's to costs_fini() on success.
 */
int calibrate_layers(const struct model *model,
		     const struct calibration *calibration, struct costs *out,
		     struct calibration_rates *rates) MUST_CHECK;

/*
 * The same rows from operations alone, as if a second had a certain number of
 * them: for a balance without a measurement. Unit: a plain number.
 */
int calibrate_by_operations(const struct model *model,
			    const struct calibration *calibration,
			    struct costs *out) MUST_CHECK;

/*
 * Costs of this model's layers (costs_check_model) that were taken with other
 * micro-batches, as they say: scaled by operations to the calibration's, and its
 * bytes. Those that do not say stay as they are.
 */
void calibrate_rescale(const struct model *model,
		       const struct calibration *calibration,
		       struct costs *costs);

/*
 * Costs of a whole model's layers, to be those of `slice`, the same model cut
 * for a tensor group: times by operations (what has no products stays), bytes
 * as it has them, and the time of the group's sums on top
 * (engine/costs_grid.h). Costs that were measured in a group stay as they are:
 * -EINVAL, logged, if it was one of another size. -ENOMEM, logged.
 */
int calibrate_slice(const struct model *whole, const struct model *slice,
		    const struct calibration *calibration,
		    struct costs *costs) MUST_CHECK;

/*
 * Operations at a rate: costs in seconds of a machine that is not at hand. Each
 * rank computes `rate` operations a second and moves `memory` bytes a second,
 * which the end of a step takes. -ENOMEM, logged.
 */
int calibrate_by_rate(const struct model *model,
		      const struct calibration *calibration, double rate,
		      double memory, struct costs *out,
		      struct calibration_rates *rates) MUST_CHECK;

/*
 * What a message of costs->message_bytes costs on this machine's links: fills
 * in latency, bandwidth, send and receive. `transport` and `io` as in
 * transport/transport.h, "auto" for tcp's. Takes a few ten milliseconds.
 */
int calibrate_link(const char *transport, const char *io,
		   struct costs *costs) MUST_CHECK;

#endif
