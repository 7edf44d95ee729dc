/*
 * Schedules: what each rank of a pipeline does, in which order.
 *
 * A schedule is data: a row of actions a rank. Generators write the compute
 * actions (schedule_generate), or a file does (schedule_load);
 * schedule_lower() adds the messages; schedule_validate() proves the result;
 * simulate.h predicts its times; the engine interprets it. Nothing
 * here keeps state outside its arguments.
 *
 * Words: a rank holds `chunks` stages; a stage is numbered globally from 0
 * (the embedding's) to stages - 1 (the loss stage). F is the forward of one
 * micro-batch through one stage, I its input gradient, W its weight
 * gradient, B = I then W in one action.
 */
#ifndef STAGECOACH_SCHEDULES_SCHEDULE_H
#define STAGECOACH_SCHEDULES_SCHEDULE_H

#include "base/compiler.h"

/* Limits of the 16-bit fields, and of what a file may make us allocate. */
#define SCHEDULE_MAX_STAGES        4096
#define SCHEDULE_MAX_MICRO_BATCHES 65535
#define SCHEDULE_MAX_ACTIONS       (64u << 20)
#define SCHEDULE_NAME_BYTES        64

enum action_op {
	ACTION_FORWARD,
	ACTION_BACKWARD_INPUT,  /* I */
	ACTION_BACKWARD_WEIGHT, /* W */
	ACTION_BACKWARD,        /* B: I, then W */
	/*
	 * Messages. A link is directed and joins two neighbouring stages
	 * on different ranks: one from stage s to s + 1 (forward), one from
	 * s + 1 to s (backward). SEND_* carries the stage and micro-batch whose output it
	 * is: stage s SEND_F pairs with stage s + 1 RECV_F, stage s SEND_B
	 * with stage s - 1 RECV_B. RECV_* carries the stage that will use it.
	 */
	ACTION_SEND_FORWARD,
	ACTION_RECV_FORWARD,
	ACTION_SEND_BACKWARD,
	ACTION_RECV_BACKWARD,
	/* Once a stage, after its last W; micro_batch is 0. */
	ACTION_REDUCE_GRAD,
	/*
	 * Sums the gradients of a tied parameter. micro_batch is the index of
	 * the tie in schedule_lowering.ties. On each of the two ranks once
	 * (stage: the tied stage there), or once alone if one rank holds both.
	 */
	ACTION_REDUCE_TIED,
	/* Once a rank, last in its row; stage is the rank's first stage. */
	ACTION_VOTE,
	ACTION_STEP,
	ACTION_OP_COUNT
};

struct action {
	uint16_t op; /* enum action_op */
	uint16_t stage;
	uint16_t micro_batch;
	/*
	 * 0: stands alone. Neighbours in a row with one non-zero group belong
	 * together (an overlapped F and B); run in row order it is correct too.
	 */
	uint16_t group;
};

struct schedule_row {
	struct action *actions;
	size_t count;
};

enum schedule_placement {
	SCHEDULE_PLACEMENT_LOOP, /* stage s on rank s mod P */
	SCHEDULE_PLACEMENT_V,    /* stages r and 2P-1-r on rank r */
	SCHEDULE_PLACEMENT_FREE, /* a file's own: see rank_of_stage */
};

struct schedule {
	char name[SCHEDULE_NAME_BYTES]; /* generator's name, or the file's */
	unsigned ranks;
	unsigned chunks; /* stages a rank (the largest number, if they differ)*/
	unsigned stages;
	unsigned micro_batches;
	bool forward_only;
	bool lowered; /* has messages (or, with one rank, needs none) */
	enum schedule_placement placement;
	unsigned *rank_of_stage;   /* [stages] */
	struct schedule_row *rows; /* [ranks] */
};

/*
 * The compute actions of a built-in schedule. `chunks` 0 takes the
 * schedule's own default. -EINVAL, logged, for an unknown name (with the nearest
 * known one) and outside the schedule's restrictions (saying which).
 * The caller destroys *out.
 */
int schedule_generate(const char *name, unsigned ranks, unsigned micro_batches,
		      unsigned chunks, struct schedule **out) MUST_CHECK;
void schedule_destroy(struct schedule *schedule); /* NULL is legal */

