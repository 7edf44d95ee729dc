#!/usr/bin/env bash
# make interop [PYTHON=python3]: models go from Stagecoach to transformers and
# back. Where PYTHON lacks what that takes, says so and ends with 77.
set -u
srcdir=${srcdir:-.}
builddir=${builddir:-.}
PYTHON=${PYTHON:-python3}

missing() {
	echo "1..0 # SKIP $*"
	exit 77
}

command -v "$PYTHON" >/dev/null || missing "there is no $PYTHON; name one with PYTHON=..."
[ -x "$builddir/stagecoach" ] || missing "there is no $builddir/stagecoach; build it first"
for module in numpy torch safetensors tokenizers transformers; do
	reason=$("$PYTHON" -c "import $module" 2>&1) ||
		missing "$PYTHON cannot import $module (${reason##*$'\n'}); name another with PYTHON=..., or install it: pip install torch transformers"
done

scratch=$(mktemp -d "${TMPDIR:-/tmp}/stagecoach-interop.XXXXXX")
trap 'rm -rf "$scratch"' EXIT
cat "$srcdir"/base/*.h >"$scratch/text"
HF_HUB_OFFLINE=1 TRANSFORMERS_NO_ADVISORY_WARNINGS=1 OMP_NUM_THREADS=1 \
	"$PYTHON" "$srcdir/tests/interop/check.py" "$builddir/stagecoach" "$scratch"
