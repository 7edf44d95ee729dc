/*
 * One file of tokens. llm.c's format: 256 little-endian int32 {magic,
 * version, tokens, 0 ...}, then the tokens; or nanoGPT's: the tokens alone.
 */
#ifndef STAGECOACH_DATA_SHARD_H
#define STAGECOACH_DATA_SHARD_H

#include "base/compiler.h"
#include "base/files.h"

#define SHARD_HEADER_INTS    256
#define SHARD_HEADER_BYTES   (SHARD_HEADER_INTS * 4)
#define SHARD_MAGIC_UINT16   20240520
#define SHARD_VERSION_UINT16 1
#define SHARD_MAGIC_UINT32   20240801
#define SHARD_VERSION_UINT32 7
/* An id below this fits uint16. */
#define SHARD_UINT16_VOCAB 65536
/* The count in the header is an int32. */
#define SHARD_TOKENS_MAX ((uint64_t)INT32_MAX)

struct shard {
	char *path;
	struct files_mapping mapping;
	const unsigned char *data; /* the first token */
	uint64_t tokens;
	unsigned token_bytes; /* 2 or 4 */
	bool plain;           /* no header */
};

/*
 * plain_token_bytes: 2 or 4, for a file without a header. -EINVAL names the
 * file and what is wrong with it.
 */
int shard_open(struct shard *shard, const char *path,
	       unsigned plain_token_bytes) MUST_CHECK;
void shard_close(struct shard *shard);

/*
 * Ids must be below `limit`; -EINVAL names shard and position. The range must
 * lie inside the shard.
 */
int shard_read(const struct shard *shard, uint64_t first, size_t count,
	       uint32_t limit, int32_t *out) MUST_CHECK;

#endif
