#include "engine/checkpoint.h"
#include "base/digest.h"
#include "base/log.h"
#include "base/text.h"
#include "base/threads.h"
#include "engine/pipeline.h"
#include "model/io/hf_config.h"
#include "model/io/safetensors.h"
#include "model/kernels/numerics.h"

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define NUMERICS_BYTES    1024
#define STATE_VERSION     1
#define SHARD_BYTES_MAX   ((uint64_t)5000000000) /* as transformers 4 */
#define MANIFEST_LIMIT    ((size_t)16 << 20)
#define INITIALISE_BLOCK  ((size_t)1 << 16)
#define STEP_FOLDER_BYTES 32
#define TENSOR_NAME_BYTES (PARAMETER_NAME_BYTES + 16)

/* Files that go from the tokenizer's folder into every model folder. */
static const char *const companion_files[] = {
	"tokenizer.json",
	"tokenizer_config.json",
	"special_tokens_map.json",
	"vocab.json",
	"merges.txt",
	"generation_config.json",
};

/* ---- names ---- */

static void step_name(char out[STEP_FOLDER_BYTES], uint64_t step)
{
	snprintf(out, STEP_FOLDER_BYTES, "step-%08" PRIu64, step);
}

static int checkpoints_path(char *out, const char *run, const char *name)
{
	char folder[FILES_PATH_BYTES];
	int rc = files_join(folder, sizeof(folder), run, "checkpoints");

	return rc ? rc : files_join(out, FILES_PATH_BYTES, folder, name);
}

/* ---- initial weights ---- */

struct initialise {
	const struct model *model;
	const struct store_row *row;
	uint64_t seed;
};

static void initialise_block(void *argument, size_t index, unsigned thread)
{
	const struct initialise *work = argument;
	size_t first = index * INITIALISE_BLOCK;
	size_t count =
		MIN(INITIALISE_BLOCK, work->row->parameter->count - first);

	(void)thread;
	model_initialise(work->model, work->row->parameter->id, work->seed,
			 first, count, work->row->weights + first);
}

