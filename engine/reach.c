#include "engine/reach.h"
#include "base/log.h"
#include "base/text.h"
#include "engine/job.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define ROOT 0u

static const char *source_of(const struct job *job)
{
	/* Adapters, which are small, come from the root. */
	return job->resume[0] && job->config.adapters.rank == 0 ? job->resume
								: job->model;
}

int reach_assume(const struct job *job, unsigned ranks, struct reach *out)
{
	*out = (struct reach){0};
	out->writes = calloc(ranks, sizeof(*out->writes));
	out->reads = calloc(ranks, sizeof(*out->reads));
	if (!out->writes || !out->reads)
		return fail(-ENOMEM, "no memory for %u ranks", ranks);
	for (unsigned r = 0; r < ranks; r++) {
		out->writes[r] = r == ROOT || job->reach != REACH_ROOT;
		out->reads[r] = out->writes[r];
	}
	if (text_copy(out->run, sizeof(out->run), job->out) ||
	    text_copy(out->source, sizeof(out->source), source_of(job)))
		return fail(-ENAMETOOLONG, "a path of the job is too long");
	return 0;
}

void reach_fini(struct reach *reach)
{
	free(reach->writes);
	free(reach->reads);
	*reach = (struct reach){0};
}
