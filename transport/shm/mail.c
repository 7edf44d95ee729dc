/*
 * What travels over a link's socket: mails of 24 bytes, some with a
 * descriptor. Everything about them is per call (MSG_DONTWAIT) and not a mode
 * of the socket.
 */
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "transport/shm/shm.h"

#define LOOK_NS       NS_PER_MS
#define MAILS_AT_ONCE 64 /* so that a flood of them holds nobody up */

enum mail_kind {
	MAIL_RING = 1, /* slot: the number of slots; a descriptor */
	MAIL_REGION,   /* a region and its slot; a descriptor */
	MAIL_DROP,     /* the region of this slot is gone */
	MAIL_BELL,
};

struct mail {
	uint32_t kind;
	uint32_t slot;
	uint64_t bytes;
	uint64_t number; /* of the region */
};

union control {
	struct cmsghdr header;
	char bytes[CMSG_SPACE(sizeof(int))];
};

/* fd -1: none. A whole mail is sent, or none of it. */
static int send_mail(struct shm_link *link, const struct mail *mail, int fd)
{
	struct iovec part = {.iov_base = (void *)mail,
			     .iov_len = sizeof(*mail)};
	union control control = {.bytes = {0}};
	struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
	struct cmsghdr *header;
	ssize_t sent;

	if (fd >= 0) {
		message.msg_control = &control;
		message.msg_controllen = sizeof(control);
		header = CMSG_FIRSTHDR(&message);
		header->cmsg_level = SOL_SOCKET;
		header->cmsg_type = SCM_RIGHTS;
		header->cmsg_len = CMSG_LEN(sizeof(int));
		memcpy(CMSG_DATA(header), &fd, sizeof(fd));
	}
	sent = sendmsg(link->fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
	return sent < 0 ? -errno : 0;
}

void shm_mail_region(struct shm_link *link, unsigned slot,
		     const struct shm_memory *memory)
{
	struct mail mail = {
		.kind = MAIL_REGION,
		.slot = slot,
		.bytes = memory->bytes,
		.number = memory->number,
	};

	/* One that the peer is not told of is private to it. */
	if (link->told[slot] == SHM_UNTOLD &&
	    !send_mail(link, &mail, memory->fd))
		link->told[slot] = SHM_TOLD;
}

void shm_mail_drop(struct shm_link *link, unsigned slot)
{
	struct mail mail = {.kind = MAIL_DROP, .slot = slot};

	if (link->told[slot] == SHM_TOLD)
		link->told[slot] =
			send_mail(link, &mail, -1) ? SHM_STUCK : SHM_UNTOLD;
}

int shm_mail_ring(struct shm_link *link, uint64_t slots, int fd)
{
	struct mail mail = {.kind = MAIL_RING, .slot = (uint32_t)slots};

	return send_mail(link, &mail, fd);
}

void shm_mail_bell(struct shm_link *link)
{
	struct mail mail = {.kind = MAIL_BELL};

	/* With no room in the socket there is enough in it to wake. */
	(void)!send_mail(link, &mail, -1);
}

/* The first descriptor of a message; what is more is closed. */
static int take_fd(struct msghdr *message)
{
	struct cmsghdr *header = CMSG_FIRSTHDR(message);
	int first = -1;
	size_t i;

	for (; header; header = CMSG_NXTHDR(message, header)) {
		if (header->cmsg_level != SOL_SOCKET ||
		    header->cmsg_type != SCM_RIGHTS)
			continue;
		for (i = 0; CMSG_LEN((i + 1) * sizeof(int)) <= header->cmsg_len;
		     i++) {
			int fd;

			memcpy(&fd, CMSG_DATA(header) + i * sizeof(fd),
			       sizeof(fd));
			if (first < 0)
				first = fd;
			else
				close(fd);
		}
	}
	return first;
}

/* 1: a mail; 0: none now; or negative. *fd is -1, or the caller's. */
static int receive_mail(struct shm_link *link, struct mail *mail, int *fd)
{
	struct iovec part = {.iov_base = mail, .iov_len = sizeof(*mail)};
	union control control;
	struct msghdr message = {
		.msg_iov = &part,
		.msg_iovlen = 1,
		.msg_control = &control,
		.msg_controllen = sizeof(control),
	};
	ssize_t got =
		recvmsg(link->fd, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);

	if (got < 0)
		return errno == EAGAIN || errno == EINTR ? 0 : -ECONNRESET;
	*fd = take_fd(&message);
	if (got == sizeof(*mail))
		return 1;
	if (*fd >= 0)
		close(*fd);
	return got ? -EPROTO : -ECONNRESET;
}

static int take_region(struct shm_link *link, const struct mail *mail, int fd)
{
	void *base;
	int status;

	if (mail->slot >= TRANSPORT_REGIONS_MAX || link->map[mail->slot].base)
		return -EPROTO;
	/* Its descriptor got lost when we have too many: it stays private. */
	if (fd < 0)
		return 0;
	status = shm_memory_map(fd, mail->bytes, &base);
	if (status == -EPROTO)
		return status;
	if (status) {
		log_warning("shm: mapping a region of rank %u, %llu bytes: %s; "
			    "messages into it are copied twice",
			    link->peer, (unsigned long long)mail->bytes,
			    strerror(-status));
		return 0;
	}
	link->map[mail->slot] =
		(struct shm_map){base, mail->bytes, mail->number};
	return 0;
}

static int take_drop(struct shm_link *link, const struct mail *mail)
{
	struct shm_map *map;

	if (mail->slot >= TRANSPORT_REGIONS_MAX)
		return -EPROTO;
	map = &link->map[mail->slot];
	if (!map->base)
		return 0;
	/* Somebody here computes into it: it must stay. */
	if (shm_link_uses_map(link, map))
		return -EPROTO;
	shm_memory_unmap(map->base, map->bytes);
	map->base = NULL;
	return 0;
}

static int take_ring(struct shm_link *link, const struct mail *mail, int fd)
{
	uint64_t slots = mail->slot;
	void *base;
	int status;

	if (link->ring.head || !link->side || fd < 0 || !slots ||
	    slots > TRANSPORT_DEPTH_MAX || (slots & (slots - 1)))
		return -EPROTO;
	status = shm_memory_map(fd, shm_ring_bytes(slots), &base);
	if (!status)
		shm_ring_at(&link->ring, base, slots);
	return status;
}

static int take_mail(struct shm_link *link, const struct mail *mail, int fd)
{
	switch (mail->kind) {
	case MAIL_RING:
		return take_ring(link, mail, fd);
	case MAIL_REGION:
		return take_region(link, mail, fd);
	case MAIL_DROP:
		return take_drop(link, mail);
	case MAIL_BELL:
		return 0;
	default:
		return -EPROTO;
	}
}

/* True: a mail was taken, and there may be more. */
static bool read_one(const struct shm_endpoint *endpoint, struct shm_link *link)
{
	struct mail mail = {.kind = 0};
	int fd = -1;
	int status = receive_mail(link, &mail, &fd);

	if (status == 0)
		return false;
	if (status > 0) {
		status = take_mail(link, &mail, fd);
		if (fd >= 0)
			close(fd);
	}
	if (status == -ECONNRESET)
		link->hung_up = true;
	else if (status && shm_link_live(link))
		shm_link_fail(
			link, status,
			"rank %u: the link with rank %u failed: mail that "
			"cannot be (kind %u, slot %u)",
			endpoint->base.config.rank, link->peer, mail.kind,
			mail.slot);
	return !status;
}

void shm_mail_read(const struct shm_endpoint *endpoint, struct shm_link *link)
{
	unsigned i;

	for (i = 0; i < MAILS_AT_ONCE && !link->hung_up; i++) {
		if (!read_one(endpoint, link))
			return;
	}
}

void shm_mail_read_one(const struct shm_endpoint *endpoint,
		       struct shm_link *link)
{
	if (!link->hung_up)
		read_one(endpoint, link);
}

void shm_mail_look(struct shm_endpoint *endpoint)
{
	unsigned i;

	for (i = 0; i < endpoint->link_count; i++) {
		if (shm_link_live(endpoint->links[i]))
			shm_mail_read(endpoint, endpoint->links[i]);
	}
}

void shm_mail_look_sometimes(struct shm_endpoint *endpoint)
{
	int64_t now_ns = clock_now_ns();

	if (now_ns < endpoint->next_look_ns)
		return;
	shm_mail_look(endpoint);
	endpoint->next_look_ns = now_ns + LOOK_NS;
}
