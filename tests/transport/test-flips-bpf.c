/*
 * Bits flipped by the kernel: in a network namespace of its own, a program at
 * the egress of the loopback device changes one bit in the payload of a TCP
 * segment and repairs the checksum of TCP, as a faulty switch or host would
 * that computes it anew. Nothing below the transport can notice.
 *
 * FLIPS=N takes another number of flips (default 1,000).
 * Needs root, and a kernel with tc-BPF.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <inttypes.h>
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/pkt_cls.h>
#include <linux/pkt_sched.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <sched.h>
#include <stddef.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/random.h"
#include "base/text.h"
#include "tests/transport/flips.h"

#define SEGMENTS 10u /* that carry something, in a life without trouble */

/* What the program and we have in common: the one value of its map. */
struct shared {
	uint64_t seen;   /* segments with a payload */
	uint64_t target; /* which of them is to be changed */
	uint64_t offset; /* modulo its payload: the byte */
	uint64_t mask;   /* what is flipped of it */
	uint64_t flips;
	uint64_t calls; /* connections: SYN without ACK */
};

/* ---- the program ---- */

/* Offsets of what is loaded below the frame pointer. */
#define HEADERS (-40) /* of IP and TCP */
#define BYTE    (-48)
#define BEFORE  (-56)
#define AFTER   (-64)
#define OUT     0x7fff /* a jump to the end, whose place is filled in */

#define OP(code_, dst, src, off_, imm_)                                        \
	{                                                                      \
		.code = (code_), .dst_reg = (dst), .src_reg = (src),           \
		.off = (off_), .imm = (imm_)                                   \
	}
#define MOVE(dst, src)     OP(BPF_ALU64 | BPF_MOV | BPF_X, dst, src, 0, 0)
#define SET(dst, imm)      OP(BPF_ALU64 | BPF_MOV | BPF_K, dst, 0, 0, imm)
#define DO(op, dst, src)   OP(BPF_ALU64 | (op) | BPF_X, dst, src, 0, 0)
#define DO_K(op, dst, imm) OP(BPF_ALU64 | (op) | BPF_K, dst, 0, 0, imm)
#define LOAD(size, dst, src, off)                                              \
	OP(BPF_LDX | BPF_MEM | (size), dst, src, off, 0)
#define STORE(size, dst, off, src)                                             \
	OP(BPF_STX | BPF_MEM | (size), dst, src, off, 0)
#define ADD_TO(dst, off, src)                                                  \
	OP(BPF_STX | BPF_ATOMIC | BPF_DW, dst, src, off, BPF_ADD)
#define FETCH_ADD(dst, off, src)                                               \
	OP(BPF_STX | BPF_ATOMIC | BPF_DW, dst, src, off, BPF_ADD | BPF_FETCH)
#define UNLESS_K(op, dst, imm) OP(BPF_JMP | (op) | BPF_K, dst, 0, OUT, imm)
#define CALL(function)         OP(BPF_JMP | BPF_CALL, 0, 0, 0, function)
/* skb->..., a place below the frame pointer, and a length: the arguments. */
#define OF_PACKET(offset_register, below, bytes)                               \
	MOVE(1, 6), MOVE(2, offset_register), MOVE(3, 10),                     \
		DO_K(BPF_ADD, 3, below), SET(4, bytes)

#define SHARED(field) ((short)offsetof(struct shared, field))

