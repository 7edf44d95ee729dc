"""A plain PyTorch training step of GPT-2, to set `stagecoach bench step` beside.

    torch-gpt2.py [--batch B] [--context T] [--threads N] [--steps N]
                  [--dtype fp32|bf16] [--layers L] [--width C] [--heads H]
                  [--vocab-size V] [--compile]

Random weights and tokens, no dropout, tied head; forward, cross-entropy,
backward, the norm clipped to 1, AdamW. bf16 is torch.autocast, with fp32 weights. AdamW is
tried in each form that this torch has (a loop, foreach, fused), and the fastest
is used; attention is scaled_dot_product_attention where torch has it. Prints a
line of each step's seconds, and the tokens a second of the median. By hand:
it needs a Python with torch.
"""
import argparse
import math
import statistics
import time

import torch
from torch import nn
from torch.nn import functional


def options():
    parser = argparse.ArgumentParser()
    for name, value in (("batch", 4), ("context", 256), ("threads", 2),
                        ("steps", 3), ("layers", 12), ("width", 768),
                        ("heads", 12), ("vocab-size", 50257)):
        parser.add_argument("--" + name, type=int, default=value)
    parser.add_argument("--dtype", choices=("fp32", "bf16"), default="fp32")
    parser.add_argument("--compile", action="store_true")
    return parser.parse_args()


class Gelu(nn.Module):
    def forward(self, x):
        return functional.gelu(x, approximate="tanh")


class Attention(nn.Module):
    def __init__(self, width, heads, context):
        super().__init__()
        self.heads = heads
        self.c_attn = nn.Linear(width, 3 * width)
        self.c_proj = nn.Linear(width, width)
        self.register_buffer("seen", torch.tril(
            torch.ones(context, context, dtype=torch.bool)))

    def mix(self, q, k, v):
        if hasattr(functional, "scaled_dot_product_attention"):
            return functional.scaled_dot_product_attention(
                q, k, v, is_causal=True)
        scores = q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1])
        scores = scores.masked_fill(~self.seen, float("-inf"))
        return scores.softmax(-1) @ v

    def forward(self, x):
        batch, time, width = x.shape
        q, k, v = (part.view(batch, time, self.heads, -1).transpose(1, 2)
                   for part in self.c_attn(x).split(width, 2))
        mixed = self.mix(q, k, v).transpose(1, 2).reshape(batch, time, width)
        return self.c_proj(mixed)


class Block(nn.Module):
    def __init__(self, width, heads, context):
        super().__init__()
        self.ln_1 = nn.LayerNorm(width)
        self.attn = Attention(width, heads, context)
        self.ln_2 = nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), Gelu(),
                                 nn.Linear(4 * width, width))

    def forward(self, x):
        x = x + self.attn(self.ln_1(x))
        return x + self.mlp(self.ln_2(x))


class Gpt2(nn.Module):
    def __init__(self, asked):
        super().__init__()
        width, context = asked.width, asked.context
        self.wte = nn.Embedding(asked.vocab_size, width)
        self.wpe = nn.Embedding(context, width)
        self.blocks = nn.Sequential(*(Block(width, asked.heads, context)
                                      for _ in range(asked.layers)))
        self.ln_f = nn.LayerNorm(width)
        for weight in self.parameters():
            if weight.dim() > 1:
                nn.init.normal_(weight, std=0.02)

    def forward(self, tokens, labels):
        x = self.wte(tokens) + self.wpe.weight[:tokens.shape[1]]
        logits = functional.linear(self.ln_f(self.blocks(x)), self.wte.weight)
        return functional.cross_entropy(logits.flatten(0, 1), labels.flatten())


def optimizers(model):
    """AdamW in each form that this torch can do on this processor."""
    for form in ({"foreach": False}, {"foreach": True}, {"fused": True}):
        try:
            made = torch.optim.AdamW(model.parameters(), lr=1e-4,
                                     weight_decay=0.1, **form)
            begin = time.perf_counter()
            made.step()
            begin = time.perf_counter()
            made.step()
            yield time.perf_counter() - begin, next(iter(form.items())), made
        except (RuntimeError, TypeError, ValueError):
            continue
        made.state.clear()


def fastest_optimizer(model):
    for weight in model.parameters():
        weight.grad = torch.zeros_like(weight)
    seconds, form, made = min(optimizers(model), key=lambda one: one[0])
    print("AdamW %s=%s: %.1f ms" % (*form, 1e3 * seconds))
    return made


def main():
    asked = options()
    torch.manual_seed(1)
    torch.set_num_threads(asked.threads)
    model = Gpt2(asked)
    optimizer = fastest_optimizer(model)
    run = torch.compile(model) if asked.compile else model
    tokens, labels = torch.randint(asked.vocab_size,
                                   (2, asked.batch, asked.context))
    seconds = []
    for _ in range(1 + asked.steps):
        begin = time.perf_counter()
        with torch.autocast("cpu", torch.bfloat16,
                            enabled=asked.dtype == "bf16"):
            loss = run(tokens, labels)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        seconds.append(time.perf_counter() - begin)
    median = statistics.median(seconds[1:])  # the first one warms up
    print("steps: %s s" % " ".join("%.3f" % one for one in seconds))
    print("torch %s, %s, %d x %d tokens, %d threads: %.0f tokens/s" % (
        torch.__version__, asked.dtype, asked.batch, asked.context,
        asked.threads, asked.batch * asked.context / median))


main()
