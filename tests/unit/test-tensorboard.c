/*
 * Journals that outlive a full disk, and the event files of TensorBoard, whose
 * bytes are compared with those that its own writer makes.
 */
#include "base/digest.h"
#include "base/log.h"
#include "engine/event_file.h"
#include "engine/memory_use.h"
#include "engine/tensorboard.h"
#include <dirent.h>
#include <math.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "tests/unit/cmocka-tap.h"

static unsigned warnings;

static void count_line(void *argument, enum log_level level, const char *line)
{
	(void)argument;
	(void)line;
	warnings += level == LOG_WARNING;
}

/* ---- bytes ---- */

/* As tensorflow's own writer wrote them, version 2.x. */
static void golden_version(void **state)
{
	static const unsigned char wanted[] = {
		0x18, 0,    0,    0,    0,    0,    0,    0,    0xa3, 0x7f,
		0x4b, 0x22, 0x09, 0,    0,    0,    0x40, 0xfc, 0x54, 0xd9,
		0x41, 0x1a, 0x0d, 0x62, 0x72, 0x61, 0x69, 0x6e, 0x2e, 0x45,
		0x76, 0x65, 0x6e, 0x74, 0x3a, 0x32, 0xec, 0xed, 0x8f, 0x9d};
	unsigned char record[EVENT_FILE_RECORD_BYTES];

	(void)state;
	assert_int_equal(event_file_version(record, 1700000000.0),
			 sizeof(wanted));
	assert_memory_equal(record, wanted, sizeof(wanted));
}

static void golden_scalar(void **state)
{
	static const unsigned char wanted[] = {
		0x20, 0,    0,    0,    0,    0,    0,    0,    0x29, 0xed,
		0xa9, 0x50, 0x09, 0,    0,    0x60, 0x40, 0xfc, 0x54, 0xd9,
		0x41, 0x10, 0x2a, 0x2a, 0x13, 0x0a, 0x11, 0x0a, 0x0a, 0x74,
		0x72, 0x61, 0x69, 0x6e, 0x2f, 0x6c, 0x6f, 0x73, 0x73, 0x15,
		0,    0,    0x20, 0x40, 0x4a, 0x1c, 0x69, 0xfb};
	const struct event_scalar loss = {"train/loss", 2.5f};
	unsigned char record[EVENT_FILE_RECORD_BYTES];

	(void)state;
	assert_int_equal(event_file_scalars(record, 1700000001.5, 42, &loss, 1),
			 sizeof(wanted));
	assert_memory_equal(record, wanted, sizeof(wanted));
}

/* Event{wall_time 0, step 300, session_log{status START}}, by hand. */
static void golden_session(void **state)
{
	static const unsigned char wanted[] = {0x09, 0, 0,    0,    0,    0,
					       0,    0, 0,    0x10, 0xac, 0x02,
					       0x3a, 2, 0x08, 0x01};
	unsigned char record[EVENT_FILE_RECORD_BYTES];

	(void)state;
	assert_int_equal(event_file_session(record, 0, 300),
			 sizeof(wanted) + 16);
	assert_memory_equal(record + 12, wanted, sizeof(wanted));
}

/* The most and the longest there may be still fits. */
static void largest_record(void **state)
{
	struct event_scalar scalars[EVENT_FILE_SCALARS_MAX];
	unsigned char record[EVENT_FILE_RECORD_BYTES];
	size_t bytes;

	(void)state;
	for (unsigned i = 0; i < ARRAY_SIZE(scalars); i++) {
		memset(scalars[i].tag, 'a', sizeof(scalars[i].tag));
		scalars[i].value = NAN;
	}
	bytes = event_file_scalars(record, 1e300, INT64_MIN, scalars,
				   ARRAY_SIZE(scalars));
	assert_true(bytes > EVENT_FILE_SCALARS_MAX * EVENT_FILE_TAG_BYTES);
	assert_true(bytes <= sizeof(record));
}

/* ---- files ---- */

static char folder[64];

