# Fuzz targets, a name each: tests/fuzz/fuzz-NAME.c, its seeds in
# tests/fuzz/corpus/NAME/, its words in tests/fuzz/NAME.dict.
FUZZ_TARGETS = schedule-text frames handshake control report tokenizer \
	hf-config safetensors safetensors-index choices sft
FUZZERS = tests/fuzz/fuzz-schedule-text tests/fuzz/fuzz-frames \
	tests/fuzz/fuzz-handshake tests/fuzz/fuzz-control \
	tests/fuzz/fuzz-report tests/fuzz/fuzz-tokenizer \
	tests/fuzz/fuzz-hf-config tests/fuzz/fuzz-safetensors \
	tests/fuzz/fuzz-safetensors-index tests/fuzz/fuzz-choices \
	tests/fuzz/fuzz-sft
EXTRA_DIST += tests/fuzz/corpus tests/fuzz/schedule-text.dict \
	tests/fuzz/report.dict tests/fuzz/tokenizer.dict \
	tests/fuzz/hf-config.dict tests/fuzz/safetensors.dict \
	tests/fuzz/safetensors-index.dict tests/fuzz/choices.dict \
	tests/fuzz/sft.dict

tests_fuzz_fuzz_schedule_text_SOURCES = \
	tests/fuzz/fuzz-schedule-text.c $(FUZZ_MAIN) \
	tests/schedules/brute-force.c tests/schedules/brute-force.h
tests_fuzz_fuzz_schedule_text_LDADD = $(SCHEDULES_LIBS) $(BASE_LIBS)
tests_fuzz_fuzz_schedule_text_LDFLAGS = $(FUZZ_LINK)

tests_fuzz_fuzz_frames_SOURCES = tests/fuzz/fuzz-frames.c $(FUZZ_MAIN)
tests_fuzz_fuzz_frames_LDADD = $(TRANSPORT_LIBS) $(BASE_LIBS)
tests_fuzz_fuzz_frames_LDFLAGS = $(FUZZ_LINK)

tests_fuzz_fuzz_handshake_SOURCES = tests/fuzz/fuzz-handshake.c $(FUZZ_MAIN)
tests_fuzz_fuzz_handshake_LDADD = $(TRANSPORT_LIBS) $(BASE_LIBS)
tests_fuzz_fuzz_handshake_LDFLAGS = $(FUZZ_LINK)

tests_fuzz_fuzz_control_SOURCES = tests/fuzz/fuzz-control.c $(FUZZ_MAIN)
tests_fuzz_fuzz_control_LDADD = $(ENGINE_TEST_LIBS)
tests_fuzz_fuzz_control_LDFLAGS = $(FUZZ_LINK)

tests_fuzz_fuzz_report_SOURCES = tests/fuzz/fuzz-report.c $(FUZZ_MAIN)
tests_fuzz_fuzz_report_LDADD = $(TOOLS_LIBS) $(ENGINE_TEST_LIBS)
tests_fuzz_fuzz_report_LDFLAGS = $(FUZZ_LINK)

# Those that read files also count the memory that takes.
FUZZ_MEMORY = tests/fuzz/memory.c tests/fuzz/memory.h
tests_fuzz_fuzz_tokenizer_SOURCES = tests/fuzz/fuzz-tokenizer.c \
	$(FUZZ_MEMORY) $(FUZZ_MAIN)
tests_fuzz_fuzz_tokenizer_LDADD = $(DATA_LIBS) $(BASE_LIBS)
tests_fuzz_fuzz_tokenizer_LDFLAGS = $(FUZZ_LINK)

tests_fuzz_fuzz_hf_config_SOURCES = tests/fuzz/fuzz-hf-config.c \
	$(FUZZ_MEMORY) $(FUZZ_MAIN)
tests_fuzz_fuzz_hf_config_LDADD = $(MODEL_LIBS) $(BASE_LIBS)
tests_fuzz_fuzz_hf_config_LDFLAGS = $(FUZZ_LINK)

tests_fuzz_fuzz_safetensors_SOURCES = tests/fuzz/fuzz-safetensors.c \
	$(FUZZ_MEMORY) $(FUZZ_MAIN)
tests_fuzz_fuzz_safetensors_LDADD = $(MODEL_LIBS) $(BASE_LIBS)
tests_fuzz_fuzz_safetensors_LDFLAGS = $(FUZZ_LINK)

tests_fuzz_fuzz_safetensors_index_SOURCES = \
	tests/fuzz/fuzz-safetensors-index.c $(FUZZ_MEMORY) $(FUZZ_MAIN)
tests_fuzz_fuzz_safetensors_index_LDADD = $(MODEL_LIBS) $(BASE_LIBS)
tests_fuzz_fuzz_safetensors_index_LDFLAGS = $(FUZZ_LINK)

tests_fuzz_fuzz_choices_SOURCES = tests/fuzz/fuzz-choices.c \
	$(FUZZ_MEMORY) $(FUZZ_MAIN)
tests_fuzz_fuzz_choices_LDADD = $(DATA_LIBS) $(BASE_LIBS)
tests_fuzz_fuzz_choices_LDFLAGS = $(FUZZ_LINK)

tests_fuzz_fuzz_sft_SOURCES = tests/fuzz/fuzz-sft.c $(FUZZ_MAIN)
tests_fuzz_fuzz_sft_LDADD = $(DATA_LIBS) $(BASE_LIBS)
tests_fuzz_fuzz_sft_LDFLAGS = $(FUZZ_LINK)

# main(): libFuzzer's (configure --enable-fuzzer), or ours.
if LIBFUZZER
FUZZ_MAIN = tests/fuzz/fuzz.h
FUZZ_LINK = $(AM_LDFLAGS) -fsanitize=fuzzer
else
FUZZ_MAIN = tests/fuzz/fuzz.h tests/fuzz/driver.c
FUZZ_LINK = $(AM_LDFLAGS)
endif

# Proves that the driver finds what is planted.
tests_fuzz_fuzz_planted_SOURCES = tests/fuzz/fuzz-planted.c $(FUZZ_MAIN)
tests_fuzz_fuzz_planted_LDFLAGS = $(FUZZ_LINK)

check_PROGRAMS += $(FUZZERS) tests/fuzz/fuzz-planted
dist_check_SCRIPTS += tests/fuzz/replay.sh
TESTS += tests/fuzz/replay.sh

# make fuzz: a build of its own with sanitizers, and with libFuzzer where clang
# has it; then FUZZ_RUNS inputs a target.
FUZZ_RUNS = 10000000
FUZZ_CC = clang
EXTRA_DIST += tests/fuzz/run-fuzz
.PHONY: fuzz
fuzz:
	$(AM_V_at)CC='$(CC)' MAKE='$(MAKE)' FUZZ_CC='$(FUZZ_CC)' \
		FUZZ_RUNS='$(FUZZ_RUNS)' \
		$(SHELL) $(srcdir)/tests/fuzz/run-fuzz $(abs_srcdir) $(FUZZ_TARGETS)
