#include "model/kernels/activation.h"
#include "model/kernels/elementwise.h"
#include "model/kernels/vector_math.h"

#define BLOCK ELEMENTWISE_BLOCK

/* 2 sqrt(2 / pi), and 0.044715 times it. */
#define GELU_LINEAR 1.5957691216057308f
#define GELU_CUBIC  0.07135481282628447f

struct activation_work {
	size_t count;
	const float *dy;
	const float *x;
	float *out;
	void (*forward)(size_t count, const float *x, float *y);
	void (*backward)(size_t count, const float *dy, const float *x,
			 float *dx);
};

KERNEL_CLONES static void gelu_block(size_t count, const float *x, float *y)
{
	VECTOR_LOOP
	for (size_t i = 0; i < count; i++) {
		float v = x[i];
		float u = v * (GELU_LINEAR + GELU_CUBIC * (v * v));

		y[i] = v * vector_logistic(u);
	}
}

/*
 * y = x s(u), u = 2 sqrt(2/pi) (x + 0.044715 x^3), s the logistic function:
 * y' = s + x s (1 - s) u'.
 */
KERNEL_CLONES static void gelu_gradient_block(size_t count, const float *dy,
					      const float *x, float *dx)
{
	VECTOR_LOOP
	for (size_t i = 0; i < count; i++) {
		float v = x[i];
		float square = v * v;
		float u = v * (GELU_LINEAR + GELU_CUBIC * square);
		float slope = GELU_LINEAR + 3.0f * GELU_CUBIC * square;
		float s = vector_logistic(u);

		dx[i] = dy[i] * (s + v * slope * (s * (1.0f - s)));
	}
}

KERNEL_CLONES static void silu_block(size_t count, const float *x, float *y)
{
	VECTOR_LOOP
	for (size_t i = 0; i < count; i++)
		y[i] = x[i] * vector_logistic(x[i]);
}

KERNEL_CLONES static void silu_gradient_block(size_t count, const float *dy,
					      const float *x, float *dx)
{
	VECTOR_LOOP
	for (size_t i = 0; i < count; i++) {
		float s = vector_logistic(x[i]);

		dx[i] = dy[i] * (s + x[i] * (s * (1.0f - s)));
	}
}

static void activation_task(void *argument, size_t index, unsigned thread)
{
	const struct activation_work *work = argument;
	size_t first = index * BLOCK;
	size_t count = MIN((size_t)BLOCK, work->count - first);

	(void)thread;
	if (work->forward != NULL)
		work->forward(count, work->x + first, work->out + first);
	else
		work->backward(count, work->dy + first, work->x + first,
			       work->out + first);
}

static void activation_run(struct threads *threads,
			   struct activation_work *work)
{
	threads_run(threads, (work->count + BLOCK - 1) / BLOCK, activation_task,
		    work);
}

void gelu_forward(struct threads *threads, size_t count, const float *x,
		  float *y)
{
	struct activation_work work = {
		.count = count, .x = x, .out = y, .forward = gelu_block};

	activation_run(threads, &work);
}

void gelu_backward(struct threads *threads, size_t count, const float *dy,
		   const float *x, float *dx)
{
	struct activation_work work = {.count = count,
				       .dy = dy,
				       .x = x,
				       .out = dx,
				       .backward = gelu_gradient_block};

	activation_run(threads, &work);
}

void silu_forward(struct threads *threads, size_t count, const float *x,
		  float *y)
{
	struct activation_work work = {
		.count = count, .x = x, .out = y, .forward = silu_block};

	activation_run(threads, &work);
}

void silu_backward(struct threads *threads, size_t count, const float *dy,
		   const float *x, float *dx)
{
	struct activation_work work = {.count = count,
				       .dy = dy,
				       .x = x,
				       .out = dx,
				       .backward = silu_gradient_block};

	activation_run(threads, &work);
}

/* ---- gates ---- */

/* Rows of one task. */
#define GATE_ROWS 16

struct gate_work {
	size_t rows;
	size_t width;
	const float *dy; /* NULL: forward */
	const float *x;
	float *out;
};

KERNEL_CLONES static void swiglu_row(size_t width, const float *restrict x,
				     float *restrict y)
{
	for (size_t i = 0; i < width; i++)
		y[i] = x[i] * vector_logistic(x[i]) * x[width + i];
}

KERNEL_CLONES static void swiglu_gradient_row(size_t width,
					      const float *restrict dy,
					      const float *restrict x,
					      float *restrict dx)
{
	for (size_t i = 0; i < width; i++) {
		float gate = x[i];
		float s = vector_logistic(gate);

		dx[i] = dy[i] * x[width + i] * (s + gate * (s * (1.0f - s)));
		dx[width + i] = dy[i] * (gate * s);
	}
}

static void gate_task(void *argument, size_t index, unsigned thread)
{
	const struct gate_work *work = argument;
	size_t width = work->width;
	size_t end = MIN(work->rows, (index + 1) * GATE_ROWS);

	(void)thread;
	for (size_t row = index * GATE_ROWS; row < end; row++) {
		const float *x = work->x + row * 2 * width;

		if (work->dy != NULL)
			swiglu_gradient_row(width, work->dy + row * width, x,
					    work->out + row * 2 * width);
		else
			swiglu_row(width, x, work->out + row * width);
	}
}

void swiglu_forward(struct threads *threads, size_t rows, size_t width,
		    const float *x, float *y)
{
	struct gate_work work = {
		.rows = rows, .width = width, .x = x, .out = y};

	threads_run(threads, (rows + GATE_ROWS - 1) / GATE_ROWS, gate_task,
		    &work);
}

void swiglu_backward(struct threads *threads, size_t rows, size_t width,
		     const float *dy, const float *x, float *dx)
{
	struct gate_work work = {
		.rows = rows, .width = width, .dy = dy, .x = x, .out = dx};

	threads_run(threads, (rows + GATE_ROWS - 1) / GATE_ROWS, gate_task,
		    &work);
}
