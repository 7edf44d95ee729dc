/*
 * Costs: what files may say, what the messages name, and what the simulator
 * gets of each form.
 */
#include "base/files.h"
#include "base/log.h"
#include "engine/costs.h"
#include "engine/costs_grid.h"
#include "model/model.h"
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static void ignore_line(void *argument, enum log_level level, const char *line)
{
	(void)argument;
	(void)level;
	(void)line;
}

static int read_text(const char *text, struct costs *out)
{
	json_t *json = json_loads(text, 0, NULL);
	int rc;

	assert_non_null(json);
	rc = costs_from_json(json, "costs.json", out);
	json_decref(json);
	return rc;
}

#define HEAD "{\"format\": \"stagecoach-costs-1\", "

static const char full[] =
	HEAD "\"unit\": \"seconds\", \"layers\": ["
	     "{\"name\": \"embedding\", \"forward\": 0.5, \"weight\": 0.25},"
	     "{\"name\": \"transformer.h.0\", \"forward\": 1, \"input\": 2,"
	     " \"weight\": 3, \"activation_bytes\": 100, \"pending_bytes\": 7,"
	     " \"gradient_bytes\": 512},"
	     "{\"name\": \"transformer.h.1\", \"forward\": 4, \"input\": 5,"
	     " \"weight\": 6, \"activation_bytes\": 200},"
	     "{\"name\": \"head\", \"forward\": 8}],"
	     "\"micro_batch_size\": 2, \"context\": 256, \"threads\": 3,"
	     "\"message_bytes\": 4096, \"tied_bytes\": 65536,"
	     "\"latency\": 1e-5, \"bandwidth\": 4e9, \"send\": 2e-5,"
	     "\"receive\": 3e-5, \"reduce_tied\": 0.125, \"vote\": 0.25,"
	     "\"step\": 0.5, \"slices\": 2, \"replica_latency\": 1e-4,"
	     "\"replica_bandwidth\": 1e9, \"tensor_latency\": 2e-6,"
	     "\"tensor_bandwidth\": 8e9, \"replica_early\": 0.75,"
	     "\"add\": 1e-10}";

static void check_full(const struct costs *costs)
{
	assert_true(costs->seconds);
	assert_int_equal(costs->kind, COSTS_LAYERS);
	assert_int_equal(costs->count, 4);
	assert_string_equal(costs->rows[1].name, "transformer.h.0");
	assert_true(costs->rows[0].forward == 0.5);
	assert_true(costs->rows[0].input == 0);
	assert_true(costs->rows[0].weight == 0.25);
	assert_true(costs->rows[1].input == 2);
	assert_true(costs->rows[1].activation_bytes == 100);
	assert_true(costs->rows[1].pending_bytes == 7);
	assert_true(costs->rows[3].forward == 8);
	assert_int_equal(costs->micro_batch_size, 2);
	assert_int_equal(costs->context, 256);
	assert_int_equal(costs->threads, 3);
	assert_true(costs->message_bytes == 4096);
	assert_true(costs->tied_bytes == 65536);
	assert_true(costs->latency == 1e-5);
	assert_true(costs->bandwidth == 4e9);
	assert_true(costs->send == 2e-5);
	assert_true(costs->receive == 3e-5);
	assert_true(costs->reduce_tied == 0.125);
	assert_true(costs->vote == 0.25);
	assert_true(costs->step == 0.5);
	assert_true(costs->rows[1].gradient_bytes == 512);
	assert_int_equal(costs->slices, 2);
	assert_true(costs->replica_latency == 1e-4);
	assert_true(costs->replica_bandwidth == 1e9);
	assert_true(costs->tensor_latency == 2e-6);
	assert_true(costs->tensor_bandwidth == 8e9);
	assert_true(costs->replica_early == 0.75 && costs->add == 1e-10);
}

static void a_file_is_read(void **state)
{
	struct costs costs;

	(void)state;
	assert_int_equal(read_text(full, &costs), 0);
	check_full(&costs);
	assert_string_equal(costs.origin, "costs.json");
	costs_fini(&costs);
	assert_null(costs.rows);
}

