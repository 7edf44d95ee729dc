/*
 * Writing a row of tokens as llm.c shards: NAME_000000.bin, NAME_000001.bin,
 * ... in a folder, each with at most `shard_tokens`.
 */
#ifndef STAGECOACH_DATA_SHARD_WRITER_H
#define STAGECOACH_DATA_SHARD_WRITER_H

#include "base/compiler.h"
#include "data/shard.h"

#define SHARD_WRITER_BUFFER 32768 /* tokens */

struct shard_writer {
	char folder[FILES_PATH_BYTES];
	const char *name;
	unsigned token_bytes;
	uint64_t shard_tokens;
	uint64_t tokens; /* written in all */
	unsigned shards; /* begun */
	int fd;          /* -1: none open */
	char path[FILES_PATH_BYTES];
	uint64_t in_shard; /* tokens in the open one */
	unsigned char *buffer;
	size_t buffered; /* tokens */
};

/* uint16 tokens if vocab_size allows, else uint32. */
int shard_writer_init(struct shard_writer *writer, const char *folder,
		      const char *name, size_t vocab_size,
		      uint64_t shard_tokens) MUST_CHECK;
void shard_writer_fini(struct shard_writer *writer);

int shard_writer_append(struct shard_writer *writer, const int32_t *tokens,
			size_t count) MUST_CHECK;

/* Completes and syncs the last shard. */
int shard_writer_finish(struct shard_writer *writer) MUST_CHECK;

/* "train_000003.bin" */
void shard_writer_file_name(const char *name, unsigned index, char *out,
			    size_t size);

#endif
