#include "engine/meeting.h"

#include "base/clock.h"
#include "base/files.h"
#include "base/json.h"
#include "base/log.h"
#include "base/text.h"
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define PMIX_KEY   "stagecoach-coordinator"
#define FILE_LIMIT 4096

/*
 * What of libpmix is used, by the PMIx standard, version 4 (chapters 3 and
 * 5): declared here so that the program builds and starts without it.
 */
struct pmix_process {
	char name_space[256];
	uint32_t rank;
};

struct pmix_value {
	uint16_t type;
	union {
		const char *string;
		unsigned char room[56]; /* as large as any version's */
	};
};

enum {
	PMIX_SUCCESS_CODE = 0,
	PMIX_TYPE_STRING = 3,
	PMIX_SCOPE_GLOBAL = 3,
};
#define PMIX_RANK_ALL (UINT32_MAX - 1)

struct pmix {
	void *library;
	int (*init)(struct pmix_process *own, const void *info, size_t count);
	int (*put)(uint8_t scope, const char *key, struct pmix_value *value);
	int (*commit)(void);
	int (*fence)(const struct pmix_process *of, size_t count,
		     const void *info, size_t infos);
	int (*get)(const struct pmix_process *of, const char *key,
		   const void *info, size_t count, struct pmix_value **out);
	int (*finalize)(const void *info, size_t count);
};

/* Given to a thread, since a fence waits for as long as it takes. */
struct exchange {
	pthread_mutex_t lock;
	pthread_cond_t changed;
	unsigned rank;
	char text[MEETING_TEXT_BYTES];
	int rc;
	bool over, left; /* the caller did not wait for it */
};

static int load(struct pmix *pmix)
{
	struct {
		const char *name;
		void *place;
	} wanted[] = {
		{"PMIx_Init", &pmix->init},
		{"PMIx_Put", &pmix->put},
		{"PMIx_Commit", &pmix->commit},
		{"PMIx_Fence", &pmix->fence},
		{"PMIx_Get", &pmix->get},
		{"PMIx_Finalize", &pmix->finalize},
	};

	pmix->library = dlopen("libpmix.so.2", RTLD_NOW | RTLD_LOCAL);
	if (!pmix->library)
		return -ENOSYS;
	for (size_t i = 0; i < ARRAY_SIZE(wanted); i++) {
		void *symbol = dlsym(pmix->library, wanted[i].name);

		if (!symbol)
			return -ENOSYS;
		memcpy(wanted[i].place, &symbol, sizeof(symbol));
	}
	return 0;
}

static int take_text(struct pmix *pmix, const struct pmix_process *own,
		     char text[MEETING_TEXT_BYTES])
{
	struct pmix_process root = *own;
	struct pmix_value *value;

	root.rank = 0;
	if (pmix->get(&root, PMIX_KEY, NULL, 0, &value) != PMIX_SUCCESS_CODE)
		return -ENOSYS;
	if (value->type != PMIX_TYPE_STRING || !value->string ||
	    text_copy(text, MEETING_TEXT_BYTES, value->string) < 0)
		return -EPROTO;
	return 0;
}

static int put_text(struct pmix *pmix, const char *text)
{
	struct pmix_value value = {.type = PMIX_TYPE_STRING};

	value.string = text;
	if (pmix->put(PMIX_SCOPE_GLOBAL, PMIX_KEY, &value) !=
		    PMIX_SUCCESS_CODE ||
	    pmix->commit() != PMIX_SUCCESS_CODE)
		return -ENOSYS;
	return 0;
}

static int exchange_run(struct exchange *one)
{
	struct pmix_process own = {.rank = 0}, all;
	struct pmix pmix;
	int rc = load(&pmix);

	if (rc < 0 || pmix.init(&own, NULL, 0) != PMIX_SUCCESS_CODE)
		return -ENOSYS;
	all = own;
	all.rank = PMIX_RANK_ALL;
	if (one->rank == 0)
		rc = put_text(&pmix, one->text);
	if (!rc && pmix.fence(&all, 1, NULL, 0) != PMIX_SUCCESS_CODE)
		rc = -ENOSYS;
	if (!rc && one->rank != 0)
		rc = take_text(&pmix, &own, one->text);
	/* A second one, or rank 0's server may forget it too early. */
	if (!rc && pmix.fence(&all, 1, NULL, 0) != PMIX_SUCCESS_CODE)
		rc = -ENOSYS;
	pmix.finalize(NULL, 0);
	return rc;
}

static void *exchange_main(void *argument)
{
	struct exchange *one = argument;
	int rc = exchange_run(one);
	bool left;

	pthread_mutex_lock(&one->lock);
	one->rc = rc;
	one->over = true;
	left = one->left;
	pthread_cond_signal(&one->changed);
	pthread_mutex_unlock(&one->lock);
	if (left)
		free(one);
	return NULL;
}

static int wait_over(struct exchange *one, int64_t timeout_ns)
{
	struct timespec until;
	int rc = 0;

	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += timeout_ns / NS_PER_SECOND + 1;
	pthread_mutex_lock(&one->lock);
	while (!one->over && rc != ETIMEDOUT)
		rc = pthread_cond_timedwait(&one->changed, &one->lock, &until);
	one->left = !one->over;
	rc = one->over ? one->rc : -ETIMEDOUT;
	pthread_mutex_unlock(&one->lock);
	return rc;
}

int meeting_pmix(unsigned rank, char text[MEETING_TEXT_BYTES],
		 int64_t timeout_ns)
{
	struct exchange *one = calloc(1, sizeof(*one));
	pthread_t thread;
	bool left;
	int rc;

	if (!one)
		return fail(-ENOMEM, "no memory for a rendezvous");
	pthread_mutex_init(&one->lock, NULL);
	pthread_cond_init(&one->changed, NULL);
	one->rank = rank;
	if (rank == 0)
		memcpy(one->text, text, MEETING_TEXT_BYTES);
	rc = -pthread_create(&thread, NULL, exchange_main, one);
	if (rc < 0) {
		free(one);
		return fail(rc, "a thread for the rendezvous: %s",
			    strerror(-rc));
	}
	rc = wait_over(one, timeout_ns);
	left = rc == -ETIMEDOUT;
	if (!rc && rank != 0)
		memcpy(text, one->text, MEETING_TEXT_BYTES);
	if (left)
		pthread_detach(thread);
	else
		pthread_join(thread, NULL);
	if (left)
		return fail(rc,
			    "not every rank came to the launcher's "
			    "rendezvous (PMIx) within %.0f s",
			    clock_seconds(timeout_ns));
	free(one);
	return rc;
}

/* ---- a file ---- */

int meeting_file_write(const char *path, const char *text)
{
	json_t *json = json_pack("{s:s}", "coordinator", text);
	int rc = json ? json_write(path, json) : -ENOMEM;

	json_decref(json);
	return rc;
}

int meeting_file_read(const char *path, char text[MEETING_TEXT_BYTES])
{
	const char *found;
	json_t *json;
	int rc;

	if (!files_exists(path))
		return -ENOENT;
	rc = json_read(path, FILE_LIMIT, &json);
	if (rc < 0)
		return rc;
	rc = json_get_string(json, "coordinator", path, &found);
	if (!rc)
		rc = text_copy(text, MEETING_TEXT_BYTES, found);
	json_decref(json);
	return rc;
}
