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
endif
