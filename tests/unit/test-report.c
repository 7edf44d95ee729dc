/*
 * tools/report: what is read of a run, how curves are made narrower, and that
 * the page is whole, holds the numbers, and takes no text for markup.
 */
#include "base/files.h"
#include "base/log.h"
#include "engine/trace_json.h"
#include "tests/unit/cmocka-tap.h"
#include "tools/report/chart.h"
#include "tools/report/columns.h"
#include "tools/report/page.h"
#include "tools/report/record.h"
#include "tools/report/recorded_step.h"
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define PAGE_LIMIT ((size_t)16 << 20)

static unsigned errors, warnings;
static char last_line[4096];

static void keep_line(void *argument, enum log_level level, const char *line)
{
	(void)argument;
	errors += level == LOG_ERROR;
	warnings += level == LOG_WARNING;
	snprintf(last_line, sizeof(last_line), "%s", line);
}

static char folder[64];

static int make_folder(void **state)
{
	(void)state;
	snprintf(folder, sizeof(folder), "/tmp/test-report-XXXXXX");
	errors = warnings = 0;
	log_set_sink(keep_line, NULL);
	return mkdtemp(folder) ? 0 : -1;
}

static int remove_folder(void **state)
{
	(void)state;
	log_set_sink(NULL, NULL);
	return files_remove_tree(folder);
}

static void put_file(const char *name, const char *text)
{
	char path[FILES_PATH_BYTES];

	assert_int_equal(files_join(path, sizeof(path), folder, name), 0);
	assert_int_equal(files_replace(path, text, strlen(text)), 0);
}

/* ---- columns ---- */

#define LONG_COUNT 300000

static void long_curves(void **state)
{
	double *step = calloc(LONG_COUNT, sizeof(*step));
	double *value = calloc(LONG_COUNT, sizeof(*value));
	struct columns *c = malloc(sizeof(*c));
	unsigned gaps = 0, high = 0, low = 0;

	(void)state;
	assert_true(step && value && c);
	for (size_t i = 0; i < LONG_COUNT; i++) {
		step[i] = (double)i + (i < 100000 ? 1 : 20001);
		value[i] = 5;
	}
	value[77777] = 9;
	value[200001] = 1;
	value[250000] = NAN;
	value[250001] = INFINITY;
	assert_int_equal(columns_fill(step, value, LONG_COUNT, 100, c), 0);
	assert_false(c->whole);
	assert_true(c->count > COLUMNS_MAX / 2 && c->count <= COLUMNS_MAX);
	assert_int_equal(c->lost, 2);
	assert_true(c->high == 9 && c->low == 1);
	for (unsigned i = 0; i < c->count; i++) {
		gaps += i > 0 && !c->column[i].follows;
		high += c->column[i].high == 9;
		low += c->column[i].low == 1;
		assert_true(fabs(c->column[i].smooth - 5) < 0.05);
		assert_true(i == 0 ||
			    c->column[i].step > c->column[i - 1].step);
	}
	/* The steps that are missing, and those whose value is not finite. */
	assert_true(gaps >= 1 && gaps <= 2);
	assert_true(high == 1 && low == 1);
	free(step);
	free(value);
	free(c);
}

static void short_curves(void **state)
{
	double step[100], value[100];
	struct columns *c = malloc(sizeof(*c));

	(void)state;
	assert_non_null(c);
	for (unsigned i = 0; i < 100; i++) {
		step[i] = i + 1;
		value[i] = 3 * i;
	}
	assert_int_equal(columns_fill(step, value, 100, 4, c), 0);
	assert_true(c->whole && c->count == 100);
	/* The mean of a line lies on it: it does not lag. */
	assert_true(fabs(c->column[50].smooth - 150) < 1e-3);
	assert_true(c->column[0].smooth > 0 && c->column[0].smooth < 30);
	assert_int_equal(columns_fill(step, value, 100, 1, c), 0);
	for (unsigned i = 0; i < 100; i++)
		assert_true(c->column[i].smooth == value[i]);
	assert_int_equal(columns_fill(step, value, 0, 4, c), 0);
	assert_int_equal(c->count, 0);
	value[0] = NAN;
	assert_int_equal(columns_fill(step, value, 1, 4, c), 0);
	assert_int_equal(c->count, 0);
	assert_int_equal(c->lost, 1);
	free(c);
}

