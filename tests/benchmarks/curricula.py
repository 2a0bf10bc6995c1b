"""What a choice of images costs: one class of 5,000 images, CIFAR-10's size, and the training that it saves.

Run from the repository with nothing else running:

    python tests/benchmarks/curricula.py

*class*: picks out of one class, of whose images features and logits are random. Seconds are the median over
``--rounds``, distances included; rivals take turns with ours and must make the same picks. Naive greedy looks at
all images anew for each pick, which costs the same each time: it is timed over the first ``--naive`` of them and
multiplied (*estimated*); ``--naive 0`` times all. Memory is the peak of a process of its own over what it held
before.

*cifar*: picks out of 10 classes of 5,000 images, over the seconds of the training steps that are saved, those of a
CIFAR-ResNet-32 on the images that are not picked, and likewise with the forward pass over all images that the choice
needs.
"""

from __future__ import annotations

import argparse
import contextlib
import heapq
import multiprocessing
import statistics
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from machine import processor
from torch import Tensor
from torch.nn import functional

from robust_eval.registry import build
from robust_eval.rng import Rng
from trainers.curricula._cover import densities, set_cover
from trainers.curricula._facility import LEVELS, count_of, facility_location
from trainers.curricula._vectors import Space, Vectors, quantiles, vectors

FEATURES, CLASSES = 64, 10


class Task(NamedTuple):
    """One thing to choose."""

    method: str
    space: Space
    n: int
    ratio: float
    """Share that facility location picks, and share of the pairs within the radius of the others."""


class Rival(NamedTuple):
    """The same picks found otherwise."""

    name: str
    run: Callable[[Vectors, float, int], list[int]]
    """Returns the first picks, as many as asked for."""
    each: bool
    """Whether it looks at all images for each pick."""


clock = time.perf_counter


def main() -> None:
    global clock
    arguments = _arguments()
    torch.set_num_threads(arguments.threads)
    clock = time.process_time if arguments.cpu else time.perf_counter
    print(f"{date.today()}, {processor()}, {arguments.threads} threads, torch {torch.__version__}, ", end="")
    print(f"median of {arguments.rounds}")
    for name in arguments.sections.split(","):
        SECTIONS[name](arguments)


def _class(arguments: argparse.Namespace) -> None:
    print(f"\n| method | space | images | share | picks | seconds | peak MiB | {' | '.join(RIVALS)} |")
    print(f"|{'---|' * (7 + len(RIVALS))}", flush=True)
    for task in TASKS:
        found = _vectors(task)
        level = _level(task, found)
        rivals = [rival for rival in RIVALS.values() if task.method in rival.name]
        seconds, others, picks = [], {rival.name: [] for rival in rivals}, []
        for _ in range(arguments.rounds):
            elapsed, picks = _timed(lambda: METHODS[task.method](found, level))  # noqa: B023
            seconds.append(elapsed)
            for rival in rivals:
                others[rival.name].append(_rival(rival, found, level, picks, arguments.naive))
        ours = statistics.median(seconds)
        cells = [task.method, task.space, str(task.n), f"{task.ratio:g}", str(len(picks)), f"{ours:.2f}"]
        cells.append(_peak(task, level, arguments.threads))
        for name in RIVALS:
            if name not in others:
                cells.append("")
                continue
            times, estimated = zip(*others[name], strict=True)
            cells.append(f"{statistics.median(times) / ours:.1f}{' estimated' if any(estimated) else ''}")
        print(f"| {' | '.join(cells)} |", flush=True)


def _rival(rival: Rival, found: Vectors, level: float, picks: list[int], some: int) -> tuple[float, bool]:
    """Return the seconds of all picks, and whether they are estimated; the picks must be ours."""
    estimated = rival.each and 0 < some < len(picks)
    count = some if estimated else len(picks)
    elapsed, theirs = _timed(lambda: rival.run(found, level, count))
    assert theirs == picks[:count], f"{rival.name} picks others"
    if estimated:
        fixed, _ = _timed(lambda: rival.run(found, level, 0))
        elapsed = fixed + (elapsed - fixed) * len(picks) / count
    return elapsed, estimated


