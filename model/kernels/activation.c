#include "model/kernels/activation.h"
#include "model/kernels/elementwise.h"
#include "model/kernels/values.h"

#define BLOCK ELEMENTWISE_BLOCK

/* 2 sqrt(2 / pi), and 0.044715 times it. */
#define GELU_LINEAR 1.5957691216057308f
#define GELU_CUBIC  0.07135481282628447f

struct activation_work {
	enum element_type type;
	size_t count;
	const void *dy;
	const void *x;
	void *out;
	void (*forward)(size_t count, const void *x, void *y);
	void (*backward)(size_t count, const void *dy, const void *x, void *dx);
};

VECTOR_INLINE void gelu(enum element_type type, size_t count, const void *x,
			void *y)
{
	VECTOR_LOOP
	for (size_t i = 0; i < count; i++) {
		float v = value_load(type, x, i);
		float u = v * (GELU_LINEAR + GELU_CUBIC * (v * v));

		value_store(type, y, i, v * vector_logistic(u));
	}
}

KERNEL_CLONES static void gelu_block(size_t count, const void *x, void *y)
{
	gelu(ELEMENT_F32, count, x, y);
}

KERNEL_CLONES static void gelu_block_bfloat16(size_t count, const void *x,
					      void *y)
{
	gelu(ELEMENT_BF16, count, x, y);
}

/*
 * y = x s(u), u = 2 sqrt(2/pi) (x + 0.044715 x^3), s the logistic function:
 * y' = s + x s (1 - s) u'.
 */
VECTOR_INLINE void gelu_gradient(enum element_type type, size_t count,
				 const void *dy, const void *x, void *dx)
{
	VECTOR_LOOP
	for (size_t i = 0; i < count; i++) {
		float v = value_load(type, x, i);
		float square = v * v;
		float u = v * (GELU_LINEAR + GELU_CUBIC * square);
		float slope = GELU_LINEAR + 3.0f * GELU_CUBIC * square;
		float s = vector_logistic(u);

		value_store(type, dx, i,
			    value_load(type, dy, i) *
				    (s + v * slope * (s * (1.0f - s))));
	}
}

KERNEL_CLONES static void gelu_gradient_block(size_t count, const void *dy,
					      const void *x, void *dx)
{
	gelu_gradient(ELEMENT_F32, count, dy, x, dx);
}

KERNEL_CLONES static void gelu_gradient_block_bfloat16(size_t count,
						       const void *dy,
						       const void *x, void *dx)
{
	gelu_gradient(ELEMENT_BF16, count, dy, x, dx);
}

VECTOR_INLINE void silu(enum element_type type, size_t count, const void *x,
			void *y)
{
	VECTOR_LOOP
	for (size_t i = 0; i < count; i++) {
		float v = value_load(type, x, i);

		value_store(type, y, i, v * vector_logistic(v));
	}
}

KERNEL_CLONES static void silu_block(size_t count, const void *x, void *y)
{
	silu(ELEMENT_F32, count, x, y);
}

KERNEL_CLONES static void silu_block_bfloat16(size_t count, const void *x,
					      void *y)
{
	silu(ELEMENT_BF16, count, x, y);
}

VECTOR_INLINE void silu_gradient(enum element_type type, size_t count,
				 const void *dy, const void *x, void *dx)
{
	VECTOR_LOOP
	for (size_t i = 0; i < count; i++) {
		float v = value_load(type, x, i);
		float s = vector_logistic(v);

		value_store(type, dx, i,
			    value_load(type, dy, i) *
				    (s + v * (s * (1.0f - s))));
	}
}

KERNEL_CLONES static void silu_gradient_block(size_t count, const void *dy,
					      const void *x, void *dx)
{
	silu_gradient(ELEMENT_F32, count, dy, x, dx);
}

KERNEL_CLONES static void silu_gradient_block_bfloat16(size_t count,
						       const void *dy,
						       const void *x, void *dx)
{
	silu_gradient(ELEMENT_BF16, count, dy, x, dx);
}

static void activation_task(void *argument, size_t index, unsigned thread)
{
	const struct activation_work *work = argument;
	size_t first = index * BLOCK;
	size_t count = MIN((size_t)BLOCK, work->count - first);
	const void *x = values_at(work->type, work->x, first);
	void *out = values_at_mutable(work->type, work->out, first);

	(void)thread;
	if (work->forward != NULL)
		work->forward(count, x, out);
	else
		work->backward(count, values_at(work->type, work->dy, first), x,
			       out);
}

static void activation_run(struct threads *threads,
			   struct activation_work *work)
{
	threads_run(threads, (work->count + BLOCK - 1) / BLOCK, activation_task,
		    work);
}

void gelu_forward(struct threads *threads, enum element_type type, size_t count,
		  const void *x, void *y)
{
	struct activation_work work = {
		.type = type,
		.count = count,
		.x = x,
		.out = y,
		.forward =
			type == ELEMENT_BF16 ? gelu_block_bfloat16 : gelu_block,
	};

	activation_run(threads, &work);
}