static void absent_is_zero(void **state)
{
	struct costs costs;

	(void)state;
	assert_int_equal(
		read_text(HEAD "\"stages\": [{}, {\"input\": 2}]}", &costs), 0);
	assert_false(costs.seconds);
	assert_int_equal(costs.kind, COSTS_STAGES);
	assert_int_equal(costs.count, 2);
	assert_true(costs.rows[0].forward == 0);
	assert_true(costs.rows[1].input == 2);
	assert_true(costs.bandwidth == 0);
	assert_int_equal(costs.threads, 0);
	costs_fini(&costs);
}

static void what_is_written_is_read(void **state)
{
	static const char *const texts[] = {
		full,
		HEAD "\"ranks\": [{\"forward\": 0.1}, {\"weight\": 1e-9}]}",
		HEAD "\"unit\": \"\", \"slice\": [{\"forward\": 1,"
		     "\"input\": 2, \"weight\": 3}], \"bandwidth\": 0.3}",
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
		struct costs first, second;
		json_t *json, *again;

		assert_int_equal(read_text(texts[i], &first), 0);
		json = costs_to_json(&first);
		assert_non_null(json);
		assert_int_equal(costs_from_json(json, "again", &second), 0);
		again = costs_to_json(&second);
		assert_true(json_equal(json, again));
		assert_int_equal(second.kind, first.kind);
		if (i == 0)
			check_full(&second);
		json_decref(json);
		json_decref(again);
		costs_fini(&first);
		costs_fini(&second);
	}
}

/* What is wrong, and what the message must name. */
static const struct {
	const char *text;
	const char *named;
} broken[] = {
	{"[1]", "expected an object"},
	{"{}", "stagecoach-costs-1"},
	{"{\"format\": \"stagecoach-costs-2\"}", "stagecoach-costs-1"},
	{"{\"format\": 1}", "stagecoach-costs-1"},
	{HEAD "\"unit\": \"hours\", \"ranks\": [{}]}", "\"hours\""},
	{HEAD "\"unit\": 3, \"ranks\": [{}]}", "unit: expected"},
	{HEAD "\"unit\": \"\"}", "has no rows"},
	{HEAD "\"ranks\": [{}], \"layers\": [{}]}", "\"ranks\" and \"layers\""},
	{HEAD "\"ranks\": []}", "not 0"},
	{HEAD "\"ranks\": {}}", "ranks: expected an array, not {}"},
	{HEAD "\"slice\": [{}, {}]}", "not 2"},
	{HEAD "\"ranks\": [{}, 3]}", "ranks[1]: expected an object, not 3"},
	{HEAD "\"unit\": \"seconds\", \"layers\": [{}, {}, {},"
	      "{\"forward\": \"abc\"}]}",
	 "costs.json: layers[3].forward: expected a number of seconds, not \"abc\""},
	{HEAD "\"layers\": [{\"forward\": true}]}",
	 "layers[0].forward: expected a number, not true"},
	{HEAD "\"layers\": [{\"weight\": null}]}",
	 "layers[0].weight: expected a number, not null"},
	{HEAD "\"layers\": [{\"input\": -1}]}",
	 "layers[0].input: expected a number from 0 to 1e30, not -1"},
	{HEAD "\"layers\": [{\"pending_bytes\": 1e31}]}", "pending_bytes"},
	{HEAD "\"layers\": [{\"activation_bytes\": []}]}",
	 "expected a number of bytes, not []"},
	{HEAD "\"layers\": [{\"foward\": 1}]}",
	 "layers[0].foward: no such key; did you mean 'forward'?"},
	{HEAD "\"layers\": [{\"name\": 5}]}", "layers[0].name: expected"},
	{HEAD "\"layers\": [{\"name\": \"a\\u001bb\"}]}", "layers[0].name"},
	{HEAD "\"layers\": [{\"name\": \"a layer whose name is longer than 47 "
	      "bytes can hold\"}]}",
	 "layers[0].name"},
	{HEAD "\"ranks\": [{\"name\": \"one\"}]}",
	 "ranks[0].name: no such key"},
	{HEAD "\"ranks\": [{}], \"latencies\": 1}",
	 "latencies: no such key; did you mean 'latency'?"},
	{HEAD "\"ranks\": [{}], \"latency\": \"1\"}",
	 "latency: expected a number, not \"1\""},
	{HEAD "\"ranks\": [{}], \"bandwidth\": {}}",
	 "expected bytes a unit of time"},
	{HEAD "\"ranks\": [{}], \"threads\": 1.5}",
	 "threads: expected a whole number, not 1.5"},
	{HEAD "\"ranks\": [{}], \"context\": -1}", "context"},
	{HEAD "\"ranks\": [{}], \"context\": 4294967296}", "context"},
	{HEAD "\"slice\": [{}], \"replica_early\": 1.5}",
	 "replica_early: expected a number from 0 to 1, not 1.5"},
};

