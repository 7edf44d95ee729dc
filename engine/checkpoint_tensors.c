#include "engine/checkpoint_tensors.h"
#include "base/log.h"
#include "base/threads.h"
#include "engine/checkpoint.h"
#include "engine/ferry.h"
#include "engine/pipeline.h"
#include "model/io/safetensors.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SHARD_BYTES_MAX   ((uint64_t)5000000000) /* as transformers 4 */
#define TENSOR_NAME_BYTES (PARAMETER_NAME_BYTES + 16)

/* ---- which tensors a rank moves ---- */

/* Bytes read or written between two signs of life. */
#define PIECE_BYTES ((size_t)16 << 20)

/* Of the tensor that comes next: what the kernel is asked to read ahead. */
#define EXPECT_BYTES ((size_t)8 << 20)

/* Numbers that a thread reads at a time, and from how many on that is worth it. */
#define STREAM_BLOCK   ((size_t)1 << 19)
#define STREAM_MINIMUM ((size_t)1 << 15)

/*
 * What one rank moves of one kind. Both the rank and the root go through all
 * parameters, moment by moment within, and skip the same ones: an item is a
 * parameter times `copies` plus a moment, and its bytes are those of the
 * segments that the rank holds of it, one after the other.
 */
struct tensors {
	struct pipeline *pipeline;
	enum freight freight;
	struct grid_place place; /* of the rank whose tensors these are */
	struct holders holders;
	unsigned copies; /* moments; 1 for weights */

	/* Where they come from or go to on disk; not on ranks that see none. */
	const char *folder;
	const struct safetensors *files;
	unsigned char *rooms; /* [threads, SAFETENSORS_ROOM_BYTES] */
	struct safetensors_writer *writer;
	int rc; /* the first failure to write: nothing is written after it */

	/* The item that moves: what is held of it, and where it is on disk. */
	size_t current;
	struct holding holding;
	const struct safetensors_tensor *found;
	size_t entry;
};

/* From here on those of this rank: another's, when the root serves it. */
static void tensors_of_rank(struct tensors *t, unsigned rank)
{
	t->place = grid_place(&t->pipeline->grid, rank);
	t->current = SIZE_MAX;
}

static void tensors_init(struct tensors *out, struct pipeline *p,
			 enum freight freight)
{
	*out = (struct tensors){.pipeline = p, .freight = freight, .copies = 1};
	pipeline_holders(p, &out->holders);
	if (freight_is_of_moments(freight))
		out->copies = optimizer_moments(&p->job->optimizer);
	tensors_of_rank(out, p->world->rank);
}

static size_t item_count(const struct tensors *t)
{
	return (size_t)t->holders.count * t->copies;
}

static const struct parameter *parameter_of(const struct tensors *t,
					    size_t item)
{
	return &t->holders.parameters[item / t->copies];
}

/* Makes `item` the current one; false: it is already. */
static bool take_item(struct tensors *t, size_t item)
{
	if (t->current == item)
		return false;
	holding_find(&t->holders, &t->place, parameter_of(t, item), t->freight,
		     &t->holding);
	t->current = item;
	return true;
}

static uint64_t item_bytes(const void *argument, size_t item)
{
	const struct tensors *t = argument;
	struct holding holding;

	if (t->current == item)
		return (uint64_t)t->holding.count * sizeof(float);
	holding_find(&t->holders, &t->place, parameter_of(t, item), t->freight,
		     &holding);
	return (uint64_t)holding.count * sizeof(float);
}

/* Where this rank has it. */
static float *item_memory(const struct tensors *t, size_t item)
{
	const struct store *store = t->pipeline->store;
	const struct store_row *row =
		&store->rows[store->row_of[parameter_of(t, item)->id]];

	return freight_is_of_moments(t->freight)
		       ? row->moments[item % t->copies]
		       : row->weights;
}

static void moment_tensor_name(const struct pipeline *p, unsigned moment,
			       const struct parameter *parameter,
			       char out[TENSOR_NAME_BYTES])
{
	snprintf(out, TENSOR_NAME_BYTES, "%s.%s",
		 optimizer_moment_name(&p->job->optimizer, moment),
		 parameter->name);
}

/* ---- between memory and a piece ---- */

static int copy_from_memory(void *argument, size_t item, uint64_t first,
			    void *data, size_t bytes)
{
	(void)take_item(argument, item);
	memcpy(data, (const char *)item_memory(argument, item) + first, bytes);
	return 0;
}

static int copy_to_memory(void *argument, size_t item, uint64_t first,
			  void *data, size_t bytes)
{
	(void)take_item(argument, item);
	memcpy((char *)item_memory(argument, item) + first, data, bytes);
	return 0;
}

