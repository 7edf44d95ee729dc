#!/usr/bin/env python3
"""Makes the files of this folder: what transformers says about tiny models of
the Llama family, one folder a case.

Run by hand, only when the golden data are to change (a virtual environment
with torch, transformers 5 and safetensors):

    python3 tests/grad/llama/make-golden.py [CASE...]

All is computed in double precision (angles of rotary positions as
transformers has them, in single). A folder holds the model as
save_pretrained() leaves it, in the case's type and number of files, and
golden.safetensors:

    tokens, labels [2, TIME]      a batch; labels of -100 are not supervised
    logits [2, TIME, V], loss [1] (mean over supervised labels)
    gradient.NAME                 of the mean loss over all windows of
                                  tokens.bin, which stands beside the folders
    all.loss [1]                  that loss
    after.NAME                    some cases: the weights after ten steps of
                                  AdamW, each over all windows

tests/grad/test-llama.c compares logits and loss, tests/grad/test-llama-train.sh
gradients and steps of whole runs. make-golden.py --check FOLDER loads a folder
that Stagecoach has written and prints the worst difference of its logits
from those of the case it began as.
"""
import json
import math
import os
import shutil
import sys

import torch
from safetensors.torch import load_file, save_file
from transformers import (AutoModelForCausalLM, LlamaConfig, MistralConfig,
                          Qwen2Config, Qwen3Config)

HERE = os.path.dirname(os.path.abspath(__file__))
VOCABULARY, BATCH, TIME, WINDOWS = 45, 2, 23, 6

# As in test-llama-train.sh.
STEPS, RATE, BETAS, EPSILON, DECAY, CLIP = 10, 3e-3, (0.9, 0.95), 1e-5, 0.1, 1.2

COMMON = dict(vocab_size=VOCABULARY, hidden_size=20, intermediate_size=28,
              num_hidden_layers=2, num_attention_heads=4,
              num_key_value_heads=2, max_position_embeddings=40,
              bos_token_id=0, eos_token_id=0, rms_norm_eps=1e-5,
              head_dim=6)