static void broken_files_are_refused(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(broken); i++) {
		struct costs costs = {.count = 77};

		log_clear_last_error();
		if (read_text(broken[i].text, &costs) != -EINVAL)
			fail_msg("taken: %s", broken[i].text);
		if (!strstr(log_last_error(), broken[i].named))
			fail_msg("%s: '%s' does not say '%s'", broken[i].text,
				 log_last_error(), broken[i].named);
		assert_null(costs.rows);
		costs_fini(&costs);
	}
}

static void too_many_rows(void **state)
{
	json_t *json = json_pack("{s:s}", "format", "stagecoach-costs-1");
	json_t *rows = json_array();
	struct costs costs;

	(void)state;
	for (unsigned i = 0; i < COSTS_ROWS_MAX; i++)
		json_array_append_new(rows, json_object());
	json_object_set(json, "layers", rows);
	assert_int_equal(costs_from_json(json, "costs.json", &costs), 0);
	assert_int_equal(costs.count, COSTS_ROWS_MAX);
	costs_fini(&costs);
	json_array_append_new(rows, json_object());
	assert_int_equal(costs_from_json(json, "costs.json", &costs), -EINVAL);
	costs_fini(&costs);
	json_decref(rows);
	json_decref(json);
}

/* ---- costs_open ---- */

static void three_numbers(void **state)
{
	static const char *const bad[] = {"1,2",    "1,2,3,4", "1,,3",
					  "1,2,-3", "1,2,nan", "1,2,x",
					  ",,",     "1,2,3,"};
	struct costs costs;

	(void)state;
	assert_int_equal(costs_open("1,0.5,1e-3", &costs), 0);
	assert_int_equal(costs.kind, COSTS_SLICE);
	assert_int_equal(costs.count, 1);
	assert_false(costs.seconds);
	assert_true(costs.rows[0].forward == 1);
	assert_true(costs.rows[0].input == 0.5);
	assert_true(costs.rows[0].weight == 1e-3);
	assert_string_equal(costs.origin, "--costs 1,0.5,1e-3");
	costs_fini(&costs);
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		assert_int_equal(costs_open(bad[i], &costs), -EINVAL);
		assert_non_null(strstr(log_last_error(), bad[i]));
		assert_null(costs.rows);
	}
}

static void write_file(const char *path, const char *text)
{
	assert_int_equal(files_replace(path, text, strlen(text)), 0);
}

