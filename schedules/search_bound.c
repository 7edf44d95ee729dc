/*
 * Lower bounds: see search_bound.h.
 */
#include "schedules/search_bound.h"
#include "base/log.h"
#include "schedules/build.h"
#include "schedules/walk.h"
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

struct bound {
	const struct search_problem *problem;
	double *forward;  /* [stages] h: F can start */
	double *backward; /* [stages] g: I can start */
	double *rest; /* [stages] from the end of I of the last micro-batch to
			 the last row's end, at least */
	double *row_tail; /* [ranks] what follows a row's last reduction */
	double end;       /* what follows all rows: vote and step */
	struct search_bound best;
};

static bool receives_forward(const struct search_problem *problem,
			     unsigned stage)
{
	return stage > 0 && !problem->input_here[stage];
}

static bool receives_backward(const struct search_problem *problem,
			      unsigned stage)
{
	return stage + 1 < problem->stages && !problem->gradient_here[stage];
}

static double price(const struct search_problem *problem, unsigned stage,
		    unsigned op)
{
	return problem->price[token_of(stage, op)];
}

/* From the end of one operation to the start of the one it feeds. */
static double edge_of(const struct search_problem *problem, size_t link)
{
	return problem->costs.send + link_transfer(&problem->costs, link) +
	       link_latency(&problem->costs, link) + problem->costs.receive;
}

static double reduce_of(const struct search_problem *problem, unsigned stage)
{
	const struct schedule_costs *costs = &problem->costs;

	if (!problem->lowering.reduce && !problem->lowering.train)
		return 0;
	return costs->stage_reduce ? costs->stage_reduce[stage] : costs->reduce;
}

static void find_tails(struct bound *bound)
{
	const struct search_problem *problem = bound->problem;
	const struct schedule_lowering *lowering = &problem->lowering;
	double step = 0;

	if (!lowering->train)
		return;
	for (size_t i = 0; i < lowering->tie_count; i++) {
		unsigned first =
			problem->rank_of_stage[lowering->ties[i].first_stage];
		unsigned second =
			problem->rank_of_stage[lowering->ties[i].second_stage];

		bound->row_tail[first] += problem->costs.reduce_tied;
		if (second != first)
			bound->row_tail[second] += problem->costs.reduce_tied;
	}
	for (unsigned rank = 0; rank < problem->ranks; rank++)
		if (problem->costs.rank_step)
			step = MAX(step, problem->costs.rank_step[rank]);
	bound->end = problem->costs.vote + step;
}

static void find_times(struct bound *bound)
{
	const struct search_problem *problem = bound->problem;
	unsigned stages = problem->stages;

	for (unsigned s = 1; s < stages; s++) {
		bound->forward[s] = bound->forward[s - 1] +
				    price(problem, s - 1, ACTION_FORWARD);
		if (receives_forward(problem, s))
			bound->forward[s] += edge_of(problem, 2 * (size_t)s);
	}
	bound->backward[stages - 1] =
		bound->forward[stages - 1] +
		price(problem, stages - 1, ACTION_FORWARD);
	for (unsigned s = stages - 1; s-- > 0;) {
		bound->backward[s] =
			bound->backward[s + 1] +
			price(problem, s + 1, ACTION_BACKWARD_INPUT);
		if (receives_backward(problem, s))
			bound->backward[s] +=
				edge_of(problem, 2 * (size_t)s + 1);
	}
	for (unsigned s = 0; s < stages; s++) {
		double chain = 0;

		bound->rest[s] = price(problem, s, ACTION_BACKWARD_WEIGHT) +
				 reduce_of(problem, s) +
				 bound->row_tail[problem->rank_of_stage[s]];
		if (s > 0) {
			chain = price(problem, s - 1, ACTION_BACKWARD_INPUT) +
				bound->rest[s - 1];
			if (receives_backward(problem, s - 1))
				chain += edge_of(problem,
						 2 * ((size_t)s - 1) + 1);
		}
		bound->rest[s] = MAX(bound->rest[s], chain);
	}
}

static void consider(struct bound *bound, double makespan, const char *reason,
		     unsigned number)
{
	if (makespan <= bound->best.makespan * (1 + 1e-12))
		return;
	bound->best.makespan = makespan;
	snprintf(bound->best.reason, sizeof(bound->best.reason), reason,
		 number);
}

