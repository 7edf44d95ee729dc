# Transport: frames, and one suite over every transport.
if HAVE_CMOCKA
transport_tests = \
	tests/transport/test-auto \
	tests/transport/test-auto-mixed \
	tests/transport/test-fault \
	tests/transport/test-fault-plans \
	tests/transport/test-flips \
	tests/transport/test-flips-bpf \
	tests/transport/test-inproc \
	tests/transport/test-rdma-control \
	tests/transport/test-rdma \
	tests/transport/test-rdma-send \
	tests/transport/test-shm \
	tests/transport/test-shm-memory \
	tests/transport/test-tcp-sockets \
	tests/transport/test-tcp-uring \
	tests/transport/test-tcp-uring-zero-copy \
	tests/transport/test-tcp-fallback \
	tests/transport/test-tcp-sockets-authentic \
	tests/transport/test-tcp-sockets-encrypted \
	tests/transport/test-tcp-uring-authentic \
	tests/transport/test-tcp-uring-encrypted
check_PROGRAMS += tests/transport/test-secure tests/transport/test-wire \
	$(transport_tests)
TESTS += tests/transport/test-secure tests/transport/test-wire \
	$(transport_tests)

# It waits for most of its time, and looks inside for the sockets.
check_PROGRAMS += tests/transport/test-tcp-silence
TESTS += tests/transport/test-tcp-silence
tests_transport_test_tcp_silence_SOURCES = \
	tests/transport/test-tcp-silence.c \
	tests/transport/world.c tests/transport/world.h
tests_transport_test_tcp_silence_CPPFLAGS = $(TEST_CPPFLAGS)
tests_transport_test_tcp_silence_LDADD = $(transport_test_libs)
tests_transport_test_tcp_silence_LDFLAGS = $(transport_test_ldflags)

check_PROGRAMS += tests/transport/test-tcp-wires
TESTS += tests/transport/test-tcp-wires
tests_transport_test_tcp_wires_SOURCES = \
	tests/transport/test-tcp-wires.c \
	tests/transport/world.c tests/transport/world.h
tests_transport_test_tcp_wires_CPPFLAGS = $(TEST_CPPFLAGS)
tests_transport_test_tcp_wires_LDADD = $(transport_test_libs)
tests_transport_test_tcp_wires_LDFLAGS = $(transport_test_ldflags)

conformance_sources = \
	tests/transport/conformance.c tests/transport/conformance.h \
	tests/transport/conformance-connect.c \
	tests/transport/conformance-data.c \
	tests/transport/conformance-failure.c \
	tests/transport/conformance-leak.c \
	tests/transport/conformance-process.c \
	tests/transport/conformance-wait.c \
	tests/transport/conformance-wire.c \
	tests/transport/world.c tests/transport/world.h
transport_test_libs = $(TRANSPORT_LIBS) $(BASE_LIBS) $(CMOCKA_LIBS)
# The suite counts allocations, and what is not freed.
transport_test_ldflags = $(AM_LDFLAGS) \
	-Wl,--wrap=malloc -Wl,--wrap=calloc -Wl,--wrap=realloc \
	-Wl,--wrap=strdup -Wl,--wrap=free

tests_transport_test_secure_SOURCES = tests/transport/test-secure.c
tests_transport_test_secure_CPPFLAGS = $(TEST_CPPFLAGS)
tests_transport_test_secure_LDADD = $(transport_test_libs)

tests_transport_test_wire_SOURCES = tests/transport/test-wire.c
tests_transport_test_wire_CPPFLAGS = $(TEST_CPPFLAGS)
tests_transport_test_wire_LDADD = $(transport_test_libs)

tests_transport_test_tcp_sockets_authentic_SOURCES = \
	tests/transport/test-tcp-secure.c $(conformance_sources)
tests_transport_test_tcp_sockets_authentic_CPPFLAGS = $(TEST_CPPFLAGS) -DIO='"sockets"' \
	-DWIRE=TRANSPORT_WIRE_AUTHENTIC -DWIRE_NAME='"authentic"' \
	-DOVERLAP='"bytes move only while the owner calls progress"'
tests_transport_test_tcp_sockets_authentic_LDADD = $(transport_test_libs)
tests_transport_test_tcp_sockets_authentic_LDFLAGS = $(transport_test_ldflags)

tests_transport_test_tcp_sockets_encrypted_SOURCES = \
	tests/transport/test-tcp-secure.c $(conformance_sources)