static void files_and_folders(void **state)
{
	char folder[] = "/tmp/stagecoach-costs.XXXXXX";
	char path[256], other[256];
	struct costs costs;

	(void)state;
	assert_non_null(mkdtemp(folder));
	snprintf(path, sizeof(path), "%s/costs.json", folder);
	snprintf(other, sizeof(other), "%s/other.json", folder);
	assert_int_equal(costs_open(folder, &costs), -ENOENT);
	assert_non_null(strstr(log_last_error(), "train --trace"));
	assert_int_equal(costs_open(path, &costs), -ENOENT);
	assert_non_null(strstr(log_last_error(), path));
	write_file(path, full);
	assert_int_equal(costs_open(path, &costs), 0);
	check_full(&costs);
	/* A path of its own name comes back the same. */
	assert_int_equal(costs_write(&costs, other), 0);
	costs_fini(&costs);
	assert_int_equal(costs_open(other, &costs), 0);
	check_full(&costs);
	costs_fini(&costs);
	assert_int_equal(costs_open(folder, &costs), 0);
	check_full(&costs);
	assert_string_equal(costs.origin, path);
	costs_fini(&costs);
	write_file(other, "{\"format\": ");
	assert_int_equal(costs_open(other, &costs), -EINVAL);
	costs_fini(&costs);
	assert_int_equal(files_remove_tree(folder), 0);
}

/* ---- what the simulator gets ---- */

static struct schedule *interleaved(unsigned ranks, unsigned chunks)
{
	struct schedule *schedule;

	assert_int_equal(schedule_generate(chunks > 1 ? "interleaved" : "1f1b",
					   ranks, 4, chunks, &schedule),
			 0);
	return schedule;
}

static void layers_are_summed(void **state)
{
	static struct partition split = {.stages = 2, .first = {0, 2, 4}};
	struct schedule *schedule = interleaved(2, 1);
	struct schedule_costs out;
	struct costs costs;
	double *storage;

	(void)state;
	assert_int_equal(read_text(full, &costs), 0);
	assert_int_equal(
		costs_of_stages(&costs, schedule, &split, &out, &storage), 0);
	assert_true(out.forward[0] == 1.5 && out.forward[1] == 12);
	assert_true(out.input[0] == 2 && out.input[1] == 5);
	assert_true(out.weight[0] == 3.25 && out.weight[1] == 6);
	assert_true(out.activation_bytes[0] == 100);
	assert_true(out.activation_bytes[1] == 200);
	assert_true(out.latency == 1e-5 && out.bandwidth == 4e9);
	assert_true(out.message_bytes == 4096);
	assert_true(out.reduce_tied == 0.125 && out.vote == 0.25);
	assert_int_equal(out.buffers, SCHEDULE_BUFFERS_ANY);
	assert_false(out.loss_weight_in_forward);
	free(storage);
	assert_int_equal(
		costs_of_stages(&costs, schedule, NULL, &out, &storage),
		-EINVAL);
	split.first[2] = 5;
	assert_int_equal(
		costs_of_stages(&costs, schedule, &split, &out, &storage),
		-EINVAL);
	split = (struct partition){.stages = 1, .first = {0, 4}};
	assert_int_equal(
		costs_of_stages(&costs, schedule, &split, &out, &storage),
		-EINVAL);
	costs_fini(&costs);
	schedule_destroy(schedule);
}

static void shares_of_slices_and_ranks(void **state)
{
	struct schedule *schedule = interleaved(2, 2);
	struct schedule_costs out;
	struct costs costs;
	double *storage;

	(void)state;
	assert_int_equal(costs_open("4,2,1", &costs), 0);
	assert_int_equal(
		costs_of_stages(&costs, schedule, NULL, &out, &storage), 0);
	for (unsigned s = 0; s < 4; s++) {
		assert_true(out.forward[s] == 2);
		assert_true(out.input[s] == 1);
		assert_true(out.weight[s] == 0.5);
	}
	free(storage);
	costs_fini(&costs);
	assert_int_equal(read_text(HEAD "\"ranks\": [{\"forward\": 6},"
					"{\"forward\": 8}]}",
				   &costs),
			 0);
	assert_int_equal(
		costs_of_stages(&costs, schedule, NULL, &out, &storage), 0);
	for (unsigned s = 0; s < 4; s++)
		assert_true(out.forward[s] == (s % 2 ? 4 : 3));
	free(storage);
	costs.count = 1;
	assert_int_equal(
		costs_of_stages(&costs, schedule, NULL, &out, &storage),
		-EINVAL);
	costs_fini(&costs);
	assert_int_equal(read_text(HEAD "\"stages\": [{\"input\": 1},"
					"{\"input\": 2}, {\"input\": 3},"
					"{\"input\": 4}]}",
				   &costs),
			 0);
	assert_int_equal(
		costs_of_stages(&costs, schedule, NULL, &out, &storage), 0);
	for (unsigned s = 0; s < 4; s++)
		assert_true(out.input[s] == s + 1);
	free(storage);
	costs.count = 3;
	assert_int_equal(
		costs_of_stages(&costs, schedule, NULL, &out, &storage),
		-EINVAL);
	costs_fini(&costs);
	schedule_destroy(schedule);
}

