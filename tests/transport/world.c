#include "tests/transport/world.h"

#include <dirent.h>
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/random.h"

static pthread_mutex_t log_lock = PTHREAD_MUTEX_INITIALIZER;
static char log_text[1 << 16];
static size_t log_length;

static void keep_line(void *argument, enum log_level level, const char *line)
{
	size_t length = strlen(line);

	(void)argument;
	(void)level;
	pthread_mutex_lock(&log_lock);
	if (log_length + length + 2 <= sizeof(log_text)) {
		memcpy(log_text + log_length, line, length);
		log_length += length;
		log_text[log_length++] = '\n';
		log_text[log_length] = '\0';
	}
	pthread_mutex_unlock(&log_lock);
}

void log_capture(void)
{
	log_set_sink(keep_line, NULL);
	pthread_mutex_lock(&log_lock);
	log_length = 0;
	log_text[0] = '\0';
	pthread_mutex_unlock(&log_lock);
}

unsigned log_count(const char *text)
{
	const char *at = log_text;
	unsigned count = 0;

	pthread_mutex_lock(&log_lock);
	while ((at = strstr(at, text))) {
		count++;
		at += strlen(text);
	}
	pthread_mutex_unlock(&log_lock);
	return count;
}

bool log_has(const char *text)
{
	return log_count(text) > 0;
}

void log_show(void)
{
	pthread_mutex_lock(&log_lock);
	fprintf(stderr, "# the log:\n%s", log_text);
	pthread_mutex_unlock(&log_lock);
}

void check_failed(const char *what, const char *file, int line)
{
	fprintf(stderr, "# %s:%d: failed: %s\n", file, line, what);
	log_show();
	printf("Bail out! %s:%d: %s\n", file, line, what);
	fflush(stdout);
	_exit(1);
}

void check_equal(long long a, long long b, const char *what_a,
		 const char *what_b, const char *file, int line)
{
	if (a == b)
		return;
	fprintf(stderr, "# %s is %lld, %s is %lld\n", what_a, a, what_b, b);
	check_failed(what_a, file, line);
}

void world_init(struct world *world,
		const struct conformance_transport *transport, unsigned size)
{
	static const unsigned char key[TRANSPORT_KEY_BYTES] = "the suite's";
	unsigned i;

	*world = (struct world){.transport = transport, .size = size};
	if (strstr(transport->kind, "inproc"))
		world->hub = transport_hub_create(size);
	for (i = 0; i < size; i++) {
		transport_config_default(&world->config[i]);
		world->config[i].kind = transport->kind;
		world->config[i].io = transport->io;
		world->config[i].zero_copy = transport->zero_copy;
		world->config[i].wire = transport->wire;
		if (transport->wire > TRANSPORT_WIRE_CHECKED)
			world->config[i].key = key;
		world->config[i].rank = i;
		world->config[i].size = size;
		world->config[i].job = WORLD_JOB;
		world->config[i].epoch = 1;
		world->config[i].hub = world->hub;
		world->addresses[i] = world->address[i];
	}
}

void world_open(struct world *world)
{
	unsigned i;

	for (i = 0; i < world->size; i++) {
		CHECK_EQUAL(
			transport_open(&world->config[i], &world->endpoint[i]),
			0);
		CHECK_EQUAL(transport_listen(world->endpoint[i],
					     world->address[i],
					     sizeof(world->address[i])),
			    0);
	}
}

struct connecting {
	struct world *world;
	unsigned rank;
	int64_t timeout_ns;
	pthread_t thread;
};

static void *connect_one(void *argument)
{
	struct connecting *connecting = argument;
	struct world *world = connecting->world;
	unsigned peers[WORLD_MAX];
	unsigned count = 0;
	unsigned i;

	for (i = 0; i < world->size; i++) {
		if (i != connecting->rank)
			peers[count++] = i;
	}
	world->connected[connecting->rank] = transport_connect(
		world->endpoint[connecting->rank], peers, count,
		world->addresses, connecting->timeout_ns);
	return NULL;
}

