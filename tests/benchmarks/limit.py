"""How far each attack is from the bare network: its time over that of the same passes with nothing around them.

Run from the repository, with nothing else running:

    python tests/benchmarks/limit.py CHECKPOINT --arch resnet18 --data FILE.npz --eps 2/255
    python tests/benchmarks/limit.py ROBUST.safetensors --data FILE.npz --eps 8/255 --attacks auto_attack

A ledger holds each call of the network by way, precision and size. The bare network, that is the twin in that precision
in channels-last layout, is timed at those sizes: the same number of forward passes, and of backward passes behind them.
*Over bare* is the time of the attack over that sum: what is left above 1 is the attack itself, and the making of
tensors. The members of AutoAttack are made one after another, each on what is left, as AutoAttack makes them.

Attack and bare network take turns, ``--rounds`` times; figures are medians over the rounds. ``--clock cpu`` counts the
processor's time in place of that on the wall: a figure that others who use the machine disturb less.
"""

from __future__ import annotations

import argparse
import dataclasses
import statistics
import time
from collections import Counter
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import NamedTuple

import torch
from machine import processor
from torch import Tensor, nn
from torch.nn import functional

from robust_eval import Classifier, Rng, attack
from robust_eval.classifier import Batches, Ledger, frozen
from robust_eval.classifier.accelerate import pick_precision, twins
from robust_eval.data import open_source
from robust_eval.models.source import own_model
from robust_eval.registry import find
from robust_eval.threat import parse_number

MEMBERS = ("apgd_ce", "apgd_t", "fab_t", "square")
"""Of AutoAttack's standard version, in its order."""
REPEATS = 3
"""How often a bare pass is timed in a round, after one that is not counted."""


class Spent(NamedTuple):
    """What an attack took, and what its passes alone take."""

    seconds: float
    bare: float


