# The world: control messages, coordinator, cores, launch.
if HAVE_CMOCKA
check_PROGRAMS += tests/unit/test-control tests/unit/test-cores \
	tests/unit/test-coordinator tests/unit/test-launch \
	tests/unit/test-liveness tests/unit/test-place tests/unit/test-hosts \
	tests/unit/test-world-silence tests/unit/world-rank
TESTS += tests/unit/test-control tests/unit/test-cores \
	tests/unit/test-coordinator tests/unit/test-launch \
	tests/unit/test-liveness tests/unit/test-place tests/unit/test-hosts \
	tests/unit/test-world-silence

WORLD_TEST_LIBS = engine/libengine.a $(TRANSPORT_LIBS) $(BASE_LIBS)

tests_unit_test_control_SOURCES = tests/unit/test-control.c
tests_unit_test_control_CPPFLAGS = $(TEST_CPPFLAGS)
tests_unit_test_control_LDADD = $(WORLD_TEST_LIBS) $(CMOCKA_LIBS)

tests_unit_test_cores_SOURCES = tests/unit/test-cores.c
tests_unit_test_cores_CPPFLAGS = $(TEST_CPPFLAGS)
tests_unit_test_cores_LDADD = $(WORLD_TEST_LIBS) $(CMOCKA_LIBS)

tests_unit_test_coordinator_SOURCES = tests/unit/test-coordinator.c
tests_unit_test_coordinator_CPPFLAGS = $(TEST_CPPFLAGS)
tests_unit_test_coordinator_LDADD = $(WORLD_TEST_LIBS) $(CMOCKA_LIBS)

tests_unit_test_hosts_SOURCES = tests/unit/test-hosts.c \
	tests/unit/cmocka-tap.h
tests_unit_test_hosts_CPPFLAGS = $(TEST_CPPFLAGS)
tests_unit_test_hosts_LDADD = $(WORLD_TEST_LIBS) $(CMOCKA_LIBS)

tests_unit_test_place_SOURCES = tests/unit/test-place.c \
	tests/unit/cmocka-tap.h
tests_unit_test_place_CPPFLAGS = $(TEST_CPPFLAGS)
tests_unit_test_place_LDADD = $(WORLD_TEST_LIBS) $(CMOCKA_LIBS)

tests_unit_test_launch_SOURCES = tests/unit/test-launch.c \
	tests/unit/world-work.c tests/unit/world-work.h
tests_unit_test_launch_CPPFLAGS = $(TEST_CPPFLAGS)
tests_unit_test_launch_LDADD = $(WORLD_TEST_LIBS) $(CMOCKA_LIBS)

tests_unit_test_liveness_SOURCES = tests/unit/test-liveness.c
tests_unit_test_liveness_CPPFLAGS = $(TEST_CPPFLAGS)
tests_unit_test_liveness_LDADD = $(WORLD_TEST_LIBS) $(CMOCKA_LIBS)

tests_unit_test_world_silence_SOURCES = tests/unit/test-world-silence.c
tests_unit_test_world_silence_CPPFLAGS = $(TEST_CPPFLAGS)
tests_unit_test_world_silence_LDADD = $(WORLD_TEST_LIBS) $(CMOCKA_LIBS)

# What test-launch starts as the program of its ranks.
tests_unit_world_rank_SOURCES = tests/unit/world-rank.c \
	tests/unit/world-work.c tests/unit/world-work.h
tests_unit_world_rank_CPPFLAGS = $(TEST_CPPFLAGS)
tests_unit_world_rank_LDADD = $(WORLD_TEST_LIBS)
endif