/*
 * Text: the CSV of PyTorch's torch.distributed.pipelining (`_dump_csv`,
 * `_load_csv`): a row a rank; a cell `<stage><op>[<micro-batch>]` with op one
 * of F I W B SEND_F RECV_F SEND_B RECV_B REDUCE_GRAD (and our REDUCE_TIED VOTE
 * STEP), or `(cell;cell)OVERLAP_F_B`; an empty cell is an idle slot, which
 * this program does not keep, nor does it keep UNSHARD and RESHARD, where
 * PyTorch gathers sharded parameters, and its WAIT_SEND_* and WAIT_REDUCE_GRAD.
 * Lines end in LF or CRLF.
 *
 * Older files write I as B, and B as BW. AUTO takes a file for an older one
 * when it has BW, or B and W but never I (no modern file can be valid so), and
 * says so in a log line.
 */
enum schedule_dialect {
	SCHEDULE_DIALECT_AUTO,
	SCHEDULE_DIALECT_MODERN,
	SCHEDULE_DIALECT_OLD,
};

/* "auto", "modern" or "old"; -EINVAL, silent. */
int schedule_dialect_parse(const char *text,
			   enum schedule_dialect *out) MUST_CHECK;

/*
 * Ranks, stages, micro-batches and placement follow from the cells. Errors
 * are logged with origin, line, column, cell and what was expected (-EINVAL). What
 * parses need not be a valid schedule.
 */
int schedule_parse(const char *text, size_t length, const char *origin,
		   enum schedule_dialect dialect,
		   struct schedule **out) MUST_CHECK;
int schedule_load(const char *path, enum schedule_dialect dialect,
		  struct schedule **out) MUST_CHECK;

/*
 * The CSV, CRLF as PyTorch writes it: in the modern dialect, or in another (AUTO:
 * modern). The caller frees. NULL when memory ran out.
 */
char *schedule_text(const struct schedule *schedule);
char *schedule_text_as(const struct schedule *schedule,
		       enum schedule_dialect dialect);

/* One cell, e.g. "2SEND_F3"; no group. Returns buffer (24 bytes suffice). */
char *schedule_action_text(char *buffer, size_t size,
			   const struct action *action);

/* An enum action_op as a cell has it: "F", "SEND_F", ...; "?" for none. */
const char *schedule_op_text(unsigned op);

/*
 * A name or a file, wherever a user may give either: a file if the text contains
 * '/', ends in ".csv", or is not a known name and exists. For a file, ranks,
 * micro_batches and chunks must be what the file has, or 0 to take the file's;
 * it may hold messages already.
 */
int schedule_open(const char *name_or_file, unsigned ranks,
		  unsigned micro_batches, unsigned chunks,
		  enum schedule_dialect dialect,
		  struct schedule **out) MUST_CHECK;
bool schedule_is_file(const char *name_or_file);

/* The same from the text of a file, which errors call `origin`. */
int schedule_open_text(const char *text, size_t length, const char *origin,
		       unsigned ranks, unsigned micro_batches, unsigned chunks,
		       enum schedule_dialect dialect,
		       struct schedule **out) MUST_CHECK;

/* Two stages that hold one parameter (embedding and head). May be equal. */
struct schedule_tie {
	uint16_t first_stage;
	uint16_t second_stage;
};

struct schedule_lowering {
	const struct schedule_tie *ties;
	size_t tie_count;
	bool reduce; /* add REDUCE_GRAD: the form of PyTorch's files */
	bool train;  /* add REDUCE_GRAD, REDUCE_TIED, VOTE, STEP */
	/*
	 * Keep overlapped pairs together as PyTorch writes them: the receives of
	 * both before, the sends of both behind. Otherwise a pair is taken apart
	 * (its group becomes 0): F and its send, then what B needs, then B. On
	 * ranks that compute one action at a time this is never later. Kept
	 * together, a pair whose second action waits for its first by way of
	 * other ranks comes to a deadlock: validate what comes out.
	 */
	bool pairs;
};

/*
 * Adds what the compute actions imply. A send stands right behind the action
 * that bears its data. A receive stands right before the action that uses it,
 * or earlier where the order of the sends on its link asks for it: on every
 * link receives are in the order of the sends. Stages that are neighbours on
 * one rank need no message. A schedule that has its messages keeps them; what
 * `options` asks for is added if absent. A forward-only schedule gets no
 * REDUCE, VOTE or STEP.
 *
 * options NULL: messages only. -EINVAL, logged, when an F, I or W is missing or
 * doubled. *out is a new schedule.
 */
