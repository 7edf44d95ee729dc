#include "engine/checkpoint.h"
#include "base/digest.h"
#include "base/log.h"
#include "base/text.h"
#include "base/threads.h"
#include "engine/carry.h"
#include "engine/checkpoint_tensors.h"
#include "engine/pipeline.h"
#include "model/io/hf_adapter.h"
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
#define MANIFEST_LIMIT    ((size_t)16 << 20)
#define INITIALISE_BLOCK  ((size_t)1 << 16)
#define INITIALISE_PIECE  ((size_t)4096)
#define STEP_FOLDER_BYTES 32

/*
 * Files that go from the tokenizer's folder into every model folder, where the
 * model's own has none.
 */
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

/* Drawn a piece at a time: there may be no master to draw into. */
static void initialise_block(void *argument, size_t index, unsigned thread)
{
	const struct initialise *work = argument;
	size_t at = index * INITIALISE_BLOCK;
	size_t end = MIN(at + INITIALISE_BLOCK, work->row->parameter->count);
	float drawn[INITIALISE_PIECE];

	(void)thread;
	while (at < end) {
		size_t count = MIN(INITIALISE_PIECE, end - at);

		model_initialise(work->model, work->row->parameter->id,
				 work->seed, at, count, drawn);
		store_row_set(work->row, at, count, drawn);
		at += count;
	}
}

static void initialise(struct pipeline *p, bool adapters_only)
{
	for (unsigned i = 0; i < p->store->count; i++) {
		struct initialise work = {.model = p->model,
					  .row = &p->store->rows[i],
					  .seed = p->job->seed};
		size_t count = work.row->parameter->count;

		if (work.row->target >= 0 ||
		    (adapters_only && !work.row->parameter->adapter))
			continue;
		threads_run(p->world->team,
			    (count + INITIALISE_BLOCK - 1) / INITIALISE_BLOCK,
			    initialise_block, &work);
	}
}

void checkpoint_initialise(struct pipeline *p)
{
	initialise(p, false);
}

void checkpoint_initialise_adapters(struct pipeline *p)
{
	initialise(p, true);
}

/* ---- writing ---- */

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
		if (!rc && files_exists(from) && !files_exists(to))
			rc = files_copy(from, to);
		if (rc)
			return rc;
	}
	return 0;
}

static bool has_config(const char *folder)
{
	return folder[0] && files_holds(folder, "config.json");
}

/* The run's newest checkpoint: the folder it began with may be gone. */
static int newest_folder(const struct job *job, char out[FILES_PATH_BYTES])
{
	char path[FILES_PATH_BYTES];
	size_t length;
	char *name;
	int rc = checkpoints_path(path, job->out, "latest");

	out[0] = '\0';
	if (rc || !files_exists(path))
		return rc;
	rc = files_read(path, FILES_PATH_BYTES, &name, &length);
	if (rc)
		return rc;
	if (files_name_is_plain(name))
		rc = checkpoints_path(out, job->out, name);
	free(name);
	return rc;
}

/* What came with the model that the run began with. */
static int carry_model(const struct job *job, const char *folder)
{
	char newest[FILES_PATH_BYTES];
	int rc;

	/* A folder of adapters has them alone: the base model is there. */
	if (job->config.adapters.rank > 0)
		return 0;
	rc = newest_folder(job, newest);
	if (rc)
		return rc;
	if (has_config(newest))
		return carry_over(newest, folder);
	if (has_config(job->resume))
		return carry_over(job->resume, folder);
	return has_config(job->model) ? carry_over(job->model, folder) : 0;
}