void checkpoint_initialise(struct pipeline *p)
{
	for (unsigned i = 0; i < p->store->count; i++) {
		struct initialise work = {.model = p->model,
					  .row = &p->store->rows[i],
					  .seed = p->job->seed};
		size_t count = work.row->parameter->count;

		if (work.row->target >= 0)
			continue;
		threads_run(p->world->team,
			    (count + INITIALISE_BLOCK - 1) / INITIALISE_BLOCK,
			    initialise_block, &work);
	}
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
static const struct parameter *stored_as(const struct model *model,
					 const struct parameter *parameter)
{
	const struct parameter *all = model_parameters(model, &(unsigned){0});

	return parameter->tied_to == PARAMETER_NOT_TIED
		       ? parameter
		       : &all[parameter->tied_to];
}

static int load_tensor(const struct safetensors_tensor *tensor,
		       const struct parameter *parameter, float *out)
{
	int rc = safetensors_check_shape(tensor, parameter->dimensions,
					 parameter->shape);

	return rc ? rc
		  : safetensors_read_floats(tensor, 0, parameter->count, out);
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

int checkpoint_load_weights(struct pipeline *p, const char *folder)
{
	struct safetensors *files;
	int rc = safetensors_open(folder, &files);

	if (rc)
		return rc;
	rc = check_leftovers(files, p->model);
	for (unsigned i = 0; !rc && i < p->store->count; i++) {
		const struct store_row *row = &p->store->rows[i];
		const struct parameter *stored =
			stored_as(p->model, row->parameter);
		const struct safetensors_tensor *tensor;

		if (row->target >= 0)
			continue;
		world_note_between(p->world); /* it goes on */
		tensor = find_tensor(files, p->model, stored);
		rc = tensor ? load_tensor(tensor, stored, row->weights)
			    : fail(-EINVAL, "%s: tensor '%s' is missing",
				   folder, stored->name);
	}
	safetensors_close(files);
	return rc;
}

static void moment_tensor_name(const struct pipeline *p, unsigned moment,
			       const struct parameter *parameter,
			       char out[TENSOR_NAME_BYTES])
{
	snprintf(out, TENSOR_NAME_BYTES, "%s.%s",
		 optimizer_moment_name(&p->job->optimizer, moment),
		 parameter->name);
}

int checkpoint_load_moments(struct pipeline *p, const char *folder)
{
	unsigned moments = optimizer_moments(&p->job->optimizer);
	struct safetensors *files;
	int rc;

	if (moments == 0)
		return 0;
	rc = safetensors_open_folder(folder, "optimizer", &files);
	if (rc)
		return rc;
	for (unsigned i = 0; !rc && i < p->store->count * moments; i++) {
		const struct store_row *row = &p->store->rows[i / moments];
		const struct parameter *stored =
			stored_as(p->model, row->parameter);
		const struct safetensors_tensor *tensor;
		char name[TENSOR_NAME_BYTES];

		if (!store_row_is_updated(row))
			continue;
		moment_tensor_name(p, i % moments, stored, name);
		world_note_between(p->world); /* it goes on */
		tensor = safetensors_find(files, name);
		rc = tensor ? load_tensor(tensor, stored,
					  row->moments[i % moments])
			    : fail(-EINVAL,
				   "%s: optimizer tensor '%s' is missing",
				   folder, name);
	}
	safetensors_close(files);
	return rc;
}

/* ---- where everything stands ---- */

struct layouts {
	struct safetensors_layout *model;
	struct safetensors_layout *optimizer; /* NULL: no moments */
};

static void layouts_fini(struct layouts *layouts)
{
	safetensors_layout_destroy(layouts->model);
	safetensors_layout_destroy(layouts->optimizer);
	*layouts = (struct layouts){0};
}

static void set_entry(struct safetensors_entry *entry, const char *name,
		      const struct parameter *parameter)
{
	*entry = (struct safetensors_entry){.name = name,
					    .dtype = SAFETENSORS_F32,
					    .rank = parameter->dimensions,
					    .shape = parameter->shape};
}

static bool has_moments(const struct parameter *parameter)
{
	return parameter->trainable && parameter->tied_to == PARAMETER_NOT_TIED;
}

/* Entries in parameter order; the optimizer's moment by moment within. */
static int layouts_init(const struct pipeline *p, struct layouts *out)
{
	unsigned moments = optimizer_moments(&p->job->optimizer), count;
	const struct parameter *all = model_parameters(p->model, &count);
	size_t weights = 0, states = 0;
	struct safetensors_entry *entries =
		calloc(count * (1 + moments), sizeof(*entries));
	char(*names)[TENSOR_NAME_BYTES] =
		calloc(count * (1 + moments), sizeof(*names));
	int rc = -ENOMEM;

	*out = (struct layouts){0};
	if (!entries || !names) {
		fail(rc, "no memory to lay out a checkpoint");
		goto out;
	}
	for (unsigned i = 0; i < count; i++)
		if (all[i].tied_to == PARAMETER_NOT_TIED)
			set_entry(&entries[weights++], all[i].name, &all[i]);
	rc = safetensors_layout_create(entries, weights, SHARD_BYTES_MAX,
				       "model", &out->model);
	for (unsigned i = 0; i < count * moments; i++) {
		const struct parameter *parameter = &all[i / moments];

		if (!has_moments(parameter))
			continue;
		moment_tensor_name(p, i % moments, parameter, names[states]);
		set_entry(&entries[states], names[states], parameter);
		states++;
	}
	if (!rc && states)
		rc = safetensors_layout_create(entries, states, SHARD_BYTES_MAX,
					       "optimizer", &out->optimizer);
	if (rc)
		layouts_fini(out);
out:
	free(entries);
	free(names);
	return rc;
}

/* Numbers of a parameter's entries in the two layouts. */
static size_t entry_of(const struct pipeline *p,
		       const struct parameter *parameter, bool of_moments)
{
	const struct parameter *all =
		model_parameters(p->model, &(unsigned){0});
	size_t entry = 0;

	for (unsigned i = 0; i < parameter->id; i++)
		entry += of_moments ? has_moments(&all[i])
				    : all[i].tied_to == PARAMETER_NOT_TIED;
	return entry;
}

/* ---- writing ---- */

static int write_weights(const struct pipeline *p,
			 const struct safetensors_layout *layout,
			 const char *folder)
{
	struct safetensors_writer *writer;
	int rc = safetensors_writer_open(layout, folder, &writer);

	if (rc)
		return rc;
	for (unsigned i = 0; !rc && i < p->store->count; i++) {
		const struct store_row *row = &p->store->rows[i];

		if (!store_row_is_saved(row))
			continue;
		world_note_between(p->world); /* it goes on */
		rc = safetensors_writer_write(
			writer, entry_of(p, row->parameter, false), 0,
			row->weights, row->parameter->count * sizeof(float));
	}
	if (!rc)
		return safetensors_writer_close(writer);
	safetensors_writer_abandon(writer);
	return rc;
}

static int write_moments(const struct pipeline *p,
			 const struct safetensors_layout *layout,
			 const char *folder)
{
	unsigned moments = optimizer_moments(&p->job->optimizer);
	struct safetensors_writer *writer;
	int rc;

	if (!layout)
		return 0;
	rc = safetensors_writer_open(layout, folder, &writer);
	if (rc)
		return rc;
	for (unsigned i = 0; !rc && i < p->store->count * moments; i++) {
		const struct store_row *row = &p->store->rows[i / moments];
		size_t entry;

		if (!has_moments(row->parameter))
			continue;
		world_note_between(p->world); /* it goes on */
		entry = entry_of(p, row->parameter, true) * moments +
			i % moments;
		rc = safetensors_writer_write(
			writer, entry, 0, row->moments[i % moments],
			row->parameter->count * sizeof(float));
	}
	if (!rc)
		return safetensors_writer_close(writer);
	safetensors_writer_abandon(writer);
	return rc;
}

static int copy_companions(const struct job *job, const char *folder)
{
	for (size_t i = 0; i < ARRAY_SIZE(companion_files); i++) {
		char from[FILES_PATH_BYTES], to[FILES_PATH_BYTES];
		int rc;

		if (!job->tokenizer_folder[0])
			return 0;
		rc = files_join(from, sizeof(from), job->tokenizer_folder,
				companion_files[i]);
		if (!rc)
			rc = files_join(to, sizeof(to), folder,
					companion_files[i]);
		if (!rc && files_exists(from))
			rc = files_copy(from, to);
		if (rc)
			return rc;
	}
	return 0;
}

static int write_state(const struct pipeline *p, const char *folder,
		       uint64_t step)
{
	char path[FILES_PATH_BYTES], numerics[NUMERICS_BYTES];
	json_t *state;
	int rc = files_join(path, sizeof(path), folder, "state.json");

	if (!rc)
		rc = numerics_describe(numerics, sizeof(numerics));
	if (rc)
		return rc;
	state = json_pack("{s:i, s:I, s:o, s:o}", "version", STATE_VERSION,
			  "step", (json_int_t)step, "identity",
			  job_identity(p->job), "numerics",
			  json_loads(numerics, 0, NULL));
	if (!state)
		return fail(-ENOMEM, "no memory for %s", path);
	rc = json_write(path, state);
	json_decref(state);
	return rc;
}

/* The root: a fresh folder with everything but the tensors' data. */
static int begin_folder(const struct pipeline *p, const struct layouts *layouts,
			const char *folder, uint64_t step)
{
	int rc = files_remove_tree(folder);

	if (!rc)
		rc = files_make_folder(folder);
	if (!rc)
		rc = hf_config_write(folder, model_config(p->model), "float32");
	if (!rc)
		rc = copy_companions(p->job, folder);
	if (!rc)
		rc = write_state(p, folder, step);
	if (!rc)
		rc = safetensors_layout_create_files(layouts->model, folder);
	if (!rc && layouts->optimizer)
		rc = safetensors_layout_create_files(layouts->optimizer,
						     folder);
	return rc;
}

static int describe_file(void *argument, const char *path, uint64_t bytes)
{
	json_t *files = argument, *entry;
	const char *name = strrchr(path, '/') + 1;
	char hex[DIGEST_HEX_BYTES];
	int rc = digest_file(path, hex);

	if (rc)
		return rc;
	entry = json_pack("{s:I, s:s}", "bytes", (json_int_t)bytes, "sha256",
			  hex);
	if (json_object_set_new(files, name, entry))
		return fail(-ENOMEM, "no memory for a manifest");
	return 0;
}

/* Reads every file back: the manifest says what really stands there. */
static int write_manifest(const char *folder)
{
	char path[FILES_PATH_BYTES];
	json_t *files = json_object(), *manifest;
	int rc = files_join(path, sizeof(path), folder, "manifest.json");

	if (!rc)
		rc = files_walk(folder, describe_file, files);
	manifest = json_pack("{s:i, s:o}", "version", STATE_VERSION, "files",
			     files);
	if (!rc && !manifest)
		rc = fail(-ENOMEM, "no memory for %s", path);
	if (!rc)
		rc = json_write(path, manifest);
	json_decref(manifest);
	return rc;
}

/* ---- keeping the newest ---- */

struct found {
	uint64_t steps[4096];
	size_t count;
};

/* Only a name that step_name() would write. */
static bool parse_step(const char *name, uint64_t *step)
{
	char again[STEP_FOLDER_BYTES];
	uint64_t value;

	if (strncmp(name, "step-", 5) != 0)
		return false;
	value = strtoull(name + 5, NULL, 10);
	step_name(again, value);
	if (strcmp(name, again) != 0)
		return false;
	*step = value;
	return true;
}

static int newest_first(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return (x < y) - (x > y);
}

/* Every step-N of the run, newest first; `sweep` removes unfinished ones. */
static int list_checkpoints(const char *run, bool sweep, struct found *out)
{
	char folder[FILES_PATH_BYTES], path[FILES_PATH_BYTES];
	struct dirent *entry;
	DIR *dir;
	int rc = files_join(folder, sizeof(folder), run, "checkpoints");

	out->count = 0;
	if (rc)
		return rc;
	dir = opendir(folder);
	if (!dir)
		return errno == ENOENT ? 0
				       : fail(-errno, "open %s: %s", folder,
					      strerror(errno));
	while ((entry = readdir(dir)) && !rc) {
		uint64_t step;

		if (parse_step(entry->d_name, &step)) {
			if (out->count < ARRAY_SIZE(out->steps))
				out->steps[out->count++] = step;
		} else if (sweep && strncmp(entry->d_name, ".step-", 6) == 0) {
			rc = files_join(path, sizeof(path), folder,
					entry->d_name);
			if (!rc)
				rc = files_remove_tree(path);
		}
	}
	closedir(dir);
	qsort(out->steps, out->count, sizeof(out->steps[0]), newest_first);
	return rc;
}

/*
 * Deletes all but the newest up to `step`. What stands beyond it is left from
 * a run that was resumed from before it (because it is damaged, say); it must
 * not count, or it would cost the good ones.
 */
static int prune(const struct job *job, uint64_t step)
{
	unsigned kept = 0;
	struct found *found = malloc(sizeof(*found));
	int rc;

	if (!found)
		return fail(-ENOMEM, "no memory to list checkpoints");
	rc = list_checkpoints(job->out, false, found);
	for (size_t i = 0; !rc && i < found->count; i++) {
		char name[STEP_FOLDER_BYTES], path[FILES_PATH_BYTES];

		if (found->steps[i] > step ||
		    kept++ < MAX(job->keep_checkpoints, 1))
			continue;
		step_name(name, found->steps[i]);
		rc = checkpoints_path(path, job->out, name);
		if (!rc)
			rc = files_remove_tree(path);
	}
	free(found);
	return rc;
}

/* The root: all data are on disk; make it a checkpoint. */
static int finish_folder(const struct job *job, const char *folder,
			 const char *name, uint64_t step)
{
	char path[FILES_PATH_BYTES];
	int rc = write_manifest(folder);

	if (!rc)
		rc = files_sync(folder);
	if (!rc)
		rc = checkpoints_path(path, job->out, name);
	if (!rc)
		rc = files_remove_tree(path); /* an older one, redone */
	if (!rc)
		rc = files_rename_durably(folder, path);
	if (!rc)
		rc = checkpoint_verify(path);
	if (!rc)
		rc = checkpoints_path(path, job->out, "latest");
	if (!rc)
		rc = files_replace(path, name, strlen(name));
	/* The new one stands, whether old ones can be deleted or not. */
	if (!rc && prune(job, step))
		log_warning("%s: old checkpoints could not be deleted",
			    job->out);
	return rc;
}

/* All ranks learn whether all went well: 0, or the first failure's code. */
static int agree(struct world *world, int rc)
{
	json_t *mine = json_integer(rc), *all;
	int mistake = world_all_gather(world, mine, &all);

	json_decref(mine);
	if (mistake)
		return mistake;
	for (size_t i = 0; !rc && i < json_array_size(all); i++)
		rc = (int)json_integer_value(json_array_get(all, i));
	json_decref(all);
	return rc;
}

int checkpoint_write(struct pipeline *p, uint64_t step)
{
	bool root = p->world->rank == ROUTE_ROOT;
	char name[STEP_FOLDER_BYTES], hidden[STEP_FOLDER_BYTES + 1];
	char folder[FILES_PATH_BYTES];
	struct layouts layouts;
	int rc;

	step_name(name, step);
	snprintf(hidden, sizeof(hidden), ".%s", name);
	rc = checkpoints_path(folder, p->job->out, hidden);
	if (rc) /* on all ranks alike */
		return rc;
	/* Whoever fails from here on still says so to the others. */
	rc = layouts_init(p, &layouts);
	if (!rc && root)
		rc = begin_folder(p, &layouts, folder, step);
	rc = agree(p->world, rc);
	if (!rc) {
		rc = write_weights(p, layouts.model, folder);
		if (!rc)
			rc = write_moments(p, layouts.optimizer, folder);
		rc = agree(p->world, rc);
	}
	if (!rc) {
		if (root)
			rc = finish_folder(p->job, folder, name, step);
		rc = agree(p->world, rc);
	}
	if (rc && rc != -ECANCELED && root)
		(void)!files_remove_tree(folder);
	layouts_fini(&layouts);
	return rc;
}

/* ---- RUN/model ---- */

static int publish_file(const char *from, const char *to)
{
	if (link(from, to) == 0)
		return 0;
	return files_copy(from, to);
}

struct publish {
	const char *to;
};

static int publish_one(void *argument, const char *path, uint64_t bytes)
{
	const struct publish *publish = argument;
	const char *name = strrchr(path, '/') + 1;
	char to[FILES_PATH_BYTES];
	int rc;

	(void)bytes;
	if (strcmp(name, "state.json") == 0 ||
	    strcmp(name, "manifest.json") == 0 ||
	    strncmp(name, "optimizer", 9) == 0)
		return 0;
	rc = files_join(to, sizeof(to), publish->to, name);
	return rc ? rc : publish_file(path, to);
}

int checkpoint_publish(const struct job *job, uint64_t step)
{
	char name[STEP_FOLDER_BYTES], from[FILES_PATH_BYTES];
	char hidden[FILES_PATH_BYTES], to[FILES_PATH_BYTES];
	struct publish publish = {.to = hidden};
	int rc;

	step_name(name, step);
	rc = checkpoints_path(from, job->out, name);
	if (!rc)
		rc = files_join(hidden, sizeof(hidden), job->out, ".model");
	if (!rc)
		rc = files_join(to, sizeof(to), job->out, "model");
	if (!rc)
		rc = files_remove_tree(hidden);
	if (!rc)
		rc = files_make_folder(hidden);
	if (!rc)
		rc = files_walk(from, publish_one, &publish);
	if (!rc)
		rc = files_sync(hidden);
	if (!rc)
		rc = files_remove_tree(to);
	return rc ? rc : files_rename_durably(hidden, to);
}

/* ---- verifying and finding ---- */

static int verify_file(const char *folder, const char *name, json_t *entry,
		       const char *origin)
{
	char path[FILES_PATH_BYTES], hex[DIGEST_HEX_BYTES];
	const char *digest;
	int64_t bytes;
	uint64_t size;
	int rc;

	if (!files_name_is_plain(name) || !json_is_object(entry))
		return fail(-EINVAL, "%s: '%s' is no file of this folder",
			    origin, name);
	rc = json_get_integer(entry, "bytes", 0, INT64_MAX, origin, &bytes);
	if (!rc)
		rc = json_get_string(entry, "sha256", origin, &digest);
	if (!rc)
		rc = files_join(path, sizeof(path), folder, name);
	if (rc)
		return rc;
	if (!files_exists(path))
		return fail(-EINVAL, "%s is missing", path);
	rc = files_size(path, &size);
	if (rc)
		return rc;
	if (size != (uint64_t)bytes)
		return fail(-EINVAL,
			    "%s has %" PRIu64
			    " bytes, its manifest says %" PRId64,
			    path, size, bytes);
	rc = digest_file(path, hex);
	if (!rc && strcmp(hex, digest) != 0)
		rc = fail(
			-EINVAL,
			"%s is damaged: its SHA-256 is not what the manifest says",
			path);
	return rc;
}

int checkpoint_verify(const char *folder)
{
	char path[FILES_PATH_BYTES];
	json_t *manifest, *files, *entry;
	const char *name;
	int rc = files_join(path, sizeof(path), folder, "manifest.json");

	if (rc)
		return rc;
	rc = json_read(path, MANIFEST_LIMIT, &manifest);
	if (rc)
		return rc;
	rc = json_get_object(manifest, "files", path, &files);
	if (!rc && !json_object_get(files, "state.json"))
		rc = fail(-EINVAL, "%s does not list state.json", path);
	if (!rc)
		json_object_foreach(files, name, entry)
		{
			rc = verify_file(folder, name, entry, path);
			if (rc)
				break;
		}
	json_decref(manifest);
	return rc;
}

static int read_state(const char *folder, struct checkpoint *out)
{
	char path[FILES_PATH_BYTES];
	json_t *state, *identity;
	int64_t version, step;
	int rc = files_join(path, sizeof(path), folder, "state.json");

	if (rc)
		return rc;
	rc = json_read(path, MANIFEST_LIMIT, &state);
	if (rc)
		return rc;
	rc = json_get_integer(state, "version", STATE_VERSION, STATE_VERSION,
			      path, &version);
	if (!rc)
		rc = json_get_integer(state, "step", 0, INT64_MAX, path, &step);
	if (!rc)
		rc = json_get_object(state, "identity", path, &identity);
	if (!rc)
		rc = text_copy(out->folder, sizeof(out->folder), folder);
	if (!rc) {
		out->step = (uint64_t)step;
		out->identity = json_incref(identity);
		out->numerics = json_incref(json_object_get(state, "numerics"));
	}
	json_decref(state);
	return rc;
}

int checkpoint_find(const char *run, struct checkpoint *out)
{
	struct found *found = malloc(sizeof(*found));
	int rc;

	if (!found)
		return fail(-ENOMEM, "no memory to list checkpoints");
	rc = list_checkpoints(run, true, found);
	for (size_t i = 0; !rc && i < found->count; i++) {
		char name[STEP_FOLDER_BYTES], folder[FILES_PATH_BYTES];

		step_name(name, found->steps[i]);
		rc = checkpoints_path(folder, run, name);
		if (rc)
			break;
		if (checkpoint_verify(folder) == 0 &&
		    read_state(folder, out) == 0) {
			free(found);
			return 0;
		}
		log_warning("%s cannot be used; looking for an older one",
			    folder);
	}
	free(found);
	return rc ? rc
		  : fail(-ENOENT,
			 "%s has no complete checkpoint to resume from; start the run anew with another --out",
			 run);
}

void checkpoint_fini(struct checkpoint *checkpoint)
{
	json_decref(checkpoint->identity);
	json_decref(checkpoint->numerics);
	checkpoint->identity = NULL;
	checkpoint->numerics = NULL;
}