static void round_ticks(void **state)
{
	double ticks[COLUMNS_TICKS_MAX];

	(void)state;
	assert_int_equal(columns_ticks(0, 10, false, ticks), 6);
	assert_true(ticks[0] == 0 && !signbit(ticks[0]) && ticks[5] == 10);
	assert_int_equal(columns_ticks(1, 3, true, ticks), 3);
	assert_true(ticks[0] == 1 && ticks[2] == 3);
	assert_int_equal(columns_ticks(7, 7, false, ticks), 1);
	assert_int_equal(columns_log_ticks(0.05, 2000, ticks), 5);
	assert_true(fabs(ticks[0] - 0.1) < 1e-12 && ticks[4] == 1000);
	assert_true(columns_log_ticks(1e-300, 1e300, ticks) <=
		    COLUMNS_TICKS_MAX);
}

/* ---- metrics ---- */

static void parse(const char *text, struct record *out)
{
	*out = (struct record){0};
	assert_int_equal(record_read_metrics(text, strlen(text), "m", out), 0);
}

static double loss_at(const struct record *record, size_t i)
{
	return record->steps.column[RECORD_LOSS][i];
}

static void metrics_of_a_run(void **state)
{
	struct record r;

	(void)state;
	parse("{\"step\":0,\"val_loss\":6.5,\"val_tokens\":7}\n"
	      "{\"step\":1,\"loss\":5.25,\"bubble\":0.5,\"new\":3}\n"
	      "{\"step\":2,\"loss\":null,\"bubble\":0.25}\n"
	      "{ \"loss\" : 4, \"step\" : 3, \"grad_norm\": \"high\" }\n"
	      "{\"step\":3,\"val_loss\":null}\n"
	      "{\"step\":4,\"lo",
	      &r);
	assert_int_equal(warnings, 0);
	assert_int_equal(r.bad_lines, 0);
	assert_int_equal(r.steps.count, 3);
	assert_true(loss_at(&r, 0) == 5.25 && isnan(loss_at(&r, 1)) &&
		    loss_at(&r, 2) == 4);
	assert_true(r.steps.column[RECORD_BUBBLE][1] == 0.25);
	assert_true(isnan(r.steps.column[RECORD_GRADIENT_NORM][2]));
	assert_int_equal(r.evaluation_count, 2);
	assert_true(r.evaluations[0].loss == 6.5 &&
		    r.evaluations[0].tokens == 7 &&
		    isnan(r.evaluations[1].loss));
	assert_true(record_last_step(&r) == 3);
	record_fini(&r);
}

static void steps_go_back(void **state)
{
	struct record r;

	(void)state;
	parse("{\"step\":1,\"loss\":1}\n{\"step\":2,\"loss\":2}\n"
	      "{\"step\":2,\"val_loss\":2}\n{\"step\":3,\"loss\":3}\n"
	      "{\"step\":3,\"val_loss\":3}\n{\"step\":3,\"loss\":30}\n"
	      "{\"step\":4,\"loss\":40}\n",
	      &r);
	assert_int_equal(r.returns, 1);
	assert_int_equal(r.steps.count, 4);
	assert_true(loss_at(&r, 2) == 30);
	assert_int_equal(r.evaluation_count, 1);
	record_fini(&r);
}

