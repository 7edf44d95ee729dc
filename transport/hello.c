#include "transport/hello.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

void transport_hello_write(const struct transport_config *config, unsigned to,
			   enum wire_type type, uint64_t tag,
			   unsigned char out[TRANSPORT_HELLO_BYTES])
{
	struct wire_header header = {
		.version = WIRE_VERSION,
		.type = (uint16_t)type,
		.job = config->job,
		.epoch = config->epoch,
		.source = config->rank,
		.destination = to,
		.tag = tag,
	};
	struct wire_hello hello = {
		.size = config->size,
		.checksum = config->checksum,
		.wire = config->wire,
	};

	memcpy(hello.fingerprint, config->fingerprint,
	       sizeof(hello.fingerprint));
	wire_hello_encode(&header, &hello, out);
}

static enum transport_verdict judge_hello(const struct transport_config *config,
					  const struct wire_header *header,
					  const unsigned char *in, char *text,
					  size_t size)
{
	struct wire_hello hello;
	enum wire_fault fault;

	fault = wire_hello_decode(header, in + WIRE_HEADER_BYTES, &hello);
	if (fault) {
		snprintf(text, size, "its hello is damaged (%s)",
			 wire_fault_text(fault));
		return TRANSPORT_VERDICT_STRANGER;
	}
	if (hello.size != config->size) {
		snprintf(text, size, "it counts %u ranks, this one %u",
			 hello.size, config->size);
		return TRANSPORT_VERDICT_DIFFERENT;
	}
	if (hello.checksum != config->checksum) {
		snprintf(text, size, "its payload checksums are %s, here %s",
			 hello.checksum ? "on" : "off",
			 config->checksum ? "on" : "off");
		return TRANSPORT_VERDICT_DIFFERENT;
	}
	if (hello.wire != config->wire) {
		snprintf(text, size, "its links are %s, here they are %s",
			 wire_mode_text(hello.wire),
			 wire_mode_text(config->wire));
		return TRANSPORT_VERDICT_DIFFERENT;
	}
	if (memcmp(hello.fingerprint, config->fingerprint,
		   sizeof(hello.fingerprint)) != 0) {
		snprintf(text, size,
			 "the fingerprints differ: other shapes, schedule or "
			 "numerics (another model, build or processor?)");
		return TRANSPORT_VERDICT_DIFFERENT;
	}
	return TRANSPORT_VERDICT_SAME;
}

enum transport_verdict
transport_hello_judge(const struct transport_config *config,
		      const unsigned char in[TRANSPORT_HELLO_BYTES],
		      struct wire_header *header, char *text, size_t size)
{
	enum wire_fault fault = wire_header_decode(in, header);

	if (fault == WIRE_BAD_MAGIC || fault == WIRE_BAD_HEADER_CRC) {
		header->source = TRANSPORT_RANKS_MAX;
		snprintf(text, size, "it does not speak this protocol (%s)",
			 wire_fault_text(fault));
		return TRANSPORT_VERDICT_STRANGER;
	}
	if (header->job != config->job) {
		snprintf(text, size,
			 "it belongs to job 0x%" PRIx64
			 ", this one to job 0x%" PRIx64,
			 header->job, config->job);
		return TRANSPORT_VERDICT_STRANGER;
	}
	if (fault == WIRE_BAD_VERSION) {
		snprintf(text, size,
			 "it speaks protocol version %u, this one %u",
			 header->version, WIRE_VERSION);
		return TRANSPORT_VERDICT_DIFFERENT;
	}
	if (header->epoch != config->epoch) {
		snprintf(text, size, "it is in epoch %u, this one in epoch %u",
			 header->epoch, config->epoch);
		return TRANSPORT_VERDICT_STRANGER;
	}
	if (header->destination != config->rank) {
		snprintf(text, size, "it looks for rank %u, this is rank %u",
			 header->destination, config->rank);
		return TRANSPORT_VERDICT_STRANGER;
	}
	if (fault) {
		snprintf(text, size, "its hello is damaged (%s)",
			 wire_fault_text(fault));
		return TRANSPORT_VERDICT_STRANGER;
	}
	return judge_hello(config, header, in, text, size);
}
