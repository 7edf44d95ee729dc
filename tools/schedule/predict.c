/* Lower, validate, simulate: see predict.h. */
#include "tools/schedule/predict.h"
#include "base/log.h"
#include "model/model.h"
#include "tools/schedule/common.h"
#include <errno.h>

static double option_or(const struct options *options, const char *name,
			double otherwise)
{
	return options_is_set(options, name) ? options_real(options, name)
					     : otherwise;
}

void schedule_setting_take(const struct options *options, struct costs *costs,
			   struct schedule_setting *out)
{
	*out = (struct schedule_setting){
		.costs = *costs,
		.loss_weight_in_forward =
			options_flag(options, "loss-weight-in-forward"),
		.buffers = schedule_command_buffers(options),
	};
	*costs = (struct costs){0};
	out->costs.latency = option_or(options, "latency", out->costs.latency);
	out->costs.bandwidth =
		option_or(options, "bandwidth", out->costs.bandwidth);
	out->costs.message_bytes = option_or(
		options, "message-bytes",
		out->costs.message_bytes > 0 ? out->costs.message_bytes : 1);
}

/* Of the rows that a rank's whole slice is in each kind of costs. */
static int set_gradients(struct costs *costs, double bytes)
{
	if (costs->kind == COSTS_LAYERS || costs->kind == COSTS_STAGES)
		return fail(
			-EINVAL,
			"--gradient-bytes is of a rank's whole slice; these costs are by %s and say it themselves (gradient_bytes)",
			costs_rows_name(costs->kind));
	for (unsigned i = 0; i < costs->count; i++)
		costs->rows[i].gradient_bytes = bytes;
	return 0;
}

int schedule_setting_replicas(const struct options *options,
			      struct schedule_setting *io)
{
	struct costs *costs = &io->costs;

	io->replicas = (struct costs_replicas){
		.replicas = (unsigned)options_integer(options, "replicas"),
		.sharded = options_flag(options, "shard-optimizer"),
	};
	costs->replica_latency =
		option_or(options, "replica-latency", costs->replica_latency);
	costs->replica_bandwidth = option_or(options, "replica-bandwidth",
					     costs->replica_bandwidth);
	/* A slice of layers alike: all but the first are summed early. */
	if (costs->kind != COSTS_LAYERS && costs->replica_early <= 0)
		costs->replica_early = 1 - 1.0 / REHEARSAL_PIECES;
	if (!options_is_set(options, "gradient-bytes"))
		return 0;
	return set_gradients(costs, options_real(options, "gradient-bytes"));
}

int schedule_setting_read(const struct options *options,
			  struct schedule_setting *out)
{
	struct costs costs;
	int rc = costs_open(options_string(options, "costs"), &costs);

	if (!rc)
		schedule_setting_take(options, &costs, out);
	costs_fini(&costs);
	return rc;
}

void schedule_setting_fini(struct schedule_setting *setting)
{
	costs_fini(&setting->costs);
}

void schedule_prediction_fini(struct schedule_prediction *prediction)
{
	schedule_simulation_fini(&prediction->simulation);
	schedule_report_fini(&prediction->report);
	schedule_destroy(prediction->lowered);
	free(prediction->partition);
	free(prediction->forward);
	free(prediction->between);
	*prediction = (struct schedule_prediction){0};
}

/* As training splits them: by ranks, then by stages. */
static int split_layers(const struct costs *costs,
			const struct schedule *schedule, struct partition **out)
{
	double *total = calloc(costs->count, sizeof(*total));
	struct partition *partition = calloc(1, sizeof(*partition));
	struct partition_problem problem = {
		.layers = costs->count,
		.stages = schedule->stages,
		.costs = total,
		.ranks = schedule->ranks,
		.rank_of_stage = schedule->rank_of_stage,
	};
	struct partition_result result;
	int rc = total && partition
			 ? 0
			 : fail(-ENOMEM, "no memory to split %u layers",
				costs->count);

	for (unsigned i = 0; !rc && i < costs->count; i++)
		total[i] = costs->rows[i].forward + costs->rows[i].input +
			   costs->rows[i].weight;
	if (!rc)
		rc = partition_find(&problem, partition, &result);
	free(total);
	if (rc)
		free(partition);
	else
		*out = partition;
	return rc;
}

static void divide_times(struct schedule_simulation *simulation,
			 const struct schedule *schedule, double by)
{
	simulation->makespan /= by;
	simulation->bubble /= by;
	for (unsigned rank = 0; rank < simulation->ranks; rank++) {
		simulation->idle[rank] /= by;
		simulation->busy[rank] /= by;
		simulation->window[rank] /= by;
		simulation->waiting[rank] /= by;
		simulation->sending[rank] /= by;
		simulation->reducing[rank] /= by;
		for (size_t i = 0;
		     simulation->times && i < schedule->rows[rank].count; i++) {
			struct schedule_time *time =
				&simulation->times[rank][i];

			time->start /= by;
			time->ready /= by;
			time->end /= by;
			time->arrival /= by;
		}
	}
}

