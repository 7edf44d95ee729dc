# Floor 1: tokenizers, corpora, sampling. Sees base only.
noinst_LIBRARIES += data/libdata.a
data_libdata_a_SOURCES = \
	data/added.c data/added.h \
	data/bpe_train.c data/bpe_train.h \
	data/compose.c data/compose.h \
	data/corpus.c data/corpus.h \
	data/decode.c \
	data/encoder.c \
	data/merges.c data/merges.h \
	data/prepare.c data/prepare.h \
	data/sampler.c data/sampler.h \
	data/shard.c data/shard.h \
	data/shard_writer.c data/shard_writer.h \
	data/split.c data/split.h \
	data/tokenizer.c data/tokenizer.h data/tokenizer_impl.h \
	data/tokenizer_load.c \
	data/tokenizer_save.c \
	data/utf8.c data/utf8.h
data_libdata_a_CPPFLAGS = $(AM_CPPFLAGS) $(PCRE2_CFLAGS) $(UTF8PROC_CFLAGS) \
	$(XXHASH_CFLAGS)
DATA_LIBS = data/libdata.a $(PCRE2_LIBS) $(UTF8PROC_LIBS) $(XXHASH_LIBS)