static int write_state(const struct pipeline *p, const char *folder,
		       uint64_t step)
{
	char path[FILES_PATH_BYTES], numerics[NUMERICS_BYTES];
	json_t *state;
	int rc = files_join(path, sizeof(path), folder, "state.json");

	if (!rc)
		rc = numerics_describe_type(p->job->config.type, numerics,
					    sizeof(numerics));
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

static int write_config(const struct pipeline *p, const char *folder)
{
	const struct model_config *config = model_config(p->model);

	if (config->adapters.rank > 0)
		return hf_adapter_write(folder, config, p->job->model);
	return hf_config_write(folder, config,
			       p->job->save_type == ELEMENT_BF16 ? "bfloat16"
								 : "float32");
}

/* The root: a fresh folder with everything but the tensors' data. */
static int begin_folder(const struct pipeline *p,
			const struct checkpoint_layouts *layouts,
			const char *folder, uint64_t step)
{
	int rc = files_remove_tree(folder);

	if (!rc)
		rc = files_make_folder(folder);
	if (!rc)
		rc = write_config(p, folder);
	if (!rc)
		rc = carry_model(p->job, folder);
	if (!rc)
		rc = copy_companions(p->job, folder);
	if (!rc)
		rc = write_state(p, folder, step);
	if (!rc)
		rc = safetensors_layout_create_files(layouts->model, folder);
	if (!rc && layouts->optimizer)
		rc = safetensors_layout_create_files(layouts->optimizer,
						     folder);
	if (!rc && layouts->masters)
		rc = safetensors_layout_create_files(layouts->masters, folder);
	return rc;
}

struct description {
	struct world *world; /* sees that this goes on */
	const char *folder;
	json_t *files;
};

/* The name within a folder of a file that files_walk() found. */
static const char *name_within(const char *folder, const char *path)
{
	path += strlen(folder);
	return path + strspn(path, "/");
}

/* "name" or "folder/name", and nothing that leads elsewhere. */
static bool is_within(const char *name)
{
	const char *slash = strchr(name, '/');
	char first[FILES_PATH_BYTES];

	if (!slash)
		return files_name_is_plain(name);
	if ((size_t)(slash - name) >= sizeof(first))
		return false;
	memcpy(first, name, (size_t)(slash - name));
	first[slash - name] = '\0';
	return files_name_is_plain(first) && files_name_is_plain(slash + 1);
}

static int describe_file(void *argument, const char *path, uint64_t bytes)
{
	const struct description *description = argument;
	json_t *entry;
	const char *name = name_within(description->folder, path);
	char hex[DIGEST_HEX_BYTES];
	int rc = digest_file(path, hex);

	if (rc)
		return rc;
	entry = json_pack("{s:I, s:s}", "bytes", (json_int_t)bytes, "sha256",
			  hex);
	if (json_object_set_new(description->files, name, entry))
		return fail(-ENOMEM, "no memory for a manifest");
	world_note_between(description->world);
	return 0;
}

/* Reads every file back: the manifest says what really stands there. */
static int write_manifest(struct world *world, const char *folder)
{
	char path[FILES_PATH_BYTES];
	json_t *files = json_object(), *manifest;
	struct description description = {
		.world = world, .folder = folder, .files = files};
	int rc = files_join(path, sizeof(path), folder, "manifest.json");

	if (!rc)
		rc = files_walk(folder, describe_file, &description);
	manifest = json_pack("{s:i, s:o}", "version", STATE_VERSION, "files",
			     files);
	if (!rc && !manifest)
		rc = fail(-ENOMEM, "no memory for %s", path);
	if (!rc)
		rc = json_write(path, manifest);
	json_decref(manifest);
	return rc;
}

/* ---- verifying ---- */

static int verify_file(const char *folder, const char *name, json_t *entry,
		       const char *origin)
{
	char path[FILES_PATH_BYTES], hex[DIGEST_HEX_BYTES];
	const char *digest;
	int64_t bytes;
	uint64_t size;
	int rc;

	if (!is_within(name) || !json_is_object(entry))
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

/* `world`, if there is one, sees that this goes on. */
static int verify(struct world *world, const char *folder)
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
			if (world)
				world_note_between(world);
		}
	json_decref(manifest);
	return rc;
}

int checkpoint_verify(const char *folder)
{
	return verify(NULL, folder);
}

/* ---- keeping the newest ---- */

