# The products and what is built on them.
model_libkernels_a_SOURCES += \
	model/kernels/attention.c model/kernels/attention.h \
	model/kernels/attention_reference.c \
	model/kernels/gemm.c model/kernels/gemm.h \
	model/kernels/gemm_bfloat16.c \
	model/kernels/gemm_memory.c model/kernels/gemm_memory.h \
	model/kernels/numerics.c model/kernels/numerics.h