/* What a rank holds. */

double search_least_bytes(const struct search_problem *problem, unsigned rank)
{
	const unsigned *stages =
		&problem->stage_of_rank[rank * problem->chunks];
	double together = 0;
	double least = 0;

	for (unsigned c = 0; c < problem->chunks; c++) {
		together += problem->kept[stages[c]];
		least = MAX(least, together + problem->left[stages[c]]);
	}
	return least;
}

/* Time that items of some stage take, and the bytes each of them holds. */
struct item {
	double time;
	double bytes;
};

static int compare_items(const void *a, const void *b)
{
	const struct item *x = a;
	const struct item *y = b;
	/* Time per byte, most first; what holds nothing before all. */
	double first = x->time * y->bytes;
	double second = y->time * x->bytes;

	return (first < second) - (first > second);
}

/*
 * The most time that items held at once under the cap can amount to, each kind
 * at most M times. Parts of an item count, so it is no less than the truth; where
 * all hold the same, whole ones only.
 */
static double most_time(const struct search_problem *problem, unsigned rank,
			struct item *items)
{
	double room = problem->cap ? problem->cap[rank] * (1 + 1e-9) : INFINITY;
	double time = 0;
	bool equal = true;

	for (unsigned c = 1; c < problem->chunks; c++)
		equal = equal && items[c].bytes == items[0].bytes;
	if (equal && items[0].bytes > 0 && room < INFINITY)
		room = floor(room / items[0].bytes) * items[0].bytes;
	qsort(items, problem->chunks, sizeof(*items), compare_items);
	for (unsigned c = 0; c < problem->chunks; c++) {
		double number = problem->micro_batches;

		if (items[c].bytes > 0)
			number = MIN(number, room / items[c].bytes);
		time += number * items[c].time;
		room -= number * items[c].bytes;
	}
	return time;
}

/* Of a rank's own time, with its messages, per micro-batch. */
static double forward_time(const struct search_problem *problem, unsigned stage)
{
	const struct schedule_costs *costs = &problem->costs;

	return price(problem, stage, ACTION_FORWARD) +
	       (receives_forward(problem, stage) ? costs->receive : 0) +
	       (receives_backward(problem, stage) ? costs->send : 0);
}

static double backward_time(const struct search_problem *problem,
			    unsigned stage)
{
	const struct schedule_costs *costs = &problem->costs;

	return price(problem, stage, ACTION_BACKWARD) +
	       (receives_backward(problem, stage) ? costs->receive : 0) +
	       (receives_forward(problem, stage) ? costs->send : 0);
}

/* A rank's work, and when it can begin with it. */
struct work {
	unsigned first; /* stages of the rank */
	unsigned last;
	double from;   /* the first F, or taking in its input */
	double turn;   /* the first I likewise */
	double filled; /* with Fs between the two, at most */
	double all;    /* time for all micro-batches */
	double once;   /* for one */
	double reduce;
	double held; /* Ws that can be left when the last I is done, at most */
};

static void count_work(const struct bound *bound, unsigned rank,
		       struct work *work)
{
	const struct search_problem *problem = bound->problem;
	const unsigned *stages =
		&problem->stage_of_rank[rank * problem->chunks];
	struct item forwards[SCHEDULE_SEARCH_MAX_CHUNKS];
	struct item weights[SCHEDULE_SEARCH_MAX_CHUNKS];

	*work = (struct work){.first = stages[0],
			      .last = stages[problem->chunks - 1]};
	work->from = bound->forward[work->first];
	work->turn = bound->backward[work->last];
	if (receives_forward(problem, work->first))
		work->from -= problem->costs.receive;
	if (receives_backward(problem, work->last))
		work->turn -= problem->costs.receive;
	for (unsigned c = 0; c < problem->chunks; c++) {
		unsigned s = stages[c];

		work->once +=
			forward_time(problem, s) + backward_time(problem, s);
		work->reduce += reduce_of(problem, s);
		forwards[c] = (struct item){forward_time(problem, s),
					    problem->kept[s]};
		weights[c] =
			(struct item){price(problem, s, ACTION_BACKWARD_WEIGHT),
				      problem->kept[s] + problem->left[s]};
	}
	work->all = problem->micro_batches * work->once;
	work->filled = MIN(most_time(problem, rank, forwards),
			   work->turn - work->from);
	work->held = most_time(problem, rank, weights);
}

