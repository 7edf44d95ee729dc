/*
 * Holdings: whatever the grid, every element of every tensor is written once,
 * and every rank reads what belongs into its memory.
 */
#include "engine/holding.h"
#include "model/model.h"

#include <stdlib.h>
#include <string.h>

#include "cmocka-tap.h"

#define BLOCKS     4
#define LAYERS     (BLOCKS + 2)
#define STAGES_MAX LAYERS
#define BUCKET     53 /* elements; divides nothing */

struct setting {
	struct grid grid;
	unsigned stages;
	bool reversed; /* V placement: the last stages are at position 0, too */
	bool shared;   /* the optimizer's state, between the replicas */
	bool untied;
};

/* A table of the model for each slice, and who holds which stage. */
struct rig {
	struct setting setting;
	struct model *model;
	struct parameter *tables; /* [slices][count] */
	struct partition partition;
	unsigned positions[STAGES_MAX];
	struct holders holders;
};

/* Buckets of a slice, each divided between the replicas; some get nothing. */
static bool bucket_range(const void *argument, const struct grid_place *place,
			 const struct parameter *parameter, unsigned index,
			 struct holding_range *out)
{
	const struct rig *rig = argument;
	size_t replicas = rig->setting.grid.replicas, r = place->replica;
	size_t first = (size_t)index * BUCKET, length, begin, end;

	if (first >= parameter->count)
		return false;
	length = MIN(parameter->count - first, (size_t)BUCKET);
	begin = length * r / replicas;
	end = length * (r + 1) / replicas;
	*out = (struct holding_range){first + begin, end - begin};
	return true;
}

static void cut_tables(struct rig *rig)
{
	unsigned slices = rig->setting.grid.slices, count;
	const struct parameter *all = model_parameters(rig->model, &count);

	rig->tables = calloc((size_t)slices * count, sizeof(*rig->tables));
	assert_non_null(rig->tables);
	for (unsigned s = 0; s < slices; s++)
		for (unsigned i = 0; i < count; i++) {
			struct parameter *row = &rig->tables[s * count + i];

			*row = all[i];
			assert_true(parameter_cut(row, slices, s));
		}
	rig->holders.count = count;
}

static void rig_init(struct rig *rig, const struct setting *setting)
{
	struct model_config config;
	unsigned stages = setting->stages, positions = setting->grid.positions;

	*rig = (struct rig){.setting = *setting};
	assert_int_equal(model_config_default("gpt2", &config), 0);
	config.vocab_size = 24;
	config.context = 6;
	config.width = 8;
	config.layers = BLOCKS;
	config.heads = 4;
	config.tied = !setting->untied;
	config.bos_id = config.eos_id = -1;
	assert_int_equal(model_create(&config, &rig->model), 0);
	cut_tables(rig);
	rig->partition.stages = stages;
	for (unsigned s = 0; s <= stages; s++)
		rig->partition.first[s] = s * LAYERS / stages;
	for (unsigned s = 0; s < stages; s++) {
		bool back = setting->reversed && s / positions % 2;

		rig->positions[s] =
			back ? positions - 1 - s % positions : s % positions;
	}
	rig->holders.partition = &rig->partition;
	rig->holders.position_of_stage = rig->positions;
	if (setting->shared)
		rig->holders.shards =
			(struct holding_shards){bucket_range, rig};
}

static void rig_fini(struct rig *rig)
{
	free(rig->tables);
	model_destroy(rig->model);
}

/* The holding, as the rank of slice `by` works it out. */
static void find(struct rig *rig, unsigned by, unsigned rank, unsigned id,
		 enum freight freight, struct holding *out)
{
	struct grid_place place = grid_place(&rig->setting.grid, rank);

	rig->holders.parameters = rig->tables + by * rig->holders.count;
	holding_find(&rig->holders, &place, &rig->holders.parameters[id],
		     freight, out);
}

/* counts[whole] += 1 for every element of the holding. */
static void count_elements(struct holding *holding, unsigned *counts)
{
	size_t at = 0;

	while (at < holding->count) {
		struct holding_segment s = holding_segment(holding, at);

		assert_int_equal(s.local, at);
		assert_true(s.count > 0);
		assert_true(s.count <= holding->count - at);
		assert_true(s.whole < holding->parameter.whole_count);
		assert_true(s.count <=
			    holding->parameter.whole_count - s.whole);
		for (size_t i = 0; i < s.count; i++)
			counts[s.whole + i]++;
		at += s.count;
	}
}

static void expect_all(const unsigned *counts, size_t count, unsigned wanted,
		       const struct parameter *parameter, const char *what)
{
	for (size_t i = 0; i < count; i++)
		if (counts[i] != wanted)
			fail_msg("%s: element %zu of %s: %u times, not %u",
				 what, i, parameter->name, counts[i], wanted);
}

static const struct setting settings[] = {
	{{1, 1, 1}, 1, false, false, false},
	{{1, 3, 1}, 3, false, false, false},
	{{2, 1, 1}, 1, false, false, false},
	{{2, 2, 1}, 2, false, true, false},
	{{3, 1, 1}, 1, false, true, true},
	{{4, 3, 1}, 6, false, true, false},
	{{1, 1, 2}, 1, false, false, false},
	{{1, 2, 4}, 2, false, false, true},
	{{2, 2, 2}, 4, true, false, false},
	{{2, 2, 2}, 4, true, true, false},
	{{3, 2, 4}, 4, false, true, false},
	{{5, 1, 2}, 1, false, true, true},
};

