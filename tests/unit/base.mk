# Floor 0, one program a header where that makes sense.
if HAVE_CMOCKA
check_PROGRAMS += tests/unit/test-digest
TESTS += tests/unit/test-digest
tests_unit_test_digest_SOURCES = tests/unit/test-digest.c tests/unit/cmocka-tap.h
tests_unit_test_digest_CPPFLAGS = $(TEST_CPPFLAGS)
tests_unit_test_digest_LDADD = $(BASE_LIBS) $(CMOCKA_LIBS)

check_PROGRAMS += tests/unit/test-files
TESTS += tests/unit/test-files
tests_unit_test_files_SOURCES = tests/unit/test-files.c tests/unit/cmocka-tap.h
tests_unit_test_files_CPPFLAGS = $(TEST_CPPFLAGS)
tests_unit_test_files_LDADD = $(BASE_LIBS) $(CMOCKA_LIBS)

check_PROGRAMS += tests/unit/test-json
TESTS += tests/unit/test-json
tests_unit_test_json_SOURCES = tests/unit/test-json.c tests/unit/cmocka-tap.h
tests_unit_test_json_CPPFLAGS = $(TEST_CPPFLAGS)
tests_unit_test_json_LDADD = $(BASE_LIBS) $(CMOCKA_LIBS)

check_PROGRAMS += tests/unit/test-log
TESTS += tests/unit/test-log
tests_unit_test_log_SOURCES = tests/unit/test-log.c tests/unit/cmocka-tap.h
tests_unit_test_log_CPPFLAGS = $(TEST_CPPFLAGS)
tests_unit_test_log_LDADD = $(BASE_LIBS) $(CMOCKA_LIBS)

check_PROGRAMS += tests/unit/test-math
TESTS += tests/unit/test-math
tests_unit_test_math_SOURCES = tests/unit/test-math.c tests/unit/cmocka-tap.h
tests_unit_test_math_CPPFLAGS = $(TEST_CPPFLAGS)
tests_unit_test_math_LDADD = $(BASE_LIBS) $(CMOCKA_LIBS) -lm

check_PROGRAMS += tests/unit/test-random
TESTS += tests/unit/test-random
tests_unit_test_random_SOURCES = tests/unit/test-random.c tests/unit/cmocka-tap.h
tests_unit_test_random_CPPFLAGS = $(TEST_CPPFLAGS)
tests_unit_test_random_LDADD = $(BASE_LIBS) $(CMOCKA_LIBS) -lm

check_PROGRAMS += tests/unit/test-text
TESTS += tests/unit/test-text
tests_unit_test_text_SOURCES = tests/unit/test-text.c tests/unit/cmocka-tap.h
tests_unit_test_text_CPPFLAGS = $(TEST_CPPFLAGS)
tests_unit_test_text_LDADD = $(BASE_LIBS) $(CMOCKA_LIBS)

check_PROGRAMS += tests/unit/test-threads
TESTS += tests/unit/test-threads
tests_unit_test_threads_SOURCES = tests/unit/test-threads.c tests/unit/cmocka-tap.h
tests_unit_test_threads_CPPFLAGS = $(TEST_CPPFLAGS)
tests_unit_test_threads_LDADD = $(BASE_LIBS) $(CMOCKA_LIBS)

endif
