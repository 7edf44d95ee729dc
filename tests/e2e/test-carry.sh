#!/usr/bin/env bash
# What a Hugging Face folder has besides weights goes into every checkpoint and the
# final model: files unchanged, keys of config.json that stay true.
. "${srcdir:-.}/tests/e2e/lib.sh"

hub=$scratch/hub
cp -r "$source_folder/tests/eval/llama" "$hub"
chmod -R u+w "$hub"
cat >"$scratch/keys" <<'KEYS'
  "pad_token_id": 2,
  "eos_token_id": [2, 1, 0],
  "use_cache": false,
  "task_specific_params": {"text-generation": {"temperature": 0.6, "x": [1e-05]}},
  "_name_or_path": "of/the-hub",
  "transformers_version": "4.1.0",
KEYS
grep -v '_token_id\|use_cache\|transformers_version' "$hub/config.json" |
	sed "1r $scratch/keys" >"$scratch/config"
cp "$scratch/config" "$hub/config.json"
echo '{"temperature": 0.6, "eos_token_id": [2, 1, 0]}' >"$hub/generation_config.json"
printf '{"eos_token": "</s>",  "chat_template": "{{ x }}"}' \
	>"$hub/tokenizer_config.json"
echo '{"eos_token": "</s>"}' >"$hub/special_tokens_map.json"
printf '{%% for m in messages %%}\r\n' >"$hub/chat_template.jinja"
head -c 3000 /dev/urandom >"$hub/tokenizer.model"
echo 'terms' >"$hub/LICENSE"
mkdir "$hub/additional_chat_templates" "$hub/original"
echo '{{ tool }}' >"$hub/additional_chat_templates/tool.jinja"
# What must not come along.
echo weights >"$hub/pytorch_model.bin"
echo weights >"$hub/original/consolidated.00.pth"
echo git >"$hub/.gitattributes"
files="LICENSE additional_chat_templates/tool.jinja chat_template.jinja
generation_config.json special_tokens_map.json tokenizer.json tokenizer.model
tokenizer_config.json"
# A hub's cache has links.
mv "$hub/LICENSE" "$scratch/blob"
ln -s "$scratch/blob" "$hub/LICENSE"
cp -rL "$hub" "$scratch/kept"

"$stagecoach" prepare --text "$source_folder/tests/eval/text.txt" --val 0 \
	--tokenizer "$hub/tokenizer.json" --out "$scratch/data" \
	>"$scratch/log" 2>&1 || { cat "$scratch/log"; echo "Bail out!"; exit 1; }

carried() { # FOLDER
	local file
	for file in $files; do
		cmp "$scratch/kept/$file" "$1/$file" || return 1
	done
	(cd "$1" && find . -type f | grep -v '/optimizer\|/state\|/manifest' |
		sed 's|^\./||' | LC_ALL=C sort) >"$scratch/list"
	(tr ' ' '\n' <<<"$files"; echo config.json; echo model.safetensors) |
		LC_ALL=C sort | diff - "$scratch/list"
}

# One line a key and value, however they are set.
keys() { # FOLDER PATTERN
	tr -d ' \n' <"$1/config.json" | grep -o "$2"
}

config_carried() { # FOLDER
	keys "$1" '"pad_token_id":2\b' && keys "$1" '"eos_token_id":\[2,1,0\]' &&
		keys "$1" '"bos_token_id":1\b' &&
		keys "$1" '"use_cache":false' &&
		keys "$1" '{"text-generation":{"temperature":0.6,"x":\[1e-05\]}}' &&
		keys "$1" '"_name_or_path":"of/the-hub"' &&
		keys "$1" '"torch_dtype":"float32"' &&
		! keys "$1" transformers_version && ! keys "$1" rope_parameters
}

check "two steps" "$stagecoach" train --model "$hub" --data "$scratch/data" \
	--out "$scratch/run" --context 24 --micro-batches 2 --steps 2 --no-pin \
	--checkpoint-every 1 --keep-checkpoints 1 --stages 2 --costs operations
check "the final model has the files" carried "$scratch/run/model"
check "the final model has the keys" config_carried "$scratch/run/model"
check "the checkpoint has the files" carried \
	"$scratch/run/checkpoints/step-00000002"

# The folder it began with, and in time the checkpoint it resumed from, are gone.
rm -r "$hub"
rm -r "$scratch/run/model"
check "resumed without the folder" "$stagecoach" train --resume "$scratch/run" \
	--steps 4
check "after a resume: the files" carried "$scratch/run/model"
check "after a resume: the keys" config_carried "$scratch/run/model"

# A file of a folder within is part of what a checkpoint must have.
echo x >>"$scratch/run/checkpoints/step-00000004/additional_chat_templates/tool.jinja"
if "$stagecoach" train --resume "$scratch/run" --steps 5 >"$scratch/log" 2>&1; then
	fail "a damaged template is noticed"
elif grep -q "additional_chat_templates/tool.jinja has 13 bytes" "$scratch/log"; then
	pass "a damaged template is noticed"
else
	fail "a damaged template is noticed"
	note "$(cat "$scratch/log")"
fi

check "evaluated" "$stagecoach" eval --model "$scratch/run/model" \
	--data "$scratch/data" --on train --context 24

echo "1..$cases"
finish
