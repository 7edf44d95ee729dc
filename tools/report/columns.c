#include "tools/report/columns.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>

/* A sum whose earlier addends fade, and that of their weights. */
struct fading {
	double keep; /* of what was, at each point */
	double sum;
	double weight;
};

static void fading_add(struct fading *fading, double value)
{
	fading->sum = fading->keep * fading->sum + value;
	fading->weight = fading->keep * fading->weight + 1;
}

/* The mean of what comes at and after each point, as sums without weights. */
static double *sums_ahead(const double *value, size_t count, double keep)
{
	struct fading ahead = {.keep = keep};
	double *sums = malloc(MAX(count, (size_t)1) * sizeof(*sums));

	for (size_t i = count; sums && i-- > 0;) {
		if (isfinite(value[i]))
			fading_add(&ahead, value[i]);
		sums[i] = ahead.sum;
	}
	return sums;
}

static double weight_of(double keep, size_t count)
{
	return keep > 0 ? (1 - pow(keep, (double)count)) / (1 - keep) : 1;
}

static size_t count_finite(const double *value, size_t count)
{
	size_t finite = 0;

	for (size_t i = 0; i < count; i++)
		finite += isfinite(value[i]) != 0;
	return finite;
}

static struct column *open_column(struct columns *out, double value,
				  bool follows)
{
	struct column *column = &out->column[out->count++];

	*column = (struct column){
		.low = value, .high = value, .follows = follows};
	return column;
}

/* Points in the order of time: which column, what it has, what the mean is. */
static void fill(const double *step, const double *value, size_t count,
		 const double *ahead, double keep, struct columns *out)
{
	double width =
		count ? (step[count - 1] - step[0] + 1) / COLUMNS_MAX : 1;
	size_t left = count_finite(value, count);
	struct fading back = {.keep = keep};
	struct column *column = NULL;
	double before = -INFINITY;
	long here = -1;

	out->lost = count - left;
	for (size_t i = 0; i < count; i++) {
		long index = out->whole ? (long)i
					: (long)((step[i] - step[0]) / width);

		if (!isfinite(value[i]))
			continue;
		index = MIN(index, COLUMNS_MAX - 1L);
		if (index != here)
			column = open_column(out, value[i],
					     step[i] - before <= 1);
		here = index;
		before = step[i];
		fading_add(&back, value[i]);
		column->step = step[i];
		column->low = MIN(column->low, value[i]);
		column->high = MAX(column->high, value[i]);
		/* The point itself is in both sums. */
		column->smooth = (back.sum + ahead[i] - value[i]) /
				 (back.weight + weight_of(keep, left--) - 1);
		out->low = MIN(out->low, value[i]);
		out->high = MAX(out->high, value[i]);
	}
}

int columns_fill(const double *step, const double *value, size_t count,
		 double span, struct columns *out)
{
	double keep = span > 1 ? exp(-1 / span) : 0;
	double *ahead = sums_ahead(value, count, keep);

	*out = (struct columns){.low = INFINITY,
				.high = -INFINITY,
				.whole = count <= COLUMNS_MAX};
	if (!ahead)
		return -ENOMEM;
	fill(step, value, count, ahead, keep, out);
	free(ahead);
	return 0;
}

/* 1, 2 or 5 times a power of ten, at least `least`. */
static double round_step(double least)
{
	double power = pow(10, floor(log10(least)));

	for (unsigned i = 0; i < 3; i++) {
		static const double steps[] = {1, 2, 5};

		if (steps[i] * power >= least * (1 - 1e-9))
			return steps[i] * power;
	}
	return 10 * power;
}

unsigned columns_ticks(double low, double high, bool whole,
		       double ticks[COLUMNS_TICKS_MAX])
{
	double step = high > low ? round_step((high - low) / 6) : 1;
	unsigned count = 0;
	double at;

	if (whole)
		step = MAX(step, 1.0);
	/* Plus zero, lest it be a negative one. */
	for (at = ceil(low / step - 1e-9) + 0.0;
	     at * step <= high + step * 1e-9 && count < COLUMNS_TICKS_MAX; at++)
		ticks[count++] = at * step;
	return count;
}

unsigned columns_log_ticks(double low, double high,
			   double ticks[COLUMNS_TICKS_MAX])
{
	int first = (int)ceil(log10(low) - 1e-9);
	int last = (int)floor(log10(high) + 1e-9);
	int every = (last - first) / 8 + 1;
	unsigned count = 0;

	for (int power = first; power <= last; power += every)
		ticks[count++] = pow(10, power);
	return count;
}
