# Floor 3.
if HAVE_CMOCKA
check_PROGRAMS += tests/unit/test-options
TESTS += tests/unit/test-options
tests_unit_test_options_SOURCES = tests/unit/test-options.c \
	tests/unit/cmocka-tap.h
tests_unit_test_options_CPPFLAGS = $(TEST_CPPFLAGS)
tests_unit_test_options_LDADD = $(TOOLS_LIBS) $(BASE_LIBS) $(CMOCKA_LIBS)

check_PROGRAMS += tests/unit/test-compare-page
TESTS += tests/unit/test-compare-page
tests_unit_test_compare_page_SOURCES = tests/unit/test-compare-page.c \
	tests/unit/cmocka-tap.h
tests_unit_test_compare_page_CPPFLAGS = $(TEST_CPPFLAGS)
tests_unit_test_compare_page_LDADD = $(TOOLS_LIBS) $(BASE_LIBS) \
	$(CMOCKA_LIBS)

check_PROGRAMS += tests/unit/test-report
TESTS += tests/unit/test-report
tests_unit_test_report_SOURCES = tests/unit/test-report.c \
	tests/unit/cmocka-tap.h
tests_unit_test_report_CPPFLAGS = $(TEST_CPPFLAGS)
tests_unit_test_report_LDADD = $(TOOLS_LIBS) $(ENGINE_TEST_LIBS) \
	$(CMOCKA_LIBS)

check_PROGRAMS += tests/unit/test-timeline
TESTS += tests/unit/test-timeline
tests_unit_test_timeline_SOURCES = tests/unit/test-timeline.c \
	tests/unit/cmocka-tap.h
tests_unit_test_timeline_CPPFLAGS = $(TEST_CPPFLAGS)
tests_unit_test_timeline_LDADD = $(TOOLS_LIBS) $(ENGINE_TEST_LIBS) \
	$(CMOCKA_LIBS)
endif
