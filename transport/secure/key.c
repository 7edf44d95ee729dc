#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include <openssl/crypto.h>

#include "base/log.h"
#include "transport/secure/secure.h"

#define HOW_TO "make one with: stagecoach key > job.key"

int secure_key_make(unsigned char key[SECURE_KEY_BYTES])
{
	if (getrandom(key, SECURE_KEY_BYTES, 0) == SECURE_KEY_BYTES)
		return 0;
	return fail(-EIO, "key: the system gives no random bytes: %s",
		    strerror(errno));
}

void secure_key_write(const unsigned char key[SECURE_KEY_BYTES],
		      char text[SECURE_KEY_TEXT_BYTES])
{
	static const char digits[] = "0123456789abcdef";

	for (unsigned i = 0; i < SECURE_KEY_BYTES; i++) {
		text[2 * i] = digits[key[i] >> 4];
		text[2 * i + 1] = digits[key[i] & 15];
	}
	text[2 * SECURE_KEY_BYTES] = '\n';
	text[2 * SECURE_KEY_BYTES + 1] = '\0';
}

static int digit_value(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

int secure_key_parse(const char *text, unsigned char key[SECURE_KEY_BYTES])
{
	unsigned char parsed[SECURE_KEY_BYTES];

	for (unsigned i = 0; i < SECURE_KEY_BYTES; i++) {
		int high = digit_value(*text ? *text++ : ' ');
		int low = digit_value(*text ? *text++ : ' ');

		if (high < 0 || low < 0)
			return -EINVAL;
		parsed[i] = (unsigned char)(high << 4 | low);
	}
	if (text[strspn(text, " \t\r\n")])
		return -EINVAL;
	memcpy(key, parsed, sizeof(parsed));
	OPENSSL_cleanse(parsed, sizeof(parsed));
	return 0;
}

static int check_file(const char *path, const struct stat *status)
{
	if (!S_ISREG(status->st_mode))
		return fail(-EINVAL, "key: %s is not a regular file; " HOW_TO,
			    path);
	if (status->st_uid != geteuid() && status->st_uid != 0)
		return fail(-EACCES,
			    "key: %s belongs to another user (uid %u); copy it "
			    "to a file of your own, of mode 0600",
			    path, (unsigned)status->st_uid);
	if (status->st_mode & 077)
		return fail(-EACCES,
			    "key: others may read %s (mode %04o), so the key "
			    "is no secret; make a new one, or: chmod 600 %s",
			    path, (unsigned)status->st_mode & 07777, path);
	return 0;
}

static int read_key(int fd, const char *path,
		    unsigned char key[SECURE_KEY_BYTES])
{
	char text[SECURE_KEY_TEXT_BYTES + 8] = "";
	ssize_t got = read(fd, text, sizeof(text) - 1);
	int status;

	if (got < 0)
		return fail(-errno, "key: cannot read %s: %s", path,
			    strerror(errno));
	text[got] = '\0';
	status = secure_key_parse(text, key);
	OPENSSL_cleanse(text, sizeof(text));
	if (status)
		return fail(status,
			    "key: %s does not hold a job key (%d hexadecimal "
			    "digits); " HOW_TO,
			    path, 2 * SECURE_KEY_BYTES);
	return 0;
}

int secure_key_load(const char *path, unsigned char key[SECURE_KEY_BYTES])
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	struct stat file;
	int status;

	if (fd < 0)
		return fail(-errno, "key: cannot open %s: %s; " HOW_TO, path,
			    strerror(errno));
	status = fstat(fd, &file) ? fail(-errno, "key: cannot stat %s: %s",
					 path, strerror(errno))
				  : check_file(path, &file);
	if (!status)
		status = read_key(fd, path, key);
	close(fd);
	return status;
}
