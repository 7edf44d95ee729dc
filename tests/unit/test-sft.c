/*
 * Supervised fine-tuning data: each shape and template to exact ids and
 * labels, what is refused and where, records of lines and arrays, packing.
 */
#include "tests/unit/data/support.h"

#include "base/json.h"
#include "data/corpus.h"
#include "data/prepare.h"
#include "data/sampler.h"
#include "data/sft/records.h"
#include "data/sft/template.h"

#include <errno.h>

/* A byte tokenizer with the tokens of every template. */
static struct tokenizer *chat_tokenizer(const char *folder)
{
	static const char *const names[] = {
		"<|im_start|>",
		"<|im_end|>",
		"<|begin_of_text|>",
		"<|start_header_id|>",
		"<|end_header_id|>",
		"<|eot_id|>",
		"<s>",
		"</s>",
	};
	char path[512];
	struct tokenizer *tokenizer;
	json_t *json;

	path_in(path, folder, "tokenizer.json");
	assert_int_equal(tokenizer_bytes(&tokenizer), 0);
	assert_int_equal(tokenizer_save(tokenizer, path), 0);
	tokenizer_destroy(tokenizer);
	assert_int_equal(json_read(path, 1 << 24, &json), 0);
	for (int i = 0; i < 8; i++)
		json_array_append_new(
			json_object_get(json, "added_tokens"),
			json_pack("{s:i, s:s, s:b, s:b, s:b, s:b, s:b}", "id",
				  257 + i, "content", names[i], "single_word",
				  0, "lstrip", 0, "rstrip", 0, "normalized", 0,
				  "special", 1));
	assert_int_equal(json_write(path, json), 0);
	json_decref(json);
	assert_int_equal(tokenizer_load(path, &tokenizer), 0);
	return tokenizer;
}

/* ---- shapes and templates ---- */

/* `text` with { } around what is supervised, as ids and marks. */
static void expect(const struct tokenizer *tokenizer, const char *text,
		   struct marked_tokens *out)
{
	bool inside = false;

	while (*text) {
		size_t length = strcspn(text, "{}"), before;

		before = out->tokens.count;
		assert_int_equal(tokenizer_encode(tokenizer, text, length,
						  TOKENIZER_SPECIAL,
						  &out->tokens),
				 0);
		out->marks = realloc(out->marks, out->tokens.count + 1);
		memset(out->marks + before, inside ? MARK_SUPERVISED : 0,
		       out->tokens.count - before);
		text += length;
		if (*text)
			inside = *text++ == '{';
	}
	out->marks[0] |= MARK_FIRST;
}

static void check_rendered(const struct tokenizer *tokenizer,
			   const char *template, const char *line,
			   const char *wanted)
{
	struct marked_tokens want = {0}, got = {0};
	struct renderer *renderer;
	struct example example;

	assert_int_equal(renderer_create(chat_template_find(template),
					 tokenizer, &renderer),
			 0);
	assert_int_equal(example_parse(&example, line, strlen(line), "x:1"), 0);
	assert_int_equal(renderer_example(renderer, &example, "x:1", &got), 0);
	expect(tokenizer, wanted, &want);
	assert_int_equal(got.tokens.count, want.tokens.count);
	assert_memory_equal(got.tokens.ids, want.tokens.ids,
			    want.tokens.count * sizeof(int32_t));
	assert_memory_equal(got.marks, want.marks, want.tokens.count);
	example_fini(&example);
	renderer_destroy(renderer);
	marked_tokens_fini(&want);
	marked_tokens_fini(&got);
}

static const char prompt_line[] =
	"{\"prompt\": \"2+2=\", \"completion\": \"4\", \"id\": 7}";
static const char alpaca_line[] =
	"{\"instruction\": \"Add\", \"input\": \"1 2\", \"output\": \"3\"}";
static const char history_line[] =
	"{\"system\": \"Be\", \"history\": [[\"a\", \"b\"]], "
	"\"instruction\": \"c\", \"input\": \"\", \"output\": \"d\"}";
