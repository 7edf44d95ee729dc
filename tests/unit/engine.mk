# The engine, less the world (engine-world.mk).
ENGINE_TEST_LIBS = $(ENGINE_LIBS) $(TRANSPORT_LIBS) $(SCHEDULES_LIBS) \
	$(MODEL_LIBS) $(DATA_LIBS) $(BASE_LIBS)

if HAVE_CMOCKA
check_PROGRAMS += tests/unit/test-calibrate
TESTS += tests/unit/test-calibrate
tests_unit_test_calibrate_SOURCES = tests/unit/test-calibrate.c
tests_unit_test_calibrate_CPPFLAGS = $(TEST_CPPFLAGS)
tests_unit_test_calibrate_LDADD = $(ENGINE_TEST_LIBS) $(CMOCKA_LIBS)

check_PROGRAMS += tests/unit/test-collective
TESTS += tests/unit/test-collective
tests_unit_test_collective_SOURCES = tests/unit/test-collective.c \
	tests/unit/cmocka-tap.h
tests_unit_test_collective_CPPFLAGS = $(TEST_CPPFLAGS)
tests_unit_test_collective_LDADD = $(ENGINE_TEST_LIBS) $(CMOCKA_LIBS)

check_PROGRAMS += tests/unit/test-costs
TESTS += tests/unit/test-costs
tests_unit_test_costs_SOURCES = tests/unit/test-costs.c
tests_unit_test_costs_CPPFLAGS = $(TEST_CPPFLAGS)
tests_unit_test_costs_LDADD = $(ENGINE_TEST_LIBS) $(CMOCKA_LIBS)

check_PROGRAMS += tests/unit/test-trace
TESTS += tests/unit/test-trace
tests_unit_test_trace_SOURCES = tests/unit/test-trace.c \
	tests/unit/cmocka-tap.h
tests_unit_test_trace_CPPFLAGS = $(TEST_CPPFLAGS)
tests_unit_test_trace_LDADD = $(ENGINE_TEST_LIBS) $(CMOCKA_LIBS)

check_PROGRAMS += tests/unit/test-engine-files
TESTS += tests/unit/test-engine-files
tests_unit_test_engine_files_SOURCES = tests/unit/test-engine-files.c
tests_unit_test_engine_files_CPPFLAGS = $(TEST_CPPFLAGS)
tests_unit_test_engine_files_LDADD = $(ENGINE_TEST_LIBS) $(CMOCKA_LIBS)

check_PROGRAMS += tests/unit/test-tensorboard
TESTS += tests/unit/test-tensorboard
tests_unit_test_tensorboard_SOURCES = tests/unit/test-tensorboard.c \
	tests/unit/cmocka-tap.h
tests_unit_test_tensorboard_CPPFLAGS = $(TEST_CPPFLAGS)
tests_unit_test_tensorboard_LDADD = $(ENGINE_TEST_LIBS) $(CMOCKA_LIBS)

check_PROGRAMS += tests/unit/test-engine-plan
TESTS += tests/unit/test-engine-plan
tests_unit_test_engine_plan_SOURCES = tests/unit/test-engine-plan.c
tests_unit_test_engine_plan_CPPFLAGS = $(TEST_CPPFLAGS)
tests_unit_test_engine_plan_LDADD = $(ENGINE_TEST_LIBS) $(CMOCKA_LIBS)

check_PROGRAMS += tests/unit/test-engine-stage
TESTS += tests/unit/test-engine-stage
tests_unit_test_engine_stage_SOURCES = tests/unit/test-engine-stage.c
tests_unit_test_engine_stage_CPPFLAGS = $(TEST_CPPFLAGS)
tests_unit_test_engine_stage_LDADD = $(ENGINE_TEST_LIBS) $(CMOCKA_LIBS)

check_PROGRAMS += tests/unit/test-ferry
TESTS += tests/unit/test-ferry
tests_unit_test_ferry_SOURCES = tests/unit/test-ferry.c \
	tests/unit/cmocka-tap.h
tests_unit_test_ferry_CPPFLAGS = $(TEST_CPPFLAGS)
tests_unit_test_ferry_LDADD = $(ENGINE_TEST_LIBS) $(CMOCKA_LIBS)

check_PROGRAMS += tests/unit/test-agreement
TESTS += tests/unit/test-agreement
tests_unit_test_agreement_SOURCES = tests/unit/test-agreement.c \
	tests/unit/cmocka-tap.h