static struct ferry_cargo cargo_of(struct tensors *t,
				   int (*move)(void *argument, size_t item,
					       uint64_t first, void *data,
					       size_t bytes))
{
	return (struct ferry_cargo){.kind = (uint16_t)t->freight,
				    .items = item_count(t),
				    .bytes = item_bytes,
				    .move = move,
				    .argument = t};
}

/* ---- reading ---- */

/* A hub file may leave the family's prefix out. */
static const struct safetensors_tensor *
find_tensor(const struct safetensors *files, const struct model *model,
	    const struct parameter *parameter)
{
	const struct safetensors_tensor *tensor =
		safetensors_find(files, parameter->name);

	for (size_t i = 0; !tensor && i < safetensors_count(files); i++) {
		const struct safetensors_tensor *candidate =
			safetensors_tensor(files, i);

		if (model_parameter_find(model, candidate->name) == parameter)
			tensor = candidate;
	}
	return tensor;
}

/* The row of the table whose values a row has on disk. */
static const struct parameter *stored_as(const struct tensors *t,
					 const struct parameter *parameter)
{
	return parameter->tied_to == PARAMETER_NOT_TIED
		       ? parameter
		       : &t->holders.parameters[parameter->tied_to];
}

/* The tensor on disk that the current item is (part) of. */
static int find_current(struct tensors *t)
{
	const struct pipeline *p = t->pipeline;
	const struct parameter *stored =
		stored_as(t, parameter_of(t, t->current));
	char name[TENSOR_NAME_BYTES];

	snprintf(name, sizeof(name), "%s", stored->name);
	if (freight_is_of_moments(t->freight)) {
		moment_tensor_name(p, (unsigned)(t->current % t->copies),
				   stored, name);
		t->found = safetensors_find(t->files, name);
	} else {
		t->found = find_tensor(t->files, p->model, stored);
	}
	if (!t->found)
		return fail(-EINVAL, "%s: %stensor '%s' is missing", t->folder,
			    freight_is_of_moments(t->freight) ? "optimizer "
							      : "",
			    name);
	return safetensors_check_shape(t->found, stored->dimensions,
				       stored->whole_shape);
}

/* The next item that this rank reads is on its way while this one is converted. */
static void expect_next(const struct tensors *t)
{
	for (size_t i = t->current + 1; i < item_count(t); i++) {
		const struct parameter *stored =
			stored_as(t, parameter_of(t, i));
		const struct safetensors_tensor *next;

		if (item_bytes(t, i) == 0)
			continue;
		next = safetensors_find(t->files, stored->name);
		if (next)
			safetensors_expect(next, EXPECT_BYTES);
		break;
	}
}

/* A long run of a tensor, whose blocks the team's threads share. */
struct stream {
	const struct tensors *t;
	size_t first, count;
	float *to;
	_Atomic int rc;
};

static void stream_block(void *argument, size_t index, unsigned thread)
{
	struct stream *work = argument;
	const struct tensors *t = work->t;
	size_t at = index * STREAM_BLOCK;
	int rc;

	if (work->rc)
		return; /* one message is enough */
	rc = safetensors_stream_floats(
		t->files, t->found, work->first + at,
		MIN(work->count - at, STREAM_BLOCK),
		t->rooms + thread * SAFETENSORS_ROOM_BYTES, work->to + at);
	if (rc)
		work->rc = rc;
}

/* A short run costs no call of the system: the files are mapped, too. */
static int read_run(const struct tensors *t, size_t first, size_t count,
		    float *to)
{
	struct stream work = {.t = t, .first = first, .count = count, .to = to};

	if (count < STREAM_MINIMUM)
		return safetensors_read_floats(t->found, first, count, to);
	threads_run(t->pipeline->world->team,
		    (count + STREAM_BLOCK - 1) / STREAM_BLOCK, stream_block,
		    &work);
	return work.rc;
}

/* Whatever they are on disk, they travel as floats. */
static int read_item(void *argument, size_t item, uint64_t first, void *data,
		     size_t bytes)
{
	struct tensors *t = argument;
	size_t at = (size_t)(first / sizeof(float));
	size_t end = at + bytes / sizeof(float);
	float *to = data;
	int rc = 0;

	if (take_item(t, item)) {
		rc = find_current(t);
		if (!rc && !freight_is_of_moments(t->freight))
			expect_next(t);
	}
	world_note_between(t->pipeline->world); /* it goes on */
	while (!rc && at < end) {
		struct holding_segment segment =
			holding_segment(&t->holding, at);
		size_t count = MIN(segment.count, end - at);

		rc = read_run(t, segment.whole, count, to);
		to += count;
		at += count;
	}
	return rc;
}

