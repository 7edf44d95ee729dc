# Floor 0: no folder of ours below it.
noinst_LIBRARIES += base/libbase.a
base_libbase_a_SOURCES = \
	base/arena.c base/arena.h \
	base/checked.h \
	base/clock.c base/clock.h \
	base/compiler.h \
	base/digest.c base/digest.h \
	base/files.c base/files.h \
	base/json.c base/json.h \
	base/log.c base/log.h \
	base/math.c base/math.h \
	base/numbers.c base/numbers.h \
	base/random.c base/random.h \
	base/socket_life.c base/socket_life.h \
	base/text.c base/text.h \
	base/threads.c base/threads.h
base_libbase_a_CPPFLAGS = $(AM_CPPFLAGS) $(XXHASH_CFLAGS) $(ISAL_CFLAGS)

# What a program that uses a floor links, lowest floor last.
BASE_LIBS = base/libbase.a $(JANSSON_LIBS) $(CRYPTO_LIBS) $(XXHASH_LIBS) \
	$(ISAL_LIBS)
