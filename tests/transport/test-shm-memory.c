/*
 * What is particular to shm: slots of the receiver in the sender's address
 * space, processes that die while they write into them, and peers that write
 * into the shared memory what they like.
 */
#include <dirent.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/random.h"
#include "tests/transport/world.h"
#include "transport/shm/shm.h"

#define SEEDS 10000 /* SHM_SEEDS in the environment: so many instead */

static const struct conformance_transport over_shm = {
	.name = "shm",
	.kind = "shm",
};

static unsigned char *shared_region(struct transport_endpoint *endpoint,
				    size_t bytes)
{
	void *made;

	CHECK_EQUAL(transport_create_region(endpoint, bytes, &made), 0);
	return made;
}

static void *acquire(struct transport_endpoint *endpoint, uint64_t tag,
		     size_t bytes, void *own)
{
	void *where = NULL;

	CHECK_EQUAL(
		transport_acquire_send(endpoint, 1, tag, bytes, own, &where),
		0);
	return where;
}

/* ---- slots ---- */

/* The receiver's own slot, by another address; the owner need not call in. */
static void case_in_place(void)
{
	struct tally tallies[WORLD_MAX] = {0};
	struct transport_completion done;
	struct transport_link_info info;
	unsigned char *memory[2];
	struct world world;
	void *where;
	unsigned i;

	world_up(&world, &over_shm, 2);
	for (i = 0; i < 2; i++)
		memory[i] = shared_region(world.endpoint[i], 2u << 20);
	CHECK_EQUAL(transport_post_recv(world.endpoint[1], 0, 7, memory[1] + 5,
					1u << 20, NULL),
		    0);
	where = acquire(world.endpoint[0], 7, 1u << 20, memory[0]);
	CHECK(where != memory[0] && where != memory[1] + 5);
	pattern_fill(where, 1u << 20, 7);
	CHECK(pattern_holds(memory[1] + 5, 1u << 20, 7));
	CHECK_EQUAL(transport_progress(world.endpoint[1], &done, 1), 0);
	CHECK_EQUAL(transport_post_send(world.endpoint[0], 1, 7, where,
					1u << 20, NULL),
		    0);
	world_finish(&world, tallies, 0, 1, 1, 1);
	CHECK_EQUAL(transport_query(world.endpoint[0], 1, &info), 0);
	CHECK_EQUAL(info.messages_in_place, 1);
	/* From elsewhere: one copy, which the sender makes. */
	CHECK_EQUAL(transport_post_recv(world.endpoint[1], 0, 8, memory[1],
					1u << 20, NULL),
		    0);
	pattern_fill(memory[0], 1u << 20, 8);
	CHECK_EQUAL(transport_post_send(world.endpoint[0], 1, 8, memory[0],
					1u << 20, NULL),
		    0);
	CHECK(pattern_holds(memory[1], 1u << 20, 8));
	world_finish(&world, tallies, 0, 2, 1, 2);
	CHECK_EQUAL(transport_query(world.endpoint[0], 1, &info), 0);
	CHECK_EQUAL(info.messages_in_place, 1);
	world_close(&world);
}

/* The receiver may not take the memory away from under the sender. */
static void case_cancel(void)
{
	unsigned char *memory[2];
	struct world world;
	void *where;
	unsigned i;

	world_up(&world, &over_shm, 2);
	for (i = 0; i < 2; i++)
		memory[i] = shared_region(world.endpoint[i], 1000);
	CHECK_EQUAL(transport_post_recv(world.endpoint[1], 0, 8, memory[1],
					1000, NULL),
		    0);
	where = acquire(world.endpoint[0], 8, 1000, memory[0]);
	CHECK(where != memory[0]);
	CHECK_EQUAL(transport_cancel(world.endpoint[1], 0, 20 * MS),
		    -ETIMEDOUT);
	CHECK(log_has("still writes into slots of rank 1"));
	memset(where, 1, 1000); /* it is mapped to the last */
	CHECK_EQUAL(
		transport_post_send(world.endpoint[0], 1, 8, where, 1000, NULL),
		-ECONNRESET);
	CHECK_EQUAL(transport_cancel(world.endpoint[1], 0, 20 * MS), 0);
	world_close(&world);
}

