/*
 * Drawing: simulated in unit time, put on a grid, printed in blocks.
 */
#include "schedules/draw.h"
#include "base/log.h"
#include "base/text.h"
#include "schedules/build.h"
#include "schedules/simulate.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CELLS_MAX ((size_t)8 << 20)

/* What stands in one unit of time of one rank. */
struct unit {
	const struct action *action; /* NULL: idle */
	bool second;                 /* the W half of a B */
};

struct picture {
	const struct schedule *schedule; /* lowered */
	const struct schedule_drawing *drawing;
	struct unit *units; /* [ranks][length] */
	size_t length;
	size_t cell_width; /* without the blank behind it */
	size_t rank_width;
	struct text_builder text;
};

static int cell_text(const struct picture *picture, char *out, size_t size,
		     const struct unit *unit)
{
	const struct action *action = unit->action;

	if (action == NULL)
		return snprintf(out, size, ".");
	if (unit->second)
		return snprintf(out, size, "=");
	if (picture->schedule->chunks == 1)
		return snprintf(out, size, "%s%u", schedule_op_text(action->op),
				action->micro_batch);
	return snprintf(out, size, "%u%s%u", action->stage,
			schedule_op_text(action->op), action->micro_batch);
}

static void place(struct picture *picture,
		  const struct schedule_simulation *simulation)
{
	const struct schedule *schedule = picture->schedule;

	for (unsigned rank = 0; rank < schedule->ranks; rank++)
		for (size_t i = 0; i < schedule->rows[rank].count; i++) {
			const struct action *action =
				&schedule->rows[rank].actions[i];
			size_t at = (size_t)simulation->times[rank][i].start;
			struct unit *unit =
				&picture->units[rank * picture->length + at];
			char text[40];
			int length;

			if (!action_is_compute(action->op))
				continue;
			unit->action = action;
			length = cell_text(picture, text, sizeof(text), unit);
			picture->cell_width =
				MAX(picture->cell_width, (size_t)length);
			if (action->op != ACTION_BACKWARD)
				continue;
			unit[1].action = action;
			unit[1].second = true;
		}
}

/* Colours apart for every kind of colour vision (after Okabe and Ito). */
static unsigned colour_of(const struct picture *picture,
			  const struct unit *unit)
{
	static const unsigned colours[2][3] = {{75, 214, 36}, {25, 130, 22}};
	const struct action *action = unit->action;
	unsigned chunk = action->stage / picture->schedule->ranks;
	unsigned kind = action->op == ACTION_FORWARD           ? 0
			: action->op == ACTION_BACKWARD_INPUT  ? 1
			: action->op == ACTION_BACKWARD_WEIGHT ? 2
			: unit->second                         ? 2
							       : 1;

	return colours[chunk % 2][kind];
}

static void print_cell(struct picture *picture, const struct unit *unit,
		       bool last)
{
	char text[40];
	int width = (int)picture->cell_width;

	cell_text(picture, text, sizeof(text), unit);
	if (!picture->drawing->colour)
		text_builder_append(&picture->text, " %-*s", last ? 0 : width,
				    text);
	else if (unit->action == NULL)
		text_builder_append(&picture->text, " %*s", last ? 0 : width,
				    "");
	else
		text_builder_append(
			&picture->text,
			"\033[38;5;%um\033[48;5;%um %-*s\033[0m",
			unit->action->stage / picture->schedule->ranks % 2 ? 231
									   : 16,
			colour_of(picture, unit), width,
			unit->second ? "" : text);
}

/* "time   0    5    10": a number at every fifth unit that has room. */
static void print_scale(struct picture *picture, size_t first, size_t last)
{
	size_t step = picture->cell_width + 1;
	size_t room = (last - first) * step;
	char *line = malloc(room + 32);

	if (line == NULL) {
		picture->text.failed = true;
		return;
	}
	memset(line, ' ', room + 32);
	for (size_t unit = (first + 4) / 5 * 5; unit < last; unit += 5) {
		char number[24];
		int length = snprintf(number, sizeof(number), "%zu", unit);

		memcpy(line + (unit - first) * step + 1, number,
		       (size_t)length);
	}
	while (room > 0 && line[room - 1] == ' ')
		room--;
	text_builder_append(&picture->text, "%*s ",
			    (int)picture->rank_width + 5, "time");
	text_builder_append_bytes(&picture->text, line, room);
	text_builder_append(&picture->text, "\n");
	free(line);
}

