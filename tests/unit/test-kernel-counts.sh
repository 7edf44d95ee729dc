#!/usr/bin/env bash
# Instructions of the hot kernels, counted by callgrind, for each element or
# multiplication: a guard against a loop that is no longer vector code, which no
# busy machine can hide. Valgrind's processor has AVX2 and no AVX-512.
. "${srcdir:-.}/tests/e2e/lib.sh"

program=$builddir/tests/unit/kernel-runs
command -v valgrind >/dev/null || skip_all "valgrind is not installed"
case $(uname -m) in x86_64) ;; *) skip_all "bounds are for x86-64" ;; esac
[ -x "$program" ] || skip_all "kernel-runs is not built"
[ -z "$(nm "$program" 2>/dev/null | grep -m1 -E '__(asan|tsan|ubsan)_')" ] ||
	skip_all "sanitizers add instructions"

valgrind --tool=callgrind --callgrind-out-file="$scratch/counts" \
	"$program" >"$scratch/out" 2>"$scratch/err" ||
	skip_all "valgrind cannot run the kernels"
read -r vectors core <"$scratch/out"
[ "$vectors" = avx2 ] || skip_all "valgrind offers $vectors, not AVX2"
[ "$(nm "$program" | grep -c 'gelu_block.*x86_64_v3')" -gt 0 ] ||
	skip_all "this compiler makes no clones of loops"
callgrind_annotate --inclusive=yes --threshold=100 "$scratch/counts" \
	>"$scratch/functions"

# count NAME: instructions an element; nothing where there is no such function
count() {
	local total elements
	total=$(grep -oE "^ *[0-9,]+ .*:run_$1 " "$scratch/functions" |
		head -1 | awk '{ gsub(/,/, "", $1); print $1 }')
	elements=$(awk -v f="run_$1" '$1 == f { print $2 }' "$scratch/out")
	[ -n "$total" ] && [ -n "$elements" ] &&
		awk -v t="$total" -v n="$elements" \
			'BEGIN { printf "%.4f", t / n }'
}

plan 18
# NAME MOST: instructions an element, some 20 % above what they are. Products
# are the library's; attention is made of them.
while read -r name most; do
	case $name:$core in
	product*:Haswell | attention:Haswell) ;;
	product*:* | attention:*)
		pass "$name # SKIP the library runs its kernels for $core"
		continue
		;;
	esac
	count=$(count "$name")
	note "$name: $count instructions"
	check "$name takes at most $most" \
		awk -v c="$count" -v m="$most" 'BEGIN { exit !(c > 0 && c <= m) }'
done <<'LIST'
product 0.36
product_transposed 0.42
attention 1.2
layernorm 3.6
rmsnorm 2.3
gelu 6.3
swiglu 6.1
cross_entropy 9.2
layernorm_bfloat16 6.6
layernorm_input_bfloat16 8.7
gelu_bfloat16 8.9
gelu_backward_bfloat16 10.6
swiglu_bfloat16 8.7
swiglu_backward_bfloat16 13.2
bias_bfloat16 1.1
cross_entropy_bfloat16 11.1
adamw 3.2
LIST
# The guard can fail.
check "a loop of one element at a time is beyond the bound" \
	awk -v c="$(count gelu_scalar)" 'BEGIN { exit !(c > 6.3) }'
finish
