# Products, attention, numerics.
if HAVE_CMOCKA
check_PROGRAMS += tests/unit/test-gemm tests/unit/test-gemv \
	tests/unit/test-attention \
	tests/unit/test-numerics
TESTS += tests/unit/test-gemm tests/unit/test-gemv \
	tests/unit/test-attention \
	tests/unit/test-numerics

tests_unit_test_gemm_SOURCES = tests/unit/test-gemm.c
tests_unit_test_gemm_CPPFLAGS = $(TEST_CPPFLAGS)
tests_unit_test_gemm_LDADD = $(MODEL_LIBS) $(BASE_LIBS) $(CMOCKA_LIBS)

tests_unit_test_gemv_SOURCES = tests/unit/test-gemv.c
tests_unit_test_gemv_CPPFLAGS = $(TEST_CPPFLAGS)
tests_unit_test_gemv_LDADD = $(MODEL_LIBS) $(BASE_LIBS) $(CMOCKA_LIBS)

tests_unit_test_attention_SOURCES = tests/unit/test-attention.c
tests_unit_test_attention_CPPFLAGS = $(TEST_CPPFLAGS)
tests_unit_test_attention_LDADD = $(MODEL_LIBS) $(BASE_LIBS) $(CMOCKA_LIBS)

tests_unit_test_numerics_SOURCES = tests/unit/test-numerics.c
tests_unit_test_numerics_CPPFLAGS = $(TEST_CPPFLAGS)
tests_unit_test_numerics_LDADD = $(MODEL_LIBS) $(BASE_LIBS) $(CMOCKA_LIBS)

check_PROGRAMS += tests/unit/test-gemm-bfloat16 tests/unit/test-gemm-widened
TESTS += tests/unit/test-gemm-bfloat16 tests/unit/test-gemm-widened

# Sanitizers stand in front of malloc themselves: then nothing is counted.
if SANITIZED
GEMM_COUNT_SOURCES =
GEMM_COUNT_CPPFLAGS =
else
GEMM_COUNT_SOURCES = tests/unit/step-path-count.c tests/unit/step-path-count.h
GEMM_COUNT_CPPFLAGS = -DCOUNTED
endif
tests_unit_test_gemm_bfloat16_SOURCES = tests/unit/test-gemm-bfloat16.c \
	$(GEMM_COUNT_SOURCES)
tests_unit_test_gemm_bfloat16_CPPFLAGS = $(TEST_CPPFLAGS) $(GEMM_COUNT_CPPFLAGS)
tests_unit_test_gemm_bfloat16_LDADD = $(MODEL_LIBS) $(BASE_LIBS) $(CMOCKA_LIBS)

tests_unit_test_gemm_widened_SOURCES = $(tests_unit_test_gemm_bfloat16_SOURCES)
tests_unit_test_gemm_widened_CPPFLAGS = $(TEST_CPPFLAGS) \
	$(GEMM_COUNT_CPPFLAGS) -DWIDENED
tests_unit_test_gemm_widened_LDADD = $(MODEL_LIBS) $(BASE_LIBS) $(CMOCKA_LIBS)
endif
