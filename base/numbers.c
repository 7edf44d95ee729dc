#include "base/numbers.h"

#include <stdlib.h>

static int compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

void numbers_sort(double *values, size_t count)
{
	if (count > 1)
		qsort(values, count, sizeof(*values), compare);
}

double numbers_median(double *values, size_t count)
{
	if (count == 0)
		return 0;
	numbers_sort(values, count);
	return count % 2 ? values[count / 2]
			 : (values[count / 2 - 1] + values[count / 2]) / 2;
}
