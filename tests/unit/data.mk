# Tokenizers, corpora, sampling and prepare. The files in data/ are expected
# ids made with Hugging Face tokenizers; make-oracle.py says how.
EXTRA_DIST += \
	tests/unit/data/cases.json \
	tests/unit/data/gpt2.json \
	tests/unit/data/llama3.json \
	tests/unit/data/make-oracle.py \
	tests/unit/data/qwen.json \
	tests/unit/data/support.h \
	tests/unit/data/text.txt

if HAVE_CMOCKA
check_PROGRAMS += \
	tests/unit/test-corpus \
	tests/unit/test-prepare \
	tests/unit/test-tokenizer
TESTS += \
	tests/unit/test-corpus \
	tests/unit/test-prepare \
	tests/unit/test-tokenizer
tests_unit_test_corpus_SOURCES = tests/unit/test-corpus.c
tests_unit_test_corpus_CPPFLAGS = $(TEST_CPPFLAGS)
tests_unit_test_corpus_LDADD = $(DATA_LIBS) $(BASE_LIBS) $(CMOCKA_LIBS)
tests_unit_test_prepare_SOURCES = tests/unit/test-prepare.c
tests_unit_test_prepare_CPPFLAGS = $(TEST_CPPFLAGS)
tests_unit_test_prepare_LDADD = $(DATA_LIBS) $(BASE_LIBS) $(CMOCKA_LIBS)
tests_unit_test_tokenizer_SOURCES = tests/unit/test-tokenizer.c
tests_unit_test_tokenizer_CPPFLAGS = $(TEST_CPPFLAGS)
tests_unit_test_tokenizer_LDADD = $(DATA_LIBS) $(BASE_LIBS) $(CMOCKA_LIBS)
endif
