/*
 * Reading PyTorch's CSV. One pass over the bytes makes rows of actions; the
 * header of the schedule (ranks, stages, placement, ...) follows from them.
 */
#include "base/log.h"
#include "base/text.h"
#include "schedules/build.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CELL_SHOWN_BYTES 40

enum {
	/* "BW" while it is open which dialect a file is in. */
	OP_OLD_BACKWARD = ACTION_OP_COUNT,
	/* What PyTorch has and this program does not: idle here. */
	OP_FOREIGN,
};

struct parser {
	const char *origin;
	enum schedule_dialect dialect;
	const char *text;
	const char *end;
	const char *line_start;
	size_t line;
	size_t cell; /* number in its line, from 1 */
	const char *cell_start;
	const char *cell_end;
	struct schedule_row *rows;
	size_t row_count;
	size_t row_room;
	size_t action_count;
	unsigned group;
	bool has_input;  /* an I */
	bool has_weight; /* a W */
	bool has_b;      /* a B */
	bool has_old_b;  /* a BW */
	bool has_foreign;
};

/* The cell, with what a terminal should not see replaced. */
static void show_cell(const struct parser *parser, char *out, size_t size)
{
	size_t length = (size_t)(parser->cell_end - parser->cell_start);
	size_t shown = MIN(length, size - 4);

	for (size_t i = 0; i < shown; i++) {
		char c = parser->cell_start[i];

		out[i] = c >= ' ' && c <= '~' ? c : '?';
	}
	memcpy(out + shown, "...", 4);
	if (shown == length)
		out[shown] = '\0';
}

static int fail_at(const struct parser *parser, const char *where,
		   const char *expected)
{
	char cell[CELL_SHOWN_BYTES + 4];

	show_cell(parser, cell, sizeof(cell));
	return fail(-EINVAL, "%s:%zu:%zu: cell %zu '%s': expected %s",
		    parser->origin, parser->line,
		    (size_t)(where - parser->line_start) + 1, parser->cell,
		    cell, expected);
}

static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

/* Digits at *at, at most `limit`; false when there are none or too many. */
static bool read_number(const char **at, const char *end, unsigned limit,
			unsigned *out)
{
	const char *p = *at;
	unsigned number = 0;

	if (p == end || !is_digit(*p))
		return false;
	for (; p < end && is_digit(*p); p++) {
		number = number * 10 + (unsigned)(*p - '0');
		if (number > limit)
			return false;
	}
	*at = p;
	*out = number;
	return true;
}

static bool is_word(const char *at, size_t length, const char *word)
{
	return strlen(word) == length && memcmp(at, word, length) == 0;
}

/* Gathering sharded parameters, and waiting for what a message needs. */
static bool is_foreign(const char *at, size_t length)
{
	static const char *const words[] = {
		"UNSHARD",     "RESHARD",          "WAIT_SEND_F",
		"WAIT_SEND_B", "WAIT_REDUCE_GRAD",
	};

	for (size_t i = 0; i < ARRAY_SIZE(words); i++)
		if (is_word(at, length, words[i]))
			return true;
	return false;
}

/* The letters and underscores at *at as an operation; false: none. */
static bool read_op(const char **at, const char *end, unsigned *out)
{
	const char *start = *at;
	const char *p = start;
	size_t length;
	unsigned op = 0;

	while (p < end && ((*p >= 'A' && *p <= 'Z') || *p == '_'))
		p++;
	length = (size_t)(p - start);
	if (is_word(start, length, "BW"))
		op = OP_OLD_BACKWARD;
	else if (is_foreign(start, length))
		op = OP_FOREIGN;
	else
		while (!is_word(start, length, schedule_op_text(op)))
			if (++op == ACTION_OP_COUNT)
				return false;
	*at = p;
	*out = op;
	return true;
}

/* OP_FOREIGN has one or not. */
static bool op_has_micro_batch(unsigned op, const char *at, const char *end)
{
	return op != ACTION_REDUCE_GRAD && op != ACTION_VOTE &&
	       op != ACTION_STEP && (op != OP_FOREIGN || at != end);
}

static int fail_stage(const struct parser *parser, const char *at,
		      const char *end)
{
	if (at < end && (*at == '"' || *at == '\''))
		return fail_at(parser, at, "a cell without quotes");
	return fail_at(parser, at, "a stage number (0 to 4095) first");
}

