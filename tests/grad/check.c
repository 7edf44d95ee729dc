#include "tests/grad/check.h"
#include "base/random.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define STEP       1e-3
#define DIRECTIONS 2
#define ELEMENTS   6

struct move {
	check_objective_fn *objective;
	void *argument;
	double *variable;
	const double *start;
	const float *direction; /* NULL: one element alone */
	size_t element;
	size_t count;
};

static double move_evaluate(const struct move *move, double by)
{
	double result;

	if (!move->direction)
		move->variable[move->element] += by;
	for (size_t i = 0; move->direction && i < move->count; i++)
		move->variable[i] += by * move->direction[i];
	result = move->objective(move->argument);
	memcpy(move->variable, move->start,
	       move->count * sizeof(move->variable[0]));
	return result;
}

static double move_derivative(const struct move *move)
{
	return (move_evaluate(move, -2 * STEP) -
		8 * move_evaluate(move, -STEP) + 8 * move_evaluate(move, STEP) -
		move_evaluate(move, 2 * STEP)) /
	       (12 * STEP);
}

static size_t largest_element(const float *gradient, size_t count)
{
	size_t largest = 0;

	for (size_t i = 1; i < count; i++)
		if (fabsf(gradient[i]) > fabsf(gradient[largest]))
			largest = i;
	return largest;
}

/*
 * Along a random direction: the error is compared with the length of the
 * gradient, which the derivative is about as large as.
 */
static double check_directions(struct move *move, const float *gradient,
			       double length, double tolerance)
{
	float *direction = malloc(move->count * sizeof(*direction));
	double worst = 0.0;

	ASSERT(direction);
	move->direction = direction;
	for (unsigned d = 0; d < DIRECTIONS; d++) {
		double expected, along = 0.0;

		random_normal(random_key_numbered(d, move->count, 0, 0), 0,
			      move->count, 0.0f,
			      (float)(1.0 / sqrt((double)move->count)),
			      direction);
		for (size_t i = 0; i < move->count; i++)
			along += (double)direction[i] * gradient[i];
		expected = move_derivative(move);
		worst = fmax(worst, fabs(along - expected) /
					    (tolerance * length + 1e-9));
	}
	free(direction);
	move->direction = NULL;
	return worst;
}

static double check_elements(struct move *move, const float *gradient,
			     double typical, double tolerance)
{
	struct random_key key = random_key_named(0, "check-elements");
	double worst = 0.0;

	for (unsigned e = 0; e < ELEMENTS; e++) {
		double expected, error;

		move->element = e == 0 ? largest_element(gradient, move->count)
				       : random_below(key, e, move->count);
		expected = move_derivative(move);
		error = fabs(expected - (double)gradient[move->element]);
		worst = fmax(worst,
			     error / (tolerance * (fabs(expected) + typical) +
				      1e-9));
	}
	return worst;
}

double check_gradient(check_objective_fn *objective, void *argument,
		      double *variable, size_t count, const float *gradient,
		      double tolerance)
{
	double *start = malloc(count * sizeof(*start));
	struct move move = {objective, argument, variable, start,
			    NULL,      0,        count};
	double squares = 0.0, typical, along, single;

	ASSERT(start);
	memcpy(start, variable, count * sizeof(*start));
	for (size_t i = 0; i < count; i++)
		squares += (double)gradient[i] * gradient[i];
	typical = sqrt(squares / (double)count);
	along = check_directions(&move, gradient, typical, tolerance);
	single = check_elements(&move, gradient, typical, tolerance);
	free(start);
	/* A NaN is no pass. */
	return along < 1.0 && single < 1.0 ? fmax(along, single)
					   : fmax(1.0, fmax(along, single));
}
