/*
 * Ranks on other hosts, seen from the process of rank 0.
 *
 * That process is the coordinator of the job. It listens; for every other
 * rank (or for several on one host) a process of ours, the agent
 * (engine/agent.h), connects, is let in or refused, and waits for jobs. For
 * each job every agent starts its ranks and brings in one connection per
 * rank, which then is the coordinator's. A command may run several jobs; at
 * its end all agents are told its exit status and end with it.
 *
 * Agents are started by whoever started this process (srun, mpirun, torchrun,
 * hands), or by this process over ssh (--hosts).
 *
 * Nothing here blocks but hosts_open(), hosts_gather() and hosts_close(), each
 * for a bounded time.
 */
#ifndef STAGECOACH_ENGINE_HOSTS_H
#define STAGECOACH_ENGINE_HOSTS_H

#include "base/compiler.h"
#include "engine/coordinator.h"
#include "engine/nodelist.h"
#include "engine/place.h"
#include <poll.h>

#define HOSTS_START_TIMEOUT_NS (60LL * 1000000000)

struct hosts;
struct cores_plan;

/* All borrowed until hosts_close(). */
struct hosts_config {
	const struct place *place;   /* rank 0 of several; or with a list */
	const struct nodelist *list; /* --hosts: whom to start; NULL: nobody */
	const char *ssh;             /* words to start a remote shell with */
	const char *remote_program;  /* NULL: the path of this one */
	const char *interface;       /* NULL: found */
	const char *meeting_file;    /* in a shared folder, or NULL */
	const unsigned char *key;    /* TRANSPORT_KEY_BYTES, or NULL */
	const char *wire;            /* "authentic": as all shall ask for */
	int64_t start_timeout_ns;    /* 0: HOSTS_START_TIMEOUT_NS */
};

/*
 * Listens, makes known where, starts what there is to start. -EACCES: beyond
 * loopback without a key. Logged.
 */
int hosts_open(const struct hosts_config *config,
	       struct hosts **out) MUST_CHECK;

/*
 * Waits until the agents of all ranks are there. -ETIMEDOUT names those that
 * are not; -ECHILD: ssh ended.
 */
int hosts_gather(struct hosts *hosts) MUST_CHECK;

/*
 * Tells all agents how it ended and lets them go. `reason` is what a failure
 * was caused by, or "". NULL hosts is legal.
 */
void hosts_close(struct hosts *hosts, int status, const char *reason);

unsigned hosts_size(const struct hosts *hosts); /* ranks, those here as well */
bool hosts_is_local(const struct hosts *hosts, unsigned rank);
/* Ranks on the machine of rank 0's process, those of other agents as well. */
unsigned hosts_neighbours(const struct hosts *hosts);

/* The cores of all ranks, each by its own machine. */
int hosts_divide_cores(const struct hosts *hosts, unsigned threads, bool pin,
		       struct cores_plan *out) MUST_CHECK;

/* What the coordinator tells the ranks of addresses and key; borrowed. */
void hosts_links(const struct hosts *hosts, struct coordinator_links *out);

/* "host a (10.0.0.1), by srun" of a rank, for people. */
char *hosts_describe(const struct hosts *hosts, unsigned rank, char *buffer,
		     size_t size);

/* ---- during a job ---- */

/*
 * Has the agents start their ranks, which coordinator_attach() is called for
 * as they come; a lost agent is reported by coordinator_rank_ended().
 */
void hosts_begin_job(struct hosts *hosts, struct coordinator *coordinator);
void hosts_end_job(struct hosts *hosts);

/* How many ranks elsewhere have not ended yet, as far as one can know. */
unsigned hosts_running(const struct hosts *hosts);

/* Remote ranks are to end at once; after it, those that do not are given up. */
void hosts_kill(struct hosts *hosts);
void hosts_give_up(struct hosts *hosts);

/* An agent was asked to stop the job (once: it is told once). */
bool hosts_take_stop(struct hosts *hosts);

/* Sockets to poll, at most hosts_poll_count(), and what came of it. */
unsigned hosts_poll_count(const struct hosts *hosts);
unsigned hosts_fill_polls(const struct hosts *hosts, struct pollfd *polls);
void hosts_take_polls(struct hosts *hosts, const struct pollfd *polls,
		      unsigned count);

#endif
