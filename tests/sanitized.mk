# make check-sanitized: two more builds, in folders below this one, and the
# tests again in them. Address and undefined behaviour: all but the long
# end-to-end tests and the timings. Threads: what has some.
SANITIZED_THREAD_TESTS = \
	tests/unit/test-threads tests/unit/test-coordinator \
	tests/unit/test-launch tests/unit/test-world-silence \
	tests/unit/test-gemm tests/unit/test-gemm-bfloat16 \
	tests/unit/test-attention \
	tests/unit/test-kernels tests/unit/test-engine-stage \
	tests/unit/test-engine-run tests/grad/test-slices \
	tests/transport/test-inproc tests/transport/test-shm \
	tests/transport/test-shm-memory tests/transport/test-tcp-sockets \
	tests/transport/test-tcp-uring tests/e2e/test-short-run.sh

.PHONY: check-sanitized
check-sanitized: check-sanitized-address check-sanitized-thread

.PHONY: check-sanitized-address check-sanitized-thread
check-sanitized-address:
	$(AM_V_at)$(SANITIZED_BUILD) sanitized-address address,undefined
	$(AM_V_at)cd sanitized-address && \
		$(MAKE) -s --no-print-directory check

check-sanitized-thread:
	$(AM_V_at)$(SANITIZED_BUILD) sanitized-thread thread
	$(AM_V_at)cd sanitized-thread && \
		$(MAKE) -s --no-print-directory check TESTS='$(SANITIZED_THREAD_TESTS)'

SANITIZED_BUILD = CC='$(CC)' MAKE='$(MAKE)' \
	$(SHELL) $(srcdir)/tests/build-sanitized $(abs_srcdir)
EXTRA_DIST += tests/build-sanitized

distclean-local:
	-rm -rf sanitized-address sanitized-thread fuzz-build
