/* base/digest.c against published vectors. */
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/digest.h"
#include "base/files.h"
#include "tests/unit/cmocka-tap.h"

/* FIPS 180-4's examples. */
static void test_sha256(void **state)
{
	char hex[DIGEST_HEX_BYTES];

	(void)state;
	assert_int_equal(digest_bytes("abc", 3, hex), 0);
	assert_string_equal(hex, "ba7816bf8f01cfea414140de5dae2223"
				 "b00361a396177a9cb410ff61f20015ad");
	assert_int_equal(digest_bytes("", 0, hex), 0);
	assert_string_equal(hex, "e3b0c44298fc1c149afbf4c8996fb924"
				 "27ae41e4649b934ca495991b7852b855");
}

static void test_sha256_running_and_file(void **state)
{
	static const char path[] = "test-digest.tmp";
	size_t size = 300000;
	unsigned char *data = malloc(size);
	char whole[DIGEST_HEX_BYTES];
	char parts[DIGEST_HEX_BYTES];
	char file[DIGEST_HEX_BYTES];
	struct digest *digest;
	size_t i;

	(void)state;
	assert_non_null(data);
	for (i = 0; i < size; i++)
		data[i] = (unsigned char)(i * 31 >> 3);
	assert_int_equal(digest_bytes(data, size, whole), 0);
	assert_int_equal(digest_create(&digest), 0);
	for (i = 0; i < size; i += 1000)
		digest_update(digest, data + i, 1000);
	digest_finish(digest, parts);
	digest_destroy(digest);
	assert_string_equal(parts, whole);
	assert_int_equal(files_replace(path, data, size), 0);
	assert_int_equal(digest_file(path, file), 0);
	assert_string_equal(file, whole);
	assert_int_equal(files_remove_tree(path), 0);
	assert_int_not_equal(digest_file(path, file), 0);
	free(data);
}

/* RFC 3720, B.4, and continuation. */
static void test_crc32c(void **state)
{
	unsigned char data[32];
	size_t i;

	(void)state;
	assert_int_equal(digest_crc32c(0, "123456789", 9), 0xE3069283);
	assert_int_equal(digest_crc32c(digest_crc32c(0, "1234", 4), "56789", 5),
			 0xE3069283);
	assert_int_equal(digest_crc32c(0, "", 0), 0);
	memset(data, 0, sizeof(data));
	assert_int_equal(digest_crc32c(0, data, 32), 0x8A9136AA);
	memset(data, 0xff, sizeof(data));
	assert_int_equal(digest_crc32c(0, data, 32), 0x62A8AB43);
	for (i = 0; i < sizeof(data); i++)
		data[i] = (unsigned char)i;
	assert_int_equal(digest_crc32c(0, data, 32), 0x46DD794E);
}

static void test_hash64(void **state)
{
	(void)state;
	/* XXH3_64bits of nothing, from the xxHash sanity checks. */
	assert_int_equal(digest_hash64("", 0), 0x2D06800538D394C2);
	assert_int_not_equal(digest_hash64("a", 1), digest_hash64("b", 1));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_sha256),
		cmocka_unit_test(test_sha256_running_and_file),
		cmocka_unit_test(test_crc32c),
		cmocka_unit_test(test_hash64),
	};

	return RUN_TESTS("digest", tests);
}
