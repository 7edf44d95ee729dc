# Kernels, each against its plain reference.
if HAVE_CMOCKA
KERNEL_TESTS = tests/unit/test-vector-math tests/unit/test-kernels \
	tests/unit/test-kernels-bfloat16 \
	tests/unit/test-dropout tests/unit/test-optimizer-kernels \
	tests/unit/test-rope tests/unit/test-normal tests/unit/test-rows
check_PROGRAMS += $(KERNEL_TESTS)
TESTS += $(KERNEL_TESTS)

tests_unit_test_vector_math_SOURCES = tests/unit/test-vector-math.c
tests_unit_test_vector_math_CPPFLAGS = $(TEST_CPPFLAGS)
tests_unit_test_vector_math_CFLAGS = $(AM_CFLAGS) -O3 -fno-trapping-math
tests_unit_test_vector_math_LDADD = $(BASE_LIBS) $(CMOCKA_LIBS)

tests_unit_test_kernels_SOURCES = tests/unit/test-kernels.c \
	tests/unit/kernel-test.h
tests_unit_test_kernels_CPPFLAGS = $(TEST_CPPFLAGS)
tests_unit_test_kernels_LDADD = $(MODEL_LIBS) $(BASE_LIBS) $(CMOCKA_LIBS)

tests_unit_test_kernels_bfloat16_SOURCES = \
	tests/unit/test-kernels-bfloat16.c tests/unit/kernel-test.h
tests_unit_test_kernels_bfloat16_CPPFLAGS = $(TEST_CPPFLAGS)
tests_unit_test_kernels_bfloat16_LDADD = $(MODEL_LIBS) $(BASE_LIBS) \
	$(CMOCKA_LIBS)

tests_unit_test_dropout_SOURCES = tests/unit/test-dropout.c \
	tests/unit/kernel-test.h
tests_unit_test_dropout_CPPFLAGS = $(TEST_CPPFLAGS)
tests_unit_test_dropout_LDADD = $(MODEL_LIBS) $(BASE_LIBS) $(CMOCKA_LIBS)

tests_unit_test_optimizer_kernels_SOURCES = \
	tests/unit/test-optimizer-kernels.c tests/unit/kernel-test.h
tests_unit_test_optimizer_kernels_CPPFLAGS = $(TEST_CPPFLAGS)
tests_unit_test_optimizer_kernels_LDADD = $(MODEL_LIBS) $(BASE_LIBS) \
	$(CMOCKA_LIBS)

tests_unit_test_rope_SOURCES = tests/unit/test-rope.c
tests_unit_test_rope_CPPFLAGS = $(TEST_CPPFLAGS)
tests_unit_test_rope_LDADD = $(MODEL_LIBS) $(BASE_LIBS) $(CMOCKA_LIBS)

tests_unit_test_rows_SOURCES = tests/unit/test-rows.c
tests_unit_test_rows_CPPFLAGS = $(TEST_CPPFLAGS)
tests_unit_test_rows_LDADD = $(MODEL_LIBS) $(BASE_LIBS) $(CMOCKA_LIBS)

tests_unit_test_normal_SOURCES = tests/unit/test-normal.c
tests_unit_test_normal_CPPFLAGS = $(TEST_CPPFLAGS)
tests_unit_test_normal_LDADD = $(MODEL_LIBS) $(BASE_LIBS) $(CMOCKA_LIBS)
endif

# Instructions, counted by callgrind.
check_PROGRAMS += tests/unit/kernel-runs
dist_check_SCRIPTS += tests/unit/test-kernel-counts.sh
TESTS += tests/unit/test-kernel-counts.sh
tests_unit_kernel_runs_SOURCES = tests/unit/kernel-runs.c
tests_unit_kernel_runs_LDADD = $(MODEL_LIBS) $(BASE_LIBS)

# The same bits on processors with other vectors.
check_PROGRAMS += tests/unit/kernel-bits
dist_check_SCRIPTS += tests/unit/test-kernel-bits.sh
TESTS += tests/unit/test-kernel-bits.sh
tests_unit_kernel_bits_SOURCES = tests/unit/kernel-bits.c
tests_unit_kernel_bits_LDADD = $(MODEL_LIBS) $(BASE_LIBS)
