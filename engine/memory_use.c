#include "engine/memory_use.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* "RssAnon:\t   1234 kB", at the begin of a line; 0: there is none. */
static uint64_t bytes_of(const char *text, const char *key)
{
	size_t length = strlen(key);

	for (; text; text = strchr(text, '\n')) {
		text += *text == '\n';
		if (strncmp(text, key, length) == 0)
			return strtoull(text + length, NULL, 10) << 10;
	}
	return 0;
}

void memory_use_parse(const char *text, struct memory_use *out)
{
	out->resident =
		bytes_of(text, "RssAnon:") + bytes_of(text, "RssShmem:");
	out->peak = bytes_of(text, "VmHWM:");
}

void memory_use_read(struct memory_use *out)
{
	char text[8192];
	int fd = open("/proc/self/status", O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? 0 : read(fd, text, sizeof(text) - 1);

	if (fd >= 0)
		close(fd);
	text[MAX(n, 0)] = '\0';
	memory_use_parse(text, out);
}
