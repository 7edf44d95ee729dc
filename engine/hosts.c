#include "engine/hosts.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/text.h"
#include "base/threads.h"
#include "engine/cores.h"
#include "engine/hosts_internal.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#define TICK_NS     (100 * NS_PER_MS)
#define PATIENCE_NS (3 * NS_PER_SECOND) /* until it says whom it waits for */
#define GOODBYE_NS  (1 * NS_PER_SECOND)
#define CORES_MAX   4096

/* ---- who this is ---- */

static void printable(char *text)
{
	for (; *text; text++) {
		if (*text < ' ' || *text > '~')
			*text = '?';
	}
}

void hosts_own_name(char *host, size_t host_size, char *machine, size_t size)
{
	char boot[64] = "";
	FILE *file = fopen("/proc/sys/kernel/random/boot_id", "re");

	if (gethostname(host, host_size) < 0)
		text_copy(host, host_size, "?");
	host[host_size - 1] = '\0';
	printable(host);
	if (file && !fgets(boot, sizeof(boot), file))
		boot[0] = '\0';
	if (file)
		fclose(file);
	boot[strcspn(boot, "\n")] = '\0';
	snprintf(machine, size, "%s", boot[0] ? boot : host);
}

static int find_cores(struct hosts *hosts)
{
	hosts->cores = malloc(CORES_MAX * sizeof(*hosts->cores));
	if (!hosts->cores)
		return fail(-ENOMEM, "no memory for the list of cores");
	hosts->core_count = MIN(
		threads_available_cores(hosts->cores, CORES_MAX), CORES_MAX);
	return 0;
}

/* A key for this session's data links; told only over sealed connections. */
static int make_key(struct hosts *hosts)
{
	unsigned char key[TRANSPORT_KEY_BYTES];

	if (getrandom(&hosts->session, sizeof(hosts->session), 0) !=
		    sizeof(hosts->session) ||
	    getrandom(key, sizeof(key), 0) != sizeof(key))
		return fail(-EIO, "no random numbers: %s", strerror(errno));
	hosts->session |= 1;
	for (unsigned i = 0; hosts->config.key && i < sizeof(key); i++)
		snprintf(hosts->key_hex + 2 * i, 3, "%02x", key[i]);
	explicit_bzero(key, sizeof(key));
	return 0;
}

/* ---- ssh ---- */

static bool is_here(const char *name)
{
	struct address found[ADDRESS_MAX];
	char host[WORLD_HOST_BYTES], machine[HOSTS_MACHINE_BYTES];
	unsigned count;
	const char *why;

	if (strchr(name, '@'))
		return false;
	hosts_own_name(host, sizeof(host), machine, sizeof(machine));
	if (strcmp(name, "localhost") == 0 || strcmp(name, host) == 0)
		return true;
	return address_resolve(name, 0, found, &count, &why) == 0 &&
	       address_is_local(&found[0]);
}

static int own_program(const struct hosts *hosts, char *path, size_t size)
{
	ssize_t length;

	if (hosts->config.remote_program)
		return text_copy(path, size, hosts->config.remote_program);
	length = readlink("/proc/self/exe", path, size - 1);
	if (length < 0)
		return fail(-errno, "/proc/self/exe: %s", strerror(errno));
	path[length] = '\0';
	return 0;
}

/* Which ranks of the list are elsewhere; those here are this process's. */
static unsigned choose_agents(struct hosts *hosts, struct remote_agent *agents)
{
	const struct nodelist *list = hosts->config.list;
	unsigned first = 0, count = 0;

	for (unsigned i = 0; i < list->count; i++) {
		const struct nodelist_host *host = &list->hosts[i];

		if (is_here(host->name)) {
			for (unsigned j = 0; j < host->ranks; j++)
				hosts->guest_of[first + j] = HOSTS_LOCAL;
			hosts->missing -= host->ranks;
		} else {
			agents[count++] = (struct remote_agent){
				host->name, first, host->ranks};
		}
		first += host->ranks;
	}
	return count;
}

static int start_agents(struct hosts *hosts, const struct remote_agent *agents,
			unsigned count)
{
	char program[4096], reachable[MEETING_TEXT_BYTES];
	struct remote_config config = {
		.ssh = hosts->config.ssh,
		.program = program,
		.coordinator = reachable,
		.interface = hosts->config.interface,
		.key = hosts->config.key,
		.size = hosts->size,
		.start_timeout_ns = hosts->config.start_timeout_ns,
		.agents = agents,
		.count = count,
	};
	struct address own;
	int rc = own_program(hosts, program, sizeof(program));

	if (rc < 0)
		return rc;
	/* An address is of this host alone; the others find their own. */
	if (config.interface && !strchr(config.interface, '/') &&
	    address_parse(config.interface, 0, &own) == 0)
		config.interface = NULL;
	hosts_reachable(hosts, reachable);
	return remote_start(&config, &hosts->remote);
}

