/* How ranks find out what they see: the root offers, everyone answers. */
#include "base/digest.h"
#include "base/log.h"
#include "base/text.h"
#include "engine/job.h"
#include "engine/reach.h"
#include "engine/world.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#define ROOT        0u
#define SEEN_BYTES  64
#define TOKEN_BYTES 33 /* 128 random bits in hexadecimal, and a NUL */

/*
 * Where checkpoint_find() sweeps away what an interrupted start has left
 * there, too.
 */
#define TOKEN_FOLDER "checkpoints"
#define TOKEN_PREFIX ".step-seen-"

/* ---- the token in RUN ---- */

static int make_token(char out[TOKEN_BYTES])
{
	unsigned char bits[(TOKEN_BYTES - 1) / 2];

	if (getrandom(bits, sizeof(bits), 0) != (ssize_t)sizeof(bits))
		return fail(-EIO, "no random numbers: %s", strerror(errno));
	for (size_t i = 0; i < sizeof(bits); i++)
		snprintf(out + 2 * i, 3, "%02x", bits[i]);
	return 0;
}

static int token_path(char out[FILES_PATH_BYTES], const char *run,
		      const char *token)
{
	char folder[FILES_PATH_BYTES], name[sizeof(TOKEN_PREFIX) + TOKEN_BYTES];
	int rc = files_join(folder, sizeof(folder), run, TOKEN_FOLDER);

	snprintf(name, sizeof(name), TOKEN_PREFIX "%s", token);
	return rc ? rc : files_join(out, FILES_PATH_BYTES, folder, name);
}

static int write_token(const char *run, const char *token)
{
	char path[FILES_PATH_BYTES], folder[FILES_PATH_BYTES];
	int rc = files_join(folder, sizeof(folder), run, TOKEN_FOLDER), fd;

	if (!rc)
		rc = files_make_folder(folder);
	if (!rc)
		rc = token_path(path, run, token);
	if (rc)
		return rc;
	fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0)
		return fail(-errno, "%s: create: %s", path, strerror(errno));
	rc = files_write_all(fd, token, TOKEN_BYTES, path);
	/* A network file system may say only now that there is no room. */
	if (close(fd) && !rc)
		rc = fail(-errno, "%s: close: %s", path, strerror(errno));
	if (rc)
		unlink(path);
	return rc;
}

static void remove_token(const char *run, const char *token)
{
	char path[FILES_PATH_BYTES];

	if (token[0] && token_path(path, run, token) == 0)
		unlink(path);
}

/* Silent: not to find it is an answer. */
static bool find_token(const char *run, const char *token)
{
	char path[FILES_PATH_BYTES], text[TOKEN_BYTES];
	ssize_t length;
	int fd;

	if (token_path(path, run, token))
		return false;
	/* To be written to, as the tensors' files are going to be. */
	fd = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	if (fd < 0)
		return false;
	length = read(fd, text, sizeof(text));
	close(fd);
	return length == TOKEN_BYTES && memcmp(text, token, TOKEN_BYTES) == 0;
}

/* ---- weights to be read ---- */

bool reach_is_of_weights(const char *name)
{
	static const char *const ends[] = {".safetensors",
					   ".safetensors.index.json"};
	size_t length = strlen(name);

	for (size_t i = 0; i < ARRAY_SIZE(ends); i++) {
		size_t end = strlen(ends[i]);

		if (length >= end && strcmp(name + length - end, ends[i]) == 0)
			return true;
	}
	return false;
}

/* False: this rank cannot read it. */
static bool hash_file(const char *folder, const char *name, uint64_t *hash)
{
	char path[FILES_PATH_BYTES], line[512];
	struct stat s;
	int length;

	if (files_join(path, sizeof(path), folder, name) ||
	    access(path, R_OK) || stat(path, &s))
		return false;
	length = snprintf(line, sizeof(line), "%s\n%jd %ju %jd.%09ld %jd.%09ld",
			  name, (intmax_t)s.st_size, (uintmax_t)s.st_ino,
			  (intmax_t)s.st_mtim.tv_sec, s.st_mtim.tv_nsec,
			  (intmax_t)s.st_ctim.tv_sec, s.st_ctim.tv_nsec);
	*hash = digest_hash64(line, MIN((size_t)length, sizeof(line) - 1));
	return true;
}

