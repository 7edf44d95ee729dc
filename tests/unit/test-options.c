/* tools/options.c: one table through parser, config, help, man and export. */
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/files.h"
#include "base/log.h"
#include "tests/unit/cmocka-tap.h"
#include "tools/options.h"

static const struct option_spec table[] = {
	{.name = "stages",
	 .letter = 'P',
	 .kind = OPTION_INTEGER,
	 .argument = "P",
	 .fallback = "1",
	 .minimum = 1,
	 .maximum = 64,
	 .group = "Pipeline",
	 .help = "stages the layers are split into"},
	{.name = "steps",
	 .kind = OPTION_INTEGER,
	 .argument = "N",
	 .minimum = 1,
	 .maximum = 1e18,
	 .help = "steps"},
	{.name = "split",
	 .kind = OPTION_LIST,
	 .argument = "LIST",
	 .minimum = 0,
	 .maximum = 100,
	 .help = "layers of each stage"},
	{.name = "lr",
	 .letter = 'l',
	 .kind = OPTION_REAL,
	 .argument = "X",
	 .fallback = "3e-4",
	 .minimum = 0,
	 .maximum = 10,
	 .group = "Optimizer",
	 .help = "learning rate"},
	{.name = "optimizer",
	 .kind = OPTION_CHOICE,
	 .argument = "NAME",
	 .fallback = "adamw",
	 .choices = "adamw|sgd",
	 .help = "rule"},
	{.name = "recompute",
	 .letter = 'r',
	 .kind = OPTION_FLAG,
	 .group = "Memory",
	 .help = "recompute activations"},
	{.name = "limit",
	 .kind = OPTION_BYTES,
	 .argument = "BYTES",
	 .help = "memory"},
	{.name = "text",
	 .kind = OPTION_STRINGS,
	 .argument = "FILE|DIR",
	 .group = "Input",
	 .help = "what to read"},
	{.name = "csv",
	 .kind = OPTION_OPTIONAL,
	 .argument = "WHICH",
	 .fallback = "compute",
	 .choices = "compute|comms",
	 .help = "rows"},
	{.name = "prompt",
	 .kind = OPTION_STRING,
	 .argument = "TEXT",
	 .group = "Input",
	 .help = ".text that begins with a full stop, and is long enough to be "
		 "wrapped over more than one line of the help - more than once"},
	{.name = NULL},
};

static const struct option_command command = {
	.name = "demo",
	.synopsis = "[options] PATH",
	.summary = "show what options can do",
	.table = table,
	.takes_config = true,
	.operands = "PATH",
};

/* Splits at spaces (there are no quotes in these lines) and parses. */
static int parse(const char *line, struct options **out)
{
	static char words[512];
	static char *argv[32];
	char *p = words;
	int argc = 0;

	assert_true(strlen(line) < sizeof(words));
	memcpy(words, line, strlen(line) + 1);
	while (*p) {
		argv[argc++] = p;
		p += strcspn(p, " ");
		if (*p)
			*p++ = '\0';
	}
	log_clear_last_error();
	return options_parse(&command, argc, argv, out);
}

static struct options *parsed(const char *line)
{
	struct options *options;

	assert_int_equal(parse(line, &options), 0);
	return options;
}

static void assert_one_operand(const struct options *options, const char *text)
{
	const char *const *operands;

	assert_int_equal(options_operands(options, &operands), 1);
	assert_string_equal(operands[0], text);
}

static void test_defaults(void **state)
{
	const char *const *operands;
	const char *const *texts;
	struct options *o = parsed("demo");

	(void)state;
	assert_int_equal(options_integer(o, "stages"), 1);
	assert_true(options_real(o, "lr") == 3e-4);
	assert_string_equal(options_string(o, "optimizer"), "adamw");
	assert_false(options_flag(o, "recompute"));
	assert_null(options_string(o, "prompt"));
	assert_null(options_string(o, "csv"));
	assert_int_equal(options_strings(o, "text", &texts), 0);
	assert_false(options_is_set(o, "stages"));
	assert_int_equal(options_operands(o, &operands), 0);
	options_destroy(o);
}

