#include "engine/launch_signals.h"

#include "base/log.h"
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <unistd.h>

static const int watched[LAUNCH_SIGNALS] = {
	SIGCHLD, SIGINT, SIGTERM, SIGHUP, SIGTSTP, SIGUSR1,
};

static _Atomic int handler_fd = -1;

static void handle_signal(int number)
{
	int saved_errno = errno;
	unsigned char byte = (unsigned char)number;

	/* A full pipe holds enough of them already. */
	if (write(handler_fd, &byte, 1) < 0)
		errno = 0;
	errno = saved_errno;
}

int launch_signals_open(struct launch_signals *signals, bool suspend)
{
	int fds[2], none = -1;

	*signals = (struct launch_signals){.read_fd = -1, .write_fd = -1};
	if (pipe2(fds, O_CLOEXEC | O_NONBLOCK) < 0)
		return fail(-errno, "a pipe for signals: %s", strerror(errno));
	if (!atomic_compare_exchange_strong(&handler_fd, &none, fds[1])) {
		close(fds[0]);
		close(fds[1]);
		return fail(-EBUSY, "another job of this process handles "
				    "signals already");
	}
	signals->read_fd = fds[0];
	signals->write_fd = fds[1];
	for (unsigned i = 0; i < LAUNCH_SIGNALS; i++) {
		struct sigaction action = {.sa_handler = handle_signal,
					   .sa_flags = SA_RESTART};

		sigfillset(&action.sa_mask);
		sigaction(watched[i], NULL, &signals->before[i]);
		if (watched[i] == SIGTSTP && !suspend)
			continue;
		if (watched[i] != SIGCHLD && watched[i] != SIGUSR1 &&
		    signals->before[i].sa_handler == SIG_IGN)
			continue;
		sigaction(watched[i], &action, NULL);
		signals->taken[i] = true;
	}
	return 0;
}

int launch_signals_next(struct launch_signals *signals)
{
	unsigned char byte;

	if (signals->read_fd < 0 || read(signals->read_fd, &byte, 1) != 1)
		return 0;
	return byte;
}

void launch_signals_close(struct launch_signals *signals)
{
	if (signals->read_fd < 0)
		return;
	for (unsigned i = 0; i < LAUNCH_SIGNALS; i++) {
		if (signals->taken[i])
			sigaction(watched[i], &signals->before[i], NULL);
	}
	handler_fd = -1;
	close(signals->read_fd);
	close(signals->write_fd);
	*signals = (struct launch_signals){.read_fd = -1, .write_fd = -1};
}

void launch_signals_block(sigset_t *before)
{
	sigset_t block;

	sigemptyset(&block);
	for (unsigned i = 0; i < LAUNCH_SIGNALS; i++) {
		if (watched[i] != SIGCHLD)
			sigaddset(&block, watched[i]);
	}
	pthread_sigmask(SIG_BLOCK, &block, before);
}
