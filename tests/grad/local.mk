# Gradients against a double-precision reference, and the layers' promises.
GRAD_SUPPORT = \
	tests/grad/check.c tests/grad/check.h \
	tests/grad/reference.c tests/grad/reference.h \
	tests/grad/rig.c tests/grad/rig.h
if HAVE_CMOCKA
check_PROGRAMS += tests/grad/test-gpt2 tests/grad/test-layers \
	tests/grad/test-primitives tests/grad/test-slices
TESTS += tests/grad/test-gpt2 tests/grad/test-layers \
	tests/grad/test-primitives tests/grad/test-slices

tests_grad_test_gpt2_SOURCES = tests/grad/test-gpt2.c $(GRAD_SUPPORT)
tests_grad_test_gpt2_CPPFLAGS = $(TEST_CPPFLAGS)
tests_grad_test_gpt2_LDADD = $(MODEL_LIBS) $(BASE_LIBS) $(CMOCKA_LIBS)

tests_grad_test_layers_SOURCES = tests/grad/test-layers.c $(GRAD_SUPPORT)
tests_grad_test_layers_CPPFLAGS = $(TEST_CPPFLAGS)
tests_grad_test_layers_LDADD = $(MODEL_LIBS) $(BASE_LIBS) $(CMOCKA_LIBS)

tests_grad_test_primitives_SOURCES = tests/grad/test-primitives.c \
	$(GRAD_SUPPORT)
tests_grad_test_primitives_CPPFLAGS = $(TEST_CPPFLAGS)
tests_grad_test_primitives_LDADD = $(MODEL_LIBS) $(BASE_LIBS) $(CMOCKA_LIBS)

tests_grad_test_slices_SOURCES = tests/grad/test-slices.c \
	tests/grad/rig.c tests/grad/rig.h \
	tests/grad/slices.c tests/grad/slices.h
tests_grad_test_slices_CPPFLAGS = $(TEST_CPPFLAGS)
tests_grad_test_slices_LDADD = $(MODEL_LIBS) $(BASE_LIBS) $(CMOCKA_LIBS)

# Against PyTorch, by files that tests/grad/torch/make-golden.py made.
check_PROGRAMS += tests/grad/test-torch
TESTS += tests/grad/test-torch
tests_grad_test_torch_SOURCES = tests/grad/test-torch.c tests/grad/golden.c \
	tests/grad/golden.h tests/grad/rig.c tests/grad/rig.h
tests_grad_test_torch_CPPFLAGS = $(TEST_CPPFLAGS)
tests_grad_test_torch_LDADD = $(MODEL_LIBS) $(BASE_LIBS) $(CMOCKA_LIBS)

# The Llama family against transformers, by tests/grad/llama/make-golden.py.
check_PROGRAMS += tests/grad/test-llama
TESTS += tests/grad/test-llama
tests_grad_test_llama_SOURCES = tests/grad/test-llama.c tests/grad/golden.c \
	tests/grad/golden.h tests/grad/rig.c tests/grad/rig.h
tests_grad_test_llama_CPPFLAGS = $(TEST_CPPFLAGS)
tests_grad_test_llama_LDADD = $(MODEL_LIBS) $(BASE_LIBS) $(CMOCKA_LIBS)
endif

check_PROGRAMS += tests/grad/compare-golden
tests_grad_compare_golden_SOURCES = tests/grad/compare-golden.c \
	tests/grad/golden.c tests/grad/golden.h
tests_grad_compare_golden_LDADD = $(MODEL_LIBS) $(BASE_LIBS)
dist_check_SCRIPTS += tests/grad/test-torch-train.sh
TESTS += tests/grad/test-torch-train.sh
EXTRA_DIST += \
	tests/grad/torch/config.json \
	tests/grad/torch/golden.safetensors \
	tests/grad/torch/make-golden.py \
	tests/grad/torch/model.safetensors \
	tests/grad/torch/steps.txt \
	tests/grad/torch/tokens.bin

check_PROGRAMS += tests/grad/compare-llama
tests_grad_compare_llama_SOURCES = tests/grad/compare-llama.c \
	tests/grad/golden.c tests/grad/golden.h
tests_grad_compare_llama_LDADD = $(MODEL_LIBS) $(BASE_LIBS)
check_PROGRAMS += tests/grad/compare-lora
tests_grad_compare_lora_SOURCES = tests/grad/compare-lora.c \
	tests/grad/golden.c tests/grad/golden.h
