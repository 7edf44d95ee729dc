#include "transport/fault/plan.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/random.h"
#include "base/text.h"

#define ITEM_BYTES   128
#define LOOK_BLOCKS  4096u /* of a wire, looked at in one call */
#define DELAY_MAX_NS (60 * NS_PER_SECOND)

static const char *const kind_names[FAULT_KINDS] = {
	[FAULT_DELAY] = "delay",         [FAULT_CUT] = "cut",
	[FAULT_DROP] = "drop",           [FAULT_CORRUPT] = "corrupt",
	[FAULT_DUPLICATE] = "duplicate", [FAULT_STALL] = "stall",
};

const char *fault_kind_name(enum fault_kind kind)
{
	return kind_names[kind];
}

/* ---- reading ---- */

static int parse_when(const char *item, const char *text,
		      struct fault_rule *rule)
{
	int64_t after;

	if (strncmp(text, "after:", 6) == 0) {
		if (text_parse_integer(text + 6, 0, INT64_MAX, &after))
			return fail(-EINVAL,
				    "faults: %s: \"%s\" is not a number of "
				    "messages or bytes",
				    item, text + 6);
		*rule = (struct fault_rule){
			.once = true,
			.after = (uint64_t)after,
		};
		return 0;
	}
	*rule = (struct fault_rule){.once = false};
	if (text_parse_real(text, 0, 1, &rule->probability))
		return fail(-EINVAL,
			    "faults: %s: \"%s\" is neither a probability from "
			    "0 to 1 nor after:N",
			    item, text);
	return 0;
}

static int parse_time(const char *item, const char *text, int64_t *out)
{
	static const struct {
		const char *name;
		int64_t ns;
	} units[] = {
		{"ns", 1},
		{"us", NS_PER_US},
		{"ms", NS_PER_MS},
		{"s", NS_PER_SECOND},
	};
	size_t digits = strspn(text, "0123456789");
	char number[32];
	int64_t value;
	size_t i;

	if (digits && digits < sizeof(number)) {
		memcpy(number, text, digits);
		number[digits] = '\0';
		for (i = 0; i < ARRAY_SIZE(units); i++) {
			if (strcmp(text + digits, units[i].name) != 0 ||
			    text_parse_integer(number, 0,
					       DELAY_MAX_NS / units[i].ns,
					       &value))
				continue;
			*out = value * units[i].ns;
			return 0;
		}
	}
	return fail(-EINVAL,
		    "faults: %s: \"%s\" is not a time like 200us or 5ms, of "
		    "60s at most",
		    item, text);
}

/* delay=5ms:0.01 */
static int parse_delay(const char *item, char *text, struct fault_plan *plan)
{
	char *colon = strchr(text, ':');
	int status;

	if (!colon)
		return fail(-EINVAL,
			    "faults: %s: how often is missing, as in "
			    "delay=5ms:0.01",
			    item);
	*colon = '\0';
	status = parse_time(item, text, &plan->delay_ns);
	return status ? status
		      : parse_when(item, colon + 1, &plan->rules[FAULT_DELAY]);
}

static int parse_links(const char *item, char *text, struct fault_plan *plan)
{
	struct fault_filter *filter;
	char *rest = text;
	char *link;
	char *sign;
	int64_t from;
	int64_t to;

	while ((link = strsep(&rest, "+"))) {
		if (plan->filter_count == FAULT_LINKS_MAX)
			return fail(-EINVAL, "faults: %s: more than %u links",
				    item, FAULT_LINKS_MAX);
		filter = &plan->filters[plan->filter_count];
		sign = strpbrk(link, "->");
		if (!sign)
			goto err_form;
		filter->both_ways = *sign == '-';
		*sign = '\0';
		if (text_parse_integer(link, 0, UINT32_MAX, &from) ||
		    text_parse_integer(sign + 1, 0, UINT32_MAX, &to) ||
		    from == to)
			goto err_form;
		filter->from = (unsigned)from;
		filter->to = (unsigned)to;
		plan->filter_count++;
	}
	return 0;

err_form:
	return fail(-EINVAL,
		    "faults: %s: a link is two ranks, as in 0-1 (both ways) or "
		    "0>1",
		    item);
}

static int parse_level(const char *item, const char *text,
		       struct fault_plan *plan)
{
	plan->wire = strcmp(text, "wire") == 0;
	if (plan->wire || strcmp(text, "message") == 0)
		return 0;
	return fail(-EINVAL, "faults: %s: a level is message or wire", item);
}

static int parse_seed(const char *item, const char *text,
		      struct fault_plan *plan)
{
	int64_t seed;

	if (text_parse_integer(text, 0, INT64_MAX, &seed))
		return fail(-EINVAL, "faults: %s: a seed is a number from 0 on",
			    item);
	plan->seed = (uint64_t)seed;
	return 0;
}