/* ---- opening ---- */

static int publish(struct hosts *hosts)
{
	char text[MEETING_TEXT_BYTES];
	int rc;

	hosts_reachable(hosts, text);
	log_info("rank 0 of %u, by %s; listening on %s", hosts->size,
		 place_launcher(hosts->place.source), text);
	if (hosts->place.coordinator[0] && !hosts->place.guessed)
		return 0;
	if (hosts->place.source == PLACE_OPEN_MPI ||
	    hosts->place.source == PLACE_PMIX) {
		rc = meeting_pmix(0, text, hosts->config.start_timeout_ns);
		if (rc != -ENOSYS)
			return rc;
	}
	if (!hosts->config.meeting_file)
		return 0;
	rc = meeting_file_write(hosts->config.meeting_file, text);
	hosts->published = rc == 0;
	return rc;
}

static int allocate(struct hosts *hosts)
{
	hosts->guests = calloc(hosts->size, sizeof(*hosts->guests));
	hosts->guest_of = calloc(hosts->size, sizeof(*hosts->guest_of));
	hosts->bind = calloc(hosts->size, sizeof(*hosts->bind));
	if (!hosts->guests || !hosts->guest_of || !hosts->bind)
		return fail(-ENOMEM, "no memory for %u ranks", hosts->size);
	for (unsigned i = 0; i < hosts->size; i++)
		hosts->guest_of[i] = HOSTS_NOBODY;
	hosts->missing = hosts->size;
	return 0;
}

static int open_by_list(struct hosts *hosts)
{
	struct remote_agent *agents =
		calloc(hosts->config.list->count, sizeof(*agents));
	unsigned count;
	int rc = 0;

	if (!agents)
		return fail(-ENOMEM, "no memory for the hosts");
	count = choose_agents(hosts, agents);
	if (count)
		rc = hosts_listen(hosts);
	if (count && !rc)
		rc = start_agents(hosts, agents, count);
	free(agents);
	return rc;
}

static int open_by_place(struct hosts *hosts)
{
	int rc;

	hosts->guest_of[0] = HOSTS_LOCAL;
	hosts->missing--;
	rc = hosts_listen(hosts);
	return rc ? rc : publish(hosts);
}

int hosts_open(const struct hosts_config *config, struct hosts **out)
{
	struct hosts *hosts = calloc(1, sizeof(*hosts));
	int rc;

	if (!hosts)
		return fail(-ENOMEM, "no memory for the hosts");
	hosts->config = *config;
	if (hosts->config.start_timeout_ns == 0)
		hosts->config.start_timeout_ns = HOSTS_START_TIMEOUT_NS;
	hosts->place = *config->place;
	hosts->size = config->list ? nodelist_ranks(config->list)
				   : config->place->size;
	hosts->listen_fd = -1;
	for (unsigned i = 0; i < HOSTS_VISITORS; i++)
		hosts->visitors[i].channel.fd = -1;
	hosts_own_name(hosts->host, sizeof(hosts->host), hosts->machine,
		       sizeof(hosts->machine));
	rc = hosts->size > TRANSPORT_RANKS_MAX
		     ? fail(-EINVAL, "%u ranks; at most %u are possible",
			    hosts->size, TRANSPORT_RANKS_MAX)
		     : 0;
	if (!rc)
		rc = allocate(hosts);
	if (!rc)
		rc = find_cores(hosts);
	if (!rc)
		rc = make_key(hosts);
	if (!rc)
		rc = config->list ? open_by_list(hosts) : open_by_place(hosts);
	if (rc < 0) {
		hosts_close(hosts, 1, log_last_error());
		return rc;
	}
	*out = hosts;
	return 0;
}

/* ---- all here? ---- */

static void list_missing(const struct hosts *hosts, char *buffer, size_t size)
{
	size_t used = 0;

	buffer[0] = '\0';
	for (unsigned i = 0; i < hosts->size && used + 16 < size; i++) {
		if (hosts->guest_of[i] == HOSTS_NOBODY)
			used += (size_t)snprintf(buffer + used, size - used,
						 "%s%u", used ? ", " : "", i);
	}
}

