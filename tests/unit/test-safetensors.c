/* safetensors: round trips, layouts, and files that break a rule. */
#include "base/files.h"
#include "base/log.h"
#include "model/io/safetensors.h"
#include "model/kernels/convert.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

/* After base/log.h, whose fail() its macro would hide. */
#include <cmocka.h>

static char folder[64];

static int folder_make(void **state)
{
	(void)state;
	snprintf(folder, sizeof(folder), "safetensors-test.XXXXXX");
	return mkdtemp(folder) == NULL ? -1 : 0;
}

static int folder_remove(void **state)
{
	(void)state;
	return files_remove_tree(folder);
}

static const char *path_of(const char *name)
{
	static char path[256];

	snprintf(path, sizeof(path), "%s/%s", folder, name);
	return path;
}

static void write_file(const char *name, const void *data, size_t length)
{
	assert_int_equal(files_replace(path_of(name), data, length), 0);
}

/* Errors of these tests are expected: kept off the terminal. */
static void quiet(void *argument, enum log_level level, const char *line)
{
	(void)argument;
	(void)level;
	(void)line;
}

/* ---- refusals ---- */

/* One file: a header as text, its length told as it is or otherwise, then
 * `data_bytes` of zeros. */
struct refusal {
	const char *header;
	size_t data_bytes;
	long long length_error; /* added to the length told */
	const char *message;    /* part of it */
};

static size_t build(const char *header, size_t header_bytes, size_t data_bytes,
		    long long length_error, unsigned char *out)
{
	uint64_t told = header_bytes + (uint64_t)length_error;

	for (int i = 0; i < 8; i++)
		out[i] = (unsigned char)(told >> (8 * i));
	memcpy(out + 8, header, header_bytes);
	memset(out + 8 + header_bytes, 0, data_bytes);
	return 8 + header_bytes + data_bytes;
}

#define F32_2 "{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":"

static const struct refusal refusals[] = {
	{"{}", 0, 100000001, "not a safetensors file"},
	{"{}", 0, -3, "not a safetensors file"},
	{"{}", 0, 1, "cut off"},
	{"", 0, 0, "not JSON"},
	{"[]", 0, 0, "not a JSON object"},
	{"{\"a\":" F32_2 "[0,8]}", 8, 0, "not JSON"},
	{"{}\x01", 0, 0, "not JSON"},
	{"{\"\xff\":1}", 0, 0, "UTF-8"},
	{"{\"a\":3}", 0, 0, "no object"},
	{"{\"a\":{}}", 0, 0, "dtype"},
	{"{\"a\":{\"dtype\":\"F33\"}}", 0, 0, "unknown dtype 'F33'"},
	{"{\"a\":{\"dtype\":\"F32\"}}", 0, 0, "no shape"},
	{"{\"a\":{\"dtype\":\"F32\",\"shape\":[2]}}", 8, 0, "data_offsets"},
	{"{\"a\":" F32_2 "[0]}}", 8, 0, "two integers"},
	{"{\"a\":" F32_2 "[0,8,8]}}", 8, 0, "two integers"},
	{"{\"a\":" F32_2 "[0,8.0]}}", 8, 0, "two integers"},
	{"{\"a\":" F32_2 "[-8,0]}}", 8, 0, "two integers"},
	{"{\"a\":" F32_2 "[\"0\",8]}}", 8, 0, "two integers"},
	{"{\"a\":" F32_2 "[8,0]}}", 8, 0, "do not fit"},
	{"{\"a\":" F32_2 "[0,16]}}", 8, 0, "do not fit"},
	{"{\"a\":" F32_2 "[0,9223372036854775807]}}", 8, 0, "do not fit"},
	{"{\"a\":" F32_2 "[0,99999999999999999999]}}", 8, 0, "not JSON"},
	{"{\"a\":" F32_2 "[0,4]}}", 4, 0, "takes 8"},
	{"{\"a\":{\"dtype\":\"F32\",\"shape\":[-2],\"data_offsets\":[0,8]}}", 8,
	 0, "integers from 0"},
	{"{\"a\":{\"dtype\":\"F32\",\"shape\":[2.0],\"data_offsets\":[0,8]}}",
	 8, 0, "integers from 0"},
	{"{\"a\":{\"dtype\":\"F32\",\"shape\":[4294967296,4294967296],"
	 "\"data_offsets\":[0,8]}}",
	 8, 0, "too large"},
	{"{\"a\":{\"dtype\":\"F64\",\"shape\":[2305843009213693952],"
	 "\"data_offsets\":[0,0]}}",
	 0, 0, "too large"},
	{"{\"a\":{\"dtype\":\"F4\",\"shape\":[3],\"data_offsets\":[0,1]}}", 1,
	 0, "whole number of bytes"},
	{"{\"a\":" F32_2 "[0,8]}}", 9, 0, "1 bytes follow"},
	{"{}", 4, 0, "4 bytes follow"},
	{"{\"a\":" F32_2 "[4,12]}}", 12, 0, "hole"},
	{"{\"a\":" F32_2 "[0,8]},\"b\":" F32_2 "[12,20]}}", 20, 0, "hole"},
	{"{\"a\":" F32_2 "[0,8]},\"b\":" F32_2 "[4,12]}}", 12, 0,
	 "overlapping"},
	{"{\"a\":" F32_2 "[0,8]},\"b\":" F32_2 "[0,8]}}", 8, 0, "overlapping"},
	{"{\"a\":" F32_2 "[0,8]},\"a\":" F32_2 "[0,8]}}", 8, 0, "duplicate"},
	{"{\"__metadata__\":{},\"__metadata__\":{}}", 0, 0, "duplicate"},
	{"{\"__metadata__\":[]}", 0, 0, "not an object"},
	{"{\"__metadata__\":{\"format\":1}}", 0, 0, "not a string"},
};

