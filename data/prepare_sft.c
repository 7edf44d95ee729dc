/* The part of prepare for examples of supervised fine-tuning. */
#include "data/prepare_impl.h"
#include "data/sft/records.h"

#include "base/digest.h"
#include "base/log.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define ORIGIN_BYTES (FILES_PATH_BYTES + 32)

static const char *const mark_names[PREPARE_SPLITS] = {"train.marks",
						       "val.marks"};

/* ---- reading them ---- */

typedef int example_fn(struct prepare *prepare, const struct example *example,
		       const char *origin);

/* The template, when nobody named one, is the first example's. */
static int choose_template(struct prepare *prepare,
			   const struct example *example, const char *origin)
{
	const char *name = prepare->options->template;
	const struct chat_template **chat = &prepare->sft.chat;

	if (name) {
		*chat = chat_template_find(name);
		return *chat ? 0 : -EINVAL;
	}
	if (*chat && chat_template_suits(prepare->sft.form, example->form))
		return 0;
	if (*chat)
		return fail(-EINVAL,
			    "%s: this example has another shape than the "
			    "first, whose template, %s, is not made for it: "
			    "say which both are to have with --template",
			    origin, chat_template_name(*chat));
	prepare->sft.form = example->form;
	if (!prepare->tokenizer && example->form >= EXAMPLE_MESSAGES)
		return fail(-EINVAL,
			    "%s: a tokenizer made here has no tokens for "
			    "conversations: give a model's --tokenizer, or "
			    "--template plain or alpaca",
			    origin);
	return chat_template_choose(example->form, prepare->tokenizer, chat);
}

static int record_take(struct prepare *prepare, const struct record *record,
		       const char *path, example_fn *take)
{
	char origin[ORIGIN_BYTES];
	struct example example;
	int err;

	snprintf(origin, sizeof(origin), "%s:%llu", path,
		 (unsigned long long)record->line);
	err = example_parse(&example, record->text, record->length, origin);
	if (!err)
		err = choose_template(prepare, &example, origin);
	if (!err)
		err = take(prepare, &example, origin);
	example_fini(&example);
	return err;
}

static int file_read(struct prepare *prepare, const char *path,
		     example_fn *take)
{
	uint64_t before = prepare->done_bytes, told = before;
	struct record_reader reader;
	struct record record;
	int rc = record_reader_open(&reader, path), err = rc;

	if (rc)
		return rc;
	while (!err && (rc = record_reader_next(&reader, &record)) > 0) {
		err = record_take(prepare, &record, path, take);
		prepare->done_bytes = before + reader.bytes;
		if (err || prepare->done_bytes - told < prepare->chunk_bytes)
			continue;
		told = prepare->done_bytes;
		err = prepare_report(prepare, told, prepare->total_bytes);
	}
	prepare->done_bytes = before + reader.bytes;
	record_reader_close(&reader);
	if (!err && !rc)
		err = prepare_report(prepare, prepare->done_bytes,
				     prepare->total_bytes);
	return err ? err : rc;
}

static int examples_read(struct prepare *prepare, enum prepare_phase phase,
			 example_fn *take)
{
	int err = 0;

	prepare->phase = phase;
	prepare->done_bytes = 0;
	for (size_t i = 0; i < prepare->document_count && !err; i++)
		err = file_read(prepare, prepare->documents[i].path, take);
	return err;
}

/* ---- training a tokenizer ---- */

static int train_text(void *argument, const char *text, size_t length)
{
	struct prepare *prepare = argument;

	return bpe_train_push(prepare->train, text, length, true);
}

static int train_example(struct prepare *prepare, const struct example *example,
			 const char *origin)
{
	return chat_template_texts(prepare->sft.chat, example, origin,
				   train_text, prepare);
}

int prepare_sft_train(struct prepare *prepare)
{
	return examples_read(prepare, PREPARE_COUNTING, train_example);
}

/* ---- encoding ---- */

static int marks_open(struct prepare *prepare, size_t split)
{
	struct prepare_marks *marks = &prepare->sft.marks[split];
	int err = files_join(marks->path, sizeof(marks->path), prepare->folder,
			     mark_names[split]);

	if (err)
		return err;
	marks->file = fopen(marks->path, "wbxe");
	if (!marks->file)
		return fail(-errno, "%s: cannot create it: %s", marks->path,
			    strerror(errno));
	return 0;
}

