/* Which elements of a tensor a slice holds. */
#include "model/parameter.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define COUNT_MAX 4096

static struct parameter row_of(unsigned dimensions, const size_t *shape,
			       int split_axis, unsigned split_parts,
			       bool uneven)
{
	struct parameter row = {
		.dimensions = dimensions,
		.count = 1,
		.split_axis = split_axis,
		.split_parts = split_parts,
		.split_uneven = uneven,
		.slices = 1,
	};

	for (unsigned d = 0; d < dimensions; d++) {
		row.shape[d] = row.whole_shape[d] = shape[d];
		row.count *= shape[d];
	}
	row.whole_count = row.count;
	return row;
}

/* The slice an element belongs to, from its index along the axis alone. */
static unsigned owner_of(const struct parameter *whole, unsigned slices,
			 size_t element)
{
	size_t behind = 1, part, index;

	for (unsigned d = (unsigned)whole->split_axis + 1;
	     d < whole->dimensions; d++)
		behind *= whole->whole_shape[d];
	part = whole->whole_shape[whole->split_axis] / whole->split_parts;
	index = element / behind % part;
	for (unsigned s = 0, end = 0; s < slices; s++) {
		end += (unsigned)(part / slices + (s < part % slices));
		if (index < end)
			return s;
	}
	return slices;
}

/* Every element is in one slice, where it belongs, in ascending order. */
static void check_cut(const struct parameter *whole, unsigned slices)
{
	unsigned char held[COUNT_MAX] = {0};
	size_t total = 0;

	assert_true(whole->count <= COUNT_MAX);
	for (unsigned s = 0; s < slices; s++) {
		struct parameter row = *whole;
		size_t local = 0, last = 0, product = 1;

		assert_true(parameter_cut(&row, slices, s));
		assert_int_equal(row.slices, slices);
		assert_int_equal(row.slice, s);
		assert_int_equal(row.whole_count, whole->count);
		for (unsigned d = 0; d < row.dimensions; d++)
			product *= row.shape[d];
		assert_int_equal(row.count, product);
		for (size_t r = 0; r < parameter_run_count(&row); r++) {
			struct parameter_run run = parameter_run(&row, r);

			assert_int_equal(run.local, local);
			assert_true(run.count > 0 && run.whole >= last);
			local += run.count;
			last = run.whole + run.count;
			assert_true(last <= whole->count);
			for (size_t i = run.whole; i < last; i++) {
				assert_int_equal(held[i]++, 0);
				assert_int_equal(owner_of(whole, slices, i), s);
			}
		}
		assert_int_equal(local, row.count);
		total += local;
	}
	assert_int_equal(total, whole->count);
}

static void runs_cover_the_whole(void **state)
{
	const size_t matrix[] = {24, 36}, cube[] = {5, 12, 7}, vector[] = {36};
	struct parameter row;

	(void)state;
	for (unsigned slices = 1; slices <= 4; slices++) {
		row = row_of(2, matrix, 0, 1, false);
		check_cut(&row, slices);
		row = row_of(2, matrix, 1, 1, false);
		check_cut(&row, slices);
		row = row_of(2, matrix, 1, 3, false);
		check_cut(&row, slices);
		row = row_of(3, cube, 1, 3, false);
		check_cut(&row, slices == 3 ? 2 : slices);
		row = row_of(1, vector, 0, 3, false);
		check_cut(&row, slices);
	}
}

static void uneven_axes_are_shared_out(void **state)
{
	const size_t shape[] = {23, 4}, wide[] = {4, 23};
	struct parameter row;

	(void)state;
	for (unsigned slices = 1; slices <= 23; slices++) {
		row = row_of(2, shape, 0, 1, true);
		check_cut(&row, slices);
		row = row_of(2, wide, 1, 1, true);
		check_cut(&row, slices);
	}
}

static void shares_differ_by_one_at_most(void **state)
{
	(void)state;
	for (size_t length = 0; length < 40; length++) {
		for (unsigned slices = 1; slices < 9; slices++) {
			size_t end = 0;

			for (unsigned s = 0; s < slices; s++) {
				struct parameter_share share =
					parameter_share(length, slices, s);

				assert_int_equal(share.first, end);
				assert_in_range(share.count, length / slices,
						(length + slices - 1) / slices);
				end += share.count;
			}
			assert_int_equal(end, length);
		}
	}
}

/* What is not split is whole on each slice: one run. */
static void what_is_not_split_stays(void **state)
{
	const size_t shape[] = {7};
	struct parameter row = row_of(1, shape, PARAMETER_NOT_SPLIT, 1, false);
	struct parameter_run run;

	(void)state;
	assert_true(parameter_cut(&row, 3, 2));
	assert_int_equal(row.count, 7);
	assert_int_equal(row.slices, 1);
	assert_int_equal(parameter_run_count(&row), 1);
	run = parameter_run(&row, 0);
	assert_true(run.local == 0 && run.whole == 0 && run.count == 7);
}

static void assert_stays_whole(struct parameter row, unsigned slices)
{
	struct parameter before = row;

	assert_false(parameter_cut(&row, slices, 0));
	assert_memory_equal(&row, &before, sizeof(row));
}

static void what_does_not_divide_is_left(void **state)
{
	const size_t shape[] = {4, 30};

	(void)state;
	assert_stays_whole(row_of(2, shape, 1, 1, false), 4);
	assert_stays_whole(row_of(2, shape, 1, 3, false), 4);
	assert_stays_whole(row_of(2, shape, 1, 4, false), 2);
	assert_stays_whole(row_of(2, shape, 0, 1, true), 5);
	assert_stays_whole(row_of(2, shape, 1, 4, true), 2);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(runs_cover_the_whole),
		cmocka_unit_test(uneven_axes_are_shared_out),
		cmocka_unit_test(shares_differ_by_one_at_most),
		cmocka_unit_test(what_is_not_split_stays),
		cmocka_unit_test(what_does_not_divide_is_left),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
