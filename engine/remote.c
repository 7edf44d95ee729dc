#include "engine/remote.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/text.h"
#include "transport/transport.h"
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#define WORDS_MAX 64
#define LEAVE_NS  (2 * NS_PER_SECOND)

struct one_remote {
	char *host;
	pid_t pid; /* 0: ended */
	int input_fd;
};

struct remote {
	struct one_remote *one;
	unsigned count;
};

/* The other side's shell reads it: everything is quoted. */
static void append_quoted(struct text_builder *text, const char *word)
{
	text_builder_append(text, "%s'", text->length ? " " : "");
	for (; *word; word++) {
		if (*word == '\'')
			text_builder_append(text, "'\\''");
		else
			text_builder_append_bytes(text, word, 1);
	}
	text_builder_append(text, "'");
}

static char *make_command(const struct remote_config *config,
			  const struct remote_agent *agent)
{
	struct text_builder text;

	text_builder_init(&text);
	append_quoted(&text, config->program);
	text_builder_append(&text, " rank --coordinator");
	append_quoted(&text, config->coordinator);
	text_builder_append(&text,
			    " --rank %u --ranks %u --world-size %u --key-stdin"
			    " --start-timeout %.0f",
			    agent->first, agent->count, config->size,
			    clock_seconds(config->start_timeout_ns));
	if (config->interface) {
		text_builder_append(&text, " --interface");
		append_quoted(&text, config->interface);
	}
	return text_builder_finish(&text);
}

/* ssh's words, the host, the command; words point into `copy`. */
static int split_words(char *copy, const char *host, char *command,
		       char *words[WORDS_MAX])
{
	static char batch[] = "-oBatchMode=yes";
	unsigned count = 0;
	char *save = NULL;
	const char *name;

	for (char *word = strtok_r(copy, " ", &save); word;
	     word = strtok_r(NULL, " ", &save)) {
		if (count >= WORDS_MAX - 4)
			return fail(-EINVAL, "--ssh: too many words");
		words[count++] = word;
	}
	if (count == 0)
		return fail(-EINVAL, "--ssh: no command");
	name = strrchr(words[0], '/');
	if (strcmp(name ? name + 1 : words[0], "ssh") == 0)
		words[count++] = batch; /* it asks nothing, it fails */
	words[count++] = (char *)(uintptr_t)host;
	words[count++] = command;
	words[count] = NULL;
	return 0;
}

static _Noreturn void child_main(char *words[WORDS_MAX], int input_fd,
				 pid_t parent)
{
	sigset_t none;

	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	signal(SIGPIPE, SIG_DFL);
	/* Ctrl-C is for us to handle, not for each ssh. */
	if (setpgid(0, 0) < 0 || prctl(PR_SET_PDEATHSIG, SIGTERM) < 0 ||
	    getppid() != parent || dup2(input_fd, STDIN_FILENO) < 0 ||
	    dup2(STDERR_FILENO, STDOUT_FILENO) < 0)
		_exit(126);
	execvp(words[0], words);
	dprintf(STDERR_FILENO, "stagecoach: cannot run %s: %s\n", words[0],
		strerror(errno));
	_exit(127);
}

static int give_key(int fd, const unsigned char *key)
{
	char line[2 * TRANSPORT_KEY_BYTES + 2];
	size_t used = 0;
	int rc = 0;

	for (unsigned i = 0; key && i < TRANSPORT_KEY_BYTES; i++)
		used += (size_t)snprintf(line + used, sizeof(line) - used,
					 "%02x", key[i]);
	line[used++] = '\n';
	/* One that has ended already is told of by how it ended. */
	if (write(fd, line, used) != (ssize_t)used && errno != EPIPE)
		rc = fail(-errno, "a pipe to ssh: %s", strerror(errno));
	explicit_bzero(line, sizeof(line));
	return rc;
}

