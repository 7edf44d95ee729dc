/*
 * Records of TensorBoard's event files, as bytes: TFRecord framing around
 * protocol buffers of tensorflow/core/util/event.proto and
 * framework/summary.proto.
 *
 *   u64 length | u32 masked CRC-32C of those 8 bytes | data | u32 masked
 *   CRC-32C of the data, all little-endian; masked: rotated right by 15, plus
 *   0xa282ead8
 *
 *   Event: 1 double wall_time, 2 int64 step, 3 string file_version,
 *     5 Summary{1 repeated Value{1 tag, 2 float simple_value}},
 *     7 SessionLog{1 status; START is 1}
 *
 * Every function writes one whole record into `record` and returns its bytes.
 * `wall` is Unix time in seconds. Nothing allocates.
 */
#ifndef STAGECOACH_ENGINE_EVENT_FILE_H
#define STAGECOACH_ENGINE_EVENT_FILE_H

#include "base/compiler.h"

#define EVENT_FILE_SCALARS_MAX  16
#define EVENT_FILE_TAG_BYTES    64 /* longest tag, terminator included */
#define EVENT_FILE_RECORD_BYTES 2048

struct event_scalar {
	char tag[EVENT_FILE_TAG_BYTES];
	float value;
};

/* The first record of a file. */
size_t event_file_version(unsigned char record[EVENT_FILE_RECORD_BYTES],
			  double wall);

/*
 * A session begins with `step`: readers drop what earlier files have of that
 * step and later ones.
 */
size_t event_file_session(unsigned char record[EVENT_FILE_RECORD_BYTES],
			  double wall, int64_t step);

/* 1 to EVENT_FILE_SCALARS_MAX values of one step. */
size_t event_file_scalars(unsigned char record[EVENT_FILE_RECORD_BYTES],
			  double wall, int64_t step,
			  const struct event_scalar *scalars, unsigned count);

#endif
