#include "engine/host.h"

#include <stdio.h>

#define GROUP "/sys/fs/cgroup/"

static uint64_t meminfo_available(void)
{
	FILE *file = fopen("/proc/meminfo", "re");
	unsigned long long kib = 0;
	char line[128];

	while (file && fgets(line, sizeof(line), file))
		if (sscanf(line, "MemAvailable: %llu kB", &kib) == 1)
			break;
	if (file)
		fclose(file);
	return (uint64_t)kib << 10;
}

/* "max", or no such file: no limit (false). */
static bool read_number(const char *path, uint64_t *out)
{
	FILE *file = fopen(path, "re");
	unsigned long long number;
	bool good;

	if (!file)
		return false;
	good = fscanf(file, "%llu", &number) == 1;
	fclose(file);
	if (good)
		*out = number;
	return good;
}

/* Inside a container the root of the mounted tree is the group's own. */
static bool group_available(uint64_t *out)
{
	uint64_t limit, used;

	if (!(read_number(GROUP "memory.max", &limit) &&
	      read_number(GROUP "memory.current", &used)) &&
	    !(read_number(GROUP "memory/memory.limit_in_bytes", &limit) &&
	      read_number(GROUP "memory/memory.usage_in_bytes", &used)))
		return false;
	*out = limit > used ? limit - used : 0;
	return true;
}

uint64_t host_memory_available(void)
{
	uint64_t available = meminfo_available(), group;

	if (available && group_available(&group))
		return MIN(available, group);
	return available;
}