tests_grad_compare_lora_LDADD = $(MODEL_LIBS) $(BASE_LIBS)
dist_check_SCRIPTS += tests/grad/test-lora.sh
TESTS += tests/grad/test-lora.sh
EXTRA_DIST += tests/grad/lora/make-golden.py \
	tests/grad/lora/gpt2-all/adapter_config.json \
	tests/grad/lora/gpt2-all/adapter_model.safetensors \
	tests/grad/lora/gpt2-all/golden.safetensors \
	tests/grad/lora/gpt2/adapter_config.json \
	tests/grad/lora/gpt2/adapter_model.safetensors \
	tests/grad/lora/gpt2/golden.safetensors \
	tests/grad/lora/llama/adapter_config.json \
	tests/grad/lora/llama/adapter_model.safetensors \
	tests/grad/lora/llama/golden.safetensors \
	tests/grad/lora/mistral/adapter_config.json \
	tests/grad/lora/mistral/adapter_model.safetensors \
	tests/grad/lora/mistral/golden.safetensors \
	tests/grad/lora/qwen-all/adapter_config.json \
	tests/grad/lora/qwen-all/adapter_model.safetensors \
	tests/grad/lora/qwen-all/golden.safetensors
dist_check_SCRIPTS += tests/grad/test-llama-train.sh
TESTS += tests/grad/test-llama-train.sh
EXTRA_DIST += \
	tests/grad/llama/make-golden.py \
	tests/grad/llama/biases-upper-window/config.json \
	tests/grad/llama/biases-upper-window/golden.safetensors \
	tests/grad/llama/biases-upper-window/model.safetensors \
	tests/grad/llama/biases/config.json \
	tests/grad/llama/biases/golden.safetensors \
	tests/grad/llama/biases/model.safetensors \
	tests/grad/llama/dynamic/config.json \
	tests/grad/llama/dynamic/golden.safetensors \
	tests/grad/llama/dynamic/model.safetensors \
	tests/grad/llama/groups-tied/config.json \
	tests/grad/llama/groups-tied/golden.safetensors \
	tests/grad/llama/groups-tied/model-00001-of-00003.safetensors \
	tests/grad/llama/groups-tied/model-00002-of-00003.safetensors \
	tests/grad/llama/groups-tied/model-00003-of-00003.safetensors \
	tests/grad/llama/groups-tied/model.safetensors.index.json \
	tests/grad/llama/linear/config.json \
	tests/grad/llama/linear/golden.safetensors \
	tests/grad/llama/linear/model.safetensors \
	tests/grad/llama/llama3/config.json \
	tests/grad/llama/llama3/golden.safetensors \
	tests/grad/llama/llama3/model.safetensors \
	tests/grad/llama/normed-bf16/config.json \
	tests/grad/llama/normed-bf16/golden.safetensors \
	tests/grad/llama/normed-bf16/model-00001-of-00003.safetensors \
	tests/grad/llama/normed-bf16/model-00002-of-00003.safetensors \
	tests/grad/llama/normed-bf16/model-00003-of-00003.safetensors \
	tests/grad/llama/normed-bf16/model.safetensors.index.json \
	tests/grad/llama/normed-biases/config.json \
	tests/grad/llama/normed-biases/golden.safetensors \
	tests/grad/llama/normed-biases/model.safetensors \
	tests/grad/llama/normed-tied/config.json \
	tests/grad/llama/normed-tied/golden.safetensors \
	tests/grad/llama/normed-tied/model.safetensors \
	tests/grad/llama/one-key-biases/config.json \
	tests/grad/llama/one-key-biases/golden.safetensors \
	tests/grad/llama/one-key-biases/model.safetensors \
	tests/grad/llama/plain-f16/config.json \
	tests/grad/llama/plain-f16/golden.safetensors \
	tests/grad/llama/plain-f16/model.safetensors \
	tests/grad/llama/plain/config.json \
	tests/grad/llama/plain/golden.safetensors \
	tests/grad/llama/plain/model.safetensors \
	tests/grad/llama/tokens.bin \
	tests/grad/llama/window-yarn/config.json \
	tests/grad/llama/window-yarn/golden.safetensors \
	tests/grad/llama/window-yarn/model.safetensors \
	tests/grad/llama/window/config.json \
	tests/grad/llama/window/golden.safetensors \
	tests/grad/llama/window/model.safetensors \
	tests/grad/llama/yarn/config.json \
	tests/grad/llama/yarn/golden.safetensors \
	tests/grad/llama/yarn/model.safetensors
