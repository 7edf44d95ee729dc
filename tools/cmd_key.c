/* stagecoach key: a new job key on standard output. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/files.h"
#include "base/log.h"
#include "tools/commands.h"
#include "transport/secure/secure.h"

static const struct option_spec table[] = {
	{.name = NULL},
};

const struct option_command key_command = {
	.name = "key",
	.synopsis = "> job.key",
	.summary = "make a job key, without which no rank listens beyond its "
		   "host",
	.description =
		"Prints 64 hexadecimal digits. A file that standard output "
		"goes to is made readable by its owner alone; copy it to "
		"every host (scp -p), and give --key-file there. Whoever can "
		"read the key can be a rank of the job.",
	.table = table,
};

/*
 * The shell made the file, as the umask allows; secure_key_load() would refuse
 * it otherwise. Another file than a new one may have readers already.
 */
static int keep_to_owner(void)
{
	struct stat file;

	if (fstat(STDOUT_FILENO, &file) || !S_ISREG(file.st_mode))
		return 0;
	if (file.st_size)
		return fail(-EEXIST, "key: the output file is not empty; keys "
				     "go to a file of their own");
	if (fchmod(STDOUT_FILENO, 0600))
		return fail(-errno,
			    "key: cannot keep others from reading the output "
			    "file: %s",
			    strerror(errno));
	return 0;
}

static int print_key(void)
{
	unsigned char key[SECURE_KEY_BYTES];
	char text[SECURE_KEY_TEXT_BYTES];
	int rc = keep_to_owner();

	if (rc)
		return rc;
	rc = secure_key_make(key);
	if (rc)
		return rc;
	secure_key_write(key, text);
	/* No stdio, whose buffers would keep it. */
	rc = files_write_all(STDOUT_FILENO, text, strlen(text),
			     "standard output");
	explicit_bzero(key, sizeof(key));
	explicit_bzero(text, sizeof(text));
	return rc;
}

int cmd_key(int argc, char **argv)
{
	struct options *options;
	int rc = options_parse(&key_command, argc, argv, &options);

	if (rc)
		return rc < 0 ? 2 : 0;
	options_destroy(options);
	return print_key() ? 1 : 0;
}