/* None of these is a line of metrics, though some begin like one. */
static void bad_lines(void **state)
{
	static const char *const lines[] = {
		"",
		"{}",
		"[1]",
		"null",
		"{\"step\":1}",
		"{\"loss\":1}",
		"{\"step\":1,\"loss\":1",
		"{\"step\":1,\"loss\":NaN}",
		"{\"step\":1,\"loss\":-inf}",
		"{\"step\":1,\"loss\":0x10}",
		"{\"step\":1,\"loss\":1}}",
		"{\"step\":1,\"loss\":}",
		"{\"step\":1,\"loss\"}",
		"{\"step\":1,\"loss\":1,}",
		"{\"step\":-1,\"loss\":1}",
		"{\"step\":1e300,\"loss\":1}",
		"{\"step\":null,\"loss\":1}",
		"{\"step\":0,\"loss\":1}",
		"{\"step\":\"1\",\"loss\":1}",
		"\x80\xff{\"step\":1,\"loss\":1}",
	};
	char text[256];
	struct record r;

	(void)state;
	for (unsigned i = 0; i < ARRAY_SIZE(lines); i++) {
		snprintf(text, sizeof(text), "%s\n", lines[i]);
		r = (struct record){0};
		errors = warnings = 0;
		if (record_read_metrics(text, strlen(text), "m", &r) !=
			    -EINVAL ||
		    errors != 1 || warnings != 0)
			fail_msg("taken for a line: %s", lines[i]);
		record_fini(&r);
		snprintf(text, sizeof(text), "{\"step\":1,\"loss\":1}\n%s\n",
			 lines[i]);
		errors = 0;
		parse(text, &r);
		if (r.steps.count != 1 || r.bad_lines != 1 || warnings != 1 ||
		    errors != 0 || !strstr(last_line, "line 2 "))
			fail_msg("not told of: %s", lines[i]);
		record_fini(&r);
	}
	r = (struct record){0};
	assert_int_equal(record_read_metrics("", 0, "m", &r), -EINVAL);
	assert_non_null(strstr(last_line, "no step is done yet"));
	record_fini(&r);
}

/* ---- traces ---- */

static struct timeline_event event(unsigned op, unsigned stage, double start,
				   double end)
{
	return (struct timeline_event){
		.action = {.op = (uint16_t)op, .stage = (uint16_t)stage},
		.start = start,
		.end = end};
}

/* Three steps of two ranks, as train --trace writes them. */
static void write_trace(const char *path)
{
	struct trace_json *trace;

	assert_int_equal(trace_json_create(path, &trace), 0);
	assert_int_equal(trace_json_add_process(trace, "x<y", 2), 0);
	for (unsigned s = 0; s < 3; s++) {
		double unit = s == 1 ? 3 : s + 1;
		struct timeline_event first[] = {
			event(ACTION_FORWARD, 0, 0, unit),
			event(ACTION_SEND_FORWARD, 0, unit, 1.5 * unit),
			event(ACTION_BACKWARD, 0, 3 * unit, 4 * unit),
		};
		struct timeline_event second[] = {
			event(ACTION_RECV_FORWARD, 1, 0, unit),
			event(ACTION_FORWARD, 1, unit, 2 * unit),
			event(ACTION_BACKWARD, 1, 2 * unit, 3 * unit),
			event(ACTION_STEP, 1, 3 * unit, 3.5 * unit),
		};
		struct timeline_row rows[] = {{first, ARRAY_SIZE(first)},
					      {second, ARRAY_SIZE(second)}};
		const struct timeline timeline = {
			.ranks = 2, .rows = rows, .span = 4 * unit};
		const struct trace_json_place place = {
			.scale = 1, .offset = 100 * s, .step = s + 2};

		trace_json_add_timeline(trace, 0, &timeline, &place);
	}
	assert_int_equal(trace_json_close(trace), 0);
}

