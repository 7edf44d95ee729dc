# The program as a user runs it. Sanitizers slow it down too much for all of
# it; the short run has every command once.
E2E_TESTS = \
	tests/e2e/test-bf16.sh \
	tests/e2e/test-same-bits.sh \
	tests/e2e/test-same-bits-schedules.sh \
	tests/e2e/test-large-shape.sh \
	tests/e2e/test-failures.sh \
	tests/e2e/test-fine-tuning.sh \
	tests/e2e/test-hostile.sh \
	tests/e2e/test-hybrid.sh \
	tests/e2e/test-liveness.sh \
	tests/e2e/test-plan.sh \
	tests/e2e/test-stores.sh \
	tests/e2e/test-tensor.sh \
	tests/e2e/test-learning.sh \
	tests/e2e/test-llama.sh \
	tests/e2e/test-lora.sh \
	tests/e2e/test-rehearse.sh \
	tests/e2e/test-sft.sh
E2E_SHORT_TESTS = \
	tests/e2e/test-bench.sh \
	tests/e2e/test-carry.sh \
	tests/e2e/test-faults.sh \
	tests/e2e/test-misuse.sh \
	tests/e2e/test-resume.sh \
	tests/e2e/test-save-dtype.sh \
	tests/e2e/test-trace.sh \
	tests/e2e/test-short-run.sh
dist_check_SCRIPTS += $(E2E_SHORT_TESTS) $(E2E_TESTS)
TESTS += $(E2E_SHORT_TESTS)
if !SANITIZED
TESTS += $(E2E_TESTS)
endif
EXTRA_DIST += tests/e2e/lib.sh
TESTS_ALONE += tests/e2e/test-bench.sh tests/e2e/test-liveness.sh \
	tests/e2e/test-plan.sh tests/e2e/test-rehearse.sh

# The page of `schedule compare`, from the simulator alone.
check_PROGRAMS += tests/e2e/make-compare-page tests/e2e/count-colours
tests_e2e_make_compare_page_SOURCES = tests/e2e/make-compare-page.c
tests_e2e_make_compare_page_LDADD = $(TOOLS_LIBS) $(ENGINE_TEST_LIBS)
tests_e2e_count_colours_SOURCES = tests/e2e/count-colours.c
tests_e2e_count_colours_CPPFLAGS = $(AM_CPPFLAGS) $(ISAL_CFLAGS)
tests_e2e_count_colours_LDADD = $(BASE_LIBS)
dist_check_SCRIPTS += tests/e2e/test-compare-page.sh tests/e2e/test-report.sh
TESTS += tests/e2e/test-compare-page.sh tests/e2e/test-report.sh
EXTRA_DIST += tests/e2e/browser.sh tests/e2e/report-page-probe.js
EXTRA_DIST += tests/e2e/compare-page-probe.js tests/e2e/make-picture.sh
