#include "engine/place.h"

#include "base/log.h"
#include "base/text.h"
#include "engine/nodelist.h"
#include "transport/transport.h"
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* PyTorch's usual port, spread by job as Slurm users do. */
#define PORT_BASE 29500
#define PORT_SPAN 1000

/* The variables of one source that count up to rank and size. */
struct source {
	enum place_source source;
	const char *launcher;
	const char *rank, *size, *local_rank, *local_size;
	const char *also; /* must be set, too; NULL: nothing */
};

static const struct source sources[] = {
	{PLACE_STAGECOACH, "STAGECOACH_RANK", "STAGECOACH_RANK",
	 "STAGECOACH_WORLD_SIZE", NULL, NULL, NULL},
	{PLACE_TORCHRUN, "torchrun's variables", "RANK", "WORLD_SIZE",
	 "LOCAL_RANK", "LOCAL_WORLD_SIZE", "WORLD_SIZE"},
	{PLACE_OPEN_MPI, "mpirun (Open MPI)", "OMPI_COMM_WORLD_RANK",
	 "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_RANK",
	 "OMPI_COMM_WORLD_LOCAL_SIZE", NULL},
	{PLACE_PMI, "mpiexec (PMI)", "PMI_RANK", "PMI_SIZE", "MPI_LOCALRANKID",
	 "MPI_LOCALNRANKS", "PMI_SIZE"},
	{PLACE_PMIX, "PMIx", "PMIX_RANK", "SLURM_STEP_NUM_TASKS",
	 "SLURM_LOCALID", NULL, "PMIX_NAMESPACE"},
	{PLACE_SLURM, "srun", "SLURM_PROCID", "SLURM_STEP_NUM_TASKS",
	 "SLURM_LOCALID", NULL, "SLURM_STEP_ID"},
	{PLACE_KUBERNETES, "a Kubernetes Indexed Job", "JOB_COMPLETION_INDEX",
	 NULL, NULL, NULL, NULL},
};

const char *place_launcher(enum place_source source)
{
	if (source == PLACE_FLAGS)
		return "options";
	for (size_t i = 0; i < ARRAY_SIZE(sources); i++) {
		if (sources[i].source == source)
			return sources[i].launcher;
	}
	return "itself";
}

/* ---- the environment ---- */

static const char *get(const char *const *environment, const char *name)
{
	size_t length = strlen(name);

	for (; *environment; environment++) {
		if (strncmp(*environment, name, length) == 0 &&
		    (*environment)[length] == '=')
			return *environment + length + 1;
	}
	return NULL;
}

/* Absent or empty: false. What is no number is refused by name. */
static int get_number(const char *const *environment, const char *name,
		      int64_t minimum, int64_t *out, bool *found)
{
	const char *text = name ? get(environment, name) : NULL;

	*found = text && text[0];
	if (!*found)
		return 0;
	if (text_parse_integer(text, minimum, TRANSPORT_RANKS_MAX, out))
		return fail(-EINVAL,
			    "%s='%.40s' is not a number from %" PRId64 " to %u",
			    name, text, minimum, TRANSPORT_RANKS_MAX);
	return 0;
}

static bool is_present(const struct source *source,
		       const char *const *environment)
{
	return get(environment, source->rank) &&
	       (!source->also || get(environment, source->also));
}

/* Slurm says how many tasks each node has, not how many this one. */
static void slurm_local_size(const char *const *environment,
			     struct place *place)
{
	const char *tasks = get(environment, "SLURM_STEP_TASKS_PER_NODE");
	const char *node = get(environment, "SLURM_NODEID");
	int64_t number;

	if (tasks && node &&
	    !text_parse_integer(node, 0, NODELIST_HOSTS_MAX, &number))
		place->local_size = nodelist_tasks(tasks, (unsigned)number);
}

/* Size and the rest of a source whose rank is there. */
static int read_source(const struct source *source,
		       const char *const *environment, int64_t world_size,
		       struct place *out)
{
	struct place place = {.source = source->source};
	int64_t rank = 0, size = 0, local = 0;
	bool found;
	int rc = get_number(environment, source->rank, 0, &rank, &found);

	if (!rc)
		rc = get_number(environment, source->size, 1, &size, &found);
	if (!rc && !found && source->source >= PLACE_PMIX)
		rc = get_number(environment, "SLURM_NTASKS", 1, &size, &found);
	if (rc < 0)
		return rc;
	if (!found || source->source == PLACE_KUBERNETES)
		size = world_size;
	if (size == 0)
		return fail(-EINVAL,
			    "%s=%" PRId64 " says which rank this is, but "
			    "nothing says of how many: give --world-size N",
			    source->rank, rank);
	if (world_size && size != world_size)
		return fail(-EINVAL,
			    "--world-size %" PRId64 ", but %s=%" PRId64,
			    world_size, source->size, size);
	if (rank >= size)
		return fail(-EINVAL,
			    "%s=%" PRId64 " in a world of %" PRId64
			    " ranks: they count from 0",
			    source->rank, rank, size);
	place.rank = (unsigned)rank;
	place.size = (unsigned)size;
	rc = get_number(environment, source->local_rank, 0, &local, &found);
	if (!rc && found)
		place.local_rank = (unsigned)local;
	if (!rc)
		rc = get_number(environment, source->local_size, 1, &local,
				&found);
	if (!rc && found)
		place.local_size = (unsigned)local;
	if (source->source == PLACE_SLURM)
		slurm_local_size(environment, &place);
	if (!rc)
		*out = place;
	return rc;
}