static int marks_write(struct prepare_marks *marks,
		       const struct marked_tokens *rendered)
{
	size_t count = rendered->tokens.count;

	if (fwrite(rendered->marks, 1, count, marks->file) != count)
		return fail(-EIO, "%s: cannot write it: %s", marks->path,
			    strerror(errno));
	marks->examples++;
	for (size_t i = 0; i < count; i++)
		marks->supervised += rendered->marks[i] & MARK_SUPERVISED;
	return 0;
}

static int marks_close(struct prepare_marks *marks)
{
	FILE *file = marks->file;
	int err = 0;

	marks->file = NULL;
	if (fflush(file) || fsync(fileno(file)))
		err = fail(-errno, "%s: cannot sync it: %s", marks->path,
			   strerror(errno));
	if (fclose(file) && !err)
		err = fail(-errno, "%s: cannot close it: %s", marks->path,
			   strerror(errno));
	return err;
}

static int encode_example(struct prepare *prepare,
			  const struct example *example, const char *origin)
{
	struct prepare_sft *sft = &prepare->sft;
	const struct marked_tokens *rendered = &sft->rendered;
	uint64_t longest = prepare->options->longest;
	size_t count, split;
	int err = 0;

	if (!sft->renderer)
		err = renderer_create(sft->chat, prepare->tokenizer,
				      &sft->renderer);
	if (!err)
		err = renderer_example(sft->renderer, example, origin,
				       &sft->rendered);
	if (err)
		return err;
	count = rendered->tokens.count;
	if (longest && count > longest) {
		sft->left_out++;
		return 0;
	}
	split = prepare_is_validation(prepare, sft->examples++)
			? PREPARE_VALIDATION
			: PREPARE_TRAIN;
	sft->longest = MAX(sft->longest, (uint64_t)count);
	for (size_t i = 0; i < count && split == PREPARE_TRAIN; i++)
		prepare->counts[rendered->tokens.ids[i]] +=
			rendered->marks[i] & MARK_SUPERVISED;
	err = shard_writer_append(&prepare->writers[split],
				  rendered->tokens.ids, count);
	return err ? err : marks_write(&sft->marks[split], rendered);
}

int prepare_sft_encode(struct prepare *prepare)
{
	size_t split;
	int err = 0;

	for (split = 0; split < PREPARE_SPLITS && !err; split++)
		err = marks_open(prepare, split);
	if (!err)
		err = examples_read(prepare, PREPARE_ENCODING, encode_example);
	for (split = 0; split < PREPARE_SPLITS && !err; split++)
		err = marks_close(&prepare->sft.marks[split]);
	if (!err && !prepare->sft.examples)
		err = fail(-EINVAL, prepare->sft.left_out
					    ? "every example is longer than "
					      "wanted (--longest)"
					    : "there are no examples");
	return err;
}

/* ---- what is said of them ---- */

static json_t *split_json(const struct prepare_marks *marks, size_t split)
{
	char digest[DIGEST_HEX_BYTES];

	if (digest_file(marks->path, digest))
		return NULL;
	return json_pack("{s:I, s:I, s:s, s:s}", "examples",
			 (json_int_t)marks->examples, "supervised",
			 (json_int_t)marks->supervised, "marks",
			 mark_names[split], "sha256", digest);
}

json_t *prepare_sft_json(struct prepare *prepare)
{
	const struct prepare_sft *sft = &prepare->sft;

	return json_pack("{s:s, s:I, s:o, s:o}", "template",
			 chat_template_name(sft->chat), "longest",
			 (json_int_t)sft->longest, "train",
			 split_json(&sft->marks[PREPARE_TRAIN], PREPARE_TRAIN),
			 "val",
			 split_json(&sft->marks[PREPARE_VALIDATION],
				    PREPARE_VALIDATION));
}

void prepare_sft_result(const struct prepare *prepare,
			struct prepare_result *result)
{
	const struct prepare_sft *sft = &prepare->sft;
	const struct prepare_marks *train = &sft->marks[PREPARE_TRAIN];
	const struct prepare_marks *val = &sft->marks[PREPARE_VALIDATION];

	result->documents = sft->examples;
	result->template = chat_template_name(sft->chat);
	result->train_examples = train->examples;
	result->validation_examples = val->examples;
	result->supervised = train->supervised + val->supervised;
	result->longest = sft->longest;
	result->left_out = sft->left_out;
}

void prepare_sft_fini(struct prepare *prepare)
{
	struct prepare_sft *sft = &prepare->sft;

	for (size_t split = 0; split < PREPARE_SPLITS; split++)
		if (sft->marks[split].file)
			fclose(sft->marks[split].file);
	renderer_destroy(sft->renderer);
	marked_tokens_fini(&sft->rendered);
}