static void test_refusals(void **state)
{
	(void)state;
	log_set_sink(quiet, NULL);
	for (size_t i = 0; i < ARRAY_SIZE(refusals); i++) {
		const struct refusal *r = &refusals[i];
		struct safetensors *opened = (void *)1;
		unsigned char bytes[512];
		size_t length = build(r->header, strlen(r->header),
				      r->data_bytes, r->length_error, bytes);

		write_file("bad.safetensors", bytes, length);
		assert_int_equal(
			safetensors_open(path_of("bad.safetensors"), &opened),
			-EINVAL);
		assert_ptr_equal(opened, (void *)1);
		if (strstr(log_last_error(), r->message) == NULL ||
		    strstr(log_last_error(), "bad.safetensors") == NULL)
			fail_msg("%s: message '%s' lacks '%s'", r->header,
				 log_last_error(), r->message);
	}
	log_set_sink(NULL, NULL);
}

static void test_short_files(void **state)
{
	struct safetensors *opened;

	(void)state;
	log_set_sink(quiet, NULL);
	for (size_t length = 0; length < 8; length++) {
		write_file("short.safetensors", "\2\0\0\0\0\0\0\0", length);
		assert_int_equal(
			safetensors_open(path_of("short.safetensors"), &opened),
			-EINVAL);
	}
	assert_int_equal(safetensors_open(path_of("absent"), &opened), -ENOENT);
	assert_int_equal(safetensors_open(folder, &opened), -ENOENT);
	log_set_sink(NULL, NULL);
}

/* What the rules allow, however odd: any order, spaces, empty tensors, a
 * scalar, null metadata, unknown keys, data not aligned. */
