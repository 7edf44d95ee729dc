#include "engine/nodelist.h"

#include "base/files.h"
#include "base/log.h"
#include "base/text.h"
#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define HOSTFILE_LIMIT ((size_t)4 << 20)
#define RANKS_MAX      4096
#define DIGITS_MAX     9 /* of a number in brackets */

static int append(struct nodelist *list, const char *name, size_t length,
		  unsigned ranks, const char *origin)
{
	struct nodelist_host *grown;
	unsigned capacity = list->capacity ? 2 * list->capacity : 16;

	if (length == 0 || length >= NODELIST_HOST_BYTES)
		return fail(-EINVAL, "%s: a host has a name of %zu characters",
			    origin, length);
	if (list->count == NODELIST_HOSTS_MAX)
		return fail(-EINVAL, "%s: more than %d hosts", origin,
			    NODELIST_HOSTS_MAX);
	if (list->count == list->capacity) {
		grown = realloc(list->hosts, capacity * sizeof(*grown));
		if (!grown)
			return fail(-ENOMEM, "no memory for a list of hosts");
		list->hosts = grown;
		list->capacity = capacity;
	}
	memcpy(list->hosts[list->count].name, name, length);
	list->hosts[list->count].name[length] = '\0';
	list->hosts[list->count++].ranks = ranks;
	return 0;
}

void nodelist_fini(struct nodelist *list)
{
	free(list->hosts);
	*list = (struct nodelist){0};
}

unsigned nodelist_ranks(const struct nodelist *list)
{
	unsigned ranks = 0;

	for (unsigned i = 0; i < list->count; i++)
		ranks += list->hosts[i].ranks;
	return ranks;
}

/* ---- Slurm's form ---- */

struct expansion {
	const char *text, *origin;
	struct nodelist *out;
};

static int expand_item(struct expansion *expansion, const char *done,
		       const char *rest, const char *end);

/* "001": its value and how many digits it is written with. */
static bool read_number(const char **at, unsigned *value, int *width)
{
	const char *start = *at;

	*value = 0;
	while (isdigit((unsigned char)**at) && *at - start < DIGITS_MAX)
		*value = 10 * *value + (unsigned)(*(*at)++ - '0');
	*width = (int)(*at - start);
	return *width > 0 && !isdigit((unsigned char)**at);
}

/* One range of a bracket: "7" or "001-003"; `rest` follows the bracket. */
static int expand_range(struct expansion *expansion, const char *done,
			const char **at, const char *rest, const char *end)
{
	unsigned low, high;
	int width, unused;

	if (!read_number(at, &low, &width))
		return -EINVAL;
	high = low;
	if (**at == '-') {
		++*at;
		if (!read_number(at, &high, &unused))
			return -EINVAL;
	}
	if (high < low || high - low >= NODELIST_HOSTS_MAX)
		return -EINVAL;
	for (unsigned number = low; number <= high; number++) {
		char name[NODELIST_HOST_BYTES];
		int length = snprintf(name, sizeof(name), "%s%0*u", done, width,
				      number);
		int rc;

		if (length >= (int)sizeof(name))
			return -EINVAL;
		rc = expand_item(expansion, name, rest, end);
		if (rc < 0)
			return rc;
	}
	return 0;
}

static int expand_bracket(struct expansion *expansion, const char *done,
			  const char *open, const char *end)
{
	const char *close = memchr(open, ']', (size_t)(end - open));
	const char *at = open + 1;

	if (!close)
		return -EINVAL;
	for (;;) {
		int rc = expand_range(expansion, done, &at, close + 1, end);

		if (rc < 0)
			return rc;
		if (at == close)
			return 0;
		if (*at++ != ',')
			return -EINVAL;
	}
}

/* `done` is the name so far, [rest, end) what is still to be expanded. */
static int expand_item(struct expansion *expansion, const char *done,
		       const char *rest, const char *end)
{
	const char *open = memchr(rest, '[', (size_t)(end - rest));
	size_t plain = (size_t)((open ? open : end) - rest);
	char name[NODELIST_HOST_BYTES];
	int length;

	if (memchr(rest, ']', plain))
		return -EINVAL;
	length = snprintf(name, sizeof(name), "%s%.*s", done, (int)plain, rest);
	if (length >= (int)sizeof(name))
		return -EINVAL;
	if (open)
		return expand_bracket(expansion, name, open, end);
	return append(expansion->out, name, (size_t)length, 1,
		      expansion->origin);
}

/* The end of the item that begins at `text`: a comma outside of brackets. */
static const char *item_end(const char *text)
{
	bool inside = false;

	for (; *text && (inside || *text != ','); text++) {
		if (*text == '[')
			inside = true;
		else if (*text == ']')
			inside = false;
	}
	return text;
}

