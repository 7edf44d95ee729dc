/*
 * Runs a fuzz target without libFuzzer: first the corpus as it is, then inputs
 * mutated from it. Nothing guides it, so it finds less than libFuzzer in the
 * same time; but it needs no more than a C compiler, and every run with
 * the same seed is the same.
 *
 *   fuzz-NAME [--runs N] [--seconds S] [--seed N] [--max-bytes N] [--timeout S]
 *             [--dict FILE] [--keep FOLDER] FILE|FOLDER...
 *
 * The input at which the target stops (a signal, a sanitizer's report, exit, or
 * more than --timeout seconds) is written to a file in --keep, whose path is
 * the last line; given as FILE it is run alone. The exit status is then not 0.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "tests/fuzz/fuzz.h"

#define MUTATIONS_MAXIMUM 6
#define MEMORY_BYTES      ((rlim_t)256 << 20)

struct input {
	uint8_t *data;
	size_t size;
	char *path; /* NULL: a word of the dictionary */
};

struct inputs {
	struct input *all;
	size_t count;
};

struct settings {
	uint64_t runs;
	unsigned seconds; /* 0: as long as it takes */
	uint64_t seed;
	size_t max_bytes;
	unsigned timeout_s;
	const char *keep;
};

/* What the handlers need: the input at work, or NULL between two. */
static const uint8_t *volatile at_work;
static volatile size_t at_work_bytes;
static char kept_path[4096];

/* ASan calls it when it ends the process; absent without sanitizers. */
void __sanitizer_set_death_callback(void (*callback)(void))
	__attribute__((weak));

/* GCC's UBSan does not call ASan's callback, but this ends in a signal. */
const char *__ubsan_default_options(void)
	__attribute__((visibility("default")));
const char *__ubsan_default_options(void)
{
	return "abort_on_error=1:print_stacktrace=1";
}

_Noreturn static void die(const char *what, const char *which)
{
	fprintf(stderr, "%s: %s%s%s\n", what, which, errno ? ": " : "",
		errno ? strerror(errno) : "");
	exit(2);
}

static void *allocate(size_t size)
{
	void *memory = malloc(size ? size : 1);

	if (memory == NULL)
		die("no memory", "for an input");
	return memory;
}

/* Keeping the input that ends the process; only what a handler may call. */

static void tell(const char *text)
{
	ssize_t ignored = write(STDERR_FILENO, text, strlen(text));

	(void)ignored;
}

static void keep_input(void)
{
	const uint8_t *data = at_work;
	size_t left = at_work_bytes;
	int fd;

	if (data == NULL)
		return;
	at_work = NULL;
	fd = open(kept_path, O_WRONLY | O_CREAT | O_TRUNC, 0644);
	while (fd >= 0 && left > 0) {
		ssize_t n = write(fd, data, left);

		if (n <= 0)
			break;
		data += n;
		left -= (size_t)n;
	}
	if (fd >= 0)
		close(fd);
	tell(fd >= 0 && left == 0
		     ? "\nthe input that failed is kept:\n"
		     : "\nthe input that failed cannot be kept:\n");
	tell(kept_path);
	tell("\n");
}

static void on_signal(int number)
{
	if (number == SIGALRM)
		tell("\none input took longer than --timeout\n");
	keep_input();
	signal(number, SIG_DFL);
	raise(number);
}

static void on_exit_within_target(void)
{
	if (at_work == NULL)
		return;
	tell("\nthe target ended the process\n");
	keep_input();
	_exit(1);
}

static void install_handlers(void)
{
	static const int signals[] = {SIGABRT, SIGALRM, SIGSEGV,
				      SIGBUS,  SIGFPE,  SIGILL};
	size_t count = sizeof(signals) / sizeof(signals[0]);

	/* Sanitizers report the last four better themselves. */
	if (__sanitizer_set_death_callback) {
		__sanitizer_set_death_callback(keep_input);
		count = 2;
	}
	for (size_t i = 0; i < count; i++)
		signal(signals[i], on_signal);
	atexit(on_exit_within_target);
}

/* What asks for more than that is a failure; ASan needs its address space. */
static void limit_memory(void)
{
	struct rlimit limit = {MEMORY_BYTES, MEMORY_BYTES};

	if (!__sanitizer_set_death_callback)
		(void)setrlimit(RLIMIT_AS, &limit);
}