int schedule_lower(const struct schedule *schedule,
		   const struct schedule_lowering *options,
		   struct schedule **out) MUST_CHECK;

/*
 * The forwards alone, rank by rank in row order, without messages: what
 * evaluation runs between the steps of a training schedule, with its
 * placement. And the compute actions alone: a schedule to be lowered anew.
 * -ENOMEM, logged. The caller destroys *out.
 */
int schedule_forward_part(const struct schedule *schedule,
			  struct schedule **out) MUST_CHECK;
int schedule_compute_part(const struct schedule *schedule,
			  struct schedule **out) MUST_CHECK;

/* What the validator found. */
struct schedule_report {
	bool valid;
	/*
	 * NULL when valid; else the reason: what is wrong, where (rank, cell,
	 * action), and for a deadlock the cycle of waits, rank by rank.
	 */
	char *reason;
	/*
	 * Posted receives per link: the smallest number free of
	 * deadlock, and the smallest at full speed (unit times for F, I and W,
	 * free messages). 0 is rendezvous: a send waits for its receiver to
	 * stand at the receive; k: receive n is posted when receive n - k is
	 * done. Set when the reason is not a deadlock at any number.
	 */
	unsigned buffers_safe;
	unsigned buffers_full_speed;
	/*
	 * W (B) ascends by micro-batch on every stage, and F on the loss stage:
	 * the weights come out the same to the bit as with any such schedule.
	 */
	bool bit_identical;
	char bit_reason[160]; /* "" when identical */
	/*
	 * The most activations alive at once, F until W or B, counted in
	 * micro-batches through one stage: per rank [ranks] and per
	 * stage [stages]. Divide a rank's by the chunks for micro-batches
	 * through its whole slice.
	 */
	unsigned ranks;
	unsigned stages;
	unsigned *peak_of_rank;
	unsigned *peak_of_stage;
};

#define SCHEDULE_BUFFERS_ANY 0xffffffffu

/*
 * Proves that the schedule runs: every F, I and W exactly once per micro-
 * batch and stage, on one rank; each after what it needs; sends and receives
 * paired in FIFO order on every link; no cycle of waits with `buffers`
 * posted receives per link (SCHEDULE_BUFFERS_ANY: with as many as it takes).
 * A schedule without messages is lowered first.
 *
 * 0 when valid; -EINVAL when not, report->reason says why (nothing is logged);
 * -ENOMEM. The report is always initialised and needs schedule_report_fini().
 */
int schedule_validate(const struct schedule *schedule, unsigned buffers,
		      struct schedule_report *report) MUST_CHECK;
void schedule_report_fini(struct schedule_report *report);

/* The built-in schedules, for lists, help and suggestions. */
struct schedule_kind {
	const char *name;
	const char *title; /* one line */
	enum schedule_placement placement;
	const char *bubble;       /* formula: idle time of a rank */
	const char *memory;       /* formula: peak activations of rank r */
	const char *restrictions; /* on P, M, V; "none" */
	/*
	 * For a table, without conditions: at most 20, 13 and 17 bytes, the memory
	 * that of the rank with the most. NULL: the above is short enough.
	 */
	const char *bubble_brief;
	const char *memory_brief;
	const char *restrictions_brief;
	const char *paper;
	unsigned default_chunks;
	/* Inside schedules/; others call schedule_kind_check(). */
	int (*check)(unsigned ranks, unsigned micro_batches, unsigned chunks,
		     char *why, size_t size);
	/* Fills the rows of an empty schedule; 0 or -ENOMEM. */
	int (*fill)(struct schedule *schedule);
};
size_t schedule_kind_count(void);
const struct schedule_kind *schedule_kind_at(size_t index);
const struct schedule_kind *schedule_kind_find(const char *name); /* NULL */

/*
 * Whether the kind exists at these sizes (chunks 0: its default): 0, or -EINVAL
 * with the reason, and the nearest sizes that fit, in `why` (size bytes, 160
 * suffice). Logs nothing.
 */
int schedule_kind_check(const struct schedule_kind *kind, unsigned ranks,
			unsigned micro_batches, unsigned chunks, char *why,
			size_t size) MUST_CHECK;

#endif