tests_transport_test_tcp_sockets_encrypted_CPPFLAGS = $(TEST_CPPFLAGS) -DIO='"sockets"' \
	-DWIRE=TRANSPORT_WIRE_ENCRYPTED -DWIRE_NAME='"encrypted"' \
	-DOVERLAP='"bytes move only while the owner calls progress"'
tests_transport_test_tcp_sockets_encrypted_LDADD = $(transport_test_libs)
tests_transport_test_tcp_sockets_encrypted_LDFLAGS = $(transport_test_ldflags)

tests_transport_test_tcp_uring_authentic_SOURCES = \
	tests/transport/test-tcp-secure.c $(conformance_sources)
tests_transport_test_tcp_uring_authentic_CPPFLAGS = $(TEST_CPPFLAGS) -DIO='"uring"' \
	-DWIRE=TRANSPORT_WIRE_AUTHENTIC -DWIRE_NAME='"authentic"'
tests_transport_test_tcp_uring_authentic_LDADD = $(transport_test_libs)
tests_transport_test_tcp_uring_authentic_LDFLAGS = $(transport_test_ldflags)

tests_transport_test_tcp_uring_encrypted_SOURCES = \
	tests/transport/test-tcp-secure.c $(conformance_sources)
tests_transport_test_tcp_uring_encrypted_CPPFLAGS = $(TEST_CPPFLAGS) -DIO='"uring"' \
	-DWIRE=TRANSPORT_WIRE_ENCRYPTED -DWIRE_NAME='"encrypted"' \
	-DOVERLAP='"the slot holds ciphertext until the owner calls progress"'
tests_transport_test_tcp_uring_encrypted_LDADD = $(transport_test_libs)
tests_transport_test_tcp_uring_encrypted_LDFLAGS = $(transport_test_ldflags)

tests_transport_test_fault_SOURCES = \
	tests/transport/test-fault.c $(conformance_sources)
tests_transport_test_fault_CPPFLAGS = $(TEST_CPPFLAGS)
tests_transport_test_fault_LDADD = $(transport_test_libs)
tests_transport_test_fault_LDFLAGS = $(transport_test_ldflags)

tests_transport_test_auto_SOURCES = \
	tests/transport/test-auto.c $(conformance_sources)
tests_transport_test_auto_CPPFLAGS = $(TEST_CPPFLAGS)
tests_transport_test_auto_LDADD = $(transport_test_libs)
tests_transport_test_auto_LDFLAGS = $(transport_test_ldflags)

tests_transport_test_auto_mixed_SOURCES = \
	tests/transport/test-auto-mixed.c \
	tests/transport/world.c tests/transport/world.h
tests_transport_test_auto_mixed_CPPFLAGS = $(TEST_CPPFLAGS)
tests_transport_test_auto_mixed_LDADD = $(transport_test_libs)
tests_transport_test_auto_mixed_LDFLAGS = $(transport_test_ldflags)

tests_transport_test_fault_plans_SOURCES = \
	tests/transport/test-fault-plans.c \
	tests/transport/world.c tests/transport/world.h
tests_transport_test_fault_plans_CPPFLAGS = $(TEST_CPPFLAGS)
tests_transport_test_fault_plans_LDADD = $(transport_test_libs)
tests_transport_test_fault_plans_LDFLAGS = $(transport_test_ldflags)

tests_transport_test_flips_SOURCES = \
	tests/transport/test-flips.c \
	tests/transport/flips.c tests/transport/flips.h \
	tests/transport/world.c tests/transport/world.h
tests_transport_test_flips_CPPFLAGS = $(TEST_CPPFLAGS)
tests_transport_test_flips_LDADD = $(transport_test_libs)
tests_transport_test_flips_LDFLAGS = $(transport_test_ldflags)

tests_transport_test_flips_bpf_SOURCES = \
	tests/transport/test-flips-bpf.c \
	tests/transport/flips.c tests/transport/flips.h \
	tests/transport/world.c tests/transport/world.h
tests_transport_test_flips_bpf_CPPFLAGS = $(TEST_CPPFLAGS)
tests_transport_test_flips_bpf_LDADD = $(transport_test_libs)
tests_transport_test_flips_bpf_LDFLAGS = $(transport_test_ldflags)

tests_transport_test_inproc_SOURCES = \
	tests/transport/test-inproc.c $(conformance_sources)