static int make_folder(void **state)
{
	(void)state;
	snprintf(folder, sizeof(folder), "/tmp/tensorboard-XXXXXX");
	log_set_sink(count_line, NULL);
	warnings = 0;
	return mkdtemp(folder) ? 0 : -1;
}

static int remove_folder(void **state)
{
	(void)state;
	log_set_sink(NULL, NULL);
	return files_remove_tree(folder);
}

static uint32_t u32_at(const char *at)
{
	uint32_t value;

	memcpy(&value, at, sizeof(value));
	return value;
}

static uint32_t masked(const char *data, size_t length)
{
	uint32_t crc = digest_crc32c(0, data, length);

	return (crc >> 15 | crc << 17) + 0xa282ead8u;
}

/* Walks the records of a file, whose checks must hold; their number. */
static unsigned count_records(const char *data, size_t length)
{
	unsigned count = 0;

	for (size_t at = 0; at < length; count++) {
		uint64_t bytes;

		assert_true(length - at > 16);
		memcpy(&bytes, data + at, 8);
		assert_int_equal(u32_at(data + at + 8), masked(data + at, 8));
		assert_true(bytes <= length - at - 16);
		assert_int_equal(u32_at(data + at + 12 + bytes),
				 masked(data + at + 12, bytes));
		at += 16 + bytes;
	}
	return count;
}

struct found {
	unsigned files, records;
	bool has[3]; /* of the tags looked for */
};

static int look(void *argument, const char *path, uint64_t bytes)
{
	static const char *const tags[] = {"train/loss", "val/loss",
					   "memory/rank_19_GiB"};
	struct found *found = argument;
	char *data;
	size_t length;

	(void)bytes;
	assert_non_null(strstr(path, "/events.out.tfevents."));
	assert_int_equal(files_read(path, 1 << 20, &data, &length), 0);
	found->files++;
	found->records += count_records(data, length);
	for (unsigned i = 0; i < ARRAY_SIZE(tags); i++)
		if (memmem(data, length, tags[i], strlen(tags[i])))
			found->has[i] = true;
	free(data);
	return 0;
}

static void session(uint64_t first_step, char path[FILES_PATH_BYTES])
{
	struct tensorboard board;
	const struct metrics_step step = {.step = first_step + 1, .loss = 3};
	const struct metrics_evaluation evaluation = {.loss = NAN};
	uint64_t resident[20];

	for (unsigned i = 0; i < ARRAY_SIZE(resident); i++)
		resident[i] = i == 3 ? 0 : 1 << 20;
	assert_int_equal(tensorboard_open(&board, folder, "a/host", first_step),
			 0);
	tensorboard_step(&board, &step);
	tensorboard_evaluation(&board, &evaluation);
	tensorboard_memory(&board, 1, 0, resident, ARRAY_SIZE(resident));
	memcpy(path, board.journal.path, FILES_PATH_BYTES);
	tensorboard_close(&board);
	/* Closed: no more than a look. */
	tensorboard_step(&board, &step);
	tensorboard_memory(&board, 1, 0, resident, ARRAY_SIZE(resident));
}

static void files_of_a_run(void **state)
{
	char first[FILES_PATH_BYTES], second[FILES_PATH_BYTES];
	char later[FILES_PATH_BYTES], third[FILES_PATH_BYTES];
	struct found found = {0};

	(void)state;
	session(0, first);
	session(7, second);
	assert_true(strcmp(first, second) < 0);
	/* One from a time to come: the next sorts behind it all the same. */
	snprintf(later, sizeof(later),
		 "%s/tensorboard/events.out.tfevents.4000000000.x.1.0", folder);
	assert_int_equal(rename(second, later), 0);
	session(7, third);
	assert_true(strcmp(later, third) < 0);
	assert_int_equal(files_walk(folder, look, &found), 0);
	assert_int_equal(found.files, 3);
	/* Version, session, step, evaluation, 16 ranks, 3 ranks. */
	assert_int_equal(found.records, 3 * 6);
	assert_true(found.has[0] && found.has[1] && found.has[2]);
	assert_int_equal(warnings, 0);
}

