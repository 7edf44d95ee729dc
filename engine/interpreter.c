#include "engine/interpreter.h"
#include "base/clock.h"
#include "engine/collective.h"
#include "engine/pipeline.h"
#include "engine/reduce.h"
#include "engine/reducer.h"
#include "engine/trace.h"
#include "engine/vote.h"

struct run {
	struct pipeline *pipeline;
	const struct schedule *schedule;
	struct route *route;
	struct loss_sum losses;
	bool has_batch;
};

uint64_t interpreter_pack(const struct action *action)
{
	return (uint64_t)action->op << 32 | (uint64_t)action->stage << 16 |
	       action->micro_batch;
}

void interpreter_describe(uint64_t packed, char *buffer, size_t size)
{
	struct action action = {
		.op = (uint16_t)(packed >> 32),
		.stage = (uint16_t)(packed >> 16),
		.micro_batch = (uint16_t)packed,
	};

	schedule_action_text(buffer, size, &action);
}

/* The slot a message leaves from; the next one each time. */
static struct outgoing *next_outgoing(struct pipeline_sender *sender)
{
	sender->current = (sender->current + 1) % PIPELINE_OUTGOING;
	return &sender->slots[sender->current];
}

static struct outgoing *current_outgoing(struct pipeline_sender *sender)
{
	return &sender->slots[sender->current];
}

static struct message forward_message(const struct run *run,
				      const struct action *action)
{
	const struct pipeline *p = run->pipeline;
	unsigned to = action->stage + 1u;
	const struct layer *layer =
		model_layer(p->model, p->partition->first[to]);

	return (struct message){
		.kind = MESSAGE_FORWARD,
		.stage = (uint16_t)to,
		.micro_batch = action->micro_batch,
		.peer = pipeline_rank_with(p, to),
		.bytes = edge_bytes(&layer->input, p->pass.batch, p->pass.time),
	};
}

static struct message backward_message(const struct run *run,
				       const struct action *action)
{
	const struct pipeline *p = run->pipeline;
	unsigned to = action->stage - 1u;
	const struct layer *layer =
		model_layer(p->model, p->partition->first[action->stage]);

	return (struct message){
		.kind = MESSAGE_BACKWARD,
		.stage = (uint16_t)to,
		.micro_batch = action->micro_batch,
		.peer = pipeline_rank_with(p, to),
		.bytes = edge_gradient_bytes(&layer->input, p->pass.batch,
					     p->pass.time),
	};
}

/* Waits for what an action uses; the slot it lies in stays until W. */
static int receive(struct run *run, struct message *message,
		   const struct action *action)
{
	struct action wait = *action;
	int rc;

	if (!message) /* made on this rank, or nothing passes */
		return 0;
	rc = exchange_await(run->pipeline->exchange, message);
	if (!rc)
		rc = exchange_take(run->pipeline->exchange, message);
	wait.op = action->op == ACTION_FORWARD ? ACTION_RECV_FORWARD
					       : ACTION_RECV_BACKWARD;
	trace_note(run->pipeline->trace, &wait);
	return rc;
}

/* A place for what an action makes, waiting until there is one. */
static int acquire(struct run *run, const struct message *message,
		   struct outgoing *out, const struct action *action)
{
	struct pipeline *p = run->pipeline;
	struct action wait = *action;
	int64_t waited_ns = exchange_waited_ns(p->exchange);
	int rc = exchange_acquire(p->exchange, message, out);

	wait.op = action->op == ACTION_FORWARD ? ACTION_SEND_FORWARD
					       : ACTION_SEND_BACKWARD;
	if (exchange_waited_ns(p->exchange) != waited_ns)
		trace_note(p->trace, &wait);
	return rc;
}

/* The root has it, the first slice of a group gets it and hands it on. */
static int receive_batch(struct run *run, const struct action *action)
{
	struct pipeline *p = run->pipeline;
	unsigned position = p->place.position;
	int rc = 0;

	if (run->has_batch || !p->needs_batch[position])
		return 0;
	if (p->world->rank != ROUTE_ROOT && p->place.slice == 0)
		rc = receive(run,
			     route_find(run->route, ROUTE_ROOT, MESSAGE_BATCH),
			     action);
	if (!rc && p->collective)
		rc = collective_broadcast(p->collective, p->batch,
					  pipeline_batch_bytes(p, position));
	if (rc)
		return rc;
	run->has_batch = true;
	tie_tokens(p->tied);
	p->pass.loss_scale = 1.0 / (double)p->batch->supervised;
	return 0;
}

