#include "tests/grad/slices.h"
#include "base/digest.h"
#include "tests/grad/rig.h"
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SEED         7
#define FLOATS_MAX   ((size_t)1 << 18)    /* of one call to the collectives */
#define DECODE_STEPS (EXERCISE_STEPS - 1) /* after the prompt */

/* ---- where slices meet ---- */

struct meeting {
	const struct exercise *exercise;
	pthread_barrier_t barrier;
	const float *values[SLICES_MAX];
	float *combined; /* [FLOATS_MAX] */
};

struct member {
	struct meeting *meeting;
	unsigned slice;
	size_t calls, floats, largest;
};

static float combine(const struct meeting *meeting, size_t i, bool maximum)
{
	float result = meeting->values[0][i];

	for (unsigned s = 1; s < meeting->exercise->slices; s++) {
		float value = meeting->values[s][i];

		if (!maximum)
			result += value;
		else if (value > result)
			result = value;
	}
	return result;
}

/* Each combines a part of the elements, slices ascending. */
static void member_combine(struct member *member, float *values, size_t count,
			   bool maximum)
{
	struct meeting *meeting = member->meeting;
	struct parameter_share share = parameter_share(
		count, meeting->exercise->slices, member->slice);

	ASSERT(count <= FLOATS_MAX);
	member->floats += count;
	member->largest = MAX(member->largest, count);
	if (member->calls++ == meeting->exercise->forgets)
		return;
	meeting->values[member->slice] = values;
	pthread_barrier_wait(&meeting->barrier);
	for (size_t i = share.first; i < share.first + share.count; i++)
		meeting->combined[i] = combine(meeting, i, maximum);
	pthread_barrier_wait(&meeting->barrier);
	memcpy(values, meeting->combined, count * sizeof(float));
	pthread_barrier_wait(&meeting->barrier);
}

static void member_sum(void *argument, float *values, size_t count)
{
	member_combine(argument, values, count, false);
}

static void member_maximum(void *argument, float *values, size_t count)
{
	member_combine(argument, values, count, true);
}

/* ---- one slice ---- */

struct slice {
	struct member member;
	struct layer_collectives collectives;
	const struct exercise *exercise;
	const struct subject *subject;
	struct rig rig[SUBJECT_LAYERS_MAX];
	struct outcome *outcome;
	unsigned next_tensor;
	uint64_t digest;       /* of everything */
	uint64_t whole_digest; /* of what all slices have */
};

static void digest_mix(uint64_t *digest, const void *data, size_t bytes)
{
	uint64_t pair[2] = {*digest, digest_hash64(data, bytes)};

	*digest = digest_hash64(pair, sizeof(pair));
}

/* Random numbers of the whole tensor; what is here of them. */
static void fill_weights(struct rig *rig)
{
	for (unsigned p = 0; p < rig->layer->parameter_count; p++) {
		const struct parameter *row = &rig->parameters[p];
		float mean = row->initialiser == INITIALISE_ONES ? 1.0f : 0.0f;
		float *whole = rig_allocate(row->whole_count * sizeof(float));

		rig_random(SEED, row->name, row->whole_count, mean, 0.2f,
			   whole);
		for (size_t r = 0; r < parameter_run_count(row); r++) {
			struct parameter_run run = parameter_run(row, r);

			memcpy(rig->weights[p] + run.local, whole + run.whole,
			       run.count * sizeof(float));
		}
		free(whole);
	}
}

static void slice_init(struct slice *slice)
{
	const struct exercise *exercise = slice->exercise;
	struct rig_size size = {
		.batch = exercise->batch,
		.time = exercise->time,
		.threads = exercise->threads,
		.mode = exercise->mode,
		.vocab_size = exercise->vocab_size,
		.seed = SEED,
	};

	slice->collectives = (struct layer_collectives){
		.slices = exercise->slices,
		.slice = slice->member.slice,
		.sum = member_sum,
		.maximum = member_maximum,
		.argument = &slice->member,
	};
	for (unsigned i = 0; i < slice->subject->layers; i++) {
		struct rig *rig = &slice->rig[i];

		rig_init(rig, slice->subject->layer[i],
			 slice->subject->parameters, &size);
		fill_weights(rig);
		if (exercise->slices > 1)
			rig->context.collectives = &slice->collectives;
		if (i == 0)
			continue;
		rig->buffers.input = slice->rig[i - 1].output;
		slice->rig[i - 1].buffers.output_gradient = rig->input_gradient;
	}
}

static void slice_fini(struct slice *slice)
{
	for (unsigned i = 0; i < slice->subject->layers; i++)
		rig_fini(&slice->rig[i]);
}

