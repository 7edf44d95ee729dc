#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#include "base/clock.h"
#include "base/log.h"
#include "tools/bench/bench.h"

#define PATIENCE_NS (60 * NS_PER_SECOND)

static int move(int fd, unsigned char *at, size_t bytes, bool out)
{
	ssize_t moved;

	while (bytes) {
		moved = out ? send(fd, at, bytes, MSG_NOSIGNAL)
			    : recv(fd, at, bytes, 0);
		if (moved < 0 && errno == EINTR)
			continue;
		if (moved <= 0)
			return -ECONNRESET; /* it has said why itself */
		at += moved;
		bytes -= (size_t)moved;
	}
	return 0;
}

/* One message, whole; nothing else is posted on this endpoint. */
static int complete(struct bench_control *control)
{
	struct transport_completion done;
	int status;
	int count;

	for (;;) {
		count = transport_progress(control->endpoint, &done, 1);
		if (count)
			return count < 0 ? count : 0;
		status = transport_wait(control->endpoint,
					clock_now_ns() + PATIENCE_NS, -1);
		if (status)
			return status == -ETIMEDOUT
				       ? fail(status,
					      "bench: the other host is "
					      "silent")
				       : status;
	}
}

int bench_tell(struct bench_control *control, const void *record, size_t bytes)
{
	int status;

	if (control->fd >= 0)
		return move(control->fd, (unsigned char *)(uintptr_t)record,
			    bytes, true);
	memcpy(control->record, record, bytes);
	status = transport_post_send(control->endpoint, !control->rank,
				     control->told++, control->record, bytes,
				     NULL);
	return status ? status : complete(control);
}

int bench_hear(struct bench_control *control, void *record, size_t bytes)
{
	int status;

	if (control->fd >= 0)
		return move(control->fd, record, bytes, false);
	status = transport_post_recv(control->endpoint, !control->rank,
				     control->heard++, control->record, bytes,
				     NULL);
	if (!status)
		status = complete(control);
	if (!status)
		memcpy(record, control->record, bytes);
	return status;
}