/* A file may give ranks different numbers of stages. */
static void ranks_with_different_stages(void **state)
{
	static const char text[] = "0F0,2F0,2B0,0B0\n1F0,1B0\n";
	struct schedule *schedule;
	struct schedule_costs out;
	struct costs costs;
	double *storage;

	(void)state;
	assert_int_equal(schedule_parse(text, strlen(text), "test",
					SCHEDULE_DIALECT_MODERN, &schedule),
			 0);
	assert_int_equal(read_text(HEAD "\"ranks\": [{\"forward\": 6},"
					"{\"forward\": 8}]}",
				   &costs),
			 0);
	assert_int_equal(
		costs_of_stages(&costs, schedule, NULL, &out, &storage), 0);
	assert_true(out.forward[0] == 3 && out.forward[2] == 3);
	assert_true(out.forward[1] == 8);
	free(storage);
	costs_fini(&costs);
	schedule_destroy(schedule);
}

static void models_are_told_apart(void **state)
{
	struct model_config config;
	struct model *model;
	struct costs costs;

	(void)state;
	assert_int_equal(model_config_default("gpt2", &config), 0);
	config.vocab_size = 16;
	config.context = 8;
	config.width = 8;
	config.heads = 2;
	config.layers = 2;
	assert_int_equal(model_create(&config, &model), 0);
	assert_int_equal(read_text(full, &costs), 0);
	assert_int_equal(costs_check_model(&costs, model), 0);
	/* Of the other type of numbers, once they say which. */
	costs.value_bytes = 4;
	assert_int_equal(costs_check_model(&costs, model), 0);
	costs.value_bytes = 2;
	assert_int_equal(costs_check_model(&costs, model), -EINVAL);
	assert_non_null(strstr(log_last_error(), "2 bytes between layers, this "
						 "model has 4 (F32)"));
	model_destroy(model);
	config.type = ELEMENT_BF16;
	assert_int_equal(model_create(&config, &model), 0);
	assert_int_equal(costs_check_model(&costs, model), 0);
	costs.value_bytes = 0;
	assert_int_equal(costs_check_model(&costs, model), 0);
	model_destroy(model);
	config.type = ELEMENT_F32;
	config.layers = 3;
	assert_int_equal(model_create(&config, &model), 0);
	assert_int_equal(costs_check_model(&costs, model), -EINVAL);
	assert_non_null(strstr(log_last_error(),
			       "layers[3] is 'head' there, 'transformer.h.2' "
			       "here"));
	/* Without names only the number tells. */
	for (unsigned i = 0; i < costs.count; i++)
		costs.rows[i].name[0] = '\0';
	assert_int_equal(costs_check_model(&costs, model), -EINVAL);
	assert_non_null(strstr(log_last_error(), "4 layers there, 5 here"));
	costs_fini(&costs);
	assert_int_equal(costs_open("1,1,1", &costs), 0);
	assert_int_equal(costs_check_model(&costs, model), -EINVAL);
	costs_fini(&costs);
	model_destroy(model);
}

