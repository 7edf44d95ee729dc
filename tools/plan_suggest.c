#include "tools/plan_suggest.h"
#include "base/log.h"
#include "base/text.h"
#include "engine/suggest.h"
#include "tools/table.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* How often the hosts are doubled to find how many would do. */
#define DOUBLINGS 8u

struct suggesting {
	const struct options *options;
	const struct model *model;
	struct machine machine; /* of a rank's share */
	struct suggest_request request;
	struct train_split base; /* costs */
	struct suggestions found;
	const struct suggestion **shown; /* [shown_count] */
	size_t shown_count;
};

/* ---- what is asked for ---- */

static unsigned typed(const struct options *options, const char *name)
{
	return options_is_typed(options, name)
		       ? (unsigned)options_integer(options, name)
		       : 0;
}

static int read_batch(struct suggesting *s, const struct job *job)
{
	const struct options *o = s->options;
	int64_t tokens;

	if (options_is_set(o, "batch") == options_is_set(o, "batch-tokens"))
		return fail(
			-EINVAL,
			"--suggest needs --batch (sequences a step) or --batch-tokens, one of them");
	if (options_is_set(o, "batch")) {
		s->request.samples = (unsigned)options_integer(o, "batch");
		return 0;
	}
	tokens = options_integer(o, "batch-tokens");
	if (tokens % job->context || tokens / job->context > 1 << 24)
		return fail(
			-EINVAL,
			"--batch-tokens %lld is no multiple of --context %u: %lld would be",
			(long long)tokens, job->context,
			(long long)(MAX(tokens / job->context, 1) *
				    job->context));
	s->request.samples = (unsigned)(tokens / job->context);
	return 0;
}

static int check_request(const struct options *o)
{
	if (!options_is_set(o, "hosts") || !options_is_set(o, "memory"))
		return fail(-EINVAL,
			    "--suggest needs --hosts and --memory (of a host)");
	if (options_is_typed(o, "micro-batches"))
		return fail(
			-EINVAL,
			"--suggest chooses --micro-batches: give --batch, and --micro-batch-size if it is to be kept");
	if (options_is_typed(o, "split"))
		return fail(-EINVAL, "--suggest splits the layers itself: "
				     "leave --split out");
	return 0;
}

static int read_schedule(struct suggesting *s)
{
	const char *name = options_string(s->options, "schedule");
	const struct schedule_kind *kind;

	if (!options_is_typed(s->options, "schedule") ||
	    strcmp(name, "auto") == 0)
		return 0;
	kind = schedule_kind_find(name);
	if (!kind || strcmp(name, "forward") == 0)
		return fail(
			-EINVAL,
			"--suggest --schedule %s: only built-in schedules that train can be proposed (see `stagecoach schedule list`)",
			name);
	s->request.schedule = kind->name;
	return 0;
}

static int read_request(struct suggesting *s, const struct job *job)
{
	const struct options *o = s->options;
	struct suggest_request *r = &s->request;
	int rc = check_request(o);

	if (!rc)
		rc = read_batch(s, job);
	if (!rc)
		rc = read_schedule(s);
	if (rc)
		return rc;
	r->job = job;
	r->model = s->model;
	r->hosts = (unsigned)options_integer(o, "hosts");
	r->host_ranks = (unsigned)options_integer(o, "host-ranks");
	r->memory = (double)options_bytes(o, "memory");
	r->replicas = typed(o, "replicas");
	r->positions = typed(o, "stages");
	r->slices = typed(o, "tensor");
	r->chunks = typed(o, "chunks");
	r->micro_batch_size = typed(o, "micro-batch-size");
	r->recompute = options_flag(o, "recompute");
	r->sharded = options_flag(o, "shard-optimizer");
	r->slices_max = options_is_set(o, "tensor-max")
				? (unsigned)options_integer(o, "tensor-max")
				: r->host_ranks;
	r->slices_max = MAX(r->slices_max, MAX(r->slices, 1u));
	return 0;
}

/* ---- costs, of one rank ---- */