tests_unit_test_agreement_CPPFLAGS = $(TEST_CPPFLAGS)
tests_unit_test_agreement_LDADD = $(ENGINE_TEST_LIBS) $(CMOCKA_LIBS)

check_PROGRAMS += tests/unit/test-checkpoint-grid
TESTS += tests/unit/test-checkpoint-grid
tests_unit_test_checkpoint_grid_SOURCES = tests/unit/test-checkpoint-grid.c \
	tests/unit/cmocka-tap.h
tests_unit_test_checkpoint_grid_CPPFLAGS = $(TEST_CPPFLAGS)
tests_unit_test_checkpoint_grid_LDADD = $(ENGINE_TEST_LIBS) $(CMOCKA_LIBS)

check_PROGRAMS += tests/unit/test-holding
TESTS += tests/unit/test-holding
tests_unit_test_holding_SOURCES = tests/unit/test-holding.c \
	tests/unit/cmocka-tap.h
tests_unit_test_holding_CPPFLAGS = $(TEST_CPPFLAGS)
tests_unit_test_holding_LDADD = $(ENGINE_TEST_LIBS) $(CMOCKA_LIBS)

check_PROGRAMS += tests/unit/test-stores
TESTS += tests/unit/test-stores
tests_unit_test_stores_SOURCES = tests/unit/test-stores.c \
	tests/unit/cmocka-tap.h
tests_unit_test_stores_CPPFLAGS = $(TEST_CPPFLAGS)
tests_unit_test_stores_LDFLAGS = $(AM_LDFLAGS) \
	-Wl,--wrap=ferry_send -Wl,--wrap=safetensors_writer_write
tests_unit_test_stores_LDADD = $(ENGINE_TEST_LIBS) $(CMOCKA_LIBS)

check_PROGRAMS += tests/unit/test-reducer
TESTS += tests/unit/test-reducer
tests_unit_test_reducer_SOURCES = tests/unit/test-reducer.c \
	tests/unit/cmocka-tap.h
tests_unit_test_reducer_CPPFLAGS = $(TEST_CPPFLAGS)
tests_unit_test_reducer_LDADD = $(ENGINE_TEST_LIBS) $(CMOCKA_LIBS)

check_PROGRAMS += tests/unit/test-reduction
TESTS += tests/unit/test-reduction
tests_unit_test_reduction_SOURCES = tests/unit/test-reduction.c \
	tests/unit/cmocka-tap.h
tests_unit_test_reduction_CPPFLAGS = $(TEST_CPPFLAGS)
tests_unit_test_reduction_LDADD = $(ENGINE_TEST_LIBS) $(CMOCKA_LIBS)

check_PROGRAMS += tests/unit/test-partition
TESTS += tests/unit/test-partition
tests_unit_test_partition_SOURCES = tests/unit/test-partition.c
tests_unit_test_partition_CPPFLAGS = $(TEST_CPPFLAGS)
tests_unit_test_partition_LDADD = $(ENGINE_TEST_LIBS) $(CMOCKA_LIBS)

check_PROGRAMS += tests/unit/test-suggest
TESTS += tests/unit/test-suggest
tests_unit_test_suggest_SOURCES = tests/unit/test-suggest.c
tests_unit_test_suggest_CPPFLAGS = $(TEST_CPPFLAGS)
tests_unit_test_suggest_LDADD = $(ENGINE_TEST_LIBS) $(CMOCKA_LIBS)

check_PROGRAMS += tests/unit/test-plan
TESTS += tests/unit/test-plan
tests_unit_test_plan_SOURCES = tests/unit/test-plan.c
tests_unit_test_plan_CPPFLAGS = $(TEST_CPPFLAGS)
tests_unit_test_plan_LDADD = $(ENGINE_TEST_LIBS) $(CMOCKA_LIBS)

check_PROGRAMS += tests/unit/test-engine-run
TESTS += tests/unit/test-engine-run
tests_unit_test_engine_run_SOURCES = tests/unit/test-engine-run.c
tests_unit_test_engine_run_CPPFLAGS = $(TEST_CPPFLAGS)
tests_unit_test_engine_run_LDADD = $(ENGINE_TEST_LIBS) $(CMOCKA_LIBS)

endif