static void test_odd_but_valid(void **state)
{
	static const char header[] =
		" \n{\"b\":{\"dtype\":\"F32\",\"shape\":[],\"data_offsets\":"
		"[3,7],\"note\":[[]]},\"z\":{\"dtype\":\"F32\",\"shape\":[0,5],"
		"\"data_offsets\":[3,3]},\"a\":{\"dtype\":\"U8\",\"shape\":"
		"[3,1],\"data_offsets\":[0,3]},\"__metadata__\":null} \t";
	const size_t header_bytes = sizeof(header) - 1;
	const float three = 3.0f;
	struct safetensors *opened;
	const struct safetensors_tensor *tensor;
	unsigned char bytes[512];
	size_t length = build(header, header_bytes, 7, 0, bytes);
	float value;

	(void)state;
	memcpy(bytes + 8 + header_bytes + 3, &three, sizeof(three));
	write_file("odd.safetensors", bytes, length);
	assert_int_equal(safetensors_open(path_of("odd.safetensors"), &opened),
			 0);
	assert_int_equal(safetensors_count(opened), 3);
	assert_string_equal(safetensors_tensor(opened, 0)->name, "a");
	assert_string_equal(safetensors_tensor(opened, 2)->name, "z");
	tensor = safetensors_find(opened, "b");
	assert_non_null(tensor);
	assert_int_equal(tensor->rank, 0);
	assert_int_equal(tensor->count, 1);
	assert_int_equal(safetensors_read_floats(tensor, 0, 1, &value), 0);
	assert_true(value == 3.0f);
	assert_null(safetensors_find(opened, "c"));
	assert_null(safetensors_find(opened, "__metadata__"));
	log_set_sink(quiet, NULL);
	assert_int_equal(safetensors_read_floats(tensor, 1, 1, &value),
			 -ERANGE);
	assert_int_equal(safetensors_read_floats(tensor, 1, SIZE_MAX, &value),
			 -ERANGE);
	tensor = safetensors_find(opened, "a");
	assert_int_equal(safetensors_read_floats(tensor, 0, 1, &value),
			 -ENOTSUP);
	assert_int_equal(
		safetensors_check_shape(tensor, 2, (const size_t[]){3, 1}), 0);
	assert_int_equal(
		safetensors_check_shape(tensor, 2, (const size_t[]){1, 3}),
		-EINVAL);
	assert_non_null(strstr(log_last_error(), "[3, 1]"));
	assert_int_equal(
		safetensors_check_shape(tensor, 1, (const size_t[]){3}),
		-EINVAL);
	log_set_sink(NULL, NULL);
	safetensors_close(opened);

	write_file("empty.safetensors", "\2\0\0\0\0\0\0\0{}", 10);
	assert_int_equal(
		safetensors_open(path_of("empty.safetensors"), &opened), 0);
	assert_int_equal(safetensors_count(opened), 0);
	safetensors_close(opened);
}

/* ---- conversions ---- */

static void test_half_precision(void **state)
{
	(void)state;
	for (uint32_t bits = 0; bits < 0x10000; bits++) {
		uint16_t half = (uint16_t)bits;
		int exponent = (int)(bits >> 10 & 31);
		double fraction = (double)(bits & 1023);
		double want = exponent == 0
				      ? ldexp(fraction, -24)
				      : ldexp(1024.0 + fraction, exponent - 25);
		uint32_t brain, made;
		float value;

		convert_f16_to_floats(1, &half, &value);
		if (exponent == 31)
			want = fraction != 0.0 ? NAN : INFINITY;
		if (bits & 0x8000)
			want = -want;
		if (isnan(want))
			assert_true(isnan(value));
		else
			assert_true((double)value == want &&
				    !signbit(value) == !signbit(want));
		convert_bf16_to_floats(1, &half, &value);
		brain = bits << 16;
		memcpy(&made, &value, sizeof(made));
		assert_int_equal(made, brain);
	}
}