static int fail_op(const struct parser *parser, const char *at, const char *end)
{
	if (at < end && *at >= 'a' && *at <= 'z')
		return fail_at(parser, at,
			       "an operation in capitals, as in 0F0");
	return fail_at(parser, at,
		       "an operation: F I W B SEND_F RECV_F SEND_B RECV_B "
		       "REDUCE_GRAD REDUCE_TIED VOTE STEP");
}

static int fail_rest(const struct parser *parser, const char *at, bool in_pair)
{
	if (in_pair)
		return fail_at(parser, at, "two actions, (F;B)OVERLAP_F_B");
	if (*at == ' ' || *at == '\t' || *at == ';')
		return fail_at(parser, at, "a comma between cells");
	if (*at == '\r')
		return fail_at(parser, at, "a line end, LF or CRLF");
	return fail_at(parser, at, "the end of the cell");
}

static int note_dialect(struct parser *parser, const char *where, unsigned op)
{
	bool modern = parser->dialect == SCHEDULE_DIALECT_MODERN;
	bool old = parser->dialect == SCHEDULE_DIALECT_OLD;

	parser->has_input |= op == ACTION_BACKWARD_INPUT;
	parser->has_weight |= op == ACTION_BACKWARD_WEIGHT;
	parser->has_b |= op == ACTION_BACKWARD;
	parser->has_old_b |= op == OP_OLD_BACKWARD;
	if (op == OP_OLD_BACKWARD && modern)
		return fail_at(parser, where,
			       "B: BW is of the old dialect (--dialect old)");
	if (op == ACTION_BACKWARD_INPUT && old)
		return fail_at(parser, where,
			       "B: the old dialect has no I (--dialect "
			       "modern)");
	if (parser->has_input && parser->has_old_b)
		return fail_at(parser, where,
			       "one dialect: I is of the modern one, BW of the "
			       "old one, and the file has both");
	return 0;
}

/* `<stage><op>[<micro-batch>]` in [at, end), the whole of it. */
static int parse_action(struct parser *parser, const char *at, const char *end,
			unsigned group)
{
	struct schedule_row *row = &parser->rows[parser->row_count - 1];
	const char *where;
	unsigned stage;
	unsigned op;
	unsigned micro_batch = 0;
	int error;

	if (!read_number(&at, end, SCHEDULE_MAX_STAGES - 1, &stage))
		return fail_stage(parser, at, end);
	where = at;
	if (!read_op(&at, end, &op))
		return fail_op(parser, at, end);
	error = note_dialect(parser, where, op);
	if (error)
		return error;
	if (op_has_micro_batch(op, at, end) &&
	    !read_number(&at, end, SCHEDULE_MAX_MICRO_BATCHES - 1,
			 &micro_batch))
		return fail_at(parser, at, "a micro-batch number (0 to 65534)");
	if (at != end)
		return fail_rest(parser, at, group != 0);
	if (group != 0 && op > ACTION_BACKWARD && op != OP_OLD_BACKWARD)
		return fail_at(parser, where, "F, I, W or B within (...)");
	parser->has_foreign |= op == OP_FOREIGN;
	if (op == OP_FOREIGN)
		return 0;
	if (++parser->action_count > SCHEDULE_MAX_ACTIONS)
		return fail(-EINVAL, "%s:%zu: more than %u actions",
			    parser->origin, parser->line, SCHEDULE_MAX_ACTIONS);
	return schedule_row_append(row, op, stage, micro_batch, group);
}

static bool is_blank(char c)
{
	return c == ' ' || c == '\t';
}

static void trim(const char **start, const char **end)
{
	while (*start < *end && is_blank(**start))
		(*start)++;
	while (*end > *start && is_blank((*end)[-1]))
		(*end)--;
}

/* One action of an overlapped pair. */
static int parse_half(struct parser *parser, const char *start, const char *end)
{
	trim(&start, &end);
	return parse_action(parser, start, end, parser->group);
}

/* `(<action>;<action>)OVERLAP_F_B`. */
static int parse_pair(struct parser *parser)
{
	static const char tail[] = ")OVERLAP_F_B";
	size_t tail_length = sizeof(tail) - 1;
	const char *start = parser->cell_start + 1;
	size_t length = (size_t)(parser->cell_end - start);
	const char *middle = memchr(start, ';', length);
	const char *end = memchr(start, ')', length);
	int error;

	if (middle == NULL || (end != NULL && end < middle))
		return fail_at(parser, start, "two actions, (F;B)OVERLAP_F_B");
	if (end == NULL || (size_t)(parser->cell_end - end) != tail_length ||
	    memcmp(end, tail, tail_length) != 0)
		return fail_at(parser, end ? end : parser->cell_end,
			       ")OVERLAP_F_B behind the two actions");
	parser->group = parser->group % UINT16_MAX + 1;
	error = parse_half(parser, start, middle);
	if (error)
		return error;
	return parse_half(parser, middle + 1, end);
}