/* ---- journals ---- */

static void limit_files(rlim_t bytes)
{
	struct rlimit limit;

	assert_int_equal(getrlimit(RLIMIT_FSIZE, &limit), 0);
	limit.rlim_cur = MIN(bytes, limit.rlim_max);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
}

/* A disk that takes half a record: the file has whole ones, before and after. */
static void full_disk(void **state)
{
	struct journal journal;
	size_t length;
	char *data;

	(void)state;
	signal(SIGXFSZ, SIG_IGN);
	assert_int_equal(journal_open(&journal, folder, "j", 0), 0);
	journal_append(&journal, "one 4567\n", 9);
	limit_files(13);
	journal_append(&journal, "two 4567\n", 9);
	journal_append(&journal, "three 67\n", 9);
	assert_int_equal(warnings, 1);
	assert_int_equal(journal.lost, 2);
	assert_int_equal(files_read(journal.path, 4096, &data, &length), 0);
	assert_string_equal(data, "one 4567\n");
	free(data);
	limit_files(RLIM_INFINITY);
	journal_append(&journal, "four 567\n", 9);
	assert_int_equal(warnings, 1);
	assert_int_equal(files_read(journal.path, 4096, &data, &length), 0);
	assert_string_equal(data, "one 4567\nfour 567\n");
	free(data);
	for (unsigned i = 0; i < 20; i++)
		journal_append(&journal, "more\n", 5);
	assert_int_equal(warnings, 2);
	assert_int_equal(journal.lost, 0);
	limit_files(13);
	journal_append(&journal, "lost\n", 5);
	limit_files(RLIM_INFINITY);
	assert_int_equal(warnings, 3);
	journal_close(&journal);
	assert_int_equal(warnings, 4);
	journal_append(&journal, "five", 4);
}

static void journals_are_cut(void **state)
{
	struct journal journal;
	size_t length;
	char *data;

	(void)state;
	assert_int_equal(journal_open(&journal, folder, "j", UINT64_MAX), 0);
	journal_append(&journal, "12345678", 8);
	journal_close(&journal);
	assert_int_equal(journal_open(&journal, folder, "j", 3), 0);
	journal_append(&journal, "x", 1);
	journal_close(&journal);
	assert_int_equal(journal_open(&journal, folder, "j", 4000), 0);
	assert_int_equal(files_read(journal.path, 4096, &data, &length), 0);
	assert_string_equal(data, "123x");
	free(data);
	journal_close(&journal);
	assert_true(journal_open(&journal, "/nowhere", "j", 0) < 0);
}

/* ---- memory ---- */

static void memory_of_a_process(void **state)
{
	static const char text[] =
		"Name:\tVmHWM: 1\nVmHWM:\t    4096 kB\n"
		"RssAnon:\t     100 kB\n"
		"RssFile:\t     900 kB\nRssShmem:\t       3 kB\n";
	struct memory_use use, before;
	size_t bytes = 8 << 20;
	char *pages;

	(void)state;
	memory_use_parse(text, &use);
	assert_int_equal(use.resident, 103 << 10);
	assert_int_equal(use.peak, 4 << 20);
	memory_use_parse("", &use);
	assert_int_equal(use.resident, 0);
	memory_use_read(&before);
	pages = malloc(bytes);
	assert_non_null(pages);
	for (size_t i = 0; i < bytes; i += 512)
		((volatile char *)pages)[i] = 1;
	memory_use_read(&use);
	free(pages);
	assert_true(use.resident >= before.resident + bytes / 2);
	assert_true(use.peak >= use.resident);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(golden_version),
		cmocka_unit_test(golden_scalar),
		cmocka_unit_test(golden_session),
		cmocka_unit_test(largest_record),
		cmocka_unit_test_setup_teardown(files_of_a_run, make_folder,
						remove_folder),
		cmocka_unit_test_setup_teardown(full_disk, make_folder,
						remove_folder),
		cmocka_unit_test_setup_teardown(journals_are_cut, make_folder,
						remove_folder),
		cmocka_unit_test(memory_of_a_process),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
