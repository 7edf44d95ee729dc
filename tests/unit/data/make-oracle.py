#!/usr/bin/env python3
"""Makes the expected token ids in this folder with Hugging Face tokenizers.

    python3 -m venv /tmp/hf && /tmp/hf/bin/pip install tokenizers
    /tmp/hf/bin/python make-oracle.py

Writes text.txt (what the tokenizers are trained on), three tokenizer.json
files of the kinds in use (gpt2: ByteLevel with its own expression; llama3:
Split and ByteLevel, ignore_merges, template; qwen: the same with NFC), the
merges of two trainings, and cases.json: texts (hexadecimal UTF-8) and their
ids without and with special tokens recognised, and with the template.
Made with tokenizers 0.23.3.
"""

import json
import os
import unicodedata

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models
from tokenizers import normalizers, pre_tokenizers, processors, trainers

HERE = os.path.dirname(os.path.abspath(__file__))
END = "<|endoftext|>"
LLAMA3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
          r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
QWEN = LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")

TORTURE = [
    "", " ", "a", "Hello, world!", "  leading and trailing  ",
    "I'm sure they'll say it's what we've done; you'd, don't, 'S 'T 'Re",
    "CRLF\r\nlines\r\n\r\nand\rold\nones\n\n\n", "\ttabs\t\tand  spaces   \t x",
    "x = y+1;  // comment\n    return (x<<2) != 0x1F;\n",
    "1234567890 12 3 4567 1.5e-10 ½ ² Ⅷ ٣٤٥ １２３ ৪২",
    "\u180e\u0085\u00a0\u3000 \u2028\u2029\u200b\u200d\u1680x \u00a0 y",
    "a\u180eb \u180e c", "\x01\x02\x1b[0m\x7f\x00zero\x0b\x0c",
    "Français: l'été, où çà? naïve cœur", "Ελληνικά Русский Українська",
    "中文字符没有空格。日本語のテキスト、カタカナ", "한국어 조합형 \u1112\u1161\u11ab\u1100\u1173\u11af",
    "العربية مَرْحَبًا עברית שָׁלוֹם", "हिन्दी में क्षत्रिय தமிழ் ไทยไม่มีเว้นวรรค",
    "👩‍👩‍👧‍👦 👍🏽 🇩🇪 ❤️ 🏴\U000e0067\U000e0062\U000e007f", "e\u0301 o\u0308\u0323 \u0323\u0308o a\u0315\u0300\u05ae\u0300b",
    "\u212b \u00c5 A\u030a \u2126 \u1e9b\u0323 \ufb01 \u0344 \u0958 \u09c7\u09be \uac00\u11a8",
    unicodedata.normalize("NFD", "Việt Nam đẹp lắm, ñandú Ångström"),
    "\U0001d11e\U00020000\U0010fffd\ufffd\ufeff", "𝔘𝔫𝔦𝔠𝔬𝔡𝔢 ℵ∞≠≈",
    "a" * 300, " " * 200 + "x", "\n" * 150, "ab" * 200, "=" * 99 + "\r\n",
    "<|endoftext|>", "one<|endoftext|>two <|endoftext|> three",
    "<|endoftext", "<|<|endoftext|>|>", "  <mask>  after <mask>x",
    "tail <r>   \n next<r>", "wordy wordyx xwordy (wordy) wordy",
    "Zu\u0308rich Z\u00fcrich xZ\u00fcrichx", "\t<mask>\n<r> <mask>",
]


def text():
    """Pseudo-words by a small generator: the same on every machine."""
    state = 12345

    def draw(n):
        nonlocal state
        state = (state * 1103515245 + 12345) % (1 << 31)
        return (state >> 12) % n

    parts = ["an", "be", "cor", "du", "el", "fi", "gan", "ho", "in", "ja",
             "ke", "lo", "mi", "no", "or", "pa", "qui", "re", "sta", "ti",
             "un", "ve", "wo", "xi", "yo", "zu", "é", "ß", "да", "中", "語"]
    words = ["".join(parts[draw(1 + draw(len(parts)))]
                     for _ in range(1 + draw(4))) for _ in range(700)]
    out = []
    for i in range(3500):
        out.append(words[draw(1 + draw(len(words)))])
        out.append([" ", " ", " ", " ", ", ", ". ", "\n", " 12", "  ", "'s "]
                   [draw(10)])
    out.append("\n" + "\n".join(TORTURE[3:20]) + "\n")
    return "".join(out).replace("\0", "")  # prepare refuses zero bytes


