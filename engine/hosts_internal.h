/* What the files of engine/hosts*.c share. */
#ifndef STAGECOACH_ENGINE_HOSTS_INTERNAL_H
#define STAGECOACH_ENGINE_HOSTS_INTERNAL_H

#include "engine/address.h"
#include "engine/control.h"
#include "engine/hosts.h"
#include "engine/meeting.h"
#include "engine/remote.h"
#include "engine/world.h"
#include "transport/secure/secure.h"

#define HOSTS_VISITORS      64 /* connections that have not said who they are */
#define HOSTS_VISITOR_NS    (5LL * 1000000000)
#define HOSTS_SURE_NS       (500LL * 1000000) /* a place is one's own */
#define HOSTS_VISITOR_BYTES 4096 /* of what they say first */
#define HOSTS_QUEUE_BYTES   ((size_t)1 << 20)
#define HOSTS_NAME_BYTES    128
#define HOSTS_MACHINE_BYTES 128

/* Somebody connected; who, is still to be seen. fd -1: a free place. */
struct hosts_visitor {
	struct control_channel channel;
	struct secure_session *session; /* until it has proved the key */
	short events;                   /* that the session waits for */
	struct address peer;
	int64_t deadline_ns;
	bool refused;   /* only until the refusal is sent */
	bool elsewhere; /* it looks for another job, which may be there yet */
};

/* An agent, with its ranks first .. first + count - 1. */
struct hosts_guest {
	struct control_channel channel; /* fd -1: lost */
	unsigned first, count;
	char name[HOSTS_NAME_BYTES]; /* "rank 2 on nodeb" */
	char host[WORLD_HOST_BYTES];
	char machine[HOSTS_MACHINE_BYTES];
	char launcher[64];
	char address[ADDRESS_TEXT_BYTES]; /* of its data links */
	struct address own; /* ours, at the other end of its connection */
	bool loopback;      /* its address is */
	int *cores;
	unsigned core_count;
};

struct hosts {
	struct hosts_config config;
	struct place place; /* with --hosts: made up */
	unsigned size;
	uint64_t session;
	int listen_fd;
	struct address listening; /* may be "any" */
	bool any;

	struct hosts_visitor visitors[HOSTS_VISITORS];
	struct hosts_guest *guests; /* [size] at most */
	unsigned guest_count;
	int *guest_of; /* [size]: index into guests, -1: none yet, -2: local */
	unsigned missing;

	/* This process's own. */
	char host[WORLD_HOST_BYTES];
	char machine[HOSTS_MACHINE_BYTES];
	char address[ADDRESS_TEXT_BYTES];
	int *cores;
	unsigned core_count;

	/* For the data links. */
	char key_hex[2 * 32 + 1]; /* made anew for each session; "": no key */
	const char **bind;        /* [size] */

	struct remote *remote; /* ssh; NULL: none */
	bool published;        /* meeting_file is there */

	struct coordinator *coordinator; /* of the running job, or NULL */
	int64_t job;
	bool stop;

	/* Refusals: a few lines, then a count. */
	int64_t refusals_since_ns;
	unsigned refusals, refusals_untold;
	char last_refusal[320];
};

#define HOSTS_LOCAL  (-2)
#define HOSTS_NOBODY (-1)

/* Both ends of the proof name it: a key proves nothing elsewhere. */
#define HOSTS_PURPOSE "stagecoach control"

/* hosts_listen.c: finds out where to listen, and listens. */
int hosts_listen(struct hosts *hosts) MUST_CHECK;
/* "10.0.0.1:4711,..." by which others may reach the listener. */
void hosts_reachable(const struct hosts *hosts, char text[MEETING_TEXT_BYTES]);
/* Once all are there: the address of each rank's links; -EINVAL, logged. */
int hosts_settle_addresses(struct hosts *hosts) MUST_CHECK;

/* hosts_door.c: from a connection to a guest, or to a rank. */
void hosts_accept(struct hosts *hosts);
bool hosts_has_place(const struct hosts *hosts); /* for one more visitor */
void hosts_visitor_read(struct hosts *hosts, struct hosts_visitor *visitor);
void hosts_visitors_expire(struct hosts *hosts);
void hosts_guest_lost(struct hosts *hosts, struct hosts_guest *guest);

/* This machine's name in `host`, and what tells it from others. */
void hosts_own_name(char *host, size_t host_size, char *machine, size_t size);

#endif
