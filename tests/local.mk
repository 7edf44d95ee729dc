# Every test prints TAP; a folder adds its own part. They run side by side with
# `make -j check`, all but TESTS_ALONE.
TEST_EXTENSIONS = .sh
TESTS_ALONE =
LOG_DRIVER = env AM_TAP_AWK='$(AWK)' TESTS_ALONE='$(TESTS_ALONE)' \
	$(SHELL) $(srcdir)/tests/drive $(top_srcdir)/build-aux/tap-driver.sh
EXTRA_DIST += tests/drive
MOSTLYCLEANFILES = .tests-gate .tests-lock
SH_LOG_DRIVER = $(LOG_DRIVER)
LOG_COMPILER = $(srcdir)/tests/run-tap
EXTRA_DIST += tests/run-tap
AM_TESTS_ENVIRONMENT = srcdir='$(srcdir)' builddir='$(builddir)'; export srcdir builddir;
TEST_CPPFLAGS = $(AM_CPPFLAGS) $(CMOCKA_CFLAGS)
dist_check_SCRIPTS += tests/check-includes tests/check-arm64
TESTS += tests/check-includes tests/check-arm64

include tests/unit/base.mk
include tests/unit/data.mk
include tests/unit/kernels.mk
include tests/unit/kernels-gemm.mk
include tests/unit/model-io.mk
include tests/unit/engine.mk
include tests/unit/tools.mk
include tests/unit/engine-world.mk
include tests/unit/step-path.mk
include tests/eval/local.mk
include tests/grad/local.mk
include tests/schedules/local.mk
include tests/transport/local.mk
include tests/e2e/local.mk
include tests/vm/local.mk
include tests/hosts/local.mk
include tests/interop/local.mk
include tests/bench/local.mk
include tests/fuzz/local.mk
include tests/soak/local.mk
include tests/sanitized.mk
