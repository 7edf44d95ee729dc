#include "tests/grad/reference.h"
#include "model/kernels/dropout.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static double *new_doubles(size_t count)
{
	double *values = calloc(count ? count : 1, sizeof(*values));

	ASSERT(values);
	return values;
}

void reference_linear(enum linear_layout layout, size_t tokens, size_t in,
		      size_t out, const double *x, const double *w,
		      const double *b, double *y)
{
	size_t by_in = layout == LINEAR_IN_OUT ? out : 1;
	size_t by_out = layout == LINEAR_IN_OUT ? 1 : in;

	for (size_t t = 0; t < tokens; t++) {
		for (size_t o = 0; o < out; o++) {
			double sum = b ? b[o] : 0.0;

			for (size_t i = 0; i < in; i++)
				sum += x[t * in + i] *
				       w[i * by_in + o * by_out];
			y[t * out + o] = sum;
		}
	}
}

void reference_layernorm(size_t tokens, size_t channels, double epsilon,
			 const double *x, const double *gamma,
			 const double *beta, double *y)
{
	for (size_t t = 0; t < tokens; t++) {
		const double *row = x + t * channels;
		double mean = 0.0, variance = 0.0, rstd;

		for (size_t c = 0; c < channels; c++)
			mean += row[c] / (double)channels;
		for (size_t c = 0; c < channels; c++)
			variance += (row[c] - mean) * (row[c] - mean) /
				    (double)channels;
		rstd = 1.0 / sqrt(variance + epsilon);
		for (size_t c = 0; c < channels; c++)
			y[t * channels + c] =
				(row[c] - mean) * rstd * gamma[c] + beta[c];
	}
}

void reference_gelu(size_t count, const double *x, double *y)
{
	const double root = sqrt(2.0 / acos(-1.0));

	for (size_t i = 0; i < count; i++) {
		double u = root * (x[i] + 0.044715 * x[i] * x[i] * x[i]);

		y[i] = 0.5 * x[i] * (1.0 + tanh(u));
	}
}

/* What an element is multiplied with: 0, or 1 / (1 - probability). */
static double mask_factor(const struct reference_mask *mask, size_t sample,
			  uint64_t coordinate, size_t index)
{
	double probability = (float)mask->probability;
	uint32_t words[4];

	if (probability == 0.0)
		return 1.0;
	random_block(mask->key, mask->sample_ids[sample],
		     coordinate << 24 | (index / 64 * 16 + index % 16), words);
	if (words[index / 16 % 4] < (uint32_t)(probability * 4294967296.0))
		return 0.0;
	return 1.0 / (1.0 - probability);
}

void reference_dropout(const struct reference_mask *mask, size_t batch,
		       size_t channels, const double *x, double *y)
{
	for (size_t b = 0; b < batch; b++) {
		for (size_t t = 0; t < mask->time; t++) {
			size_t row = (b * mask->time + t) * channels;

			for (size_t c = 0; c < channels; c++)
				y[row + c] =
					x[row + c] *
					mask_factor(mask, b,
						    mask->position_offset + t,
						    c);
		}
	}
}

/* One query against the keys up to its own position. */
static void reference_attention_row(const struct reference_mask *mask,
				    size_t sample, size_t head, size_t query,
				    unsigned head_size, size_t stride,
				    const double *q, const double *k,
				    const double *v, double *out)
{
	double *score = new_doubles(query + 1);
	double most = -INFINITY, sum = 0.0;

	for (size_t j = 0; j <= query; j++) {
		for (unsigned d = 0; d < head_size; d++)
			score[j] += q[d] * k[j * stride + d];
		score[j] /= sqrt(head_size);
		most = fmax(most, score[j]);
	}
	for (size_t j = 0; j <= query; j++)
		sum += exp(score[j] - most);
	for (size_t j = 0; j <= query; j++) {
		double p = exp(score[j] - most) / sum *
			   mask_factor(mask, sample,
				       (uint64_t)head << 24 | query, j);

		for (unsigned d = 0; d < head_size; d++)
			out[d] += p * v[j * stride + d];
	}
	free(score);
}