/* Halving sends what sending all to all sends, in more rounds. */
static void halves_of_sums(void **state)
{
	(void)state;
	assert_true(costs_half_sum_bytes(1, 96) == 0);
	assert_true(costs_half_sum_bytes(2, 96) == 48);
	assert_true(costs_half_sum_bytes(3, 96) == 64);
	assert_true(costs_half_sum_bytes(4, 96) == 72);
	assert_true(costs_half_sum_rounds(1) == 0);
	assert_true(costs_half_sum_rounds(2) == 1);
	assert_true(costs_half_sum_rounds(3) == 1);
	assert_true(costs_half_sum_rounds(1024) == 10);
}

/*
 * Four replicas of two ranks, whose slice of 1000 bytes has 200 tied: 2 x 750
 * each, of which the tied ones' second half comes after the tie; or sharded 750
 * before the vote and 750 behind the step.
 */
static void replicas_of_a_slice(void **state)
{
	struct costs_row row = {
		.forward = 1, .input = 2, .weight = 4, .gradient_bytes = 1000};
	struct costs costs = {
		.origin = "here",
		.kind = COSTS_SLICE,
		.count = 1,
		.rows = &row,
		.tied_bytes = 200,
		.bandwidth = 10,
		.latency = 0.5,
		.replica_early = 0.25,
		.add = 0.01,
	};
	struct costs_replicas grid = {.replicas = 4};
	struct schedule_lowering options = {.train = true};
	struct schedule *schedule, *lowered;
	struct schedule_costs out;
	double *storage, *more;

	(void)state;
	assert_int_equal(schedule_generate("1f1b", 2, 4, 1, &schedule), 0);
	assert_int_equal(schedule_lower(schedule, &options, &lowered), 0);
	assert_int_equal(costs_of_stages(&costs, lowered, NULL, &out, &storage),
			 0);
	assert_null(out.reduce_bytes);
	assert_int_equal(
		costs_add_replicas(&costs, lowered, NULL, &grid, &out, &more),
		0);
	for (unsigned s = 0; s < 2; s++) {
		assert_true(out.reduce_bytes[s] == 1500 - 150);
		assert_true(out.stage_reduce[s] == 0.01 * 750);
		/* Its last action is a B, of 6. */
		assert_true(out.reduce_lead[s] == 0.25 * 6);
		assert_true(out.reduce_tail[s] == 0.75 * 135 + 4 * 0.5);
		assert_true(out.gather_bytes[s] == 0);
	}
	assert_true(out.reduce_rounds == 4 && out.gather_rounds == 2);
	assert_true(out.tied_gather_bytes == 150);
	assert_true(out.replica_bandwidth == 10 && out.replica_latency == 0.5);
	free(more);
	grid.sharded = true;
	costs.replica_bandwidth = 5;
	out.tied_gather_bytes = 0;
	assert_int_equal(
		costs_add_replicas(&costs, lowered, NULL, &grid, &out, &more),
		0);
	assert_true(out.reduce_bytes[0] == 750 && out.gather_bytes[1] == 750);
	assert_true(out.tied_gather_bytes == 0 && out.reduce_rounds == 2);
	assert_true(out.replica_bandwidth == 5);
	free(more);
	free(storage);
	grid.replicas = 1;
	assert_int_equal(
		costs_add_replicas(&costs, lowered, NULL, &grid, &out, &more),
		0);
	assert_null(more);
	schedule_destroy(lowered);
	schedule_destroy(schedule);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(halves_of_sums),
		cmocka_unit_test(replicas_of_a_slice),
		cmocka_unit_test(a_file_is_read),
		cmocka_unit_test(absent_is_zero),
		cmocka_unit_test(what_is_written_is_read),
		cmocka_unit_test(broken_files_are_refused),
		cmocka_unit_test(too_many_rows),
		cmocka_unit_test(three_numbers),
		cmocka_unit_test(files_and_folders),
		cmocka_unit_test(layers_are_summed),
		cmocka_unit_test(shares_of_slices_and_ranks),
		cmocka_unit_test(ranks_with_different_stages),
		cmocka_unit_test(models_are_told_apart),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	log_set_sink(ignore_line, NULL);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
