#include "engine/carry.h"
#include "base/files.h"
#include "base/log.h"
#include "model/io/hf_config.h"

#include <string.h>

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

struct carry {
	const char *from;
	const char *to;
};

static int carry_file(void *argument, const char *path, uint64_t bytes)
{
	const struct carry *carry = argument;
	const char *name = path + strlen(carry->from);
	char to[FILES_PATH_BYTES], folder[FILES_PATH_BYTES];
	const char *slash;
	int rc;

	(void)bytes;
	name += strspn(name, "/");
	slash = strchr(name, '/');
	if (slash && strncmp(name, TEMPLATES "/", sizeof(TEMPLATES)) != 0)
		return 0;
	if (!is_carried(slash ? slash + 1 : name) ||
	    (slash && strchr(slash + 1, '/')))
		return 0;
	rc = files_join(to, sizeof(to), carry->to, name);
	if (!rc && slash)
		rc = files_join(folder, sizeof(folder), carry->to, TEMPLATES);
	if (!rc && slash)
		rc = files_make_folder(folder);
	return rc ? rc : files_copy(path, to);
}

int carry_over(const char *from, const char *to)
{
	struct carry carry = {.from = from, .to = to};
	int rc = files_walk(from, carry_file, &carry);

	return rc ? rc : hf_config_carry_over(to, from);
}