static void test_forms(void **state)
{
	struct options *o;

	(void)state;
	o = parsed("demo --stages 4 --lr=0.5 -r path");
	assert_int_equal(options_integer(o, "stages"), 4);
	assert_true(options_is_set(o, "stages"));
	assert_true(options_real(o, "lr") == 0.5);
	assert_true(options_flag(o, "recompute"));
	assert_one_operand(o, "path");
	options_destroy(o);
	o = parsed("demo -P 3 -P2 --recompute --no-recompute -l 1e-3");
	assert_int_equal(options_integer(o, "stages"), 2);
	assert_false(options_flag(o, "recompute"));
	assert_true(options_is_set(o, "recompute"));
	assert_true(options_real(o, "lr") == 1e-3);
	options_destroy(o);
	o = parsed("demo --limit 3K --optimizer sgd -- --odd");
	assert_int_equal(options_bytes(o, "limit"), 3072);
	assert_string_equal(options_string(o, "optimizer"), "sgd");
	assert_one_operand(o, "--odd");
	options_destroy(o);
	o = parsed("demo --prompt=--x");
	assert_string_equal(options_string(o, "prompt"), "--x");
	options_destroy(o);
	o = parsed("demo --prompt=");
	assert_string_equal(options_string(o, "prompt"), "");
	options_destroy(o);
}

static void test_lists(void **state)
{
	const char *const *texts;
	const int64_t *split;
	struct options *o;

	(void)state;
	o = parsed("demo --text a b --stages 2 --text c --text=d e");
	assert_int_equal(options_strings(o, "text", &texts), 4);
	assert_string_equal(texts[0], "a");
	assert_string_equal(texts[2], "c");
	assert_string_equal(texts[3], "d");
	assert_one_operand(o, "e");
	options_destroy(o);
	o = parsed("demo --split 1 --split 5,4,3");
	assert_int_equal(options_list(o, "split", &split), 3);
	assert_int_equal(split[0], 5);
	assert_int_equal(split[2], 3);
	options_destroy(o);
}

static void test_optional_argument(void **state)
{
	struct options *o = parsed("demo --csv path");

	(void)state;
	assert_string_equal(options_string(o, "csv"), "compute");
	assert_one_operand(o, "path");
	options_destroy(o);
	o = parsed("demo --csv=comms");
	assert_string_equal(options_string(o, "csv"), "comms");
	options_destroy(o);
}

/* Each mistake is answered in these very words. */
static void test_refusals(void **state)
{
	static const struct {
		const char *line;
		const char *message;
	} rows[] = {
		{"demo --stage 2",
		 "unknown option '--stage'; did you mean '--stages'?"},
		{"demo --zzzzzz", "unknown option '--zzzzzz'; 'stagecoach help "
				  "demo' lists them"},
		{"demo --hepl", "unknown option '--hepl'; did you mean "
				"'--help'?"},
		{"demo -x", "unknown option '-x'; 'stagecoach help demo' lists "
			    "them"},
		{"demo --stages x",
		 "option '--stages': 'x' is not an integer from 1 to 64"},
		{"demo --stages=0",
		 "option '--stages': '0' is not an integer from 1 to 64"},
		{"demo --stages=",
		 "option '--stages': '' is not an integer from 1 to 64"},
		{"demo -P99",
		 "option '--stages': '99' is not an integer from 1 to 64"},
		{"demo --steps -3",
		 "option '--steps': '-3' is not an integer of at least 1"},
		{"demo --lr nan",
		 "option '--lr': 'nan' is not a number from 0 to 10"},
		{"demo --lr", "option '--lr' needs a value: a number from 0 to "
			      "10"},
		{"demo --stages --lr 1", "option '--stages' needs a value: an "
					 "integer from 1 to 64"},
		{"demo --optimizer adam",
		 "option '--optimizer': 'adam' is not one of adamw, sgd"},
		{"demo --csv=x",
		 "option '--csv': 'x' is not one of compute, comms"},
		{"demo --split 5,101",
		 "option '--split': '5,101' is not a list such as 5,4,3, each "
		 "an integer from 0 to 100"},
		{"demo --limit 3k",
		 "option '--limit': '3k' is not a size such as 4096, 64K, 3M "
		 "or 2G"},
		{"demo --recompute=maybe",
		 "option '--recompute': 'maybe' is not true or false"},
		{"demo -ry", "option '-r' takes no value, found 'y'"},
		{"demo --no-stages", "unknown option '--no-stages'; did you "
				     "mean '--stages'?"},
		{"demo --text", "option '--text' needs a value: FILE|DIR"},
		{"demo --text --lr 1",
		 "option '--text' needs a value: FILE|DIR"},
		{"demo --prompt --lr",
		 "option '--prompt' needs a value (write --prompt=--lr if that "
		 "is the value)"},
	};
	struct options *o = NULL;
	size_t i;

	(void)state;
	for (i = 0; i < ARRAY_SIZE(rows); i++) {
		int code = parse(rows[i].line, &o);

		assert_int_equal(code, -EINVAL);
		assert_string_equal(log_last_error(), rows[i].message);
		assert_null(o);
	}
}

