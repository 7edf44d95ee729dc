# `eval` against transformers, by files that make-golden.py made.
dist_check_SCRIPTS += tests/eval/test-eval.sh
if !SANITIZED
TESTS += tests/eval/test-eval.sh
endif
EXTRA_DIST += \
	tests/eval/choices.jsonl \
	tests/eval/golden-choices.txt \
	tests/eval/golden-texts.txt \
	tests/eval/gpt2/config.json \
	tests/eval/gpt2/model.safetensors \
	tests/eval/gpt2/tokenizer.json \
	tests/eval/llama/config.json \
	tests/eval/llama/model.safetensors \
	tests/eval/llama/tokenizer.json \
	tests/eval/make-golden.py \
	tests/eval/text.txt
