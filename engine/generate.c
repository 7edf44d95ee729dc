#include "base/clock.h"
#include "base/log.h"
#include "engine/choice.h"
#include "engine/run.h"

#include <errno.h>
#include <stdio.h>

static void fill_tokens(struct pipeline *p, const int32_t *tokens, size_t count,
			bool stop)
{
	int32_t *into = pipeline_tokens(p, 0);

	p->batch->supervised = 1;
	p->batch->stop = stop;
	for (size_t i = 0; i < count; i++)
		into[i] = tokens[i];
}

static void tell(struct pipeline *p, int32_t token)
{
	char text[64];

	snprintf(text, sizeof(text), "{\"token\":%d}", token);
	/* A reader that is slower than the model loses nothing but time. */
	while (world_event_text(p->world, text) == -EAGAIN &&
	       world_check(p->world) == 0)
		clock_sleep_ns(NS_PER_MS);
}

int run_generate(struct pipeline *p)
{
	const struct job *job = p->job;
	bool root = p->world->rank == ROUTE_ROOT, stop = false;
	size_t offset = 0, time = job->prompt_count;
	const int32_t *next = job->prompt;
	struct choice *choice;
	int32_t token;
	int rc = choice_create(job->temperature, job->top_k, job->seed,
			       job->config.vocab_size, &choice);

	if (rc)
		return rc;
	for (unsigned n = 0; n < job->tokens && offset + time <= job->context;
	     n++) {
		if (root)
			fill_tokens(p, next, time, stop);
		rc = pipeline_decode(p, offset, time, choice_next, choice,
				     &token);
		/* Everyone sees the root's word with the next token's batch. */
		if (rc || p->batch->stop)
			break;
		stop = token == job->end_token;
		if (root && !stop)
			tell(p, token);
		stop |= world_stop_requested(p->world);
		next = &token;
		offset += time;
		time = 1;
	}
	choice_destroy(choice);
	return rc;
}