static void test_unexpected_operand(void **state)
{
	struct option_command strict = command;
	char name[] = "demo";
	char word[] = "a";
	char *argv[] = {name, word, NULL};
	struct options *o;

	(void)state;
	strict.operands = NULL;
	assert_int_equal(options_parse(&strict, 2, argv, &o), -EINVAL);
	assert_string_equal(
		log_last_error(),
		"unexpected word 'a'; usage: stagecoach demo [options] PATH");
}

static void put_config(const char *text)
{
	assert_int_equal(files_replace("test-options.json", text, strlen(text)),
			 0);
}

static void test_config(void **state)
{
	const char *const *texts;
	const int64_t *split;
	struct options *o;

	(void)state;
	put_config("{\"options\": {\"stages\": 8, \"lr\": 0.1, \"split\": "
		   "[1, 2], \"recompute\": true, \"text\": [\"x\", \"y\"], "
		   "\"optimizer\": \"sgd\", \"limit\": 4096}, \"other\": 1}");
	o = parsed("demo --stages 2 --no-recompute --config test-options.json");
	assert_int_equal(options_integer(o, "stages"), 2);
	assert_false(options_flag(o, "recompute"));
	assert_true(options_real(o, "lr") == 0.1);
	assert_true(options_is_set(o, "lr"));
	assert_int_equal(options_list(o, "split", &split), 2);
	assert_int_equal(split[1], 2);
	assert_int_equal(options_strings(o, "text", &texts), 2);
	assert_string_equal(options_string(o, "optimizer"), "sgd");
	assert_int_equal(options_bytes(o, "limit"), 4096);
	options_destroy(o);
}

static void test_bad_config(void **state)
{
	static const struct {
		const char *text;
		const char *message;
	} rows[] = {
		{"{\"stage\": 2}",
		 "test-options.json: unknown option '--stage'; did you mean "
		 "'--stages'?"},
		{"{\"stages\": 65}",
		 "test-options.json: 'stages': '65' is not an integer from 1 "
		 "to 64"},
		{"{\"stages\": 1.5}",
		 "test-options.json: 'stages': '1.5' is not an integer from 1 "
		 "to 64"},
		{"{\"stages\": [1]}",
		 "test-options.json: 'stages': takes one value, found a list"},
		{"{\"stages\": null}",
		 "test-options.json: 'stages': expected an integer from 1 to "
		 "64"},
		{"{\"recompute\": 1}",
		 "test-options.json: 'recompute': expected true or false"},
		{"{\"split\": [1, \"2\"]}",
		 "test-options.json: 'split': expected a list of integers"},
		{"[]", "test-options.json: expected an object of options"},
	};
	struct options *o;
	size_t i;

	(void)state;
	for (i = 0; i < ARRAY_SIZE(rows); i++) {
		put_config(rows[i].text);
		assert_int_equal(parse("demo --config=test-options.json", &o),
				 -EINVAL);
		assert_string_equal(log_last_error(), rows[i].message);
	}
	assert_int_equal(files_remove_tree("test-options.json"), 0);
	assert_int_equal(parse("demo --config test-options.json", &o), -ENOENT);
}

