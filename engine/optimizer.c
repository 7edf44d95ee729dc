#include "engine/optimizer.h"
#include "engine/store.h"
#include "model/kernels/elementwise.h"
#include "model/kernels/optimizer.h"

unsigned optimizer_moments(const struct optimizer_config *config)
{
	if (config->kind == OPTIMIZER_ADAMW)
		return 2;
	return config->momentum != 0 ? 1 : 0;
}

const char *optimizer_moment_name(const struct optimizer_config *config,
				  unsigned moment)
{
	if (config->kind == OPTIMIZER_SGD)
		return "momentum";
	return moment ? "exp_avg_sq" : "exp_avg";
}

static double decay_of(const struct optimizer_config *config,
		       const struct store_row *row)
{
	return row->parameter->decay_group == DECAY_WEIGHT
		       ? config->weight_decay
		       : 0;
}

/* All that is the same for the pieces of a step. */
struct update {
	const struct optimizer_config *config;
	struct threads *threads;
	uint64_t step;
	double learning_rate;
	double gradient_scale;
};

static bfloat16 *copy_of(const struct store_row *row,
			 const struct store_piece *piece)
{
	return row->rounded ? row->rounded + piece->first : NULL;
}

static void update_adamw(const struct update *update,
			 const struct store_row *row,
			 const struct store_piece *piece)
{
	const struct optimizer_config *config = update->config;
	struct adamw adamw = {
		.learning_rate = update->learning_rate,
		.beta1 = config->beta1,
		.beta2 = config->beta2,
		.epsilon = config->epsilon,
		.weight_decay = decay_of(config, row),
		.gradient_scale = (float)update->gradient_scale,
		.zero_gradients = true,
	};

	adamw_set_step(&adamw, update->step);
	adamw_update(update->threads, &adamw, piece->count,
		     row->weights + piece->first, piece->sums,
		     piece->moments[0], piece->moments[1], copy_of(row, piece));
}

static void update_sgd(const struct update *update, const struct store_row *row,
		       const struct store_piece *piece)
{
	const struct optimizer_config *config = update->config;
	struct sgd sgd = {
		.learning_rate = update->learning_rate,
		.momentum = config->momentum,
		.weight_decay = decay_of(config, row),
		.gradient_scale = (float)update->gradient_scale,
		.nesterov = config->nesterov,
		.zero_gradients = true,
	};

	sgd_update(update->threads, &sgd, piece->count,
		   row->weights + piece->first, piece->sums, piece->moments[0],
		   copy_of(row, piece));
}

/* What is between the pieces has been summed, and is updated elsewhere. */
static void zero_rest(struct threads *threads, const struct store_row *row)
{
	unsigned count = store_row_is_updated(row) ? row->piece_count : 0;
	size_t at = 0;

	for (unsigned i = 0; i < count; i++) {
		const struct store_piece *piece = &row->pieces[i];

		elementwise_zero(threads, piece->first - at,
				 row->accumulators[0] + at);
		at = piece->first + piece->count;
	}
	elementwise_zero(threads, row->parameter->count - at,
			 row->accumulators[0] + at);
}

static void update_row(const struct update *update, const struct store_row *row)
{
	for (unsigned i = 0; store_row_is_updated(row) && i < row->piece_count;
	     i++) {
		if (update->config->kind == OPTIMIZER_ADAMW)
			update_adamw(update, row, &row->pieces[i]);
		else
			update_sgd(update, row, &row->pieces[i]);
	}
	/* What is kept apart was moved there, and is written anew. */
	if (!row->sums)
		zero_rest(update->threads, row);
}

void optimizer_step(const struct optimizer_config *config,
		    struct threads *threads, struct store *store, uint64_t step,
		    double learning_rate, double gradient_scale)
{
	struct update update = {config, threads, step, learning_rate,
				gradient_scale};

	/* The follower in a tie has been added to its target. */
	for (unsigned i = 0; i < store->count; i++)
		if (store->rows[i].parameter->trainable)
			update_row(&update, &store->rows[i]);
}