/* Piece by piece between this rank's own memory and the disk. */
static int move_own(struct tensors *t,
		    int (*move)(void *argument, size_t item, uint64_t first,
				void *data, size_t bytes))
{
	int rc = 0;

	for (size_t i = 0; !rc && i < item_count(t); i++) {
		uint64_t bytes = item_bytes(t, i);
		char *memory = bytes ? (char *)item_memory(t, i) : NULL;

		for (uint64_t done = 0; !rc && done < bytes;
		     done += PIECE_BYTES)
			rc = move(t, i, done, memory + done,
				  (size_t)MIN(bytes - done, PIECE_BYTES));
	}
	world_note_between(t->pipeline->world);
	return rc;
}

/* The root: what others cannot read themselves. */
static int read_for_others(struct tensors *t)
{
	const struct pipeline *p = t->pipeline;
	int rc = 0;

	for (unsigned r = 0; !rc && r < p->world->size; r++) {
		struct ferry_cargo cargo = cargo_of(t, read_item);

		if (p->reach.reads[r])
			continue;
		tensors_of_rank(t, r);
		rc = ferry_send(p->ferry, r, &cargo);
	}
	return rc;
}

/* Nothing in the file may be left over that would change the result. */
static int check_leftovers(const struct safetensors *files,
			   const struct model *model)
{
	for (size_t i = 0; i < safetensors_count(files); i++) {
		const struct safetensors_tensor *tensor =
			safetensors_tensor(files, i);

		if (model_parameter_find(model, tensor->name) ||
		    model_tensor_is_ignored(model, tensor->name))
			continue;
		return fail(
			-EINVAL,
			"%s: tensor '%s' belongs to no parameter of a %s model",
			tensor->file, tensor->name,
			model_config(model)->family);
	}
	return 0;
}

static int open_source(const struct tensors *t, struct safetensors **out)
{
	struct safetensors *files;
	int rc;

	if (freight_is_of_moments(t->freight))
		return safetensors_open_folder(t->folder, "optimizer", out);
	rc = safetensors_open(t->folder, &files);
	if (rc)
		return rc;
	rc = check_leftovers(files, t->pipeline->model);
	if (rc)
		safetensors_close(files);
	else
		*out = files;
	return rc;
}

static int read_from_disk(struct tensors *t)
{
	struct safetensors *files;
	int rc;

	t->folder = t->pipeline->reach.source;
	rc = open_source(t, &files);
	if (rc)
		return rc;
	t->files = files;
	t->rooms = malloc(threads_count(t->pipeline->world->team) *
			  SAFETENSORS_ROOM_BYTES);
	if (!t->rooms)
		rc = fail(-ENOMEM, "no memory to read %s", t->folder);
	if (!rc)
		rc = move_own(t, read_item);
	if (!rc && t->pipeline->world->rank == ROUTE_ROOT)
		rc = read_for_others(t);
	free(t->rooms);
	safetensors_close(files);
	return rc;
}

static int load(struct pipeline *p, enum freight freight)
{
	struct tensors t;
	struct ferry_cargo cargo;

	tensors_init(&t, p, freight);
	if (item_count(&t) == 0)
		return 0;
	if (p->reach.reads[p->world->rank])
		return read_from_disk(&t);
	cargo = cargo_of(&t, copy_to_memory);
	return ferry_receive(p->ferry, ROUTE_ROOT, &cargo);
}

int checkpoint_load_weights(struct pipeline *p)
{
	return load(p, LOAD_WEIGHTS);
}

int checkpoint_load_moments(struct pipeline *p)
{
	return load(p, LOAD_MOMENTS);
}

/* ---- where everything stands ---- */

void checkpoint_layouts_fini(struct checkpoint_layouts *layouts)
{
	safetensors_layout_destroy(layouts->model);
	safetensors_layout_destroy(layouts->optimizer);
	*layouts = (struct checkpoint_layouts){0};
}

static void set_entry(struct safetensors_entry *entry, const char *name,
		      const struct parameter *parameter)
{
	*entry = (struct safetensors_entry){.name = name,
					    .dtype = SAFETENSORS_F32,
					    .rank = parameter->dimensions,
					    .shape = parameter->whole_shape};
}

int checkpoint_layouts_init(const struct pipeline *p,
			    struct checkpoint_layouts *out)
{
	unsigned moments = optimizer_moments(&p->job->optimizer), count;
	const struct parameter *all = model_parameters(p->model, &count);
	size_t weights = 0, states = 0;
	struct safetensors_entry *entries =
		calloc(count * (1 + moments), sizeof(*entries));
	char(*names)[TENSOR_NAME_BYTES] =
		calloc(count * (1 + moments), sizeof(*names));
	int rc = -ENOMEM;