class Network:
    """A network and its twins, asked with nothing around them."""

    def __init__(self, network: nn.Module, x: Tensor, clock: Callable[[], float]) -> None:
        made = twins(network, x, pick_precision("auto", x.device))
        self.networks = {"fp32": made.exact or network, "bf16": made.fast or made.exact or network}
        self.reason, self.clock = made.reason, clock
        self._known: dict[tuple[str, str, int], float] = {}
        self.x = x.contiguous(memory_format=torch.channels_last)

    def seconds(self, batches: Batches) -> float:
        """Return the time of these calls: each size from timings at it."""
        return sum(
            calls * self._pass(way, precision, size) for (way, precision, size), calls in batches.items()
        )

    def _pass(self, way: str, precision: str, size: int) -> float:
        key = (way, precision, size)
        if key not in self._known:
            forward = self._timed(precision, size, backward=False)
            self._known["forward", precision, size] = forward
            if way == "backward":
                self._known[key] = max(self._timed(precision, size, backward=True) - forward, 0.0)
        return self._known[key]

    def forget(self) -> None:
        """Time anew from now on."""
        self._known.clear()

    def _timed(self, precision: str, size: int, *, backward: bool) -> float:
        network, times = self.networks[precision], []
        batch = self.x.repeat(-(-size // len(self.x)), 1, 1, 1)[:size]
        labels = torch.zeros(size, dtype=torch.int64)
        for _ in range(1 + REPEATS):
            started = self.clock()
            if backward:
                leaf = batch.detach().requires_grad_()
                loss = functional.cross_entropy(network(leaf), labels, reduction="sum")
                torch.autograd.grad(loss, leaf)
            else:
                with torch.no_grad():
                    network(batch)
            times.append(self.clock() - started)
        return statistics.median(times[1:])


def main() -> None:
    arguments = _arguments()
    torch.set_num_threads(arguments.threads)
    clock = time.process_time if arguments.clock == "cpu" else time.perf_counter
    examples = open_source(arguments.data).test(arguments.n)
    source = own_model(
        checkpoint=Path(arguments.checkpoint),
        architecture=arguments.arch,
        name=None,
        mean=None,
        std=None,
        examples=examples,
    )
    network, x, y = source.network.eval(), examples.pixels(), examples.labels
    with frozen(network):
        bare = Network(network, x, clock)
        rows = y == network(x).argmax(1)
        print(
            f"{date.today()}, {processor()}, {arguments.threads} threads, torch {torch.__version__}, ", end=""
        )
        print(
            f"{arguments.clock} time, median of {arguments.rounds}; {int(rows.sum())} of {len(x)} images right"
        )
        if bare.reason is not None:
            print(f"no twin in low precision: {bare.reason}")
        print(f"\n| {' | '.join(COLUMNS)} |\n|{'---|' * len(COLUMNS)}", flush=True)
        for name in arguments.attacks.split(","):
            _measure(name, arguments, Classifier(network), bare, x[rows], y[rows])


COLUMNS = (
    "attack",
    "n",
    "left",
    "seconds",
    "forward fp32",
    "forward bf16",
    "backward bf16",
    "bare seconds",
    "over bare",
)


def _measure(
    name: str, arguments: argparse.Namespace, model: Classifier, bare: Network, x: Tensor, y: Tensor
) -> None:
    """Make an attack, or AutoAttack member by member, ``--rounds`` times, and print a line for each."""
    names = MEMBERS if name == "auto_attack" else (name,)
    spent: dict[str, list[Spent]] = {each: [] for each in names}
    told: dict[str, tuple[int, int, Batches]] = {}
    for _ in range(arguments.rounds):
        left = torch.arange(len(x))
        stream = Rng(0).for_batch(len(x))
        for each in names:
            if not len(left):
                break
            bare.forget()
            model.ledger = Ledger()
            method = attack(each, **_fields(each, arguments))
            started = bare.clock()
            result = method.run(model, x[left], y[left], rng=stream.child(each).select(left))
            seconds, batches = bare.clock() - started, model.ledger.batches
            spent[each].append(Spent(seconds, bare.seconds(batches)))
            found = result.step >= 0
            told[each] = (len(left), int((~found).sum()), batches)
            left = left[~found]
    for each, line in told.items():
        _print(each, *line, spent[each])
    if len(told) > 1:
        together: Batches = sum((line[2] for line in told.values()), Counter())
        rounds = zip(*(spent[each] for each in told), strict=True)
        all_of_them = [Spent(sum(s.seconds for s in one), sum(s.bare for s in one)) for one in rounds]
        last = list(told.values())[-1]
        _print(name, len(x), last[1], together, all_of_them)


def _fields(name: str, arguments: argparse.Namespace) -> dict[str, object]:
    fields: dict[str, object] = {}
    known = {field.name for field in dataclasses.fields(find("attack", name))}
    if "eps" in known:
        fields["eps"] = parse_number(arguments.eps)
    if name == "square" and arguments.queries:
        fields["queries"] = arguments.queries
    return fields


def _print(name: str, n: int, left: int, batches: Batches, spent: list[Spent]) -> None:
    sums: dict[str, list[int]] = {}
    for (way, precision, size), calls in batches.items():
        total = sums.setdefault(f"{way} {precision}", [0, 0])
        total[0] += calls
        total[1] += calls * size
    sent = [f"{s[1]:,} by {s[1] / s[0]:.0f}" if (s := sums.get(kind)) else "" for kind in COLUMNS[4:7]]
    seconds = statistics.median(s.seconds for s in spent)
    bare = statistics.median(s.bare for s in spent)
    over = statistics.median(s.seconds / s.bare for s in spent)
    line = (name, str(n), str(left), f"{seconds:.2f}", *sent, f"{bare:.2f}", f"{over:.2f}")
    print(f"| {' | '.join(line)} |", flush=True)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("checkpoint")
    parser.add_argument("--arch", help="default: what the checkpoint says")
    parser.add_argument("--data", required=True)
    parser.add_argument("--n", type=int, default=100, help="images")
    parser.add_argument("--eps", default="8/255")
    parser.add_argument("--attacks", default="pgd,bim,mim,deepfool,ddn,cw,fmn,auto_attack")
    parser.add_argument("--queries", type=int, help="of Square; default: its own")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--clock", choices=("wall", "cpu"), default="wall")
    return parser.parse_args()


if __name__ == "__main__":
    main()