/* Many at once, at odd addresses, give what one at a time gives. */
static void test_half_precision_blocks(void **state)
{
	unsigned char bytes[2 * 101 + 1];
	float many[101], one;

	(void)state;
	for (size_t i = 0; i < sizeof(bytes); i++)
		bytes[i] = (unsigned char)(i * 37);
	convert_f16_to_floats(101, bytes + 1, many);
	for (size_t i = 0; i < 101; i++) {
		convert_f16_to_floats(1, bytes + 1 + 2 * i, &one);
		assert_memory_equal(&one, &many[i], sizeof(one));
	}
}

/* ---- writing ---- */

static const size_t shape_matrix[] = {3, 5}, shape_vector[] = {7},
		    shape_empty[] = {0, 4};

static const struct safetensors_entry entries[] = {
	{"h.0.weight", SAFETENSORS_F32, 2, shape_matrix},
	{"ids", SAFETENSORS_I64, 1, shape_vector},
	{"h.0.bias", SAFETENSORS_F32, 1, shape_vector},
	{"half", SAFETENSORS_BF16, 1, shape_vector},
	{"na\"me \xc3\xa9", SAFETENSORS_U8, 1, shape_vector},
	{"empty", SAFETENSORS_F32, 2, shape_empty},
	{"scalar", SAFETENSORS_F32, 0, NULL},
};

static unsigned char pattern(size_t entry, uint64_t byte)
{
	return (unsigned char)(entry * 41 + byte * 7 + 1);
}

/* Writes the bytes of an entry from `first` on, in pieces of `step`. */
static void write_entry(struct safetensors_writer *writer,
			const struct safetensors_layout *layout, size_t entry,
			size_t step)
{
	uint64_t offset, bytes;
	size_t file;

	safetensors_layout_place(layout, entry, &file, &offset, &bytes);
	for (uint64_t first = 0; first < bytes; first += step) {
		unsigned char data[256];
		size_t count =
			bytes - first < step ? (size_t)(bytes - first) : step;

		for (size_t i = 0; i < count; i++)
			data[i] = pattern(entry, first + i);
		assert_int_equal(safetensors_writer_write(writer, entry, first,
							  data, count),
				 0);
	}
}

/* Writers take the entries in turn, the last one first. */
static void write_all(const struct safetensors_layout *layout, const char *into,
		      size_t writers, size_t step)
{
	struct safetensors_writer *open[4];

	assert_int_equal(files_make_folder(into), 0);
	assert_int_equal(safetensors_layout_create_files(layout, into), 0);
	for (size_t w = 0; w < writers; w++)
		assert_int_equal(
			safetensors_writer_open(layout, into, &open[w]), 0);
	for (size_t i = ARRAY_SIZE(entries); i-- > 0;)
		write_entry(open[i % writers], layout, i, step);
	for (size_t w = 0; w < writers; w++)
		assert_int_equal(safetensors_writer_close(open[w]), 0);
}

static void check_contents(const char *from)
{
	struct safetensors *opened;

	assert_int_equal(safetensors_open(from, &opened), 0);
	assert_int_equal(safetensors_count(opened), ARRAY_SIZE(entries));
	for (size_t i = 0; i < ARRAY_SIZE(entries); i++) {
		const struct safetensors_tensor *tensor =
			safetensors_find(opened, entries[i].name);

		assert_non_null(tensor);
		assert_int_equal(tensor->dtype, entries[i].dtype);
		assert_int_equal(safetensors_check_shape(tensor,
							 entries[i].rank,
							 entries[i].shape),
				 0);
		for (size_t k = 0; k < tensor->bytes; k++)
			assert_int_equal(tensor->data[k], pattern(i, k));
	}
	safetensors_close(opened);
}

