#include "world-work.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/threads.h"
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

struct work {
	const char *name;
	bool target; /* this rank is the one the job names */
	int64_t steps;
};

/* What computes for ever looks at the abort at least. */
static int never_end(struct world *world)
{
	while (world_check(world) == 0)
		clock_sleep_ns(5 * NS_PER_MS);
	return -ECANCELED;
}

/* Step by step, a vote at the end of each, like a training run. */
static int train(struct world *world, const struct work *work)
{
	char text[64];

	for (int64_t step = 0; step < work->steps; step++) {
		bool stop = false;
		json_t *own, *all;
		int rc;

		world_note_progress(world, step, 0);
		snprintf(text, sizeof(text), "{\"step\":%d}", (int)step);
		rc = world_event_text(world, text);
		if (rc < 0 && rc != -EAGAIN)
			return rc;
		if (work->target && step == 3) {
			if (strcmp(work->name, "error") == 0)
				return fail(-ENOSPC, "disk is f\xffull");
			if (strcmp(work->name, "link") == 0)
				return fail(-ECONNRESET, "lost a link");
			if (strcmp(work->name, "killed") == 0)
				raise(SIGKILL);
			if (strcmp(work->name, "exit") == 0)
				_exit(3);
			if (strcmp(work->name, "stall") == 0)
				return never_end(world);
		}
		/* Longer than is allowed, were it one action. */
		for (unsigned i = 0;
		     i < 6 && work->target && strcmp(work->name, "slow") == 0;
		     i++) {
			clock_sleep_ns(400 * NS_PER_MS);
			world_note_progress(world, step, i);
		}
		own = json_boolean(world_stop_requested(world));
		rc = world_all_gather(world, own, &all);
		json_decref(own);
		if (rc < 0)
			return rc;
		for (unsigned i = 0; i < world->size; i++)
			stop |= json_is_true(json_array_get(all, i));
		json_decref(all);
		if (stop)
			break;
	}
	world_set_result(world,
			 json_pack("{s:i, s:i}", "rank", (int)world->rank,
				   "threads", (int)threads_count(world->team)));
	return 0;
}

/* The neighbours of a dead rank report first, and only then it is dead. */
static int die_last(struct world *world, const struct work *work)
{
	if (!work->target)
		return fail(-ECONNRESET, "link to a neighbour was reset");
	clock_sleep_ns(60 * NS_PER_MS);
	if (world->thread)
		return fail(-EBADMSG, "the real reason");
	raise(SIGKILL);
	return 0;
}

/* Neither looks at the abort nor can be woken by it. */
static int hang(struct world *world, const struct work *work)
{
	if (!work->target)
		return fail(-EIO, "somebody failed");
	if (strcmp(work->name, "stopped") == 0)
		raise(SIGSTOP);
	if (world->thread) /* the test waits no longer than that */
		clock_sleep_ns(1 * NS_PER_SECOND);
	else
		clock_sleep_ns(60 * NS_PER_SECOND);
	return 0;
}

/* More events than anyone reads: dropped, never waited for. */
static int flood(struct world *world)
{
	static const char event[] = "{\"x\":\"0123456789012345678901234567\"}";
	int64_t start_ns = clock_now_ns(), most_ns = 0;
	unsigned dropped = 0;

	while (clock_now_ns() - start_ns < 300 * NS_PER_MS) {
		int64_t before_ns = clock_now_ns();
		int rc = world_event_text(world, event);

		most_ns = MAX(most_ns, clock_now_ns() - before_ns);
		if (rc == -EAGAIN)
			dropped++;
		else if (rc < 0)
			return rc;
	}
	world_set_result(world, json_pack("{s:i, s:I}", "dropped", (int)dropped,
					  "most_ns", (json_int_t)most_ns));
	return 0;
}

/* Waits for data that never comes: the abort must wake it. */
static int starve(struct world *world, const struct work *work)
{
	struct pollfd wake = {.fd = world_wake_fd(world), .events = POLLIN};

	if (work->target)
		return fail(-EIO, "somebody failed");
	if (poll(&wake, 1, 10000) != 1)
		return fail(-ETIMEDOUT, "was not woken");
	return world_check(world);
}

/* Each waits for the next: no message was ever sent. */
static int circle(struct world *world)
{
	world_note_progress(world, 5, 0);
	world_note_wait(world, LIVENESS_WAITS_DATA,
			(world->rank + 1) % world->size, clock_now_ns());
	return never_end(world);
}

