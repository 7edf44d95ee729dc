#include "data/shard.h"

#include "base/log.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* What else begins like this, and is not a row of tokens. */
static const struct {
	uint32_t magic;
	const char *what;
} foreign[] = {
	{20240522, "an llm.c evaluation file"},
	{20240326, "an llm.c model"},
	{20240328, "an llm.c tokenizer"},
	{0x44494D4D, "a Megatron index"}, /* "MMID" */
	{0x04034B50, "a zip file"},
};

static uint32_t load_u32(const unsigned char *bytes)
{
	return (uint32_t)bytes[0] | (uint32_t)bytes[1] << 8 |
	       (uint32_t)bytes[2] << 16 | (uint32_t)bytes[3] << 24;
}

static uint32_t load_u16(const unsigned char *bytes)
{
	return (uint32_t)bytes[0] | (uint32_t)bytes[1] << 8;
}

static int header_check(struct shard *shard, unsigned token_bytes,
			uint32_t wanted_version)
{
	const unsigned char *bytes = shard->mapping.data;
	uint64_t length = shard->mapping.length, wanted;
	uint32_t version, tokens;

	if (length < SHARD_HEADER_BYTES)
		return fail(-EINVAL,
			    "%s: truncated: %llu bytes, the header "
			    "alone has %d",
			    shard->path, (unsigned long long)length,
			    SHARD_HEADER_BYTES);
	version = load_u32(bytes + 4);
	tokens = load_u32(bytes + 8);
	if (version != wanted_version)
		return fail(-EINVAL,
			    "%s: version %u of the shard format; only "
			    "%u is known",
			    shard->path, version, wanted_version);
	if (tokens > SHARD_TOKENS_MAX)
		return fail(-EINVAL, "%s: the header says %d tokens",
			    shard->path, (int)tokens);
	wanted = SHARD_HEADER_BYTES + (uint64_t)tokens * token_bytes;
	if (wanted != length)
		return fail(-EINVAL,
			    "%s: %s: the header says %u tokens, which "
			    "are %llu bytes, the file has %llu",
			    shard->path,
			    length < wanted ? "truncated" : "size mismatch",
			    tokens, (unsigned long long)wanted,
			    (unsigned long long)length);
	shard->data = bytes + SHARD_HEADER_BYTES;
	shard->tokens = tokens;
	shard->token_bytes = token_bytes;
	return 0;
}

static int plain_check(struct shard *shard, unsigned token_bytes)
{
	if (shard->mapping.length % token_bytes)
		return fail(-EINVAL,
			    "%s: %zu bytes are no whole number of "
			    "%u-byte tokens: truncated, or not tokens",
			    shard->path, shard->mapping.length, token_bytes);
	shard->data = shard->mapping.data;
	shard->tokens = shard->mapping.length / token_bytes;
	shard->token_bytes = token_bytes;
	shard->plain = true;
	return 0;
}

static int format_check(struct shard *shard, unsigned plain_token_bytes)
{
	uint32_t magic;
	size_t i;

	if (!shard->mapping.length)
		return fail(-EINVAL, "%s: empty", shard->path);
	if (shard->mapping.length < 4)
		return plain_check(shard, plain_token_bytes);
	magic = load_u32(shard->mapping.data);
	if (magic == SHARD_MAGIC_UINT16)
		return header_check(shard, 2, SHARD_VERSION_UINT16);
	if (magic == SHARD_MAGIC_UINT32)
		return header_check(shard, 4, SHARD_VERSION_UINT32);
	for (i = 0; i < ARRAY_SIZE(foreign); i++) {
		if (magic == foreign[i].magic)
			return fail(-EINVAL, "%s: %s, not a row of tokens",
				    shard->path, foreign[i].what);
	}
	return plain_check(shard, plain_token_bytes);
}

int shard_open(struct shard *shard, const char *path,
	       unsigned plain_token_bytes)
{
	struct shard opened = {.path = strdup(path)};
	int err;

	if (!opened.path)
		return fail(-ENOMEM, "%s: no memory to open it", path);
	err = files_map(path, &opened.mapping);
	if (err)
		goto err_path;
	err = format_check(&opened, plain_token_bytes);
	if (err)
		goto err_unmap;
	*shard = opened;
	return 0;

err_unmap:
	files_unmap(&opened.mapping);
err_path:
	free(opened.path);
	return err;
}

void shard_close(struct shard *shard)
{
	files_unmap(&shard->mapping);
	free(shard->path);
}

static int id_refuse(const struct shard *shard, uint64_t position, uint32_t id,
		     uint32_t limit)
{
	return fail(-EINVAL,
		    "%s: token %llu is %u, outside the vocabulary of "
		    "%u: another tokenizer's, or damaged",
		    shard->path, (unsigned long long)position, id, limit);
}

int shard_read(const struct shard *shard, uint64_t first, size_t count,
	       uint32_t limit, int32_t *out)
{
	const unsigned char *data = shard->data + first * shard->token_bytes;
	uint32_t highest = 0;
	size_t i;

	ASSERT(first <= shard->tokens && count <= shard->tokens - first);
	for (i = 0; i < count; i++) {
		uint32_t id = shard->token_bytes == 2 ? load_u16(data + 2 * i)
						      : load_u32(data + 4 * i);

		highest = MAX(highest, id);
		out[i] = (int32_t)id;
	}
	if (highest < limit)
		return 0;
	for (i = 0; (uint32_t)out[i] < limit; i++)
		;
	return id_refuse(shard, first + i, (uint32_t)out[i], limit);
}