/*
 * A chunk costs 1/V of a slice. Slices are simulated V times as long and all is
 * divided at the end, so that whole numbers stay exact.
 */
static void stretch(struct schedule_costs *costs, double *values,
		    double *between, const struct schedule *schedule, double by)
{
	size_t stages = schedule->stages;

	/* Own time, lead, tail: see costs_add_replicas(). */
	for (size_t i = stages; between && i < 4 * stages; i++)
		between[i] *= by;
	costs->replica_latency *= by;
	costs->replica_bandwidth /= by;

	for (size_t i = 0; i < 3 * stages; i++)
		values[i] *= by;
	for (size_t r = 0; r < schedule->ranks; r++)
		values[5 * stages + r] *= by;
	costs->latency *= by;
	costs->send *= by;
	costs->receive *= by;
	costs->bandwidth /= by;
	costs->reduce_tied *= by;
	costs->tied_early *= by;
	costs->vote *= by;
}

static bool knows_bytes(const struct costs *costs)
{
	for (unsigned i = 0; i < costs->count; i++)
		if (costs->rows[i].activation_bytes > 0)
			return true;
	return false;
}

int schedule_setting_costs(const struct schedule_setting *setting,
			   const struct schedule *schedule,
			   struct partition **partition,
			   struct schedule_costs *out, double **storage,
			   double **between)
{
	int rc = 0;

	*between = NULL;

	if (setting->costs.kind == COSTS_LAYERS && !*partition)
		rc = split_layers(&setting->costs, schedule, partition);
	if (!rc)
		rc = costs_of_stages(&setting->costs, schedule, *partition, out,
				     storage);
	if (!rc && setting->replicas.replicas > 1) {
		rc = costs_add_replicas(&setting->costs, schedule, *partition,
					&setting->replicas, out, between);
		if (rc)
			free(*storage);
	}
	if (rc) {
		free(*partition);
		*partition = NULL;
		return rc;
	}
	out->loss_weight_in_forward = setting->loss_weight_in_forward;
	out->buffers = setting->buffers;
	if (!knows_bytes(&setting->costs))
		out->activation_bytes = out->pending_bytes = NULL;
	return 0;
}

static int simulate(struct schedule_prediction *prediction,
		    const struct schedule_setting *setting, bool times)
{
	const struct schedule *lowered = prediction->lowered;
	size_t stages = lowered->stages;
	double by = setting->costs.kind == COSTS_LAYERS ||
				    setting->costs.kind == COSTS_STAGES
			    ? 1
			    : lowered->chunks;
	struct schedule_costs costs;
	double *values;
	int rc =
		schedule_setting_costs(setting, lowered, &prediction->partition,
				       &costs, &values, &prediction->between);

	if (rc)
		return rc;
	prediction->forward = values;
	prediction->input = values + stages;
	prediction->weight = values + 2 * stages;
	prediction->activation_bytes =
		costs.activation_bytes ? values + 3 * stages : NULL;
	if (by > 1)
		stretch(&costs, values, prediction->between, lowered, by);
	rc = schedule_simulate(lowered, &costs, times, &prediction->simulation);
	for (size_t i = 0; by > 1 && i < 3 * stages; i++)
		values[i] /= by;
	if (!rc)
		divide_times(&prediction->simulation, lowered, by);
	return rc;
}

void schedule_setting_lowering(const struct schedule_setting *setting,
			       unsigned stages, struct schedule_tie *tie,
			       struct schedule_lowering *out)
{
	const struct costs *costs = &setting->costs;

	*tie = (struct schedule_tie){
		.first_stage = 0,
		.second_stage = (uint16_t)(stages - 1),
	};
	*out = (struct schedule_lowering){
		.ties = tie,
		.tie_count = costs->tied_bytes > 0,
		.train = costs->tied_bytes > 0 || costs->vote > 0 ||
			 costs->step > 0 || setting->replicas.replicas > 1,
	};
}

static int lower(struct schedule_prediction *prediction,
		 const struct schedule *schedule,
		 const struct schedule_setting *setting)
{
	struct schedule_tie tie;
	struct schedule_lowering lowering;

	schedule_setting_lowering(setting, schedule->stages, &tie, &lowering);
	return schedule_lower(schedule, &lowering, &prediction->lowered);
}

int schedule_prediction_init(struct schedule_prediction *prediction,
			     const struct schedule *schedule,
			     const struct schedule_setting *setting,
			     struct partition *partition, unsigned flags)
{
	int rc;

	*prediction = (struct schedule_prediction){.partition = partition};
	rc = lower(prediction, schedule, setting);
	if (!rc && !(flags & SCHEDULE_PREDICT_UNPROVEN))
		rc = schedule_validate(prediction->lowered, setting->buffers,
				       &prediction->report);
	if (rc == -EINVAL && prediction->report.reason)
		log_error("schedule %s: %s", schedule->name,
			  prediction->report.reason);
	if (!rc)
		rc = simulate(prediction, setting,
			      flags & SCHEDULE_PREDICT_TIMES);
	if (rc)
		schedule_prediction_fini(prediction);
	return rc;
}
