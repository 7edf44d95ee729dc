/*
 * Sleep in place of work: F, I and W take the time they are given and touch
 * nothing. What passes over the edges is as large as in a real layer.
 */
#include "base/clock.h"
#include "model/layers/primitive.h"

static void sleep_for(double seconds)
{
	if (seconds > 0)
		clock_sleep_until_ns(
			clock_now_ns() +
			(int64_t)(seconds * (double)NS_PER_SECOND));
}

/* Something for W to belong to; a larger one where a tie is rehearsed. */
static unsigned sleep_declare(const struct node *node,
			      struct parameter rows[NODE_WEIGHTS_MAX])
{
	parameter_vector(&rows[0], node->row.name, "weight",
			 node->row.vocab_size);
	return 1;
}

static void sleep_forward(const struct node *node,
			  const struct layer_context *context,
			  const struct operands *operands)
{
	(void)context;
	(void)operands;
	sleep_for(node->row.seconds[PASS_FORWARD]);
}

static void sleep_backward_input(const struct node *node,
				 const struct layer_context *context,
				 const struct operands *operands)
{
	(void)context;
	(void)operands;
	sleep_for(node->row.seconds[PASS_INPUT]);
}

static void sleep_backward_weight(const struct node *node,
				  const struct layer_context *context,
				  const struct operands *operands)
{
	(void)context;
	(void)operands;
	sleep_for(node->row.seconds[PASS_WEIGHT]);
}

const struct primitive_ops sleep_source_ops = {
	.name = "sleep_source",
	.declare = sleep_declare,
	.forward = sleep_forward,
	.backward_weight = sleep_backward_weight,
};

const struct primitive_ops sleep_ops = {
	.name = "sleep",
	.inputs = 1,
	.declare = sleep_declare,
	.forward = sleep_forward,
	.backward_input = sleep_backward_input,
	.backward_weight = sleep_backward_weight,
};