static void print_block(struct picture *picture, size_t first, size_t last)
{
	print_scale(picture, first, last);
	for (unsigned rank = 0; rank < picture->schedule->ranks; rank++) {
		const struct unit *units =
			&picture->units[rank * picture->length];

		text_builder_append(&picture->text, "rank %*u |",
				    (int)picture->rank_width, rank);
		for (size_t unit = first; unit < last; unit++)
			print_cell(picture, &units[unit], unit + 1 == last);
		text_builder_append(&picture->text, "\n");
	}
}

static void print_legend(struct picture *picture,
			 const struct schedule_simulation *simulation)
{
	const struct schedule *schedule = picture->schedule;
	double share = simulation->makespan > 0
			       ? simulation->bubble / simulation->makespan
			       : 0;

	text_builder_append(
		&picture->text,
		"%s: %u ranks, %u stages, %u micro-batches; %g units, of which "
		"a rank waits %.4g (%.1f %%)\n",
		schedule->name, schedule->ranks, schedule->stages,
		schedule->micro_batches, simulation->makespan,
		simulation->bubble, 100 * share);
	if (picture->drawing->colour)
		text_builder_append(
			&picture->text,
			"\033[38;5;16m\033[48;5;75m F forward \033[0m "
			"\033[38;5;16m\033[48;5;214m I input gradient \033[0m "
			"\033[38;5;16m\033[48;5;36m W weight gradient \033[0m "
			"B is I, then W; one unit each\n");
	else
		text_builder_append(
			&picture->text,
			"F forward, I input gradient, W weight "
			"gradient, one unit each; B= both; . idle\n");
}

static void print(struct picture *picture,
		  const struct schedule_simulation *simulation)
{
	size_t step = picture->cell_width + 1;
	size_t margin = picture->rank_width + 7;
	size_t width = picture->drawing->width;
	size_t fit = width > margin + step ? (width - margin) / step : 1;

	if (width == 0)
		fit = picture->length;
	for (size_t first = 0; first < picture->length; first += fit)
		print_block(picture, first, MIN(first + fit, picture->length));
	print_legend(picture, simulation);
}

static int draw(const struct schedule *lowered,
		const struct schedule_drawing *drawing,
		const struct schedule_simulation *simulation, char **text)
{
	struct picture picture = {
		.schedule = lowered,
		.drawing = drawing,
		.length = (size_t)simulation->makespan,
		.cell_width = 1,
	};
	char number[16];

	if (picture.length > CELLS_MAX / lowered->ranks)
		return fail(-EFBIG,
			    "schedule %s is too large to draw (%u ranks "
			    "times %zu units); --csv writes it",
			    lowered->name, lowered->ranks, picture.length);
	/* One more, so that a last unit has a neighbour. */
	picture.units = calloc(picture.length * lowered->ranks + 1,
			       sizeof(*picture.units));
	if (picture.units == NULL)
		return fail(-ENOMEM, "no memory to draw a schedule");
	picture.rank_width = (size_t)snprintf(number, sizeof(number), "%u",
					      lowered->ranks - 1);
	place(&picture, simulation);
	text_builder_init(&picture.text);
	print(&picture, simulation);
	free(picture.units);
	*text = text_builder_finish(&picture.text);
	return *text ? 0 : fail(-ENOMEM, "no memory to draw a schedule");
}

static int simulate_units(const struct schedule *lowered,
			  struct schedule_simulation *simulation)
{
	double *unit = calloc(lowered->stages, sizeof(*unit));
	struct schedule_costs costs = {
		.forward = unit,
		.input = unit,
		.weight = unit,
		.buffers = SCHEDULE_BUFFERS_ANY,
	};
	int error;

	if (unit == NULL)
		return fail(-ENOMEM, "no memory to draw a schedule");
	for (unsigned stage = 0; stage < lowered->stages; stage++)
		unit[stage] = 1;
	error = schedule_simulate(lowered, &costs, true, simulation);
	free(unit);
	return error;
}

int schedule_draw(const struct schedule *schedule,
		  const struct schedule_drawing *drawing, char **text)
{
	struct schedule_simulation simulation;
	struct schedule *lowered;
	int error = schedule_lower(schedule, NULL, &lowered);

	if (error)
		return error;
	error = simulate_units(lowered, &simulation);
	if (!error) {
		error = draw(lowered, drawing, &simulation, text);
		schedule_simulation_fini(&simulation);
	}
	schedule_destroy(lowered);
	return error;
}