static int give_up_waiting(const struct hosts *hosts)
{
	bool alone = !hosts->any && address_is_loopback(&hosts->listening) &&
		     !hosts->config.key;
	char missing[128], text[ADDRESS_TEXT_BYTES];

	list_missing(hosts, missing, sizeof(missing));
	return fail(
		-ETIMEDOUT,
		"rank%s %s did not connect to port %u%s%s within %.0f s%s%s%s",
		hosts->missing == 1 ? "" : "s", missing,
		address_port(&hosts->listening), hosts->any ? "" : " of ",
		hosts->any ? ""
			   : address_text(&hosts->listening, false, text,
					  sizeof(text)),
		clock_seconds(hosts->config.start_timeout_ns),
		alone ? "; without a --key-file this process listens for ranks "
			"of its own host alone"
		      : "",
		hosts->last_refusal[0] ? "; " : "", hosts->last_refusal);
}

static void note_waiting(const struct hosts *hosts)
{
	char missing[128];

	list_missing(hosts, missing, sizeof(missing));
	log_info("waiting for rank%s %s", hosts->missing == 1 ? "" : "s",
		 missing);
}

static int poll_all(struct hosts *hosts, int64_t timeout_ns)
{
	unsigned count = hosts_poll_count(hosts);
	struct pollfd *polls = calloc(count, sizeof(*polls));

	if (!polls)
		return fail(-ENOMEM, "no memory to poll %u sockets", count);
	count = hosts_fill_polls(hosts, polls);
	if (poll(polls, count, (int)(timeout_ns / NS_PER_MS)) < 0 &&
	    errno != EINTR) {
		free(polls);
		return fail(-errno, "poll: %s", strerror(errno));
	}
	hosts_take_polls(hosts, polls, count);
	free(polls);
	return 0;
}

/* One that has gone again before the first job is told of at once. */
static int check_guests(const struct hosts *hosts)
{
	for (unsigned i = 0; i < hosts->guest_count; i++) {
		if (hosts->guests[i].channel.fd < 0)
			return fail(-ECONNRESET, "%s is gone",
				    hosts->guests[i].name);
	}
	return 0;
}

int hosts_gather(struct hosts *hosts)
{
	int64_t start_ns = clock_now_ns();
	bool noted = false;
	int rc = 0;

	while (hosts->missing && !rc) {
		int64_t past_ns = clock_now_ns() - start_ns;

		if (past_ns >= hosts->config.start_timeout_ns)
			return give_up_waiting(hosts);
		if (past_ns >= PATIENCE_NS && !noted) {
			note_waiting(hosts);
			noted = true;
		}
		rc = poll_all(hosts, TICK_NS);
		if (!rc)
			rc = check_guests(hosts);
		if (!rc && hosts->remote)
			rc = remote_check(hosts->remote);
	}
	return rc ? rc : hosts_settle_addresses(hosts);
}

/* ---- what is known of the ranks ---- */

unsigned hosts_size(const struct hosts *hosts)
{
	return hosts->size;
}

bool hosts_is_local(const struct hosts *hosts, unsigned rank)
{
	return hosts->guest_of[rank] == HOSTS_LOCAL;
}

unsigned hosts_neighbours(const struct hosts *hosts)
{
	unsigned count = 0;

	for (unsigned i = 0; i < hosts->size; i++)
		count += hosts_is_local(hosts, i) ||
			 strcmp(hosts->guests[hosts->guest_of[i]].machine,
				hosts->machine) == 0;
	return count;
}

int hosts_divide_cores(const struct hosts *hosts, unsigned threads, bool pin,
		       struct cores_plan *out)
{
	struct cores_site *sites = calloc(hosts->size, sizeof(*sites));
	int rc;

	if (!sites)
		return fail(-ENOMEM, "no memory for the cores of %u ranks",
			    hosts->size);
	for (unsigned i = 0; i < hosts->size; i++) {
		const struct hosts_guest *guest =
			hosts_is_local(hosts, i)
				? NULL
				: &hosts->guests[hosts->guest_of[i]];

		sites[i] = (struct cores_site){
			.machine = guest ? guest->machine : hosts->machine,
			.available = guest ? guest->cores : hosts->cores,
			.count = guest ? guest->core_count : hosts->core_count,
		};
	}
	rc = cores_divide_sites(sites, hosts->size, threads, pin, out);
	free(sites);
	return rc;
}

void hosts_links(const struct hosts *hosts, struct coordinator_links *out)
{
	*out = (struct coordinator_links){
		.key = hosts->key_hex[0] ? hosts->key_hex : NULL,
		.bind = hosts->bind,
	};
}

