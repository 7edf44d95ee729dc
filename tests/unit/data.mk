# Tokenizers, corpora, sampling and prepare. The files in data/ are expected
# ids made with Hugging Face tokenizers; make-oracle.py and make-kinds.py say how.
EXTRA_DIST += \
	tests/unit/data/cases.json \
	tests/unit/data/gpt2.json \
	tests/unit/data/kinds \
	tests/unit/data/llama3.json \
	tests/unit/data/make-kinds.py \
	tests/unit/data/make-oracle.py \
	tests/unit/data/qwen.json \
	tests/unit/data/support.h \
	tests/unit/data/text.txt

if HAVE_CMOCKA
check_PROGRAMS += \
	tests/unit/test-corpus \
	tests/unit/test-prepare \
	tests/unit/test-sft \
	tests/unit/test-tokenizer \
	tests/unit/test-tokenizer-kinds \
	tests/unit/test-tokenizer-patterns
TESTS += \
	tests/unit/test-corpus \
	tests/unit/test-prepare \
	tests/unit/test-sft \
	tests/unit/test-tokenizer \
	tests/unit/test-tokenizer-kinds \
	tests/unit/test-tokenizer-patterns
tests_unit_test_corpus_SOURCES = tests/unit/test-corpus.c
tests_unit_test_corpus_CPPFLAGS = $(TEST_CPPFLAGS)
tests_unit_test_corpus_LDADD = $(DATA_LIBS) $(BASE_LIBS) $(CMOCKA_LIBS)
tests_unit_test_prepare_SOURCES = tests/unit/test-prepare.c
tests_unit_test_prepare_CPPFLAGS = $(TEST_CPPFLAGS)
tests_unit_test_prepare_LDADD = $(DATA_LIBS) $(BASE_LIBS) $(CMOCKA_LIBS)
tests_unit_test_sft_SOURCES = tests/unit/test-sft.c
tests_unit_test_sft_CPPFLAGS = $(TEST_CPPFLAGS)
tests_unit_test_sft_LDADD = $(DATA_LIBS) $(BASE_LIBS) $(CMOCKA_LIBS)
tests_unit_test_tokenizer_SOURCES = tests/unit/test-tokenizer.c
tests_unit_test_tokenizer_CPPFLAGS = $(TEST_CPPFLAGS)
tests_unit_test_tokenizer_LDADD = $(DATA_LIBS) $(BASE_LIBS) $(CMOCKA_LIBS)
tests_unit_test_tokenizer_kinds_SOURCES = tests/unit/test-tokenizer-kinds.c
tests_unit_test_tokenizer_kinds_CPPFLAGS = $(TEST_CPPFLAGS)
tests_unit_test_tokenizer_kinds_LDADD = $(DATA_LIBS) $(BASE_LIBS) $(CMOCKA_LIBS)
tests_unit_test_tokenizer_patterns_SOURCES = \
	tests/unit/test-tokenizer-patterns.c
tests_unit_test_tokenizer_patterns_CPPFLAGS = $(TEST_CPPFLAGS)
tests_unit_test_tokenizer_patterns_LDADD = \
	$(DATA_LIBS) $(BASE_LIBS) $(CMOCKA_LIBS)
endif
