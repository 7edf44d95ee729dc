# Benchmarks: built and run on demand, never by make check.
#   make bench           all of them, but bench-mpi
#   make bench-mpi       beside Open MPI, where it is installed
#   make bench-kernels bench-elementwise bench-ferry bench-collective
#   make bench-transport bench-step
BENCHMARKS = \
	tests/bench/bench-kernels \
	tests/bench/bench-elementwise \
	tests/bench/bench-ferry \
	tests/bench/bench-collective
EXTRA_PROGRAMS = $(BENCHMARKS) tests/bench/sgemm-rate
EXTRA_DIST += tests/bench/bench-step.sh tests/bench/make-scaling.py \
	tests/bench/bench-mpi.sh tests/bench/mpi-messages.c
CLEANFILES += $(EXTRA_PROGRAMS)

tests_bench_bench_kernels_SOURCES = tests/bench/bench-kernels.c
tests_bench_bench_kernels_LDADD = $(MODEL_LIBS) $(BASE_LIBS)
tests_bench_bench_elementwise_SOURCES = tests/bench/bench-elementwise.c
tests_bench_bench_elementwise_LDADD = $(MODEL_LIBS) $(BASE_LIBS)
tests_bench_bench_ferry_SOURCES = tests/bench/bench-ferry.c
tests_bench_bench_ferry_LDADD = $(ENGINE_TEST_LIBS)
tests_bench_bench_collective_SOURCES = tests/bench/bench-collective.c
tests_bench_bench_collective_LDADD = $(ENGINE_TEST_LIBS)
tests_bench_sgemm_rate_SOURCES = tests/bench/sgemm-rate.c
tests_bench_sgemm_rate_LDADD = $(MODEL_LIBS) $(BASE_LIBS)

bench-kernels: tests/bench/bench-kernels$(EXEEXT)
	tests/bench/bench-kernels$(EXEEXT)
bench-elementwise: tests/bench/bench-elementwise$(EXEEXT)
	tests/bench/bench-elementwise$(EXEEXT)
bench-ferry: tests/bench/bench-ferry$(EXEEXT)
	tests/bench/bench-ferry$(EXEEXT)
bench-collective: tests/bench/bench-collective$(EXEEXT)
	tests/bench/bench-collective$(EXEEXT)
bench-transport: stagecoach$(EXEEXT)
	./stagecoach$(EXEEXT) bench transport
bench-step: stagecoach$(EXEEXT) tests/bench/sgemm-rate$(EXEEXT)
	builddir=$(builddir) srcdir=$(srcdir) $(srcdir)/tests/bench/bench-step.sh
bench-mpi: stagecoach$(EXEEXT)
	builddir=$(builddir) srcdir=$(srcdir) $(srcdir)/tests/bench/bench-mpi.sh
bench: bench-kernels bench-elementwise bench-ferry bench-collective \
	bench-transport bench-step
.PHONY: bench bench-kernels bench-elementwise bench-ferry bench-collective \
	bench-transport \
	bench-mpi bench-step
