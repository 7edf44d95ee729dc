# Floor 3: the program.
noinst_LIBRARIES += tools/libtools.a
tools_libtools_a_SOURCES = \
	tools/options.c tools/options.h tools/options_internal.h \
	tools/options_help.c tools/options_json.c tools/options_parse.c \
	tools/progress.c tools/progress.h
TOOLS_LIBS = tools/libtools.a

# One file a command, and what several of them share.
bin_PROGRAMS += stagecoach
stagecoach_SOURCES = tools/main.c tools/commands.h \
	tools/cmd_eval.c \
	tools/cmd_generate.c \
	tools/cmd_inspect.c tools/inspect_corpus.c tools/inspect_corpus.h \
	tools/cmd_plan.c \
	tools/cmd_prepare.c \
	tools/cmd_rank.c \
	tools/cmd_schedule.c \
	tools/cmd_train.c \
	tools/job_options.c tools/job_options.h \
	tools/train_options.c tools/train_options.h
stagecoach_LDADD = $(TOOLS_LIBS) $(ENGINE_LIBS) $(DATA_LIBS) $(MODEL_LIBS) \
	$(SCHEDULES_LIBS) $(TRANSPORT_LIBS) $(BASE_LIBS)
