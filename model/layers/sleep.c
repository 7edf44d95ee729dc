/*
 * Sleep in place of work: F, I and W take the time they are given and touch
 * nothing. What passes over the edges is as large as in a real layer.
 */
#include "base/clock.h"
#include "model/layers/primitive.h"

/* About as often as real work is made of pieces. */
#define SLEEP_PIECE_NS NS_PER_MS

static void sleep_for(double seconds, const struct layer_context *context)
{
	int64_t now_ns = clock_now_ns();
	int64_t until_ns = now_ns + (int64_t)(seconds * (double)NS_PER_SECOND);

	for (; now_ns < until_ns; now_ns = clock_now_ns()) {
		clock_sleep_until_ns(MIN(until_ns, now_ns + SLEEP_PIECE_NS));
		layer_breathe(context);
	}
}

/*
 * Something for W to belong to; a larger one where a tie is rehearsed, of rows
 * as an embedding has them.
 */
static unsigned sleep_declare(const struct node *node,
			      struct parameter rows[NODE_WEIGHTS_MAX])
{
	size_t floats = node->row.vocab_size;

	if (floats % SLEEP_ROW_FLOATS == 0)
		parameter_matrix(&rows[0], node->row.name, "weight",
				 floats / SLEEP_ROW_FLOATS, SLEEP_ROW_FLOATS,
				 0);
	else
		parameter_vector(&rows[0], node->row.name, "weight", floats);
	rows[0].initialiser = INITIALISE_ZEROS;
	return 1;
}

static unsigned sleep_source_declare(const struct node *node,
				     struct parameter rows[NODE_WEIGHTS_MAX])
{
	unsigned count = sleep_declare(node, rows);

	rows[0].rows_by_token = true;
	return count;
}

static void sleep_forward(const struct node *node,
			  const struct layer_context *context,
			  const struct operands *operands)
{
	(void)operands;
	sleep_for(node->row.seconds[PASS_FORWARD], context);
}

static void sleep_backward_input(const struct node *node,
				 const struct layer_context *context,
				 const struct operands *operands)
{
	(void)operands;
	sleep_for(node->row.seconds[PASS_INPUT], context);
}

static void sleep_backward_weight(const struct node *node,
				  const struct layer_context *context,
				  const struct operands *operands)
{
	(void)operands;
	sleep_for(node->row.seconds[PASS_WEIGHT], context);
}

const struct primitive_ops sleep_source_ops = {
	.name = "sleep_source",
	.declare = sleep_source_declare,
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