static void share_host(struct machine *machine, unsigned ranks)
{
	machine->rate /= ranks;
	machine->memory /= ranks;
	machine->network /= ranks;
}

/* Measured here, each rank with its share of the cores; or given. */
static int find_costs(struct suggesting *s, struct job *job)
{
	struct costs *costs = &s->base.costs;
	bool several = s->request.hosts > 1;
	int rc;

	/* What is measured, or counted, is one sequence. */
	job->ranks = s->request.host_ranks;
	job->replicas = job->slices = 1;
	job->micro_batch_size = 1;
	job->recompute = false;
	if (s->machine.rate > 0) {
		if (several && s->machine.network == 0)
			return fail(
				-EINVAL,
				"--flops says nothing of the links between hosts: give --network");
		rc = machine_options_costs(s->options, &s->machine, s->model,
					   job, &s->base);
	} else {
		rc = train_options_costs(s->options, s->model, job, &s->base);
		/* One rank a host measures no link. */
		if (!rc && several && costs->bandwidth == 0 &&
		    s->machine.network == 0)
			rc = calibrate_link("tcp", "auto", costs);
	}
	if (rc)
		return rc;
	if (costs->kind != COSTS_LAYERS || !costs->seconds)
		return fail(
			-EINVAL,
			"--suggest needs the time that each layer takes: --costs measure, a costs.json of such a model, or --flops");
	machine_options_links(&s->machine, costs);
	s->request.threads = s->base.calibration.threads;
	s->request.costs = costs;
	s->request.rates = &s->base.rates;
	return 0;
}

/* ---- which are shown ---- */

static bool same_grid(const struct suggestion *a, const struct suggestion *b)
{
	return a->grid.replicas == b->grid.replicas &&
	       a->grid.positions == b->grid.positions &&
	       a->grid.slices == b->grid.slices;
}

/* The best of each grid, the best grids first. */
static int choose(struct suggesting *s)
{
	size_t most = (size_t)options_integer(s->options, "best");
	int rc = 0;

	s->shown = calloc(most, sizeof(*s->shown));
	if (!s->shown)
		return fail(-ENOMEM, "no memory for suggestions");
	for (size_t i = 0; i < s->found.count && s->shown_count < most; i++) {
		const struct suggestion *one = &s->found.fitting[i];
		bool known = false;

		for (size_t k = 0; k < s->shown_count; k++)
			known |= same_grid(s->shown[k], one);
		if (!known)
			s->shown[s->shown_count++] = one;
	}
	for (size_t k = 0; !rc && k < s->shown_count; k++)
		rc = suggest_explain(
			&s->request, k == 0,
			&s->found.fitting[s->shown[k] - s->found.fitting]);
	return rc;
}

/* ---- in words ---- */

static const char *seconds_text(char *buffer, size_t size, double seconds)
{
	if (seconds >= 1)
		snprintf(buffer, size, "%.2f s", seconds);
	else
		snprintf(buffer, size, "%.3g ms", 1e3 * seconds);
	return buffer;
}

/* Parts of a step beside the compute that every rank has. */
struct loss {
	const char *name;
	double seconds;
};

#define LOSSES 5

static void list_losses(const struct suggestion *one, struct loss out[LOSSES])
{
	const struct plan_parts *p = &one->parts;
	const struct loss all[LOSSES] = {
		{"layers that do not divide evenly", p->imbalance},
		{"the schedule's bubble", p->bubble},
		{"messages between stages", p->links},
		{"sums over replicas", p->replicas},
		{"the optimizer and the vote", p->end},
	};

	memcpy(out, all, sizeof(all));
}

static const struct loss *greatest(const struct loss *losses)
{
	const struct loss *most = losses;

	for (unsigned i = 1; i < LOSSES; i++)
		if (losses[i].seconds > most->seconds)
			most = &losses[i];
	return most;
}

