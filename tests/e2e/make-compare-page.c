/*
 * Writes the page and the trace of a comparison, from the simulator alone: for
 * test-compare-page.sh, and for looking at a change of tools/pages/compare.html.
 * What stands for measured steps is simulated too, with seeded random costs.
 *
 *   make-compare-page [-p RANKS] [-m MICRO-BATCHES] [-s NAME,NAME...]
 *                     [-c BYTES] [-d] [-u] [-n] [-x] -o PAGE.html
 *                     [-t TRACE.json] [-j DOCUMENT.json]
 *
 * -c sets a cap of memory, -d forgets the bytes of the activations, -u
 * takes plain numbers for costs, -n measures nothing, -x names one schedule so that
 * a page that is not careful breaks.
 */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/json.h"
#include "base/random.h"
#include "engine/timeline.h"
#include "tools/compare_page.h"
#include "engine/trace_json.h"

#define STAGES_MAX    1024
#define MESSAGE_BYTES (3.0 * 1024 * 1024)
#define RANK_BYTES    (192.0 * 1024 * 1024)
#define HOSTILE_NAME  "</script><script>alert('\"x\"')</script><b>&amp;"

struct request {
	unsigned ranks;
	unsigned micro_batches;
	const char *names; /* "gpipe,1f1b"; NULL: all */
	double cap;        /* bytes; 0: none */
	bool bytes;
	bool unit;
	bool measured;
	bool hostile;
	const char *page;
	const char *trace;
	const char *document;
};

/* A schedule at hand, and what it costs. */
struct subject {
	const struct request *request;
	const struct schedule_kind *kind;
	struct schedule *lowered;
	double forward[STAGES_MAX], input[STAGES_MAX], weight[STAGES_MAX];
	double activation_bytes[STAGES_MAX];
	struct schedule_costs costs;
	struct schedule_simulation simulation;
};

static void die(const char *what)
{
	fprintf(stderr, "make-compare-page: %s\n", what);
	exit(1);
}

static void require(int error)
{
	if (error)
		die(strerror(-error));
}

static void set(json_t *object, const char *key, json_t *value)
{
	if (json_object_set_new(object, key, value))
		die("no memory");
}

/* ---- simulated, predicted and as if measured ---- */

/* A rank's slice takes 20 each of F, I and W; `spread` of it by chance. */
static void set_costs(struct subject *subject, double spread)
{
	const struct schedule *lowered = subject->lowered;
	double slice = (subject->request->unit ? 20e-3 : 20) / lowered->chunks;
	struct random_key key = random_key_named(7, lowered->name);

	if (lowered->stages > STAGES_MAX)
		die("too many stages");
	for (unsigned stage = 0; stage < lowered->stages; stage++) {
		double *costs[] = {&subject->forward[stage],
				   &subject->input[stage],
				   &subject->weight[stage]};

		for (unsigned i = 0; i < 3; i++)
			*costs[i] = slice *
				    (1 + spread * random_uniform(
							  key, 3 * stage + i));
		subject->activation_bytes[stage] = RANK_BYTES / lowered->chunks;
	}
	subject->costs = (struct schedule_costs){
		.forward = subject->forward,
		.input = subject->input,
		.weight = subject->weight,
		.latency = spread * slice / 4,
		.reduce = slice / 20,
		.reduce_tied = slice / 4,
		.vote = slice / 10,
		.buffers = SCHEDULE_BUFFERS_ANY,
		.activation_bytes = subject->activation_bytes,
	};
}

static void simulate(struct subject *subject, double spread,
		     struct timeline *timeline)
{
	set_costs(subject, spread);
	require(schedule_simulate(subject->lowered, &subject->costs, true,
				  &subject->simulation));
	require(timeline_from_simulation(subject->lowered, &subject->simulation,
					 timeline));
}

/*
 * What a simulation has none of: compute that ends early, sends that take a
 * moment of the wait behind them.
 */
static void roughen(struct timeline *timeline)
{
	struct random_key key = random_key_named(8, "rough");
	uint64_t drawn = 0;

	for (unsigned rank = 0; rank < timeline->ranks; rank++)
		for (size_t i = 0; i + 1 < timeline->rows[rank].count; i++) {
			struct timeline_event *event =
				&timeline->rows[rank].events[i];
			struct timeline_event *next = event + 1;
			double chance = random_uniform(key, drawn++);
			double length = event->end - event->start;

			if (event->action.op <= ACTION_BACKWARD)
				event->end -= 0.08 * chance * chance * length;
			else if (length == 0 && next->start == event->end &&
				 next->action.op > ACTION_BACKWARD)
				event->end = next->start +=
					0.3 * chance *
					(next->end - next->start);
		}
}

/* ---- the document ---- */

