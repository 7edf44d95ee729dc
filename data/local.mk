# Floor 1: tokenizers, corpora, sampling. Sees base only.
noinst_LIBRARIES += data/libdata.a
data_libdata_a_SOURCES =
data_libdata_a_CPPFLAGS = $(AM_CPPFLAGS) $(PCRE2_CFLAGS) $(UTF8PROC_CFLAGS) \
	$(XXHASH_CFLAGS)
DATA_LIBS = data/libdata.a $(PCRE2_LIBS) $(UTF8PROC_LIBS) $(XXHASH_LIBS)