static int refuse_name(const char *name)
{
	static const char *const names[] = {
		"seed", "level",   "links",     "delay", "cut",
		"drop", "corrupt", "duplicate", "stall",
	};
	const char *near = text_nearest(name, names, ARRAY_SIZE(names));

	return fail(-EINVAL,
		    "faults: there is no \"%s\"%s%s%s (there are seed, level, "
		    "links, delay, cut, drop, corrupt, duplicate, stall)",
		    name, near ? ", did you mean " : "", near ? near : "",
		    near ? "?" : "");
}

static int parse_item(const char *item, const char *name, char *value,
		      struct fault_plan *plan)
{
	unsigned kind;

	if (strcmp(name, "seed") == 0)
		return parse_seed(item, value, plan);
	if (strcmp(name, "level") == 0)
		return parse_level(item, value, plan);
	if (strcmp(name, "links") == 0)
		return parse_links(item, value, plan);
	if (strcmp(name, "delay") == 0)
		return parse_delay(item, value, plan);
	for (kind = 0; kind < FAULT_KINDS; kind++) {
		if (strcmp(name, kind_names[kind]) == 0)
			return parse_when(item, value, &plan->rules[kind]);
	}
	return refuse_name(name);
}

int fault_plan_parse(const char *text, struct fault_plan *out)
{
	struct fault_plan plan = {.seed = 1};
	char seen[512] = ",";
	char item[ITEM_BYTES];
	char name[ITEM_BYTES];
	const char *end;
	char *value;
	size_t length;
	int status;

	for (; *text; text = *end ? end + 1 : end) {
		end = strchrnul(text, ',');
		length = (size_t)(end - text);
		if (!length || (*end && !end[1]))
			return fail(-EINVAL,
				    "faults: there is a comma too many");
		if (length >= sizeof(item))
			return fail(-EINVAL, "faults: \"%.20s...\" is too long",
				    text);
		memcpy(item, text, length);
		item[length] = '\0';
		memcpy(name, item, length + 1);
		value = strchr(name, '=');
		if (!value || !value[1])
			return fail(-EINVAL,
				    "faults: \"%s\" is not of the form "
				    "NAME=VALUE",
				    item);
		*value++ = '\0';
		status = parse_item(item, name, value, &plan);
		if (status)
			return status;
		/* Said twice is a slip of the pen, not a plan. */
		strncat(name, ",", sizeof(name) - strlen(name) - 1);
		if (strstr(seen, name))
			return fail(-EINVAL, "faults: %s: said before", item);
		strncat(seen, name, sizeof(seen) - strlen(seen) - 1);
	}
	*out = plan;
	return 0;
}

/* ---- asking ---- */

static bool concerns(const struct fault_plan *plan,
		     const struct fault_stream *stream)
{
	const struct fault_filter *filter;
	unsigned i;

	for (i = 0; i < plan->filter_count; i++) {
		filter = &plan->filters[i];
		if (filter->from == stream->from && filter->to == stream->to)
			return true;
		if (filter->both_ways && filter->from == stream->to &&
		    filter->to == stream->from)
			return true;
	}
	return !plan->filter_count;
}

static struct random_key key_of(const struct fault_plan *plan,
				enum fault_kind kind,
				const struct fault_stream *stream)
{
	return random_key_numbered(
		plan->seed, (uint64_t)stream->from << 32 | stream->to,
		(uint64_t)stream->attempt << 1 | stream->receiver, kind);
}

bool fault_plan_hits(const struct fault_plan *plan, enum fault_kind kind,
		     const struct fault_stream *stream, uint64_t number)
{
	const struct fault_rule *rule = &plan->rules[kind];

	if (!rule->once && rule->probability <= 0)
		return false;
	if (!concerns(plan, stream))
		return false;
	if (rule->once)
		return number == rule->after;
	return random_uniform(key_of(plan, kind, stream), 2 * number) <
	       rule->probability;
}

unsigned fault_plan_draw(const struct fault_plan *plan, enum fault_kind kind,
			 const struct fault_stream *stream, uint64_t position,
			 unsigned bound)
{
	return (unsigned)random_below(key_of(plan, kind, stream),
				      2 * position + 1, bound);
}

/* A block is hit or not, and if it is, at one of its bytes. */
uint64_t fault_plan_next(const struct fault_plan *plan, enum fault_kind kind,
			 const struct fault_stream *stream, uint64_t position,
			 uint64_t *asked)
{
	const struct fault_rule *rule = &plan->rules[kind];
	uint64_t block = position / FAULT_BLOCK_BYTES;
	uint64_t last = block + LOOK_BLOCKS;
	uint64_t at;

	*asked = FAULT_NEVER;
	if ((!rule->once && rule->probability <= 0) || !concerns(plan, stream))
		return FAULT_NEVER;
	if (rule->once)
		return stream->attempt == 0 && position <= rule->after
			       ? rule->after
			       : FAULT_NEVER;
	for (; block < last; block++) {
		if (!fault_plan_hits(plan, kind, stream, block))
			continue;
		at = block * FAULT_BLOCK_BYTES +
		     fault_plan_draw(plan, kind, stream, block,
				     FAULT_BLOCK_BYTES);
		if (at >= position)
			return at;
	}
	*asked = last * FAULT_BLOCK_BYTES;
	return FAULT_NEVER;
}