void gelu_backward(struct threads *threads, enum element_type type,
		   size_t count, const void *dy, const void *x, void *dx)
{
	struct activation_work work = {
		.type = type,
		.count = count,
		.dy = dy,
		.x = x,
		.out = dx,
		.backward = type == ELEMENT_BF16 ? gelu_gradient_block_bfloat16
						 : gelu_gradient_block,
	};

	activation_run(threads, &work);
}

void silu_forward(struct threads *threads, enum element_type type, size_t count,
		  const void *x, void *y)
{
	struct activation_work work = {
		.type = type,
		.count = count,
		.x = x,
		.out = y,
		.forward =
			type == ELEMENT_BF16 ? silu_block_bfloat16 : silu_block,
	};

	activation_run(threads, &work);
}

void silu_backward(struct threads *threads, enum element_type type,
		   size_t count, const void *dy, const void *x, void *dx)
{
	struct activation_work work = {
		.type = type,
		.count = count,
		.dy = dy,
		.x = x,
		.out = dx,
		.backward = type == ELEMENT_BF16 ? silu_gradient_block_bfloat16
						 : silu_gradient_block,
	};

	activation_run(threads, &work);
}

/* ---- gates ---- */

/* Rows of one task. */
#define GATE_ROWS 16

struct gate_work {
	enum element_type type;
	size_t rows;
	size_t width;
	const void *dy; /* NULL: forward */
	const void *x;
	void *out;
};

VECTOR_INLINE void swiglu(enum element_type type, size_t width,
			  const void *restrict x, void *restrict y)
{
	for (size_t i = 0; i < width; i++) {
		float gate = value_load(type, x, i);

		value_store(type, y, i,
			    gate * vector_logistic(gate) *
				    value_load(type, x, width + i));
	}
}

KERNEL_CLONES static void swiglu_row(size_t width, const void *restrict x,
				     void *restrict y)
{
	swiglu(ELEMENT_F32, width, x, y);
}

KERNEL_CLONES static void
swiglu_row_bfloat16(size_t width, const void *restrict x, void *restrict y)
{
	swiglu(ELEMENT_BF16, width, x, y);
}

VECTOR_INLINE void swiglu_gradient(enum element_type type, size_t width,
				   const void *restrict dy,
				   const void *restrict x, void *restrict dx)
{
	for (size_t i = 0; i < width; i++) {
		float gate = value_load(type, x, i);
		float gradient = value_load(type, dy, i);
		float s = vector_logistic(gate);

		value_store(type, dx, i,
			    gradient * value_load(type, x, width + i) *
				    (s + gate * (s * (1.0f - s))));
		value_store(type, dx, width + i, gradient * (gate * s));
	}
}

KERNEL_CLONES static void swiglu_gradient_row(size_t width,
					      const void *restrict dy,
					      const void *restrict x,
					      void *restrict dx)
{
	swiglu_gradient(ELEMENT_F32, width, dy, x, dx);
}

KERNEL_CLONES static void swiglu_gradient_row_bfloat16(size_t width,
						       const void *restrict dy,
						       const void *restrict x,
						       void *restrict dx)
{
	swiglu_gradient(ELEMENT_BF16, width, dy, x, dx);
}

static void gate_row(const struct gate_work *work, size_t row)
{
	size_t width = work->width;
	bool narrow = work->type == ELEMENT_BF16;
	const void *x = values_at(work->type, work->x, row * 2 * width);

	if (work->dy != NULL)
		(narrow ? swiglu_gradient_row_bfloat16 : swiglu_gradient_row)(
			width, values_at(work->type, work->dy, row * width), x,
			values_at_mutable(work->type, work->out,
					  row * 2 * width));
	else
		(narrow ? swiglu_row_bfloat16 : swiglu_row)(
			width, x,
			values_at_mutable(work->type, work->out, row * width));
}

static void gate_task(void *argument, size_t index, unsigned thread)
{
	const struct gate_work *work = argument;
	size_t end = MIN(work->rows, (index + 1) * GATE_ROWS);

	(void)thread;
	for (size_t row = index * GATE_ROWS; row < end; row++)
		gate_row(work, row);
}

void swiglu_forward(struct threads *threads, enum element_type type,
		    size_t rows, size_t width, const void *x, void *y)
{
	struct gate_work work = {
		.type = type, .rows = rows, .width = width, .x = x, .out = y};

	threads_run(threads, (rows + GATE_ROWS - 1) / GATE_ROWS, gate_task,
		    &work);
}

void swiglu_backward(struct threads *threads, enum element_type type,
		     size_t rows, size_t width, const void *dy, const void *x,
		     void *dx)
{
	struct gate_work work = {.type = type,
				 .rows = rows,
				 .width = width,
				 .dy = dy,
				 .x = x,
				 .out = dx};

	threads_run(threads, (rows + GATE_ROWS - 1) / GATE_ROWS, gate_task,
		    &work);
}
