#include "tests/grad/golden.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

const char *golden_path(const char *name)
{
	static char path[4096];
	const char *source = getenv("srcdir");

	snprintf(path, sizeof(path), "%s/tests/grad/torch%s%s",
		 source ? source : ".", name[0] ? "/" : "", name);
	return path;
}

static void give_up(const char *what, const char *name)
{
	printf("Bail out! %s %s\n", what, name);
	exit(1);
}

const struct safetensors_tensor *golden_find(const struct safetensors *golden,
					     const char *prefix,
					     const char *name)
{
	const struct safetensors_tensor *tensor;
	char full[256];

	snprintf(full, sizeof(full), "%s%s", prefix, name);
	tensor = safetensors_find(golden, full);
	if (!tensor)
		give_up("there is no tensor", full);
	return tensor;
}

float *golden_floats(const struct safetensors_tensor *tensor)
{
	float *values = malloc(MAX(tensor->count, 1) * sizeof(*values));

	if (!values ||
	    safetensors_read_floats(tensor, 0, tensor->count, values))
		give_up("cannot read", tensor->name);
	return values;
}

double golden_difference(size_t count, const float *wanted, const float *got)
{
	double worst = 0.0, largest = 0.0;

	for (size_t i = 0; i < count; i++) {
		double difference = fabs((double)wanted[i] - (double)got[i]);

		/* A NaN is as wrong as can be. */
		if (!(difference <= worst))
			worst = isnan(difference) ? (double)INFINITY
						  : difference;
		largest = fmax(largest, fabs((double)wanted[i]));
	}
	return largest > 0.0 ? worst / largest : worst;
}
