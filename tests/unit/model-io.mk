# The parameter table; model files: safetensors and config.json.
if HAVE_CMOCKA
MODEL_IO_TESTS = tests/unit/test-safetensors tests/unit/test-hf-config \
	tests/unit/test-parameter
check_PROGRAMS += $(MODEL_IO_TESTS)
TESTS += $(MODEL_IO_TESTS)

tests_unit_test_safetensors_SOURCES = tests/unit/test-safetensors.c
tests_unit_test_safetensors_CPPFLAGS = $(TEST_CPPFLAGS)
tests_unit_test_safetensors_LDADD = $(MODEL_LIBS) $(BASE_LIBS) $(CMOCKA_LIBS)

tests_unit_test_hf_config_SOURCES = tests/unit/test-hf-config.c
tests_unit_test_hf_config_CPPFLAGS = $(TEST_CPPFLAGS)
tests_unit_test_hf_config_LDADD = $(MODEL_LIBS) $(BASE_LIBS) $(CMOCKA_LIBS)

tests_unit_test_parameter_SOURCES = tests/unit/test-parameter.c
tests_unit_test_parameter_CPPFLAGS = $(TEST_CPPFLAGS)
tests_unit_test_parameter_LDADD = $(MODEL_LIBS) $(BASE_LIBS) $(CMOCKA_LIBS)
endif
