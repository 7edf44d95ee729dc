EXTRA_DIST += docs/ARCHITECTURE.md docs/CLUSTER.md docs/EVALUATION.md \
	docs/FINE-TUNING.md \
	docs/FORMATS.md \
	docs/MODELS.md docs/PARALLELISM.md docs/PERFORMANCE.md \
	docs/SCALING.md docs/SCHEDULES.md docs/SECURITY.md \
	docs/TOKENIZERS.md docs/TRANSPORTS.md \
	docs/compare.png docs/compare-dark.png

# The manual pages come from the option tables, by way of the program itself.
MANUALS = \
	docs/stagecoach.1 \
	docs/stagecoach-prepare.1 \
	docs/stagecoach-train.1 \
	docs/stagecoach-plan.1 \
	docs/stagecoach-eval.1 \
	docs/stagecoach-generate.1 \
	docs/stagecoach-inspect.1 \
	docs/stagecoach-report.1 \
	docs/stagecoach-key.1 \
	docs/stagecoach-bench-generate.1 \
	docs/stagecoach-bench-kernels.1 \
	docs/stagecoach-bench-pipeline.1 \
	docs/stagecoach-bench-step.1 \
	docs/stagecoach-bench-transport.1 \
	docs/stagecoach-schedule-list.1 \
	docs/stagecoach-schedule-show.1 \
	docs/stagecoach-schedule-check.1 \
	docs/stagecoach-schedule-simulate.1 \
	docs/stagecoach-schedule-rehearse.1 \
	docs/stagecoach-schedule-compare.1 \
	docs/stagecoach-schedule-search.1
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

# The pictures of a comparison, made anew when its page changes; or, of another
# page: make pictures PAGE=FILE.html
PAGE = pictures.html
CLEANFILES += pictures.html
pictures.html: tests/e2e/make-compare-page$(EXEEXT)
	tests/e2e/make-compare-page$(EXEEXT) -n -s 1f1b,zb-h1,zb-v -o $@
.PHONY: pictures
pictures: $(PAGE)
	$(srcdir)/tests/e2e/make-picture.sh $(PAGE) \
		$(srcdir)/docs/compare.png light
	$(srcdir)/tests/e2e/make-picture.sh $(PAGE) \
		$(srcdir)/docs/compare-dark.png dark
