/*
 * Files of examples for supervised fine-tuning. The first byte says the
 * template ('0' plain, else alpaca), a newline behind it is skipped, the rest
 * is the file.
 *
 * What is refused is said with the file's name and a line. What is taken has
 * tokens, one of them supervised with something before it, and what comes before
 * its last answer is what generation would begin with.
 */
#include "base/log.h"
#include "data/sft/records.h"
#include "data/sft/template.h"
#include "tests/fuzz/fuzz.h"

#include <errno.h>
#include <string.h>

static void swallow(void *argument, enum log_level level, const char *line)
{
	(void)argument;
	(void)level;
	FUZZ_CHECK(line[0] != '\0');
}

struct rig {
	struct tokenizer *tokenizer;
	struct renderer *renderers[2];
	struct marked_tokens marked;
	struct token_buffer prompt;
};

static struct rig *rig_of_all(void)
{
	static const char *const names[] = {"plain", "alpaca"};
	static struct rig rig;

	if (rig.tokenizer)
		return &rig;
	FUZZ_CHECK(tokenizer_bytes(&rig.tokenizer) == 0);
	for (int i = 0; i < 2; i++)
		FUZZ_CHECK(renderer_create(chat_template_find(names[i]),
					   rig.tokenizer,
					   &rig.renderers[i]) == 0);
	return &rig;
}

/* The refusal names the place: "fuzz:LINE: ". */
static void check_refusal(int error)
{
	const char *said = log_last_error();
	size_t digits;

	FUZZ_CHECK(error == -EINVAL);
	FUZZ_CHECK(strncmp(said, "fuzz:", 5) == 0);
	digits = strspn(said + 5, "0123456789");
	FUZZ_CHECK(digits > 0 && strncmp(said + 5 + digits, ": ", 2) == 0);
}

static void check_marks(const struct marked_tokens *marked)
{
	size_t supervised = 0;

	FUZZ_CHECK(marked->tokens.count >= 2);
	FUZZ_CHECK(marked->marks[0] == MARK_FIRST);
	for (size_t i = 1; i < marked->tokens.count; i++) {
		FUZZ_CHECK(marked->marks[i] <= MARK_SUPERVISED);
		supervised += marked->marks[i];
	}
	FUZZ_CHECK(supervised > 0);
}

/* Where the last turn is an answer: what is asked begins the whole. */
static void check_prompt(struct rig *rig, struct renderer *renderer,
			 struct example *example)
{
	if (example->turns[example->count - 1].role != TURN_ASSISTANT)
		return;
	example->count--;
	rig->prompt.count = 0;
	FUZZ_CHECK(renderer_prompt(renderer, example, "fuzz:0", &rig->prompt) ==
		   0);
	example->count++;
	FUZZ_CHECK(rig->prompt.count < rig->marked.tokens.count);
	FUZZ_CHECK(rig->prompt.count == 0 ||
		   memcmp(rig->prompt.ids, rig->marked.tokens.ids,
			  rig->prompt.count * sizeof(int32_t)) == 0);
}

static int take(struct rig *rig, struct renderer *renderer,
		const struct record *record)
{
	struct example example;
	char origin[32];
	int error;

	snprintf(origin, sizeof(origin), "fuzz:%llu",
		 (unsigned long long)record->line);
	error = example_parse(&example, record->text, record->length, origin);
	if (!error)
		error = renderer_example(renderer, &example, origin,
					 &rig->marked);
	if (error)
		check_refusal(error);
	else
		check_marks(&rig->marked);
	if (!error)
		check_prompt(rig, renderer, &example);
	example_fini(&example);
	return error;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const char *text = (const char *)data + 1;
	struct record_reader reader;
	struct record record;
	struct rig *rig;
	int rc;

	if (size == 0)
		return 0;
	size--;
	if (size > 0 && *text == '\n') {
		text++;
		size--;
	}
	log_set_sink(swallow, NULL);
	log_clear_last_error();
	rig = rig_of_all();
	record_reader_open_text(&reader, text, size, "fuzz");
	while ((rc = record_reader_next(&reader, &record)) > 0) {
		FUZZ_CHECK(record.line >= 1 && record.length <= size);
		if (take(rig, rig->renderers[data[0] != '0'], &record))
			break;
	}
	if (rc < 0)
		check_refusal(rc);
	FUZZ_CHECK(reader.bytes <= size);
	record_reader_close(&reader);
	return 0;
}