static int parse_cell(struct parser *parser, const char *start, const char *end)
{
	trim(&start, &end);
	parser->cell_start = start;
	parser->cell_end = end;
	if (start == end)
		return 0; /* idle */
	if (*start == '(')
		return parse_pair(parser);
	return parse_action(parser, start, end, 0);
}

static int add_row(struct parser *parser)
{
	size_t room = MAX(16, parser->row_room * 2);
	struct schedule_row *rows;

	if (parser->row_count == SCHEDULE_MAX_STAGES)
		return fail(-EINVAL, "%s:%zu: more than %u rows",
			    parser->origin, parser->line, SCHEDULE_MAX_STAGES);
	if (parser->row_count == parser->row_room) {
		rows = realloc(parser->rows, room * sizeof(*rows));
		if (rows == NULL)
			return fail(-ENOMEM, "%s: no memory for %zu rows",
				    parser->origin, room);
		parser->rows = rows;
		parser->row_room = room;
	}
	parser->rows[parser->row_count++] = (struct schedule_row){0};
	parser->group = 0;
	return 0;
}

static int parse_line(struct parser *parser, const char *end)
{
	const char *start = parser->line_start;
	int error = add_row(parser);

	for (parser->cell = 1; !error; parser->cell++) {
		const char *comma = memchr(start, ',', (size_t)(end - start));

		error = parse_cell(parser, start, comma ? comma : end);
		if (comma == NULL)
			break;
		start = comma + 1;
	}
	return error;
}

/* Lines end in LF, CRLF or the end of the text; blank ones may end it. */
static int parse_lines(struct parser *parser)
{
	const char *at = parser->text;
	size_t last_filled = 0;
	int error = 0;

	for (parser->line = 1; at < parser->end && !error; parser->line++) {
		const char *newline =
			memchr(at, '\n', (size_t)(parser->end - at));
		const char *end = newline ? newline : parser->end;

		parser->line_start = at;
		at = newline ? newline + 1 : parser->end;
		if (end > parser->line_start && end[-1] == '\r')
			end--;
		error = parse_line(parser, end);
		if (!error && parser->rows[parser->row_count - 1].count > 0)
			last_filled = parser->row_count;
	}
	if (error)
		return error;
	if (last_filled == 0)
		return fail(-EINVAL,
			    "%s: expected a row of cells for every "
			    "rank; there is no action in it",
			    parser->origin);
	/* Behind last_filled nothing was allocated. */
	parser->row_count = last_filled;
	for (size_t i = 0; i < last_filled; i++)
		if (parser->rows[i].count == 0)
			return fail(-EINVAL,
				    "%s:%zu: rank %zu has no action; "
				    "every rank holds at least one stage",
				    parser->origin, i + 1, i);
	return 0;
}

static void settle_dialect(struct parser *parser)
{
	bool old = parser->dialect == SCHEDULE_DIALECT_OLD;

	if (parser->dialect == SCHEDULE_DIALECT_AUTO) {
		old = parser->has_old_b ||
		      (parser->has_b && parser->has_weight &&
		       !parser->has_input);
		if (old)
			log_info("%s: read as the old dialect (B is the input "
				 "gradient, BW both)",
				 parser->origin);
	}
	if (!old)
		return;
	for (size_t i = 0; i < parser->row_count; i++)
		for (size_t j = 0; j < parser->rows[i].count; j++) {
			struct action *action = &parser->rows[i].actions[j];

			if (action->op == ACTION_BACKWARD)
				action->op = ACTION_BACKWARD_INPUT;
			else if (action->op == OP_OLD_BACKWARD)
				action->op = ACTION_BACKWARD;
		}
}

static bool placed_as(const struct schedule *schedule, bool v)
{
	unsigned ranks = schedule->ranks;

	if (schedule->stages != ranks * schedule->chunks)
		return false;
	for (unsigned stage = 0; stage < schedule->stages; stage++) {
		unsigned rank = stage % ranks;

		if (v && stage / ranks % 2 == 1)
			rank = ranks - 1 - rank;
		if (schedule->rank_of_stage[stage] != rank)
			return false;
	}
	return true;
}