void world_connect(struct world *world, int64_t timeout_ns)
{
	struct connecting connecting[WORLD_MAX];
	unsigned i;

	for (i = 0; i < world->size; i++) {
		connecting[i] = (struct connecting){
			.world = world,
			.rank = i,
			.timeout_ns = timeout_ns,
		};
		CHECK_EQUAL(pthread_create(&connecting[i].thread, NULL,
					   connect_one, &connecting[i]),
			    0);
	}
	for (i = 0; i < world->size; i++)
		pthread_join(connecting[i].thread, NULL);
}

void world_close(struct world *world)
{
	unsigned i;

	for (i = 0; i < world->size; i++) {
		transport_close(world->endpoint[i]);
		world->endpoint[i] = NULL;
	}
	transport_hub_destroy(world->hub);
}

void world_up(struct world *world,
	      const struct conformance_transport *transport, unsigned size)
{
	unsigned i;

	world_init(world, transport, size);
	world_open(world);
	world_connect(world, 20 * SECOND);
	for (i = 0; i < size; i++)
		CHECK_EQUAL(world->connected[i], 0);
}

unsigned char *region(struct transport_endpoint *endpoint, size_t bytes)
{
	unsigned char *memory = malloc(bytes);

	CHECK(memory);
	CHECK_EQUAL(transport_register(endpoint, memory, bytes), 0);
	return memory;
}

void pattern_fill(unsigned char *data, size_t bytes, uint64_t seed)
{
	uint64_t x = seed * 0x9e3779b97f4a7c15ull + 1;
	size_t i;

	for (i = 0; i + 8 <= bytes; i += 8) {
		memcpy(data + i, &x, 8);
		x = x * 6364136223846793005ull + 1442695040888963407ull;
	}
	for (; i < bytes; i++)
		data[i] = (unsigned char)(x >> (8 * (i & 7)));
}

bool pattern_holds(const unsigned char *data, size_t bytes, uint64_t seed)
{
	uint64_t x = seed * 0x9e3779b97f4a7c15ull + 1;
	size_t i;

	for (i = 0; i + 8 <= bytes; i += 8) {
		if (memcmp(data + i, &x, 8) != 0)
			return false;
		x = x * 6364136223846793005ull + 1442695040888963407ull;
	}
	for (; i < bytes; i++) {
		if (data[i] != (unsigned char)(x >> (8 * (i & 7))))
			return false;
	}
	return true;
}

bool all_bytes_are(const unsigned char *data, size_t bytes, unsigned char is)
{
	size_t i;

	for (i = 0; i < bytes; i++) {
		if (data[i] != is)
			return false;
	}
	return true;
}

static void count_completions(struct world *world, unsigned rank,
			      struct tally *tally)
{
	struct transport_completion done[8];
	int count;
	int i;

	if (!world->endpoint[rank])
		return;
	count = transport_progress(world->endpoint[rank], done, 8);
	if (count < 0) {
		tally->status = count;
		return;
	}
	for (i = 0; i < count; i++) {
		tally->last = done[i];
		tally->sent += done[i].event == TRANSPORT_SENT;
		tally->received += done[i].event == TRANSPORT_RECEIVED;
	}
}

void world_drive(struct world *world, struct tally *tallies,
		 bool (*done)(const struct tally *tallies, void *argument),
		 void *argument)
{
	int64_t deadline = clock_now_ns() + 20 * SECOND;
	unsigned i;

	while (!done(tallies, argument)) {
		for (i = 0; i < world->size; i++)
			count_completions(world, i, &tallies[i]);
		if (clock_now_ns() > deadline)
			check_failed("completions came within 20 s", __FILE__,
				     __LINE__);
		sched_yield();
	}
}

struct goal {
	unsigned rank, sent, peer, received;
};

static bool goal_reached(const struct tally *tallies, void *argument)
{
	const struct goal *goal = argument;

	CHECK_EQUAL(tallies[goal->rank].status, 0);
	CHECK_EQUAL(tallies[goal->peer].status, 0);
	return tallies[goal->rank].sent >= goal->sent &&
	       tallies[goal->peer].received >= goal->received;
}

void world_finish(struct world *world, struct tally *tallies, unsigned rank,
		  unsigned sent, unsigned peer, unsigned received)
{
	struct goal goal = {rank, sent, peer, received};

	world_drive(world, tallies, goal_reached, &goal);
}

static bool has_failed(const struct tally *tallies, void *argument)
{
	return tallies[*(unsigned *)argument].status < 0;
}

