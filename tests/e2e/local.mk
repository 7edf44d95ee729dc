# The program as a user runs it. Sanitizers slow it down too much for all of
# it; the short run has every command once.
E2E_TESTS = \
	tests/e2e/test-same-bits.sh \
	tests/e2e/test-large-shape.sh \
	tests/e2e/test-failures.sh \
	tests/e2e/test-plan.sh \
	tests/e2e/test-learning.sh
E2E_SHORT_TESTS = \
	tests/e2e/test-misuse.sh \
	tests/e2e/test-short-run.sh
dist_check_SCRIPTS += $(E2E_SHORT_TESTS) $(E2E_TESTS)
TESTS += $(E2E_SHORT_TESTS)
if !SANITIZED
TESTS += $(E2E_TESTS)
endif
EXTRA_DIST += tests/e2e/lib.sh
