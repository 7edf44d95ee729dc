/*
 * compare-golden PREFIX MODEL: are the weights of the folder MODEL those that
 * PyTorch has under PREFIX ("after.")? Prints the worst difference, of any
 * weight, and ends with 1 if it is over a tolerance.
 */
#include "tests/grad/golden.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TOLERANCE 3e-5 /* absolute; most weights lie between 0.1 and 1 */

static double worst_of(const struct safetensors *golden, const char *prefix,
		       const struct safetensors_tensor *tensor)
{
	const struct safetensors_tensor *other =
		golden_find(golden, prefix, tensor->name);
	float *wanted = golden_floats(other), *got = golden_floats(tensor);
	double worst = 0.0;

	if (safetensors_check_shape(tensor, other->rank, other->shape))
		exit(1);
	for (size_t i = 0; i < tensor->count; i++) {
		double difference = fabs((double)wanted[i] - (double)got[i]);

		if (!(difference <= worst))
			worst = isnan(difference) ? (double)INFINITY
						  : difference;
	}
	free(wanted);
	free(got);
	return worst;
}

static size_t count_prefixed(const struct safetensors *golden,
			     const char *prefix)
{
	size_t count = 0;

	for (size_t i = 0; i < safetensors_count(golden); i++)
		count += strncmp(safetensors_tensor(golden, i)->name, prefix,
				 strlen(prefix)) == 0;
	return count;
}

int main(int argc, char **argv)
{
	struct safetensors *golden, *model;
	const char *worst_name = "nothing";
	double worst = 0.0;
	size_t wanted;

	if (argc != 3) {
		fprintf(stderr, "usage: compare-golden PREFIX MODEL\n");
		return 2;
	}
	if (safetensors_open(golden_path("golden.safetensors"), &golden) ||
	    safetensors_open(argv[2], &model))
		return 1;
	wanted = count_prefixed(golden, argv[1]);
	if (wanted == 0 || wanted != safetensors_count(model)) {
		printf("%zu tensors, %zu wanted\n", safetensors_count(model),
		       wanted);
		return 1;
	}
	for (size_t i = 0; i < safetensors_count(model); i++) {
		const struct safetensors_tensor *tensor =
			safetensors_tensor(model, i);
		double difference = worst_of(golden, argv[1], tensor);

		if (difference > worst) {
			worst = difference;
			worst_name = tensor->name;
		}
	}
	printf("worst difference %.2g, in %s\n", worst, worst_name);
	safetensors_close(model);
	safetensors_close(golden);
	return worst <= TOLERANCE ? 0 : 1;
}