int world_fails(struct world *world, unsigned rank)
{
	struct tally tallies[WORLD_MAX] = {0};

	world_drive(world, tallies, has_failed, &rank);
	return tallies[rank].status;
}

struct transport_completion next_completion(struct transport_endpoint *from)
{
	int64_t deadline = clock_now_ns() + 20 * SECOND;
	struct transport_completion done;
	int count;

	for (;;) {
		count = transport_progress(from, &done, 1);
		if (count == 1)
			return done;
		CHECK_EQUAL(count, 0);
		CHECK_EQUAL(transport_wait(from, deadline, -1), 0);
	}
}

static unsigned open_fds(void)
{
	DIR *folder = opendir("/proc/self/fd");
	unsigned count = 0;

	CHECK(folder);
	while (readdir(folder))
		count++;
	closedir(folder);
	return count;
}

static unsigned long pinned_kb(void)
{
	FILE *file = fopen("/proc/self/status", "re");
	unsigned long kb = 0;
	char line[256];

	CHECK(file);
	while (fgets(line, sizeof(line), file)) {
		if (strncmp(line, "VmPin:", 6) == 0)
			kb = strtoul(line + 6, NULL, 10);
	}
	fclose(file);
	return kb;
}

void mappings_count(unsigned *mappings, unsigned long *pages)
{
	FILE *file = fopen("/proc/self/maps", "re");
	unsigned long from;
	char line[512];
	char *end;

	CHECK(file);
	*mappings = 0;
	*pages = 0;
	while (fgets(line, sizeof(line), file)) {
		from = strtoul(line, &end, 16);
		*pages += (strtoul(end + 1, NULL, 16) - from) / 4096;
		++*mappings;
	}
	fclose(file);
}

/* The linker sends the program's calls here (--wrap). */
void *__real_malloc(size_t bytes);
void *__real_calloc(size_t count, size_t bytes);
void *__real_realloc(void *old, size_t bytes);
char *__real_strdup(const char *text);
void __real_free(void *block);
void *__wrap_malloc(size_t bytes);
void *__wrap_calloc(size_t count, size_t bytes);
void *__wrap_realloc(void *old, size_t bytes);
char *__wrap_strdup(const char *text);
void __wrap_free(void *block);

static atomic_ulong allocation_count;
static atomic_long block_count;

static void *count_block(void *block)
{
	atomic_fetch_add(&allocation_count, 1);
	if (block)
		atomic_fetch_add(&block_count, 1);
	return block;
}

void *__wrap_malloc(size_t bytes)
{
	return count_block(__real_malloc(bytes));
}

void *__wrap_calloc(size_t count, size_t bytes)
{
	return count_block(__real_calloc(count, bytes));
}

char *__wrap_strdup(const char *text)
{
	return count_block(__real_strdup(text));
}

void *__wrap_realloc(void *old, size_t bytes)
{
	void *block = __real_realloc(old, bytes);

	atomic_fetch_add(&allocation_count, 1);
	if (!old && block)
		atomic_fetch_add(&block_count, 1);
	return block;
}

void __wrap_free(void *block)
{
	if (block)
		atomic_fetch_sub(&block_count, 1);
	__real_free(block);
}

unsigned long allocations(void)
{
	return atomic_load(&allocation_count);
}

static unsigned children(void)
{
	siginfo_t info = {.si_pid = 0};
	int options = WEXITED | WSTOPPED | WNOHANG | WNOWAIT;

	if (waitid(P_ALL, 0, &info, options) && errno == ECHILD)
		return 0;
	return 1;
}

struct holdings holdings_now(void)
{
	return (struct holdings){
		.fds = open_fds(),
		.blocks = atomic_load(&block_count),
		.children = children(),
		.pinned_kb = pinned_kb(),
	};
}

void holdings_check(const struct holdings *before)
{
	int64_t deadline = clock_now_ns() + 5 * SECOND;
	struct holdings after = holdings_now();

	CHECK_EQUAL(after.fds, before->fds);
	CHECK_EQUAL(after.blocks, before->blocks);
	CHECK_EQUAL(after.children, before->children);
	while (after.pinned_kb > before->pinned_kb &&
	       clock_now_ns() < deadline) {
		clock_sleep_ns(MS);
		after = holdings_now();
	}
	CHECK(after.pinned_kb <= before->pinned_kb);
}
