#!/usr/bin/env bash
# Our own loops give the same bits whatever vectors a processor has: with AVX-512
# or what this one has, with AVX2, and with neither, on processors that qemu-user
# imitates (AVX2 by valgrind where there is no qemu).
. "${srcdir:-.}/tests/e2e/lib.sh"

program=$builddir/tests/unit/kernel-bits
case $(uname -m) in x86_64) ;; *) skip_all "its processors are x86-64" ;; esac
[ -x "$program" ] || skip_all "kernel-bits is not built"
[ -z "$(nm "$program" 2>/dev/null | grep -m1 -E '__(asan|tsan|ubsan)_')" ] ||
	skip_all "sanitizers have loops of one kind"
[ "$(nm "$program" | grep -c 'gelu_block.*x86_64_v3')" -gt 0 ] ||
	skip_all "this compiler makes no clones of loops"

avx2() {
	if command -v qemu-x86_64 >/dev/null; then
		qemu-x86_64 -cpu Haswell "$program"
	else
		valgrind --tool=none "$program"
	fi
}
neither() {
	qemu-x86_64 -cpu Nehalem "$program"
}
path() {
	sed -n 's/^path //p' "$scratch/$1"
}
ours() { # without the path and the planted fault
	grep -v -e '^path' -e '^run_planted' "$scratch/$1"
}

"$program" >"$scratch/here" ||
	{ echo "Bail out! kernel-bits failed"; exit 1; }
plan 6
imitated() { # NAME PATH
	local name=$1
	if ! $name >"$scratch/$name" 2>"$scratch/err"; then
		for _ in 1 2 3; do
			pass "$name # SKIP no qemu-user imitates it here"
		done
		return
	fi
	same "$name: the path" "$2" "$(path "$name")"
	same "$name: the same bits as $(path here)" "$(ours here)" "$(ours "$name")"
	if [ "$(path here)" = "$2" ]; then
		pass "$name: planted # SKIP this processor has the same path"
	else
		check "$name: planted: another order is found" \
			test "$(grep run_planted "$scratch/here")" != \
			"$(grep run_planted "$scratch/$name")"
	fi
}
imitated avx2 x86-64-v3
imitated neither "x86-64 baseline"
finish