static const char messages_line[] =
	"{\"messages\": [{\"role\": \"system\", \"content\": \"S\"}, "
	"{\"role\": \"user\", \"content\": \"U <|im_end|>\"}, "
	"{\"role\": \"assistant\", \"content\": \"A\", \"weight\": 0}, "
	"{\"role\": \"tool\", \"content\": \"T\"}, "
	"{\"role\": \"assistant\", \"content\": \"\\u00c4\"}]}";
static const char sharegpt_line[] =
	"{\"conversations\": [{\"from\": \"system\", \"value\": \"S\"}, "
	"{\"from\": \"human\", \"value\": \"U\"}, "
	"{\"from\": \"gpt\", \"value\": \"A\"}, "
	"{\"from\": \"human\", \"value\": \"V\"}, "
	"{\"from\": \"gpt\", \"value\": \"B\"}]}";

#define START "<|start_header_id|>"
#define END   "<|end_header_id|>\n\n"

static void test_templates(void **state)
{
	static const struct {
		const char *template, *line, *wanted;
	} cases[] = {
		{"plain", prompt_line, "2+2={4<|endoftext|>}"},
		{"plain", alpaca_line, "Add\n1 2{3<|endoftext|>}"},
		{"alpaca", prompt_line,
		 "### Instruction:\n2+2=\n\n### Response:\n{4<|endoftext|>}"},
		{"alpaca", alpaca_line,
		 "### Instruction:\nAdd\n\n### Input:\n1 2\n\n"
		 "### Response:\n{3<|endoftext|>}"},
		{"alpaca", history_line,
		 "Be\n\n### Instruction:\na\n\n### Response:\n"
		 "{b<|endoftext|>}### Instruction:\nc\n\n### Response:\n"
		 "{d<|endoftext|>}"},
		{"chatml", alpaca_line,
		 "<|im_start|>user\nAdd\n1 2<|im_end|>\n"
		 "<|im_start|>assistant\n{3<|im_end|>}\n"},
		{"llama3", sharegpt_line,
		 "<|begin_of_text|>" START "system" END "S<|eot_id|>" START
		 "user" END "U<|eot_id|>" START "assistant" END
		 "{A<|eot_id|>}" START "user" END "V<|eot_id|>" START
		 "assistant" END "{B<|eot_id|>}"},
		{"llama2", sharegpt_line,
		 "<s>[INST] <<SYS>>\nS\n<</SYS>>\n\nU [/INST]{ A </s>}"
		 "<s>[INST] V [/INST]{ B </s>}"},
		{"llama2", alpaca_line, "<s>[INST] Add\n1 2 [/INST]{ 3 </s>}"},
	};
	struct tokenizer *tokenizer = chat_tokenizer(*state);

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
		check_rendered(tokenizer, cases[i].template, cases[i].line,
			       cases[i].wanted);
	tokenizer_destroy(tokenizer);
}

/* A token written out in a text is text; weight 0; roles; no tool in Llama 2. */
static void test_messages(void **state)
{
	struct tokenizer *tokenizer = chat_tokenizer(*state);
	const struct chat_template *chat = chat_template_find("chatml");
	static const char wanted[] =
		"<|im_start|>system\nS<|im_end|>\n<|im_start|>user\nU ";
	struct marked_tokens want = {0}, got = {0};
	struct renderer *renderer;
	struct example example;
	size_t supervised = 0;

	assert_int_equal(renderer_create(chat, tokenizer, &renderer), 0);
	assert_int_equal(example_parse(&example, messages_line,
				       strlen(messages_line), "x:1"),
			 0);
	assert_int_equal(example.count, 5);
	assert_int_equal(renderer_example(renderer, &example, "x:1", &got), 0);
	expect(tokenizer, wanted, &want);
	assert_memory_equal(got.tokens.ids, want.tokens.ids,
			    want.tokens.count * sizeof(int32_t));
	/* "<", not the token. */
	assert_true(got.tokens.ids[want.tokens.count] < 257);
	for (size_t i = 0; i < got.tokens.count; i++)
		supervised += got.marks[i] & MARK_SUPERVISED;
	assert_int_equal(supervised, 3); /* two bytes, and the end */
	assert_int_equal(got.tokens.ids[got.tokens.count - 2],
			 renderer_end(renderer));
	renderer_destroy(renderer);
	assert_int_equal(renderer_create(chat_template_find("llama2"),
					 tokenizer, &renderer),
			 0);
	assert_int_equal(renderer_example(renderer, &example, "x:1", &got),
			 -EINVAL);
	assert_non_null(strstr(log_last_error(), "no role \"tool\""));
	renderer_destroy(renderer);
	example_fini(&example);
	marked_tokens_fini(&want);
	marked_tokens_fini(&got);
	tokenizer_destroy(tokenizer);
}