/*
 * A rank's work, none of it lost but what must be: before its first F can
 * start; between that and its first I, where it can do no more Fs than it can
 * hold; and behind its last I, where it can do no more Ws than it can hold while
 * that gradient goes on through the stages before.
 */
static void bound_by_work(struct bound *bound, unsigned rank,
			  const struct work *work)
{
	const struct search_problem *problem = bound->problem;
	double done = work->turn + work->all - work->filled;
	double chain;

	consider(bound,
		 done + work->reduce + bound->row_tail[rank] + bound->end,
		 work->filled < work->turn - work->from
			 ? "rank %u's work, and its wait for the first "
			   "gradient with no more forwards than it can hold"
			 : "rank %u's work, from when its first input can "
			   "be there",
		 rank);
	if (work->first == 0)
		return;
	chain = bound->rest[work->first - 1] +
		price(problem, work->first - 1, ACTION_BACKWARD_INPUT);
	/* That it is handed over is part of the work. */
	if (receives_backward(problem, work->first - 1))
		chain += edge_of(problem, 2 * ((size_t)work->first - 1) + 1) -
			 problem->costs.send;
	consider(bound, done - work->held + chain + bound->end,
		 "rank %u's work up to its last gradient, and that "
		 "gradient's way through the stages before",
		 rank);
}

/*
 * When the last micro-batch comes to a rank, all but as many as it can hold
 * are done with there; and then it has its whole way before it.
 */
static void bound_by_last(struct bound *bound, unsigned rank,
			  const struct work *work)
{
	const struct search_problem *problem = bound->problem;
	const unsigned *stages =
		&problem->stage_of_rank[rank * problem->chunks];
	double least = INFINITY; /* bytes of a stage */
	double gone;
	double start;

	for (unsigned c = 0; c < problem->chunks; c++)
		least = MIN(least, problem->kept[stages[c]]);
	if (least <= 0)
		return;
	gone = problem->micro_batches -
	       floor(problem->cap[rank] * (1 + 1e-9) / least);
	if (gone <= 0)
		return;
	start = work->turn - work->filled + gone * work->once +
		(problem->micro_batches - 1 - gone) *
			forward_time(problem, work->first);
	consider(bound,
		 start + bound->backward[work->first] -
			 bound->forward[work->first] +
			 price(problem, work->first, ACTION_BACKWARD_INPUT) +
			 bound->rest[work->first] + bound->end,
		 "rank %u's work on the micro-batches that must be done with "
		 "before the last one fits, and that one's way",
		 rank);
}

/* From F's start to W's end of one micro-batch, at least. */
static double stay_of(const struct bound *bound, unsigned stage)
{
	return bound->backward[stage] - bound->forward[stage] +
	       price(bound->problem, stage, ACTION_BACKWARD);
}

/* What a rank holds over time is no more than the cap over the same time. */
static void bound_by_cap(struct bound *bound, unsigned rank)
{
	const struct search_problem *problem = bound->problem;
	const unsigned *stages =
		&problem->stage_of_rank[rank * problem->chunks];
	double area = 0;

	for (unsigned c = 0; c < problem->chunks; c++)
		area += problem->kept[stages[c]] * stay_of(bound, stages[c]) +
			problem->left[stages[c]] *
				price(problem, stages[c], ACTION_BACKWARD);
	consider(bound,
		 bound->forward[stages[0]] +
			 problem->micro_batches * area / problem->cap[rank] +
			 bound->row_tail[rank] + bound->end,
		 "what micro-batches hold on rank %u while they are on their "
		 "way, under its cap",
		 rank);
}

/*
 * No more than `held` micro-batches are on their way behind a stage at once,
 * so they come in shifts.
 */