/* Regions come and go, also many, and slots are not mixed up. */
static void case_regions(void)
{
	struct tally tallies[WORLD_MAX] = {0};
	unsigned char *from;
	unsigned char *to;
	struct world world;
	unsigned round;
	void *where;

	world_up(&world, &over_shm, 2);
	from = region(world.endpoint[0], 5000);
	for (round = 0; round < 50; round++) {
		to = shared_region(world.endpoint[1], 5000 + 4096 * round);
		CHECK_EQUAL(transport_post_recv(world.endpoint[1], 0, round, to,
						5000, NULL),
			    0);
		CHECK_EQUAL(transport_release_region(world.endpoint[1], to),
			    -EBUSY);
		where = acquire(world.endpoint[0], round, 5000, from);
		CHECK(where != from);
		pattern_fill(where, 5000, round);
		CHECK_EQUAL(transport_post_send(world.endpoint[0], 1, round,
						where, 5000, NULL),
			    0);
		world_finish(&world, tallies, 0, round + 1, 1, round + 1);
		CHECK(pattern_holds(to, 5000, round));
		if (round % 3)
			CHECK_EQUAL(
				transport_release_region(world.endpoint[1], to),
				0);
	}
	world_close(&world);
	free(from);
}

/* ---- the death of a peer ---- */

struct victim {
	pid_t pid;
	int from_it;
};

/* In the child: rank 0, which writes into a slot of rank 1 until the end. */
static void be_victim(struct world *world, int out, int in)
{
	static const unsigned one = 1;
	unsigned char *memory;
	void *where = NULL;
	unsigned i;

	CHECK_EQUAL(transport_open(&world->config[0], &world->endpoint[0]), 0);
	CHECK_EQUAL(transport_listen(world->endpoint[0], world->address[0],
				     TRANSPORT_ADDRESS_BYTES),
		    0);
	CHECK_EQUAL(read(in, world->address[1], TRANSPORT_ADDRESS_BYTES),
		    TRANSPORT_ADDRESS_BYTES);
	CHECK_EQUAL(transport_connect(world->endpoint[0], &one, 1,
				      world->addresses, 10 * SECOND),
		    0);
	memory = shared_region(world->endpoint[0], 8u << 20);
	for (i = 0; i < 4; i++) {
		where = memory;
		while (where == memory) {
			clock_sleep_ns(MS);
			where = acquire(world->endpoint[0], i, 1u << 20,
					memory);
			if (where == memory)
				CHECK_EQUAL(transport_release_send(
						    world->endpoint[0], 1),
					    0);
		}
		if (i == 3)
			break;
		CHECK_EQUAL(transport_post_send(world->endpoint[0], 1, i, where,
						1u << 20, NULL),
			    0);
		CHECK(next_completion(world->endpoint[0]).event ==
		      TRANSPORT_SENT);
	}
	CHECK_EQUAL(write(out, "w", 1), 1);
	for (;;)
		memset(where, (int)i++, 1u << 20);
}

static void victim_start(struct victim *victim, struct world *world)
{
	static const unsigned zero = 0;
	int to_us[2];
	int to_it[2];

	world_init(world, &over_shm, 2);
	CHECK_EQUAL(pipe(to_us) | pipe(to_it), 0);
	victim->pid = fork();
	CHECK(victim->pid >= 0);
	if (victim->pid == 0)
		be_victim(world, to_us[1], to_it[0]);
	CHECK_EQUAL(transport_open(&world->config[1], &world->endpoint[1]), 0);
	CHECK_EQUAL(transport_listen(world->endpoint[1], world->address[1],
				     TRANSPORT_ADDRESS_BYTES),
		    0);
	CHECK_EQUAL(write(to_it[1], world->address[1], TRANSPORT_ADDRESS_BYTES),
		    TRANSPORT_ADDRESS_BYTES);
	CHECK_EQUAL(transport_connect(world->endpoint[1], &zero, 1,
				      world->addresses, 10 * SECOND),
		    0);
	close(to_us[1]);
	close(to_it[0]);
	close(to_it[1]);
	victim->from_it = to_us[0];
}