tests_transport_test_inproc_CPPFLAGS = $(TEST_CPPFLAGS)
tests_transport_test_inproc_LDADD = $(transport_test_libs)
tests_transport_test_inproc_LDFLAGS = $(transport_test_ldflags)

tests_transport_test_rdma_control_SOURCES = tests/transport/test-rdma-control.c
tests_transport_test_rdma_control_CPPFLAGS = $(TEST_CPPFLAGS)
tests_transport_test_rdma_control_LDADD = $(transport_test_libs)

tests_transport_test_rdma_SOURCES = \
	tests/transport/test-rdma.c $(conformance_sources)
tests_transport_test_rdma_CPPFLAGS = $(TEST_CPPFLAGS)
tests_transport_test_rdma_LDADD = $(transport_test_libs)
tests_transport_test_rdma_LDFLAGS = $(transport_test_ldflags)

tests_transport_test_rdma_send_SOURCES = \
	tests/transport/test-rdma.c $(conformance_sources)
tests_transport_test_rdma_send_CPPFLAGS = $(TEST_CPPFLAGS) -DWITHOUT_IMMEDIATE
tests_transport_test_rdma_send_LDADD = $(transport_test_libs)
tests_transport_test_rdma_send_LDFLAGS = $(transport_test_ldflags)

tests_transport_test_shm_SOURCES = \
	tests/transport/test-shm.c $(conformance_sources)
tests_transport_test_shm_CPPFLAGS = $(TEST_CPPFLAGS)
tests_transport_test_shm_LDADD = $(transport_test_libs)
tests_transport_test_shm_LDFLAGS = $(transport_test_ldflags)

tests_transport_test_shm_memory_SOURCES = \
	tests/transport/test-shm-memory.c \
	tests/transport/world.c tests/transport/world.h
tests_transport_test_shm_memory_CPPFLAGS = $(TEST_CPPFLAGS)
tests_transport_test_shm_memory_LDADD = $(transport_test_libs)
tests_transport_test_shm_memory_LDFLAGS = $(transport_test_ldflags)

tests_transport_test_tcp_sockets_SOURCES = \
	tests/transport/test-tcp-sockets.c $(conformance_sources)
tests_transport_test_tcp_sockets_CPPFLAGS = $(TEST_CPPFLAGS)
tests_transport_test_tcp_sockets_LDADD = $(transport_test_libs)
tests_transport_test_tcp_sockets_LDFLAGS = $(transport_test_ldflags)

tests_transport_test_tcp_uring_SOURCES = \
	tests/transport/test-tcp-uring.c $(conformance_sources)
tests_transport_test_tcp_uring_CPPFLAGS = $(TEST_CPPFLAGS)
tests_transport_test_tcp_uring_LDADD = $(transport_test_libs)
tests_transport_test_tcp_uring_LDFLAGS = $(transport_test_ldflags)

tests_transport_test_tcp_uring_zero_copy_SOURCES = \
	tests/transport/test-tcp-uring-zero-copy.c $(conformance_sources)
tests_transport_test_tcp_uring_zero_copy_CPPFLAGS = $(TEST_CPPFLAGS)
tests_transport_test_tcp_uring_zero_copy_LDADD = $(transport_test_libs)
tests_transport_test_tcp_uring_zero_copy_LDFLAGS = $(transport_test_ldflags)

tests_transport_test_tcp_fallback_SOURCES = \
	tests/transport/test-tcp-fallback.c \
	tests/transport/world.c tests/transport/world.h
tests_transport_test_tcp_fallback_CPPFLAGS = $(TEST_CPPFLAGS)
tests_transport_test_tcp_fallback_LDADD = $(transport_test_libs)
tests_transport_test_tcp_fallback_LDFLAGS = $(transport_test_ldflags)
endif

# 10,000 flips by the kernel; the test has 1,000. Part of `make soak`.
soak-flips: all
	$(MAKE) tests/transport/test-flips-bpf$(EXEEXT)
	FLIPS=10000 tests/transport/test-flips-bpf$(EXEEXT)
soak: soak-flips
.PHONY: soak-flips

# Attacks listening sockets; tests/e2e/test-hostile.sh has it do so.
check_PROGRAMS += tests/transport/hostile
tests_transport_hostile_SOURCES = tests/transport/hostile.c
tests_transport_hostile_LDADD = $(TRANSPORT_LIBS) $(BASE_LIBS)