char *hosts_describe(const struct hosts *hosts, unsigned rank, char *buffer,
		     size_t size)
{
	const struct hosts_guest *guest =
		hosts_is_local(hosts, rank)
			? NULL
			: &hosts->guests[hosts->guest_of[rank]];
	const char *launcher = hosts->config.list
				       ? "this command"
				       : place_launcher(hosts->place.source);

	snprintf(buffer, size, "host %s (%s), by %s",
		 guest ? guest->host : hosts->host, hosts->bind[rank],
		 guest ? guest->launcher : launcher);
	return buffer;
}

/* ---- sockets ---- */

unsigned hosts_poll_count(const struct hosts *hosts)
{
	return 1 + HOSTS_VISITORS + hosts->guest_count;
}

static void add_poll(struct pollfd *polls, unsigned *count,
		     const struct control_channel *channel)
{
	if (channel->fd < 0)
		return;
	polls[(*count)++] = (struct pollfd){
		.fd = channel->fd,
		.events = (short)(POLLIN |
				  (control_pending(channel) ? POLLOUT : 0)),
	};
}

unsigned hosts_fill_polls(const struct hosts *hosts, struct pollfd *polls)
{
	unsigned count = 0;

	if (hosts->listen_fd >= 0 && hosts_has_place(hosts))
		polls[count++] = (struct pollfd){.fd = hosts->listen_fd,
						 .events = POLLIN};
	for (unsigned i = 0; i < HOSTS_VISITORS; i++) {
		add_poll(polls, &count, &hosts->visitors[i].channel);
		if (hosts->visitors[i].session)
			polls[count - 1].events = hosts->visitors[i].events;
	}
	for (unsigned i = 0; i < hosts->guest_count; i++)
		add_poll(polls, &count, &hosts->guests[i].channel);
	return count;
}

void hosts_guest_lost(struct hosts *hosts, struct hosts_guest *guest)
{
	control_channel_fini(&guest->channel);
	for (unsigned i = guest->first;
	     hosts->coordinator && i < guest->first + guest->count; i++) {
		if (!coordinator_is_gone(hosts->coordinator, i))
			coordinator_rank_ended(
				hosts->coordinator, i,
				"is gone: the connection to its host broke off "
				"(killed, or the host or the network is down)");
	}
}

static void guest_read(struct hosts *hosts, struct hosts_guest *guest)
{
	enum control_kind kind;
	json_t *message;
	int filled, rc;

	do {
		filled = control_fill(&guest->channel);
		while ((rc = control_next(&guest->channel, guest->name, &kind,
					  &message)) > 0) {
			if (kind == CONTROL_STOP)
				hosts->stop = true;
			else
				log_warning("%s sends '%s' out of turn",
					    guest->name,
					    control_kind_name(kind));
			json_decref(message);
		}
	} while (filled > 0 && rc == 0);
	if (filled < 0 || rc < 0)
		hosts_guest_lost(hosts, guest);
}

static void guest_flush(struct hosts_guest *guest)
{
	/* A broken connection shows itself when it is read. */
	if (guest->channel.fd >= 0 && control_flush(&guest->channel) < 0)
		guest->channel.out_start = guest->channel.out_end;
}

static void take_poll(struct hosts *hosts, const struct pollfd *poll)
{
	for (unsigned i = 0; i < HOSTS_VISITORS; i++) {
		if (hosts->visitors[i].channel.fd == poll->fd) {
			hosts_visitor_read(hosts, &hosts->visitors[i]);
			return;
		}
	}
	for (unsigned i = 0; i < hosts->guest_count; i++) {
		struct hosts_guest *guest = &hosts->guests[i];

		if (guest->channel.fd != poll->fd)
			continue;
		if (poll->revents & POLLOUT)
			guest_flush(guest);
		if (poll->revents & ~POLLOUT)
			guest_read(hosts, guest);
		return;
	}
}

void hosts_take_polls(struct hosts *hosts, const struct pollfd *polls,
		      unsigned count)
{
	for (unsigned i = 0; i < count; i++) {
		if (polls[i].revents && polls[i].fd != hosts->listen_fd)
			take_poll(hosts, &polls[i]);
	}
	/* Last: a descriptor that was closed above is given out again. */
	for (unsigned i = 0; i < count; i++) {
		if (polls[i].revents && polls[i].fd == hosts->listen_fd)
			hosts_accept(hosts);
	}
	hosts_visitors_expire(hosts);
}

/* ---- a job ---- */

static int tell(struct hosts_guest *guest, enum control_kind kind,
		json_t *message)
{
	int rc;

	if (guest->channel.fd < 0) {
		json_decref(message);
		return -ENOTCONN;
	}
	rc = control_queue(&guest->channel, kind, message);
	guest_flush(guest);
	return rc;
}

