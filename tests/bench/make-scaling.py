#!/usr/bin/env python3
"""Makes the tables of docs/SCALING.md anew, by plan --suggest.

    make-scaling.py STAGECOACH docs/SCALING.md [--only NAME]

Between the lines <!-- table NAME --> and <!-- end --> of the document stands what
this writes there. Every line is what `plan --suggest --json` proposes first; it
is then planned once more by plain `plan` with the proposal's own options, and
must come to the same step and memory. Needs no package; takes some minutes.
"""
import argparse
import json
import re
import shlex
import subprocess
import sys

# A node: operations and bytes a second, memory for the ranks.
FLOPS, MEMORY_RATE, MEMORY, THREADS = 2e12, 200e9, "240G", 64
CONTEXT = 2048
MODELS = {  # layers, width, heads, sequences a step
    "1B": (24, 2048, 16, 512),
    "7B": (32, 4096, 32, 1024),
    "70B": (80, 8448, 64, 2048),
}
NODES = (8, 32, 128, 512, 1024)
NETWORKS = (10, 100, 400)


def shape(name):
    layers, width, heads, _ = MODELS[name]
    return ["--layers", str(layers), "--width", str(width), "--heads",
            str(heads), "--vocab-size", "50257", "--context", str(CONTEXT)]


def machine(ranks, network):
    """A rank's share of a node, for plan."""
    return ["--flops", f"{FLOPS / ranks:g}", "--memory-rate",
            f"{MEMORY_RATE / ranks:g}", "--network",
            f"{network * 1e9 / ranks:g}", "--threads", str(THREADS // ranks)]


def run(program, words):
    done = subprocess.run([program, "plan", *words, "--json"],
                          capture_output=True, text=True)
    if done.returncode:
        return None, done.stderr.strip()
    return json.loads(done.stdout), ""


def suggest(program, name, nodes, network, ranks):
    words = machine(1, network)
    words[-1] = str(THREADS // ranks)
    return run(program, [
        *shape(name), *words, "--suggest", "--hosts", str(nodes),
        "--host-ranks", str(ranks), "--memory", MEMORY, "--batch",
        str(MODELS[name][3]), "--best", "1"])


def check(program, name, network, ranks, best):
    """The same by plain plan: the simulator once more, from the command line."""
    words = shlex.split(best["command"])[2:]
    at = words.index("--stages")
    planned, error = run(program, [*shape(name), *words[at:],
                                   *machine(ranks, network)])
    if planned is None:
        sys.exit(f"{best['command']}: {error}")
    step, memory = planned["step"], planned["largest_bytes"]
    if abs(step / best["step"] - 1) > 1e-6 or memory != best["rank_bytes"]:
        sys.exit(f"{best['command']}: {best['step']} s and "
                 f"{best['rank_bytes']} bytes proposed, {step} s and {memory} "
                 "bytes planned")


def limit(best, ranks):
    """What there is least of: the greatest part beside compute, or memory."""
    parts = best["parts"]
    names = {"imbalance": "uneven layers", "bubble": "bubble",
             "links": "messages between stages", "replicas": "sums",
             "end": "optimizer"}
    name = max(names, key=lambda key: parts[key])
    words = f"{names[name]} {100 * parts[name] / best['step']:.1f} %"
    share = best["rank_bytes"] * ranks / (int(MEMORY[:-1]) * 2**30)
    return f"memory {100 * share:.0f} %, {words}" if share > 0.85 else words


def seconds(value):
    return f"{value:.0f} s" if value >= 100 else f"{value:.3g} s"


def row(best, found, nodes, network, ranks):
    parts = best["parts"]
    hidden = "-"
    if best["replicas"] > 1:
        share = 1 - min(parts["replicas"] / best["summing"], 1)
        hidden = f"{seconds(best['summing'])}, {100 * share:.0f} %"
    flags = "".join(
        word for key, word in (("recompute", ", recompute"),
                               ("shard_optimizer", ", sharded")) if best[key])
    return [str(nodes), str(network),
            f"{best['replicas']} x {best['stages']} x {best['chunks']} x "
            f"{best['slices']}",
            best["schedule"] + flags + ("" if found["complete"] else " *"),
            f"{best['micro_batches'] // best['replicas']} x "
            f"{best['micro_batch_size']}",
            seconds(best["step"]), f"{best['tokens_per_second']:,.0f}",
            f"{100 * parts['compute'] / best['step']:.1f}",
            f"{100 * max(parts['bubble'], 0) / best['step']:.1f}", hidden,
            f"{best['rank_bytes'] * ranks / 2**30:.0f}",
            limit(best, ranks)]


HEADS = ["nodes", "Gbit/s", "D x P x V x T", "schedule", "M/D x B", "step",
         "tokens/s", "compute %", "bubble %", "sums, hidden", "GiB a node",
         "what limits it"]


def table(program, name, ranks):
    lines = ["| " + " | ".join(HEADS) + " |", "|" + "---|" * len(HEADS)]
    parameters = 0
    for nodes in NODES:
        for network in NETWORKS:
            print(name, ranks, nodes, network, file=sys.stderr)
            found, error = suggest(program, name, nodes, network, ranks)
            if found is None:
                reason = re.sub(r"^error: ", "", error.splitlines()[-1])
                lines.append(f"| {nodes} | {network} | " + reason +
                             " |" * (len(HEADS) - 2))
                continue
            best = found["suggestions"][0]
            check(program, name, network, ranks, best)
            parameters = found["parameters"]
            lines.append("| " + " | ".join(
                row(best, found, nodes, network, ranks)) + " |")
    layers, width, heads, samples = MODELS[name]
    head = (f"{layers} layers, width {width:,}, {heads} heads: "
            f"{parameters / 1e9:.1f} billion parameters; "
            f"{samples:,} sequences of {CONTEXT:,} tokens a step"
            + (f"; {ranks} ranks a node" if ranks > 1 else "") + ".")
    return "\n".join([head, ""] + lines)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("program")
    parser.add_argument("document")
    parser.add_argument("--only")
    given = parser.parse_args()
    with open(given.document, encoding="utf-8") as file:
        text = file.read()
    for mark in re.findall(r"<!-- table (\S+) -->", text):
        if given.only and mark != given.only:
            continue
        name, _, ranks = mark.partition("/")
        made = table(given.program, name, int(ranks or 1))
        text = re.sub(
            rf"(<!-- table {re.escape(mark)} -->\n).*?(<!-- end -->)",
            lambda match: match[1] + made + "\n" + match[2], text,
            flags=re.S)
    with open(given.document, "w", encoding="utf-8") as file:
        file.write(text)


main()