def train(vocab_size, minimum, pre, corpus):
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator([corpus], trainers.BpeTrainer(
        vocab_size=vocab_size, min_frequency=minimum, show_progress=False,
        special_tokens=[END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
    return tokenizer


def split(pattern):
    return pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(pattern), "isolated", invert=False),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])


def extra(tokenizer):
    tokenizer.add_special_tokens([AddedToken("<mask>", lstrip=True)])
    tokenizer.add_tokens([
        AddedToken("<r>", rstrip=True, normalized=False),
        AddedToken("wordy", single_word=True, normalized=False),
        AddedToken("Z\u00fcrich", normalized=True)])


def save(tokenizer, name, **changes):
    path = os.path.join(HERE, name + ".json")
    tokenizer.save(path)
    if changes:
        with open(path) as file:
            data = json.load(file)
        data["model"].update(changes)
        if "merges" in changes:
            data["model"]["merges"] = changes["merges"]
        with open(path, "w") as file:
            json.dump(data, file, ensure_ascii=False)
    return Tokenizer.from_file(path)


def main():
    corpus = text()
    with open(os.path.join(HERE, "text.txt"), "w", newline="") as file:
        file.write(corpus)
    level = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trained = {}
    for minimum in (0, 2):
        tokenizer = train(1500, minimum, level, corpus)
        model = json.loads(tokenizer.to_str())["model"]
        trained[str(minimum)] = {
            "vocab_size": len(model["vocab"]),
            "merges": [" ".join(m) for m in model["merges"]]}
    gpt2 = train(600, 0, level, corpus)
    extra(gpt2)
    legacy = [" ".join(m)
              for m in json.loads(gpt2.to_str())["model"]["merges"]]
    gpt2 = save(gpt2, "gpt2", merges=legacy)
    llama3 = train(600, 0, split(LLAMA3), corpus)
    extra(llama3)
    llama3.post_processor = processors.Sequence([
        processors.ByteLevel(trim_offsets=False),
        processors.TemplateProcessing(single=END + " $A " + END,
                                      special_tokens=[(END, 0)])])
    # Tokens no merge makes: ignore_merges finds them all the same.
    model = json.loads(llama3.to_str())["model"]
    vocab = model["vocab"]
    merges = [m for i, m in enumerate(model["merges"]) if i % 7 != 3]
    llama3 = save(llama3, "llama3", ignore_merges=True, merges=merges,
                  vocab=vocab)
    qwen = train(600, 0, split(QWEN), unicodedata.normalize("NFC", corpus))
    qwen.normalizer = normalizers.NFC()
    extra(qwen)
    qwen = save(qwen, "qwen")
    cases = {}
    for name, tokenizer in (("gpt2", gpt2), ("llama3", llama3),
                            ("qwen", qwen)):
        rows = []
        for case in TORTURE + [corpus[:3000]]:
            row = {"hex": case.encode().hex()}
            tokenizer.encode_special_tokens = True
            row["plain"] = tokenizer.encode(
                case, add_special_tokens=False).ids
            tokenizer.encode_special_tokens = False
            row["special"] = tokenizer.encode(
                case, add_special_tokens=False).ids
            row["template"] = tokenizer.encode(case).ids
            # The library reads an added token's u-umlaut as byte 0xFC of its
            # alphabet and decodes it to U+FFFD; ours stays what it is.
            if "rich" not in case:
                row["decoded"] = tokenizer.decode(
                    row["special"], skip_special_tokens=False).encode().hex()
            rows.append(row)
        cases[name] = rows
    with open(os.path.join(HERE, "cases.json"), "w") as file:
        json.dump({"trained": trained, "cases": cases}, file)


main()
