#!/usr/bin/env python3
"""Makes the files of this folder: what PEFT says about adapters (LoRA) of tiny
models, one folder a case.

Run by hand, only when the golden data are to change (a virtual environment
with torch, transformers 5, peft and safetensors):

    python3 tests/grad/lora/make-golden.py [CASE...]

The base models are those of tests/grad/llama and tests/grad/torch. All is
computed in double precision. A folder holds the adapters as save_pretrained()
leaves them, both halves random, and golden.safetensors, whose names are those
of the adapters' tensors:

    all.loss [1]                  mean loss over all windows of the base's
                                  tokens.bin
    gradient.NAME                 of that loss
    after.NAME                    the adapters after ten steps of AdamW, each
                                  over all windows
    merged.NAME                   the base's matrices with adapters folded in

tests/grad/test-lora.sh compares whole runs. make-golden.py --check FOLDER CASE
loads a folder of adapters that Stagecoach has written over the case's base and
prints its loss.
"""
import os
import shutil
import sys

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM

HERE = os.path.dirname(os.path.abspath(__file__))
WINDOWS = 6

# As in test-lora.sh.
STEPS, RATE, BETAS, EPSILON, DECAY, CLIP = 10, 3e-3, (0.9, 0.95), 1e-5, 0.1, 1.2

# Base, length of a window, rank, alpha, targets.
CASES = {
    "gpt2": ("torch", 19, 3, 6, ["c_attn"]),
    "gpt2-all": ("torch", 19, 2, 5, ["attn.c_proj", "c_fc", "mlp.c_proj"]),
    "llama": ("llama/groups-tied", 23, 4, 8, ["q_proj", "v_proj"]),
    "qwen-all": ("llama/normed-biases", 23, 2, 1, "all-linear"),
    "mistral": ("llama/window", 23, 3, 12, ["k_proj", "o_proj", "gate_proj",
                                            "down_proj"]),
}


def base_of(name):
    return os.path.join(HERE, "..", CASES[name][0])


def windows_of(name):
    time = CASES[name][1]
    family = CASES[name][0].split("/")[0]
    with open(os.path.join(HERE, "..", family, "tokens.bin"), "rb") as file:
        row = torch.frombuffer(bytearray(file.read()), dtype=torch.int16).long()
    windows = torch.stack([row[i * time:i * time + time + 1]
                           for i in range(WINDOWS)])
    return windows[:, :-1], windows[:, 1:]


def loss_of(model, name):
    tokens, labels = windows_of(name)
    logits = model(tokens).logits
    return torch.nn.functional.cross_entropy(
        logits.view(-1, logits.shape[-1]), labels.reshape(-1))


def load_base(name):
    return AutoModelForCausalLM.from_pretrained(
        base_of(name), dtype=torch.float32, attn_implementation="eager")


def adapters_of(model):
    return {key.replace(".default", ""): value
            for key, value in model.named_parameters() if "lora_" in key}


def train(model, name, golden):
    parameters = list(adapters_of(model).values())
    optimizer = torch.optim.AdamW(parameters, lr=RATE, betas=BETAS,
                                  eps=EPSILON, weight_decay=DECAY)
    for _ in range(STEPS):
        optimizer.zero_grad()
        loss_of(model, name).backward()
        torch.nn.utils.clip_grad_norm_(parameters, CLIP)
        optimizer.step()
    for key, value in adapters_of(model).items():
        golden["after." + key] = value


def merged(name, golden):
    model = PeftModel.from_pretrained(load_base(name).double(),
                                      os.path.join(HERE, name))
    before = {key: value.clone() for key, value in
              load_base(name).double().named_parameters()}
    for key, value in model.merge_and_unload().named_parameters():
        if not torch.equal(value, before[key]):
            golden["merged." + key] = value


def make(name):
    _, _, rank, alpha, targets = CASES[name]
    folder = os.path.join(HERE, name)
    torch.manual_seed(sum(map(ord, name)))
    shutil.rmtree(folder, ignore_errors=True)
    model = get_peft_model(load_base(name), LoraConfig(
        r=rank, lora_alpha=alpha, target_modules=targets, lora_dropout=0.0,
        bias="none", task_type="CAUSAL_LM", fan_in_fan_out="gpt2" in name))
    with torch.no_grad():
        for value in adapters_of(model).values():
            value.normal_(0.0, 0.25)
    model.save_pretrained(folder)
    for file in os.listdir(folder):
        if file == "README.md":
            os.remove(os.path.join(folder, file))
        else:
            os.chmod(os.path.join(folder, file), 0o644)
    path = os.path.join(folder, "adapter_config.json")
    with open(path) as file:
        text = file.read().replace(base_of(name), CASES[name][0])
    with open(path, "w") as file:
        file.write(text + "\n")
    golden = {}
    merged(name, golden)
    model = model.double().eval()
    loss = loss_of(model, name)
    loss.backward()
    golden["all.loss"] = loss.view(1)
    for key, value in adapters_of(model).items():
        golden["gradient." + key] = value.grad.clone()
    train(model, name, golden)
    path = os.path.join(folder, "golden.safetensors")
    save_file({key: value.detach().float().contiguous()
               for key, value in golden.items()}, path)
    os.chmod(path, 0o644)
    print(name, "loss", loss.item())


def check(folder, name):
    model = PeftModel.from_pretrained(load_base(name).double(), folder)
    print("loss", loss_of(model.eval(), name).item())


if __name__ == "__main__":
    if sys.argv[1:2] == ["--check"]:
        check(*sys.argv[2:4])
    else:
        for case in sys.argv[1:] or CASES:
            make(case)
