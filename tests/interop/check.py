"""Models from Stagecoach to transformers and back; run by run.sh.

    check.py STAGECOACH SCRATCH      SCRATCH holds a file `text`

Prints TAP. Losses are to agree to 1e-5, relatively; greedy tokens and what is
only copied, to the last bit.
"""
import json
import logging
import os
import shutil
import subprocess
import sys
import warnings

import numpy
import tokenizers
import torch
import transformers
from transformers import (AutoModelForCausalLM, AutoTokenizer, GPT2Config,
                          GPT2LMHeadModel, LlamaConfig, MistralConfig,
                          Qwen2Config, Qwen3Config)

STAGECOACH, SCRATCH = os.path.abspath(sys.argv[1]), sys.argv[2]
TOLERANCE = 1e-5
PROMPT = "/*\n * The number of"
CONFIGURATION = ("model_type", "vocab_size", "n_positions", "n_embd",
                 "n_layer", "n_head", "n_inner", "activation_function",
                 "layer_norm_epsilon", "tie_word_embeddings", "bos_token_id",
                 "eos_token_id")
LLAMA_CONFIGURATION = (
    "model_type", "vocab_size", "hidden_size", "intermediate_size",
    "num_hidden_layers", "num_attention_heads", "num_key_value_heads",
    "max_position_embeddings", "rms_norm_eps", "tie_word_embeddings",
    "rope_parameters", "sliding_window", "layer_types", "attention_bias",
    "mlp_bias", "bos_token_id", "eos_token_id")
cases = failures = 0


def path(*names):
    return os.path.join(SCRATCH, *names)


def report(good, name, detail=""):
    global cases, failures
    cases += 1
    failures += not good
    print("%sok %d - %s" % ("" if good else "not ", cases, name))
    for line in str(detail).splitlines():
        print("# " + line)
    sys.stdout.flush()


def stagecoach(*arguments, wanted=0):
    done = subprocess.run([STAGECOACH, *map(str, arguments)],
                          capture_output=True)
    if done.returncode != wanted:
        raise RuntimeError("stagecoach %s: exit %d\n%s" % (
            " ".join(map(str, arguments)), done.returncode,
            done.stderr.decode(errors="replace")))
    return done


class Records(logging.Handler):
    """What transformers logs, from warnings upwards."""

    def __init__(self):
        super().__init__(logging.WARNING)
        self.lines = []

    def emit(self, record):
        self.lines.append(record.getMessage())


def loud(function):
    """function(), and what transformers had to say about it."""
    records = Records()
    logger = logging.getLogger("transformers")
    logger.addHandler(records)
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            value = function()
    finally:
        logger.removeHandler(records)
    # Python's own warnings are about versions of libraries, not about files.
    for warning in caught:
        if issubclass(warning.category, UserWarning):
            records.lines.append(str(warning.message))
    return value, records.lines


def load(folder):
    """The model in float32, and everything that is not as it should be."""
    (model, info), lines = loud(lambda: AutoModelForCausalLM.from_pretrained(
        folder, output_loading_info=True))
    complaints = ["%s: %s" % (key, value) for key, value in info.items()
                  if value]
    return model.float().eval(), complaints + lines


def shard(file):
    """The tokens of a prepared shard: 256 int32 of header, then uint16."""
    header = numpy.fromfile(file, "<i4", 3)
    assert header[0] == 20240520, "a shard of another format"
    return numpy.fromfile(file, "<u2", offset=1024).astype(numpy.int64)


def loss_of(model, tokens, context):
    """Mean over windows of context + 1 tokens, the last of one being the
    first of the next, as `eval` has them."""
    windows = (len(tokens) - 1) // context
    total = 0.0
    for i in range(windows):
        row = torch.from_numpy(tokens[i * context:(i + 1) * context + 1])
        with torch.no_grad():
            logits = model(row[None, :-1]).logits[0]
        total += torch.nn.functional.cross_entropy(
            logits.double(), row[1:], reduction="sum").item()
    return total / (windows * context), windows * context


