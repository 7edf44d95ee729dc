/*
 * --store shared: the user says that all ranks see the same files. Whether they
 * hold the same weights is cheap enough to look into: names and sizes, a sample
 * of the data, and of a checkpoint its manifest, which has the digest of
 * every file. Nothing here needs times or inode numbers to agree.
 */
#include "base/digest.h"
#include "base/log.h"
#include "engine/reach.h"
#include "engine/world.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define ROOT         0u
#define SPOTS        16 /* of a file that are read */
#define SPOT_BYTES   ((size_t)64 << 10)
#define SAMPLE_BYTES 40

/* The whole of a small file; else spots at even distances, the end among them. */
static int read_spots(int fd, uint64_t size, unsigned char *spots, size_t *used,
		      const char *path)
{
	uint64_t last = size - SPOT_BYTES;
	int rc = 0;

	*used = (size_t)MIN(size, (uint64_t)SPOTS * SPOT_BYTES);
	if (size <= SPOTS * SPOT_BYTES)
		return files_read_at(fd, spots, *used, 0, path);
	for (unsigned i = 0; !rc && i < SPOTS; i++)
		rc = files_read_at(fd, spots + i * SPOT_BYTES, SPOT_BYTES,
				   last / (SPOTS - 1) * i +
					   last % (SPOTS - 1) * i / (SPOTS - 1),
				   path);
	return rc;
}

static int sample_file(const char *folder, const char *name,
		       unsigned char *spots, uint64_t *hash)
{
	uint64_t size, words[3];
	char path[FILES_PATH_BYTES];
	size_t used;
	int fd, rc = files_join(path, sizeof(path), folder, name);

	if (!rc)
		rc = files_size(path, &size);
	if (rc)
		return rc;
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return fail(-errno, "%s: open: %s", path, strerror(errno));
	rc = read_spots(fd, size, spots, &used, path);
	close(fd);
	if (rc)
		return rc;
	words[0] = digest_hash64(name, strlen(name));
	words[1] = size;
	words[2] = digest_hash64(spots, used);
	*hash = digest_hash64(words, sizeof(words));
	return 0;
}

/* Folders list their files in any order, so the files' hashes are added. */
static int sample_folder(const char *folder, unsigned char *spots,
			 char out[SAMPLE_BYTES])
{
	uint64_t sum = 0, hash, files = 0;
	struct dirent *entry;
	DIR *dir = opendir(folder);
	int rc = 0;

	if (!dir)
		return fail(-errno, "open %s: %s", folder, strerror(errno));
	while (!rc && (entry = readdir(dir))) {
		if (!reach_is_of_weights(entry->d_name) &&
		    strcmp(entry->d_name, "manifest.json") != 0)
			continue;
		rc = sample_file(folder, entry->d_name, spots, &hash);
		sum += rc ? 0 : hash;
		files++;
	}
	closedir(dir);
	snprintf(out, SAMPLE_BYTES, "%" PRIu64 ":%016" PRIx64, files, sum);
	return rc;
}

static const char *word(const json_t *all, unsigned rank, unsigned index)
{
	const char *text = json_string_value(
		json_array_get(json_array_get(all, rank), index));

	return text ? text : "";
}

static int refuse(const struct world *world, const struct reach *reach,
		  const json_t *all, unsigned rank)
{
	if (world->rank != ROOT)
		return -ECANCELED; /* the root has seen it, too, and says so */
	return fail(
		-EINVAL,
		"rank %u on %s has other weights in %s than rank 0 on %s: the folder is not shared, though --store shared says so. Without it rank 0 reads for those that do not see its files",
		rank, word(all, rank, 1), reach->source, word(all, ROOT, 1));
}

int reach_compare(struct world *world, const struct reach *reach)
{
	unsigned char *spots = malloc(SPOTS * SPOT_BYTES);
	char sample[SAMPLE_BYTES];
	json_t *mine, *all;
	int rc = spots ? 0 : fail(-ENOMEM, "no memory to compare weights");

	if (!rc)
		rc = sample_folder(reach->source, spots, sample);
	free(spots);
	if (rc)
		return rc;
	mine = json_pack("[s, s]", sample, world->host);
	rc = world_all_gather(world, mine, &all);
	json_decref(mine);
	if (rc)
		return rc;
	for (unsigned r = 1; !rc && r < world->size; r++)
		if (strcmp(word(all, r, 0), word(all, ROOT, 0)) != 0)
			rc = refuse(world, reach, all, r);
	json_decref(all);
	return rc;
}