/* What precedes an answer is the same without it, and joins it as HF does. */
static void check_prompt(const struct tokenizer *tokenizer,
			 const char *template, const char *answer,
			 const char *joined)
{
	struct token_buffer prompt = {0}, whole = {0};
	struct marked_tokens got = {0};
	struct example example = {0};
	struct renderer *renderer;

	assert_int_equal(renderer_create(chat_template_find(template),
					 tokenizer, &renderer),
			 0);
	assert_int_equal(example_add(&example, TURN_USER, "the cat", 7, false),
			 0);
	assert_int_equal(renderer_prompt(renderer, &example, "x", &prompt), 0);
	assert_int_equal(example_add(&example, TURN_ASSISTANT, answer,
				     strlen(answer), true),
			 0);
	assert_int_equal(renderer_example(renderer, &example, "x", &got), 0);
	assert_true(got.tokens.count > prompt.count && prompt.count > 0);
	assert_memory_equal(got.tokens.ids, prompt.ids,
			    prompt.count * sizeof(int32_t));
	for (size_t i = 0; i < got.tokens.count; i++)
		assert_int_equal(got.marks[i] & MARK_SUPERVISED,
				 i >= prompt.count ? MARK_SUPERVISED : 0);
	if (joined) {
		assert_int_equal(tokenizer_encode(tokenizer, joined,
						  strlen(joined),
						  TOKENIZER_SPECIAL, &whole),
				 0);
		assert_int_equal(whole.count, got.tokens.count);
		assert_memory_equal(whole.ids, got.tokens.ids,
				    whole.count * sizeof(int32_t));
	}
	token_buffer_fini(&whole);
	token_buffer_fini(&prompt);
	marked_tokens_fini(&got);
	example_fini(&example);
	renderer_destroy(renderer);
}

static void test_prompts(void **state)
{
	static const char *const files[] = {"kinds/llama2.json",
					    "kinds/llama2-metaspace.json"};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(files); i++) {
		char *path = data_path(files[i]);
		struct tokenizer *tokenizer;

		assert_int_equal(tokenizer_load(path, &tokenizer), 0);
		check_prompt(tokenizer, "llama2", "a dog",
			     "<s>[INST] the cat [/INST] a dog </s>");
		/* These would grow together with what is before. */
		check_prompt(tokenizer, "plain", "s and dogs", NULL);
		check_prompt(tokenizer, "plain", "\xC3\xA9", NULL);
		tokenizer_destroy(tokenizer);
		free(path);
	}
}