static void test_one_file(void **state)
{
	static const char header[] =
		"{\"__metadata__\":{\"format\":\"pt\"},"
		"\"ids\":{\"dtype\":\"I64\",\"shape\":[7],"
		"\"data_offsets\":[0,56]},"
		"\"empty\":{\"dtype\":\"F32\",\"shape\":[0,4],"
		"\"data_offsets\":[56,56]},"
		"\"h.0.bias\":{\"dtype\":\"F32\",\"shape\":[7],"
		"\"data_offsets\":[56,84]},"
		"\"h.0.weight\":{\"dtype\":\"F32\",\"shape\":[3,5],"
		"\"data_offsets\":[84,144]},"
		"\"scalar\":{\"dtype\":\"F32\",\"shape\":[],"
		"\"data_offsets\":[144,148]},"
		"\"half\":{\"dtype\":\"BF16\",\"shape\":[7],"
		"\"data_offsets\":[148,162]},"
		"\"na\\\"me \xc3\xa9\":{\"dtype\":\"U8\",\"shape\":[7],"
		"\"data_offsets\":[162,169]}}";
	struct safetensors_layout *layout;
	char a[128], b[128];
	char *first, *second;
	size_t first_bytes, second_bytes;

	(void)state;
	assert_int_equal(safetensors_layout_create(entries, ARRAY_SIZE(entries),
						   0, "model", &layout),
			 0);
	assert_int_equal(safetensors_layout_files(layout), 1);
	assert_string_equal(safetensors_layout_file_name(layout, 0),
			    "model.safetensors");
	snprintf(a, sizeof(a), "%s/one", folder);
	snprintf(b, sizeof(b), "%s/three", folder);
	write_all(layout, a, 1, 256);
	write_all(layout, b, 3, 5);
	check_contents(a);
	check_contents(b);

	/* The same bytes, and these. */
	strcat(a, "/model.safetensors");
	strcat(b, "/model.safetensors");
	assert_int_equal(files_read(a, 1 << 20, &first, &first_bytes), 0);
	assert_int_equal(files_read(b, 1 << 20, &second, &second_bytes), 0);
	assert_int_equal(first_bytes, second_bytes);
	assert_int_equal(first_bytes, safetensors_layout_file_bytes(layout, 0));
	assert_memory_equal(first, second, first_bytes);
	assert_memory_equal(first + 8, header, sizeof(header) - 1);
	assert_int_equal((unsigned char)first[0] +
				 256 * (unsigned char)first[1],
			 (sizeof(header) - 1 + 7) / 8 * 8);
	free(first);
	free(second);

	/* What is there is never written over. */
	log_set_sink(quiet, NULL);
	snprintf(a, sizeof(a), "%s/one", folder);
	assert_int_equal(safetensors_layout_create_files(layout, a), -EEXIST);
	check_contents(a);
	log_set_sink(NULL, NULL);
	safetensors_layout_destroy(layout);
}

static void test_shards(void **state)
{
	/* Sizes 60 56 28 14 7 0 4 under a limit of 60. */
	static const char index[] =
		"{\n  \"metadata\": {\n    \"total_size\": 169\n  },\n"
		"  \"weight_map\": {\n"
		"    \"empty\": \"model-00003-of-00003.safetensors\",\n"
		"    \"h.0.bias\": \"model-00003-of-00003.safetensors\",\n"
		"    \"h.0.weight\": \"model-00001-of-00003.safetensors\",\n"
		"    \"half\": \"model-00003-of-00003.safetensors\",\n"
		"    \"ids\": \"model-00002-of-00003.safetensors\",\n"
		"    \"na\\\"me \xc3\xa9\": "
		"\"model-00003-of-00003.safetensors\",\n"
		"    \"scalar\": \"model-00003-of-00003.safetensors\"\n"
		"  }\n}\n";
	struct safetensors_layout *layout;
	char into[128], path[256];
	char *text;
	size_t length;

	(void)state;
	assert_int_equal(safetensors_layout_create(entries, ARRAY_SIZE(entries),
						   60, "model", &layout),
			 0);
	assert_int_equal(safetensors_layout_files(layout), 3);
	assert_string_equal(safetensors_layout_file_name(layout, 2),
			    "model-00003-of-00003.safetensors");
	snprintf(into, sizeof(into), "%s/shards", folder);
	write_all(layout, into, 2, 9);
	check_contents(into);
	snprintf(path, sizeof(path), "%s/model.safetensors.index.json", into);
	assert_int_equal(files_read(path, 1 << 20, &text, &length), 0);
	assert_string_equal(text, index);
	free(text);
	safetensors_layout_destroy(layout);

	/* Every tensor larger than the limit: a file each, but for what fits
	 * with nothing else. */
	assert_int_equal(safetensors_layout_create(entries, ARRAY_SIZE(entries),
						   1, "optimizer", &layout),
			 0);
	assert_int_equal(safetensors_layout_files(layout), 7);
	assert_string_equal(safetensors_layout_file_name(layout, 0),
			    "optimizer-00001-of-00007.safetensors");
	safetensors_layout_destroy(layout);
}

