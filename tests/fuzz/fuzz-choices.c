/*
 * A file of multiple choice. What is read are requests that a model of 24 positions can
 * be asked, with ids of its vocabulary, each in a pass that is long enough.
 */
#include <string.h>

#include "base/log.h"
#include "data/requests.h"
#include "data/tokenizer.h"
#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/memory.h"

#define CONTEXT    24
#define VOCABULARY 257

static void swallow(void *argument, enum log_level level, const char *line)
{
	(void)argument;
	(void)level;
	FUZZ_CHECK(line[0] != '\0');
}

static void ask(const struct requests_item *item, size_t time)
{
	int32_t tokens[CONTEXT], labels[CONTEXT];
	size_t scored = 0;

	FUZZ_CHECK(item->given_count >= 1 && item->scored_count >= 1);
	FUZZ_CHECK(requests_item_length(item) <= time && time <= CONTEXT);
	requests_item_fill(item, time, tokens, labels);
	for (size_t i = 0; i < time; i++) {
		FUZZ_CHECK(tokens[i] >= 0 && tokens[i] < VOCABULARY);
		FUZZ_CHECK(labels[i] >= -1 && labels[i] < VOCABULARY);
		scored += labels[i] >= 0;
	}
	FUZZ_CHECK(scored == item->scored_count);
}

static void use(const struct requests *requests)
{
	struct requests_run runs[REQUESTS_RUNS_MAX];
	unsigned count = requests_plan(requests, 3, runs);
	size_t place = 0, choices = 0;

	for (unsigned i = 0; i < count; i++)
		for (uint64_t n = 0; n < 3 * runs[i].passes; n++) {
			struct requests_item item;

			if (place == requests_count(requests))
				break;
			item = requests_get(requests, place++);
			ask(&item, runs[i].time);
		}
	FUZZ_CHECK(place == requests_count(requests));
	for (size_t i = 0; i < requests_question_count(requests); i++) {
		struct requests_question question =
			requests_question_get(requests, i);

		FUZZ_CHECK(question.first == choices);
		FUZZ_CHECK(question.answer < question.choices);
		choices += question.choices;
	}
	FUZZ_CHECK(choices == requests_count(requests));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct tokenizer *tokenizer;
	struct requests_config config = {
		.kind = REQUESTS_CHOICES,
		.vocab_size = VOCABULARY,
		.context = CONTEXT,
		.begin = size % 3 ? 0 : -1,
		.begin_prompts = size % 3 == 1,
		.delimiter = size % 2 ? " " : "",
	};
	struct requests *requests;
	int rc;

	log_set_sink(swallow, NULL);
	if (!tokenizer)
		FUZZ_CHECK(tokenizer_bytes(&tokenizer) == 0);
	config.tokenizer = tokenizer;
	memory_begin();
	rc = requests_parse(&config, (const char *)data, size, "fuzz",
			    &requests);
	memory_check(size);
	if (rc) {
		FUZZ_CHECK(rc == -22);
		FUZZ_CHECK(strncmp(log_last_error(), "fuzz: ", 6) == 0);
		return 0;
	}
	use(requests);
	requests_destroy(requests);
	return 0;
}