void reference_attention(const struct reference_mask *mask, size_t batch,
			 size_t time, unsigned heads, unsigned kv_heads,
			 unsigned head_size, const double *qkv, double *out)
{
	size_t width = (size_t)heads * head_size;
	size_t kv_width = (size_t)kv_heads * head_size;
	size_t stride = width + 2 * kv_width;

	memset(out, 0, batch * time * width * sizeof(*out));
	for (size_t b = 0; b < batch; b++) {
		const double *sample = qkv + b * time * stride;

		for (size_t h = 0; h < heads; h++) {
			size_t kv = h / (heads / kv_heads) * head_size;

			for (size_t t = 0; t < time; t++)
				reference_attention_row(
					mask, b, h, t, head_size, stride,
					sample + t * stride + h * head_size,
					sample + width + kv,
					sample + width + kv_width + kv,
					out + (b * time + t) * width +
						h * head_size);
		}
	}
}

double reference_loss(size_t tokens, size_t channels, size_t vocab_size,
		      const double *x, const double *w, const double *b,
		      const int32_t *labels)
{
	double *logits = new_doubles(tokens * vocab_size);
	double loss = 0.0;

	reference_linear(LINEAR_OUT_IN, tokens, channels, vocab_size, x, w, b,
			 logits);
	for (size_t t = 0; t < tokens; t++) {
		const double *row = logits + t * vocab_size;
		double most = -INFINITY, sum = 0.0;

		if (labels[t] < 0)
			continue;
		for (size_t v = 0; v < vocab_size; v++)
			most = fmax(most, row[v]);
		for (size_t v = 0; v < vocab_size; v++)
			sum += exp(row[v] - most);
		loss += log(sum) + most - row[labels[t]];
	}
	free(logits);
	return loss;
}

/* ---- GPT-2 ---- */

static const double *weight(const struct reference *reference,
			    const char *format, unsigned block)
{
	const struct parameter *row;
	char name[PARAMETER_NAME_BYTES];

	if (strstr(format, "%u")) {
		const char *rest = strstr(format, "%u") + 2;

		snprintf(name, sizeof(name), "transformer.h.%u%s", block, rest);
	} else {
		snprintf(name, sizeof(name), "%s", format);
	}
	row = model_parameter_find(reference->model, name);
	ASSERT(row);
	return reference->weights[row->id];
}

static struct reference_mask mask(const struct reference *reference,
				  unsigned layer, unsigned site,
				  double probability)
{
	return (struct reference_mask){
		.key = dropout_key(reference->seed, reference->step, layer,
				   site),
		.probability = reference->train ? probability : 0.0,
		.sample_ids = reference->sample_ids,
		.time = reference->time,
	};
}

static void embedding_layer(const struct reference *reference, double *output)
{
	const struct model_config *config = model_config(reference->model);
	const double *wte = weight(reference, "transformer.wte.weight", 0);
	const double *wpe = weight(reference, "transformer.wpe.weight", 0);
	size_t tokens = reference->batch * reference->time;
	size_t width = config->width;
	struct reference_mask site =
		mask(reference, 0, 0, config->embedding_dropout);

	for (size_t i = 0; i < tokens; i++) {
		size_t token = (size_t)reference->tokens[i];
		size_t position = i % reference->time;

		for (size_t c = 0; c < width; c++)
			output[i * width + c] = wte[token * width + c] +
						wpe[position * width + c];
	}
	reference_dropout(&site, reference->batch, width, output, output);
}

/* y = x + dropout(norm, attention, projection). */
static void attention_half(const struct reference *reference, unsigned layer,
			   const double *x, double *y)
{
	const struct model_config *config = model_config(reference->model);
	size_t width = config->width, block = layer - 1;
	size_t tokens = reference->batch * reference->time;
	double *norm = new_doubles(tokens * width);
	double *qkv = new_doubles(tokens * 3 * width);
	struct reference_mask inside =
		mask(reference, layer, 1, config->attention_dropout);
	struct reference_mask after =
		mask(reference, layer, 2, config->residual_dropout);
	unsigned b = (unsigned)block;

	reference_layernorm(tokens, width, config->norm_epsilon, x,
			    weight(reference, "h.%u.ln_1.weight", b),
			    weight(reference, "h.%u.ln_1.bias", b), norm);
	reference_linear(LINEAR_IN_OUT, tokens, width, 3 * width, norm,
			 weight(reference, "h.%u.attn.c_attn.weight", b),
			 weight(reference, "h.%u.attn.c_attn.bias", b), qkv);
	reference_attention(&inside, reference->batch, reference->time,
			    config->heads, config->heads, config->head_size,
			    qkv, norm);
	reference_linear(LINEAR_IN_OUT, tokens, width, width, norm,
			 weight(reference, "h.%u.attn.c_proj.weight", b),
			 weight(reference, "h.%u.attn.c_proj.bias", b), y);
	reference_dropout(&after, reference->batch, width, y, y);
	for (size_t i = 0; i < tokens * width; i++)
		y[i] += x[i];
	free(norm);
	free(qkv);
}