void hosts_begin_job(struct hosts *hosts, struct coordinator *coordinator)
{
	char folder[4096];

	if (!getcwd(folder, sizeof(folder)))
		folder[0] = '\0';
	hosts->coordinator = coordinator;
	hosts->job++;
	hosts->stop = false;
	for (unsigned i = 0; i < hosts->guest_count; i++) {
		struct hosts_guest *guest = &hosts->guests[i];

		if (tell(guest, CONTROL_START,
			 json_pack("{s:I, s:s}", "job", (json_int_t)hosts->job,
				   "folder", folder)) < 0)
			hosts_guest_lost(hosts, guest);
	}
}

void hosts_end_job(struct hosts *hosts)
{
	hosts->coordinator = NULL;
}

unsigned hosts_running(const struct hosts *hosts)
{
	bool aborted =
		hosts->coordinator &&
		coordinator_state(hosts->coordinator) == COORDINATOR_ABORTED;
	unsigned running = 0;

	for (unsigned i = 0; hosts->coordinator && i < hosts->size; i++) {
		if (hosts_is_local(hosts, i) ||
		    hosts->guests[hosts->guest_of[i]].channel.fd < 0 ||
		    coordinator_is_gone(hosts->coordinator, i) ||
		    (aborted &&
		     !coordinator_is_attached(hosts->coordinator, i)))
			continue;
		running++;
	}
	return running;
}

void hosts_kill(struct hosts *hosts)
{
	for (unsigned i = 0; i < hosts->guest_count; i++) {
		if (tell(&hosts->guests[i], CONTROL_KILL, json_object()) < 0)
			log_debug("%s cannot be told", hosts->guests[i].name);
	}
}

void hosts_give_up(struct hosts *hosts)
{
	for (unsigned i = 0; i < hosts->guest_count; i++) {
		struct hosts_guest *guest = &hosts->guests[i];
		bool gone = true;

		for (unsigned j = 0; j < guest->count; j++)
			gone &= coordinator_is_gone(hosts->coordinator,
						    guest->first + j);
		if (!gone && guest->channel.fd >= 0) {
			log_warning("%s does not end: giving it up",
				    guest->name);
			control_channel_fini(&guest->channel);
		}
	}
}

bool hosts_take_stop(struct hosts *hosts)
{
	bool stop = hosts->stop;

	hosts->stop = false;
	return stop;
}

/* ---- the end ---- */

static bool anything_unsent(const struct hosts *hosts)
{
	for (unsigned i = 0; i < hosts->guest_count; i++) {
		if (hosts->guests[i].channel.fd >= 0 &&
		    control_pending(&hosts->guests[i].channel))
			return true;
	}
	return false;
}

/* Who still wants to come in, learns that nobody is waited for any more. */
static void say_goodbye(struct hosts *hosts, int status, const char *reason)
{
	int64_t end_ns = clock_now_ns() + GOODBYE_NS;
	char text[512];

	snprintf(text, sizeof(text), "%s", reason ? reason : "");
	control_clean_text(text);
	for (unsigned i = 0; i < hosts->guest_count; i++) {
		if (tell(&hosts->guests[i], CONTROL_END,
			 json_pack("{s:i, s:s}", "status", status, "reason",
				   text)) < 0)
			log_debug("%s cannot be told", hosts->guests[i].name);
	}
	while (anything_unsent(hosts) && clock_now_ns() < end_ns) {
		for (unsigned i = 0; i < hosts->guest_count; i++)
			guest_flush(&hosts->guests[i]);
		clock_sleep_ns(NS_PER_MS);
	}
}

void hosts_close(struct hosts *hosts, int status, const char *reason)
{
	if (!hosts)
		return;
	say_goodbye(hosts, status, reason);
	if (hosts->published && unlink(hosts->config.meeting_file) < 0)
		log_debug("%s: %s", hosts->config.meeting_file,
			  strerror(errno));
	if (hosts->listen_fd >= 0)
		close(hosts->listen_fd);
	for (unsigned i = 0; i < HOSTS_VISITORS; i++) {
		secure_session_destroy(hosts->visitors[i].session);
		control_channel_fini(&hosts->visitors[i].channel);
	}
	for (unsigned i = 0; i < hosts->guest_count; i++) {
		control_channel_fini(&hosts->guests[i].channel);
		free(hosts->guests[i].cores);
	}
	remote_stop(hosts->remote);
	explicit_bzero(hosts->key_hex, sizeof(hosts->key_hex));
	free(hosts->guests);
	free(hosts->guest_of);
	free(hosts->bind);
	free(hosts->cores);
	free(hosts);
}
