#include "engine/optimizer.h"
#include "engine/store.h"
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

static void update_adamw(const struct optimizer_config *config,
			 struct threads *threads, const struct store_row *row,
			 uint64_t step, double learning_rate,
			 double gradient_scale)
{
	struct adamw adamw = {
		.learning_rate = learning_rate,
		.beta1 = config->beta1,
		.beta2 = config->beta2,
		.epsilon = config->epsilon,
		.weight_decay = decay_of(config, row),
		.gradient_scale = (float)gradient_scale,
		.zero_gradients = true,
	};

	adamw_set_step(&adamw, step);
	adamw_update(threads, &adamw, row->parameter->count, row->weights,
		     row->accumulators[0], row->moments[0], row->moments[1]);
}

static void update_sgd(const struct optimizer_config *config,
		       struct threads *threads, const struct store_row *row,
		       double learning_rate, double gradient_scale)
{
	struct sgd sgd = {
		.learning_rate = learning_rate,
		.momentum = config->momentum,
		.weight_decay = decay_of(config, row),
		.gradient_scale = (float)gradient_scale,
		.nesterov = config->nesterov,
		.zero_gradients = true,
	};

	sgd_update(threads, &sgd, row->parameter->count, row->weights,
		   row->accumulators[0], row->moments[0]);
}

void optimizer_step(const struct optimizer_config *config,
		    struct threads *threads, struct store *store, uint64_t step,
		    double learning_rate, double gradient_scale)
{
	for (unsigned i = 0; i < store->count; i++) {
		const struct store_row *row = &store->rows[i];

		if (!store_row_is_updated(row))
			continue;
		if (config->kind == OPTIMIZER_ADAMW)
			update_adamw(config, threads, row, step, learning_rate,
				     gradient_scale);
		else
			update_sgd(config, threads, row, learning_rate,
				   gradient_scale);
	}
}