static void recorded(void **state)
{
	struct recorded_step r;
	char path[FILES_PATH_BYTES], *text;
	size_t length;

	(void)state;
	assert_int_equal(files_join(path, sizeof(path), folder, "trace.json"),
			 0);
	assert_int_equal(recorded_step_read(path, &r), 0);
	assert_int_equal(r.ranks, 0);
	write_trace(path);
	assert_int_equal(recorded_step_read(path, &r), 0);
	assert_string_equal(r.schedule, "x<y");
	assert_int_equal(r.ranks, 2);
	assert_int_equal(r.steps, 3);
	assert_int_equal(r.stages, 2);
	assert_int_equal(r.chunks, 1);
	/* Their lengths are 4, 12 and 12. */
	assert_true(r.step == 3 || r.step == 4);
	assert_true(fabs(r.timeline.span - 12) < 1e-6);
	assert_int_equal(r.timeline.rows[1].count, 4);
	/* A mean unit is (1 + 3 + 3) / 3. */
	assert_true(fabs(r.seconds[0][RECORDED_FORWARD] - 7. / 3) < 1e-6);
	assert_true(fabs(r.seconds[0][RECORDED_SEND] - 3.5 / 3) < 1e-6);
	assert_true(fabs(r.seconds[0][RECORDED_IDLE] - 10.5 / 3) < 1e-6);
	assert_true(fabs(r.seconds[1][RECORDED_WAIT] - 7. / 3) < 1e-6);
	assert_true(fabs(r.seconds[1][RECORDED_END] - 3.5 / 3) < 1e-6);
	recorded_step_fini(&r);

	/* Cut anywhere it is read without harm. */
	assert_int_equal(files_read(path, 1 << 20, &text, &length), 0);
	for (size_t cut = 0; cut < length; cut += 37) {
		assert_int_equal(files_replace(path, text, cut), 0);
		assert_int_equal(recorded_step_read(path, &r), 0);
		assert_true(r.steps <= 3);
		recorded_step_fini(&r);
	}
	free(text);
	warnings = 0;
	put_file("trace.json", "{\"traceEvents\":[\n{\"ph\":\"X\"}]}\n");
	assert_int_equal(recorded_step_read(path, &r), 0);
	assert_int_equal(r.ranks, 0);
	assert_int_equal(warnings, 1);
	recorded_step_fini(&r);
}

/* ---- the page ---- */

static const struct option_spec table[] = {
	{.name = "data", .kind = OPTION_STRING, .group = "In", .help = "\"<h>"},
	{.name = "stages",
	 .kind = OPTION_INTEGER,
	 .fallback = "1",
	 .help = "how many"},
	{.name = NULL},
};

static bool is_void(const char *name)
{
	static const char *const names[] = {"meta", "input", "br"};

	for (unsigned i = 0; i < ARRAY_SIZE(names); i++)
		if (strcmp(names[i], name) == 0)
			return true;
	return false;
}

/* The end of a tag that begins behind '<'; quotes may hold anything but '<'. */
static const char *tag_end(const char *at)
{
	bool quoted = false;

	for (; *at && (quoted || *at != '>'); at++) {
		if (*at == '<')
			fail_msg("a '<' in a tag: %.60s", at);
		quoted ^= *at == '"';
	}
	if (!*at)
		fail_msg("a tag without an end");
	return at;
}

#define DEPTH_MAX 64

/* Every element ends, in the order that fits. Returns how many there are. */
static unsigned check_balance(const char *page)
{
	static char open[DEPTH_MAX][32];
	unsigned depth = 0, count = 0;
	const char *at = page;

	while ((at = strchr(at, '<'))) {
		bool end = at[1] == '/';
		const char *name = at + 1 + end;
		const char *close;
		char text[32] = "";

		if (name[0] == '!') {
			at = strncmp(name, "!--", 3) ? tag_end(name)
						     : strstr(name, "-->");
			assert_non_null(at);
			continue;
		}
		snprintf(text, sizeof(text), "%.*s",
			 (int)strspn(name, "abcdefghijklmnopqrstuvwxyz123456"),
			 name);
		if (!text[0])
			fail_msg("no tag: %.60s", at);
		close = tag_end(name);
		at = close + 1;
		if (end) {
			if (!depth || strcmp(open[--depth], text) != 0)
				fail_msg("</%s> ends <%s>", text, open[depth]);
		} else if (close[-1] != '/' && !is_void(text)) {
			assert_true(depth < DEPTH_MAX);
			memcpy(open[depth++], text, sizeof(text));
			count++;
			if (strcmp(text, "script") == 0 ||
			    strcmp(text, "style") == 0) {
				char ending[40];

				snprintf(ending, sizeof(ending), "</%s>", text);
				at = strstr(at, ending);
				assert_non_null(at);
			}
		}
	}
	assert_int_equal(depth, 0);
	return count;
}

