#!/usr/bin/env python3
"""Makes the files of this folder: what PyTorch says about a tiny GPT-2.

Run by hand, only when the golden data are to change:

    python3 tests/grad/torch/make-golden.py

It needs torch, transformers and safetensors (on Debian: python3-torch, and
`pip install transformers safetensors "numpy<2"` in a virtual environment
with --system-site-packages). It writes beside itself

    config.json, model.safetensors  the model before training, as
                                    save_pretrained() would
    tokens.bin                      six windows of 19 tokens, uint16
    golden.safetensors, steps.txt   see below

All is computed in double precision, so that what is stored in single is the
truth to its last digit rather than another program's rounding. In
golden.safetensors stand

    tokens, labels [2, 19]   a batch; labels of -100 are not supervised
    logits [2, 19, 61], loss [1] (mean over supervised labels)
    gradient.NAME            of that loss
    after.NAME               the weights after ten steps of AdamW over
                             tokens.bin; each step has all its windows, so
                             their order means nothing

and in steps.txt each step's loss, norm of the gradient, and learning rate.

tests/grad/test-torch.c compares the first two lines with the layers,
tests/grad/test-torch-train.sh the rest with whole runs.
"""
import math
import os

import torch
from safetensors.torch import save_file
from transformers import GPT2Config, GPT2LMHeadModel

HERE = os.path.dirname(os.path.abspath(__file__))

# Nothing is a multiple of a vector, and there are more positions than tokens.
VOCABULARY, POSITIONS, WIDTH, HEADS, LAYERS = 61, 23, 21, 3, 3
BATCH, TIME, WINDOWS = 2, 19, 6

# As in test-torch-train.sh. The first steps are clipped, the last are not. A
# key's bias has no gradient but rounding errors (softmax does not see it):
# epsilon is large enough to keep them small.
STEPS, WARMUP = 10, 3
RATE, FLOOR, BETAS, EPSILON = 3e-3, 4e-4, (0.9, 0.95), 1e-5
DECAY, CLIP = 0.1, 1.2


def make_model():
    config = GPT2Config(
        vocab_size=VOCABULARY, n_positions=POSITIONS, n_embd=WIDTH,
        n_head=HEADS, n_layer=LAYERS, resid_pdrop=0.0, embd_pdrop=0.0,
        attn_pdrop=0.0, bos_token_id=0, eos_token_id=0)
    model = GPT2LMHeadModel(config)
    with torch.no_grad():
        for name, value in model.named_parameters():
            mean = 1.0 if ".ln_" in name and name.endswith("weight") else 0.0
            value.normal_(mean, 0.25)
    return model


def loss_of(model, tokens, labels):
    logits = model(tokens).logits
    loss = torch.nn.functional.cross_entropy(
        logits.view(-1, VOCABULARY), labels.reshape(-1), ignore_index=-100)
    return logits, loss


def rate_at(step):
    """engine/learning_rate.c: steps count from 0."""
    if step < WARMUP:
        return RATE * (step + 1) / WARMUP
    part = (step - WARMUP) / (STEPS - WARMUP)
    return FLOOR + 0.5 * (1 + math.cos(math.pi * part)) * (RATE - FLOOR)


def one_batch(model, golden):
    tokens = torch.randint(VOCABULARY, (BATCH, TIME))
    labels = torch.randint(VOCABULARY, (BATCH, TIME))
    labels[0, 3:5] = -100
    labels[1, 15:] = -100
    logits, loss = loss_of(model, tokens, labels)
    loss.backward()
    golden["tokens"] = tokens.int()
    golden["labels"] = labels.int()
    golden["logits"] = logits
    golden["loss"] = loss.view(1)
    for name, value in model.named_parameters():
        golden["gradient." + name] = value.grad.clone()


def train(model, row, golden):
    windows = torch.stack([row[i * TIME:i * TIME + TIME + 1]
                           for i in range(WINDOWS)])
    matrices = [p for p in model.parameters() if p.dim() > 1]
    vectors = [p for p in model.parameters() if p.dim() == 1]
    optimizer = torch.optim.AdamW(
        [{"params": matrices, "weight_decay": DECAY},
         {"params": vectors, "weight_decay": 0.0}],
        lr=RATE, betas=BETAS, eps=EPSILON)
    lines = []
    for step in range(STEPS):
        for group in optimizer.param_groups:
            group["lr"] = rate_at(step)
        optimizer.zero_grad()
        _, loss = loss_of(model, windows[:, :-1], windows[:, 1:])
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        optimizer.step()
        lines.append("%.10g %.10g %.10g\n"
                     % (loss.item(), norm.item(), rate_at(step)))
    with open(os.path.join(HERE, "steps.txt"), "w") as file:
        file.writelines(lines)
    for name, value in model.named_parameters():
        golden["after." + name] = value.detach().clone()


def single(value):
    value = value.detach().contiguous()
    return value.float() if value.is_floating_point() else value


def main():
    torch.manual_seed(20)
    model = make_model()
    model.config.to_json_file(os.path.join(HERE, "config.json"))
    weights = {name: single(value) for name, value in model.named_parameters()}
    save_file(weights, os.path.join(HERE, "model.safetensors"),
              metadata={"format": "pt"})
    row = torch.randint(VOCABULARY, (WINDOWS * TIME + 1,))
    with open(os.path.join(HERE, "tokens.bin"), "wb") as file:
        file.write(row.numpy().astype("<u2").tobytes())
    golden = {}
    model = model.double().eval()
    one_batch(model, golden)
    train(model, row, golden)
    save_file({name: single(value) for name, value in golden.items()},
              os.path.join(HERE, "golden.safetensors"))
    for name in "model.safetensors", "golden.safetensors":
        os.chmod(os.path.join(HERE, name), 0o644)


if __name__ == "__main__":
    torch.set_default_dtype(torch.float32)
    main()