/* r6: the packet, r7: struct shared, r8: payload, r9: place in the packet. */
static int load_program(int map)
{
	struct bpf_insn code[] = {
		MOVE(6, 1),
		OP(BPF_LD | BPF_DW | BPF_IMM, 7, BPF_PSEUDO_MAP_VALUE, 0, map),
		OP(0, 0, 0, 0, 0),
		LOAD(BPF_W, 2, 6, offsetof(struct __sk_buff, protocol)),
		UNLESS_K(BPF_JNE, 2, htons(ETH_P_IP)),
		SET(9, ETH_HLEN),
		OF_PACKET(9, HEADERS, 40),
		CALL(BPF_FUNC_skb_load_bytes),
		UNLESS_K(BPF_JNE, 0, 0),
		/* IPv4 without options, TCP */
		LOAD(BPF_B, 2, 10, HEADERS),
		UNLESS_K(BPF_JNE, 2, 0x45),
		LOAD(BPF_B, 2, 10, HEADERS + 9),
		UNLESS_K(BPF_JNE, 2, 6),
		/* a call: SYN and not ACK */
		LOAD(BPF_B, 2, 10, HEADERS + 33),
		DO_K(BPF_AND, 2, 0x12),
		OP(BPF_JMP | BPF_JNE | BPF_K, 2, 0, 2, 0x02),
		SET(3, 1),
		ADD_TO(7, SHARED(calls), 3),
		/* r8: bytes behind the headers, r9: those of TCP's */
		LOAD(BPF_H, 8, 10, HEADERS + 2),
		OP(BPF_ALU | BPF_END | BPF_TO_BE, 8, 0, 0, 16),
		LOAD(BPF_B, 9, 10, HEADERS + 32),
		DO_K(BPF_RSH, 9, 4),
		DO_K(BPF_LSH, 9, 2),
		DO(BPF_SUB, 8, 9),
		DO_K(BPF_SUB, 8, 20),
		UNLESS_K(BPF_JSLE, 8, 0),
		/* is it the one? */
		SET(3, 1),
		FETCH_ADD(7, SHARED(seen), 3),
		LOAD(BPF_DW, 2, 7, SHARED(target)),
		OP(BPF_JMP | BPF_JNE | BPF_X, 3, 2, OUT, 0),
		LOAD(BPF_DW, 2, 7, SHARED(offset)),
		DO(BPF_MOD, 2, 8),
		MOVE(8, 2),
		DO_K(BPF_ADD, 9, ETH_HLEN + 20),
		DO(BPF_ADD, 9, 8),
		OF_PACKET(9, BYTE, 1),
		CALL(BPF_FUNC_skb_load_bytes),
		UNLESS_K(BPF_JNE, 0, 0),
		/* The byte, and the two bytes of the checksum that it is in. */
		LOAD(BPF_B, 2, 10, BYTE),
		LOAD(BPF_DW, 3, 7, SHARED(mask)),
		DO(BPF_XOR, 3, 2),
		DO_K(BPF_AND, 3, 0xff),
		STORE(BPF_B, 10, BYTE, 3),
		DO_K(BPF_AND, 8, 1),
		DO_K(BPF_LSH, 8, 3),
		DO(BPF_LSH, 2, 8),
		DO(BPF_LSH, 3, 8),
		STORE(BPF_DW, 10, BEFORE, 2),
		STORE(BPF_DW, 10, AFTER, 3),
		OF_PACKET(9, BYTE, 1),
		SET(5, 0),
		CALL(BPF_FUNC_skb_store_bytes),
		UNLESS_K(BPF_JNE, 0, 0),
		MOVE(1, 6),
		SET(2, ETH_HLEN + 20 + 16),
		LOAD(BPF_DW, 3, 10, BEFORE),
		LOAD(BPF_DW, 4, 10, AFTER),
		SET(5, 2),
		CALL(BPF_FUNC_l4_csum_replace),
		UNLESS_K(BPF_JNE, 0, 0),
		SET(3, 1),
		ADD_TO(7, SHARED(flips), 3),
		SET(0, TC_ACT_OK),
		OP(BPF_JMP | BPF_EXIT, 0, 0, 0, 0),
	};
	static char complaint[65536];
	union bpf_attr attributes = {
		.prog_type = BPF_PROG_TYPE_SCHED_CLS,
		.insn_cnt = ARRAY_SIZE(code),
		.insns = (uintptr_t)code,
		.license = (uintptr_t) "GPL", /* what the helpers ask for */
		.log_buf = (uintptr_t)complaint,
		.log_size = sizeof(complaint),
		.log_level = 1,
	};
	int out = (int)ARRAY_SIZE(code) - 2;
	int program;
	int i;

	for (i = 0; i < out; i++) {
		if (code[i].off == OUT)
			code[i].off = (short)(out - i - 1);
	}
	program = (int)syscall(SYS_bpf, BPF_PROG_LOAD, &attributes,
			       sizeof(attributes));
	/* Not allowed is one thing, not understood another. */
	if (program < 0 && complaint[0])
		fprintf(stderr, "%s\n", complaint);
	CHECK(program >= 0 || !complaint[0]);
	return program;
}

