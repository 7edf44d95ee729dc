# Schedules: against the oracle's rows, over all sizes, broken ones, text.
EXTRA_DIST += tests/schedules/oracle tests/schedules/compare-with-torch.py
dist_check_SCRIPTS += tests/schedules/command.sh
TESTS += tests/schedules/command.sh
if HAVE_CMOCKA
SCHEDULES_TESTS = \
	tests/schedules/test-oracle tests/schedules/test-validate \
	tests/schedules/test-properties tests/schedules/test-text \
	tests/schedules/test-simulate tests/schedules/test-simulate-links \
	tests/schedules/test-simulate-size \
	tests/schedules/test-simulate-replicas tests/schedules/test-search
check_PROGRAMS += $(SCHEDULES_TESTS)
TESTS += $(SCHEDULES_TESTS)
SCHEDULES_TEST_SUPPORT = \
	tests/schedules/support.c tests/schedules/support.h \
	tests/schedules/brute-force.c tests/schedules/brute-force.h
SCHEDULES_TEST_LIBS = $(SCHEDULES_LIBS) $(BASE_LIBS) $(CMOCKA_LIBS)

tests_schedules_test_oracle_SOURCES = \
	tests/schedules/test-oracle.c $(SCHEDULES_TEST_SUPPORT)
tests_schedules_test_oracle_CPPFLAGS = $(TEST_CPPFLAGS)
tests_schedules_test_oracle_LDADD = $(SCHEDULES_TEST_LIBS)

tests_schedules_test_validate_SOURCES = \
	tests/schedules/test-validate.c $(SCHEDULES_TEST_SUPPORT)
tests_schedules_test_validate_CPPFLAGS = $(TEST_CPPFLAGS)
tests_schedules_test_validate_LDADD = $(SCHEDULES_TEST_LIBS)

tests_schedules_test_properties_SOURCES = \
	tests/schedules/test-properties.c $(SCHEDULES_TEST_SUPPORT)
tests_schedules_test_properties_CPPFLAGS = $(TEST_CPPFLAGS)
tests_schedules_test_properties_LDADD = $(SCHEDULES_TEST_LIBS)

tests_schedules_test_text_SOURCES = \
	tests/schedules/test-text.c $(SCHEDULES_TEST_SUPPORT)
tests_schedules_test_text_CPPFLAGS = $(TEST_CPPFLAGS)
tests_schedules_test_text_LDADD = $(SCHEDULES_TEST_LIBS)

tests_schedules_test_simulate_SOURCES = \
	tests/schedules/test-simulate.c $(SCHEDULES_TEST_SUPPORT)
tests_schedules_test_simulate_CPPFLAGS = $(TEST_CPPFLAGS)
tests_schedules_test_simulate_LDADD = $(SCHEDULES_TEST_LIBS)

tests_schedules_test_simulate_links_SOURCES = \
	tests/schedules/test-simulate-links.c $(SCHEDULES_TEST_SUPPORT)
tests_schedules_test_simulate_links_CPPFLAGS = $(TEST_CPPFLAGS)
tests_schedules_test_simulate_links_LDADD = $(SCHEDULES_TEST_LIBS)

tests_schedules_test_simulate_replicas_SOURCES = \
	tests/schedules/test-simulate-replicas.c $(SCHEDULES_TEST_SUPPORT)
tests_schedules_test_simulate_replicas_CPPFLAGS = $(TEST_CPPFLAGS)
tests_schedules_test_simulate_replicas_LDADD = $(SCHEDULES_TEST_LIBS)

tests_schedules_test_search_SOURCES = \
	tests/schedules/test-search.c $(SCHEDULES_TEST_SUPPORT)
tests_schedules_test_search_CPPFLAGS = $(TEST_CPPFLAGS)
tests_schedules_test_search_LDADD = $(SCHEDULES_TEST_LIBS)

# The linker sends the malloc family through the test, which counts.
tests_schedules_test_simulate_size_SOURCES = \
	tests/schedules/test-simulate-size.c $(SCHEDULES_TEST_SUPPORT)
tests_schedules_test_simulate_size_CPPFLAGS = $(TEST_CPPFLAGS)
tests_schedules_test_simulate_size_LDADD = $(SCHEDULES_TEST_LIBS)
tests_schedules_test_simulate_size_LDFLAGS = \
	-Wl,--wrap=malloc -Wl,--wrap=calloc -Wl,--wrap=realloc -Wl,--wrap=free
endif
