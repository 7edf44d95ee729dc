#include "tools/hosts_options.h"

#include "base/clock.h"
#include "base/files.h"
#include "base/log.h"
#include "base/text.h"
#include "engine/address.h"
#include "engine/agent.h"
#include "transport/secure/secure.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* A process stands in one place only. */
static struct {
	struct hosts *hosts;
	struct place place;
	struct nodelist list;
	bool listed;
	bool keyed;
	unsigned char key[SECURE_KEY_BYTES];
	char meeting_file[FILES_PATH_BYTES];
} here;

static const char *const names[] = {
	"hosts",      "hostfile",  "ssh",      "remote-program", "rank",
	"world-size", "interface", "key-file", "start-timeout",  "coordinator",
};

struct hosts *hosts_options_current(void)
{
	return here.hosts;
}

unsigned hosts_options_neighbours(unsigned ranks)
{
	return here.hosts ? MAX(MIN(hosts_neighbours(here.hosts), ranks), 1)
			  : ranks;
}

void hosts_options_forget(json_t *options)
{
	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		json_object_del(options, names[i]);
}

void hosts_options_end(int status)
{
	hosts_close(here.hosts, status, status ? log_last_error() : "");
	here.hosts = NULL;
	nodelist_fini(&here.list);
	explicit_bzero(here.key, sizeof(here.key));
}

/* Every rank has to know the port: rank 0 cannot choose one. */
static int check_ports(const char *list)
{
	int rc = 0;

	while (list && !rc) {
		char host[ADDRESS_HOST_BYTES];
		unsigned port;

		rc = address_split(list, host, &port, &list);
		if (!rc && !port)
			rc = fail(
				-EINVAL,
				"--coordinator %s needs a port, e.g. %s:29500",
				host, host);
	}
	return rc;
}

static int find_place(const struct options *options)
{
	struct place_flags flags = {
		.rank = options_is_typed(options, "rank")
				? options_integer(options, "rank")
				: -1,
		.world_size = options_is_typed(options, "world-size")
				      ? options_integer(options, "world-size")
				      : 0,
		.coordinator = options_string(options, "coordinator"),
	};

	if (flags.coordinator && check_ports(flags.coordinator))
		return -EINVAL;
	return place_find(&flags, (const char *const *)environ, &here.place);
}

static int read_list(const struct options *options)
{
	const char *text = options_string(options, "hosts");
	const char *file = options_string(options, "hostfile");
	int rc;

	if (!text && !file)
		return 0;
	if (text && file)
		return fail(-EINVAL, "--hosts or --hostfile, not both");
	if (here.place.size > 1)
		return fail(-EINVAL,
			    "--hosts starts the ranks, but %s has done so",
			    place_launcher(here.place.source));
	rc = text ? nodelist_parse(text, &here.list)
		  : nodelist_read(file, &here.list);
	here.listed = rc == 0;
	return rc;
}

/* The ssh launcher needs no file: it makes a key for the one start. */
static int find_key(const struct options *options)
{
	const char *path = options_string(options, "key-file");

	int rc;

	if (!path && !here.listed)
		return 0;
	rc = path ? secure_key_load(path, here.key) : secure_key_make(here.key);
	here.keyed = rc == 0;
	return rc;
}

/*
 * In the folder that the run will be in, since hosts that share anything share
 * that one; by the name the launcher has for the job, or by the run's.
 */
static void name_meeting_file(const char *run)
{
	const struct place *place = &here.place;
	const char *slash, *name;
	char folder[FILES_PATH_BYTES] = ".";

	if (place->source < PLACE_TORCHRUN ||
	    (place->coordinator[0] && !place->guessed))
		return;
	slash = run ? strrchr(run, '/') : NULL;
	if (slash)
		snprintf(folder, sizeof(folder), "%.*s",
			 (int)MAX(slash - run, 1), run);
	if (!files_is_folder(folder))
		snprintf(folder, sizeof(folder), ".");
	name = place->job[0] ? place->job : slash ? slash + 1 : run;
	snprintf(here.meeting_file, sizeof(here.meeting_file),
		 "%.3800s/.stagecoach-%.200s.json", folder,
		 name && name[0] ? name : "world");
}

static int64_t start_timeout_ns(const struct options *options)
{
	return options_integer(options, "start-timeout") * NS_PER_SECOND;
}

static const char *meeting_file(void)
{
	return here.meeting_file[0] ? here.meeting_file : NULL;
}

/* What --wire comes to: auto follows from the key. */
static const char *wire_asked(const struct options *options)
{
	const char *wire = options_string(options, "wire");

	if (strcmp(wire, "auto") != 0)
		return wire;
	return here.keyed ? "authentic" : "checked";
}

static int serve(const struct options *options)
{
	struct agent_config config = {
		.place = &here.place,
		.count = 1,
		.interface = options_string(options, "interface"),
		.meeting_file = meeting_file(),
		.key = here.keyed ? here.key : NULL,
		.wire = wire_asked(options),
		.start_timeout_ns = start_timeout_ns(options),
		.input_fd = -1,
	};

	return agent_run(&config);
}

static int gather(const struct options *options)
{
	struct hosts_config config = {
		.place = &here.place,
		.list = here.listed ? &here.list : NULL,
		.ssh = options_string(options, "ssh"),
		.remote_program = options_string(options, "remote-program"),
		.interface = options_string(options, "interface"),
		.meeting_file = meeting_file(),
		.key = here.keyed ? here.key : NULL,
		.wire = wire_asked(options),
		.start_timeout_ns = start_timeout_ns(options),
	};
	int rc = hosts_open(&config, &here.hosts);

	if (!rc)
		rc = hosts_gather(here.hosts);
	return rc;
}

int hosts_options_begin(const struct options *options, const char *run,
			int *status)
{
	int rc = find_place(options);

	if (!rc)
		rc = read_list(options);
	if (!rc)
		rc = find_key(options);
	if (rc) {
		*status = 2;
		return 1;
	}
	if (here.place.size == 1 && !here.listed)
		return 0;
	name_meeting_file(run);
	if (here.place.rank > 0) {
		*status = serve(options);
		return 1;
	}
	rc = gather(options);
	*status = rc == -EINVAL ? 2 : 1;
	return rc ? 1 : 0;
}

/* The key's line; the rest of the input is there to end. */
static int take_key(void)
{
	char line[SECURE_KEY_TEXT_BYTES] = "";
	size_t used = 0;
	int rc = 0;

	while (used < sizeof(line) - 1 && (!used || line[used - 1] != '\n')) {
		if (read(STDIN_FILENO, line + used, 1) != 1)
			return fail(-EPIPE, "the key was to come by standard "
					    "input, and did not");
		used++;
	}
	if (line[0] != '\n') {
		rc = secure_key_parse(line, here.key);
		here.keyed = rc == 0;
	}
	explicit_bzero(line, sizeof(line));
	return rc < 0 ? fail(rc, "standard input holds no job key") : 0;
}

int hosts_options_serve(const struct options *options)
{
	struct agent_config config = {
		.place = &here.place,
		.count = (unsigned)options_integer(options, "ranks"),
		.launcher = "ssh",
		.interface = options_string(options, "interface"),
		.start_timeout_ns = start_timeout_ns(options),
		.input_fd = STDIN_FILENO,
	};
	int rc = find_place(options);

	if (!rc)
		rc = take_key();
	if (rc)
		return 2;
	config.key = here.keyed ? here.key : NULL;
	return agent_run(&config);
}