	*out = (struct checkpoint_layouts){0};
	if (!entries || !names) {
		fail(rc, "no memory to lay out a checkpoint");
		goto out;
	}
	for (unsigned i = 0; i < count; i++)
		if (holding_is_stored(&all[i]))
			set_entry(&entries[weights++], all[i].name, &all[i]);
	rc = safetensors_layout_create(entries, weights, SHARD_BYTES_MAX,
				       "model", &out->model);
	for (unsigned i = 0; i < count * moments; i++) {
		const struct parameter *parameter = &all[i / moments];

		if (!holding_has_moments(parameter))
			continue;
		moment_tensor_name(p, i % moments, parameter, names[states]);
		set_entry(&entries[states], names[states], parameter);
		states++;
	}
	if (!rc && states)
		rc = safetensors_layout_create(entries, states, SHARD_BYTES_MAX,
					       "optimizer", &out->optimizer);
	if (rc)
		checkpoint_layouts_fini(out);
out:
	free(entries);
	free(names);
	return rc;
}

/* Number of an item's entry in its layout. */
static size_t entry_of(const struct tensors *t, size_t item)
{
	const struct parameter *all = t->holders.parameters;
	bool of_moments = freight_is_of_moments(t->freight);
	size_t entry = 0;

	for (size_t i = 0; i < item / t->copies; i++)
		entry += of_moments ? holding_has_moments(&all[i])
				    : holding_is_stored(&all[i]);
	return entry * t->copies + item % t->copies;
}

/* ---- writing ---- */

/*
 * A write a segment: what lies between two of them is another rank's, which
 * may be writing it now.
 */
static int write_item(void *argument, size_t item, uint64_t first, void *data,
		      size_t bytes)
{
	struct tensors *t = argument;
	size_t at = (size_t)(first / sizeof(float));
	size_t end = at + bytes / sizeof(float);
	const float *from = data;

	world_note_between(t->pipeline->world); /* it goes on */
	if (take_item(t, item))
		t->entry = entry_of(t, item);
	while (!t->rc && at < end) {
		struct holding_segment segment =
			holding_segment(&t->holding, at);
		size_t count = MIN(segment.count, end - at);

		t->rc = safetensors_writer_write(t->writer, t->entry,
						 (uint64_t)segment.whole *
							 sizeof(float),
						 from, count * sizeof(float));
		from += count;
		at += count;
	}
	return t->rc;
}

/*
 * The root: takes in what others cannot write themselves, also after a
 * failure, so that they get through to where all agree.
 */
static void write_for_others(struct tensors *t)
{
	const struct pipeline *p = t->pipeline;

	for (unsigned r = 0; r < p->world->size; r++) {
		struct ferry_cargo cargo = cargo_of(t, write_item);
		int rc;

		if (p->reach.writes[r])
			continue;
		tensors_of_rank(t, r);
		rc = ferry_receive(p->ferry, r, &cargo);
		if (!t->rc)
			t->rc = rc;
		if (exchange_error(p->exchange))
			return;
	}
}

static int write_to_disk(struct tensors *t,
			 const struct safetensors_layout *layout,
			 const char *folder, int before)
{
	t->rc = safetensors_writer_open(layout, folder, &t->writer);
	/* Nothing more is written after a failure, but taken in. */
	t->rc = t->rc ? t->rc : before;
	if (!t->rc)
		t->rc = move_own(t, write_item);
	if (t->pipeline->world->rank == ROUTE_ROOT)
		write_for_others(t);
	if (!t->rc)
		return safetensors_writer_close(t->writer);
	safetensors_writer_abandon(t->writer);
	return t->rc;
}

static int save(struct pipeline *p, enum freight freight,
		const struct safetensors_layout *layout, const char *folder,
		int before)
{
	struct tensors t;
	struct ferry_cargo cargo;

	tensors_init(&t, p, freight);
	if (!layout)
		return before;
	if (p->reach.writes[p->world->rank])
		return write_to_disk(&t, layout, folder, before);
	cargo = cargo_of(&t, copy_from_memory);
	return ferry_send(p->ferry, ROUTE_ROOT, &cargo);
}

int checkpoint_tensors_write(struct pipeline *p,
			     const struct checkpoint_layouts *layouts,
			     const char *folder)
{
	int rc = save(p, SAVE_WEIGHTS, layouts->model, folder, 0);

	if (exchange_error(p->exchange))
		return rc;
	return save(p, SAVE_MOMENTS, layouts->optimizer, folder, rc);
}
