# The model's seam: tables, layers, families.
model_libmodel_a_SOURCES += \
	model/micro_batch.c model/micro_batch.h \
	model/model.c model/model.h \
	model/parameter.c model/parameter.h \
	model/families/family.h \
	model/families/gpt2.c \
	model/families/llama.c \
	model/families/rehearsal.c \
	model/adapters.c model/adapters.h \
	model/layers/activation.c \
	model/layers/adapter.c \
	model/layers/attention.c \
	model/layers/embedding.c \
	model/layers/graph.c model/layers/graph.h \
	model/layers/headnorm.c \
	model/layers/layer.c model/layers/layer.h \
	model/layers/linear.c \
	model/layers/linears.c \
	model/layers/loss.c \
	model/layers/norm.c \
	model/layers/plan.c model/layers/plan.h \
	model/layers/product.c model/layers/product.h \
	model/layers/primitive.h \
	model/layers/residual.c \
	model/layers/rope.c \
	model/layers/sleep.c