static double mean_bubble(const struct timeline *timeline)
{
	double idle = 0;

	for (unsigned rank = 0; rank < timeline->ranks; rank++) {
		struct timeline_share share;

		timeline_share(timeline, rank, &share);
		idle += 1 - share.compute / timeline->span;
	}
	return idle / timeline->ranks;
}

static json_t *bytes_sent(const struct schedule *lowered)
{
	json_t *list = json_array();

	for (unsigned rank = 0; rank < lowered->ranks; rank++) {
		const struct schedule_row *row = &lowered->rows[rank];
		double bytes = 0;

		for (size_t i = 0; i < row->count; i++)
			if (row->actions[i].op == ACTION_SEND_FORWARD ||
			    row->actions[i].op == ACTION_SEND_BACKWARD)
				bytes += MESSAGE_BYTES;
		json_array_append_new(list, json_integer((json_int_t)bytes));
	}
	return list;
}

static json_t *predicted(const struct subject *subject,
			 const struct timeline *timeline,
			 const struct schedule_report *report)
{
	const struct schedule_simulation *simulation = &subject->simulation;
	json_t *peaks = json_array();
	json_t *bytes = json_array();
	json_t *json = json_object();

	for (unsigned rank = 0; rank < simulation->ranks; rank++) {
		double peak = simulation->peak_activations[rank];

		json_array_append_new(
			peaks, json_real(peak / subject->lowered->chunks));
		json_array_append_new(bytes,
				      json_real(simulation->peak_bytes[rank]));
	}
	set(json, "step_time", json_real(timeline->span));
	set(json, "bubble", json_real(mean_bubble(timeline)));
	set(json, "peak_activations", peaks);
	set(json, "peak_bytes", subject->request->bytes ? bytes : json_null());
	if (!subject->request->bytes)
		json_decref(bytes);
	set(json, "bytes_sent", bytes_sent(subject->lowered));
	set(json, "buffers_safe", json_integer(report->buffers_safe));
	set(json, "buffers_full_speed",
	    json_integer(report->buffers_full_speed));
	return json;
}

static json_t *measured(const struct timeline *timeline, double predicted_time)
{
	double time = timeline->span;

	return json_pack("{sfsfsfsisfsf}", "step_time", time, "bubble",
			 mean_bubble(timeline), "error",
			 (time - predicted_time) / predicted_time, "steps", 9,
			 "best", time * 0.99, "worst", time * 1.04);
}

static json_t *unsigned_list(const unsigned *values, unsigned count)
{
	json_t *list = json_array();

	for (unsigned i = 0; i < count; i++)
		json_array_append_new(list, json_integer(values[i]));
	return list;
}

static json_t *stage_bytes(const struct subject *subject)
{
	json_t *list = json_array();

	for (unsigned i = 0; i < subject->lowered->stages; i++)
		json_array_append_new(list,
				      json_real(subject->activation_bytes[i]));
	return list;
}

static void describe(const struct subject *subject, json_t *json,
		     const struct schedule_report *report)
{
	const struct schedule *lowered = subject->lowered;

	set(json, "chunks", json_integer(lowered->chunks));
	set(json, "placement",
	    json_string(lowered->placement == SCHEDULE_PLACEMENT_V ? "V"
								   : "loop"));
	/* One that is not, so that the mark is seen. */
	set(json, "bit_identical",
	    json_boolean(report->bit_identical &&
			 !(subject->request->hostile &&
			   strcmp(lowered->name, "looped-bfs") == 0)));
	set(json, "rank_of_stage",
	    unsigned_list(lowered->rank_of_stage, lowered->stages));
	set(json, "activation_bytes",
	    subject->request->bytes ? stage_bytes(subject) : json_null());
}

static void add_to_trace(struct trace_json *trace,
			 const struct subject *subject, const char *variant,
			 const struct timeline *timeline)
{
	char name[128];

	if (trace == NULL)
		return;
	snprintf(name, sizeof(name), "%s, %s", subject->lowered->name, variant);
	trace_json_add_timeline(
		trace, trace_json_add_process(trace, name, timeline->ranks),
		timeline,
		&(struct trace_json_place){
			.scale = subject->request->unit ? 1 : 1e-3});
}

static void run_subject(struct subject *subject, json_t *json,
			struct trace_json *trace)
{
	struct schedule_report report;
	struct timeline timeline;
	double time;

	require(schedule_validate(subject->lowered, SCHEDULE_BUFFERS_ANY,
				  &report));
	simulate(subject, 0, &timeline);
	time = timeline.span;
	describe(subject, json, &report);
	set(json, "predicted", predicted(subject, &timeline, &report));
	set(json, "predicted_timeline", timeline_to_json(&timeline));
	add_to_trace(trace, subject, "predicted", &timeline);
	timeline_fini(&timeline);
	schedule_simulation_fini(&subject->simulation);
	schedule_report_fini(&report);
	if (!subject->request->measured)
		return;
	simulate(subject, 0.15, &timeline);
	roughen(&timeline);
	set(json, "measured", measured(&timeline, time));
	set(json, "measured_timeline", timeline_to_json(&timeline));
	add_to_trace(trace, subject, "measured", &timeline);
	timeline_fini(&timeline);
	schedule_simulation_fini(&subject->simulation);
}