static void test_tokens_are_needed(void **state)
{
	const struct chat_template *chat;
	struct tokenizer *tokenizer;
	struct renderer *renderer;

	assert_int_equal(tokenizer_bytes(&tokenizer), 0);
	assert_int_equal(renderer_create(chat_template_find("chatml"),
					 tokenizer, &renderer),
			 -EINVAL);
	assert_non_null(strstr(log_last_error(), "<|im_start|>"));
	assert_int_equal(
		chat_template_choose(EXAMPLE_MESSAGES, tokenizer, &chat),
		-EINVAL);
	assert_int_equal(chat_template_choose(EXAMPLE_ALPACA, tokenizer, &chat),
			 0);
	assert_string_equal(chat_template_name(chat), "alpaca");
	assert_null(chat_template_find("vicuna"));
	assert_non_null(strstr(log_last_error(), CHAT_TEMPLATES));
	tokenizer_destroy(tokenizer);
	tokenizer = chat_tokenizer(*state);
	assert_int_equal(
		chat_template_choose(EXAMPLE_SHAREGPT, tokenizer, &chat), 0);
	assert_string_equal(chat_template_name(chat), "chatml");
	tokenizer_destroy(tokenizer);
}

/* ---- what is refused ---- */

static void test_refused(void **state)
{
	static const struct {
		const char *line, *why;
	} cases[] = {
		{"{\"prompt\": \"a\"", "f:3: line 1"},
		{"[1]", "an example is an object, not an array"},
		{"\"x\"", "f:3:"},
		{"{\"text\": \"a\"}", "none of \"prompt\""},
		{"{\"prompt\": \"a\"}", "\"completion\" is missing"},
		{"{\"prompt\": 1, \"completion\": \"b\"}",
		 "\"prompt\" must be a string, not a number"},
		{"{\"prompt\": \"a\", \"completion\": \"\"}",
		 "the answer is empty"},
		{"{\"prompt\": \"a\", \"prompt\": \"b\"}", "duplicate"},
		{"{\"prompt\": \"\\ud800\", \"completion\": \"b\"}", "f:3:"},
		{"{\"prompt\": \"a\\u0000\", \"completion\": \"b\"}", "f:3:"},
		{"{\"prompt\": \"\xFF\", \"completion\": \"b\"}",
		 "decode byte"},
		{"{\"prompt\": \"a\", \"messages\": []}",
		 "both \"prompt\" and \"messages\""},
		{"{\"instruction\": \"a\", \"output\": null}",
		 "\"output\" must be a string, not null"},
		{"{\"instruction\": \"a\", \"input\": 3, \"output\": \"b\"}",
		 "\"input\" must be a string"},
		{"{\"instruction\": \"a\", \"output\": \"b\", "
		 "\"history\": [[\"c\"]]}",
		 "\"history[0]\" must be a pair"},
		{"{\"instruction\": \"a\", \"output\": \"b\", "
		 "\"history\": [[\"c\", 1]]}",
		 "\"history[0][1]\" must be a string"},
		{"{\"messages\": {}}", "\"messages\" must be an array"},
		{"{\"messages\": []}", "nothing is supervised"},
		{"{\"messages\": [7]}", "\"messages[0]\" must be an object"},
		{"{\"messages\": [{\"content\": \"a\"}]}",
		 "\"messages[0].role\" is missing"},
		{"{\"messages\": [{\"role\": \"bot\", \"content\": \"a\"}]}",
		 "\"messages[0].role\" is bot: known are system, user"},
		{"{\"messages\": [{\"role\": \"user\", \"content\": [\"a\"]}]}",
		 "\"messages[0].content\" must be a string, not an array"},
		{"{\"messages\": [{\"role\": \"assistant\", \"content\": "
		 "\"a\", \"weight\": 2}]}",
		 "\"messages[0].weight\" must be 0 or 1"},
		{"{\"messages\": [{\"role\": \"assistant\", \"content\": "
		 "\"a\", \"weight\": 0}]}",
		 "nothing is supervised"},
		{"{\"conversations\": [{\"from\": \"human\", \"value\": "
		 "\"a\"}]}",
		 "nothing is supervised"},
		{"{\"conversations\": [{\"from\": null, \"value\": \"a\"}]}",
		 "\"conversations[0].from\" is null"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct example example;

		assert_int_equal(example_parse(&example, cases[i].line,
					       strlen(cases[i].line), "f:3"),
				 -EINVAL);
		if (strncmp(log_last_error(), "f:3: ", 5) != 0 ||
		    !strstr(log_last_error(), cases[i].why))
			fail_msg("%s: %s", cases[i].line, log_last_error());
		example_fini(&example);
	}
}

/* ---- records ---- */

/* "LINE=TEXT;..." of all of them, then how it ended. */
static void check_records(const char *text, const char *wanted, int ended)
{
	struct record_reader reader;
	struct record record;
	struct text_builder got;
	char *all;
	int rc;

	record_reader_open_text(&reader, text, strlen(text), "f");
	text_builder_init(&got);
	while ((rc = record_reader_next(&reader, &record)) > 0)
		text_builder_append(&got, "%d=%.*s;", (int)record.line,
				    (int)record.length, record.text);
	assert_int_equal(rc, ended);
	all = text_builder_finish(&got);
	assert_string_equal(all ? all : "", wanted);
	free(all);
	record_reader_close(&reader);
}

static void test_records(void **state)
{
	struct record_reader reader;
	struct record record;
	char *many;

	(void)state;
	check_records("", "", 0);
	check_records("\n \n", "", 0);
	check_records("{1}\n\n  {2}", "1={1};3={2};", 0);
	check_records("\xEF\xBB\xBF{1}\r\n{2}\n", "1={1}\r;2={2};", 0);
	check_records("[]", "", 0);
	check_records(" [ {\"a\": \"],\\\"[\"} ,\n{2, [3, 4]} ]\n",
		      "1={\"a\": \"],\\\"[\"} ;2={2, [3, 4]} ;", 0);
	check_records("[1,2", "1=1;", -EINVAL);
	assert_string_equal(log_last_error(), "f:1: the array does not end");
	check_records("[1,", "1=1;", -EINVAL);
	check_records("[1]\n{}", "", -EINVAL);
	assert_string_equal(log_last_error(),
			    "f:2: something follows the array of examples");
	check_records("\xEFx", "", -EINVAL);
	/* Brackets within strings are no values; too many values are refused. */
	many = malloc(300001);
	memset(many, '[', 300000);
	many[0] = '{';
	many[300000] = '\0';
	record_reader_open_text(&reader, many, 300000, "f");
	assert_int_equal(record_reader_next(&reader, &record), -EINVAL);
	assert_non_null(strstr(log_last_error(), "65,536 values"));
	record_reader_close(&reader);
	many[0] = '"';
	record_reader_open_text(&reader, many, 300000, "f");
	assert_int_equal(record_reader_next(&reader, &record), 1);
	assert_int_equal(record.length, 300000);
	record_reader_close(&reader);
	free(many);
}

/* ---- corpora ---- */

#define EXAMPLES 200

/* Example i asks "i" and answers with i % 37 + 1 letters. */
static void make_corpus(const char *root, double validation, uint64_t longest,
			struct prepare_result *result, char out[512])
{
	char path[512], answer[64];
	const char *input = path;
	FILE *file;

	path_in(path, root, "examples.jsonl");
	path_in(out, root, "corpus");
	if (files_exists(out))
		assert_int_equal(files_remove_tree(out), 0);
	file = fopen(path, "w");
	assert_non_null(file);
	for (int i = 0; i < EXAMPLES; i++) {
		memset(answer, 'a' + i % 26, sizeof(answer));
		answer[i % 37 + 1] = '\0';
		fprintf(file, "{\"prompt\": \"%d?\", \"completion\": \"%s\"}\n",
			i, answer);
	}
	assert_int_equal(fclose(file), 0);
	assert_int_equal(
		prepare_run(&(struct prepare_options){.inputs = &input,
						      .input_count = 1,
						      .examples = true,
						      .longest = longest,
						      .out = out,
						      .tokenizer = "byte",
						      .validation = validation,
						      .shard_tokens = 1000,
						      .seed = 1},
			    result),
		0);
}

/* Ids of digits: what example it is. */
static int example_number(const int32_t *tokens)
{
	struct tokenizer *tokenizer;
	size_t length;
	int number = 0;

	assert_int_equal(tokenizer_bytes(&tokenizer), 0);
	for (;; tokens++) {
		const char *text = tokenizer_token(tokenizer, *tokens, &length);

		if (*text < '0' || *text > '9')
			break;
		number = number * 10 + (*text - '0');
	}
	tokenizer_destroy(tokenizer);
	return number;
}

/* One example of a row; returns its places. */
static size_t check_example(const int32_t *tokens, const int32_t *labels,
			    const int32_t *starts, size_t at, size_t context,
			    bool seen[EXAMPLES])
{
	int number = example_number(tokens + at);
	size_t prompt = number < 10 ? 2 : number < 100 ? 3 : 4;
	size_t answer = (size_t)number % 37 + 1, used = prompt + answer, t;

	assert_true(number < EXAMPLES && !seen[number]);
	seen[number] = true;
	assert_true(at + used <= context);
	for (t = 0; t < used; t++) {
		assert_int_equal(starts[at + t], at);
		if (t + 1 < prompt)
			assert_int_equal(labels[at + t], -1);
		else if (t + 1 < used)
			assert_int_equal(labels[at + t], tokens[at + t + 1]);
		else
			assert_int_equal(labels[at + t], 0); /* its end */
	}
	return used;
}

static void check_epoch(const struct sampler *sampler, bool separate)
{
	size_t context = sampler->context;
	int32_t *tokens = calloc(3 * context, sizeof(*tokens));
	int32_t *labels = tokens + context, *starts = labels + context;
	bool seen[EXAMPLES] = {false};
	size_t total = 0;

	for (uint64_t n = 0; n < sampler_epoch_samples(sampler); n++) {
		size_t at = 0, count = 0;

		assert_int_equal(
			sampler_fill(sampler, n, 1, tokens, labels, starts), 0);
		/* Free places are an example of label -1 at the end. */
		while (at < context && labels[context - 1] + 1 >= 0 &&
		       !(starts[at] == (int32_t)at && tokens[at] == 0)) {
			at += check_example(tokens, labels, starts, at, context,
					    seen);
			count++;
		}
		assert_true(count > 0 && (count == 1 || !separate));
		for (size_t free = at; free < context; free++) {
			assert_int_equal(labels[free], -1);
			assert_int_equal(starts[free], at);
		}
		total += count;
	}
	assert_int_equal(total, sampler->examples);
	free(tokens);
}

static void test_packing(void **state)
{
	struct prepare_result result;
	struct corpus *corpus;
	struct sampler sampler;
	char folder[512];
	uint64_t places;

	make_corpus(*state, 0.1, 0, &result, folder);
	assert_int_equal(result.train_examples + result.validation_examples,
			 EXAMPLES);
	assert_int_equal(result.validation_examples, EXAMPLES / 10);
	assert_string_equal(result.template, "plain");
	assert_int_equal(corpus_open(folder, NULL, &corpus), 0);
	assert_int_equal(corpus_verify(corpus), 0);
	assert_true(corpus_has_examples(corpus));
	assert_int_equal(corpus_examples(corpus, CORPUS_TRAIN),
			 result.train_examples);
	for (int split = 0; split < CORPUS_SPLITS; split++) {
		assert_int_equal(sampler_init(&sampler, corpus,
					      (enum corpus_split)split,
					      SAMPLER_SHUFFLED, 5, 64),
				 0);
		check_epoch(&sampler, false);
		sampler_fini(&sampler);
	}
	/* Few places stay free. */
	assert_int_equal(sampler_init(&sampler, corpus, CORPUS_TRAIN,
				      SAMPLER_SHUFFLED, 5, 64),
			 0);
	places = corpus_tokens(corpus, CORPUS_TRAIN) - sampler.examples;
	assert_true(places > sampler.windows * 64 * 97 / 100);
	assert_int_equal(sampler.cut, 0);
	sampler_fini(&sampler);
	assert_int_equal(sampler_init_separate(&sampler, corpus, CORPUS_TRAIN,
					       SAMPLER_SHUFFLED, 5, 64),
			 0);
	assert_int_equal(sampler.windows, result.train_examples);
	check_epoch(&sampler, true);
	sampler_fini(&sampler);
	corpus_close(corpus);
}

static void test_lengths(void **state)
{
	struct prepare_result result;
	struct corpus *corpus;
	struct sampler sampler;
	char folder[512];

	make_corpus(*state, 0, 20, &result, folder);
	assert_int_equal(result.train_examples + result.left_out, EXAMPLES);
	assert_true(result.left_out > 0);
	assert_int_equal(result.longest, 20);
	assert_int_equal(corpus_open(folder, NULL, &corpus), 0);
	assert_int_equal(sampler_init(&sampler, corpus, CORPUS_TRAIN,
				      SAMPLER_SHUFFLED, 5, 12),
			 0);
	assert_true(sampler.cut > 0 && sampler.cut_tokens > sampler.cut);
	sampler_fini(&sampler);
	/* Of three-digit questions nothing is left to answer. */
	assert_int_equal(sampler_init(&sampler, corpus, CORPUS_TRAIN,
				      SAMPLER_SHUFFLED, 5, 3),
			 -EINVAL);
	assert_non_null(strstr(log_last_error(), "beyond the context of 3"));
	assert_int_equal(sampler_init(&sampler, corpus, CORPUS_VALIDATION,
				      SAMPLER_SHUFFLED, 5, 12),
			 -EINVAL);
	assert_non_null(strstr(log_last_error(), "has no examples"));
	corpus_close(corpus);
}

/* Marks that are not those of corpus.json, by size, by count, by digest. */
static void test_tampering(void **state)
{
	struct prepare_result result;
	struct corpus *corpus;
	char folder[512], path[600], *marks;
	size_t length;

	make_corpus(*state, 0, 0, &result, folder);
	snprintf(path, sizeof(path), "%s/train.marks", folder);
	assert_int_equal(files_read(path, 1 << 20, &marks, &length), 0);
	assert_int_equal(length, result.train_tokens);
	file_write(path, marks, length - 1);
	assert_int_equal(corpus_open(folder, NULL, &corpus), -EINVAL);
	assert_non_null(strstr(log_last_error(), "a byte a token"));
	marks[1] ^= MARK_SUPERVISED;
	file_write(path, marks, length);
	assert_int_equal(corpus_open(folder, NULL, &corpus), -EINVAL);
	assert_non_null(strstr(log_last_error(), "not the marks"));
	marks[1] ^= MARK_SUPERVISED | 4;
	file_write(path, marks, length);
	assert_int_equal(corpus_open(folder, NULL, &corpus), -EINVAL);
	marks[1] ^= 4 | MARK_SUPERVISED;
	marks[2] ^= MARK_SUPERVISED; /* as many, elsewhere */
	file_write(path, marks, length);
	assert_int_equal(corpus_open(folder, NULL, &corpus), 0);
	assert_int_equal(corpus_verify(corpus), -EINVAL);
	assert_non_null(strstr(log_last_error(), "SHA-256"));
	corpus_close(corpus);
	free(marks);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_templates, folder_setup,
						folder_teardown),
		cmocka_unit_test_setup_teardown(test_messages, folder_setup,
						folder_teardown),
		cmocka_unit_test(test_prompts),
		cmocka_unit_test_setup_teardown(test_tokens_are_needed,
						folder_setup, folder_teardown),
		cmocka_unit_test(test_refused),
		cmocka_unit_test(test_records),
		cmocka_unit_test_setup_teardown(test_packing, folder_setup,
						folder_teardown),
		cmocka_unit_test_setup_teardown(test_lengths, folder_setup,
						folder_teardown),
		cmocka_unit_test_setup_teardown(test_tampering, folder_setup,
						folder_teardown),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	log_set_sink(quiet_sink, NULL);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