static void make_run(const char *evil)
{
	static const char history[] =
		"{\"event\":\"start\",\"time\":1700000000.5,\"step\":0,"
		"\"steps\":4,\"replicas\":2,\"positions\":1,\"slices\":2,"
		"\"chunks\":1,\"transport\":\"shm\",\"hosts\":"
		"[\"a\",\"<host>\",\"c\",\"d\"]}\n"
		"{\"event\":\"checkpoint\",\"time\":1700000009,\"step\":2,"
		"\"seconds\":0.25,\"written\":true,\"resident_bytes\":"
		"[3221225472,1,2,3],\"peak_bytes\":[4294967296,1,2,3]}\n"
		"{\"event\":\"checkpoint\",\"time\":1700000010,\"step\":3,"
		"\"seconds\":0.25,\"written\":false}\n"
		"{\"event\":\"<odd>\"}\n{\"event\":\"torn";
	json_t *run = json_pack("{s:{s:s, s:s, s:s, s:i, s:i}, s:{s:s}, s:s}",
				"options", "data", evil, "schedule", evil,
				"arch", evil, "stages", 1, "steps", 4,
				"numerics", "blas", evil, "version", evil);
	char *text = json_dumps(run, 0);

	assert_non_null(text);
	put_file("run.json", text);
	free(text);
	json_decref(run);
	put_file("metrics.jsonl",
		 "{\"step\":0,\"val_loss\":6.125}\n"
		 "{\"step\":1,\"loss\":5.0625,\"grad_norm\":2,\"lr\":0.001,"
		 "\"tokens\":1024,\"tokens_per_second\":2048,"
		 "\"step_seconds\":0.5,\"bubble\":0.25}\n"
		 "{\"step\":2,\"loss\":4.03125,\"grad_norm\":90}\n"
		 "{\"step\":4,\"loss\":3.015625,\"grad_norm\":1,"
		 "\"tokens_per_second\":1e9,\"bubble\":0.5}\n");
	put_file("history.jsonl", history);
}

static char *make_page(bool traced)
{
	char path[FILES_PATH_BYTES], *page;
	struct record record;
	struct recorded_step recorded = {0};
	struct costs_row rows[] = {
		{.name = "a<b", .forward = 1, .input = 2, .weight = 3}};
	const struct costs costs = {.seconds = true,
				    .kind = COSTS_LAYERS,
				    .count = 1,
				    .rows = rows};
	const struct report report = {.record = &record,
				      .recorded = &recorded,
				      .costs = &costs,
				      .options = table};
	size_t length;

	assert_int_equal(files_join(path, sizeof(path), folder, "trace.json"),
			 0);
	if (traced)
		write_trace(path);
	assert_int_equal(recorded_step_read(path, &recorded), 0);
	assert_int_equal(record_read(folder, &record), 0);
	assert_int_equal(files_join(path, sizeof(path), folder, "page.html"),
			 0);
	assert_int_equal(report_page_write(path, &report), 0);
	assert_int_equal(files_read(path, PAGE_LIMIT, &page, &length), 0);
	assert_int_equal(strlen(page), length);
	record_fini(&record);
	recorded_step_fini(&recorded);
	return page;
}

static void has(const char *page, const char *text)
{
	if (!strstr(page, text))
		fail_msg("the page has no %s", text);
}

static void page_of_a_run(void **state)
{
	char *page;

	(void)state;
	make_run("plain");
	page = make_page(false);
	assert_true(check_balance(page) > 100);
	has(page, "3.0156");  /* the last loss */
	has(page, "6.1250");  /* the validation loss */
	has(page, "457.14");  /* its perplexity: exp(6.125) */
	has(page, "1,024");   /* tokens */
	has(page, "3.0 GiB"); /* what rank 0 holds */
	has(page, "replica 1, slice 1");
	has(page, "could not be written");
	has(page, "no metrics of steps 3 to 3");
	has(page, ", log scale");
	has(page, "computing, sending 312.5 ms"); /* bubble 0.375, median */
	assert_null(strstr(page, "nan"));
	assert_null(strstr(page, "inf\""));
	free(page);
	page = make_page(true);
	assert_true(check_balance(page) > 120);
	has(page, "the median of 3 recorded steps (2 to 4)");
	has(page, "0F0: ");
	has(page, "x&lt;y");
	assert_null(strstr(page, "computing, sending"));
	free(page);
}