/*
 * What this rank sees there, in a word; "" when it does not see all. Folders
 * list their files in any order, so the files' hashes are added. Silent.
 */
static void look_at(const char *source, char seen[SEEN_BYTES])
{
	uint64_t sum = 0, hash, files = 0;
	bool readable = true;
	struct dirent *entry;
	DIR *dir = opendir(source);

	seen[0] = '\0';
	if (!dir)
		return;
	while (readable && (entry = readdir(dir))) {
		if (!reach_is_of_weights(entry->d_name))
			continue;
		readable = hash_file(source, entry->d_name, &hash);
		sum += readable ? hash : 0;
		files++;
	}
	closedir(dir);
	if (readable && files)
		snprintf(seen, SEEN_BYTES, "%" PRIu64 ":%016" PRIx64, files,
			 sum);
}

/* ---- question and answer ---- */

struct offer {
	char token[TOKEN_BYTES]; /* "": there is no RUN */
	char seen[SEEN_BYTES];
};

/* Whole, for ranks that were started elsewhere, if it can be told in JSON. */
static void make_whole(char path[FILES_PATH_BYTES])
{
	char *whole = path[0] ? realpath(path, NULL) : NULL;
	json_t *told = whole ? json_string(whole) : NULL;

	if (told)
		(void)!text_copy(path, FILES_PATH_BYTES, whole);
	json_decref(told);
	free(whole);
}

static int make_offer(const struct job *job, struct reach *reach,
		      struct offer *offer)
{
	char token[TOKEN_BYTES];
	int rc = 0;

	if (job->reach == REACH_AUTO && job->kind == JOB_TRAIN &&
	    reach->run[0]) {
		rc = make_token(token);
		if (!rc)
			rc = write_token(reach->run, token);
		if (!rc)
			memcpy(offer->token, token, sizeof(token));
	}
	make_whole(reach->run);
	make_whole(reach->source);
	if (reach->source[0])
		look_at(reach->source, offer->seen);
	return rc;
}

static json_t *offer_to_json(const struct reach *reach,
			     const struct offer *offer)
{
	return json_pack("{s:s, s:s, s:s, s:s}", "run", reach->run, "source",
			 reach->source, "token", offer->token, "seen",
			 offer->seen);
}

static int offer_from_json(const json_t *json, struct reach *reach,
			   struct offer *offer)
{
	static const char origin[] = "what rank 0 told of its files";
	const char *run, *source, *token, *seen;

	if (json_get_string(json, "run", origin, &run) ||
	    json_get_string(json, "source", origin, &source) ||
	    json_get_string(json, "token", origin, &token) ||
	    json_get_string(json, "seen", origin, &seen))
		return -EPROTO;
	if (text_copy(reach->run, sizeof(reach->run), run) ||
	    text_copy(reach->source, sizeof(reach->source), source) ||
	    text_copy(offer->token, sizeof(offer->token), token) ||
	    text_copy(offer->seen, sizeof(offer->seen), seen) ||
	    strchr(token, '/'))
		return fail(-EPROTO, "%s is of no use", origin);
	return 0;
}

/* Tells all what the root offers; every rank then has it. */
static int spread_offer(struct world *world, struct reach *reach,
			struct offer *offer)
{
	json_t *mine = NULL, *all;
	int rc;

	if (world->rank == ROOT) {
		mine = offer_to_json(reach, offer);
		if (!mine)
			return fail(-ENOMEM, "no memory to tell of the files");
	}
	rc = world_all_gather(world, mine, &all);
	json_decref(mine);
	if (rc)
		return rc;
	rc = offer_from_json(json_array_get(all, ROOT), reach, offer);
	json_decref(all);
	return rc;
}

static void find_answer(const struct reach *reach, const struct offer *offer,
			bool *writes, bool *reads)
{
	char seen[SEEN_BYTES];

	*writes = !offer->token[0] || find_token(reach->run, offer->token);
	*reads = !reach->source[0];
	if (*reads)
		return;
	look_at(reach->source, seen);
	*reads = seen[0] && strcmp(seen, offer->seen) == 0;
}