static void append_what(struct text_builder *out, const struct suggestion *s)
{
	text_builder_append(out, "%u x %u x %u, %s", s->grid.replicas,
			    s->grid.positions, s->grid.slices, s->schedule);
	if (s->chunks > 1)
		text_builder_append(out, " in %u chunks", s->chunks);
	text_builder_append(out, ", %u micro-batches of %u", s->micro_batches,
			    s->micro_batch_size);
	if (s->recompute)
		text_builder_append(out, ", recomputing");
	if (s->sharded)
		text_builder_append(out, ", sharded");
}

/* Is the same grid there too, fitting, with activations kept? */
static bool fits_without(const struct suggesting *s,
			 const struct suggestion *best)
{
	for (size_t i = 0; i < s->found.count; i++)
		if (same_grid(&s->found.fitting[i], best) &&
		    !s->found.fitting[i].recompute)
			return true;
	return false;
}

static void append_why(const struct suggesting *s, struct text_builder *out)
{
	const struct suggestion *best = s->shown[0];
	const struct plan_parts *p = &best->parts;
	struct loss losses[LOSSES];
	const struct loss *most;
	char bytes[32], sums[32];

	list_losses(best, losses);
	most = greatest(losses);
	text_builder_append(out, "why        %.1f %% of the step is compute",
			    100 * p->compute / best->step);
	if (best->grid.slices > 1)
		text_builder_append(out, ", of which %.1f %% within slices",
				    100 * p->tensor / best->step);
	text_builder_append(out, "; what limits it most: %s, %.1f %%",
			    most->name, 100 * most->seconds / best->step);
	if (best->grid.replicas > 1)
		text_builder_append(
			out,
			"; sums take %s of a rank's network, %.0f %% of it hidden",
			seconds_text(sums, sizeof(sums), best->summing),
			best->summing > 0
				? 100 * (1 -
					 MIN(p->replicas / best->summing, 1))
				: 100);
	text_builder_append(
		out,
		"\nmemory     %s on the fullest rank, %.0f %% of its share%s\n",
		text_bytes(bytes, sizeof(bytes), best->rank_bytes),
		100 * (double)best->rank_bytes /
			(s->request.memory / s->request.host_ranks),
		best->recompute && !fits_without(s, best)
			? "; without --recompute nothing was found to fit on this grid"
			: "");
}

/* Why one computes for longer than the best. */
static const char *more_compute(const struct suggestion *one,
				const struct suggestion *best)
{
	if (one->recompute && !best->recompute)
		return "recomputing";
	if (one->parts.tensor > best->parts.tensor)
		return "sums within layers";
	return "having fewer ranks";
}

/* What one takes longer with than the best: its greatest loss against it. */
static void append_loser(const struct suggesting *s,
			 const struct suggestion *one, struct text_builder *out)
{
	const struct suggestion *best = s->shown[0];
	struct loss theirs[LOSSES], ours[LOSSES];
	double compute = one->parts.compute - best->parts.compute;
	const struct loss *most;
	char time[32];

	list_losses(one, theirs);
	list_losses(best, ours);
	for (unsigned i = 0; i < LOSSES; i++)
		theirs[i].seconds -= ours[i].seconds;
	most = greatest(theirs);
	text_builder_append(out, "instead    ");
	append_what(out, one);
	text_builder_append(
		out, ": %.1f %% slower, by %s (%s more)\n",
		100 * (one->step / best->step - 1),
		compute > most->seconds ? more_compute(one, best) : most->name,
		seconds_text(time, sizeof(time), MAX(compute, most->seconds)));
}

/* Other schedules on the best grid, each as fast as it was found. */
static void append_schedules(const struct suggesting *s,
			     struct text_builder *out)
{
	const struct suggestion *best = s->shown[0];
	unsigned told = 0;

	for (size_t i = 0; i < s->found.count && told < 6; i++) {
		const struct suggestion *one = &s->found.fitting[i];
		bool known = !same_grid(one, best);
		char time[32];

		for (size_t k = 0; !known && k < i; k++)
			known = same_grid(&s->found.fitting[k], best) &&
				strcmp(s->found.fitting[k].schedule,
				       one->schedule) == 0;
		if (known)
			continue;
		text_builder_append(
			out, "%s%s %s", told++ ? ", " : "schedules  ",
			one->schedule,
			seconds_text(time, sizeof(time), one->step));
	}
	if (told)
		text_builder_append(out, "\n");
}