static void bound_by_stage(struct bound *bound, unsigned stage)
{
	const struct search_problem *problem = bound->problem;
	unsigned rank = problem->rank_of_stage[stage];
	double shifts = 1;

	if (problem->cap && problem->kept[stage] > 0) {
		double held = floor(problem->cap[rank] * (1 + 1e-9) /
				    problem->kept[stage]);

		shifts = ceil(problem->micro_batches / MAX(held, 1));
	}
	consider(bound,
		 bound->backward[stage] +
			 price(problem, stage, ACTION_BACKWARD_INPUT) +
			 (shifts - 1) * stay_of(bound, stage) +
			 bound->rest[stage] + bound->end,
		 shifts > 1 ? "the way of a micro-batch from stage %u to the "
			      "loss and back, as many at once as the cap allows"
			    : "the way of one micro-batch through stage %u to "
			      "the loss and back",
		 stage);
}

/* From the end of a message to the end of all. */
static double rest_of_link(const struct bound *bound, size_t link)
{
	const struct search_problem *problem = bound->problem;
	unsigned stage = link_receiver(link);
	double rest = link_latency(&problem->costs, link) +
		      problem->costs.receive +
		      price(problem, stage, ACTION_BACKWARD_INPUT) +
		      bound->rest[stage];

	if (link % 2 == 0)
		rest += bound->backward[stage] - bound->forward[stage];
	return rest;
}

/* When a link's first message can be handed over. */
static double start_of_link(const struct bound *bound, size_t link)
{
	const struct search_problem *problem = bound->problem;
	unsigned stage = link_sender(link);

	return problem->costs.send +
	       (link % 2 == 0
			? bound->forward[stage] +
				  price(problem, stage, ACTION_FORWARD)
			: bound->backward[stage] +
				  price(problem, stage, ACTION_BACKWARD_INPUT));
}

/* All messages from one rank to another, one after another. */
static void bound_by_wire(struct bound *bound, unsigned from, unsigned to)
{
	const struct search_problem *problem = bound->problem;
	double start = INFINITY;
	double rest = INFINITY;
	double taken = 0;

	for (unsigned c = 0; c < problem->chunks; c++) {
		unsigned stage =
			problem->stage_of_rank[to * problem->chunks + c];

		for (unsigned back = 0; back < 2; back++) {
			size_t link = 2 * (size_t)stage + back;

			if (!(back ? receives_backward(problem, stage)
				   : receives_forward(problem, stage)) ||
			    problem->rank_of_stage[link_sender(link)] != from)
				continue;
			start = MIN(start, start_of_link(bound, link));
			rest = MIN(rest, rest_of_link(bound, link));
			taken += problem->micro_batches *
				 link_transfer(&problem->costs, link);
		}
	}
	if (taken > 0)
		consider(bound, start + taken + rest + bound->end,
			 "the messages to rank %u, one after another", to);
}

static int bound_init(struct bound *bound, const struct search_problem *problem)
{
	*bound = (struct bound){
		.problem = problem,
		.forward = calloc(problem->stages, sizeof(double)),
		.backward = calloc(problem->stages, sizeof(double)),
		.rest = calloc(problem->stages, sizeof(double)),
		.row_tail = calloc(problem->ranks, sizeof(double)),
	};
	if (bound->forward && bound->backward && bound->rest && bound->row_tail)
		return 0;
	return fail(-ENOMEM, "no memory to bound schedules of %u stages",
		    problem->stages);
}

static void bound_fini(struct bound *bound)
{
	free(bound->row_tail);
	free(bound->rest);
	free(bound->backward);
	free(bound->forward);
}

int search_bound_find(const struct search_problem *problem,
		      struct search_bound *out)
{
	struct bound bound;
	int error = bound_init(&bound, problem);

	if (!error) {
		find_tails(&bound);
		find_times(&bound);
		for (unsigned rank = 0; rank < problem->ranks; rank++) {
			unsigned next = (rank + 1) % problem->ranks;
			struct work work;

			count_work(&bound, rank, &work);
			bound_by_work(&bound, rank, &work);
			if (problem->cap) {
				bound_by_last(&bound, rank, &work);
				bound_by_cap(&bound, rank);
			}
			bound_by_wire(&bound, rank, next);
			bound_by_wire(&bound, next, rank);
		}
		for (unsigned stage = 0; stage < problem->stages; stage++)
			bound_by_stage(&bound, stage);
		*out = bound.best;
	}
	bound_fini(&bound);
	return error;
}
