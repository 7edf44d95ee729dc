# Floor 1: kernels < layers < families, and files. Sees base only.
noinst_LIBRARIES += model/libmodel.a model/libkernels.a
model_libmodel_a_SOURCES =
include model/layers/local.mk
model_libkernels_a_SOURCES =
model_libkernels_a_CPPFLAGS = $(AM_CPPFLAGS) $(OPENBLAS_CFLAGS)
model_libkernels_a_CFLAGS = $(AM_CFLAGS) -O3
MODEL_LIBS = model/libmodel.a model/libkernels.a $(OPENBLAS_LIBS)