/* Tells an address, as connecting ranks do, and then does not connect. */
static int no_show(struct world *world, const struct work *work)
{
	unsigned char print[TRANSPORT_FINGERPRINT_BYTES] = {0};
	unsigned peers[16], count = 0;
	json_t *address, *all;
	int rc;

	if (!work->target) {
		for (unsigned i = 0; i < world->size; i++) {
			if (i != world->rank)
				peers[count++] = i;
		}
		return world_connect(world, peers, count, print);
	}
	address = json_string("tcp:127.0.0.1:1");
	rc = world_all_gather(world, address, &all);
	json_decref(address);
	if (rc < 0)
		return rc;
	json_decref(all);
	clock_sleep_ns(100 * NS_PER_MS); /* they are in transport_connect() */
	return fail(-EIO, "somebody failed");
}

static int leave(struct world *world, const struct work *work)
{
	return work->target ? 0 : world_barrier(world);
}

static int wait_both(struct world *world)
{
	for (int done = 0; done < 2;) {
		struct transport_completion completions[2];
		int count = world_wait(world, completions, 2);

		if (count < 0)
			return count;
		done += count;
	}
	return 0;
}

/* A number goes round once, each rank adding one; then under new links. */
static int ring(struct world *world)
{
	unsigned left = (world->rank + world->size - 1) % world->size;
	unsigned right = (world->rank + 1) % world->size;
	unsigned peers[2] = {MIN(left, right), MAX(left, right)};
	unsigned char print[TRANSPORT_FINGERPRINT_BYTES] = {7};
	static const uint64_t tag = 42;
	uint64_t *number;
	void *region;

	for (unsigned epoch = 0; epoch < 2; epoch++) {
		int rc = world_connect(world, peers, 2, print);

		if (rc == 0)
			rc = transport_create_region(world->endpoint, 4096,
						     &region);
		if (rc < 0)
			return rc;
		number = region;
		number[0] = 100 * epoch + world->rank;
		rc = transport_post_recv(world->endpoint, left, tag, &number[1],
					 8, NULL);
		if (rc == 0)
			rc = transport_post_send(world->endpoint, right, tag,
						 &number[0], 8, NULL);
		if (rc == 0)
			rc = wait_both(world);
		if (rc < 0)
			return rc;
		if (number[1] != 100 * epoch + left)
			return fail(-EBADMSG, "got %d", (int)number[1]);
		rc = world_barrier(world); /* all have theirs before we close */
		if (rc < 0)
			return rc;
	}
	return 0;
}

/* Waits on the endpoint for a neighbour that fails instead of sending. */
static int starve_on_link(struct world *world, const struct work *work)
{
	unsigned char print[TRANSPORT_FINGERPRINT_BYTES] = {0};
	unsigned peers[TRANSPORT_FINGERPRINT_BYTES], count = 0;
	struct transport_completion completion;
	int rc;

	for (unsigned i = 0; i < world->size; i++) {
		if (i != world->rank)
			peers[count++] = i;
	}
	rc = world_connect(world, peers, count, print);
	if (rc < 0)
		return rc;
	if (work->target)
		return fail(-EIO, "somebody failed");
	return MIN(world_wait(world, &completion, 1), 0);
}

static int tell_pid(struct world *world)
{
	json_t *event = json_pack("{s:i}", "pid", (int)getpid());
	int rc = world_event(world, event);

	json_decref(event);
	return rc;
}

int world_work(struct world *world)
{
	struct work work = {0};
	int64_t target;
	int rc;

	if (json_get_string(world->job, "work", "job", &work.name) < 0 ||
	    json_get_integer_or(world->job, "target", -1, 100, -1, "job",
				&target) < 0 ||
	    json_get_integer_or(world->job, "steps", 0, INT32_MAX, 1 << 30,
				"job", &work.steps) < 0)
		return -EINVAL;
	work.target = target == (int64_t)world->rank;
	rc = tell_pid(world);
	if (rc < 0)
		return rc;
	if (strcmp(work.name, "last") == 0)
		return die_last(world, &work);
	if (strcmp(work.name, "hang") == 0 || strcmp(work.name, "stopped") == 0)
		return hang(world, &work);
	if (strcmp(work.name, "flood") == 0)
		return flood(world);
	if (strcmp(work.name, "starve") == 0)
		return starve(world, &work);
	if (strcmp(work.name, "ring") == 0)
		return ring(world);
	if (strcmp(work.name, "link starve") == 0)
		return starve_on_link(world, &work);
	if (strcmp(work.name, "circle") == 0)
		return circle(world);
	if (strcmp(work.name, "no show") == 0)
		return no_show(world, &work);
	if (strcmp(work.name, "leave") == 0)
		return leave(world, &work);
	return train(world, &work);
}