static void run_input(const struct settings *settings, const uint8_t *data,
		      size_t size)
{
	/* A copy of the very size, for sanitizers to see its end. */
	uint8_t *copy = allocate(size);

	if (size)
		memcpy(copy, data, size);
	at_work_bytes = size;
	at_work = copy;
	alarm(settings->timeout_s);
	(void)LLVMFuzzerTestOneInput(copy, size);
	alarm(0);
	at_work = NULL;
	free(copy);
}

/* The corpus and the dictionary. */

static void add_input(struct inputs *inputs, struct input input)
{
	struct input *all =
		realloc(inputs->all, (inputs->count + 1) * sizeof(*all));

	if (all == NULL)
		die("no memory", "for the corpus");
	all[inputs->count++] = input;
	inputs->all = all;
}

static void load_file(struct inputs *inputs, const char *path)
{
	FILE *file = fopen(path, "rb");
	struct input input = {0};
	long size;

	if (file == NULL || fseek(file, 0, SEEK_END) ||
	    (size = ftell(file)) < 0 || fseek(file, 0, SEEK_SET))
		die("cannot read", path);
	input.size = (size_t)size;
	input.data = allocate(input.size);
	input.path = strdup(path);
	if (fread(input.data, 1, input.size, file) != input.size)
		die("cannot read", path);
	fclose(file);
	add_input(inputs, input);
}

static void load(struct inputs *inputs, const char *path)
{
	struct dirent **entries;
	struct stat status;
	int count;

	if (stat(path, &status))
		die("cannot find", path);
	if (!S_ISDIR(status.st_mode)) {
		load_file(inputs, path);
		return;
	}
	count = scandir(path, &entries, NULL, alphasort);
	if (count < 0)
		die("cannot list", path);
	for (int i = 0; i < count; i++) {
		char full[4096];

		snprintf(full, sizeof(full), "%s/%s", path, entries[i]->d_name);
		if (entries[i]->d_name[0] != '.')
			load(inputs, full);
		free(entries[i]);
	}
	free(entries);
}

static unsigned hex_digit(char c)
{
	return c >= 'a' ? (unsigned)(c - 'a') + 10 : (unsigned)(c - '0');
}

/* "word", with \xNN, \\ and \" in it, on a line; # begins a comment. */
static void load_word(struct inputs *inputs, char *line)
{
	struct input word = {0};
	char *from = strchr(line, '"');

	if (line[0] == '#' || from == NULL)
		return;
	word.data = allocate(strlen(line));
	for (from++; *from && *from != '"'; from++) {
		if (*from != '\\') {
			word.data[word.size++] = (uint8_t)*from;
		} else if (from[1] == 'x' && from[2] && from[3]) {
			word.data[word.size++] =
				(uint8_t)(hex_digit(from[2]) * 16 +
					  hex_digit(from[3]));
			from += 3;
		} else if (from[1]) {
			word.data[word.size++] = (uint8_t) * ++from;
		}
	}
	if (word.size == 0)
		free(word.data);
	else
		add_input(inputs, word);
}

static void load_dictionary(struct inputs *inputs, const char *path)
{
	FILE *file = fopen(path, "r");
	char line[1024];

	if (file == NULL)
		die("cannot read", path);
	while (fgets(line, sizeof(line), file))
		load_word(inputs, line);
	fclose(file);
}

static void free_inputs(struct inputs *inputs)
{
	for (size_t i = 0; i < inputs->count; i++) {
		free(inputs->all[i].data);
		free(inputs->all[i].path);
	}
	free(inputs->all);
}

/* Mutations. */

struct mutator {
	uint64_t state;
	const struct inputs *corpus;
	const struct inputs *words;
	uint8_t *data; /* [room] */
	uint8_t *scratch;
	size_t size;
	size_t room;
};

static uint64_t draw(struct mutator *mutator)
{
	/* xorshift64*, Vigna 2016 */
	mutator->state ^= mutator->state >> 12;
	mutator->state ^= mutator->state << 25;
	mutator->state ^= mutator->state >> 27;
	return mutator->state * 0x2545F4914F6CDD1DULL;
}

static size_t below(struct mutator *mutator, size_t limit)
{
	return limit ? (size_t)(draw(mutator) % limit) : 0;
}