/* ---- the namespace ---- */

_Noreturn static void skip(const char *why)
{
	printf("1..0 # SKIP %s (%s)\n", why, strerror(errno));
	exit(0);
}

static void lo_up(void)
{
	struct ifreq request = {.ifr_name = "lo"};
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	CHECK(fd >= 0);
	CHECK_EQUAL(ioctl(fd, SIOCGIFFLAGS, &request), 0);
	request.ifr_flags |= IFF_UP;
	CHECK_EQUAL(ioctl(fd, SIOCSIFFLAGS, &request), 0);
	close(fd);
}

struct request {
	struct nlmsghdr header;
	struct tcmsg tc;
	char attributes[256];
};

static struct rtattr *put(struct request *request, unsigned short type,
			  const void *data, size_t bytes)
{
	struct rtattr *attribute =
		(void *)((char *)request +
			 NLMSG_ALIGN(request->header.nlmsg_len));

	attribute->rta_type = type;
	attribute->rta_len = (unsigned short)RTA_LENGTH(bytes);
	memcpy(RTA_DATA(attribute), data, bytes);
	request->header.nlmsg_len = NLMSG_ALIGN(request->header.nlmsg_len) +
				    RTA_ALIGN(attribute->rta_len);
	return attribute;
}

/* 0 or a negative errno, as the kernel says. */
static int ask(struct request *request)
{
	int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
	char answer[4096];
	const struct nlmsghdr *header = (const void *)answer;
	const struct nlmsgerr *verdict = NLMSG_DATA(header);

	CHECK(fd >= 0);
	CHECK(send(fd, request, request->header.nlmsg_len, 0) > 0);
	CHECK(recv(fd, answer, sizeof(answer), 0) > 0);
	close(fd);
	CHECK_EQUAL(header->nlmsg_type, NLMSG_ERROR);
	return verdict->error;
}

static struct request request_begin(unsigned short type, uint32_t parent)
{
	return (struct request){
		.header =
			{
				.nlmsg_len = NLMSG_LENGTH(sizeof(struct tcmsg)),
				.nlmsg_type = type,
				.nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK |
					       NLM_F_CREATE | NLM_F_EXCL,
			},
		.tc =
			{
				.tcm_family = AF_UNSPEC,
				.tcm_ifindex = (int)if_nametoindex("lo"),
				.tcm_parent = parent,
			},
	};
}

static int attach(int program)
{
	uint32_t flags = TCA_BPF_FLAG_ACT_DIRECT;
	struct request request;
	struct rtattr *nest;
	int status;

	request = request_begin(RTM_NEWQDISC, TC_H_CLSACT);
	request.tc.tcm_handle = TC_H_MAKE(TC_H_CLSACT, 0);
	put(&request, TCA_KIND, "clsact", 7);
	status = ask(&request);
	if (status)
		return status;
	request = request_begin(RTM_NEWTFILTER,
				TC_H_MAKE(TC_H_CLSACT, TC_H_MIN_EGRESS));
	request.tc.tcm_info = TC_H_MAKE(1u << 16, htons(ETH_P_ALL));
	put(&request, TCA_KIND, "bpf", 4);
	nest = put(&request, TCA_OPTIONS, "", 0);
	put(&request, TCA_BPF_FD, &program, 4);
	put(&request, TCA_BPF_NAME, "flips", 6);
	put(&request, TCA_BPF_FLAGS, &flags, 4);
	nest->rta_len =
		(unsigned short)((char *)&request + request.header.nlmsg_len -
				 (char *)nest);
	return ask(&request);
}

