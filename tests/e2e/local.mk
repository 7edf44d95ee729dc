# The program as a user runs it.
E2E_TESTS = \
	tests/e2e/test-misuse.sh \
	tests/e2e/test-same-bits.sh \
	tests/e2e/test-large-shape.sh \
	tests/e2e/test-failures.sh \
	tests/e2e/test-learning.sh
dist_check_SCRIPTS += $(E2E_TESTS)
TESTS += $(E2E_TESTS)
EXTRA_DIST += tests/e2e/lib.sh