def _cifar(arguments: argparse.Namespace) -> None:
    classes, n = CLASSES, 5000
    network = build("architecture", "cifar_resnet", {"depth": 32}).build(channels=3, classes=CLASSES)
    x = torch.rand(arguments.n, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    y = torch.arange(arguments.n) % CLASSES

    def forward() -> None:
        with torch.no_grad():
            network.eval()(x)

    def step() -> None:
        network.train().zero_grad()
        functional.cross_entropy(network(x), y).backward()

    forward(), step()
    print(f"\n{classes} classes of {n} images; a step is one of CIFAR-ResNet-32 on {arguments.n} images\n")
    print(
        "| method | space | share | picks | seconds | step, ms | saved, s | over saved | with the forward pass |"
    )
    print(f"|{'---|' * 9}", flush=True)
    for method in ("facility_location", "set_cover"):
        for space in ("feature", "gradient"):
            for ratio in (0.2, 0.5) if method == "facility_location" else (0.001,):
                _saved(Task(method, space, n, ratio), classes, forward, step, arguments)


def _saved(
    task: Task,
    classes: int,
    forward: Callable[[], None],
    step: Callable[[], None],
    arguments: argparse.Namespace,
) -> None:
    """Print a line of a choice in all classes; steps are timed in between, beside the same other processes."""
    spent, picked, forwards, steps = 0.0, 0, [], []
    for label in range(classes):
        found = _vectors(task, seed=label)
        level = _level(task, found)
        elapsed, picks = _timed(lambda: METHODS[task.method](found, level))  # noqa: B023
        spent, picked = spent + elapsed, picked + len(picks)
        forwards.append(_timed(forward)[0])
        steps.append(_timed(step)[0])
    images = classes * task.n
    batch, whole = statistics.median(steps), statistics.median(forwards) * images / arguments.n
    saved = batch * (images - picked) / arguments.n
    cells = [task.method, task.space, f"{task.ratio:g}", str(picked), f"{spent:.1f}", f"{1000 * batch:.0f}"]
    cells += [f"{saved:.0f}", f"{100 * spent / saved:.1f} %", f"{100 * (spent + whole) / saved:.1f} %"]
    print(f"| {' | '.join(cells)} |", flush=True)


def _vectors(task: Task, seed: int = 0) -> Vectors:
    """Features with some structure, as a network's have: eight directions, noise, and a ReLU."""
    generator = torch.Generator().manual_seed(seed)
    n = task.n
    h = torch.randn(n, 8, generator=generator) @ torch.randn(8, FEATURES, generator=generator)
    h = (h + 0.5 * torch.randn(n, FEATURES, generator=generator)).relu()
    o = 2 * torch.randn(n, CLASSES, generator=generator)
    return vectors(task.space, h, o, torch.full((n,), seed % CLASSES))


def _level(task: Task, found: Vectors) -> float:
    """Return the ratio, or the radius."""
    if task.method == "facility_location":
        return task.ratio
    return quantiles(found, [task.ratio], rng=Rng(0))[0]


METHODS: dict[str, Callable[[Vectors, float], list[int]]] = {
    "facility_location": lambda found, ratio: facility_location(
        found, count_of(ratio, len(found))
    ).picks.tolist(),
    "set_cover": lambda found, radius: set_cover(found, radius).picks.tolist(),
    "densities": lambda found, radius: densities(found, radius).tolist(),
}

TASKS = [
    *[Task("facility_location", "feature", n, 0.5) for n in (1000, 2000, 5000)],
    Task("facility_location", "feature", 5000, 0.1),
    Task("facility_location", "feature", 5000, 1.0),
    Task("facility_location", "logit_gradient", 5000, 0.5),
    Task("facility_location", "gradient", 5000, 0.5),
    *[Task("set_cover", "feature", n, 0.001) for n in (1000, 2000, 5000)],
    Task("set_cover", "feature", 5000, 0.00001),
    Task("set_cover", "feature", 5000, 0.1),
    Task("set_cover", "gradient", 5000, 0.001),
    Task("densities", "feature", 5000, 0.1),
]


def _matrix(found: Vectors) -> Tensor:
    """Distances as our facility location rounds them."""
    d = torch.cat([block for _, block in found.blocks()])
    return d.mul_(LEVELS / d.max().item()).round_()


def _gains(nearest: Tensor, rows: Tensor) -> Tensor:
    return (nearest - rows).clamp_(min=0).sum(1, dtype=torch.float64)


def _naive_facilities(found: Vectors, ratio: float, count: int) -> list[int]:
    d = _matrix(found)
    nearest, picks = torch.full((len(d),), float(LEVELS)), []
    for _ in range(count):
        gains = torch.cat([_gains(nearest, rows) for rows in d.split(64)])
        gains[picks] = -1
        picks.append(int(gains.argmax()))
        nearest = torch.minimum(nearest, d[picks[-1]])
    return picks


def _heap_facilities(found: Vectors, ratio: float, count: int) -> list[int]:
    """Lazy greedy: a heap of upper bounds, of which eight or more at the top are looked at together."""
    d = _matrix(found)
    nearest, picks = torch.full((len(d),), float(LEVELS)), []
    bounds = torch.cat([_gains(nearest, rows) for rows in d.split(64)]).tolist()
    heap = [(-gain, image) for image, gain in enumerate(bounds)]
    heapq.heapify(heap)
    looked_at = [0 for _ in heap]
    while len(picks) < count:
        few = 8
        while looked_at[heap[0][1]] != len(picks):
            stale = []
            while heap and len(stale) < few and looked_at[heap[0][1]] != len(picks):
                stale.append(heapq.heappop(heap)[1])
            for gain, image in zip(_gains(nearest, d[stale]).tolist(), stale, strict=True):
                looked_at[image] = len(picks)
                heapq.heappush(heap, (-gain, image))
            few = min(2 * few, 256)
        picks.append(heapq.heappop(heap)[1])
        nearest = torch.minimum(nearest, d[picks[-1]])
    return picks


def _naive_cover(found: Vectors, radius: float, count: int) -> list[int]:
    near = np.concatenate([block.numpy() <= radius for _, block in found.blocks()])
    uncovered, picks = np.ones(len(near), bool), []
    for _ in range(count):
        picks.append(int(np.count_nonzero(near & uncovered, axis=1).argmax()))
        uncovered &= ~near[picks[-1]]
    return picks


def _bits_cover(found: Vectors, radius: float, count: int) -> list[int]:
    """Naive greedy on one bit for each pair, 64 of them at once."""
    near = np.concatenate([block.numpy() <= radius for _, block in found.blocks()])
    near = np.pad(near, ((0, 0), (0, -len(near) % 64)))
    words = np.packbits(near, axis=1).view(np.uint64)
    uncovered, picks = np.packbits(np.arange(near.shape[1]) < len(near)).view(np.uint64), []
    for _ in range(count):
        picks.append(int(np.bitwise_count(words & uncovered).sum(1, dtype=np.int64).argmax()))
        uncovered &= ~words[picks[-1]]
    return picks


RIVALS = {
    rival.name: rival
    for rival in (
        Rival("naive facility_location over ours", _naive_facilities, True),
        Rival("heap facility_location over ours", _heap_facilities, False),
        Rival("naive set_cover over ours", _naive_cover, True),
        Rival("naive set_cover on bits over ours", _bits_cover, True),
    )
}


def _peak(task: Task, level: float, threads: int) -> str:
    """Return the peak of the memory of a process of its own over what it held before, in MiB; Linux alone tells."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        found = pool.apply(_grown, (task, level, threads))
    return "" if found is None else f"{found:.0f}"


def _grown(task: Task, level: float, threads: int) -> float | None:
    torch.set_num_threads(threads)
    small = task._replace(n=100)
    METHODS[task.method](_vectors(small), level)  # what is loaded or made once
    found = _vectors(task)
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    before = _memory("VmRSS")
    METHODS[task.method](found, level)
    peak = _memory("VmHWM")
    return None if before is None or peak is None else peak - before


def _memory(name: str) -> float | None:
    """MiB of this process by Linux's own count; ``None`` elsewhere."""
    status = Path("/proc/self/status")
    if not status.exists():
        return None
    line = next(line for line in status.read_text().splitlines() if line.startswith(name))
    return int(line.split()[1]) / 1024


def _timed(run: Callable[[], Any]) -> tuple[float, Any]:
    started = clock()
    result = run()
    return clock() - started, result


SECTIONS: dict[str, Callable[[argparse.Namespace], None]] = {"class": _class, "cifar": _cifar}


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--n", type=int, default=100, help="images in a batch")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--cpu", action="store_true", help="CPU time: for a machine in use, with --threads 1")
    parser.add_argument("--naive", type=int, default=30, help="picks of naive greedy that are timed; 0: all")
    parser.add_argument("--sections", default=",".join(SECTIONS))
    return parser.parse_args()


if __name__ == "__main__":
    main()