/* ---- the job, and where its rank 0 listens ---- */

static void name_job(const char *const *environment, struct place *place)
{
	const char *slurm = get(environment, "SLURM_JOB_ID");
	const char *step = get(environment, "SLURM_STEP_ID");
	const char *restart = get(environment, "SLURM_RESTART_COUNT");
	const char *other = get(environment, "TORCHELASTIC_RUN_ID");

	if (place->source == PLACE_OPEN_MPI || place->source == PLACE_PMIX)
		other = get(environment, "PMIX_NAMESPACE");
	else if (place->source == PLACE_PMI)
		other = get(environment, "PMI_JOBID");
	else if (place->source != PLACE_TORCHRUN)
		other = NULL;
	if (place->source >= PLACE_PMI && slurm && step)
		snprintf(place->job, sizeof(place->job),
			 "slurm-%.40s.%.40s%s%.40s", slurm, step,
			 restart ? "-" : "", restart ? restart : "");
	else if (other && strcmp(other, "none") != 0)
		snprintf(place->job, sizeof(place->job), "%.140s", other);
	for (char *c = place->job; *c; c++) {
		if (*c <= ' ' || *c > '~' || *c == '/')
			*c = '_'; /* it becomes part of a file's name */
	}
}

static void join_address(struct place *place, const char *host, unsigned port)
{
	bool six = strchr(host, ':') && host[0] != '[';

	snprintf(place->coordinator, sizeof(place->coordinator),
		 six ? "[%.200s]:%u" : "%.200s:%u", host, port);
}

/* MASTER_ADDR and MASTER_PORT: what torchrun and its imitators tell. */
static int master_address(const char *const *environment, struct place *place,
			  bool *found)
{
	const char *host = get(environment, "MASTER_ADDR");
	const char *port = get(environment, "MASTER_PORT");
	int64_t number;

	*found = false;
	if (!host || !host[0] || !port || !port[0])
		return 0;
	if (text_parse_integer(port, 1, 65535, &number))
		return fail(-EINVAL, "MASTER_PORT='%.40s' is not a port", port);
	/* torchrun itself serves its store on that port. */
	if (get(environment, "TORCHELASTIC_RUN_ID"))
		number += number < 65535 ? 1 : -1;
	join_address(place, host, (unsigned)number);
	*found = true;
	return 0;
}

static int slurm_address(const char *const *environment, struct place *place)
{
	const char *list = get(environment, "SLURM_STEP_NODELIST");
	const char *job = get(environment, "SLURM_JOB_ID");
	struct nodelist nodes;
	int64_t number = 0;
	int rc;

	if (!list)
		return 0;
	rc = nodelist_expand(list, "SLURM_STEP_NODELIST", &nodes);
	if (rc < 0)
		return rc;
	if (!job || text_parse_integer(job, 0, INT64_MAX, &number))
		number = 0;
	join_address(place, nodes.hosts[0].name,
		     PORT_BASE + (unsigned)(number % PORT_SPAN));
	place->guessed = true;
	nodelist_fini(&nodes);
	return 0;
}

/*
 * Pods of an Indexed Job are JOB-INDEX, and JOB-0.SUBDOMAIN is in the DNS where
 * the job has a headless service; HOSTNAME of a pod is JOB-INDEX.
 */
static void kubernetes_address(const char *const *environment,
			       struct place *place)
{
	const char *pod = get(environment, "HOSTNAME");
	const char *domain = get(environment, "STAGECOACH_SUBDOMAIN");
	const char *dash = pod ? strrchr(pod, '-') : NULL;
	char host[PLACE_HOST_BYTES];

	if (!dash || !domain)
		return;
	snprintf(host, sizeof(host), "%.*s-0.%.100s", (int)MIN(dash - pod, 90),
		 pod, domain);
	join_address(place, host, PORT_BASE);
}

static int find_address(const struct place_flags *flags,
			const char *const *environment, struct place *place)
{
	const char *told = flags->coordinator;
	bool found;
	int rc;

	if (!told)
		told = get(environment, "STAGECOACH_COORDINATOR");
	if (told && told[0]) {
		if (text_copy(place->coordinator, sizeof(place->coordinator),
			      told))
			return fail(-EINVAL, "--coordinator is too long");
		return 0;
	}
	rc = master_address(environment, place, &found);
	if (rc < 0 || found)
		return rc;
	if (place->source >= PLACE_PMI && get(environment, "SLURM_STEP_ID"))
		return slurm_address(environment, place);
	if (place->source == PLACE_KUBERNETES)
		kubernetes_address(environment, place);
	return 0;
}

/* ---- contradictions ---- */

/*
 * A launcher inside a Slurm job inherits the variables of the task that
 * became its daemon; those say nothing of our rank.
 */