/* What is exported, read as a config, gives the same options. */
static void test_export_round_trip(void **state)
{
	struct options *o = parsed("demo --stages 3 --lr 0.1 --split 2,1 -r "
				   "--text a b --limit 1M --prompt hi ");
	json_t *first = options_to_json(o);
	json_t *second;

	(void)state;
	options_destroy(o);
	assert_int_equal(json_integer_value(json_object_get(first, "stages")),
			 3);
	assert_true(json_is_true(json_object_get(first, "recompute")));
	assert_null(json_object_get(first, "steps"));
	assert_int_equal(json_write("test-options.json", first), 0);
	o = parsed("demo --config test-options.json");
	second = options_to_json(o);
	assert_true(json_equal(first, second));
	options_destroy(o);
	json_decref(first);
	json_decref(second);
	assert_int_equal(files_remove_tree("test-options.json"), 0);
}

/* A resume: what may not change is found by name; the rest is merged. */
static void test_merge_and_allowed(void **state)
{
	static const char *const some[] = {"stages", NULL};
	static const char *const both[] = {"stages", "lr", NULL};
	struct options *o = parsed("demo --stages 3 --lr 0.1");
	json_t *json = json_pack("{s:i,s:i,s:s}", "stages", 5, "steps", 7,
				 "split", "2,1");
	const int64_t *split;

	(void)state;
	assert_string_equal(options_first_typed_outside(o, some), "lr");
	assert_null(options_first_typed_outside(o, both));
	assert_int_equal(options_merge_json(o, json, "run.json"), 0);
	assert_int_equal(options_integer(o, "stages"), 3);
	assert_int_equal(options_integer(o, "steps"), 7);
	assert_int_equal(options_list(o, "split", &split), 2);
	assert_true(options_is_set(o, "steps"));
	assert_false(options_is_typed(o, "steps"));
	assert_true(options_is_typed(o, "lr"));
	assert_null(options_first_typed_outside(o, both));
	json_decref(json);
	options_destroy(o);
}

static char *printed(void (*print)(FILE *, const struct option_command *))
{
	char *text = NULL;
	size_t length;
	FILE *out = open_memstream(&text, &length);

	assert_non_null(out);
	print(out, &command);
	fclose(out);
	return text;
}

static void test_help(void **state)
{
	char *text = printed(options_help);
	const char *line = text;

	(void)state;
	assert_non_null(
		strstr(text, "Usage: stagecoach demo [options] PATH\n"));
	assert_non_null(strstr(text, "\nPipeline\n  -P, --stages P          "
				     "stages the layers are split into [1]\n"));
	assert_non_null(strstr(text, "      --csv[=WHICH]"));
	assert_non_null(strstr(text, "rule: adamw sgd [adamw]\n"));
	assert_non_null(strstr(text, "      --config FILE"));
	while (*line) {
		size_t length = strcspn(line, "\n");

		assert_true(length < 80);
		assert_true(length == 0 || line[length - 1] != ' ');
		line += length + 1;
	}
	free(text);
}

static void test_man(void **state)
{
	char *text = printed(options_manual);

	(void)state;
	assert_non_null(strstr(text, ".TH STAGECOACH\\-DEMO 1 "));
	assert_non_null(strstr(text, ".SS \"Optimizer\"\n"));
	assert_non_null(strstr(text, ".TP\n\\fB\\-P, \\-\\-stages P\\fR\n"));
	assert_non_null(strstr(text, "\n\\&.text that begins"));
	free(text);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_defaults),
		cmocka_unit_test(test_forms),
		cmocka_unit_test(test_lists),
		cmocka_unit_test(test_optional_argument),
		cmocka_unit_test(test_refusals),
		cmocka_unit_test(test_unexpected_operand),
		cmocka_unit_test(test_config),
		cmocka_unit_test(test_bad_config),
		cmocka_unit_test(test_export_round_trip),
		cmocka_unit_test(test_merge_and_allowed),
		cmocka_unit_test(test_help),
		cmocka_unit_test(test_man),
	};

	return RUN_TESTS("options", tests);
}
