#include "engine/carry.h"
#include "base/files.h"
#include "base/log.h"
#include "model/io/hf_config.h"

#include <dirent.h>
#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* The one folder within a model folder that is no other form of it. */
#define TEMPLATES "additional_chat_templates"

static const char *const weight_endings[] = {
	".safetensors", ".safetensors.index.json",
	".bin",         ".bin.index.json",
	".pt",          ".pth",
	".ckpt",        ".ckpt.index",
	".h5",          ".h5.index.json",
	".msgpack",     ".msgpack.index.json",
	".onnx",        ".onnx_data",
	".ot",          ".gguf",
	".ggml",        ".npz",
	".tflite",
};

/* Written anew, or of a checkpoint. */
static const char *const own_files[] = {
	"config.json",
	"state.json",
	"manifest.json",
};

static bool ends_with(const char *name, const char *ending)
{
	size_t length = strlen(name), end = strlen(ending);

	return length >= end && strcmp(name + length - end, ending) == 0;
}

static bool is_carried(const char *name)
{
	if (name[0] == '.')
		return false;
	for (size_t i = 0; i < ARRAY_SIZE(own_files); i++)
		if (strcmp(name, own_files[i]) == 0)
			return false;
	for (size_t i = 0; i < ARRAY_SIZE(weight_endings); i++)
		if (ends_with(name, weight_endings[i]))
			return false;
	return true;
}

/* What cannot be read is no reason to lose a checkpoint. */
static int carry_file(const char *from, const char *to, const char *name)
{
	char source[FILES_PATH_BYTES], target[FILES_PATH_BYTES];
	struct stat file;
	int rc = files_join(source, sizeof(source), from, name);

	if (!rc)
		rc = files_join(target, sizeof(target), to, name);
	if (rc || stat(source, &file) || !S_ISREG(file.st_mode))
		return rc;
	if (access(source, R_OK)) {
		log_warning("%s cannot be read, and is not copied beside the "
			    "model: %s",
			    source, strerror(errno));
		return 0;
	}
	rc = files_make_folder(to);
	return rc ? rc : files_copy(source, target);
}

/* The files of one folder, not of those in it. */
static int carry_folder(const char *from, const char *to)
{
	DIR *folder = opendir(from);
	struct dirent *entry;
	int rc = 0;

	if (!folder) {
		log_warning("%s cannot be read, and is not copied beside the "
			    "model: %s",
			    from, strerror(errno));
		return 0;
	}
	while (!rc && (entry = readdir(folder)))
		if (is_carried(entry->d_name))
			rc = carry_file(from, to, entry->d_name);
	closedir(folder);
	return rc;
}

int carry_over(const char *from, const char *to)
{
	char templates[FILES_PATH_BYTES], copies[FILES_PATH_BYTES];
	int rc = carry_folder(from, to);

	if (!rc)
		rc = files_join(templates, sizeof(templates), from, TEMPLATES);
	if (!rc)
		rc = files_join(copies, sizeof(copies), to, TEMPLATES);
	if (!rc && files_is_folder(templates))
		rc = carry_folder(templates, copies);
	return rc ? rc : hf_config_carry_over(to, from);
}
