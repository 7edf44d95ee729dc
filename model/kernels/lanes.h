/*
 * Sums and maxima along a row, in an order that vector code keeps: element i
 * belongs to lane i % 16, lanes are combined by a fixed tree. The order is
 * written out, so the bits are the same for every instruction set.
 */
#ifndef STAGECOACH_MODEL_KERNELS_LANES_H
#define STAGECOACH_MODEL_KERNELS_LANES_H

#include "model/kernels/vector_math.h"

#define LANES 16

/* Runs `statement` for each element i of [0, count), of lane `lane`. */
#define LANES_FOR(count, i, lane, statement)                                   \
	do {                                                                   \
		size_t lanes_base = 0;                                         \
		for (; lanes_base + LANES <= (count); lanes_base += LANES)     \
			for (size_t lane = 0; lane < LANES; lane++) {          \
				size_t i = lanes_base + lane;                  \
				statement;                                     \
			}                                                      \
		for (size_t lane = 0; lane < (count)-lanes_base; lane++) {     \
			size_t i = lanes_base + lane;                          \
			statement;                                             \
		}                                                              \
	} while (0)

VECTOR_INLINE float lanes_sum(const float *lanes)
{
	float half[8];

	for (int i = 0; i < 8; i++)
		half[i] = lanes[i] + lanes[i + 8];
	return ((half[0] + half[4]) + (half[2] + half[6])) +
	       ((half[1] + half[5]) + (half[3] + half[7]));
}

VECTOR_INLINE double lanes_sum_double(const double *lanes)
{
	double half[8];

	for (int i = 0; i < 8; i++)
		half[i] = lanes[i] + lanes[i + 8];
	return ((half[0] + half[4]) + (half[2] + half[6])) +
	       ((half[1] + half[5]) + (half[3] + half[7]));
}

VECTOR_INLINE float lanes_maximum(const float *lanes)
{
	float maximum = lanes[0];

	for (int i = 1; i < LANES; i++)
		maximum = lanes[i] > maximum ? lanes[i] : maximum;
	return maximum;
}

#endif
