"""Our schedules against those of torch.distributed.pipelining, action by action.

    compare-with-torch.py STAGECOACH [--ranks P] [--micro-batches M]
                          [--chunks V] [--step N]

For all sizes up to those given (every N-th, 16, 64 and 4 by default) and every
schedule both have: the compute actions are equal; so are the lowered rows, but
for where a receive stands before its use (their order on each link is compared)
and REDUCE_GRAD; sizes that PyTorch refuses are refused here; what PyTorch dumps
is valid here, and what this program writes PyTorch finds valid. By hand: it
needs a Python with torch, and takes minutes. Prints TAP.
"""
import argparse
import csv
import logging
import os
import subprocess
import sys
import tempfile
import types

import torch
from torch.distributed.pipelining import schedules

logging.disable(logging.WARNING)
COMPUTE = {"F", "I", "W", "B", "OVERLAP_F_B"}
RECEIVES = {"RECV_F", "RECV_B"}
# Not kept here, and what has a freedom of place.
DROPPED = {"UNSHARD", "RESHARD", "WAIT_SEND_F", "WAIT_SEND_B",
           "WAIT_REDUCE_GRAD", "REDUCE_GRAD"} | RECEIVES


def stages_of(ranks, chunks, v):
    """What the schedules ask of their stages; those of rank 0."""
    indices = [0, 2 * ranks - 1] if v else range(0, ranks * chunks, ranks)
    return [types.SimpleNamespace(
        num_stages=ranks * chunks, group_size=ranks, group_rank=0,
        stage_index=index, is_first=index == 0,
        is_last=index == ranks * chunks - 1, submod=torch.nn.Module(),
        has_backward=True, device=torch.device("cpu"))
            for index in indices]


def single(kind, ranks, micro_batches):
    """These have no order to run by, but can tell it."""
    schedule = kind.__new__(kind)
    schedule._num_stages = ranks
    schedule._n_microbatches = micro_batches
    return schedule._get_pipeline_order()


def gpipe(ranks, micro_batches, _):
    return single(schedules.ScheduleGPipe, ranks, micro_batches), None


def one_f_one_b(ranks, micro_batches, _):
    if micro_batches < ranks:
        raise ValueError("PyTorch wants as many micro-batches as ranks")
    order = single(schedules.Schedule1F1B, ranks, micro_batches)
    # What it tells of the last rank counts the forwards from 1; it runs from 0.
    last = [action for action in order[ranks - 1] if action]
    if last[0].microbatch_index == 1:
        last = [action._replace(microbatch_index=action.microbatch_index - 1)
                if action.computation_type.value == "F" else action
                for action in last]
    return {**order, ranks - 1: last}, None


def multi(kind, ranks, micro_batches, chunks, v):
    schedule = kind(stages_of(ranks, chunks, v), micro_batches)
    return schedule.pipeline_order, schedule.pipeline_order_with_comms


def looped_bfs(ranks, micro_batches, chunks):
    """PyTorch sends the backward down in descending order; turned round."""
    order, _ = multi(schedules.ScheduleLoopedBFS, ranks, micro_batches,
                     chunks, False)

    def turn(action):
        if action is None or action.computation_type.value != "B":
            return action
        return action._replace(
            microbatch_index=micro_batches - 1 - action.microbatch_index)

    return {rank: [turn(action) for action in row]
            for rank, row in order.items()}, None


