#include "model/kernels/reference.h"
#include "base/math.h"

void layernorm_forward_reference(size_t rows, size_t channels, double epsilon,
				 const float *x, const float *gamma,
				 const float *beta, double *y, double *mean,
				 double *rstd)
{
	for (size_t row = 0; row < rows; row++) {
		const float *in = x + row * channels;
		double sum = 0.0, squares = 0.0;

		for (size_t i = 0; i < channels; i++)
			sum += in[i];
		mean[row] = sum / (double)channels;
		for (size_t i = 0; i < channels; i++)
			squares += (in[i] - mean[row]) * (in[i] - mean[row]);
		rstd[row] =
			1.0 / math_sqrt(squares / (double)channels + epsilon);
		for (size_t i = 0; i < channels; i++)
			y[row * channels + i] =
				(in[i] - mean[row]) * rstd[row] * gamma[i] +
				beta[i];
	}
}

void rmsnorm_forward_reference(size_t rows, size_t channels, double epsilon,
			       const float *x, const float *gamma, double *y,
			       double *rstd)
{
	for (size_t row = 0; row < rows; row++) {
		const float *in = x + row * channels;
		double squares = 0.0;

		for (size_t i = 0; i < channels; i++)
			squares += (double)in[i] * in[i];
		rstd[row] =
			1.0 / math_sqrt(squares / (double)channels + epsilon);
		for (size_t i = 0; i < channels; i++)
			y[row * channels + i] = in[i] * rstd[row] * gamma[i];
	}
}

void norm_backward_reference(size_t rows, size_t channels, bool centred,
			     const float *dy, const float *x,
			     const float *gamma, const double *mean,
			     const double *rstd, double *dx, double *dgamma,
			     double *dbeta)
{
	for (size_t i = 0; i < channels; i++) {
		dgamma[i] = 0.0;
		if (dbeta != NULL)
			dbeta[i] = 0.0;
	}
	for (size_t row = 0; row < rows; row++) {
		const float *in = x + row * channels;
		const float *d = dy + row * channels;
		double middle = centred ? mean[row] : 0.0;
		double sum = 0.0, product = 0.0;

		for (size_t i = 0; i < channels; i++) {
			double n = (in[i] - middle) * rstd[row];

			sum += (double)d[i] * gamma[i];
			product += (double)d[i] * gamma[i] * n;
			dgamma[i] += d[i] * n;
			if (dbeta != NULL)
				dbeta[i] += d[i];
		}
		sum = centred ? sum / (double)channels : 0.0;
		product /= (double)channels;
		for (size_t i = 0; i < channels; i++)
			dx[row * channels + i] =
				((double)d[i] * gamma[i] - sum -
				 (in[i] - middle) * rstd[row] * product) *
				rstd[row];
	}
}

void bias_backward_reference(size_t rows, size_t columns, const float *dy,
			     double *dbias)
{
	for (size_t i = 0; i < columns; i++) {
		dbias[i] = 0.0;
		for (size_t row = 0; row < rows; row++)
			dbias[i] += dy[row * columns + i];
	}
}

/* sqrt(2 / pi) */
#define ROOT 0.79788456080286535588

double gelu_reference(double x)
{
	return 0.5 * x * (1.0 + math_tanh(ROOT * (x + 0.044715 * x * x * x)));
}

double gelu_gradient_reference(double x)
{
	double t = math_tanh(ROOT * (x + 0.044715 * x * x * x));

	return 0.5 * (1.0 + t) +
	       0.5 * x * (1.0 - t * t) * ROOT * (1.0 + 3.0 * 0.044715 * x * x);
}

double silu_reference(double x)
{
	return x / (1.0 + math_exp(-x));
}

double silu_gradient_reference(double x)
{
	double s = 1.0 / (1.0 + math_exp(-x));

	return s + x * s * (1.0 - s);
}

uint32_t dropout_word_reference(struct random_key key, uint64_t sample_id,
				uint64_t coordinate, size_t index)
{
	uint32_t words[4];

	random_block(key, sample_id,
		     coordinate << 24 | (index / 64 * 16 + index % 16), words);
	return words[index / 16 % 4];
}

void embedding_backward_reference(size_t samples, size_t length,
				  size_t channels, const int32_t *tokens,
				  size_t position_offset, const float *dx,
				  double *dwte, double *dwpe)
{
	for (size_t row = 0; row < samples * length; row++) {
		size_t position = position_offset + row % length;

		for (size_t i = 0; i < channels; i++) {
			double d = dx[row * channels + i];

			dwte[(size_t)tokens[row] * channels + i] += d;
			dwpe[position * channels + i] += d;
		}
	}
}

double cross_entropy_reference(size_t vocabulary, const float *logits,
			       int32_t label, double scale, double *gradient)
{
	double maximum = logits[0], sum = 0.0;

	for (size_t i = 0; i < vocabulary; i++)
		maximum = logits[i] > maximum ? logits[i] : maximum;
	for (size_t i = 0; i < vocabulary; i++)
		sum += math_exp(logits[i] - maximum);
	for (size_t i = 0; i < vocabulary; i++)
		gradient[i] = label < 0 ? 0.0
					: (math_exp(logits[i] - maximum) / sum -
					   (i == (size_t)label ? 1.0 : 0.0)) *
						  scale;
	return label < 0 ? 0.0 : math_log(sum) + maximum - logits[label];
}

void adamw_reference(const struct adamw *adamw, size_t count, double *weights,
		     const float *gradients, double *first_moment,
		     double *second_moment)
{
	for (size_t i = 0; i < count; i++) {
		double g = gradients[i] * (double)adamw->gradient_scale;
		double first, second;

		first_moment[i] = adamw->beta1 * first_moment[i] +
				  (1.0 - adamw->beta1) * g;
		second_moment[i] = adamw->beta2 * second_moment[i] +
				   (1.0 - adamw->beta2) * g * g;
		first = first_moment[i] / adamw->bias_correction1;
		second = second_moment[i] / adamw->bias_correction2;
		weights[i] -=
			adamw->learning_rate * adamw->weight_decay * weights[i];
		weights[i] -= adamw->learning_rate * first /
			      (math_sqrt(second) + adamw->epsilon);
	}
}

void sgd_reference(const struct sgd *sgd, size_t count, double *weights,
		   const float *gradients, double *momentum)
{
	for (size_t i = 0; i < count; i++) {
		double g = gradients[i] * (double)sgd->gradient_scale +
			   sgd->weight_decay * weights[i];

		if (sgd->momentum != 0.0) {
			momentum[i] = sgd->momentum * momentum[i] + g;
			g = sgd->nesterov ? g + sgd->momentum * momentum[i]
					  : momentum[i];
		}
		weights[i] -= sgd->learning_rate * g;
	}
}
