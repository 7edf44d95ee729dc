/*
 * A layer with all it needs around it, filled with random numbers, for tests.
 *
 * Tests see floats. A layer of bfloat16 values gets them rounded at each call,
 * and what it writes is widened after it; random numbers are rounded at once,
 * so that references compute with the same.
 */
#ifndef STAGECOACH_TESTS_GRAD_RIG_H
#define STAGECOACH_TESTS_GRAD_RIG_H

#include "base/digest.h"
#include "model/model.h"

#define RIG_PARAMETERS_MAX 32

struct rig {
	const struct layer *layer;
	const struct parameter *parameters; /* the layer's own, from 0 */
	struct threads *threads;
	struct layer_memory memory;
	struct layer_context context;
	struct layer_buffers buffers;
	struct micro_batch micro_batch;
	double loss;
	uint64_t *sample_ids;
	int32_t *tokens, *labels;
	/* Floats, input_count and output_count of them. */
	float *input, *input_gradient, *output, *output_gradient;
	size_t input_count, output_count;
	float *weights[RIG_PARAMETERS_MAX];
	float *gradients[RIG_PARAMETERS_MAX]; /* zeros at first */
	/* What the layer is given: the same, or bfloat16. */
	enum element_type type;
	void *layer_weights[RIG_PARAMETERS_MAX];
	void *layer_input, *layer_input_gradient;
	void *layer_output, *layer_output_gradient;
};

struct rig_size {
	size_t batch, time;
	unsigned threads;
	enum layer_mode mode;
	size_t vocab_size; /* of tokens and labels */
	uint64_t seed;     /* of everything random; dropout's too */
};

/* `parameters` is the whole table the layer's rows stand in. */
void rig_init(struct rig *rig, const struct layer *layer,
	      const struct parameter *parameters, const struct rig_size *size);
void rig_fini(struct rig *rig);

void rig_forward(struct rig *rig);
void rig_backward_input(struct rig *rig);
void rig_backward_weight(struct rig *rig);

size_t rig_parameter_count(const struct rig *rig, unsigned parameter);
void rig_zero_gradients(struct rig *rig);

/*
 * Digest of all accumulators; of what a whole pass made (output, loss, input
 * gradient, accumulators); of what forward keeps.
 */
uint64_t rig_gradients_digest(const struct rig *rig);
uint64_t rig_results_digest(const struct rig *rig);
uint64_t rig_saved_digest(const struct rig *rig);

/* 64-byte aligned, filled with NaN: what is read unwritten shows. */
void *rig_allocate(size_t bytes);
void rig_random(uint64_t seed, const char *name, size_t count, float mean,
		float deviation, float *out);
double *rig_doubles(const float *values, size_t count);

#endif