/* What describes the model on train's command line. */
static void append_model(const struct suggesting *s, struct text_builder *out)
{
	static const char *const sizes[] = {"layers",   "width",     "heads",
					    "kv-heads", "head-size", "inner",
					    "window"};
	const struct options *o = s->options;
	const char *folder = options_string(o, "model");

	if (folder) {
		text_builder_append(out, " --model %s --context %u", folder,
				    s->request.job->context);
		return;
	}
	if (options_is_set(o, "arch"))
		text_builder_append(out, " --arch %s",
				    options_string(o, "arch"));
	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++)
		if (i < 3 || options_is_set(o, sizes[i]))
			text_builder_append(
				out, " --%s %lld", sizes[i],
				(long long)options_integer(o, sizes[i]));
	if (options_is_set(o, "rope-theta"))
		text_builder_append(out, " --rope-theta %g",
				    options_real(o, "rope-theta"));
	if (options_is_set(o, "tied"))
		text_builder_append(out, " --tied %s",
				    options_string(o, "tied"));
	text_builder_append(out, " --vocab-size %u --context %u",
			    model_config(s->model)->vocab_size,
			    s->request.job->context);
}

static void append_command(const struct suggesting *s,
			   const struct suggestion *one,
			   struct text_builder *out)
{
	text_builder_append(out, "stagecoach train --data DATA --out RUN");
	append_model(s, out);
	text_builder_append(out, " --stages %u", one->grid.positions);
	if (one->grid.replicas > 1)
		text_builder_append(out, " --replicas %u", one->grid.replicas);
	if (one->grid.slices > 1)
		text_builder_append(out, " --tensor %u", one->grid.slices);
	text_builder_append(out, " --schedule %s", one->schedule);
	if (one->chunks > 1)
		text_builder_append(out, " --chunks %u", one->chunks);
	text_builder_append(out, " --micro-batches %u --micro-batch-size %u",
			    one->micro_batches, one->micro_batch_size);
	if (one->recompute)
		text_builder_append(out, " --recompute");
	if (one->sharded)
		text_builder_append(out, " --shard-optimizer");
}

static void write_head(const struct suggesting *s, struct text_builder *out)
{
	const struct suggest_request *r = &s->request;
	char parameters[32], memory[32], tokens[32], planned[32], grids[32];

	text_builder_append(
		out,
		"model      %s, %u layers, width %u, %u heads: %s parameters\n",
		model_config(s->model)->family, model_config(s->model)->layers,
		model_config(s->model)->width, model_config(s->model)->heads,
		text_grouped(parameters, sizeof(parameters),
			     model_parameter_total(s->model)));
	text_builder_append(
		out,
		"hosts      %u of %u rank%s and %s; layers' times: %s; links %.4g Gbit/s a rank\n",
		r->hosts, r->host_ranks, r->host_ranks == 1 ? "" : "s",
		text_bytes(memory, sizeof(memory), (uint64_t)r->memory),
		r->costs->origin, 8e-9 * r->costs->bandwidth);
	text_builder_append(
		out, "batch      %u sequences of %u tokens, %s a step\n",
		r->samples, r->job->context,
		text_grouped(tokens, sizeof(tokens),
			     (uint64_t)r->samples * r->job->context));
	text_builder_append(
		out,
		"searched   %s grids with their micro-batches, %s plans%s\n",
		text_grouped(grids, sizeof(grids), s->found.considered),
		text_grouped(planned, sizeof(planned), s->found.planned),
		s->found.complete ? ", and no other can be faster by a tenth"
				  : "; the most promising ones, not all");
}