/* The memfds of ours that this process has mapped or open, by inode. */
static unsigned memfds(ino_t *out, unsigned room)
{
	FILE *file = fopen("/proc/self/maps", "re");
	unsigned count = 0;
	char line[512];
	char *field;

	CHECK(file);
	while (count < room && fgets(line, sizeof(line), file)) {
		if (!strstr(line, "memfd:stagecoach"))
			continue;
		field = strchr(line, ':') + 3; /* behind the device */
		out[count++] = strtoul(field, NULL, 10);
	}
	fclose(file);
	return count;
}

static bool names_one(const char *line, const ino_t *inodes, unsigned count)
{
	char text[32];
	unsigned i;

	for (i = 0; i < count; i++) {
		snprintf(text, sizeof(text), " %lu ", (unsigned long)inodes[i]);
		if (strstr(line, text))
			return true;
	}
	return false;
}

static bool process_has(const char *pid, const ino_t *inodes, unsigned count)
{
	struct dirent *entry;
	char path[600];
	char line[512];
	bool found = false;
	struct stat status;
	FILE *file;
	DIR *folder;
	unsigned i;

	snprintf(path, sizeof(path), "/proc/%s/maps", pid);
	file = fopen(path, "re");
	while (file && !found && fgets(line, sizeof(line), file))
		found = strstr(line, "memfd:stagecoach") &&
			names_one(line, inodes, count);
	if (file)
		fclose(file);
	snprintf(path, sizeof(path), "/proc/%s/fd", pid);
	folder = opendir(path);
	while (folder && !found && (entry = readdir(folder))) {
		ssize_t length;

		snprintf(path, sizeof(path), "/proc/%s/fd/%s", pid,
			 entry->d_name);
		length = readlink(path, line, sizeof(line) - 1);
		line[MAX(length, 0)] = '\0';
		if (!strstr(line, "memfd:stagecoach") || stat(path, &status))
			continue;
		for (i = 0; i < count; i++)
			found |= status.st_ino == inodes[i];
	}
	if (folder)
		closedir(folder);
	return found;
}

/* Does any process hold one of them still? */
static bool any_process_has(const ino_t *inodes, unsigned count)
{
	DIR *folder = opendir("/proc");
	struct dirent *entry;
	bool found = false;

	CHECK(folder);
	while (!found && (entry = readdir(folder))) {
		if (entry->d_name[0] >= '1' && entry->d_name[0] <= '9')
			found = process_has(entry->d_name, inodes, count);
	}
	closedir(folder);
	return found;
}

static unsigned named_segments(void)
{
	DIR *folder = opendir("/dev/shm");
	unsigned count = 0;
	struct dirent *entry;

	while (folder && (entry = readdir(folder)))
		count += strstr(entry->d_name, "stagecoach") != NULL;
	if (folder)
		closedir(folder);
	return count;
}

/*
 * kill -9 in the middle of writing into our slot: noticed at once, the memory
 * is ours again at once, and nothing of either process is left.
 */