/* The first slice tells what it exchanged. */
static void slice_pass(struct slice *slice, unsigned layer,
		       enum exercise_pass pass, void (*call)(struct rig *))
{
	struct member before = slice->member;
	struct layer_exchange *exchanged =
		&slice->outcome->exchanged[layer][pass];

	slice->member.largest = 0;
	call(&slice->rig[layer]);
	if (slice->member.slice != 0)
		return;
	exchanged->calls += slice->member.calls - before.calls;
	exchanged->floats += slice->member.floats - before.floats;
	exchanged->largest = MAX(exchanged->largest, slice->member.largest);
}

/* Every slice names the same tensors in the same order; the first keeps them. */
static float *slice_tensor(struct slice *slice, const char *name,
			   const char *suffix, size_t count)
{
	unsigned index = slice->next_tensor++;
	struct outcome *outcome = slice->outcome;

	ASSERT(index < ARRAY_SIZE(outcome->tensor));
	if (slice->member.slice == 0) {
		snprintf(outcome->tensor[index].name,
			 sizeof(outcome->tensor[index].name), "%s%s", name,
			 suffix);
		outcome->tensor[index].count = count;
		outcome->tensor[index].values =
			rig_allocate(count * sizeof(float));
		outcome->tensors = slice->next_tensor;
	}
	if (slice->exercise->slices > 1)
		pthread_barrier_wait(&slice->member.meeting->barrier);
	return outcome->tensor[index].values;
}

static void slice_keep_whole(struct slice *slice, const char *name,
			     const char *suffix, const float *values,
			     size_t count)
{
	float *tensor = slice_tensor(slice, name, suffix, count);

	digest_mix(&slice->whole_digest, values, count * sizeof(float));
	if (slice->member.slice == 0)
		memcpy(tensor, values, count * sizeof(float));
}

static void slice_keep_gradient(struct slice *slice,
				const struct parameter *row,
				const float *values)
{
	float *tensor;

	digest_mix(&slice->digest, values, row->count * sizeof(float));
	if (row->slices == 1) {
		slice_keep_whole(slice, row->name, "", values, row->count);
		return;
	}
	tensor = slice_tensor(slice, row->name, "", row->whole_count);
	for (size_t r = 0; r < parameter_run_count(row); r++) {
		struct parameter_run run = parameter_run(row, r);

		memcpy(tensor + run.whole, values + run.local,
		       run.count * sizeof(float));
	}
}

static void slice_keep(struct slice *slice)
{
	bool train = slice->exercise->mode == LAYER_TRAIN;

	for (unsigned i = 0; i < slice->subject->layers; i++) {
		const struct rig *rig = &slice->rig[i];

		if (!rig->layer->loss)
			slice_keep_whole(slice, rig->layer->name, " output",
					 rig->output, rig->output_count);
		else if (slice->member.slice == 0)
			slice->outcome->loss = rig->loss;
		digest_mix(&slice->whole_digest, &rig->loss, sizeof(rig->loss));
		if (!train)
			continue;
		slice_keep_whole(slice, rig->layer->name, " input gradient",
				 rig->input_gradient, rig->input_count);
		for (unsigned p = 0; p < rig->layer->parameter_count; p++)
			slice_keep_gradient(slice, &rig->parameters[p],
					    rig->gradients[p]);
	}
}

static void slice_train(struct slice *slice)
{
	for (unsigned i = 0; i < slice->subject->layers; i++)
		slice_pass(slice, i, EXERCISE_F, rig_forward);
	for (unsigned i = slice->subject->layers; i-- > 0;) {
		struct rig *rig = &slice->rig[i];

		if (slice->exercise->recompute && !rig->layer->loss) {
			memset(rig->buffers.saved, 0xff,
			       rig->memory.saved_bytes);
			rig_forward(rig);
		}
		slice_pass(slice, i, EXERCISE_I, rig_backward_input);
		slice_pass(slice, i, EXERCISE_W, rig_backward_weight);
	}
}

/* Tokens [first, first + count) of each sample; keeps the logits. */
static void slice_decode_step(struct slice *slice, const int32_t *tokens,
			      size_t first, size_t count)
{
	const struct exercise *exercise = slice->exercise;
	const struct rig *head = &slice->rig[slice->subject->layers - 1];
	char name[32];

	for (unsigned i = 0; i < slice->subject->layers; i++) {
		struct rig *rig = &slice->rig[i];

		rig->context.time = count;
		rig->context.position_offset = first;
		for (size_t b = 0; b < exercise->batch; b++)
			memcpy(rig->tokens + b * count,
			       tokens + b * exercise->time + first,
			       count * sizeof(int32_t));
		slice_pass(slice, i, EXERCISE_F, rig_forward);
	}
	snprintf(name, sizeof(name), "logits after %zu", first + count);
	slice_keep_whole(slice, name, "", head->output, head->output_count);
}