/* All of it goes with this process. */
static struct shared *set_up(void)
{
	union bpf_attr attributes = {
		.map_type = BPF_MAP_TYPE_ARRAY,
		.key_size = 4,
		.value_size = sizeof(struct shared),
		.max_entries = 1,
		.map_flags = BPF_F_MMAPABLE,
	};
	struct shared *shared;
	int program;
	int map;

	if (unshare(CLONE_NEWNET))
		skip("a network namespace of its own needs root");
	lo_up();
	map = (int)syscall(SYS_bpf, BPF_MAP_CREATE, &attributes,
			   sizeof(attributes));
	if (map < 0)
		skip("the kernel refuses BPF");
	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED,
		      map, 0);
	if (shared == MAP_FAILED)
		skip("the kernel does not map BPF memory");
	program = load_program(map);
	if (program < 0)
		skip("the kernel refuses programs for traffic control");
	errno = -attach(program);
	if (errno)
		skip("the kernel has no clsact or BPF classifier");
	return shared;
}

/* ---- the test ---- */

static const struct conformance_transport over_tcp = {
	.name = "tcp",
	.kind = "tcp",
	.io = "sockets",
};
static uint32_t next_epoch;

static struct flips_outcome try_with(struct shared *shared, uint64_t target,
				     uint64_t offset, unsigned bit,
				     bool checksum)
{
	struct flips_outcome outcome;

	*shared = (struct shared){
		.target = target,
		.offset = offset,
		.mask = 1u << bit,
	};
	outcome = flips_try(&over_tcp, next_epoch++, checksum);
	outcome.flips = (unsigned)shared->flips;
	outcome.connections = (unsigned)shared->calls;
	return outcome;
}

static void flip_many(struct shared *shared, unsigned flips)
{
	struct random_key key = random_key_named(1, "flips by the kernel");
	struct flips_outcome outcome;
	unsigned handshakes = 0;
	unsigned happened = 0;
	int64_t start = clock_now_ns();
	uint64_t trial;
	uint64_t target;

	for (trial = 0; happened < flips; trial++) {
		CHECK(trial < 3 * (uint64_t)flips);
		/* The first two are the handshake's: seldom. */
		target = random_below(key, 4 * trial, 16)
				 ? 2 + random_below(key, 4 * trial + 1,
						    SEGMENTS - 2)
				 : random_below(key, 4 * trial + 1, 2);
		outcome = try_with(
			shared, target, random_below(key, 4 * trial + 2, 4096),
			(unsigned)random_below(key, 4 * trial + 3, 8), true);
		CHECK(outcome.flips <= 1);
		happened += outcome.flips;
		handshakes += !outcome.met || outcome.connections > 1;
		CHECK(!outcome.wrong);
		CHECK(!outcome.flips || !flips_unnoticed(&outcome));
	}
	printf("# %u flips, %u of them in handshakes, %.1f s\n", happened,
	       handshakes, clock_seconds(clock_now_ns() - start));
}

int main(void)
{
	const char *text = getenv("FLIPS");
	struct flips_outcome outcome;
	struct shared *shared;
	int64_t flips = 1000;
	unsigned wrong = 0;
	unsigned i;

	CHECK(!text || !text_parse_integer(text, 1, 10000000, &flips));
	log_capture();
	shared = set_up();
	printf("1..3\n");

	outcome = try_with(shared, UINT64_MAX, 0, 0, true);
	CHECK(outcome.met && !outcome.failed && !outcome.flips);
	CHECK_EQUAL(outcome.connections, 1);
	CHECK(shared->seen >= SEGMENTS);
	printf("ok 1 - a link without flips\n");

	/* The control: such a flip passes TCP, and arrives. */
	for (i = 0; i < 40; i++) {
		outcome = try_with(shared, 2 + i % 8, 64 + i, i % 8, false);
		wrong += outcome.flips && outcome.wrong;
	}
	printf("# without checksums, %u of 40 arrived\n", wrong);
	CHECK(wrong >= 5);
	printf("ok 2 - flips pass TCP\n");

	flip_many(shared, (unsigned)flips);
	printf("ok 3 - none of %" PRId64 " flips is unnoticed\n", flips);
	return 0;
}
