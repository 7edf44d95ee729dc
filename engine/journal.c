#include "engine/journal.h"
#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* A full disk may take a short record between long ones. */
#define TAKEN_WELL 16

static int cut_to(struct journal *journal, uint64_t keep)
{
	struct stat status;

	if (fstat(journal->fd, &status))
		return fail(-errno, "%s: %s", journal->path, strerror(errno));
	journal->length = MIN((uint64_t)status.st_size, keep);
	if (keep < (uint64_t)status.st_size &&
	    ftruncate(journal->fd, (off_t)keep))
		return fail(-errno, "truncate %s: %s", journal->path,
			    strerror(errno));
	return 0;
}

int journal_open(struct journal *journal, const char *folder, const char *name,
		 uint64_t keep)
{
	int rc;

	journal->fd = -1;
	journal->lost = 0;
	journal->taken = 0;
	rc = files_join(journal->path, sizeof(journal->path), folder, name);
	if (rc)
		return rc;
	journal->fd = open(journal->path,
			   O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
	if (journal->fd < 0)
		return fail(-errno, "open %s: %s", journal->path,
			    strerror(errno));
	rc = cut_to(journal, keep);
	if (rc)
		journal_close(journal);
	return rc;
}

static void tell_lost(struct journal *journal, const char *when)
{
	if (journal->lost)
		log_warning("%s: %s; %" PRIu64 " records are missing in it",
			    journal->path, when, journal->lost);
	journal->lost = 0;
}

void journal_close(struct journal *journal)
{
	tell_lost(journal, "not all could be written");
	if (journal->fd >= 0)
		close(journal->fd);
	journal->fd = -1;
}

/* 0, or a negative errno, silent: the record is not or only partly there. */
static int write_record(int fd, const char *record, size_t bytes)
{
	while (bytes) {
		ssize_t n = write(fd, record, bytes);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : -EIO;
		record += n;
		bytes -= (size_t)n;
	}
	return 0;
}

void journal_append(struct journal *journal, const void *record, size_t bytes)
{
	int rc;

	if (journal->fd < 0)
		return;
	rc = write_record(journal->fd, record, bytes);
	if (rc) {
		/* Fails only where writing will fail, too. */
		(void)!ftruncate(journal->fd, (off_t)journal->length);
		journal->taken = 0;
		if (journal->lost++ == 0)
			log_warning("write %s: %s; training goes on without",
				    journal->path, strerror(-rc));
		return;
	}
	journal->length += bytes;
	if (journal->lost && ++journal->taken == TAKEN_WELL)
		tell_lost(journal, "it is written again");
}
