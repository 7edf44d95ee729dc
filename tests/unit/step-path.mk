# No allocation in the step path: one program, supervisor and rank alike.
# Sanitizers stand in front of malloc themselves.
if HAVE_CMOCKA
if !SANITIZED
check_PROGRAMS += tests/unit/test-step-path
TESTS += tests/unit/test-step-path
tests_unit_test_step_path_SOURCES = tests/unit/test-step-path.c \
	tests/unit/step-path-count.c tests/unit/step-path-count.h \
	tests/unit/cmocka-tap.h
tests_unit_test_step_path_CPPFLAGS = $(TEST_CPPFLAGS)
tests_unit_test_step_path_LDFLAGS = $(AM_LDFLAGS) \
	-Wl,--wrap=pipeline_train_step
tests_unit_test_step_path_LDADD = $(ENGINE_LIBS) $(DATA_LIBS) $(MODEL_LIBS) \
	$(SCHEDULES_LIBS) $(TRANSPORT_LIBS) $(BASE_LIBS) $(CMOCKA_LIBS)
endif
endif