KINDS = {
    "gpipe": ([1], gpipe),
    "1f1b": ([1], one_f_one_b),
    "interleaved": ([1, 2, 3, 4], lambda p, m, v: multi(
        schedules.ScheduleInterleaved1F1B, p, m, v, False)),
    "looped-bfs": ([1, 2, 3, 4], looped_bfs),
    "zb-h1": ([1], lambda p, m, v: multi(
        schedules.ScheduleInterleavedZeroBubble, p, m, v, False)
              if m % max(1, m // p) == 0 else None),
    "interleaved-zb": ([1, 2, 3, 4], lambda p, m, v: multi(
        schedules.ScheduleInterleavedZeroBubble, p, m, v, False)),
    "zb-v": ([2], lambda p, m, v: multi(
        schedules.ScheduleZBVZeroBubble, p, m, v, True)),
    "dualpipe-v": ([2], lambda p, m, v: multi(
        schedules.ScheduleDualPipeV, p, m, v, True)),
}


def cells(order, keep):
    return [[str(action) for action in order[rank]
             if action is not None and keep(action.computation_type.value)]
            for rank in sorted(order)]


def receives(order):
    found = {}
    for row in order.values():
        for action in row:
            if action and action.computation_type.value in RECEIVES:
                key = action.stage_index, action.computation_type.value
                found.setdefault(key, []).append(action.microbatch_index)
    return found


class Comparison:
    def __init__(self, program, folder):
        self.program = program
        self.path = os.path.join(folder, "torch.csv")
        self.count = self.refused = self.beyond = 0

    def run(self, *words):
        return subprocess.run([self.program, "schedule", *words], text=True,
                              capture_output=True, check=False)

    def ours(self, name, ranks, micro_batches, chunks):
        done = self.run("show", name, "-P", str(ranks), "-M",
                        str(micro_batches), "-V", str(chunks), "--csv=comms")
        if done.returncode:
            return None
        rows = csv.reader(done.stdout.splitlines())
        parse = schedules._Action.from_str
        return {rank: [parse(cell) for cell in row]
                for rank, row in enumerate(rows)}

    def check_dump(self, order):
        with open(self.path, "w", newline="") as file:
            csv.writer(file).writerows(order[rank] for rank in sorted(order))
        done = self.run("check", self.path)
        assert done.returncode == 0, "dump refused: " + done.stdout
        assert ": valid: " in done.stdout, done.stdout

    def case(self, name, ranks, micro_batches, chunks, theirs):
        mine = self.ours(name, ranks, micro_batches, chunks)
        try:
            theirs = theirs(ranks, micro_batches, chunks)
        except ValueError:
            self.refused += 1
            # Ours goes on where PyTorch's 1F1B stops.
            assert mine is None or name == "1f1b", "not refused here"
            return
        if theirs is None:
            self.beyond += 1
            return
        assert mine is not None, "refused here only"
        order, lowered = theirs
        compute = COMPUTE.__contains__
        assert cells(mine, compute) == cells(order, compute), "compute rows"
        if lowered:
            rest = lambda op: op not in DROPPED
            assert cells(mine, rest) == cells(lowered, rest), "lowered rows"
            assert receives(mine) == receives(lowered), "order of receives"
            self.check_dump(lowered)
        self.check_dump(order)
        only = {rank: [a for a in row if compute(a.computation_type.value)]
                for rank, row in mine.items()}
        schedules._validate_schedule(only, ranks, ranks * chunks,
                                     micro_batches)
        self.count += 1


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("program")
    parser.add_argument("--ranks", type=int, default=16)
    parser.add_argument("--micro-batches", type=int, default=64)
    parser.add_argument("--chunks", type=int, default=4)
    parser.add_argument("--step", type=int, default=1)
    options = parser.parse_args()
    print("# torch", torch.__version__)
    print("1..%d" % len(KINDS))
    failed = 0
    with tempfile.TemporaryDirectory() as folder:
        for number, (name, (chunks, make)) in enumerate(KINDS.items(), 1):
            comparison = Comparison(options.program, folder)
            wrong = []
            sizes = [(p, m, v) for v in chunks if v <= options.chunks
                     for p in range(1, options.ranks + 1)
                     for m in range(1, options.micro_batches + 1)]
            for size in sizes[::options.step]:
                try:
                    comparison.case(name, *size, make)
                except AssertionError as error:
                    wrong.append("P %d, M %d, V %d: %s" % (*size, error))
            failed += bool(wrong)
            print("%s %d - %s: %d sizes equal, %d refused, %d beyond PyTorch"
                  % ("not ok" if wrong else "ok", number, name,
                     comparison.count, comparison.refused, comparison.beyond))
            for line in wrong[:10]:
                print("#", line)
            if len(wrong) > 10:
                print("# and %d more" % (len(wrong) - 10))
            sys.stdout.flush()
    return failed != 0


if __name__ == "__main__":
    sys.exit(main())
