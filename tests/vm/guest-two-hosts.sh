# In each of two guests: one of two ranks on hosts of their own, over rdma. $1: the
# build folder, $2: the rank, $3: some text, $4: the transport; /out/key is the
# job key. Rank 0 trains
# the reference in one stage as well, and compares.
cd "$1" || exit 1
stagecoach=$PWD/stagecoach
scratch=$(mktemp -d)
options='--layers 2 --width 32 --heads 2 --context 32 --micro-batches 4
	--micro-batch-size 2 --steps 4 --threads 1 --no-pin --split'
cp /out/key "$scratch/key"
chmod 600 "$scratch/key"
if [ "$2" = 0 ]; then
	"$stagecoach" prepare --text "$3" --out "$scratch/data" \
		--tokenizer byte --val 0.1 || exit 1
fi
# shellcheck disable=SC2086
"$stagecoach" train --data "$scratch/data" --out "$scratch/two" $options 1,1 \
	--stages 2 --transport "$4" --rank "$2" --world-size 2 \
	--coordinator 10.9.0.1:29500 --interface 10.9.0.0/24 \
	--key-file "$scratch/key" || exit 1
[ "$2" = 0 ] || exit 0
# shellcheck disable=SC2086
"$stagecoach" train --data "$scratch/data" --out "$scratch/one" $options 2 \
	--transport inproc || exit 1
cmp "$scratch/one/model/model.safetensors" "$scratch/two/model/model.safetensors"
