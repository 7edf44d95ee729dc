# In the guest: what can be shown of rdma on one host with two devices. Results go
# to /out/results, a TAP line each without number, diagnostics as comments; logs
# beside it. $1: the build folder, $2: some text.
cd "$1" || exit 1
results=/out/results
stagecoach=$PWD/stagecoach
server=10.9.0.1
scratch=$(mktemp -d)

result() { # STATUS NAME, with the time the guest has lived
	set -- "$1" "$2 ($(cut -d' ' -f1 /proc/uptime) s)"
	if [ "$1" = 0 ]; then
		echo "ok - $2"
	else
		echo "not ok - $2"
	fi >>$results
}

note() {
	sed 's/^/# /' >>$results
}

suite() { # PROGRAM NAME [KIND]
	# shellcheck disable=SC2086
	"tests/transport/$1" $3 >"/out/$1.log" 2>&1
	if [ $? = 0 ] && grep -q '^ok ' "/out/$1.log" &&
		! grep -Eq '^not ok|^Bail out' "/out/$1.log"; then
		result 0 "$2: $(grep -c '^ok ' "/out/$1.log") cases"
	else
		result 1 "$2"
		grep -v '^ok ' "/out/$1.log" | tail -20 | note
	fi
}

suite test-rdma 'the conformance suite over rdma' ''
suite test-rdma-send 'the same without immediate data, as on iWARP' ''
suite test-rdma 'the same wrapped by fault, with delays' \
	'fault:rdma:seed=3,delay=2ms:0.2'

"$stagecoach" bench transport --list >/out/list 2>&1
grep -q '^rxe1 port 1: can be used' /out/list &&
	grep -q 'GID .*::ffff:10.9.0.2, RoCE v2' /out/list
result $? 'the devices are listed'
ip link set veth1 down
"$stagecoach" bench transport --list >/out/list-down 2>&1
grep -A1 '^rxe1 port 1: cannot be used' /out/list-down |
	grep -q 'why not .*ip link set up veth1'
result $? 'and why one cannot be used'
ip link set veth1 up

# Training. The reference is made here too: bits depend on the processor.
options='--layers 2 --width 32 --heads 2 --context 32 --micro-batches 4
	--micro-batch-size 2 --steps 4 --threads 1 --no-pin --split'
"$stagecoach" prepare --text "$2" --out "$scratch/data" --tokenizer byte --val 0.1 \
	>/out/prepare.log 2>&1 || note </out/prepare.log
for run in one:2:inproc two:1,1:rdma; do
	IFS=: read -r name split transport <<-END
		$run
	END
	# shellcheck disable=SC2086
	"$stagecoach" train --data "$scratch/data" --out "$scratch/$name" $options "$split" \
		--stages "$(echo "$split" | tr , '\n' | wc -l)" \
		--transport "$transport" >"/out/train-$name.log" 2>&1 ||
		note <"/out/train-$name.log"
done
one=$(sha256sum <"$scratch/one/model/model.safetensors")
two=$(sha256sum <"$scratch/two/model/model.safetensors")
[ -n "$one" ] && [ "$one" = "$two" ] && [ -s "$scratch/two/model/model.safetensors" ]
result $? 'two stages over rdma train the bits of one'

# Beside perftest. Its own figures come from a cycle counter that an emulated
# processor does not have: what more messages take longer than few does.
seconds_of_perftest() { # PROGRAM BYTES COUNT: the end, and the begin
	"$1" -d rxe0 -R -F -s "$2" -n "$3" >/dev/null 2>&1 &
	sleep 1
	begin=$(date +%s.%N)
	"$1" -d rxe0 -R -F -s "$2" -n "$3" $server >/dev/null 2>&1
	echo "$(date +%s.%N) $begin"
	wait
}

microseconds_of_perftest() { # PROGRAM BYTES FEW MANY: of one message
	echo "$(seconds_of_perftest "$1" "$2" "$3")" \
		"$(seconds_of_perftest "$1" "$2" "$4")" |
		awk -v more="$(($4 - $3))" '{
			print ($3 - $4 - $1 + $2) / more * 1e6 }'
}

ours() { # TEST BYTES FIELD
	"$stagecoach" bench transport --transport rdma --waiting sleeping \
		--test "$1" --sizes "$2" --rounds 1 --milliseconds 500 --json |
		sed -n "/\"transport\": *\"rdma\"/s/.*\"$3\": *\([0-9.e+-]*\).*/\1/p"
}

if command -v ib_write_bw >/dev/null; then
	theirs=$(microseconds_of_perftest ib_write_bw 1048576 20 80)
	our=$(ours bandwidth 1048576 gb_per_second)
	echo "$theirs $our" | awk '{
		printf "1 MiB: ib_write_bw %.3f GB/s (polling), ours %.3f (sleeping)\n",
			1048576 / $1 / 1e3, $2 }' | note
	theirs=$(microseconds_of_perftest ib_write_lat 8 50 250)
	latency=$(ours latency 8 median_us)
	echo "$theirs $latency" | awk '{
		printf "8 bytes: ib_write_lat %.0f us (polling), ours %.0f us (sleeping)\n",
			$1 / 2, $2 }' | note
	[ -n "$our" ] && [ -n "$latency" ]
	result $? 'perftest and bench transport side by side'
else
	echo 'ok - perftest side by side # SKIP perftest is not installed' \
		>>$results
fi
