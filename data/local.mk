# Floor 1: tokenizers, corpora, sampling. Sees base only.
noinst_LIBRARIES += data/libdata.a
data_libdata_a_SOURCES = \
	data/bpe_train.c data/bpe_train.h \
	data/choices.c \
	data/corpus.c data/corpus.h \
	data/packing.c data/packing.h \
	data/prepare.c data/prepare.h data/prepare_impl.h \
	data/prepare_sft.c \
	data/requests.c data/requests.h data/requests_internal.h \
	data/sampler.c data/sampler.h \
	data/sft/example.c data/sft/example.h \
	data/sft/records.c data/sft/records.h \
	data/sft/template.c data/sft/template.h \
	data/shard.c data/shard.h \
	data/shard_writer.c data/shard_writer.h \
	data/tokenizer.h \
	data/tokenizer/added.c data/tokenizer/added.h \
	data/tokenizer/bpe.c \
	data/tokenizer/bpe_load.c \
	data/tokenizer/charsmap.c data/tokenizer/charsmap.h \
	data/tokenizer/decode.c \
	data/tokenizer/decode_stage.h \
	data/tokenizer/decode_text.c \
	data/tokenizer/decoder.c data/tokenizer/decoder.h \
	data/tokenizer/encoder.c \
	data/tokenizer/lexicon.c data/tokenizer/lexicon.h \
	data/tokenizer/load.c data/tokenizer/load.h \
	data/tokenizer/load_added.c \
	data/tokenizer/load_array.c \
	data/tokenizer/load_decoder.c \
	data/tokenizer/load_model.c \
	data/tokenizer/load_normalizer.c \
	data/tokenizer/load_post.c \
	data/tokenizer/load_pre_tokenizer.c \
	data/tokenizer/merges.c data/tokenizer/merges.h \
	data/tokenizer/model.h \
	data/tokenizer/normal_form.c \
	data/tokenizer/normal_map.c \
	data/tokenizer/normal_stage.h \
	data/tokenizer/normal_text.c \
	data/tokenizer/normalizer.c data/tokenizer/normalizer.h \
	data/tokenizer/pattern.c data/tokenizer/pattern.h \
	data/tokenizer/pattern_search.c \
	data/tokenizer/pattern_translate.c \
	data/tokenizer/save.c \
	data/tokenizer/split.c data/tokenizer/split.h \
	data/tokenizer/tokenizer.c data/tokenizer/tokenizer_impl.h \
	data/tokenizer/unicode_late.c data/tokenizer/unicode_late.h \
	data/tokenizer/unigram.c \
	data/tokenizer/wordpiece.c \
	data/utf8.c data/utf8.h
data_libdata_a_CPPFLAGS = $(AM_CPPFLAGS) $(PCRE2_CFLAGS) $(UTF8PROC_CFLAGS) \
	$(XXHASH_CFLAGS)
DATA_LIBS = data/libdata.a $(PCRE2_LIBS) $(UTF8PROC_LIBS) $(XXHASH_LIBS)