int nodelist_expand(const char *text, const char *origin, struct nodelist *out)
{
	struct nodelist list = {0};
	struct expansion expansion = {text, origin, &list};
	const char *at = text;
	int rc = *text ? 0 : -EINVAL;

	while (!rc) {
		const char *end = item_end(at);

		rc = end > at ? expand_item(&expansion, "", at, end) : -EINVAL;
		if (rc || !*end)
			break;
		at = end + 1;
	}
	if (rc) {
		nodelist_fini(&list);
		return fail(rc,
			    "%s='%.200s' is not a list of hosts like "
			    "a[1-3,7],b-[001-003]",
			    origin, text);
	}
	*out = list;
	return 0;
}

unsigned nodelist_tasks(const char *text, unsigned node)
{
	while (*text) {
		unsigned tasks, times = 1;
		int width;

		if (!read_number(&text, &tasks, &width))
			return 0;
		if (strncmp(text, "(x", 2) == 0) {
			text += 2;
			if (!read_number(&text, &times, &width) ||
			    *text++ != ')')
				return 0;
		}
		if (node < times)
			return tasks;
		node -= times;
		if (*text && *text++ != ',')
			return 0;
	}
	return 0;
}

/* ---- --hosts, and hostfiles ---- */

static int bad_entry(const char *origin, const char *text, size_t length)
{
	return fail(-EINVAL,
		    "%s: '%.*s' is not HOST, HOST:RANKS or [IPv6]:RANKS",
		    origin, (int)MIN(length, 200), text);
}

/* "host", "host:2", "[fd00::1]:2"; several colons are an IPv6 address. */
static int parse_entry(const char *text, size_t length, const char *origin,
		       struct nodelist *list)
{
	const char *name = text, *end = text + length, *name_end = end;
	const char *ranks_text = NULL;
	char digits[16];
	int64_t ranks = 1;

	if (length && *text == '[') {
		name++;
		name_end = memchr(text, ']', length);
		if (!name_end)
			return bad_entry(origin, text, length);
		if (name_end + 1 < end)
			ranks_text = name_end + 1;
	} else {
		const char *colon = memchr(text, ':', length);

		if (colon && !memchr(colon + 1, ':', (size_t)(end - colon) - 1))
			ranks_text = name_end = colon;
	}
	if (ranks_text) {
		size_t count = (size_t)(end - ranks_text) - 1;

		if (*ranks_text != ':' || count >= sizeof(digits))
			return bad_entry(origin, text, length);
		memcpy(digits, ranks_text + 1, count);
		digits[count] = '\0';
		if (text_parse_integer(digits, 1, RANKS_MAX, &ranks))
			return bad_entry(origin, text, length);
	}
	/* A name that ssh would take for an option is none. */
	if (name == name_end || *name == '-')
		return bad_entry(origin, text, length);
	return append(list, name, (size_t)(name_end - name), (unsigned)ranks,
		      origin);
}

int nodelist_parse(const char *text, struct nodelist *out)
{
	struct nodelist list = {0};
	int rc = 0;

	for (const char *at = text; !rc; at++) {
		size_t length = strcspn(at, ",");

		rc = parse_entry(at, length, "--hosts", &list);
		at += length;
		if (!*at)
			break;
	}
	if (rc < 0) {
		nodelist_fini(&list);
		return rc;
	}
	*out = list;
	return 0;
}

/* "slots=2", "max_slots=4": the first counts, others are skipped. */
static int parse_slots(char *words, const char *origin,
		       struct nodelist_host *host)
{
	char *save = NULL;

	for (char *word = strtok_r(words, " \t", &save); word;
	     word = strtok_r(NULL, " \t", &save)) {
		int64_t slots;

		if (strncmp(word, "slots=", 6) != 0)
			continue;
		if (text_parse_integer(word + 6, 1, RANKS_MAX, &slots))
			return fail(-EINVAL, "%s: %.60s", origin, word);
		host->ranks = (unsigned)slots;
	}
	return 0;
}

static int parse_line(char *line, const char *origin, struct nodelist *list)
{
	size_t length;
	int rc;

	line[strcspn(line, "#\r")] = '\0';
	line += strspn(line, " \t");
	length = strcspn(line, " \t");
	if (length == 0)
		return 0;
	rc = parse_entry(line, length, origin, list);
	if (rc < 0)
		return rc;
	return parse_slots(line + length, origin,
			   &list->hosts[list->count - 1]);
}

int nodelist_read(const char *path, struct nodelist *out)
{
	struct nodelist list = {0};
	char *text, *line, *save;
	size_t length;
	unsigned number = 0;
	int rc = files_read(path, HOSTFILE_LIMIT, &text, &length);

	if (rc < 0)
		return rc;
	for (line = text; line && !rc; line = save) {
		char origin[320];

		save = strchr(line, '\n');
		if (save)
			*save++ = '\0';
		snprintf(origin, sizeof(origin), "%.256s line %u", path,
			 ++number);
		rc = parse_line(line, origin, &list);
	}
	free(text);
	if (!rc && list.count == 0)
		rc = fail(-EINVAL, "%s names no host", path);
	if (rc < 0) {
		nodelist_fini(&list);
		return rc;
	}
	*out = list;
	return 0;
}