static int start_one(const struct remote_config *config,
		     const struct remote_agent *agent, struct one_remote *out)
{
	char *copy = strdup(config->ssh),
	     *command = make_command(config, agent);
	char *words[WORDS_MAX];
	pid_t parent = getpid(), pid;
	int fds[2] = {-1, -1}, rc = -ENOMEM;

	out->host = strdup(agent->host);
	if (!copy || !command || !out->host) {
		fail(rc, "no memory to start ssh");
		goto out;
	}
	rc = split_words(copy, agent->host, command, words);
	if (rc < 0)
		goto out;
	if (pipe2(fds, O_CLOEXEC) < 0) {
		rc = fail(-errno, "a pipe to ssh: %s", strerror(errno));
		goto out;
	}
	pid = fork();
	if (pid == 0)
		child_main(words, fds[0], parent);
	close(fds[0]);
	if (pid < 0) {
		rc = fail(-errno, "starting ssh to %s: %s", agent->host,
			  strerror(errno));
		close(fds[1]);
		goto out;
	}
	out->pid = pid;
	out->input_fd = fds[1];
	rc = give_key(fds[1], config->key);
out:
	free(copy);
	free(command);
	return rc;
}

int remote_start(const struct remote_config *config, struct remote **out)
{
	struct remote *remote = calloc(1, sizeof(*remote));
	int rc = 0;

	if (!remote)
		return fail(-ENOMEM, "no memory to start ssh");
	remote->one = calloc(config->count, sizeof(*remote->one));
	if (!remote->one) {
		free(remote);
		return fail(-ENOMEM, "no memory to start ssh");
	}
	for (unsigned i = 0; i < config->count; i++)
		remote->one[i].input_fd = -1;
	for (unsigned i = 0; !rc && i < config->count; i++) {
		rc = start_one(config, &config->agents[i], &remote->one[i]);
		remote->count = i + 1;
	}
	if (rc < 0) {
		remote_stop(remote);
		return rc;
	}
	*out = remote;
	return 0;
}

/* True if it is gone. */
static bool reap(struct one_remote *one, int *status)
{
	pid_t got;

	do {
		got = waitpid(one->pid, status, WNOHANG);
	} while (got < 0 && errno == EINTR);
	if (got == 0)
		return false;
	if (got < 0)
		*status = 0;
	one->pid = 0;
	return true;
}

int remote_check(struct remote *remote)
{
	for (unsigned i = 0; i < remote->count; i++) {
		struct one_remote *one = &remote->one[i];
		int status;

		if (!one->pid || !reap(one, &status))
			continue;
		if (WIFSIGNALED(status))
			return fail(-ECHILD,
				    "ssh to %s was killed by signal "
				    "%d (%s)",
				    one->host, WTERMSIG(status),
				    strsignal(WTERMSIG(status)));
		return fail(-ECHILD, "ssh to %s ended with status %d%s",
			    one->host, WEXITSTATUS(status),
			    WEXITSTATUS(status) == 255
				    ? ": does `ssh -o BatchMode=yes HOST true` "
				      "work?"
			    : WEXITSTATUS(status) == 127
				    ? ": there is no such program; give "
				      "--remote-program PATH"
				    : "; the reason is above");
	}
	return 0;
}

static bool all_gone(struct remote *remote)
{
	bool gone = true;
	int status;

	for (unsigned i = 0; i < remote->count; i++) {
		if (remote->one[i].pid && !reap(&remote->one[i], &status))
			gone = false;
	}
	return gone;
}

void remote_stop(struct remote *remote)
{
	int64_t end_ns = clock_now_ns() + LEAVE_NS;

	if (!remote)
		return;
	for (unsigned i = 0; i < remote->count; i++) {
		if (remote->one[i].input_fd >= 0)
			close(remote->one[i].input_fd);
	}
	while (!all_gone(remote) && clock_now_ns() < end_ns)
		clock_sleep_ns(5 * NS_PER_MS);
	for (unsigned i = 0; i < remote->count; i++) {
		if (remote->one[i].pid) {
			kill(remote->one[i].pid, SIGKILL);
			waitpid(remote->one[i].pid, NULL, 0);
		}
		free(remote->one[i].host);
	}
	free(remote->one);
	free(remote);
}
