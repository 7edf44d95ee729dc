/*
 * The parameter table: one row per parameter of a model.
 *
 * Optimizer, norm, checkpoint, `plan` and `inspect` iterate it. Rows stand in
 * global order: by layer, and within a layer in the order its weights[] and
 * gradients[] are indexed.
 */
#ifndef STAGECOACH_MODEL_PARAMETER_H
#define STAGECOACH_MODEL_PARAMETER_H

#include "base/compiler.h"
#include "model/kernels/element.h"

#define PARAMETER_NAME_BYTES     96
#define PARAMETER_DIMENSIONS_MAX 4
#define PARAMETER_NOT_TIED       (-1)
#define PARAMETER_NOT_SPLIT      (-1)

enum decay_group {
	DECAY_NONE,   /* biases, norms */
	DECAY_WEIGHT, /* matrices, embeddings */
};

enum parameter_initialiser {
	INITIALISE_ZEROS,
	INITIALISE_ONES,
	INITIALISE_NORMAL, /* mean 0, deviation init_deviation */
};

struct parameter {
	unsigned id;                     /* its place in the table */
	char name[PARAMETER_NAME_BYTES]; /* Hugging Face tensor name */
	unsigned dimensions;
	size_t shape[PARAMETER_DIMENSIONS_MAX]; /* row-major; what is here */
	size_t count;                           /* product of shape */
	/* All slices together, as on disk; the same where nothing is split. */
	size_t whole_shape[PARAMETER_DIMENSIONS_MAX];
	size_t whole_count;
	unsigned layer; /* global layer index */
	bool trainable; /* false: no accumulator, no optimizer state */
	/* Of a low-rank adapter: all that is not is frozen then. */
	bool adapter;
	/* Its gradient is added in F (the loss layer's head), not in W. */
	bool accumulates_in_forward;
	/* Its gradient is zero but in the rows that the step's tokens number. */
	bool rows_by_token;
	/*
	 * Id of the parameter whose values this row shares, else
	 * PARAMETER_NOT_TIED. The target comes earlier and is not tied itself.
	 * A tied row has its own accumulator, is not stored on disk, and holds
	 * its own copy of the values where another rank has the target.
	 */
	int tied_to;
	enum decay_group decay_group;
	/*
	 * Tensor parallelism: the axis of shape[] to split, or
	 * PARAMETER_NOT_SPLIT. The axis is split_parts equal parts one after
	 * the other (q|k|v: 3), each of which is divided.
	 */
	int split_axis;
	unsigned split_parts;
	/* The first slices may be one longer: vocabularies divide by little. */
	bool split_uneven;
	unsigned slices; /* the axis is divided among; 1: it is whole here */
	unsigned slice;  /* the one that is here */
	enum element_type compute_type;
	enum element_type master_type;
	enum element_type save_type;
	enum parameter_initialiser initialiser;
	float init_deviation;
};

/*
 * What slice `slice` has of `length` indices: as many as the others, or one
 * more in the first length % slices of them. Ascending, without gaps.
 */
struct parameter_share {
	size_t first;
	size_t count;
};

struct parameter_share parameter_share(size_t length, unsigned slices,
				       unsigned slice);

/*
 * Where the elements that are here stand in the whole tensor: elements
 * [local, local + count) are [whole, whole + count) of it. Runs are numbered by
 * ascending `local`, which is ascending `whole`, too, and are equally long; one
 * run where nothing is split.
 */
struct parameter_run {
	size_t local;
	size_t whole;
	size_t count;
};

size_t parameter_run_count(const struct parameter *parameter);
struct parameter_run parameter_run(const struct parameter *parameter,
				   size_t index);

/*
 * Cuts a whole row to slice `slice` of `slices`: shape and count become the
 * slice's, by split_axis and split_parts. A row that is not split stays as it
 * is. False, and nothing is changed, where a part of the axis does not divide
 * evenly (split_uneven: has fewer indices than there are slices).
 */
bool parameter_cut(struct parameter *parameter, unsigned slices,
		   unsigned slice);

#endif
