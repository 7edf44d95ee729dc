# Every kernel but the products and attention.
model_libkernels_a_SOURCES += \
	model/kernels/activation.c model/kernels/activation.h \
	model/kernels/bfloat16.h model/kernels/element.c model/kernels/element.h \
	model/kernels/bias.c model/kernels/bias.h \
	model/kernels/column_sums.c model/kernels/column_sums.h \
	model/kernels/convert.c model/kernels/convert.h \
	model/kernels/cross_entropy.c model/kernels/cross_entropy.h \
	model/kernels/dropout.c model/kernels/dropout.h \
	model/kernels/elementwise.c model/kernels/elementwise.h \
	model/kernels/embedding.c model/kernels/embedding.h \
	model/kernels/headnorm.c model/kernels/headnorm.h \
	model/kernels/lanes.h \
	model/kernels/layernorm.c model/kernels/layernorm.h \
	model/kernels/normal.c model/kernels/normal.h \
	model/kernels/optimizer.c model/kernels/optimizer.h \
	model/kernels/reference.c model/kernels/reference.h \
	model/kernels/rope.c model/kernels/rope.h \
	model/kernels/rows.c model/kernels/rows.h \
	model/kernels/values.c model/kernels/values.h \
	model/kernels/vector_math.h
