#include "data/shard_writer.h"

#include "base/log.h"
#include "base/text.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int shard_writer_init(struct shard_writer *writer, const char *folder,
		      const char *name, size_t vocab_size,
		      uint64_t shard_tokens)
{
	ASSERT(shard_tokens > 0 && shard_tokens <= SHARD_TOKENS_MAX);
	*writer = (struct shard_writer){
		.name = name,
		.token_bytes = vocab_size <= SHARD_UINT16_VOCAB ? 2 : 4,
		.shard_tokens = shard_tokens,
		.fd = -1,
	};
	if (text_copy(writer->folder, sizeof(writer->folder), folder))
		return fail(-ENAMETOOLONG, "%s: path too long", folder);
	writer->buffer = malloc(SHARD_WRITER_BUFFER * 4);
	if (!writer->buffer)
		return fail(-ENOMEM, "no memory to write shards");
	return 0;
}

void shard_writer_fini(struct shard_writer *writer)
{
	if (writer->fd >= 0)
		close(writer->fd);
	writer->fd = -1;
	free(writer->buffer);
	writer->buffer = NULL;
}

void shard_writer_file_name(const char *name, unsigned index, char *out,
			    size_t size)
{
	snprintf(out, size, "%s_%06u.bin", name, index);
}

static void store_u32(unsigned char *out, uint32_t value)
{
	out[0] = (unsigned char)value;
	out[1] = (unsigned char)(value >> 8);
	out[2] = (unsigned char)(value >> 16);
	out[3] = (unsigned char)(value >> 24);
}

static int header_write(struct shard_writer *writer)
{
	unsigned char header[SHARD_HEADER_BYTES] = {0};
	bool wide = writer->token_bytes == 4;

	store_u32(header, wide ? SHARD_MAGIC_UINT32 : SHARD_MAGIC_UINT16);
	store_u32(header + 4,
		  wide ? SHARD_VERSION_UINT32 : SHARD_VERSION_UINT16);
	store_u32(header + 8, (uint32_t)writer->in_shard);
	return files_write_at(writer->fd, header, sizeof(header), 0,
			      writer->path);
}

static int shard_begin(struct shard_writer *writer)
{
	char name[64];
	int err;

	shard_writer_file_name(writer->name, writer->shards, name,
			       sizeof(name));
	err = files_join(writer->path, sizeof(writer->path), writer->folder,
			 name);
	if (err)
		return err;
	writer->fd = open(writer->path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC,
			  0666);
	if (writer->fd < 0)
		return fail(-errno, "%s: cannot create it: %s", writer->path,
			    strerror(errno));
	writer->in_shard = 0;
	writer->shards++;
	return 0;
}

static int buffer_flush(struct shard_writer *writer)
{
	uint64_t before = writer->in_shard - writer->buffered;
	int err = files_write_at(writer->fd, writer->buffer,
				 writer->buffered * writer->token_bytes,
				 SHARD_HEADER_BYTES +
					 before * writer->token_bytes,
				 writer->path);

	if (!err)
		writer->buffered = 0;
	return err;
}

static int shard_end(struct shard_writer *writer)
{
	int err = buffer_flush(writer), fd = writer->fd;

	if (!err)
		err = header_write(writer);
	if (!err && fsync(fd))
		err = fail(-errno, "%s: cannot sync it: %s", writer->path,
			   strerror(errno));
	writer->fd = -1;
	if (close(fd) && !err)
		err = fail(-errno, "%s: cannot close it: %s", writer->path,
			   strerror(errno));
	return err;
}

int shard_writer_append(struct shard_writer *writer, const int32_t *tokens,
			size_t count)
{
	size_t i;
	int err = 0;

	for (i = 0; i < count && !err; i++) {
		uint32_t id = (uint32_t)tokens[i];
		unsigned char *out;

		if (writer->fd < 0)
			err = shard_begin(writer);
		if (err)
			break;
		out = writer->buffer + writer->buffered * writer->token_bytes;
		if (writer->token_bytes == 4) {
			store_u32(out, id);
		} else {
			out[0] = (unsigned char)id;
			out[1] = (unsigned char)(id >> 8);
		}
		writer->buffered++;
		writer->in_shard++;
		writer->tokens++;
		if (writer->in_shard == writer->shard_tokens)
			err = shard_end(writer);
		else if (writer->buffered == SHARD_WRITER_BUFFER)
			err = buffer_flush(writer);
	}
	return err;
}

int shard_writer_finish(struct shard_writer *writer)
{
	return writer->fd >= 0 ? shard_end(writer) : 0;
}