CASES = {
    # Heads: as many keys as queries, groups, one; sizes that make the width
    # and others; biases; tied and not.
    "plain": (LlamaConfig, dict(num_key_value_heads=4, head_dim=None,
                                hidden_size=24)),
    "groups-tied": (LlamaConfig, dict(tie_word_embeddings=True)),
    "one-key-biases": (LlamaConfig, dict(
        num_key_value_heads=1, attention_bias=True, mlp_bias=True)),
    "linear": (LlamaConfig, dict(
        rope_scaling={"type": "linear", "factor": 4.0})),
    # Longer than its positions, for within them nothing is scaled.
    "dynamic": (LlamaConfig, dict(
        max_position_embeddings=16,
        rope_scaling={"rope_type": "dynamic", "factor": 2.0})),
    "llama3": (LlamaConfig, dict(
        tie_word_embeddings=True, head_dim=10, rope_theta=500000.0,
        rope_scaling={"rope_type": "llama3", "factor": 8.0,
                      "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                      "original_max_position_embeddings": 16})),
    "yarn": (LlamaConfig, dict(
        head_dim=12, rope_theta=1000.0,
        rope_scaling={"rope_type": "yarn", "factor": 2.5, "beta_fast": 8,
                      "original_max_position_embeddings": 16})),
    "window": (MistralConfig, dict(sliding_window=5)),
    "window-yarn": (MistralConfig, dict(
        sliding_window=9, head_dim=16,
        rope_scaling={"rope_type": "yarn", "factor": 4.0, "truncate": False,
                      "attention_factor": 0.7,
                      "original_max_position_embeddings": 10})),
    "biases": (Qwen2Config, dict(tie_word_embeddings=True,
                                 rope_theta=1000000.0)),
    "biases-upper-window": (Qwen2Config, dict(
        use_sliding_window=True, sliding_window=6, max_window_layers=1)),
    "normed-tied": (Qwen3Config, dict(head_dim=8, tie_word_embeddings=True)),
    "normed-biases": (Qwen3Config, dict(attention_bias=True)),
    "normed-bf16": (Qwen3Config, dict(head_dim=8)),
    "plain-f16": (LlamaConfig, dict()),
}
TYPES = {"normed-bf16": torch.bfloat16, "plain-f16": torch.float16}
SHARDED = {"normed-bf16": "8KB", "groups-tied": "10KB"}
TRAINED = ("groups-tied", "one-key-biases", "window", "normed-tied")


def make_model(name):
    kind, settings = CASES[name]
    model = AutoModelForCausalLM.from_config(
        kind(**{**COMMON, **settings}), attn_implementation="eager")
    with torch.no_grad():
        for key, value in model.named_parameters():
            norm = "norm" in key and key.endswith("weight")
            value.normal_(1.0 if norm else 0.0, 0.25)
    return model.to(TYPES.get(name, torch.float32))


def loss_of(model, tokens, labels):
    logits = model(tokens).logits
    loss = torch.nn.functional.cross_entropy(
        logits.view(-1, VOCABULARY), labels.reshape(-1), ignore_index=-100)
    return logits, loss


def one_batch(model, golden):
    tokens = torch.randint(VOCABULARY, (BATCH, TIME))
    labels = torch.randint(VOCABULARY, (BATCH, TIME))
    labels[0, 3:5] = -100
    labels[1, 15:] = -100
    with torch.no_grad():
        logits, loss = loss_of(model, tokens, labels)
    golden["tokens"] = tokens.int()
    golden["labels"] = labels.int()
    golden["logits"] = logits
    golden["loss"] = loss.view(1)


def windows_of(row):
    windows = torch.stack([row[i * TIME:i * TIME + TIME + 1]
                           for i in range(WINDOWS)])
    return windows[:, :-1], windows[:, 1:]


def gradients(model, row, golden):
    loss = loss_of(model, *windows_of(row))[1]
    loss.backward()
    golden["all.loss"] = loss.view(1)
    for name, value in model.named_parameters():
        golden["gradient." + name] = value.grad.clone()


def train(model, row, golden):
    matrices = [p for p in model.parameters() if p.dim() > 1]
    vectors = [p for p in model.parameters() if p.dim() == 1]
    optimizer = torch.optim.AdamW(
        [{"params": matrices, "weight_decay": DECAY},
         {"params": vectors, "weight_decay": 0.0}],
        lr=RATE, betas=BETAS, eps=EPSILON)
    for _ in range(STEPS):
        optimizer.zero_grad()
        loss_of(model, *windows_of(row))[1].backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        optimizer.step()
    for name, value in model.named_parameters():
        golden["after." + name] = value


def single(value):
    value = value.detach().contiguous()
    return value.float() if value.is_floating_point() else value


def make(name, row):
    torch.manual_seed(sum(map(ord, name)))
    folder = os.path.join(HERE, name)
    shutil.rmtree(folder, ignore_errors=True)
    model = make_model(name)
    model.save_pretrained(folder, max_shard_size=SHARDED.get(name, "1GB"))
    for file in os.listdir(folder):
        if file == "generation_config.json":
            os.remove(os.path.join(folder, file))
        else:
            os.chmod(os.path.join(folder, file), 0o644)
    golden = {}
    # Read again: converting a model also rounds its rotary frequencies.
    model = AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager")
    model = model.double().eval()
    one_batch(model, golden)
    gradients(model, row, golden)
    if name in TRAINED:
        train(model, row, golden)
    path = os.path.join(folder, "golden.safetensors")
    save_file({key: single(value) for key, value in golden.items()}, path)
    os.chmod(path, 0o644)
    print(name, "loss", golden["loss"].item())


def old_spelling(name):
    """config.json as transformers 4 writes it."""
    path = os.path.join(HERE, name, "config.json")
    with open(path) as file:
        config = json.load(file)
    rope = config.pop("rope_parameters")
    config["rope_theta"] = rope.pop("rope_theta")
    kind = rope.pop("rope_type")
    config["rope_scaling"] = {"type": kind, **rope} if rope else None
    config["torch_dtype"] = config.pop("dtype")
    with open(path, "w") as file:
        json.dump(config, file, indent=2)
        file.write("\n")


def check(folder, name):
    model, info = AutoModelForCausalLM.from_pretrained(
        folder, output_loading_info=True, attn_implementation="eager")
    complaints = {key: value for key, value in info.items() if value}
    golden = load_file(os.path.join(HERE, name, "golden.safetensors"))
    with torch.no_grad():
        logits = model.double()(golden["tokens"].long()).logits
    off = (logits - golden["logits"]).abs().max() / golden["logits"].abs().max()
    print("%s: logits off by %.2g, complaints %s" % (name, off, complaints))
    return bool(complaints) or not off < 1e-5


def main():
    if sys.argv[1:2] == ["--check"]:
        return check(sys.argv[2], sys.argv[3])
    torch.manual_seed(3)
    row = torch.randint(VOCABULARY, (WINDOWS * TIME + 1,))
    with open(os.path.join(HERE, "tokens.bin"), "wb") as file:
        file.write(row.numpy().astype("<u2").tobytes())
    for name in sys.argv[1:] or CASES:
        make(name, row)
        if name in ("linear", "llama3", "window", "biases"):
            old_spelling(name)
    return 0


if __name__ == "__main__":
    sys.exit(main())