static json_t *schedule_entry(const struct request *request,
			      const struct schedule_kind *kind,
			      struct trace_json *trace)
{
	const struct schedule_lowering lowering = {
		.train = true,
		.ties = &(struct schedule_tie){0, 0},
		.tie_count = 1,
	};
	struct subject *subject = calloc(1, sizeof(*subject));
	json_t *json = json_object();
	struct schedule *schedule;
	char why[256];

	if (subject == NULL)
		die("no memory");
	subject->request = request;
	subject->kind = kind;
	set(json, "name",
	    json_string(request->hostile && strcmp(kind->name, "gpipe") == 0
				? HOSTILE_NAME
				: kind->name));
	set(json, "title", json_string(kind->title));
	if (kind->check(request->ranks, request->micro_batches,
			kind->default_chunks, why, sizeof(why))) {
		set(json, "refused", json_string(why));
	} else {
		require(schedule_generate(kind->name, request->ranks,
					  request->micro_batches, 0,
					  &schedule));
		require(schedule_lower(schedule, &lowering, &subject->lowered));
		run_subject(subject, json, trace);
		schedule_destroy(subject->lowered);
		schedule_destroy(schedule);
	}
	free(subject);
	return json;
}

static bool is_wanted(const struct request *request, const char *name)
{
	size_t length = strlen(name);
	const char *at = request->names;

	if (strcmp(name, "forward") == 0)
		return false;
	while (at && *at) {
		size_t word = strcspn(at, ",");

		if (word == length && strncmp(at, name, length) == 0)
			return true;
		at += word + (at[word] == ',');
	}
	return request->names == NULL;
}

static json_t *document_of(const struct request *request,
			   struct trace_json *trace)
{
	json_t *schedules = json_array();
	json_t *json = json_object();
	char text[128];

	snprintf(text, sizeof(text), "Pipeline schedules, %u ranks",
		 request->ranks);
	set(json, "title", json_string(text));
	set(json, "ranks", json_integer(request->ranks));
	set(json, "micro_batches", json_integer(request->micro_batches));
	set(json, "unit", json_string(request->unit ? "s" : ""));
	set(json, "costs",
	    json_string(request->unit
				? "F 20 ms, I 20 ms, W 20 ms of a rank's slice"
				: "F 20, I 20, W 20 of a rank's slice"));
	set(json, "links", json_string("latency 0, no bandwidth limit"));
	set(json, "memory_cap",
	    request->cap > 0 ? json_real(request->cap) : json_null());
	set(json, "activation_unit",
	    json_string(request->bytes ? "bytes" : "micro-batches"));
	for (size_t i = 0; i < schedule_kind_count(); i++) {
		const struct schedule_kind *kind = schedule_kind_at(i);

		if (is_wanted(request, kind->name))
			json_array_append_new(
				schedules,
				schedule_entry(request, kind, trace));
	}
	set(json, "schedules", schedules);
	return json;
}

static void parse(int argc, char **argv, struct request *request)
{
	int option;

	while ((option = getopt(argc, argv, "p:m:s:c:dunxo:t:j:")) != -1) {
		switch (option) {
		case 'p':
			request->ranks = (unsigned)strtoul(optarg, NULL, 10);
			break;
		case 'm':
			request->micro_batches =
				(unsigned)strtoul(optarg, NULL, 10);
			break;
		case 's':
			request->names = optarg;
			break;
		case 'c':
			request->cap = strtod(optarg, NULL);
			break;
		case 'd':
			request->bytes = false;
			break;
		case 'u':
			request->unit = false;
			break;
		case 'n':
			request->measured = false;
			break;
		case 'x':
			request->hostile = true;
			break;
		case 'o':
			request->page = optarg;
			break;
		case 't':
			request->trace = optarg;
			break;
		case 'j':
			request->document = optarg;
			break;
		default:
			die("see the head of make-compare-page.c");
		}
	}
}

int main(int argc, char **argv)
{
	struct request request = {.ranks = 4,
				  .micro_batches = 8,
				  .bytes = true,
				  .unit = true,
				  .measured = true};
	struct trace_json *trace = NULL;
	json_t *document;

	parse(argc, argv, &request);
	if (request.page == NULL)
		die("-o PAGE.html is missing");
	if (request.trace)
		require(trace_json_create(request.trace, &trace));
	document = document_of(&request, trace);
	if (trace)
		require(trace_json_close(trace));
	if (request.document)
		require(json_write(request.document, document));
	require(compare_page_write(request.page, document));
	json_decref(document);
	return 0;
}