def positions(model):
    return getattr(model.config, "n_positions", None) or \
        model.config.max_position_embeddings


def compare_loss(name, folder, model, *arguments):
    context = positions(model)
    theirs, count = loss_of(model, shard(path("data", "val_000000.bin")),
                            context)
    ours = json.loads(stagecoach(
        "eval", "--model", folder, "--data", path("data"), "--json",
        "--context", context, *arguments).stdout)
    off = abs(ours["loss"] / theirs - 1)
    report(off < TOLERANCE and ours["tokens"] == count,
           "%s: the loss of eval" % name,
           "stagecoach %.9g over %d tokens, transformers %.9g over %d: off by %.1e"
           % (ours["loss"], ours["tokens"], theirs, count, off))


def compare_greedy(name, folder, model, *arguments):
    tokenizer = AutoTokenizer.from_pretrained(folder)
    ids = tokenizer(PROMPT, return_tensors="pt").input_ids
    count = positions(model) - ids.shape[1]
    out = model.generate(ids, attention_mask=torch.ones_like(ids),
                         do_sample=False, max_new_tokens=count,
                         pad_token_id=tokenizer.eos_token_id or 0)
    theirs = tokenizer.decode(out[0], skip_special_tokens=True,
                              clean_up_tokenization_spaces=False)
    ours = stagecoach("generate", "--model", folder, "--prompt", PROMPT,
                      "--tokens", count, "--temperature", 0,
                      *arguments).stdout.decode(errors="replace")
    report(ours == theirs + "\n",
           "%s: %d greedy tokens%s" % (
               name, out.shape[1] - ids.shape[1],
               ", then the end" if out[0, -1] == tokenizer.eos_token_id
               else ""),
           "" if ours == theirs + "\n" else "stagecoach   %r\ntransformers %r"
           % (ours, theirs + "\n"))


# ---- from Stagecoach to transformers ----

def check_tokenizer(folder):
    """Text through AutoTokenizer and through `prepare`."""
    tokenizer, lines = loud(lambda: AutoTokenizer.from_pretrained(folder))
    report(not lines, "the tokenizer loads without a warning",
           "\n".join(lines))
    text = ("Naïve façade, 'tis I'll  \t two\n\n\n  spaces 12345 — 東京 🙂 \n"
            + open(path("text")).read()[:20000])
    with open(path("sample"), "w", newline="") as file:
        file.write(text)
    stagecoach("prepare", "--text", path("sample"), "--out", path("sampled"),
               "--tokenizer", os.path.join(folder, "tokenizer.json"), "--val",
               0)
    ours = shard(path("sampled", "train_000000.bin")).tolist()
    theirs = tokenizer(text).input_ids
    end = tokenizer.convert_tokens_to_ids("<|endoftext|>")
    report([i for i in ours if i != end] == theirs,
           "the tokenizer gives the same %d tokens" % len(theirs))
    report(tokenizer.decode(theirs, clean_up_tokenization_spaces=False) ==
           text, "the tokenizer gives the text back")


def check_run():
    stagecoach("prepare", "--text", path("text"), "--out", path("data"),
               "--tokenizer", "bpe:300", "--val", 0.1)
    stagecoach("train", "--data", path("data"), "--out", path("run"),
               "--layers", 3, "--width", 36, "--heads", 3, "--context", 29,
               "--micro-batches", 3, "--micro-batch-size", 5, "--steps", 60,
               "--checkpoint-every", 20, "--keep-checkpoints", 9, "--lr",
               0.01, "--eval-samples", 0, "--stages", 2)
    folders = [path("run", "checkpoints", name) for name in
               sorted(os.listdir(path("run", "checkpoints")))
               if name.startswith("step-")]
    report(len(folders) == 3, "three checkpoints were kept", folders)
    losses = set()
    for folder in [path("run", "model")] + folders:
        name = os.path.relpath(folder, path("run"))
        model, complaints = load(folder)
        report(not complaints, "%s loads without a complaint" % name,
               "\n".join(complaints))
        compare_loss(name, folder, model)
        compare_loss(name + ", 3 stages", folder, model, "--stages", 3)
        losses.add(loss_of(model, shard(path("data", "val_000000.bin")),
                           29)[0])
    report(len(losses) == 3, "checkpoints differ, the last is the model")
    model, _ = load(path("run", "model"))
    compare_greedy("model", path("run", "model"), model)
    check_tokenizer(path("run", "model"))


