# Models to transformers and back: by hand, since few machines have it.
EXTRA_DIST += tests/interop/check.py tests/interop/run.sh

.PHONY: interop
interop: stagecoach$(EXEEXT)
	srcdir='$(srcdir)' builddir='$(builddir)' PYTHON='$(PYTHON)' \
		$(srcdir)/tests/interop/run.sh
