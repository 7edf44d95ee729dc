/*
 * compare-lora CASE MODEL RATE: MODEL is a folder of adapters that a step of
 * plain descent at RATE has made of CASE (a folder of tests/grad/lora), and so
 * tells the gradient: is it the one PEFT has?
 *
 * compare-lora CASE MODEL: are its adapters those after ten steps?
 *
 * compare-lora CASE MODEL merged: MODEL is the base with the adapters folded in:
 * are the matrices that PEFT has changed the same?
 *
 * Prints the worst difference of any tensor, divided by the tensor's largest
 * element, and ends with 1 if it is over a tolerance.
 */
#include "model/io/hf_adapter.h"
#include "tests/grad/golden.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define GRADIENT_TOLERANCE 1e-3
#define WEIGHT_TOLERANCE   1e-4
#define MERGED_TOLERANCE   1e-6

struct comparison {
	struct safetensors *golden;
	struct safetensors *before; /* the case's adapters */
	struct safetensors *model;
	const char *prefix; /* of what is compared */
	double rate;        /* 0: weights are compared */
	double tolerance;
};

static int open_all(struct comparison *c, const char *folder, const char *model)
{
	char path[4096];

	snprintf(path, sizeof(path), "%s/golden.safetensors", folder);
	return safetensors_open(path, &c->golden) ||
	       safetensors_open_folder(folder, HF_ADAPTER_STEM, &c->before) ||
	       (hf_adapter_is(model)
			? safetensors_open_folder(model, HF_ADAPTER_STEM,
						  &c->model)
			: safetensors_open(model, &c->model));
}

static double tensor_difference(const struct comparison *c,
				const struct safetensors_tensor *wanted,
				const char *name)
{
	const struct safetensors_tensor *tensor =
		golden_find(c->model, "", name);
	float *expected = golden_floats(wanted), *got = golden_floats(tensor);
	double worst;

	if (safetensors_check_shape(tensor, wanted->rank, wanted->shape))
		exit(1);
	if (c->rate > 0) {
		float *before = golden_floats(golden_find(c->before, "", name));

		for (size_t i = 0; i < tensor->count; i++)
			got[i] = (float)(((double)before[i] - (double)got[i]) /
					 c->rate);
		free(before);
	}
	worst = golden_difference(tensor->count, expected, got);
	free(expected);
	free(got);
	return worst;
}

static int compare(const struct comparison *c)
{
	size_t prefix = strlen(c->prefix), compared = 0;
	const char *worst_name = "nothing";
	double worst = 0.0;

	for (size_t i = 0; i < safetensors_count(c->golden); i++) {
		const struct safetensors_tensor *wanted =
			safetensors_tensor(c->golden, i);
		double difference;

		if (strncmp(wanted->name, c->prefix, prefix) != 0)
			continue;
		compared++;
		difference =
			tensor_difference(c, wanted, wanted->name + prefix);
		if (!(difference < worst)) {
			worst = difference;
			worst_name = wanted->name;
		}
	}
	printf("worst difference %.2g, in %s, of %zu tensors\n", worst,
	       worst_name, compared);
	return compared > 0 && worst <= c->tolerance ? 0 : 1;
}

int main(int argc, char **argv)
{
	struct comparison c = {.prefix = "after.",
			       .tolerance = WEIGHT_TOLERANCE};
	int status;

	if (argc < 3 || argc > 4) {
		fprintf(stderr,
			"usage: compare-lora CASE MODEL [RATE | merged]\n");
		return 2;
	}
	if (argc == 4 && strcmp(argv[3], "merged") == 0) {
		c.prefix = "merged.";
		c.tolerance = MERGED_TOLERANCE;
	} else if (argc == 4) {
		c.prefix = "gradient.";
		c.rate = strtod(argv[3], NULL);
		c.tolerance = GRADIENT_TOLERANCE;
	}
	if (open_all(&c, argv[1], argv[2]))
		return 1;
	status = compare(&c);
	safetensors_close(c.model);
	safetensors_close(c.before);
	safetensors_close(c.golden);
	return status;
}
