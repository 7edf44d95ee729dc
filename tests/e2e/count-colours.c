/*
 * What a screenshot shows, in numbers: reads a PNG (8 bits a channel, RGB with
 * or without alpha, not interlaced: what browsers write) and prints its width,
 * height, number of colours, the share of the most frequent one in percent,
 * and how many pixels have each of the colours asked for.
 *
 *   count-colours FILE.png [RRGGBB...]
 *
 * Format: W3C, Portable Network Graphics (third edition), 5 and 9.
 */
#include <isa-l/igzip_lib.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/checked.h"
#include "base/files.h"

#define FILE_LIMIT   ((size_t)64 << 20)
#define SIDE_LIMIT   32768u
#define COLOUR_COUNT ((size_t)1 << 24)

struct picture {
	unsigned width;
	unsigned height;
	unsigned channels;     /* 3 or 4 */
	unsigned char *packed; /* all IDAT, one after another */
	size_t packed_bytes;
	unsigned char *rows; /* each a filter byte, then pixels */
};

static void die(const char *what)
{
	fprintf(stderr, "count-colours: %s\n", what);
	exit(1);
}

static unsigned read_u32(const unsigned char *at)
{
	return (unsigned)at[0] << 24 | (unsigned)at[1] << 16 |
	       (unsigned)at[2] << 8 | at[3];
}

static void read_header(struct picture *picture, const unsigned char *data)
{
	picture->width = read_u32(data);
	picture->height = read_u32(data + 4);
	picture->channels = data[9] == 2 ? 3 : data[9] == 6 ? 4 : 0;
	if (data[8] != 8 || picture->channels == 0 || data[12] != 0)
		die("not 8 bits of RGB or RGBA without interlace");
	if (picture->width == 0 || picture->width > SIDE_LIMIT ||
	    picture->height == 0 || picture->height > SIDE_LIMIT)
		die("no reasonable size");
}

/* Joins the parts of the compressed rows, in the storage of the file. */
static void read_chunks(struct picture *picture, unsigned char *file,
			size_t length)
{
	static const unsigned char signature[8] = {0x89, 'P',  'N',  'G',
						   '\r', '\n', 0x1a, '\n'};
	size_t at = sizeof(signature);

	if (length < at || memcmp(file, signature, at) != 0)
		die("no PNG");
	picture->packed = file;
	while (length - at >= 12) {
		size_t bytes = read_u32(file + at);
		unsigned char *data = file + at + 8;

		if (bytes > length - at - 12)
			die("a chunk ends outside the file");
		if (memcmp(file + at + 4, "IHDR", 4) == 0 && bytes == 13)
			read_header(picture, data);
		if (memcmp(file + at + 4, "IDAT", 4) == 0) {
			memmove(picture->packed + picture->packed_bytes, data,
				bytes);
			picture->packed_bytes += bytes;
		}
		at += bytes + 12;
	}
	if (picture->width == 0 || picture->packed_bytes == 0)
		die("no picture in it");
}

static void inflate_rows(struct picture *picture)
{
	size_t bytes = ((size_t)picture->width * picture->channels + 1) *
		       picture->height;
	struct inflate_state *state = malloc(sizeof(*state));

	picture->rows = malloc(bytes);
	if (picture->rows == NULL || state == NULL)
		die("no memory");
	isal_inflate_init(state);
	state->crc_flag = ISAL_ZLIB;
	state->next_in = picture->packed;
	state->avail_in = (uint32_t)picture->packed_bytes;
	state->next_out = picture->rows;
	state->avail_out = (uint32_t)bytes;
	if (isal_inflate(state) != ISAL_DECOMP_OK || state->avail_out != 0)
		die("its rows do not unpack to its size");
	free(state);
}

static unsigned char predict(unsigned filter, int left, int above,
			     int above_left)
{
	int to_left = abs(above - above_left);
	int to_above = abs(left - above_left);
	int to_both = abs(left + above - 2 * above_left);

	switch (filter) {
	case 0:
		return 0;
	case 1:
		return (unsigned char)left;
	case 2:
		return (unsigned char)above;
	case 3:
		return (unsigned char)((left + above) / 2);
	default: /* Paeth */
		if (to_left <= to_above && to_left <= to_both)
			return (unsigned char)left;
		return (unsigned char)(to_above <= to_both ? above
							   : above_left);
	}
}

static void unfilter_rows(struct picture *picture)
{
	size_t row_bytes = (size_t)picture->width * picture->channels;
	size_t back = picture->channels;

	for (unsigned y = 0; y < picture->height; y++) {
		unsigned char *row = picture->rows + y * (row_bytes + 1) + 1;
		const unsigned char *above =
			y > 0 ? row - (row_bytes + 1) : NULL;

		if (row[-1] > 4)
			die("a filter that PNG does not have");
		for (size_t i = 0; i < row_bytes; i++)
			row[i] += predict(
				row[-1], i >= back ? row[i - back] : 0,
				above ? above[i] : 0,
				above && i >= back ? above[i - back] : 0);
	}
}

static uint32_t *count_colours(const struct picture *picture)
{
	size_t row_bytes = (size_t)picture->width * picture->channels;
	uint32_t *counts = calloc(COLOUR_COUNT, sizeof(*counts));

	if (counts == NULL)
		die("no memory");
	for (unsigned y = 0; y < picture->height; y++) {
		const unsigned char *at =
			picture->rows + y * (row_bytes + 1) + 1;

		for (unsigned x = 0; x < picture->width; x++) {
			counts[at[0] << 16 | at[1] << 8 | at[2]]++;
			at += picture->channels;
		}
	}
	return counts;
}

int main(int argc, char **argv)
{
	struct picture picture = {0};
	uint32_t most = 0;
	uint32_t *counts;
	size_t length;
	size_t distinct = 0;
	char *file;

	if (argc < 2)
		die("count-colours FILE.png [RRGGBB...]");
	if (files_read(argv[1], FILE_LIMIT, &file, &length))
		return 1;
	read_chunks(&picture, (unsigned char *)file, length);
	inflate_rows(&picture);
	unfilter_rows(&picture);
	counts = count_colours(&picture);
	for (size_t i = 0; i < COLOUR_COUNT; i++) {
		distinct += counts[i] > 0;
		most = MAX(most, counts[i]);
	}
	printf("%u %u %zu %.2f", picture.width, picture.height, distinct,
	       100.0 * most / ((double)picture.width * picture.height));
	for (int i = 2; i < argc; i++)
		printf(" %u",
		       counts[strtoul(argv[i], NULL, 16) % COLOUR_COUNT]);
	printf("\n");
	free(counts);
	free(picture.rows);
	free(file);
	return 0;
}