/* A checkpoint lies in RUN: who has that, has it. */
static bool has_source(const struct job *job, bool writes, bool reads)
{
	return reads ||
	       (writes && job->resume[0] && job->config.adapters.rank == 0);
}

static int gather_answers(struct world *world, const struct job *job,
			  const struct offer *offer, struct reach *reach)
{
	json_t *mine, *all;
	bool writes = true, reads = true;
	int rc;

	if (world->rank != ROOT)
		find_answer(reach, offer, &writes, &reads);
	mine = json_pack("[b, b]", writes, has_source(job, writes, reads));
	rc = world_all_gather(world, mine, &all);
	json_decref(mine);
	if (rc)
		return rc;
	for (unsigned r = 0; r < world->size; r++) {
		const json_t *answer = json_array_get(all, r);

		reach->writes[r] = json_is_true(json_array_get(answer, 0));
		reach->reads[r] = json_is_true(json_array_get(answer, 1));
	}
	json_decref(all);
	return 0;
}

/* ---- what the root says ---- */

/* "ranks 1-3, 5": those that do not; "": all do. Cut short without room. */
static void list_ranks(const bool *sees, unsigned count, char *out, size_t size)
{
	unsigned blind = 0;
	size_t used = 0;

	out[0] = '\0';
	for (unsigned r = 0; r < count; r++)
		blind += !sees[r];
	for (unsigned r = 0, end; blind && r < count && used < size; r = end) {
		const char *before = used        ? ", "
				     : blind > 1 ? "ranks "
						 : "rank ";

		for (end = r; end < count && !sees[end];)
			end++;
		if (end == r)
			end++;
		else if (end == r + 1)
			used += (size_t)snprintf(out + used, size - used,
						 "%s%u", before, r);
		else
			used += (size_t)snprintf(out + used, size - used,
						 "%s%u-%u", before, r, end - 1);
	}
}

static void announce(const struct world *world, const struct job *job,
		     const struct reach *reach)
{
	const char *why = job->reach == REACH_ROOT ? "as --store root asks"
						   : "where it is not in sight";
	char ranks[128];

	if (world->rank != ROOT)
		return;
	list_ranks(reach->reads, world->size, ranks, sizeof(ranks));
	if (ranks[0] && reach->source[0])
		log_info("store: rank 0 reads %s for %s, %s", reach->source,
			 ranks, why);
	list_ranks(reach->writes, world->size, ranks, sizeof(ranks));
	if (ranks[0] && job->kind == JOB_TRAIN)
		log_info("store: rank 0 writes %s for %s, %s", reach->run,
			 ranks, why);
}

/* The command has made RUN where it was started; a stranger's is none. */
static int check_root(const struct world *world, const struct job *job)
{
	if (world->rank != ROOT || job->kind != JOB_TRAIN || !job->out[0] ||
	    files_is_folder(job->out))
		return 0;
	return fail(
		-ENOENT,
		"there is no %s on host %s, where rank 0 runs: start rank 0 on the host of this command (name that first), or in a folder they share",
		job->out, world->host);
}

int reach_find(struct world *world, const struct job *job, struct reach *reach)
{
	struct offer offer = {.token = ""};
	int rc = check_root(world, job);

	if (rc || world->size == 1 || (!reach->run[0] && !reach->source[0]))
		return rc;
	if (job->reach == REACH_ROOT) {
		announce(world, job, reach);
		return 0;
	}
	if (world->rank == ROOT)
		rc = make_offer(job, reach, &offer);
	if (!rc)
		rc = spread_offer(world, reach, &offer);
	if (!rc && job->reach == REACH_AUTO)
		rc = gather_answers(world, job, &offer, reach);
	else if (!rc && reach->source[0])
		rc = reach_compare(world, reach);
	if (world->rank == ROOT)
		remove_token(reach->run, offer.token);
	if (!rc)
		announce(world, job, reach);
	return rc;
}