/* Where each stage lives (the first row that names it), and what follows. */
static int fill_placement(struct schedule *schedule)
{
	unsigned *held = calloc(schedule->ranks, sizeof(*held));
	bool *seen = calloc(schedule->stages, sizeof(*seen));

	if (held == NULL || seen == NULL) {
		free(held);
		free(seen);
		return fail(-ENOMEM, "no memory for a schedule of %u stages",
			    schedule->stages);
	}
	for (unsigned rank = 0; rank < schedule->ranks; rank++)
		for (size_t i = 0; i < schedule->rows[rank].count; i++) {
			unsigned stage = schedule->rows[rank].actions[i].stage;

			if (seen[stage])
				continue;
			seen[stage] = true;
			schedule->rank_of_stage[stage] = rank;
			held[rank]++;
		}
	schedule->chunks = 1;
	for (unsigned rank = 0; rank < schedule->ranks; rank++)
		schedule->chunks = MAX(schedule->chunks, held[rank]);
	schedule->placement = SCHEDULE_PLACEMENT_FREE;
	if (placed_as(schedule, false))
		schedule->placement = SCHEDULE_PLACEMENT_LOOP;
	else if (placed_as(schedule, true))
		schedule->placement = SCHEDULE_PLACEMENT_V;
	free(held);
	free(seen);
	return 0;
}

static bool needs_messages(const struct schedule *schedule)
{
	for (size_t link = 0; link < 2 * (size_t)schedule->stages; link++)
		if (link_is_used(schedule, link))
			return true;
	return false;
}

static const char *name_of(const char *origin)
{
	const char *slash = strrchr(origin, '/');

	return slash && slash[1] ? slash + 1 : origin;
}

static int fill_schedule(struct parser *parser, struct schedule **out)
{
	bool backward = false;
	bool messages = false;
	unsigned stages = 1;
	unsigned micro_batches = 1;
	struct schedule *schedule;
	int error;

	for (size_t i = 0; i < parser->row_count; i++)
		for (size_t j = 0; j < parser->rows[i].count; j++) {
			const struct action *action =
				&parser->rows[i].actions[j];

			stages = MAX(stages, action->stage + 1u);
			if (action->op < ACTION_REDUCE_GRAD)
				micro_batches = MAX(micro_batches,
						    action->micro_batch + 1u);
			messages |= action_is_message(action->op);
			backward |= action->op != ACTION_FORWARD &&
				    action->op != ACTION_SEND_FORWARD &&
				    action->op != ACTION_RECV_FORWARD;
		}
	/* One rank of `stages` chunks, to be told apart by fill_placement. */
	schedule = schedule_create(name_of(parser->origin), 1, stages,
				   micro_batches, SCHEDULE_PLACEMENT_FREE);
	if (schedule == NULL)
		return -ENOMEM;
	free(schedule->rows);
	schedule->rows = parser->rows;
	schedule->ranks = (unsigned)parser->row_count;
	parser->rows = NULL;
	parser->row_count = 0;
	schedule->forward_only = !backward;
	error = fill_placement(schedule);
	if (error) {
		schedule_destroy(schedule);
		return error;
	}
	schedule->lowered = messages || !needs_messages(schedule);
	*out = schedule;
	return 0;
}

int schedule_parse(const char *text, size_t length, const char *origin,
		   enum schedule_dialect dialect, struct schedule **out)
{
	static const char byte_order_mark[] = "\xef\xbb\xbf";
	struct parser parser = {
		.origin = origin,
		.dialect = dialect,
		.text = text,
		.end = text + length,
	};
	int error;

	if (length >= 3 && memcmp(text, byte_order_mark, 3) == 0)
		parser.text += 3;
	if (length >= 2 && (memcmp(text, "\xff\xfe", 2) == 0 ||
			    memcmp(text, "\xfe\xff", 2) == 0))
		return fail(-EINVAL,
			    "%s: is UTF-16; expected plain text (UTF-8)",
			    origin);
	error = parse_lines(&parser);
	if (!error) {
		if (parser.has_foreign)
			log_info("%s: UNSHARD, RESHARD and WAIT cells are read "
				 "as idle",
				 origin);
		settle_dialect(&parser);
		error = fill_schedule(&parser, out);
	}
	for (size_t i = 0; i < parser.row_count; i++)
		free(parser.rows[i].actions);
	free(parser.rows);
	return error;
}
