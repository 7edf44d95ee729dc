/*
 * model.safetensors.index.json, in a folder with two files, a and b, of one
 * tensor each. Whatever it says, no file outside of the folder is
 * opened, and what is accepted are the tensors x of a and y of b.
 */
#include <limits.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "model/io/safetensors.h"
#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/memory.h"

static char folder[64], index_path[128];

static void swallow(void *argument, enum log_level level, const char *line)
{
	(void)argument;
	(void)level;
	FUZZ_CHECK(line[0] != '\0');
}

static void put(const char *path, const void *data, size_t size)
{
	FILE *file = fopen(path, "wb");

	FUZZ_CHECK(file != NULL);
	FUZZ_CHECK(fwrite(data, 1, size, file) == size);
	FUZZ_CHECK(fclose(file) == 0);
}

static void put_tensor(const char *file, const char *name)
{
	char path[128], text[128] = {0};
	int length = snprintf(
		text + 8, sizeof(text) - 8,
		"{\"%s\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,2]}}",
		name);

	text[0] = (char)length;
	snprintf(path, sizeof(path), "%s/%s", folder, file);
	put(path, text, (size_t)length + 10);
}

static void remove_folder(void)
{
	static const char *const names[] = {"a", "b",
					    "model.safetensors.index.json"};
	char path[128];

	for (size_t i = 0; i < 3; i++) {
		snprintf(path, sizeof(path), "%s/%s", folder, names[i]);
		unlink(path);
	}
	rmdir(folder);
}

static void make_folder(void)
{
	const char *base = access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp";

	snprintf(folder, sizeof(folder), "%s/stagecoach-fuzz.XXXXXX", base);
	FUZZ_CHECK(mkdtemp(folder) != NULL);
	atexit(remove_folder);
	put_tensor("a", "x");
	put_tensor("b", "y");
	snprintf(index_path, sizeof(index_path),
		 "%s/model.safetensors.index.json", folder);
}

static void look(const struct safetensors *files)
{
	for (size_t i = 0; i < safetensors_count(files); i++) {
		const struct safetensors_tensor *tensor =
			safetensors_tensor(files, i);

		FUZZ_CHECK(strncmp(tensor->file, folder, strlen(folder)) == 0);
		FUZZ_CHECK(strcmp(tensor->file + strlen(folder),
				  tensor->name[0] == 'x' ? "/a" : "/b") == 0);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct safetensors *files;
	int rc;

	log_set_sink(swallow, NULL);
	if (!folder[0])
		make_folder();
	put(index_path, data, size);
	memory_begin();
	rc = safetensors_open_folder(folder, "model", &files);
	memory_check(size);
	if (rc) {
		FUZZ_CHECK(strstr(log_last_error(), folder) != NULL);
		return 0;
	}
	look(files);
	safetensors_close(files);
	return 0;
}