/* All ranks together write every element of what is on disk, and once. */
static void check_written(struct rig *rig, enum freight freight)
{
	unsigned slices = rig->setting.grid.slices;

	for (unsigned id = 0; id < rig->holders.count; id++) {
		const struct parameter *row = &rig->tables[id];
		size_t whole = row->whole_count;
		unsigned *counts = calloc(whole, sizeof(*counts));
		unsigned wanted = freight == SAVE_WEIGHTS
					  ? holding_is_stored(row)
					  : holding_has_moments(row);

		assert_non_null(counts);
		for (unsigned r = 0; r < grid_size(&rig->setting.grid); r++) {
			struct holding holding;

			find(rig, r % slices, r, id, freight, &holding);
			count_elements(&holding, counts);
		}
		expect_all(counts, whole, wanted, row, "written");
		free(counts);
	}
}

static void writes_once(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(settings); i++) {
		struct rig rig;

		rig_init(&rig, &settings[i]);
		check_written(&rig, SAVE_WEIGHTS);
		check_written(&rig, SAVE_MOMENTS);
		rig_fini(&rig);
	}
}

/* What a rank has of the row's slice in its memory. */
static size_t kept(const struct rig *rig, const struct grid_place *place,
		   const struct parameter *row, enum freight freight)
{
	struct holding_range range;
	size_t count = 0;

	if (!holders_have(&rig->holders, place->position, row) ||
	    holders_alias(&rig->holders, place->position, row))
		return 0;
	if (freight == LOAD_WEIGHTS || !rig->setting.shared)
		return row->count;
	for (unsigned i = 0; bucket_range(rig, place, row, i, &range); i++)
		count += range.count;
	return count;
}

/*
 * A rank's memory is filled, and the ranks of a position have the tensor as
 * often as they should: once a replica, or once between all that share it.
 */
static void check_read(struct rig *rig, enum freight freight)
{
	const struct grid *grid = &rig->setting.grid;
	bool shared = freight == LOAD_MOMENTS && rig->setting.shared;

	for (unsigned id = 0; id < rig->holders.count; id++)
		for (unsigned p = 0; p < grid->positions; p++) {
			const struct parameter *row = &rig->tables[id];
			bool split = row->split_axis != PARAMETER_NOT_SPLIT &&
				     grid->slices > 1;
			unsigned *counts =
				calloc(row->whole_count, sizeof(*counts));
			bool here = false;

			assert_non_null(counts);
			for (unsigned r = 0; r < grid_size(grid); r++) {
				struct grid_place place = grid_place(grid, r);
				struct holding holding;

				if (place.position != p)
					continue;
				find(rig, 0, r, id, freight, &holding);
				assert_int_equal(
					holding.count,
					kept(rig, &place,
					     &rig->tables
						      [place.slice *
							       rig->holders
								       .count +
						       id],
					     freight));
				count_elements(&holding, counts);
				here |= holding.count > 0;
			}
			expect_all(counts, row->whole_count,
				   here ? (shared ? 1 : grid->replicas) *
						   (split ? 1 : grid->slices)
					: 0,
				   row, "read");
			free(counts);
		}
}

static void reads_what_it_holds(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(settings); i++) {
		struct rig rig;

		rig_init(&rig, &settings[i]);
		check_read(&rig, LOAD_WEIGHTS);
		check_read(&rig, LOAD_MOMENTS);
		rig_fini(&rig);
	}
}

/* From any place, forwards and backwards, segments say the same. */
static void begins_anywhere(void **state)
{
	static const struct setting setting = {{3, 2, 2}, 4, true, true, false};
	struct rig rig;
	struct holding holding;
	size_t at = 0, *wholes;
	unsigned id = 0;

	(void)state;
	rig_init(&rig, &setting);
	do /* the first strided tensor at position 1 */
		find(&rig, 1, 9, id++, LOAD_MOMENTS, &holding);
	while (holding.count == 0 ||
	       parameter_run_count(&holding.parameter) < 3);
	wholes = calloc(holding.count, sizeof(*wholes));
	assert_non_null(wholes);
	while (at < holding.count) {
		struct holding_segment s = holding_segment(&holding, at);

		for (size_t i = 0; i < s.count; i++)
			wholes[at++] = s.whole + i;
	}
	for (size_t i = 0; i < 3 * holding.count; i++) {
		size_t first = i * 7919 % holding.count;
		struct holding_segment s = holding_segment(&holding, first);

		assert_int_equal(s.local, first);
		assert_int_equal(s.whole, wholes[first]);
		assert_int_equal(s.whole + s.count - 1,
				 wholes[first + s.count - 1]);
	}
	free(wholes);
	rig_fini(&rig);
}

/* Columns of a matrix: q, k and v of slice 1 of 2, row by row. */
static void strides_of_a_slice(void **state)
{
	static const struct setting setting = {
		{1, 1, 2}, 1, false, false, false};
	struct rig rig;
	struct holding holding;
	unsigned id = 0;

	(void)state;
	rig_init(&rig, &setting);
	while (!strstr(rig.tables[id].name, "c_attn.weight"))
		id++;
	/* [8, 24], each of q|k|v 8 wide, 4 of them here */
	find(&rig, 0, 1, id, SAVE_WEIGHTS, &holding);
	assert_int_equal(holding.count, 8 * 12);
	for (size_t row = 0; row < 8; row++)
		for (size_t part = 0; part < 3; part++) {
			size_t first = row * 12 + part * 4;
			struct holding_segment s =
				holding_segment(&holding, first);

			assert_int_equal(s.whole, row * 24 + part * 8 + 4);
			assert_int_equal(s.count, 4);
		}
	rig_fini(&rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(writes_once),
		cmocka_unit_test(reads_what_it_holds),
		cmocka_unit_test(begins_anywhere),
		cmocka_unit_test(strides_of_a_slice),
	};

	return RUN_TESTS("holding", tests);
}
