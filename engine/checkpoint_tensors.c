#include "engine/checkpoint_tensors.h"
#include "base/log.h"
#include "base/threads.h"
#include "engine/checkpoint.h"
#include "engine/ferry.h"
#include "engine/pipeline.h"
#include "model/io/hf_adapter.h"
#include "model/io/safetensors.h"
#include "model/kernels/values.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SHARD_BYTES_MAX   ((uint64_t)5000000000) /* as transformers 4 */
#define TENSOR_NAME_BYTES (PARAMETER_NAME_BYTES + 32)

/* ---- which tensors a rank moves ---- */

/* Bytes read or written between two signs of life. */
#define PIECE_BYTES ((size_t)16 << 20)

/* Of the tensor that comes next: what the kernel is asked to read ahead. */
#define EXPECT_BYTES ((size_t)8 << 20)

/* Numbers that a thread reads at a time, and from how many on that is worth it. */
#define STREAM_BLOCK   ((size_t)1 << 19)
#define STREAM_MINIMUM ((size_t)1 << 15)
/* What is to be rounded on its way passes through as many floats of room. */
#define ROOM_FLOATS ((size_t)4096)

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

static const struct store_row *row_of(const struct tensors *t, size_t item)
{
	const struct store *store = t->pipeline->store;

	return &store->rows[store->row_of[parameter_of(t, item)->id]];
}

