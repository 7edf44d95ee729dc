/* The program of a rank in the launch tests: world-rank --control-fd N. */
#include "base/log.h"
#include "base/text.h"
#include "world-work.h"
#include <dirent.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>

/* 0, 1, 2 and the socket: whatever else is open leaked into the rank. */
static int check_descriptors(int64_t control_fd)
{
	DIR *folder = opendir("/proc/self/fd");
	const struct dirent *entry;
	int64_t fd;
	int rc = 0;

	while (folder && (entry = readdir(folder)) != NULL) {
		if (text_parse_integer(entry->d_name, 0, INT32_MAX, &fd) < 0 ||
		    fd <= 2 || fd == control_fd || fd == dirfd(folder))
			continue;
		log_error("descriptor %s leaked into the rank", entry->d_name);
		rc = -1;
	}
	if (folder)
		closedir(folder);
	return rc;
}

int main(int count, char **arguments)
{
	const char *blas = getenv("OPENBLAS_NUM_THREADS");
	int64_t fd;

	if (count < 3 || strcmp(arguments[count - 2], "--control-fd") != 0 ||
	    text_parse_integer(arguments[count - 1], 3, 1 << 20, &fd) < 0)
		return 2;
	if (!blas || strcmp(blas, "1") != 0 || check_descriptors(fd) < 0)
		return 4;
	return world_rank_main((int)fd, "test", world_work) < 0;
}