static unsigned count_text(const char *page, const char *text)
{
	unsigned count = 0;

	for (; (page = strstr(page, text)); page++)
		count++;
	return count;
}

static void hostile_texts(void **state)
{
	static const char *const evil[] = {
		"</script><script>alert(1)</script>",
		"\"><img src=x onerror=alert(1)>",
		"<!-- --> ]]> </title></style>",
		"@BODY@@CURVES@%s%n%5000000d",
		"&lt;&#60;\x01\x7f\x1b[2J",
	};
	unsigned elements;
	char *page;

	(void)state;
	make_run("plain");
	page = make_page(true);
	elements = check_balance(page);
	has(page, "&lt;host&gt;");
	has(page, "a&lt;b");
	free(page);
	for (unsigned i = 0; i < ARRAY_SIZE(evil); i++) {
		make_run(evil[i]);
		page = make_page(true);
		/* No element more or less. */
		assert_int_equal(check_balance(page), elements);
		assert_int_equal(count_text(page, "<script"), 2);
		assert_null(strstr(page, "<img"));
		assert_null(strchr(page, 1));
		assert_null(strchr(page, 27));
		free(page);
	}
}

/* A run of which next to nothing is known has a page all the same. */
static void bare_run(void **state)
{
	char *page;

	(void)state;
	put_file("run.json", "{\"options\":{},\"numerics\":{}}");
	put_file("metrics.jsonl", "{\"step\":0,\"val_loss\":2}\n");
	page = make_page(false);
	check_balance(page);
	assert_null(strstr(page, "nan"));
	free(page);
	put_file("metrics.jsonl", "{\"step\":7,\"loss\":2}\n");
	put_file("history.jsonl", "\n\x80{[\n");
	page = make_page(false);
	check_balance(page);
	has(page, "2.0000");
	assert_null(strstr(page, "nan"));
	free(page);
	assert_int_equal(errors, 0);
}

static void refused(void **state)
{
	struct record record;

	(void)state;
	assert_int_equal(record_read("/nowhere", &record), -ENOENT);
	record_fini(&record);
	assert_int_equal(record_read(folder, &record), -ENOENT);
	assert_non_null(strstr(last_line, "run.json"));
	record_fini(&record);
	put_file("run.json", "{\"options\":");
	assert_int_equal(record_read(folder, &record), -EINVAL);
	record_fini(&record);
	put_file("run.json", "{\"options\":{},\"numerics\":{}}");
	assert_int_equal(record_read(folder, &record), -ENOENT);
	assert_non_null(strstr(last_line, "metrics.jsonl"));
	record_fini(&record);
	put_file("metrics.jsonl", "");
	assert_int_equal(record_read(folder, &record), -EINVAL);
	record_fini(&record);
	assert_int_equal(errors, 5);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(long_curves),
		cmocka_unit_test(short_curves),
		cmocka_unit_test(round_ticks),
		cmocka_unit_test_setup_teardown(metrics_of_a_run, make_folder,
						remove_folder),
		cmocka_unit_test_setup_teardown(steps_go_back, make_folder,
						remove_folder),
		cmocka_unit_test_setup_teardown(bad_lines, make_folder,
						remove_folder),
		cmocka_unit_test_setup_teardown(recorded, make_folder,
						remove_folder),
		cmocka_unit_test_setup_teardown(page_of_a_run, make_folder,
						remove_folder),
		cmocka_unit_test_setup_teardown(hostile_texts, make_folder,
						remove_folder),
		cmocka_unit_test_setup_teardown(bare_run, make_folder,
						remove_folder),
		cmocka_unit_test_setup_teardown(refused, make_folder,
						remove_folder),
	};

	return RUN_TESTS("report", tests);
}