static int run_forward(struct run *run, const struct action *action)
{
	struct pipeline *p = run->pipeline;
	struct stage *stage = p->stages[action->stage];
	unsigned to = action->stage + 1u, m = action->micro_batch;
	void *output = NULL;
	int rc = receive_batch(run, action);

	if (!rc)
		rc = receive(run, route_forward(run->route, action->stage, m),
			     action);
	if (rc)
		return rc;
	if (to == run->schedule->stages) {
		output = p->pass.mode == LAYER_DECODE ? p->logits : NULL;
	} else if (pipeline_holds(p, to)) {
		output = stage_claim_input(p->stages[to], m);
	} else {
		struct message message = forward_message(run, action);
		struct outgoing *out =
			next_outgoing(&p->forward_senders[action->stage]);

		rc = acquire(run, &message, out, action);
		if (rc)
			return rc;
		output = out->where;
	}
	stage_forward(stage, &p->pass, m, output);
	if (to == run->schedule->stages) {
		double loss = stage_loss(stage, m);

		if (!p->pass.sample_losses)
			p->result[m] = loss;
		loss_sum_add(&run->losses, &p->accumulation, m, loss);
	}
	return 0;
}

static int run_backward(struct run *run, const struct action *action)
{
	struct pipeline *p = run->pipeline;
	struct stage *stage = p->stages[action->stage];
	unsigned m = action->micro_batch;
	void *gradient = NULL;
	int rc = receive(run, route_backward(run->route, action->stage, m),
			 action);

	if (rc)
		return rc;
	if (action->stage > 0 && pipeline_holds(p, action->stage - 1u)) {
		gradient = stage_claim_output_gradient(
			p->stages[action->stage - 1u], m);
	} else if (action->stage > 0) {
		struct message message = backward_message(run, action);
		struct outgoing *out =
			next_outgoing(&p->backward_senders[action->stage]);

		rc = acquire(run, &message, out, action);
		if (rc)
			return rc;
		gradient = out->where;
	}
	if (action->op == ACTION_BACKWARD)
		stage_backward(stage, &p->pass, m, gradient);
	else
		stage_backward_input(stage, &p->pass, m, gradient);
	return 0;
}

static int send_forward(struct run *run, const struct action *action)
{
	struct pipeline *p = run->pipeline;
	struct message message = forward_message(run, action);

	return exchange_post(
		p->exchange, &message,
		current_outgoing(&p->forward_senders[action->stage]));
}

static int send_backward(struct run *run, const struct action *action)
{
	struct pipeline *p = run->pipeline;
	struct message message = backward_message(run, action);

	return exchange_post(
		p->exchange, &message,
		current_outgoing(&p->backward_senders[action->stage]));
}

static void await_layer(void *argument, unsigned layer)
{
	reducer_layer_await(argument, layer);
}

static void note_ready(void *argument, unsigned layer)
{
	reducer_layer_ready(argument, layer);
}

static int run_step(struct run *run)
{
	struct pipeline *p = run->pipeline;
	int rc = reducer_settle(p->reducer);

	if (rc)
		return rc;
	optimizer_step(&p->job->optimizer, p->world->team, p->store,
		       p->pass.step + 1, p->learning_rate,
		       vote_verdict(p->vote)->gradient_scale);
	return reducer_weights(p->reducer);
}

static int run_action(struct run *run, const struct action *action)
{
	struct pipeline *p = run->pipeline;

	switch (action->op) {
	case ACTION_FORWARD:
		return run_forward(run, action);
	case ACTION_BACKWARD_INPUT:
	case ACTION_BACKWARD:
		return run_backward(run, action);
	case ACTION_BACKWARD_WEIGHT:
		stage_backward_weight(p->stages[action->stage], &p->pass,
				      action->micro_batch);
		return 0;
	case ACTION_SEND_FORWARD:
		return send_forward(run, action);
	case ACTION_SEND_BACKWARD:
		return send_backward(run, action);
	case ACTION_REDUCE_TIED:
		return reduce_tied(p);
	case ACTION_VOTE:
		return vote_run(p, run->losses.level[0]);
	case ACTION_STEP:
		return run_step(run);
	case ACTION_REDUCE_GRAD:
		/* Goes on while the rest of the row is carried out. */
		reducer_stage_ready(p->reducer, action->stage);
		return 0;
	case ACTION_RECV_FORWARD:
	case ACTION_RECV_BACKWARD:
		/* Posted ahead; whoever uses it waits for it. */
	default:
		return 0;
	}
}