static void case_killed(void)
{
	struct transport_completion done;
	struct victim victim;
	struct world world;
	unsigned char *memory;
	ino_t inodes[16];
	unsigned count;
	int64_t start;
	char byte;
	int status;
	unsigned i;

	victim_start(&victim, &world);
	memory = shared_region(world.endpoint[1], 8u << 20);
	for (i = 0; i < 4; i++)
		CHECK_EQUAL(transport_post_recv(world.endpoint[1], 0, i,
						memory + i * (1u << 20),
						1u << 20, NULL),
			    0);
	for (i = 0; i < 3; i++)
		CHECK_EQUAL(next_completion(world.endpoint[1]).tag, i);
	CHECK_EQUAL(read(victim.from_it, &byte, 1), 1);
	close(victim.from_it);
	count = memfds(inodes, ARRAY_SIZE(inodes));
	CHECK(count >= 3); /* our region, its, the ring */
	CHECK(any_process_has(inodes, count));
	CHECK_EQUAL(
		transport_wait(world.endpoint[1], clock_now_ns() + 5 * MS, -1),
		-ETIMEDOUT);
	start = clock_now_ns();
	CHECK_EQUAL(kill(victim.pid, SIGKILL), 0);
	while ((status = transport_progress(world.endpoint[1], &done, 1)) == 0)
		CHECK_EQUAL(transport_wait(world.endpoint[1],
					   start + 10 * SECOND, -1),
			    0);
	CHECK_EQUAL(status, -ECONNRESET);
	CHECK_EQUAL(transport_cancel(world.endpoint[1], 0, SECOND), 0);
	CHECK(clock_now_ns() - start < SECOND);
	CHECK(log_has("rank 0"));
	memset(memory, 0x3c, 8u << 20);
	clock_sleep_ns(5 * MS);
	CHECK(all_bytes_are(memory, 8u << 20, 0x3c));
	CHECK_EQUAL(waitpid(victim.pid, &status, 0), victim.pid);
	world_close(&world);
	CHECK(!any_process_has(inodes, count));
	CHECK_EQUAL(named_segments(), 0);
}

/* ---- strangers ---- */

static int knock(const char *address)
{
	struct sockaddr_un remote = {.sun_family = AF_UNIX};
	const char *name = strchr(address, ':') + 1;
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	CHECK(fd >= 0);
	memcpy(remote.sun_path + 1, name, strlen(name));
	if (connect(fd, (struct sockaddr *)&remote,
		    (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 +
				strlen(name)))) {
		close(fd);
		return -1;
	}
	return fd;
}

static void case_strangers(void)
{
	unsigned char noise[300];
	struct world world;
	int fds[20];
	unsigned i;

	world_init(&world, &over_shm, 2);
	world_open(&world);
	for (i = 0; i < ARRAY_SIZE(fds); i++) {
		fds[i] = knock(world.address[1]);
		pattern_fill(noise, sizeof(noise), i);
		if (fds[i] >= 0 && i % 3)
			send(fds[i], noise, i % 3 == 1 ? 300 : 40,
			     MSG_NOSIGNAL);
	}
	world_connect(&world, 10 * SECOND);
	CHECK_EQUAL(world.connected[0] | world.connected[1], 0);
	for (i = 0; i < ARRAY_SIZE(fds); i++) {
		if (fds[i] >= 0)
			close(fds[i]);
	}
	world_close(&world);
}