# ---- from transformers to Stagecoach ----

def random_model(**settings):
    """Sizes that are multiples of nothing, biases that are not zero."""
    torch.manual_seed(5)
    tokenizer = tokenizers.Tokenizer.from_file(path("data", "tokenizer.json"))
    end = tokenizer.token_to_id("<|endoftext|>")
    settings = {"n_positions": 41, "n_embd": 35, "n_head": 5, "n_layer": 3,
                "n_inner": 77, **settings}
    model = GPT2LMHeadModel(GPT2Config(
        vocab_size=tokenizer.get_vocab_size(), bos_token_id=end,
        eos_token_id=end, **settings))
    with torch.no_grad():
        for name, value in model.named_parameters():
            norm = ".ln_" in name and name.endswith("weight")
            value.normal_(1.0 if norm else 0.0, 0.2)
    return model.eval()


def random_relative(kind, **settings):
    """The same of the Llama family."""
    torch.manual_seed(6)
    tokenizer = tokenizers.Tokenizer.from_file(path("data", "tokenizer.json"))
    end = tokenizer.token_to_id("<|endoftext|>")
    settings = {"max_position_embeddings": 41, "hidden_size": 36,
                "num_attention_heads": 6, "num_key_value_heads": 2,
                "head_dim": 10, "num_hidden_layers": 3,
                "intermediate_size": 77, **settings}
    model = AutoModelForCausalLM.from_config(kind(
        vocab_size=tokenizer.get_vocab_size(), bos_token_id=end,
        eos_token_id=end, **settings))
    with torch.no_grad():
        for name, value in model.named_parameters():
            norm = "norm" in name and name.endswith("weight")
            value.normal_(1.0 if norm else 0.0, 0.2)
    return model.eval()


def configuration(model):
    return CONFIGURATION if model.config.model_type == "gpt2" \
        else LLAMA_CONFIGURATION


def setting(model, key):
    value = getattr(model.config, key, None)
    if key == "rope_parameters":  # of two spellings of the kind, one counts
        value = {k: v for k, v in value.items() if k != "type"}
    # Nothing said of the inner width means four times the width.
    if key == "n_inner" and value is None:
        value = 4 * model.config.n_embd
    return value


def check_round_trip(name, folder, model):
    """A step at rate 0 moves nothing: what comes out is what went in."""
    out = folder + "-trained"
    stagecoach("train", "--model", folder, "--data", path("data"), "--out",
               out, "--context", 17, "--micro-batches", 2, "--steps", 1,
               "--lr", 0, "--dropout", 0, "--eval-samples", 0, "--stages", 3)
    trained, complaints = load(os.path.join(out, "model"))
    before, after = model.state_dict(), trained.state_dict()
    wrong = [key for key in set(before) | set(after)
             if key not in before or key not in after or
             not torch.equal(before[key].float(), after[key].float())]
    wrong += [key for key in configuration(model)
              if setting(model, key) != setting(trained, key)]
    report(not wrong and not complaints,
           "%s: through train and back, every weight to the bit" % name,
           "\n".join(complaints + wrong))


