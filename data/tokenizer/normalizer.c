#include "data/tokenizer/normal_stage.h"

#include "base/log.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct normal_stream {
	utf8_text_fn *first; /* where text enters */
	void *argument;
	bool cut;
	size_t count;
	struct normal_stage stages[];
};

static utf8_text_fn *const push_fn[] = {
	[NORMAL_FORM] = normal_form_push,
	[NORMAL_MAP] = normal_map_push,
	[NORMAL_STRIP] = normal_strip_push,
	[NORMAL_PREPEND] = normal_prepend_push,
	[NORMAL_REPLACE] = normal_replace_push,
	[NORMAL_CHARSMAP] = normal_charsmap_push,
};

struct normal_step *normalizer_add(struct normalizer *normalizer,
				   enum normal_kind kind, const char *origin)
{
	struct normal_step *steps;

	if (normalizer->count == NORMAL_STEPS_MAX) {
		fail(-EINVAL, "%s: over %d steps of normalization", origin,
		     NORMAL_STEPS_MAX);
		return NULL;
	}
	steps = reallocarray(normalizer->steps, normalizer->count + 1,
			     sizeof(*steps));
	if (!steps) {
		fail(-ENOMEM, "no memory for a normalizer");
		return NULL;
	}
	normalizer->steps = steps;
	steps += normalizer->count++;
	*steps = (struct normal_step){.kind = kind};
	return steps;
}

void normalizer_fini(struct normalizer *normalizer)
{
	size_t i;

	for (i = 0; i < normalizer->count; i++) {
		free(normalizer->steps[i].text);
		pattern_fini(&normalizer->steps[i].pattern);
		charsmap_fini(&normalizer->steps[i].charsmap);
	}
	free(normalizer->steps);
	*normalizer = (struct normalizer){0};
}

void normal_stream_destroy(struct normal_stream *stream)
{
	size_t i;

	if (!stream)
		return;
	for (i = 0; i < stream->count; i++) {
		pattern_work_destroy(stream->stages[i].work);
		byte_buffer_fini(&stream->stages[i].held);
		byte_buffer_fini(&stream->stages[i].out);
	}
	free(stream);
}

int normal_stream_create(const struct normalizer *normalizer,
			 utf8_text_fn *sink, void *argument,
			 struct normal_stream **out)
{
	struct normal_stream *stream;
	size_t i;
	int err = 0;

	stream = calloc(1, sizeof(*stream) + normalizer->count *
						     sizeof(stream->stages[0]));
	if (!stream)
		return fail(-ENOMEM, "no memory for a normalizer");
	stream->count = normalizer->count;
	for (i = stream->count; i-- > 0 && !err;) {
		struct normal_stage *stage = &stream->stages[i];

		stage->step = &normalizer->steps[i];
		stage->sink = sink;
		stage->argument = argument;
		stage->cut = &stream->cut;
		if (stage->step->kind == NORMAL_REPLACE)
			err = pattern_work_create(&stage->work);
		sink = push_fn[stage->step->kind];
		argument = stage;
	}
	if (err) {
		normal_stream_destroy(stream);
		return err;
	}
	stream->first = sink;
	stream->argument = argument;
	*out = stream;
	return 0;
}

int normal_stream_push(void *argument, const char *text, size_t length,
		       bool end)
{
	struct normal_stream *stream = argument;
	size_t i;
	int err = stream->first(stream->argument, text, length, end);

	if (!end)
		return err;
	stream->cut = false;
	for (i = 0; i < stream->count; i++)
		stream->stages[i].written = false;
	return err;
}

bool normal_stream_is_cut(const struct normal_stream *stream)
{
	return stream->cut;
}

void normal_stream_skip(struct normal_stream *stream)
{
	for (size_t i = 0; i < stream->count; i++)
		if (stream->stages[i].step->kind == NORMAL_PREPEND)
			stream->stages[i].begun = true;
}

void normal_stream_reset(struct normal_stream *stream)
{
	size_t i;

	stream->cut = false;
	for (i = 0; i < stream->count; i++) {
		struct normal_stage *stage = &stream->stages[i];

		stage->held.length = 0;
		stage->out.length = 0;
		stage->behind = 0;
		stage->retry_at = 0;
		stage->begun = false;
		stage->matched = false;
		stage->written = false;
	}
}

int normal_stage_flush(struct normal_stage *stage, bool end)
{
	size_t length = stage->out.length;

	if (!length && !end)
		return 0;
	stage->out.length = 0;
	return stage->sink(stage->argument, stage->out.data, length, end);
}

static int collect(void *argument, const char *text, size_t length, bool end)
{
	(void)end;
	return byte_buffer_append(argument, text, length);
}

int normalizer_apply(const struct normalizer *normalizer, const char *text,
		     size_t length, struct byte_buffer *out)
{
	struct normal_stream *stream;
	int err = normal_stream_create(normalizer, collect, out, &stream);

	if (err)
		return err;
	err = normal_stream_push(stream, text, length, true);
	normal_stream_destroy(stream);
	return err;
}
