/*
 * compare-llama CASE MODEL RATE: MODEL is a folder of weights that a step of
 * plain descent at RATE has made of CASE (a folder of tests/grad/llama), and so
 * tells the gradient: is it the one transformers has?
 *
 * compare-llama CASE MODEL: are its weights those that PyTorch has after ten
 * steps?
 *
 * Prints the worst difference of any tensor, divided by the tensor's largest
 * element, and ends with 1 if it is over a tolerance.
 */
#include "tests/grad/golden.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define GRADIENT_TOLERANCE 1e-3
#define WEIGHT_TOLERANCE   1e-4

struct comparison {
	struct safetensors *golden; /* what transformers says */
	struct safetensors *before; /* the case's model */
	struct safetensors *model;  /* what training made of it */
	double rate;                /* 0: weights are compared */
};

/* The worst of one tensor of the model. */
static double tensor_difference(const struct comparison *comparison,
				const struct safetensors_tensor *tensor)
{
	const struct safetensors_tensor *wanted = golden_find(
		comparison->golden,
		comparison->rate > 0 ? "gradient." : "after.", tensor->name);
	float *expected = golden_floats(wanted), *got = golden_floats(tensor);
	double worst;

	if (safetensors_check_shape(tensor, wanted->rank, wanted->shape))
		exit(1);
	if (comparison->rate > 0) {
		float *before = golden_floats(
			golden_find(comparison->before, "", tensor->name));

		for (size_t i = 0; i < tensor->count; i++)
			got[i] = (float)(((double)before[i] - (double)got[i]) /
					 comparison->rate);
		free(before);
	}
	worst = golden_difference(tensor->count, expected, got);
	free(expected);
	free(got);
	return worst;
}

static int compare(const struct comparison *comparison)
{
	size_t count = safetensors_count(comparison->model);
	double tolerance =
		comparison->rate > 0 ? GRADIENT_TOLERANCE : WEIGHT_TOLERANCE;
	const char *worst_name = "nothing";
	double worst = 0.0;

	if (count != safetensors_count(comparison->before)) {
		printf("%zu tensors, %zu wanted\n", count,
		       safetensors_count(comparison->before));
		return 1;
	}
	for (size_t i = 0; i < count; i++) {
		const struct safetensors_tensor *tensor =
			safetensors_tensor(comparison->model, i);
		double difference = tensor_difference(comparison, tensor);

		if (difference >= worst) {
			worst = difference;
			worst_name = tensor->name;
		}
	}
	printf("worst difference %.2g, in %s\n", worst, worst_name);
	return worst <= tolerance ? 0 : 1;
}

int main(int argc, char **argv)
{
	struct comparison comparison = {.rate = 0};
	char path[4096];
	int status;

	if (argc < 3 || argc > 4) {
		fprintf(stderr, "usage: compare-llama CASE MODEL [RATE]\n");
		return 2;
	}
	if (argc == 4)
		comparison.rate = strtod(argv[3], NULL);
	snprintf(path, sizeof(path), "%s/golden.safetensors", argv[1]);
	if (safetensors_open(path, &comparison.golden) ||
	    safetensors_open(argv[1], &comparison.before) ||
	    safetensors_open(argv[2], &comparison.model))
		return 1;
	status = compare(&comparison);
	safetensors_close(comparison.model);
	safetensors_close(comparison.before);
	safetensors_close(comparison.golden);
	return status;
}
