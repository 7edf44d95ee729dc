EXTRA_DIST += docs/ARCHITECTURE.md docs/FORMATS.md

# The manual pages come from the option tables, by way of the program itself.
MANUALS = \
	docs/stagecoach.1 \
	docs/stagecoach-prepare.1 \
	docs/stagecoach-train.1 \
	docs/stagecoach-plan.1 \
	docs/stagecoach-eval.1 \
	docs/stagecoach-generate.1 \
	docs/stagecoach-inspect.1 \
	docs/stagecoach-schedule-list.1 \
	docs/stagecoach-schedule-show.1 \
	docs/stagecoach-schedule-check.1 \
	docs/stagecoach-schedule-simulate.1
nodist_man1_MANS = $(MANUALS)
CLEANFILES += $(MANUALS)

$(MANUALS): stagecoach$(EXEEXT)
	$(AM_V_GEN)$(MKDIR_P) docs && \
	words=`echo $@ | sed 's|docs/stagecoach-*||; s|\.1$$||; s|-| |g'` && \
	set x $$words && shift && \
	case $$# in \
	0) ./stagecoach help --manual ;; \
	*) ./stagecoach "$$@" --manual ;; \
	esac >$@.tmp && mv $@.tmp $@