static int write_table(const struct suggesting *s, struct text_builder *out)
{
	static const char *const heads[] = {
		"D",      "P",       "T",      "schedule", "V",
		"M",      "B",       "a rank", "step s",   "tokens/s",
		"idle %", "links %", "sums %"};
	struct table t;

	if (table_init(&t, ARRAY_SIZE(heads), (unsigned)s->shown_count + 1,
		       out))
		return -ENOMEM;
	table_heads(&t, heads);
	for (size_t i = 0; i < s->shown_count; i++, t.rows++) {
		const struct suggestion *one = s->shown[i];
		char rate[32], bytes[32];

		table_put(&t, 0, "%u", one->grid.replicas);
		table_put(&t, 1, "%u", one->grid.positions);
		table_put(&t, 2, "%u", one->grid.slices);
		table_put(&t, 3, "%s%s%s", one->schedule,
			  one->recompute ? ", recompute" : "",
			  one->sharded ? ", sharded" : "");
		table_put(&t, 4, "%u", one->chunks);
		table_put(&t, 5, "%u", one->micro_batches);
		table_put(&t, 6, "%u", one->micro_batch_size);
		table_put(&t, 7, "%s",
			  text_bytes(bytes, sizeof(bytes), one->rank_bytes));
		table_put(&t, 8, "%.4g", one->step);
		table_put(&t, 9, "%s",
			  text_grouped(rate, sizeof(rate),
				       (uint64_t)one->tokens_per_second));
		table_put(&t, 10, "%.1f", 100 * one->bubble);
		table_put(&t, 11, "%.1f", 100 * one->parts.links / one->step);
		table_put(&t, 12, "%.1f",
			  100 * one->parts.replicas / one->step);
	}
	table_write(&t);
	return 0;
}

static char *suggestions_text(const struct suggesting *s)
{
	const struct suggestion *best = s->shown[0];
	struct text_builder out;
	char rate[32], time[32];

	text_builder_init(&out);
	write_head(s, &out);
	text_builder_append(&out, "\n");
	if (write_table(s, &out))
		out.failed = true;
	text_builder_append(&out, "\nbest       ");
	append_what(&out, best);
	text_builder_append(&out, ": %s a step, %s tokens/s predicted",
			    seconds_text(time, sizeof(time), best->step),
			    text_grouped(rate, sizeof(rate),
					 (uint64_t)best->tokens_per_second));
	text_builder_append(&out,
			    best->hosts < s->request.hosts
				    ? ", on %u of the hosts\n"
				    : "\n",
			    best->hosts);
	append_why(s, &out);
	append_schedules(s, &out);
	for (size_t i = 1; i < s->shown_count; i++)
		append_loser(s, s->shown[i], &out);
	text_builder_append(&out, "run        ");
	append_command(s, best, &out);
	text_builder_append(&out, "\n");
	return text_builder_finish(&out);
}

/* ---- for scripts ---- */

static json_t *suggestion_json(const struct suggesting *s,
			       const struct suggestion *one)
{
	const struct plan_parts *p = &one->parts;
	struct text_builder command;
	char *text;
	json_t *json;

	text_builder_init(&command);
	append_command(s, one, &command);
	text = text_builder_finish(&command);
	json = json_pack(
		"{s:i, s:i, s:i, s:s, s:i, s:i, s:i, s:b, s:b, s:i, s:I, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:s}",
		"replicas", (int)one->grid.replicas, "stages",
		(int)one->grid.positions, "slices", (int)one->grid.slices,
		"schedule", one->schedule, "chunks", (int)one->chunks,
		"micro_batches", (int)one->micro_batches, "micro_batch_size",
		(int)one->micro_batch_size, "recompute", one->recompute,
		"shard_optimizer", one->sharded, "hosts", (int)one->hosts,
		"rank_bytes", (json_int_t)one->rank_bytes, "step", one->step,
		"tokens_per_second", one->tokens_per_second, "bubble",
		one->bubble, "summing", one->summing, "sent_stages_bytes",
		one->sent_stages, "sent_replicas_bytes", one->sent_replicas,
		"sent_slices_bytes", one->sent_slices, "command",
		text ? text : "");
	free(text);
	if (json)
		json_object_set_new(
			json, "parts",
			json_pack("{s:f, s:f, s:f, s:f, s:f, s:f, s:f}",
				  "compute", p->compute, "imbalance",
				  p->imbalance, "bubble", p->bubble, "links",
				  p->links, "replicas", p->replicas, "end",
				  p->end, "tensor", p->tensor));
	return json;
}

