# Floor 3: the program.
noinst_LIBRARIES += tools/libtools.a
tools_libtools_a_SOURCES = \
	tools/compare_page.c tools/compare_page.h tools/pages/pages.h \
	tools/page.c tools/page.h \
	tools/report/chart.c tools/report/chart.h \
	tools/report/columns.c tools/report/columns.h \
	tools/report/page.c tools/report/page.h \
	tools/report/record.c tools/report/record.h tools/report/record_read.c \
	tools/report/recorded_step.c tools/report/recorded_step.h \
	tools/report/sections.c tools/report/sections.h \
	tools/report/sections_tables.c \
	tools/report/timeline_figure.c tools/report/timeline_figure.h \
	tools/options.c tools/options.h tools/options_internal.h \
	tools/options_help.c tools/options_json.c tools/options_parse.c \
	tools/progress.c tools/progress.h
nodist_tools_libtools_a_SOURCES = $(PAGES)
TOOLS_LIBS = tools/libtools.a

# Pages as strings: look.css is page_look_css of tools/pages/pages.h. Every line
# becomes a literal, with its backslashes and quotes escaped.
PAGES = tools/pages/compare.html.c tools/pages/look.css.c \
	tools/pages/report.html.c tools/pages/themes.js.c
EXTRA_DIST += tools/pages/compare.html tools/pages/look.css \
	tools/pages/report.html tools/pages/themes.js
CLEANFILES += $(PAGES)
$(PAGES):
	$(AM_V_GEN)$(MKDIR_P) tools/pages && { \
	echo '#include "tools/pages/pages.h"' && \
	echo "const char page_`basename $@ .c | tr . _`[] =" && \
	sed 's/\\/\\\\/g; s/"/\\"/g; s/.*/"&\\n"/' \
		$(srcdir)/$(@:.c=) && \
	echo ';'; } >$@.tmp && mv $@.tmp $@
tools/pages/compare.html.c: $(srcdir)/tools/pages/compare.html
tools/pages/look.css.c: $(srcdir)/tools/pages/look.css
tools/pages/report.html.c: $(srcdir)/tools/pages/report.html
tools/pages/themes.js.c: $(srcdir)/tools/pages/themes.js

# One file a command, and what several of them share; schedule/ has one file a
# subcommand.
bin_PROGRAMS += stagecoach
stagecoach_SOURCES = tools/main.c tools/commands.h \
	tools/auto_schedule.h tools/auto_schedule.c \
	tools/bench/bench.h \
	tools/bench/cell.c tools/bench/control.c \
	tools/bench/generate.c tools/bench/generate.h \
	tools/bench/kernels.c tools/bench/kernels.h \
	tools/bench/limits.c tools/bench/limits.h \
	tools/bench/list.c \
	tools/bench/memory.c tools/bench/message.c \
	tools/bench/pipeline.c tools/bench/pipeline.h \
	tools/bench/raw.c tools/bench/raw.h \
	tools/bench/remote.c \
	tools/bench/report.c tools/bench/socket.c \
	tools/bench/step.c tools/bench/step.h \
	tools/bench/transport.c tools/bench/transport.h \
	tools/cmd_bench.c \
	tools/cmd_eval.c \
	tools/cmd_generate.c \
	tools/cmd_inspect.c tools/inspect_corpus.c tools/inspect_corpus.h \
	tools/cmd_key.c \
	tools/cmd_merge.c \
	tools/cmd_plan.c \
	tools/cmd_prepare.c \
	tools/cmd_rank.c \
	tools/cmd_report.c \
	tools/cmd_train.c \
	tools/hosts_options.c tools/hosts_options.h \
	tools/job_options.c tools/job_options.h \
	tools/machine_options.c tools/machine_options.h \
	tools/plan_suggest.c tools/plan_suggest.h \
	tools/table.c tools/table.h \
	tools/schedule/common.h tools/schedule/common.c \
	tools/schedule/predict.h tools/schedule/predict.c \
	tools/schedule/cmd_schedule.c \
	tools/schedule/list.c \
	tools/schedule/show.c \
	tools/schedule/check.c \
	tools/schedule/simulate.c \
	tools/schedule/measure.h tools/schedule/measure.c \
	tools/schedule/comparison.h tools/schedule/comparison.c \
	tools/schedule/comparison_text.c \
	tools/schedule/comparison_output.h \
	tools/schedule/comparison_output.c \
	tools/schedule/rehearse.c \
	tools/schedule/real_model.h tools/schedule/real_model.c \
	tools/schedule/compare.c \
	tools/schedule/search_setting.h tools/schedule/search_setting.c \
	tools/schedule/search.c \
	tools/train_options.c tools/train_options.h
stagecoach_LDADD = $(TOOLS_LIBS) $(ENGINE_LIBS) $(DATA_LIBS) $(MODEL_LIBS) \
	$(SCHEDULES_LIBS) $(TRANSPORT_LIBS) $(BASE_LIBS)
