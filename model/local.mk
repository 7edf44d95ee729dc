# Floor 1: kernels < layers < families, and files. Sees base only.
noinst_LIBRARIES += model/libmodel.a model/libkernels.a
model_libmodel_a_SOURCES =
include model/layers/local.mk
model_libkernels_a_SOURCES =
include model/kernels/elementwise.mk
include model/kernels/gemm.mk
include model/io/local.mk
model_libkernels_a_CPPFLAGS = $(AM_CPPFLAGS) $(OPENBLAS_CFLAGS)
# Nothing here reads the floating-point exception flags; told so, compilers
# turn selections in loops into vector code. It changes no result.
model_libkernels_a_CFLAGS = $(AM_CFLAGS) -O3 -fno-trapping-math
# CFLAGS come last, and their -O2 would undo the -O3 without which gcc turns
# few loops into vector code; hence once more, for these objects only.
model/kernels/libkernels_a-%.$(OBJEXT): CFLAGS += -O3
MODEL_LIBS = model/libmodel.a model/libkernels.a $(OPENBLAS_LIBS)
