# Guests: RDMA, and two hosts, without the hardware. Skips where QEMU is
# missing; see lib.sh.
dist_check_SCRIPTS += tests/vm/test-rdma.sh tests/vm/test-rdma-hosts.sh
EXTRA_DIST += \
	tests/vm/guest-init \
	tests/vm/guest-network-pair tests/vm/guest-network-wire \
	tests/vm/guest-rdma.sh tests/vm/guest-two-hosts.sh \
	tests/vm/lib.sh \
	tests/vm/pair.sh tests/vm/run.sh tests/vm/setup.sh
if HAVE_CMOCKA
if !SANITIZED
TESTS += tests/vm/test-rdma.sh tests/vm/test-rdma-hosts.sh
endif
endif

clean-local: clean-guest
clean-guest:
	rm -rf tests/vm/guest
.PHONY: clean-guest