/* Puts `size` bytes where [at, end) stood; too many are cut off. */
static void replace(struct mutator *mutator, size_t at, size_t end,
		    const uint8_t *bytes, size_t size)
{
	size_t tail = mutator->size - end;

	if (size > mutator->room - at)
		size = mutator->room - at;
	if (tail > mutator->room - at - size)
		tail = mutator->room - at - size;
	memmove(mutator->scratch, mutator->data + end, tail);
	if (size)
		memmove(mutator->data + at, bytes, size);
	memcpy(mutator->data + at + size, mutator->scratch, tail);
	mutator->size = at + size + tail;
}

struct span {
	size_t start;
	size_t end;
};

static struct span any_span(struct mutator *mutator)
{
	size_t a = below(mutator, mutator->size + 1);
	size_t length = below(mutator, below(mutator, 2) ? 8 : mutator->size);

	if (length > mutator->size - a)
		length = mutator->size - a;
	return (struct span){a, a + length};
}

static int is_separator(uint8_t c)
{
	return c != 0 && strchr(",;:\n\r\t (){}[]=", c) != NULL;
}

/* What stands between two separators. */
static struct span any_field(struct mutator *mutator)
{
	size_t at = below(mutator, mutator->size);
	struct span span = {at, at};

	while (span.start > 0 && !is_separator(mutator->data[span.start - 1]))
		span.start--;
	while (span.end < mutator->size &&
	       !is_separator(mutator->data[span.end]))
		span.end++;
	return span;
}

static void change_byte(struct mutator *mutator)
{
	uint8_t *byte = &mutator->data[below(mutator, mutator->size)];

	if (mutator->size == 0)
		return;
	if (below(mutator, 2))
		*byte ^= (uint8_t)(1u << below(mutator, 8));
	else
		*byte = (uint8_t)draw(mutator);
}

static void cut_piece(struct mutator *mutator)
{
	struct span span = any_span(mutator);

	replace(mutator, span.start, span.end, NULL, 0);
}

/* A piece of this input, or of another, at some place. */
static void splice_piece(struct mutator *mutator)
{
	const struct input *other =
		&mutator->corpus->all[below(mutator, mutator->corpus->count)];
	size_t from = below(mutator, other->size);
	size_t size = below(mutator, other->size - from + 1);
	struct span span = any_span(mutator);

	replace(mutator, span.start, below(mutator, 2) ? span.start : span.end,
		other->data + from, size);
}

static void insert_word(struct mutator *mutator)
{
	const struct inputs *words = mutator->words;
	size_t at = below(mutator, mutator->size + 1);
	const struct input *word;

	if (words->count == 0)
		return;
	word = &words->all[below(mutator, words->count)];
	replace(mutator, at, at, word->data, word->size);
}

/* Another field's text in the place of this one's, or both exchanged. */
static void swap_fields(struct mutator *mutator)
{
	struct span a = any_field(mutator);
	struct span b = any_field(mutator);
	uint8_t first[64];
	uint8_t second[64];
	size_t first_size = a.end - a.start;
	size_t second_size = b.end - b.start;

	if (a.start > b.start || first_size > sizeof(first) ||
	    second_size > sizeof(second))
		return;
	memcpy(first, mutator->data + a.start, first_size);
	memcpy(second, mutator->data + b.start, second_size);
	if (a.start != b.start && below(mutator, 2))
		replace(mutator, b.start, b.end, first, first_size);
	replace(mutator, a.start, a.end, second, second_size);
}

/* A number near this one, or far from all. */
static void change_number(struct mutator *mutator)
{
	static const char *const edges[] = {"0",     "1",     "255",   "256",
					    "4095",  "65534", "65535", "65536",
					    "99999", "-1"};
	size_t start = below(mutator, mutator->size);
	size_t end;
	char text[32];

	while (start < mutator->size &&
	       (mutator->data[start] < '0' || mutator->data[start] > '9'))
		start++;
	for (end = start;
	     end < mutator->size && end < start + 9 &&
	     mutator->data[end] >= '0' && mutator->data[end] <= '9';
	     end++)
		text[end - start] = (char)mutator->data[end];
	if (end == start)
		return;
	text[end - start] = '\0';
	if (below(mutator, 4))
		snprintf(text, sizeof(text), "%ld",
			 labs(strtol(text, NULL, 10) - 2 +
			      (long)below(mutator, 5)));
	else
		snprintf(text, sizeof(text), "%s",
			 edges[below(mutator,
				     sizeof(edges) / sizeof(edges[0]))]);
	replace(mutator, start, end, (const uint8_t *)text, strlen(text));
}

