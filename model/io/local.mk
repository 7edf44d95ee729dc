# Files of Hugging Face: tensors and configurations.
model_libmodel_a_SOURCES += \
	model/io/hf_adapter.c model/io/hf_adapter.h \
	model/io/hf_config.c model/io/hf_config.h \
	model/io/hf_config_gpt2.c model/io/hf_config_family.h \
	model/io/hf_config_llama.c \
	model/io/hf_config_rope.c model/io/hf_config_rope.h \
	model/io/safetensors.h model/io/safetensors_dtype.c \
	model/io/safetensors_header.c model/io/safetensors_header.h \
	model/io/safetensors_reader.c model/io/safetensors_writer.c