/* y = x + dropout(norm, MLP). */
static void mlp_half(const struct reference *reference, unsigned layer,
		     const double *x, double *y)
{
	const struct model_config *config = model_config(reference->model);
	size_t width = config->width, inner = config->inner;
	size_t tokens = reference->batch * reference->time;
	double *norm = new_doubles(tokens * width);
	double *hidden = new_doubles(tokens * inner);
	struct reference_mask after =
		mask(reference, layer, 3, config->residual_dropout);
	unsigned b = layer - 1;

	reference_layernorm(tokens, width, config->norm_epsilon, x,
			    weight(reference, "h.%u.ln_2.weight", b),
			    weight(reference, "h.%u.ln_2.bias", b), norm);
	reference_linear(LINEAR_IN_OUT, tokens, width, inner, norm,
			 weight(reference, "h.%u.mlp.c_fc.weight", b),
			 weight(reference, "h.%u.mlp.c_fc.bias", b), hidden);
	reference_gelu(tokens * inner, hidden, hidden);
	reference_linear(LINEAR_IN_OUT, tokens, inner, width, hidden,
			 weight(reference, "h.%u.mlp.c_proj.weight", b),
			 weight(reference, "h.%u.mlp.c_proj.bias", b), y);
	reference_dropout(&after, reference->batch, width, y, y);
	for (size_t i = 0; i < tokens * width; i++)
		y[i] += x[i];
	free(norm);
	free(hidden);
}

static double *final_norm(const struct reference *reference,
			  const double *input)
{
	const struct model_config *config = model_config(reference->model);
	size_t tokens = reference->batch * reference->time;
	double *norm = new_doubles(tokens * config->width);

	reference_layernorm(tokens, config->width, config->norm_epsilon, input,
			    weight(reference, "transformer.ln_f.weight", 0),
			    weight(reference, "transformer.ln_f.bias", 0),
			    norm);
	return norm;
}

double reference_layer(const struct reference *reference, unsigned layer,
		       const double *input, double *output)
{
	const struct model_config *config = model_config(reference->model);
	size_t tokens = reference->batch * reference->time;
	double *scratch, loss;

	if (layer == 0) {
		embedding_layer(reference, output);
		return 0.0;
	}
	if (layer <= config->layers) {
		scratch = new_doubles(tokens * config->width);
		attention_half(reference, layer, input, scratch);
		mlp_half(reference, layer, scratch, output);
		free(scratch);
		return 0.0;
	}
	scratch = final_norm(reference, input);
	loss = reference_loss(tokens, config->width, config->vocab_size,
			      scratch, weight(reference, "lm_head.weight", 0),
			      NULL, reference->labels);
	free(scratch);
	return loss * reference->loss_scale;
}

/* The value that enters the last layer. */
static double *before_head(const struct reference *reference)
{
	const struct model_config *config = model_config(reference->model);
	size_t count = reference->batch * reference->time * config->width;
	double *x = new_doubles(count), *y = new_doubles(count);

	for (unsigned layer = 0; layer <= config->layers; layer++) {
		double *swap = x;

		reference_layer(reference, layer, x, y);
		x = y;
		y = swap;
	}
	free(y);
	return x;
}

double reference_model(const struct reference *reference)
{
	double *x = before_head(reference);
	double loss = reference_layer(
		reference, model_layer_count(reference->model) - 1, x, NULL);

	free(x);
	return loss;
}

void reference_logits(const struct reference *reference, double *logits)
{
	const struct model_config *config = model_config(reference->model);
	double *x = before_head(reference);
	double *norm = final_norm(reference, x);

	for (size_t b = 0; b < reference->batch; b++)
		reference_linear(
			LINEAR_OUT_IN, 1, config->width, config->vocab_size,
			norm + ((b + 1) * reference->time - 1) * config->width,
			weight(reference, "lm_head.weight", 0), NULL,
			logits + b * config->vocab_size);
	free(norm);
	free(x);
}
