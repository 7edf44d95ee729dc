# Network namespaces as hosts, and what the tests of several hosts share.
# Sourced after tests/e2e/lib.sh. Root only.
#
# Four hosts, hosta to hostd, on one bridge: 10.77.0.1-4 and fd77::1-4. Each
# knows the others by name, and itself, as Debian has it, as 127.0.1.1.

hosts=(hosta hostb hostc hostd)
namespace=sc$$ # and -hosta, ...

need_root() {
	[ "$(id -u)" = 0 ] || skip_all "network namespaces need root"
	command -v ip >/dev/null || skip_all "no ip command (iproute2)"
	ip netns add "$namespace" 2>"$scratch/netns.log" ||
		skip_all "no network namespaces here: $(cat "$scratch/netns.log")"
}

write_names() { # of host $1
	local i
	mkdir -p "/etc/netns/$namespace-$1"
	{
		echo "127.0.0.1 localhost"
		echo "::1 localhost"
		echo "127.0.1.1 $1"
		for i in 0 1 2 3; do
			[ "${hosts[i]}" = "$1" ] ||
				echo "10.77.0.$((i + 1)) ${hosts[i]}"
			echo "fd77::$((i + 1)) ${hosts[i]}6"
		done
	} >"/etc/netns/$namespace-$1/hosts"
}

make_hosts() {
	local i host
	# Whatever ends the test ends them as well; lib.sh's trap goes on.
	trap 'remove_hosts; [ -z "$pid" ] || kill -9 "$pid" 2>/dev/null; rm -rf "$scratch"' EXIT
	ip -n "$namespace" link add bridge type bridge
	ip -n "$namespace" link set bridge up
	for i in 0 1 2 3; do
		host=$namespace-${hosts[i]}
		write_names "${hosts[i]}"
		ip netns add "$host"
		ip -n "$host" link add eth0 type veth peer name "port$i" \
			netns "$namespace"
		ip -n "$namespace" link set "port$i" master bridge up
		ip -n "$host" link set lo up
		ip -n "$host" link set eth0 up
		ip -n "$host" addr add "10.77.0.$((i + 1))/24" dev eth0
		ip -n "$host" addr add "fd77::$((i + 1))/64" dev eth0 nodad
	done
}

remove_hosts() {
	local host
	for host in "${hosts[@]}"; do
		ip netns pids "$namespace-$host" 2>/dev/null |
			xargs -r kill -9 2>/dev/null
		ip netns del "$namespace-$host" 2>/dev/null
		rm -rf "/etc/netns/$namespace-$host"
	done
	rmdir /etc/netns 2>/dev/null
	ip netns del "$namespace" 2>/dev/null
}

# on HOST COMMAND...: there, under that host's name.
on() {
	local host=$1
	shift
	"$source_folder/tests/hosts/enter" "$namespace-$host" "$host" "$@"
}

# A key for the job, as `stagecoach key` makes it.
make_key() {
	(umask 077 && od -An -vtx1 -N32 /dev/urandom | tr -d ' \n' >"$1" &&
		echo >>"$1")
}

# The model of all these tests, by one stage: its sha256 is what the others
# must have.
make_reference() {
	make_text "$scratch/text"
	"$stagecoach" prepare --text "$scratch/text" --out "$scratch/data" \
		--tokenizer byte >"$scratch/prepare.log" 2>&1 || {
		cat "$scratch/prepare.log"
		exit 1
	}
	model=(--data "$scratch/data" --steps 3 --layers 4 --width 32 --heads 2
		--context 32 --micro-batches 4 --eval-every 0 --eval-samples 0
		--costs operations --threads 1)
	"$stagecoach" train "${model[@]}" --out "$scratch/one" \
		>"$scratch/one.log" 2>&1 || {
		cat "$scratch/one.log"
		exit 1
	}
	wanted=$(sha256 "$scratch/one/model/model.safetensors")
}

# Whether RUN has the weights of the one-stage run.
same_weights() { # NAME RUN LOGS...
	local name=$1 run=$2 got
	shift 2
	got=$(sha256 "$run/model/model.safetensors" 2>/dev/null)
	same "$name" "$wanted" "$got"
	[ "$wanted" = "$got" ] || tail -n 5 "$@" | sed 's/^/#   /'
}

# in_log NAME PATTERN FILE: passes when a line of FILE matches.
in_log() {
	if grep -q -- "$2" "$3"; then
		pass "$1"
	else
		fail "$1"
		note "no '$2' in:"
		sed 's/^/#   /' "$3"
	fi
}
