/*
 * Ranks on several hosts: the options every command that runs a pipeline has,
 * and this process's part in it.
 *
 * Each process that srun, mpirun, torchrun or a person starts is given the
 * same command line. That of rank 0 carries the command out; the others serve
 * it until it ends, and end with its status.
 */
#ifndef STAGECOACH_TOOLS_HOSTS_OPTIONS_H
#define STAGECOACH_TOOLS_HOSTS_OPTIONS_H

#include "engine/hosts.h"
#include "tools/options.h"

/* clang-format off */
#define HOSTS_OPTIONS                                                          \
	{.name = "hosts", .kind = OPTION_STRING, .argument = "HOST:N,...",     \
	 .group = "Several hosts",                                             \
	 .help = "start N ranks on each host over ssh, in this order"},        \
	{.name = "hostfile", .kind = OPTION_STRING, .argument = "FILE",        \
	 .help = "the same from a file: a host a line, 'HOST slots=N' or "     \
		 "'HOST:N'"},                                                  \
	{.name = "ssh", .kind = OPTION_STRING, .argument = "COMMAND",          \
	 .fallback = "ssh",                                                    \
	 .help = "what to run as ssh, e.g. 'ssh -p 2222'"},                    \
	{.name = "remote-program", .kind = OPTION_STRING, .argument = "PATH",  \
	 .help = "this program on the other hosts (default: its path here)"},  \
	{.name = "rank", .kind = OPTION_INTEGER, .argument = "R",              \
	 .minimum = 0, .maximum = 4095,                                        \
	 .help = "which rank this process is, where no launcher (srun, "       \
		 "mpirun, torchrun) tells"},                                   \
	{.name = "world-size", .kind = OPTION_INTEGER, .argument = "N",        \
	 .minimum = 1, .maximum = 4096, .help = "of how many ranks"},          \
	{.name = "coordinator", .kind = OPTION_STRING,                         \
	 .argument = "HOST:PORT", .help = "where rank 0 listens"},             \
	{.name = "interface", .kind = OPTION_STRING,                           \
	 .argument = "NAME|ADDRESS|NET",                                       \
	 .help = "use this network interface, e.g. eth1 or 10.0.0.0/8 "        \
		 "(default: the one that leads to rank 0)"},                   \
	{.name = "key-file", .kind = OPTION_STRING, .argument = "FILE",        \
	 .help = "the job key that all hosts share; see 'stagecoach key'"},    \
	{.name = "wire", .kind = OPTION_CHOICE, .argument = "HOW",             \
	 .choices = "auto|checked|authentic|encrypted", .fallback = "auto",    \
	 .help = "what protects messages on a network: checksums, a keyed "    \
		 "code, or encryption (auto: authentic beyond this host)"},    \
	{.name = "start-timeout", .kind = OPTION_INTEGER,                      \
	 .argument = "SECONDS", .fallback = "60", .minimum = 1,                \
	 .maximum = 86400,                                                     \
	 .help = "how long ranks may take to come together"}
/* clang-format on */

/*
 * Call it once the options are read, before anything is done. 0: this process
 * carries the command out, with all others there if there are any. 1: its
 * part is done, or the start has failed: exit with *status. `run`: the folder
 * of the run, or NULL; a rendezvous file may be put beside it.
 */
int hosts_options_begin(const struct options *options, const char *run,
			int *status) MUST_CHECK;

/* NULL: all ranks are started here, by the launch itself. */
struct hosts *hosts_options_current(void);

/* Of so many ranks, how many compute on this machine; at least 1. */
unsigned hosts_options_neighbours(unsigned ranks);

/* Lets the other processes go with this one's exit status. */
void hosts_options_end(int status);

/*
 * What `stagecoach rank --coordinator ...` does, started by --hosts over ssh;
 * the exit status. Takes the key from a line of standard input.
 */
int hosts_options_serve(const struct options *options);

/* Of options_to_json(): takes out what belongs to one start alone. */
void hosts_options_forget(json_t *options);

#endif