static void mutate(struct mutator *mutator)
{
	static void (*const ways[])(struct mutator *) = {
		change_byte, cut_piece,   splice_piece,  insert_word,
		swap_fields, swap_fields, change_number, change_number,
	};
	const struct input *base =
		&mutator->corpus->all[below(mutator, mutator->corpus->count)];
	size_t count = 1 + below(mutator, MUTATIONS_MAXIMUM);

	mutator->size = 0;
	replace(mutator, 0, 0, base->data, base->size);
	while (count-- > 0)
		ways[below(mutator, sizeof(ways) / sizeof(ways[0]))](mutator);
}

static double seconds_now(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

/* Returns how many were run. */
static uint64_t run_mutated(const struct settings *settings,
			    struct mutator *mutator)
{
	double end = seconds_now() + settings->seconds;
	uint64_t run;

	for (run = 0; run < settings->runs; run++) {
		if (settings->seconds && run % 256 == 0 && seconds_now() > end)
			break;
		mutate(mutator);
		run_input(settings, mutator->data, mutator->size);
	}
	return run;
}

/* The command line. */

static uint64_t number_of(const char *option, const char *text)
{
	char *end;
	unsigned long long number;

	errno = 0;
	number = strtoull(text ? text : "", &end, 10);
	if (text == NULL || end == text || *end || errno) {
		errno = 0;
		die(option, "expects a number");
	}
	return number;
}

static int read_option(struct settings *settings, struct inputs *words,
		       const char *option, const char *value)
{
	if (!strcmp(option, "--runs"))
		settings->runs = number_of(option, value);
	else if (!strcmp(option, "--seconds"))
		settings->seconds = (unsigned)number_of(option, value);
	else if (!strcmp(option, "--seed"))
		settings->seed = number_of(option, value);
	else if (!strcmp(option, "--max-bytes"))
		settings->max_bytes = (size_t)number_of(option, value);
	else if (!strcmp(option, "--timeout"))
		settings->timeout_s = (unsigned)number_of(option, value);
	else if (!strcmp(option, "--dict") && value)
		load_dictionary(words, value);
	else if (!strcmp(option, "--keep") && value)
		settings->keep = value;
	else
		return 0;
	return 1;
}

static void read_words(struct settings *settings, struct inputs *words,
		       struct inputs *corpus, char **argv)
{
	for (int i = 1; argv[i]; i++) {
		if (argv[i][0] != '-') {
			load(corpus, argv[i]);
			continue;
		}
		if (!read_option(settings, words, argv[i], argv[i + 1])) {
			errno = 0;
			die(argv[i], "is no option, or has no value");
		}
		i++;
	}
}

static void run_all(const struct settings *settings, struct inputs *corpus,
		    struct inputs *words, const char *name)
{
	struct mutator mutator = {
		.state = settings->seed * 0x9E3779B97F4A7C15ULL | 1,
		.corpus = corpus,
		.words = words,
		.room = settings->max_bytes,
	};
	double start = seconds_now();
	uint64_t runs;

	mutator.data = allocate(mutator.room);
	mutator.scratch = allocate(mutator.room);
	for (size_t i = 0; i < corpus->count; i++)
		run_input(settings, corpus->all[i].data, corpus->all[i].size);
	runs = run_mutated(settings, &mutator);
	free(mutator.data);
	free(mutator.scratch);
	printf("%s: %zu inputs of the corpus and %llu mutated ones, %.0f s, "
	       "no failure\n",
	       name, corpus->count, (unsigned long long)runs,
	       seconds_now() - start);
}

int main(int argc, char **argv)
{
	struct settings settings = {
		.seed = 1,
		.max_bytes = 4096,
		.timeout_s = 20,
		.keep = ".",
	};
	struct inputs corpus = {0};
	struct inputs words = {0};
	const char *slash = argc > 0 ? strrchr(argv[0], '/') : NULL;
	const char *name = slash ? slash + 1 : "fuzz";

	read_words(&settings, &words, &corpus, argv);
	if (corpus.count == 0) {
		fprintf(stderr, "%s: give a corpus: files or folders\n", name);
		return 2;
	}
	snprintf(kept_path, sizeof(kept_path), "%s/%s-failed-%ld",
		 settings.keep, name, (long)getpid());
	install_handlers();
	limit_memory();
	run_all(&settings, &corpus, &words, name);
	free_inputs(&words);
	free_inputs(&corpus);
	return 0;
}