static int send_batches(struct run *run)
{
	struct pipeline *p = run->pipeline;

	if (p->world->rank != ROUTE_ROOT)
		return 0;
	p->pass.loss_scale = 1.0 / (double)p->batch->supervised;
	for (unsigned r = 0; r < p->world->size; r++) {
		struct grid_place place = grid_place(&p->grid, r);
		struct message message = {
			.kind = MESSAGE_BATCH,
			.peer = r,
			.bytes = pipeline_batch_bytes(p, place.position),
		};
		int rc;

		if (r == ROUTE_ROOT || place.slice > 0 ||
		    !p->needs_batch[place.position])
			continue;
		rc = exchange_send(p->exchange, &message,
				   pipeline_batch(p, place.replica),
				   &p->batch_busy[r]);
		if (rc)
			return rc;
	}
	return 0;
}

/* What a recorded step's traffic is counted from. */
static void count_traffic(const struct pipeline *p, struct trace_traffic *out)
{
	*out = (struct trace_traffic){0};
	if (p->trace)
		world_count_sent(p->world, &out->bytes, &out->messages);
}

/* What has left since the totals were `before`. */
static void note_traffic(const struct pipeline *p,
			 const struct trace_traffic *before)
{
	struct trace_traffic now;

	count_traffic(p, &now);
	now.bytes -= before->bytes;
	now.messages -= before->messages;
	trace_note_traffic(p->trace, &now);
}

int interpreter_run(struct pipeline *pipeline, const struct schedule *schedule,
		    struct route *route)
{
	struct run run = {
		.pipeline = pipeline, .schedule = schedule, .route = route};
	const struct schedule_row *row =
		&schedule->rows[pipeline->place.position];
	struct trace_traffic sent;
	int rc;

	count_traffic(pipeline, &sent);
	pipeline->pass_begin_ns = clock_now_ns();
	pipeline->pass.columns[COLUMN_LABELS] = pipeline_labels(pipeline, 0);
	pipeline->pass.columns[COLUMN_SEGMENTS] = pipeline_starts(pipeline, 0);
	pipeline->pass.columns[COLUMN_TOKENS] = pipeline_tokens(pipeline, 0);
	pipeline->pass.breathe = exchange_breathe;
	pipeline->pass.breathe_often = exchange_breathe_often;
	pipeline->pass.argument = pipeline->exchange;
	pipeline->pass.trace = pipeline->trace;
	pipeline->pass.collectives = collective_layers(pipeline->collective);
	rc = exchange_begin(pipeline->exchange, route, pipeline->serial++);
	collective_begin(pipeline->collective);
	if (!rc && schedule == pipeline->train_schedule) {
		pipeline->pass.ready = note_ready;
		pipeline->pass.await = await_layer;
		pipeline->pass.reducer = pipeline->reducer;
		reducer_begin(pipeline->reducer);
		tie_begin(pipeline->tied);
	}
	if (!rc)
		rc = send_batches(&run);
	for (size_t i = 0; !rc && i < row->count; i++) {
		world_note_progress(pipeline->world,
				    (int64_t)pipeline->pass.step,
				    interpreter_pack(&row->actions[i]));
		rc = run_action(&run, &row->actions[i]);
		tie_action_done(pipeline->tied, i);
		/* Layers cannot fail; what they exchange inside can. */
		if (!rc)
			rc = exchange_error(pipeline->exchange);
		if (row->actions[i].op != ACTION_RECV_FORWARD &&
		    row->actions[i].op != ACTION_RECV_BACKWARD)
			trace_note(pipeline->trace, &row->actions[i]);
	}
	/* The root's next batch, too, needs this one to have left. */
	if (!rc)
		rc = exchange_flush(pipeline->exchange);
	if (!rc)
		note_traffic(pipeline, &sent);
	world_note_between(pipeline->world);
	return rc;
}
