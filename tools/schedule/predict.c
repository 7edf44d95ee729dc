/* Lower, validate, simulate: see predict.h. */
#include "tools/schedule/predict.h"
#include "base/log.h"
#include "base/text.h"
#include "tools/schedule/common.h"
#include <errno.h>
#include <string.h>

/* "F,I,W", each a number that is not negative. */
static int parse_costs(const char *text, double *costs)
{
	const char *at = text;

	for (unsigned i = 0; i < 3; i++) {
		size_t length = strcspn(at, ",");
		char word[64];

		if (length >= sizeof(word) || (at[length] == ',') != (i < 2))
			goto err;
		memcpy(word, at, length);
		word[length] = '\0';
		if (text_parse_real(word, 0, 1e30, &costs[i]))
			goto err;
		at += length + 1;
	}
	return 0;
err:
	return fail(-EINVAL,
		    "--costs %s: expected three numbers F,I,W, none "
		    "negative",
		    text);
}

int schedule_slice_costs_read(const struct options *options,
			      struct schedule_slice_costs *out)
{
	double slice[3];
	int error = parse_costs(options_string(options, "costs"), slice);

	if (error)
		return error;
	*out = (struct schedule_slice_costs){
		.forward = slice[0],
		.input = slice[1],
		.weight = slice[2],
		.loss_weight_in_forward =
			options_flag(options, "loss-weight-in-forward"),
		.latency = options_real(options, "latency"),
		.message_bytes = options_real(options, "message-bytes"),
		.buffers = schedule_command_buffers(options),
	};
	if (options_is_set(options, "bandwidth"))
		out->bandwidth = options_real(options, "bandwidth");
	return 0;
}

void schedule_prediction_fini(struct schedule_prediction *prediction)
{
	schedule_simulation_fini(&prediction->simulation);
	schedule_report_fini(&prediction->report);
	schedule_destroy(prediction->lowered);
}

static void divide_times(struct schedule_simulation *simulation, double by)
{
	simulation->makespan /= by;
	simulation->bubble /= by;
	for (unsigned rank = 0; rank < simulation->ranks; rank++) {
		simulation->idle[rank] /= by;
		simulation->busy[rank] /= by;
		simulation->window[rank] /= by;
	}
}

/*
 * A chunk costs 1/V of the slice. All is simulated V times as long and divided
 * at the end, so that whole numbers stay exact.
 */
static int predict_times(const struct schedule_slice_costs *slice,
			 struct schedule_prediction *prediction)
{
	const struct schedule *lowered = prediction->lowered;
	size_t stages = lowered->stages;
	double chunks = lowered->chunks;
	double *values = calloc(3 * stages, sizeof(*values));
	struct schedule_costs costs = {
		.forward = values,
		.input = values + stages,
		.weight = values + 2 * stages,
		.loss_weight_in_forward = slice->loss_weight_in_forward,
		.latency = slice->latency * chunks,
		.bandwidth = slice->bandwidth / chunks,
		.message_bytes = slice->message_bytes,
		.buffers = slice->buffers,
	};
	int error;

	if (values == NULL)
		return fail(-ENOMEM, "no memory to simulate a schedule");
	for (size_t i = 0; i < stages; i++) {
		values[i] = slice->forward;
		values[stages + i] = slice->input;
		values[2 * stages + i] = slice->weight;
	}
	error = schedule_simulate(lowered, &costs, false,
				  &prediction->simulation);
	free(values);
	if (!error)
		divide_times(&prediction->simulation, chunks);
	return error;
}

static int prove(struct schedule_prediction *prediction,
		 const struct schedule *schedule, unsigned buffers)
{
	int error = schedule_validate(prediction->lowered, buffers,
				      &prediction->report);

	if (error == -EINVAL && prediction->report.reason)
		log_error("schedule %s: %s", schedule->name,
			  prediction->report.reason);
	return error;
}

static int init(struct schedule_prediction *prediction,
		const struct schedule *schedule,
		const struct schedule_slice_costs *costs, bool proven)
{
	int error;

	*prediction = (struct schedule_prediction){0};
	error = schedule_lower(schedule, NULL, &prediction->lowered);
	if (!error && proven)
		error = prove(prediction, schedule, costs->buffers);
	if (!error)
		error = predict_times(costs, prediction);
	if (error)
		schedule_prediction_fini(prediction);
	return error;
}

int schedule_prediction_init(struct schedule_prediction *prediction,
			     const struct schedule *schedule,
			     const struct schedule_slice_costs *costs)
{
	return init(prediction, schedule, costs, true);
}

int schedule_prediction_init_unproven(struct schedule_prediction *prediction,
				      const struct schedule *schedule,
				      const struct schedule_slice_costs *costs)
{
	return init(prediction, schedule, costs, false);
}