/* Where this rank has it: whole, in training. */
static float *item_memory(const struct tensors *t, size_t item)
{
	const struct store_row *row = row_of(t, item);

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
	struct tensors *t = argument;

	(void)take_item(t, item);
	if (freight_is_of_moments(t->freight))
		memcpy((char *)item_memory(t, item) + first, data, bytes);
	else
		store_row_set(row_of(t, item), (size_t)(first / sizeof(float)),
			      bytes / sizeof(float), data);
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
	if (t->freight == LOAD_ADAPTERS) {
		hf_adapter_tensor_name(stored->name, name, sizeof(name));
		t->found = safetensors_find(t->files, name);
	} else if (freight_is_of_moments(t->freight)) {
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

/* What the root reads for all others, wherever they are. */
static bool comes_from_root(const struct pipeline *p, enum freight freight)
{
	return p->job->config.adapters.rank > 0 && freight != LOAD_WEIGHTS;
}

static const char *source_folder(const struct pipeline *p, enum freight freight)
{
	if (!comes_from_root(p, freight))
		return p->reach.source;
	return p->job->resume[0] ? p->job->resume : p->job->adapter;
}

static bool reads_itself(const struct pipeline *p, enum freight freight,
			 unsigned rank)
{
	return rank == ROUTE_ROOT ||
	       (p->reach.reads[rank] && !comes_from_root(p, freight));
}

/* An item of weights, also where they are held rounded alone. */
static int read_weights(struct tensors *t, size_t item)
{
	const struct store_row *row = row_of(t, item);
	size_t count = (size_t)(item_bytes(t, item) / sizeof(float));
	size_t most = row->weights ? PIECE_BYTES / sizeof(float) : ROOM_FLOATS;
	float room[ROOM_FLOATS];
	int rc = 0;

	for (size_t at = 0; !rc && at < count; at += most) {
		float *to = row->weights ? row->weights + at : room;
		size_t piece = MIN(most, count - at);

		rc = read_item(t, item, at * sizeof(float), to,
			       piece * sizeof(float));
		if (!rc)
			store_row_set(row, at, piece, to);
	}
	return rc;
}

static int read_own(struct tensors *t)
{
	int rc = 0;

	if (freight_is_of_moments(t->freight))
		return move_own(t, read_item);
	for (size_t i = 0; !rc && i < item_count(t); i++)
		if (item_bytes(t, i))
			rc = read_weights(t, i);
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

		if (reads_itself(p, t->freight, r))
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

int checkpoint_has_masters(const char *folder, bool *out)
{
	static const char *const names[] = {
		CHECKPOINT_MASTERS ".safetensors",
		CHECKPOINT_MASTERS ".safetensors.index.json",
	};
	char path[FILES_PATH_BYTES];
	int rc = 0;

	*out = false;
	for (size_t i = 0; !rc && i < ARRAY_SIZE(names); i++) {
		rc = files_join(path, sizeof(path), folder, names[i]);
		*out |= !rc && files_exists(path);
	}
	return rc;
}

static int open_weights(const struct tensors *t, struct safetensors **out)
{
	const struct job *job = t->pipeline->job;
	struct safetensors *files;
	bool masters = false;
	int rc = 0;

	/* A base model that is a checkpoint itself counts as a model. */
	if (job->resume[0] &&
	    (job->config.adapters.rank == 0 || t->freight == LOAD_ADAPTERS))
		rc = checkpoint_has_masters(t->folder, &masters);
	if (!rc && t->freight == LOAD_ADAPTERS)
		return hf_adapter_open(t->folder,
				       masters ? CHECKPOINT_MASTERS
					       : HF_ADAPTER_STEM,
				       t->pipeline->model, out);
	if (!rc)
		rc = masters ? safetensors_open_folder(
				       t->folder, CHECKPOINT_MASTERS, &files)
			     : safetensors_open(t->folder, &files);
	if (rc)
		return rc;
	rc = check_leftovers(files, t->pipeline->model);
	if (rc)
		safetensors_close(files);
	else
		*out = files;
	return rc;
}

static int open_source(const struct tensors *t, struct safetensors **out)
{
	return freight_is_of_moments(t->freight)
		       ? safetensors_open_folder(t->folder, "optimizer", out)
		       : open_weights(t, out);
}

static int read_from_disk(struct tensors *t)
{
	struct safetensors *files;
	int rc;

	t->folder = source_folder(t->pipeline, t->freight);
	rc = open_source(t, &files);
	if (rc)
		return rc;
	t->files = files;
	t->rooms = malloc(threads_count(t->pipeline->world->team) *
			  SAFETENSORS_ROOM_BYTES);
	if (!t->rooms)
		rc = fail(-ENOMEM, "no memory to read %s", t->folder);
	if (!rc)
		rc = read_own(t);
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
	if (reads_itself(p, freight, p->world->rank))
		return read_from_disk(&t);
	cargo = cargo_of(&t, copy_to_memory);
	return ferry_receive(p->ferry, ROUTE_ROOT, &cargo);
}

int checkpoint_load_weights(struct pipeline *p)
{
	return load(p, LOAD_WEIGHTS);
}

int checkpoint_load_adapters(struct pipeline *p)
{
	return load(p, LOAD_ADAPTERS);
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
	safetensors_layout_destroy(layouts->masters);
	*layouts = (struct checkpoint_layouts){0};
}

static void set_entry(struct safetensors_entry *entry, const char *name,
		      enum element_type type, const struct parameter *parameter)
{
	*entry = (struct safetensors_entry){
		.name = name,
		.dtype = type == ELEMENT_BF16 ? SAFETENSORS_BF16
					      : SAFETENSORS_F32,
		.rank = parameter->dimensions,
		.shape = parameter->whole_shape,
	};
}

static void stored_name(const struct parameter *parameter,
			char out[TENSOR_NAME_BYTES])
{
	if (parameter->adapter)
		hf_adapter_tensor_name(parameter->name, out, TENSOR_NAME_BYTES);
	else
		snprintf(out, TENSOR_NAME_BYTES, "%s", parameter->name);
}

static int lay_out_weights(const struct pipeline *p, enum element_type type,
			   const char *stem, struct safetensors_layout **out)
{
	unsigned count;
	const struct parameter *all = model_parameters(p->model, &count);
	struct safetensors_entry *entries = calloc(count, sizeof(*entries));
	char(*names)[TENSOR_NAME_BYTES] = calloc(count, sizeof(*names));
	/* PEFT reads one file. */
	uint64_t most = p->job->config.adapters.rank > 0 ? 0 : SHARD_BYTES_MAX;
	size_t used = 0;
	int rc = 0;

	if (!entries || !names)
		rc = fail(-ENOMEM, "no memory to lay out a checkpoint");
	for (unsigned i = 0; !rc && i < count; i++) {
		if (!holding_is_stored(&all[i]))
			continue;
		stored_name(&all[i], names[used]);
		set_entry(&entries[used], names[used], type, &all[i]);
		used++;
	}
	if (!rc)
		rc = safetensors_layout_create(entries, used, most, stem, out);
	free(entries);
	free(names);
	return rc;
}

static int lay_out_moments(const struct pipeline *p,
			   struct safetensors_layout **out)
{
	unsigned moments = optimizer_moments(&p->job->optimizer), count;
	const struct parameter *all = model_parameters(p->model, &count);
	size_t room = MAX((size_t)count * moments, 1), used = 0;
	struct safetensors_entry *entries = calloc(room, sizeof(*entries));
	char(*names)[TENSOR_NAME_BYTES] = calloc(room, sizeof(*names));
	int rc = 0;

	if (!entries || !names)
		rc = fail(-ENOMEM, "no memory to lay out a checkpoint");
	for (unsigned i = 0; !rc && i < count * moments; i++) {
		const struct parameter *parameter = &all[i / moments];

		if (!holding_has_moments(parameter))
			continue;
		moment_tensor_name(p, i % moments, parameter, names[used]);
		set_entry(&entries[used], names[used], ELEMENT_F32, parameter);
		used++;
	}
	if (!rc && used)
		rc = safetensors_layout_create(entries, used, SHARD_BYTES_MAX,
					       "optimizer", out);
	free(entries);
	free(names);
	return rc;
}

int checkpoint_layouts_init(const struct pipeline *p,
			    struct checkpoint_layouts *out)
{
	enum element_type type = p->job->save_type;
	int rc;

	*out = (struct checkpoint_layouts){0};
	rc = lay_out_weights(p, type,
			     p->job->config.adapters.rank > 0 ? HF_ADAPTER_STEM
							      : "model",
			     &out->model);
	if (!rc)
		rc = lay_out_moments(p, &out->optimizer);
	if (!rc && type != ELEMENT_F32)
		rc = lay_out_weights(p, ELEMENT_F32, CHECKPOINT_MASTERS,
				     &out->masters);
	if (rc)
		checkpoint_layouts_fini(out);
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

/* Floats of the current item's entry, from element `first` of the whole. */
static int write_floats(struct tensors *t, size_t first, size_t count,
			const float *from)
{
	return safetensors_writer_write(t->writer, t->entry,
					(uint64_t)first * sizeof(float), from,
					count * sizeof(float));
}

static int write_rounded(struct tensors *t, size_t first, size_t count,
			 const float *from)
{
	bfloat16 room[ROOM_FLOATS];
	int rc = 0;

	for (size_t at = 0; !rc && at < count; at += ROOM_FLOATS) {
		size_t piece = MIN(ROOM_FLOATS, count - at);

		values_row_round(piece, from + at, room);
		rc = safetensors_writer_write(t->writer, t->entry,
					      (uint64_t)(first + at) *
						      sizeof(bfloat16),
					      room, piece * sizeof(bfloat16));
	}
	return rc;
}

/*
 * A write a segment: what lies between two of them is another rank's, which
 * may be writing it now.
 */
static int write_item(void *argument, size_t item, uint64_t first, void *data,
		      size_t bytes)
{
	struct tensors *t = argument;
	bool rounds = t->freight == SAVE_WEIGHTS &&
		      t->pipeline->job->save_type == ELEMENT_BF16;
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

		t->rc = rounds ? write_rounded(t, segment.whole, count, from)
			       : write_floats(t, segment.whole, count, from);
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
	rc = save(p, SAVE_MOMENTS, layouts->optimizer, folder, rc);
	if (exchange_error(p->exchange))
		return rc;
	return save(p, SAVE_MASTERS, layouts->masters, folder, rc);
}
