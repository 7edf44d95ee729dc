# The products and what is built on them.
model_libkernels_a_SOURCES += \
	model/kernels/attention.c model/kernels/attention.h \
	model/kernels/attention_narrow.c model/kernels/attention_narrow.h \
	model/kernels/attention_reference.c \
	model/kernels/gemm.c model/kernels/gemm.h \
	model/kernels/gemm_bfloat16.c \
	model/kernels/gemm_dnnl.h \
	model/kernels/gemm_dnnl_memory.h \
	model/kernels/gemm_memory.c model/kernels/gemm_memory.h \
	model/kernels/gemm_pack.c model/kernels/gemm_pack.h \
	model/kernels/gemm_scratch.c model/kernels/gemm_scratch.h \
	model/kernels/gemv.c model/kernels/gemv.h \
	model/kernels/numerics.c model/kernels/numerics.h
if HAVE_ONEDNN
model_libkernels_a_SOURCES += \
	model/kernels/gemm_dnnl.c model/kernels/gemm_dnnl_memory.c
else
model_libkernels_a_SOURCES += model/kernels/gemm_dnnl_absent.c
endif
EXTRA_DIST += model/kernels/gemm_dnnl.c model/kernels/gemm_dnnl_memory.c \
	model/kernels/gemm_dnnl_absent.c