struct found {
	uint64_t steps[4096];
	bool damaged[4096];
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
static int finish_folder(const struct pipeline *p, const char *folder,
			 const char *name, uint64_t step)
{
	const struct job *job = p->job;
	char path[FILES_PATH_BYTES];
	int rc = write_manifest(p->world, folder);

	if (!rc)
		rc = files_sync(folder);
	if (!rc)
		rc = checkpoints_path(path, job->out, name);
	if (!rc)
		rc = files_remove_tree(path); /* an older one, redone */
	if (!rc)
		rc = files_rename_durably(folder, path);
	if (!rc)
		rc = verify(p->world, path);
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

/* Where this rank has the folder; "" on one that does not see it. */
static int hidden_path(const struct pipeline *p, const char *hidden,
		       char out[FILES_PATH_BYTES])
{
	unsigned rank = p->world->rank;

	out[0] = '\0';
	if (rank == ROUTE_ROOT)
		return checkpoints_path(out, p->job->out, hidden);
	return p->reach.writes[rank]
		       ? checkpoints_path(out, p->reach.run, hidden)
		       : 0;
}

int checkpoint_write(struct pipeline *p, uint64_t step)
{
	bool root = p->world->rank == ROUTE_ROOT;
	char name[STEP_FOLDER_BYTES], hidden[STEP_FOLDER_BYTES + 1];
	char folder[FILES_PATH_BYTES];
	struct checkpoint_layouts layouts = {0};
	int rc;

	step_name(name, step);
	snprintf(hidden, sizeof(hidden), ".%s", name);
	/* Whoever fails from here on still says so to the others. */
	rc = hidden_path(p, hidden, folder);
	if (!rc)
		rc = checkpoint_layouts_init(p, &layouts);
	if (!rc && root)
		rc = begin_folder(p, &layouts, folder, step);
	rc = agree(p->world, rc);
	if (!rc) {
		rc = checkpoint_tensors_write(p, &layouts, folder);
		/* But for a broken link: others may wait at its other end. */
		if (!exchange_error(p->exchange))
			rc = agree(p->world, rc);
	}
	if (!rc) {
		if (root)
			rc = finish_folder(p, folder, name, step);
		rc = agree(p->world, rc);
	}
	if (rc && rc != -ECANCELED && root)
		(void)!files_remove_tree(folder);
	checkpoint_layouts_fini(&layouts);
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
	const char *from;
	const char *to;
};

/* The folder within `to` that a file of this name stands in. */
static int publish_folder(const char *to, const char *name)
{
	const char *slash = strchr(name, '/');
	char path[FILES_PATH_BYTES];
	int rc;

	if (!slash)
		return 0;
	rc = files_join(path, sizeof(path), to, name);
	if (rc)
		return rc;
	path[strlen(path) - strlen(slash)] = '\0';
	return files_make_folder(path);
}

static int publish_one(void *argument, const char *path, uint64_t bytes)
{
	const struct publish *publish = argument;
	const char *name = name_within(publish->from, path);
	char to[FILES_PATH_BYTES];
	int rc;

	(void)bytes;
	if (strcmp(name, "state.json") == 0 ||
	    strcmp(name, "manifest.json") == 0 ||
	    strncmp(name, "optimizer", 9) == 0 ||
	    strncmp(name, CHECKPOINT_MASTERS, strlen(CHECKPOINT_MASTERS)) == 0)
		return 0;
	rc = publish_folder(publish->to, name);
	if (!rc)
		rc = files_join(to, sizeof(to), publish->to, name);
	return rc ? rc : publish_file(path, to);
}

int checkpoint_publish(const struct job *job, uint64_t step)
{
	char name[STEP_FOLDER_BYTES], from[FILES_PATH_BYTES];
	char hidden[FILES_PATH_BYTES], to[FILES_PATH_BYTES];
	struct publish publish = {.from = from, .to = hidden};
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

/* ---- finding ---- */

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

/*
 * Damaged ones get out of the way of the one that is good, or every resume
 * would read and name them anew.
 */
static void set_aside(const char *run, uint64_t step)
{
	char name[STEP_FOLDER_BYTES], damaged[STEP_FOLDER_BYTES + 16];
	char from[FILES_PATH_BYTES], to[FILES_PATH_BYTES];

	step_name(name, step);
	snprintf(damaged, sizeof(damaged), "damaged-%s", name);
	if (checkpoints_path(from, run, name) ||
	    checkpoints_path(to, run, damaged) || files_remove_tree(to) ||
	    files_rename_durably(from, to))
		return; /* has been said; it will be again */
	log_warning("%s is now called %s; delete it when you like", from,
		    damaged);
}

/* 0, or why it cannot be gone on from. */
static int try_checkpoint(const char *run, uint64_t step, bool *damaged,
			  struct checkpoint *out)
{
	char name[STEP_FOLDER_BYTES], folder[FILES_PATH_BYTES];
	int rc;

	*damaged = false;
	step_name(name, step);
	rc = checkpoints_path(folder, run, name);
	if (rc)
		return rc;
	rc = checkpoint_verify(folder);
	/* A disk that does not answer today may do so tomorrow. */
	*damaged = rc == -EINVAL || rc == -ENOENT;
	if (!rc)
		rc = read_state(folder, out);
	if (rc)
		log_warning("%s cannot be used; looking for an older one",
			    folder);
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
		if (try_checkpoint(run, found->steps[i], &found->damaged[i],
				   out))
			continue;
		for (size_t j = 0; j < i; j++)
			if (found->damaged[j])
				set_aside(run, found->steps[j]);
		free(found);
		return 0;
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