def check_saved(name, model, save=None, **how):
    folder = path(name.replace(" ", "-"))
    (save or model).save_pretrained(folder, **how)
    shutil.copy(path("data", "tokenizer.json"), folder)
    loaded, _ = load(folder)
    compare_loss(name, folder, loaded, "--stages", 2)
    compare_greedy(name, folder, loaded, "--stages", 2)
    check_round_trip(name, folder, loaded)
    return folder


def check_loading():
    check_saved("saved by transformers", random_model())
    folder = check_saved("saved in shards", random_model(),
                         max_shard_size="40KB")
    report(len([f for f in os.listdir(folder)
                if f.endswith(".safetensors")]) > 1, "there were shards")
    model = random_model()
    check_saved("saved without the head", model, model.transformer)
    check_saved("saved in bf16", random_model().bfloat16())
    check_saved("saved in f16", random_model().half())
    check_saved("untied", random_model(tie_word_embeddings=False))
    check_saved("of one head", random_model(n_head=1, n_inner=None))


def check_relatives():
    linear = {"rope_type": "linear", "factor": 2.0}
    llama3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0,
              "high_freq_factor": 4.0, "original_max_position_embeddings": 20}
    yarn = {"rope_type": "yarn", "factor": 2.0,
            "original_max_position_embeddings": 20}
    for name, kind, settings in (
            ("llama", LlamaConfig, {}),
            ("llama with biases", LlamaConfig, {
                "attention_bias": True, "mlp_bias": True,
                "rope_scaling": linear}),
            ("llama 3", LlamaConfig, {"tie_word_embeddings": True,
                                      "rope_scaling": llama3,
                                      "rope_theta": 5e5}),
            ("llama with yarn", LlamaConfig, {"rope_scaling": yarn}),
            ("mistral", MistralConfig, {"sliding_window": 7}),
            ("mistral without a window", MistralConfig,
             {"sliding_window": None}),
            ("qwen2", Qwen2Config, {"tie_word_embeddings": True,
                                    "rope_theta": 1e6}),
            ("qwen2 with windows", Qwen2Config, {
                "use_sliding_window": True, "sliding_window": 7,
                "max_window_layers": 2}),
            ("qwen3", Qwen3Config, {"tie_word_embeddings": True}),
            ("qwen3 with biases", Qwen3Config, {"attention_bias": True})):
        check_saved(name, random_relative(kind, **settings))
    check_saved("qwen3 in bf16, in shards",
                random_relative(Qwen3Config).bfloat16(), max_shard_size="40KB")


def check_refusals():
    """What would be computed otherwise than transformers does."""
    for settings, word in (
            ({"activation_function": "relu"}, "activation_function"),
            ({"scale_attn_by_inverse_layer_idx": True},
             "scale_attn_by_inverse_layer_idx"),
            ({"scale_attn_weights": False}, "scale_attn_weights")):
        folder = path("refused-" + word)
        random_model(**settings).save_pretrained(folder)
        said = stagecoach("eval", "--model", folder, "--data", path("data"),
                          wanted=2).stderr.decode()
        report(word in said, "%s is refused by name" % word, said)
    folder = path("pickled")
    model = random_model()
    model.save_pretrained(folder)
    os.remove(os.path.join(folder, "model.safetensors"))
    torch.save(model.state_dict(), os.path.join(folder, "pytorch_model.bin"))
    said = stagecoach("eval", "--model", folder, "--data", path("data"),
                      wanted=1).stderr.decode()
    report("pytorch_model.bin" in said, "a pickled model is refused by name",
           said)


def main():
    transformers.logging.disable_progress_bar()
    print("# torch %s, transformers %s" % (torch.__version__,
                                           transformers.__version__))
    for part in check_run, check_loading, check_relatives, check_refusals:
        try:
            part()
        except Exception as error:  # the next parts may still be told
            report(False, part.__name__, "%s: %s" % (type(error).__name__,
                                                     error))
    print("1..%d" % cases)
    return failures > 0


if __name__ == "__main__":
    sys.exit(main())
