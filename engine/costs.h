/*
 * Costs: how long F, I and W of each piece of a model take, what the pieces
 * hold and send, and what the links and the end of a step take. Measured
 * (engine/calibrate.h, a run with --trace) or given by the user.
 *
 * Rows stand for the layers of a model in order, for the ranks of a pipeline
 * (each rank's whole slice, whatever its chunks), or for its stages. A file is
 * JSON:
 *
 *   {"format": "stagecoach-costs-1", "unit": "seconds",
 *    "layers": [{"name": "transformer.h.0", "forward": 0.0123, "input":
 *      0.0117, "weight": 0.0112, "activation_bytes": 1048576,
 *      "pending_bytes": 524288, "gradient_bytes": 28311552}, ...],
 *    "micro_batch_size": 2, "context": 256, "threads": 1, "value_bytes": 4,
 *    "message_bytes": 786432, "tied_bytes": 154389504,
 *    "latency": 0.00003, "bandwidth": 4.1e9, "send": 0.00008,
 *    "receive": 0.00002, "reduce_tied": 0.19, "tied_early": 1.2, "vote": 0.01,
 *    "step": 0.03,
 *    "slices": 2, "replica_latency": 0.00005, "replica_bandwidth": 1.2e9,
 *    "tensor_latency": 0.000004, "tensor_bandwidth": 9e9,
 *    "replica_early": 0.75, "add": 2e-10}
 *
 * with "ranks" or "stages" in place of "layers" for the other two, or "slice"
 * with one row, the same for every rank; what is absent is zero (no bytes, no
 * limit, no time), and a key that is none of these is refused, since a
 * misspelt one would be a zero. "unit" may be "" or absent: plain
 * numbers. Times are for one micro-batch, bytes for one micro-batch or message;
 * the loss layer's forward includes its weight gradient.
 */
#ifndef STAGECOACH_ENGINE_COSTS_H
#define STAGECOACH_ENGINE_COSTS_H

#include "base/json.h"
#include "engine/partition.h"
#include "schedules/simulate.h"

/* More rows than any model has layers, or any schedule stages. */
#define COSTS_ROWS_MAX 16384

enum costs_rows {
	COSTS_SLICE, /* one row, for the slice of any rank */
	COSTS_RANKS,
	COSTS_STAGES,
	COSTS_LAYERS,
};

struct costs_row {
	char name[48]; /* of a layer; "" else */
	double forward;
	double input;
	double weight;
	double activation_bytes; /* held from F until W */
	double pending_bytes;    /* held from I until W, I and W apart */
	double gradient_bytes;   /* what replicas sum up, once a step */
};

struct costs {
	/* For messages: a path, "--costs 1,1,1", "measured". */
	char origin[128];
	bool seconds; /* else plain numbers */
	enum costs_rows kind;
	unsigned count;
	struct costs_row *rows;    /* [count] */
	unsigned micro_batch_size; /* what was measured; 0: not said */
	unsigned context;
	unsigned threads;
	unsigned value_bytes; /* of a number between layers (--dtype); 0: not
				 said */
	double message_bytes; /* of one message between stages */
	double tied_bytes;    /* of the tied parameter; 0: none */
	double latency;       /* of a message */
	double bandwidth;     /* bytes a unit of time; 0: no limit */
	double send;          /* of the rank itself, a message */
	double receive;
	double reduce_tied; /* from the later of the two ranks on */
	double tied_early;  /* the head's gradient on its way, before that */
	double vote;        /* from the last rank on */
	double step;        /* optimizer, the costliest rank */
	/*
	 * On a grid (engine/costs_grid.h). Links between replicas and within a
	 * tensor group; 0: as those between stages.
	 */
	unsigned slices; /* layers are one of so many slices; 0: whole */
	double replica_latency;
	double replica_bandwidth;
	double tensor_latency;
	double tensor_bandwidth;
	double replica_early; /* share of a stage's last W (or B), 0 to 1, for
		which its sum over replicas goes on beside it */
	double add;           /* of the rank itself, a byte summed up */
};

/*
 * "F,I,W" (one slice; plain numbers, or all with s, ms, us, ns), a file, or a folder RUN, whose costs.json is read.
 * -EINVAL, -ENOENT, logged with place and reason. The caller's to
 * costs_fini(), in any case.
 */
int costs_open(const char *text, struct costs *out) MUST_CHECK;
int costs_from_json(const json_t *json, const char *origin,
		    struct costs *out) MUST_CHECK;
json_t *costs_to_json(const struct costs *costs); /* NULL: no memory */
int costs_write(const struct costs *costs, const char *path) MUST_CHECK;
void costs_fini(struct costs *costs);

/* "layers", "ranks", "stages", "slice". */
const char *costs_rows_name(enum costs_rows kind);

/*
 * Are these the costs of this model's layers? Their number and, where the rows
 * have names, each name; and where they say so the type of numbers they were
 * measured with. -EINVAL names the first that differs. Rows of another
 * kind are -EINVAL too: they do not say what a layer takes.
 */
struct model;
int costs_check_model(const struct costs *costs,
		      const struct model *model) MUST_CHECK;

/*
 * Rows for a model's layers with names and bytes and no times yet; message and
 * tied bytes too (engine/costs_model.c). -ENOMEM, logged.
 */
struct model;
int costs_describe_model(const struct model *model, unsigned micro_batch_size,
			 unsigned context, bool recompute, unsigned threads,
			 struct costs *out) MUST_CHECK;

/* One of those rows: name and bytes are set, times left as they are. */
struct layer;
void costs_describe_layer(const struct layer *layer, size_t batch, size_t time,
			  bool recompute, unsigned threads,
			  struct costs_row *out);

/*
 * What the simulator takes, for the stages of a schedule: sums over the
 * partition's layers for COSTS_LAYERS (partition NULL: -EINVAL), else the row's
 * share: a rank's divided by the stages it holds, the slice's by
 * schedule->chunks. Rows that do not fit the schedule are -EINVAL,
 * logged. Links, reductions, vote and step are copied; buffers are
 * SCHEDULE_BUFFERS_ANY. *out points into *storage, which the caller frees.
 */
int costs_of_stages(const struct costs *costs, const struct schedule *schedule,
		    const struct partition *partition,
		    struct schedule_costs *out, double **storage) MUST_CHECK;

#endif
