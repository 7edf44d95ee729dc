#!/usr/bin/env python3
"""Makes the files of this folder: what transformers says about texts and
multiple choice, for tests/eval/test-eval.sh.

Run by hand, only when the golden data are to change (a virtual environment
with torch, transformers and tokenizers):

    python3 tests/eval/make-golden.py

MODEL/               gpt2 (byte-level BPE) and llama (Metaspace, byte
                     fallback, a BOS template): random weights, as
                     save_pretrained() leaves them, and tokenizer.json
text.txt, choices.jsonl
golden-texts.txt     MODEL WINDOWS CONTEXT STRIDE LOSS TOKENS BYTES, a line a case
golden-choices.txt   MODEL DELIMITER BOS LINE ANSWER CHOICE CHOICE_NORM and the
                     log-likelihoods, a line a question; "none" and "space"

Losses are computed in double precision, each token by a call of its own, by
the definitions of lm-evaluation-harness (rolling windows, multiple choice) and
of "Perplexity of fixed-length models" in transformers' documentation (sliding
windows), but that here each token counts once: there the mean of a window
counts as if it were one token fewer.
"""
import json
import math
import os
import random

import torch
from tokenizers import Tokenizer, decoders, models, normalizers
from tokenizers import pre_tokenizers, processors, trainers
from transformers import GPT2Config, LlamaConfig, AutoModelForCausalLM

HERE = os.path.dirname(os.path.abspath(__file__))
CONTEXT = 48

TEXT = """The pipeline has stages; each stage has layers. A stage that waits is
a bubble, and a bubble is time: nobody gets it back.

\tOne forward, one backward -- \u201cin steady state\u201d \u2014 and the schedule is known as
1F1B. Caf\u00e9, na\u00efve, \u65e5\u672c\u8a9e, \U0001f600 and 3.14159 are here for the tokenizer's sake.

  Twice   the   spaces,    twice the fun. <s> is not the beginning, and
</s> not the end; <|endoftext|> may be one.
"""

QUESTIONS = [
    ("The capital of France is", [" Paris", " London", " Rome", " Berlin"], 0),
    # The boundary: spaces at the end go over to the choice.
    ("The capital of France is ", ["Paris", "London", "Rome", "a city"], 3),
    ("Two spaces \t ", ["stay", "leave", "merge"], "merge"),
    ("A no-break space\u00a0", ["one", "two"], "B"),
    ("An ideographic one\u3000\u2003", ["eins", "zwei"], 0),
    # Tokens of prompt and choice together are others than of each.
    ("under", ["stand", "go", "take the bubbles"], 1),
    ("1234", ["5", "56", "567", "5678"], 2),
    # Lengths that differ much, and one by characters of several bytes.
    ("Which is longest?", [" a", " a stage that waits is a bubble",
                           " \u65e5\u672c\u8a9e", " \U0001f600"], 1),
    # No prompt: from the begin token.
    ("", ["Once", "Twice", "Thrice"], 0),
    ("  \n", ["Once", "Twice"], 1),
    # Equal choices: the first one.
    ("Either", [" way", " way", " way"], 2),
    # Longer than the positions.
    ("Long: " + "a bubble is time and " * 12, ["lost", "gained", "a"], 0),
    ("x" * 200, ["y", "zz"], 1),
    ("special <|endoftext|> and <s>", [" inside", " outside"], 0),
]


