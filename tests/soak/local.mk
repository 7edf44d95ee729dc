# What takes too long for `make check`: the same trials many times over.
# SOAK_TRIALS (100), SOAK_MINUTES (20) and SOAK_JOBS (4 at once) say how long.
SOAK_TESTS = tests/soak/liveness.sh
EXTRA_DIST += $(SOAK_TESTS) tests/soak/liveness-trial.sh

soak: all
	@set -e; for test in $(SOAK_TESTS); do \
		echo "== $$test"; \
		srcdir='$(srcdir)' builddir='$(builddir)' \
			bash '$(srcdir)'/$$test; \
	done
.PHONY: soak