static void test_impossible_layouts(void **state)
{
	static const size_t huge[] = {SIZE_MAX / 2, 8}, three[] = {3};
	static const struct safetensors_entry twice[] = {
		{"a", SAFETENSORS_F32, 0, NULL},
		{"a", SAFETENSORS_U8, 0, NULL}};
	static const struct safetensors_entry bad[] = {
		{"a", SAFETENSORS_F32, 2, huge},
		{"a", SAFETENSORS_F4, 1, three},
		{"__metadata__", SAFETENSORS_F32, 0, NULL},
		{"\xff", SAFETENSORS_F32, 0, NULL},
	};
	struct safetensors_layout *layout;

	(void)state;
	log_set_sink(quiet, NULL);
	assert_int_equal(safetensors_layout_create(twice, 2, 0, "m", &layout),
			 -EINVAL);
	assert_int_equal(
		safetensors_layout_create(twice, 1, 0, "../m", &layout),
		-EINVAL);
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		assert_int_equal(
			safetensors_layout_create(&bad[i], 1, 0, "m", &layout),
			-EINVAL);
	log_set_sink(NULL, NULL);
}

/* ---- indexes ---- */

static const struct {
	const char *map; /* weight_map's text */
	const char *message;
} bad_indexes[] = {
	{"{\"a\": \"../a.safetensors\"}", "no name"},
	{"{\"a\": \"/etc/passwd\"}", "no name"},
	{"{\"a\": \"..\"}", "no name"},
	{"{\"a\": \"\"}", "no name"},
	{"{\"a\": 3}", "no name"},
	{"[]", "weight_map"},
	{"{\"a\": \"absent.safetensors\"}", "absent.safetensors"},
	{"{\"a\": \"a.safetensors\", \"b\": \"b.safetensors\", "
	 "\"c\": \"b.safetensors\"}",
	 "'c' is not in"},
	{"{\"a\": \"b.safetensors\", \"b\": \"a.safetensors\"}", "is not in"},
	{"{\"a\": \"both.safetensors\"}", "is not in the index"},
	{"{\"a\": \"a.safetensors\", \"b\": \"both.safetensors\"}", "twice"},
	{"{\"a\": \"a.safetensors\", \"a\": \"a.safetensors\"}", "duplicate"},
};