def train(name):
    """Tokens of the text itself, so that they are of several letters."""
    if name == "gpt2":
        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(
            add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=330, show_progress=False,
            special_tokens=["<|endoftext|>"],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
        tokenizer.train_from_iterator([TEXT], trainer)
        return tokenizer
    tokenizer = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>",
                                     fuse_unk=True))
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")])
    trainer = trainers.BpeTrainer(
        vocab_size=340, show_progress=False,
        special_tokens=["<unk>", "<s>", "</s>"] +
        ["<0x%02X>" % i for i in range(256)],
        limit_alphabet=30)
    tokenizer.train_from_iterator([TEXT], trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", 1)])
    tokenizer.decoder = decoders.Sequence([
        decoders.Replace("\u2581", " "), decoders.ByteFallback(),
        decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    # The bytes are tokens of the model, not added ones.
    data = json.loads(tokenizer.to_str())
    data["added_tokens"] = data["added_tokens"][:3]
    return Tokenizer.from_str(json.dumps(data))


def build(name, tokenizer):
    torch.manual_seed(7 if name == "gpt2" else 8)
    size = tokenizer.get_vocab_size()
    if name == "gpt2":
        config = GPT2Config(vocab_size=size, n_positions=CONTEXT, n_embd=24,
                            n_layer=3, n_head=3, bos_token_id=0,
                            eos_token_id=0)
    else:
        config = LlamaConfig(vocab_size=size, hidden_size=24,
                             intermediate_size=40, num_hidden_layers=3,
                             num_attention_heads=4, num_key_value_heads=2,
                             max_position_embeddings=CONTEXT, bos_token_id=1,
                             eos_token_id=2)
    config._attn_implementation = "eager"
    model = AutoModelForCausalLM.from_config(config)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.normal_(0, 0.25)
    folder = os.path.join(HERE, name)
    model.save_pretrained(folder)
    os.remove(os.path.join(folder, "generation_config.json"))
    tokenizer.save(os.path.join(folder, "tokenizer.json"))
    return model.double().eval()


def log_likelihoods(model, given, scored):
    """Of each of `scored`, which stand behind `given`."""
    tokens = torch.tensor([(given + scored)[:-1]])
    assert tokens.shape[1] <= CONTEXT
    logits = model(tokens).logits[0].log_softmax(-1)
    first = len(given) - 1
    return [logits[first + i, token].item()
            for i, token in enumerate(scored)]


def rolling(tokens, begin, context, stride):
    """lm_eval.utils.get_rolling_token_windows, context_len = T - stride + 1."""
    first = min(context, len(tokens))
    yield [begin], tokens[:first]
    done = first
    while done < len(tokens):
        count = min(len(tokens) - done, stride)
        end = done + count
        whole = ([begin] + tokens)[end - context:end + 1]
        yield whole[:-count], whole[-count:]
        done = end


def sliding(tokens, context, stride):
    """The loop of transformers' documentation."""
    previous = 0
    for begin in range(0, len(tokens), stride):
        end = min(begin + context, len(tokens))
        window, targets = tokens[begin:end], end - previous
        # Labels shift by one: a window's first token is never scored.
        scored = min(targets, len(window) - 1)
        if scored:
            yield window[:len(window) - scored], window[len(window) - scored:]
        previous = end
        if end == len(tokens):
            break


def texts(name, model, tokenizer, out):
    begin = model.config.bos_token_id
    bytes_ = len(TEXT.encode())
    for windows, context, stride in [
            ("rolling", 48, 48), ("rolling", 48, 13), ("rolling", 31, 1),
            ("rolling", 17, 16), ("sliding", 48, 24), ("sliding", 48, 48),
            ("sliding", 33, 32), ("sliding", 20, 7)]:
        if windows == "rolling":
            tokens = tokenizer.encode(TEXT, add_special_tokens=False).ids
            pairs = list(rolling(tokens, begin, context, stride))
            assert sum(len(s) for g, s in pairs) == len(tokens)
        else:
            tokens = tokenizer.encode(TEXT).ids
            pairs = list(sliding(tokens, context, stride))
        values = [v for g, s in pairs for v in log_likelihoods(model, g, s)]
        out.write("%s %s %d %d %.12g %d %d\n" % (
            name, windows, context, stride, -sum(values) / len(values),
            len(values), bytes_))


def encode_pair(tokenizer, prompt, choice):
    """lm_eval.api.model.TemplateLM._encode_pair."""
    spaces = len(prompt) - len(prompt.rstrip())
    if spaces:
        choice = prompt[-spaces:] + choice
        prompt = prompt[:-spaces]
    encode = lambda text: tokenizer.encode(text, add_special_tokens=False).ids
    given = encode(prompt)
    return given, encode(prompt + choice)[len(given):]


def choices(name, model, tokenizer, out):
    begin = model.config.bos_token_id
    for delimiter, word in [("", "none"), (" ", "space")]:
        for bos in [0, 1]:
            for line, (prompt, options, answer) in enumerate(QUESTIONS, 1):
                if isinstance(answer, str):
                    answer = (options.index(answer) if answer in options
                              else ord(answer) - ord("A"))
                sums = []
                for option in options:
                    given, scored = encode_pair(tokenizer, prompt,
                                                delimiter + option)
                    if bos or not prompt.rstrip():
                        given = [begin] + given
                    given = (given + scored)[-(CONTEXT + 1):][:-len(scored)]
                    sums.append(sum(log_likelihoods(model, given, scored)))
                norms = [v / len(o.encode()) for v, o in zip(sums, options)]
                # Equal choices have equal values: the first counts.
                out.write("%s %s %d %d %d %d %d %s\n" % (
                    name, word, bos, line, answer, sums.index(max(sums)),
                    norms.index(max(norms)),
                    " ".join("%.12g" % v for v in sums)))


def main():
    torch.set_grad_enabled(False)
    with open(os.path.join(HERE, "text.txt"), "w", newline="") as out:
        out.write(TEXT)
    with open(os.path.join(HERE, "choices.jsonl"), "w") as out:
        for prompt, options, answer in QUESTIONS:
            out.write(json.dumps({"prompt": prompt, "choices": options,
                                  "answer": answer}) + "\n")
    with open(os.path.join(HERE, "golden-texts.txt"), "w") as text_out, \
            open(os.path.join(HERE, "golden-choices.txt"), "w") as choice_out:
        for name in ["gpt2", "llama"]:
            tokenizer = train(name)
            model = build(name, tokenizer)
            texts(name, model, tokenizer, text_out)
            choices(name, model, tokenizer, choice_out)


main()