/* Of another user, which only root can play. True: it was turned away. */
static bool other_user_is_turned_away(const char *address)
{
	unsigned char hello[128] = {0};
	int status;
	pid_t pid;

	pid = fork();
	CHECK(pid >= 0);
	if (pid == 0) {
		int fd;

		if (setuid(65534))
			_exit(2);
		fd = knock(address);
		/* Closed unheard: the end of the stream, without a word. */
		_exit(fd >= 0 && send(fd, hello, 10, MSG_NOSIGNAL) <= 10 &&
				      recv(fd, hello, sizeof(hello), 0) <= 0
			      ? 0
			      : 1);
	}
	CHECK_EQUAL(waitpid(pid, &status, 0), pid);
	return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

static void *connect_alone(void *argument)
{
	static const unsigned zero = 0;
	struct world *world = argument;

	world->connected[1] = transport_connect(world->endpoint[1], &zero, 1,
						world->addresses, 2 * SECOND);
	return NULL;
}

static bool case_other_user(void)
{
	struct world world;
	pthread_t thread;
	int64_t start;

	if (geteuid())
		return false;
	world_init(&world, &over_shm, 2);
	world_open(&world);
	CHECK_EQUAL(pthread_create(&thread, NULL, connect_alone, &world), 0);
	start = clock_now_ns();
	CHECK(other_user_is_turned_away(world.address[1]));
	CHECK(clock_now_ns() - start < SECOND);
	pthread_join(thread, NULL);
	CHECK_EQUAL(world.connected[1], -ETIMEDOUT);
	CHECK(log_has("it is of another user"));
	world_close(&world);
	return true;
}

/* ---- a peer that writes what it likes ---- */

#define SLOT   700
#define GUARD  64
#define PLACES 6

struct hostile {
	struct world world;
	struct shm_endpoint *endpoint; /* of rank 0, which is to survive */
	struct shm_link *link;
	int peer_fd;
	unsigned char *shared; /* PLACES slots each, with guards */
	unsigned char *private;
	struct random_key key;
	uint64_t counter;
	unsigned posted, failed, completed;
};

static uint64_t dice(struct hostile *h, uint64_t sides)
{
	return random_below(h->key, h->counter++, sides);
}

static void hostile_init(struct hostile *h)
{
	world_up(&h->world, &over_shm, 2);
	h->endpoint = (struct shm_endpoint *)h->world.endpoint[0];
	h->link = h->endpoint->link_of[1];
	h->peer_fd =
		((struct shm_endpoint *)h->world.endpoint[1])->link_of[0]->fd;
	h->shared =
		shared_region(h->world.endpoint[0], PLACES * (SLOT + GUARD));
	h->private = region(h->world.endpoint[0], PLACES * (SLOT + GUARD));
	/* So that rank 0 has a map of a region of rank 1. */
	shared_region(h->world.endpoint[1], 100000);
	shm_mail_read(h->endpoint, h->link);
	CHECK(h->link->map[0].base);
}

/* As if it had just been built. */
static void renew(struct hostile *h)
{
	struct shm_link *link = h->link;
	char mail[64];

	memset(link->ring.head, 0, sizeof(*link->ring.head));
	memset(link->ring.offers[0], 0,
	       4 * link->ring.slots * sizeof(struct shm_entry));
	while (recv(link->fd, mail, sizeof(mail), MSG_DONTWAIT) > 0 ||
	       recv(h->peer_fd, mail, sizeof(mail), MSG_DONTWAIT) > 0)
		;
	link->send.head = link->send.done = 0;
	link->send.tail = link->send.reserved = 0;
	link->receive.head = link->receive.done = 0;
	link->receive.tail = link->receive.reserved = 0;
	link->status = 0;
	link->offered = link->filled = link->drained = 0;
	link->taking = link->giving = false;
	link->placed = 0;
	h->posted = 0;
	memset(h->shared, 0x77, PLACES * (SLOT + GUARD));
	memset(h->private, 0x77, PLACES * (SLOT + GUARD));
}

/* A word that might be believed. */
static uint64_t plausible(struct hostile *h)
{
	switch (dice(h, 6)) {
	case 0:
		return dice(h, 8);
	case 1:
		return 1000 + dice(h, 8); /* a tag */
	case 2:
		return dice(h, 2) ? SLOT : SHM_INLINE_BYTES;
	case 3:
		return UINT64_MAX - dice(h, 4);
	case 4:
		return (uint64_t)1 << dice(h, 64);
	default:
		return random_u64(h->key, h->counter++);
	}
}

static void scribble(struct hostile *h)
{
	struct shm_ring *ring = &h->link->ring;
	unsigned char *all = (void *)ring->head;
	size_t bytes = sizeof(*ring->head) +
		       4 * ring->slots * sizeof(struct shm_entry);
	struct shm_entry *entry;
	uint64_t index = dice(h, PLACES);

	switch (dice(h, 4)) {
	case 0: /* anywhere */
		all[dice(h, bytes)] = (unsigned char)dice(h, 256);
		return;
	case 1: /* a word of what stands before the entries */
		atomic_store((_Atomic uint64_t *)(void *)ring->head +
				     dice(h, sizeof(*ring->head) / 8),
			     plausible(h));
		return;
	default: /* an entry that looks right, but for a word */
		entry = (dice(h, 2) ? ring->offers[1] : ring->notices[1]) +
			index;
		atomic_store(&entry->tag, 1000 + index);
		atomic_store(&entry->bytes, SLOT);
		atomic_store(&entry->way, dice(h, 5));
		atomic_store(&entry->words[0], dice(h, 100000));
		atomic_store(&entry->words[1], dice(h, 8) ? 1 : 2);
		atomic_store((_Atomic uint64_t *)(void *)entry + dice(h, 8),
			     plausible(h));
		if (dice(h, 8))
			atomic_store(&entry->sequence, index + 1);
		return;
	}
}

/* Mail, too, with whatever for a descriptor. */
static void scribble_mail(struct hostile *h)
{
	struct {
		uint32_t kind, slot;
		uint64_t bytes, number;
	} mail = {(uint32_t)dice(h, 6), (uint32_t)plausible(h), plausible(h),
		  dice(h, 3)};

	if (dice(h, 2))
		mail.slot = 0;
	send(h->peer_fd, &mail, dice(h, 8) ? sizeof(mail) : dice(h, 16),
	     MSG_DONTWAIT | MSG_NOSIGNAL);
}

static void check_code(int status)
{
	CHECK(status >= 0 || status == -EPROTO || status == -EBADMSG ||
	      status == -ECONNRESET || status == -EAGAIN);
}

static bool lies_in(const void *where, size_t bytes, const void *base,
		    size_t size)
{
	uintptr_t offset = (uintptr_t)where - (uintptr_t)base;

	return offset <= size && bytes <= size - offset;
}

static unsigned char *place(struct hostile *h, unsigned number)
{
	return (number & 1 ? h->shared : h->private) + number * (SLOT + GUARD);
}

static void act(struct hostile *h)
{
	struct transport_endpoint *endpoint = h->world.endpoint[0];
	struct transport_completion done[4];
	struct shm_map *map = &h->link->map[0];
	void *where = NULL;
	int status;

	switch (dice(h, 4)) {
	case 0:
		if (h->posted == PLACES)
			return;
		check_code(transport_post_recv(endpoint, 1, 1000 + h->posted,
					       place(h, h->posted), SLOT,
					       NULL));
		h->posted++;
		return;
	case 1:
		where = h->endpoint->memory[0].base;
		check_code(transport_post_send(endpoint, 1,
					       1000 + h->link->send.tail, where,
					       SLOT, NULL));
		return;
	case 2:
		status = transport_acquire_send(endpoint, 1,
						1000 + h->link->send.reserved,
						SLOT, h->shared, &where);
		check_code(status);
		if (status)
			return;
		CHECK(where == h->shared ||
		      (map->base &&
		       lies_in(where, SLOT, map->base, map->bytes)));
		if (where != h->shared)
			memset(where, 1, SLOT);
		check_code(transport_post_send(endpoint, 1,
					       1000 + h->link->send.tail, where,
					       SLOT, NULL));
		return;
	default:
		status = transport_progress(endpoint, done, 4);
		check_code(status);
		h->completed += status > 0 ? (unsigned)status : 0;
		status = transport_wait(endpoint, 0, -1);
		CHECK(!status || status == -ETIMEDOUT);
	}
}

/* Only posted slots may have changed. */
static void check_guards(struct hostile *h)
{
	unsigned i;

	for (i = 0; i < PLACES; i++) {
		CHECK(all_bytes_are(place(h, i) + SLOT, GUARD, 0x77));
		if (i >= h->posted)
			CHECK(all_bytes_are(place(h, i), SLOT, 0x77));
	}
}

static void case_scribbler(void)
{
	const char *asked = getenv("SHM_SEEDS");
	uint64_t seeds = asked ? strtoull(asked, NULL, 10) : SEEDS;
	struct hostile h = {.counter = 0};
	uint64_t seed;
	unsigned i;

	hostile_init(&h);
	for (seed = 0; seed < seeds; seed++) {
		h.key = random_key_numbered(seed, 0, 0, 0);
		h.counter = 0;
		log_capture();
		renew(&h);
		for (i = 0; i < 40; i++) {
			if (dice(&h, 2))
				scribble(&h);
			else if (seed % 8 == 7 && dice(&h, 8) == 0)
				scribble_mail(&h);
			act(&h);
		}
		if (h.link->status) {
			h.failed++;
			CHECK(log_count("\n") >= 1);
		}
		check_guards(&h);
	}
	printf("# %llu seeds: %u links failed, %u messages completed\n",
	       (unsigned long long)seeds, h.failed, h.completed);
	/* The scribbling is neither harmless nor deadly at once. */
	CHECK(h.failed > seeds / 4);
	CHECK(h.completed > seeds / 4);
	renew(&h);
	world_close(&h.world);
	free(h.private);
}

struct racer {
	struct hostile hostile; /* a copy: other dice */
	atomic_bool stop;
};

static void *scribble_on(void *argument)
{
	struct racer *racer = argument;

	while (!atomic_load(&racer->stop))
		scribble(&racer->hostile);
	return NULL;
}

/* The same while rank 0 reads: what was checked may be another thing then. */
static void case_racing_scribbler(void)
{
	struct hostile h = {.counter = 0};
	struct racer racer = {.stop = false};
	pthread_t thread;
	int64_t until;
	uint64_t seed;
	unsigned i;

	hostile_init(&h);
	racer.hostile = h;
	/* As a peer does it: through a mapping of its own. */
	racer.hostile.link =
		((struct shm_endpoint *)h.world.endpoint[1])->link_of[0];
	racer.hostile.key = random_key_numbered(1, 2, 3, 4);
	CHECK_EQUAL(pthread_create(&thread, NULL, scribble_on, &racer), 0);
	until = clock_now_ns() + 300 * MS;
	for (seed = 0; clock_now_ns() < until; seed++) {
		h.key = random_key_numbered(seed, 1, 0, 0);
		h.counter = 0;
		log_capture();
		renew(&h);
		for (i = 0; i < 40; i++)
			act(&h);
		h.failed += h.link->status != 0;
		check_guards(&h);
	}
	atomic_store(&racer.stop, true);
	pthread_join(thread, NULL);
	CHECK(h.failed > 0);
	renew(&h);
	world_close(&h.world);
	free(h.private);
}

int main(void)
{
	static const struct {
		const char *name;
		void (*run)(void);
	} cases[] = {
		{"in place", case_in_place},
		{"cancel while a slot is held", case_cancel},
		{"regions come and go", case_regions},
		{"killed while it writes", case_killed},
		{"strangers", case_strangers},
		{"scribbler", case_scribbler},
		{"racing scribbler", case_racing_scribbler},
	};
	struct holdings before;
	unsigned i;

	printf("1..%zu\n", ARRAY_SIZE(cases) + 1);
	for (i = 0; i < ARRAY_SIZE(cases); i++) {
		log_capture();
		before = holdings_now();
		cases[i].run();
		holdings_check(&before);
		printf("ok %u - %s\n", i + 1, cases[i].name);
		fflush(stdout);
	}
	log_capture();
	printf("ok %u - other users%s\n", i + 1,
	       case_other_user() ? "" : " # SKIP only root can be another");
	return 0;
}