static void test_bad_indexes(void **state)
{
	static const char a[] = "{\"a\":" F32_2 "[0,8]}}";
	static const char b[] = "{\"b\":" F32_2 "[0,8]}}";
	static const char both[] =
		"{\"a\":" F32_2 "[0,8]},\"b\":" F32_2 "[8,16]}}";
	unsigned char bytes[512];
	char text[512];
	struct safetensors *opened;

	(void)state;
	log_set_sink(quiet, NULL);
	assert_int_equal(files_make_folder(path_of("index")), 0);
	write_file("index/a.safetensors", bytes,
		   build(a, sizeof(a) - 1, 8, 0, bytes));
	write_file("index/b.safetensors", bytes,
		   build(b, sizeof(b) - 1, 8, 0, bytes));
	write_file("index/both.safetensors", bytes,
		   build(both, sizeof(both) - 1, 16, 0, bytes));
	for (size_t i = 0; i < ARRAY_SIZE(bad_indexes); i++) {
		int length = snprintf(text, sizeof(text),
				      "{\"metadata\": {}, \"weight_map\": %s}",
				      bad_indexes[i].map);

		write_file("index/model.safetensors.index.json", text,
			   (size_t)length);
		assert_true(safetensors_open(path_of("index"), &opened) < 0);
		if (strstr(log_last_error(), bad_indexes[i].message) == NULL)
			fail_msg("%s: message '%s'", bad_indexes[i].map,
				 log_last_error());
	}
	write_file("index/model.safetensors.index.json", "[1]", 3);
	assert_int_equal(safetensors_open(path_of("index"), &opened), -EINVAL);
	log_set_sink(NULL, NULL);
	/* A single file goes before an index. */
	write_file("index/model.safetensors", "\2\0\0\0\0\0\0\0{}", 10);
	assert_int_equal(safetensors_open(path_of("index"), &opened), 0);
	safetensors_close(opened);
}

static void test_pickle_is_refused(void **state)
{
	struct safetensors *opened;

	(void)state;
	log_set_sink(quiet, NULL);
	assert_int_equal(files_make_folder(path_of("pickle")), 0);
	write_file("pickle/pytorch_model.bin", "x", 1);
	assert_int_equal(safetensors_open(path_of("pickle"), &opened), -ENOENT);
	assert_non_null(strstr(log_last_error(), "pytorch_model.bin"));
	log_set_sink(NULL, NULL);
}

/*
 * Every single byte of a good file's header changed in several ways: whatever
 * happens, nothing crashes, and what is accepted lies inside the file.
 */
static void test_mutations(void **state)
{
	static const char header[] =
		"{\"__metadata__\":{\"format\":\"pt\"},\"a\":" F32_2
		"[0,8]},\"b\":{\"dtype\":\"BF16\",\"shape\":[1,2],"
		"\"data_offsets\":[8,12]}}";
	static const unsigned char changes[] = {0,   1,   0x80, '0', '9',
						'"', '{', ']',  ',', ' '};
	unsigned char good[512], bad[512];
	size_t length = build(header, sizeof(header) - 1, 12, 0, good);

	(void)state;
	log_set_sink(quiet, NULL);
	for (size_t at = 0; at < length - 12; at++)
		for (size_t k = 0; k < sizeof(changes); k++) {
			struct safetensors *opened;
			float values[4];

			memcpy(bad, good, length);
			bad[at] = k < 3 ? bad[at] ^ (unsigned char)(1 << k * 3)
					: changes[k];
			FILE *file = fopen(path_of("mutant"), "wb");

			assert_non_null(file);
			assert_int_equal(fwrite(bad, 1, length, file), length);
			fclose(file);
			if (safetensors_open(path_of("mutant"), &opened) != 0)
				continue;
			for (size_t i = 0; i < safetensors_count(opened); i++) {
				const struct safetensors_tensor *tensor =
					safetensors_tensor(opened, i);

				assert_true(tensor->bytes <= 12);
				assert_true(tensor->count <= 96);
				if (tensor->count <= 4)
					(void)!safetensors_read_floats(
						tensor, 0, tensor->count,
						values);
			}
			safetensors_close(opened);
		}
	log_set_sink(NULL, NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_refusals),
		cmocka_unit_test(test_short_files),
		cmocka_unit_test(test_odd_but_valid),
		cmocka_unit_test(test_half_precision),
		cmocka_unit_test(test_half_precision_blocks),
		cmocka_unit_test(test_one_file),
		cmocka_unit_test(test_shards),
		cmocka_unit_test(test_impossible_layouts),
		cmocka_unit_test(test_bad_indexes),
		cmocka_unit_test(test_pickle_is_refused),
		cmocka_unit_test(test_mutations),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, folder_make, folder_remove);
}
