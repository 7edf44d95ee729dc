#include "engine/learning_rate.h"
#include "base/math.h"

#define PI 3.14159265358979323846

double learning_rate_at(const struct learning_rate *rate, uint64_t step)
{
	double part, weight;

	if (step < rate->warmup_steps)
		return rate->peak * (double)(step + 1) /
		       (double)rate->warmup_steps;
	if (rate->decay == DECAY_CONSTANT)
		return rate->peak;
	if (step >= rate->decay_steps)
		return rate->floor;
	part = (double)(step - rate->warmup_steps) /
	       (double)(rate->decay_steps - rate->warmup_steps);
	if (rate->decay == DECAY_COSINE)
		weight = 0.5 * (1.0 + math_cos(PI * part));
	else
		weight = 1.0 - part;
	return rate->floor + weight * (rate->peak - rate->floor);
}