static char *suggestions_json(const struct suggesting *s)
{
	json_t *list = json_array(), *json;
	struct text_builder out;
	char *dump;

	for (size_t i = 0; i < s->shown_count; i++)
		json_array_append_new(list, suggestion_json(s, s->shown[i]));
	json = json_pack(
		"{s:I, s:i, s:i, s:I, s:i, s:i, s:I, s:I, s:I, s:b, s:o}",
		"parameters", (json_int_t)model_parameter_total(s->model),
		"hosts", (int)s->request.hosts, "host_ranks",
		(int)s->request.host_ranks, "memory",
		(json_int_t)s->request.memory, "samples",
		(int)s->request.samples, "context",
		(int)s->request.job->context, "considered",
		(json_int_t)s->found.considered, "planned",
		(json_int_t)s->found.planned, "too_large",
		(json_int_t)s->found.too_large, "complete", s->found.complete,
		"suggestions", list);
	dump = json ? json_dumps(json, JSON_INDENT(2) | JSON_REAL_PRECISION(9))
		    : NULL;
	json_decref(json);
	text_builder_init(&out);
	text_builder_append(&out, "%s\n", dump ? dump : "");
	out.failed |= !dump;
	free(dump);
	return text_builder_finish(&out);
}

/* ---- when nothing fits ---- */

/* The number of hosts, doubled until something fits; 0: not found. */
static unsigned enough_hosts(const struct suggesting *s)
{
	struct suggest_request request = s->request;

	request.any = true;
	for (unsigned i = 0; i < DOUBLINGS; i++) {
		struct suggestions found;
		bool fits;

		request.hosts *= 2;
		if (suggest_find(&request, &found))
			return 0;
		fits = found.count > 0;
		suggestions_fini(&found);
		if (fits)
			return request.hosts;
	}
	return 0;
}

static int refuse(const struct suggesting *s)
{
	const struct suggestion *least = &s->found.least;
	unsigned hosts = enough_hosts(s);
	char needed[32], had[32], more[64] = "";
	struct text_builder what;
	char *text;
	int rc;

	text_builder_init(&what);
	append_what(&what, least);
	text = text_builder_finish(&what);
	if (hosts)
		snprintf(more, sizeof(more), ", or --hosts %u", hosts);
	rc = fail(
		-EINVAL,
		"nothing fits into --memory %s on %u host%s: the least found is %s a host (D x P x T %s); what would fit: --memory %s%s",
		text_bytes(had, sizeof(had), (uint64_t)s->request.memory),
		s->request.hosts, s->request.hosts == 1 ? "" : "s",
		text_bytes(needed, sizeof(needed),
			   least->rank_bytes * s->request.host_ranks),
		text ? text : "?", needed, more);
	free(text);
	return rc;
}

/* ---- all of it ---- */

static int find(struct suggesting *s, struct job *job)
{
	int rc = read_request(s, job);

	if (rc)
		return rc;
	share_host(&s->machine, s->request.host_ranks);
	rc = find_costs(s, job);
	if (!rc)
		rc = suggest_find(&s->request, &s->found);
	if (!rc && s->found.count == 0)
		rc = refuse(s);
	return rc ? rc : choose(s);
}

static int print(const struct suggesting *s)
{
	char *text = options_flag(s->options, "json") ? suggestions_json(s)
						      : suggestions_text(s);
	int rc = 0;

	if (!text)
		return fail(-ENOMEM, "no memory to print suggestions");
	if (fputs(text, stdout) == EOF)
		rc = -EIO; /* main() says so */
	free(text);
	return rc;
}

int plan_suggest(const struct options *options, const struct machine *machine,
		 const struct model *model, struct job *job)
{
	struct suggesting s = {
		.options = options,
		.model = model,
		.machine = *machine,
	};
	int rc = find(&s, job);

	if (!rc)
		rc = print(&s);
	free(s.shown);
	suggestions_fini(&s.found);
	train_split_fini(&s.base);
	return rc;
}