static void slice_decode(struct slice *slice)
{
	const struct exercise *exercise = slice->exercise;
	size_t bytes = exercise->batch * exercise->time * sizeof(int32_t);
	size_t prompt = exercise->time - DECODE_STEPS;
	int32_t *tokens = rig_allocate(bytes);

	memcpy(tokens, slice->rig[0].tokens, bytes);
	slice_decode_step(slice, tokens, 0, prompt);
	for (size_t at = prompt; at < exercise->time; at++)
		slice_decode_step(slice, tokens, at, 1);
	free(tokens);
}

static void *slice_thread(void *argument)
{
	struct slice *slice = argument;

	slice_init(slice);
	if (slice->exercise->mode == LAYER_TRAIN)
		slice_train(slice);
	else if (slice->exercise->mode == LAYER_DECODE)
		slice_decode(slice);
	else
		for (unsigned i = 0; i < slice->subject->layers; i++)
			slice_pass(slice, i, EXERCISE_F, rig_forward);
	if (slice->exercise->mode != LAYER_DECODE)
		slice_keep(slice);
	digest_mix(&slice->digest, &slice->whole_digest,
		   sizeof(slice->whole_digest));
	slice_fini(slice);
	return NULL;
}

/* ---- all of them ---- */

static void meeting_init(struct meeting *meeting,
			 const struct exercise *exercise)
{
	int error =
		pthread_barrier_init(&meeting->barrier, NULL, exercise->slices);

	ASSERT(!error);
	meeting->exercise = exercise;
	meeting->combined = rig_allocate(FLOATS_MAX * sizeof(float));
}

void exercise_run(const struct exercise *exercise,
		  const struct subject *subjects, struct outcome *out)
{
	struct slice *slices = calloc(exercise->slices, sizeof(*slices));
	pthread_t threads[SLICES_MAX];
	struct meeting meeting;

	ASSERT(slices && exercise->slices <= SLICES_MAX);
	memset(out, 0, sizeof(*out));
	meeting_init(&meeting, exercise);
	for (unsigned s = 0; s < exercise->slices; s++) {
		int error;

		slices[s].member =
			(struct member){.meeting = &meeting, .slice = s};
		slices[s].exercise = exercise;
		slices[s].subject = &subjects[s];
		slices[s].outcome = out;
		error = pthread_create(&threads[s], NULL, slice_thread,
				       &slices[s]);
		ASSERT(!error);
	}
	out->slices_agree = true;
	for (unsigned s = 0; s < exercise->slices; s++) {
		pthread_join(threads[s], NULL);
		out->slices_agree &=
			slices[s].whole_digest == slices[0].whole_digest;
		digest_mix(&out->digest, &slices[s].digest, sizeof(uint64_t));
	}
	out->calls = slices[0].member.calls;
	pthread_barrier_destroy(&meeting.barrier);
	free(meeting.combined);
	free(slices);
}

void outcome_fini(struct outcome *outcome)
{
	for (unsigned i = 0; i < outcome->tensors; i++)
		free(outcome->tensor[i].values);
}

/* In units of b's largest element. */
static double distance(const float *a, const float *b, size_t count)
{
	double difference = 0.0, largest = 0.0;

	for (size_t i = 0; i < count; i++) {
		double apart = fabs((double)a[i] - (double)b[i]);

		if (!(apart < (double)INFINITY))
			return (double)INFINITY;
		difference = fmax(difference, apart);
		largest = fmax(largest, fabs((double)b[i]));
	}
	return difference == 0.0 ? 0.0 : difference / largest;
}

double outcome_distance(const struct outcome *a, const struct outcome *b,
			const char **worst)
{
	double most = b->loss == 0.0 ? fabs(a->loss)
				     : fabs(a->loss - b->loss) / fabs(b->loss);

	if (worst)
		*worst = "loss";
	if (!(most < (double)INFINITY))
		return (double)INFINITY;
	ASSERT(a->tensors == b->tensors);
	for (unsigned i = 0; i < a->tensors; i++) {
		double apart;

		ASSERT(a->tensor[i].count == b->tensor[i].count);
		apart = distance(a->tensor[i].values, b->tensor[i].values,
				 a->tensor[i].count);
		if (apart > most) {
			most = apart;
			if (worst)
				*worst = b->tensor[i].name;
		}
	}
	return most;
}

const float *outcome_tensor(const struct outcome *outcome, const char *name,
			    size_t *count)
{
	for (unsigned i = 0; i < outcome->tensors; i++) {
		if (strcmp(outcome->tensor[i].name, name) != 0)
			continue;
		*count = outcome->tensor[i].count;
		return outcome->tensor[i].values;
	}
	ASSERT(!"a tensor of that name");
	return NULL;
}
