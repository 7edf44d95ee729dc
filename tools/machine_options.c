#include "tools/machine_options.h"
#include "base/log.h"
#include "base/text.h"

#include <errno.h>
#include <string.h>

#define RATE_MAX 1e24
/* Bytes that a machine's memory moves for each operation it does, by default. */
#define MEMORY_PER_OPERATION 0.1
/* Of its memory's rate, what a rank gets through to another of its host. */
#define TENSOR_PER_MEMORY 0.1
#define NETWORK_LATENCY   20e-6

/* "2T", "100G", "1.5e12": with K, M, G, T or P a power of a thousand. */
static int parse_rate(const struct options *options, const char *name,
		      double *out)
{
	static const char suffixes[] = "KMGTP";
	const char *text = options_string(options, name), *suffix;
	size_t length = text ? strlen(text) : 0;
	char number[64];
	double factor = 1;

	*out = 0;
	if (!text)
		return 0;
	if (length > 1 && (suffix = strchr(suffixes, text[length - 1]))) {
		length--;
		for (const char *s = suffixes; s <= suffix; s++)
			factor *= 1000;
	}
	if (length < sizeof(number)) {
		memcpy(number, text, length);
		number[length] = '\0';
		if (text_parse_real(number, 1e-3, RATE_MAX, out) == 0) {
			*out *= factor;
			return 0;
		}
	}
	return fail(-EINVAL,
		    "--%s %s: expected a rate such as 2T, 100G or 1.5e9", name,
		    text);
}

int machine_options_read(const struct options *options, struct machine *out)
{
	double network, tensor;
	int rc = parse_rate(options, "flops", &out->rate);

	if (!rc)
		rc = parse_rate(options, "memory-rate", &out->memory);
	if (!rc)
		rc = parse_rate(options, "network", &network);
	if (!rc)
		rc = parse_rate(options, "tensor-network", &tensor);
	if (rc)
		return rc;
	if (out->memory > 0 && out->rate == 0)
		return fail(-EINVAL, "--memory-rate goes with --flops");
	if (out->rate > 0 && options_is_typed(options, "costs"))
		return fail(-EINVAL, "--flops and --costs both say what layers "
				     "take: choose one");
	if (out->memory == 0)
		out->memory = out->rate * MEMORY_PER_OPERATION;
	out->network = network / 8;
	out->tensor = tensor / 8;
	out->latency = options_is_set(options, "latency")
			       ? options_real(options, "latency")
		       : network > 0 ? NETWORK_LATENCY
				     : 0;
	return 0;
}

int machine_options_costs(const struct options *options,
			  const struct machine *machine,
			  const struct model *model, struct job *job,
			  struct train_split *out)
{
	*out = (struct train_split){.elsewhere = true};
	train_options_place(options, job, &out->calibration);
	return calibrate_by_rate(model, &out->calibration, machine->rate,
				 machine->memory, &out->costs, &out->rates);
}

/* Within a host a tensor group keeps what was measured on it. */
void machine_options_links(const struct machine *machine, struct costs *costs)
{
	if (machine->network > 0) {
		if (costs->tensor_bandwidth == 0 && costs->bandwidth > 0) {
			costs->tensor_bandwidth = costs->bandwidth;
			costs->tensor_latency = costs->latency;
		}
		costs->bandwidth = machine->network;
	}
	if (machine->latency > 0)
		costs->latency = machine->latency;
	if (machine->tensor > 0)
		costs->tensor_bandwidth = machine->tensor;
	else if (costs->tensor_bandwidth == 0 && machine->memory > 0)
		costs->tensor_bandwidth = machine->memory * TENSOR_PER_MEMORY;
}
