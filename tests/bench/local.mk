# Benchmarks: built and run on demand, never by make check.
#   make bench           all of them, but bench-mpi and bench-load
#   make bench-load      loading 1.1 billion parameters, beside cat
#   make bench-mpi       beside Open MPI, where it is installed
#   make bench-kernels bench-ferry bench-collective bench-transport
#   make bench-step bench-pipeline bench-stages
# bench-step: one process by `stagecoach bench step`; bench-pipeline: stages
# beside one process, by schedule; bench-stages: whole runs, one process beside two
# stages, against the rate of products. tests/bench/torch-gpt2.py, by hand,
# times a plain step of PyTorch to set beside it.
BENCHMARKS = \
	tests/bench/bench-ferry \
	tests/bench/bench-collective
EXTRA_PROGRAMS = $(BENCHMARKS) tests/bench/make-model tests/bench/sgemm-rate
EXTRA_DIST += tests/bench/bench-load.sh tests/bench/bench-stages.sh \
	tests/bench/make-scaling.py \
	tests/bench/bench-mpi.sh tests/bench/mpi-messages.c \
	tests/bench/torch-gpt2.py
CLEANFILES += $(EXTRA_PROGRAMS)

tests_bench_bench_ferry_SOURCES = tests/bench/bench-ferry.c
tests_bench_bench_ferry_LDADD = $(ENGINE_TEST_LIBS)
tests_bench_bench_collective_SOURCES = tests/bench/bench-collective.c
tests_bench_bench_collective_LDADD = $(ENGINE_TEST_LIBS)
tests_bench_sgemm_rate_SOURCES = tests/bench/sgemm-rate.c
tests_bench_sgemm_rate_LDADD = $(MODEL_LIBS) $(BASE_LIBS)

tests_bench_make_model_SOURCES = tests/bench/make-model.c
tests_bench_make_model_LDADD = $(ENGINE_TEST_LIBS)

bench-kernels: stagecoach$(EXEEXT)
	./stagecoach$(EXEEXT) bench kernels
bench-step: stagecoach$(EXEEXT)
	./stagecoach$(EXEEXT) bench step
	./stagecoach$(EXEEXT) bench step --micro-batch-size 1 --context 1024
bench-pipeline: stagecoach$(EXEEXT)
	./stagecoach$(EXEEXT) bench pipeline --transport shm
	./stagecoach$(EXEEXT) bench pipeline --transport tcp
bench-ferry: tests/bench/bench-ferry$(EXEEXT)
	tests/bench/bench-ferry$(EXEEXT)
bench-collective: tests/bench/bench-collective$(EXEEXT)
	tests/bench/bench-collective$(EXEEXT)
bench-transport: stagecoach$(EXEEXT)
	./stagecoach$(EXEEXT) bench transport
bench-stages: stagecoach$(EXEEXT) tests/bench/sgemm-rate$(EXEEXT)
	builddir=$(builddir) srcdir=$(srcdir) $(srcdir)/tests/bench/bench-stages.sh
bench-load: stagecoach$(EXEEXT) tests/bench/make-model$(EXEEXT)
	builddir=$(builddir) srcdir=$(srcdir) $(srcdir)/tests/bench/bench-load.sh
bench-mpi: stagecoach$(EXEEXT)
	builddir=$(builddir) srcdir=$(srcdir) $(srcdir)/tests/bench/bench-mpi.sh
bench: bench-kernels bench-ferry bench-collective bench-transport bench-step \
	bench-pipeline bench-stages
.PHONY: bench bench-kernels bench-ferry bench-collective bench-transport \
	bench-load bench-mpi bench-step bench-pipeline bench-stages