static bool may_differ(const struct place *place, const struct source *other,
		       const char *const *environment)
{
	bool slurm = other->source == PLACE_SLURM;

	switch (place->source) {
	case PLACE_TORCHRUN:
		return slurm && get(environment, "TORCHELASTIC_RUN_ID");
	case PLACE_PMI:
		return slurm && get(environment, "HYDI_CONTROL_FD");
	case PLACE_OPEN_MPI:
		return slurm;
	default:
		return false;
	}
}

static void compare_source(const struct place *place,
			   const struct source *other,
			   const char *const *environment)
{
	int64_t rank, size = 0;
	const char *text = get(environment, other->rank);
	const char *of = other->size ? get(environment, other->size) : NULL;

	if (text_parse_integer(text, 0, INT32_MAX, &rank))
		return;
	if (of && text_parse_integer(of, 0, INT32_MAX, &size))
		size = 0;
	if (rank == (int64_t)place->rank &&
	    (!size || size == (int64_t)place->size))
		return;
	if (place->size == 1 && size > 1) {
		log_warning("%s says that this is the only process, but %s=%s "
			    "and %s=%s: if each of those runs as rank 0 of 1, "
			    "unset the variables of the former",
			    place_launcher(place->source), other->rank, text,
			    other->size, of);
		return;
	}
	log_warning("%s makes this rank %u of %u, but %s=%s%s%s%s%s: is one of "
		    "them left over? The former counts",
		    place_launcher(place->source), place->rank, place->size,
		    other->rank, text, size ? ", " : "",
		    size ? other->size : "", size ? "=" : "", size ? of : "");
}

static void compare_sources(const struct place *place,
			    const char *const *environment)
{
	for (size_t i = 0; i < ARRAY_SIZE(sources); i++) {
		const struct source *other = &sources[i];

		if (other->source > place->source &&
		    other->source != PLACE_KUBERNETES &&
		    is_present(other, environment) &&
		    !may_differ(place, other, environment))
			compare_source(place, other, environment);
	}
}

/* ---- together ---- */

static int from_flags(const struct place_flags *flags, struct place *out)
{
	if (flags->world_size == 0)
		return fail(-EINVAL,
			    "--rank %" PRId64 " needs --world-size N, "
			    "the number of ranks",
			    flags->rank);
	if (flags->rank >= flags->world_size)
		return fail(-EINVAL,
			    "--rank %" PRId64 " of --world-size %" PRId64
			    ": ranks count from 0",
			    flags->rank, flags->world_size);
	*out = (struct place){
		.source = PLACE_FLAGS,
		.rank = (unsigned)flags->rank,
		.size = (unsigned)flags->world_size,
	};
	return 0;
}

/* In an allocation, but nobody started us as one of several. */
static void note_allocation(const char *const *environment)
{
	const char *job = get(environment, "SLURM_JOB_ID");
	const char *tasks = get(environment, "SLURM_NTASKS");
	int64_t count;

	if (!job || get(environment, "SLURM_STEP_ID") || !tasks ||
	    text_parse_integer(tasks, 2, INT32_MAX, &count))
		return;
	log_warning("inside of Slurm's job %s with its %s tasks, but not under "
		    "srun: this process runs on its own; to use the tasks: "
		    "srun stagecoach ...",
		    job, tasks);
}

static int choose(const struct place_flags *flags,
		  const char *const *environment, struct place *out)
{
	*out = (struct place){.source = PLACE_SINGLE, .size = 1};
	if (flags->rank >= 0)
		return from_flags(flags, out);
	for (size_t i = 0; i < ARRAY_SIZE(sources); i++) {
		const struct source *source = &sources[i];

		if (!is_present(source, environment) ||
		    (source->source == PLACE_KUBERNETES && !flags->world_size))
			continue;
		return read_source(source, environment, flags->world_size, out);
	}
	if (flags->world_size > 1)
		return fail(-EINVAL,
			    "--world-size %" PRId64 ", but nothing says which "
			    "rank this is: give --rank N, or start it by srun, "
			    "mpirun or torchrun",
			    flags->world_size);
	if (flags->coordinator)
		return fail(-EINVAL, "--coordinator needs --rank N and "
				     "--world-size N, or a launcher that "
				     "tells them");
	note_allocation(environment);
	return 0;
}

int place_find(const struct place_flags *flags, const char *const *environment,
	       struct place *out)
{
	struct place place;
	const char *node = get(environment, "SLURMD_NODENAME");
	int rc = choose(flags, environment, &place);

	if (rc < 0)
		return rc;
	if (place.source != PLACE_SINGLE)
		compare_sources(&place, environment);
	if (place.size > 1) {
		rc = find_address(flags, environment, &place);
		name_job(environment, &place);
		if (node)
			snprintf(place.node, sizeof(place.node), "%s", node);
	}
	if (!rc && place.source == PLACE_FLAGS && place.size > 1 &&
	    !place.coordinator[0])
		rc = fail(-EINVAL,
			  "--rank %u needs --coordinator HOST:PORT, "
			  "where rank 0 listens",
			  place.rank);
	if (!rc)
		*out = place;
	return rc;
}
