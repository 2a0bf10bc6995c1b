"""What sharing out cells costs: the speed-up of several workers, the traffic of leases, the files, the time of status.

Run from the repository:

    python tests/benchmarks/scale.py

*Sleeping* cells stand for cells on a GPU or a machine of their own: workers are processes that take ``--cells`` by
leases and sleep ``--seconds`` for each, so that what is lost is lost in sharing out; the start of the processes is not
counted. *Computing* cells are one attack each on one thread (``--computing`` of them), and share the processors of this
machine, which others may use: beside their speed-up stands which part it is of what processes that share nothing gain
at the same time. A lease is told in *calls* on files, as far as Python's audit hooks see them. *Status* is timed on
folders with as many records as given.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from machine import processor

from robust_eval.results.planned import PLANNED
from robust_eval.results.store import Store
from robust_eval.run.leases import Leases
from robust_eval.run.queue import Queue
from robust_eval.run.status import status


def cells(count: int, models: int) -> list[Any]:
    owners = [SimpleNamespace(name=f"m{i}", identity={"m": i}) for i in range(models)]
    keys = [sha256(str(i).encode()).hexdigest() for i in range(count)]
    return [SimpleNamespace(key=key, model=owners[i * models // count]) for i, key in enumerate(keys)]


def record(folder: Path, key: str) -> Path:
    return folder / "records" / key[:2] / f"{key}.json"


def worker(folder: Path, every: list[Any], work: Callable[[], object], barrier: Any, seconds: Any) -> None:
    """Take cells until none is left, and add the seconds since all have begun."""
    store, leases = Store(folder), Leases(folder)
    barrier.wait()
    began = time.perf_counter()
    with leases.touching():
        for taken in Queue(every, store, leases, is_done=lambda cell: record(folder, cell.key).exists()):
            path = record(folder, taken.cell.key)
            if path.exists():
                continue
            work()
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("x"):  # which fails where a cell is measured twice
                pass
    seconds.put(time.perf_counter() - began)


def share_out(count: int, every: list[Any], work: Callable[[], object]) -> float:
    """Return the seconds until the last of so many workers has ended."""
    context = multiprocessing.get_context("fork")
    with tempfile.TemporaryDirectory() as folder:
        barrier, seconds = context.Barrier(count), context.Queue()
        given = (Path(folder), every, work, barrier, seconds)
        processes = [context.Process(target=worker, args=given) for _ in range(count)]
        for process in processes:
            process.start()
        for process in processes:
            process.join()
            assert process.exitcode == 0, "a cell was measured twice"
        assert len(list(Path(folder).glob("records/??/*.json"))) == len(every)
        return max(seconds.get() for _ in processes)


def sleeping(asked: argparse.Namespace) -> None:
    every = cells(asked.cells, asked.models)
    print(f"{asked.cells} sleeping cells of {asked.seconds} s, {asked.models} models\n")
    print("| workers | seconds | speed-up |")
    print("|---:|---:|---:|")
    for count in asked.workers:
        took = share_out(count, every, lambda: time.sleep(asked.seconds))
        print(f"| {count} | {took:.2f} | {asked.cells * asked.seconds / took:.2f} |", flush=True)


def computing(asked: argparse.Namespace) -> None:
    import torch

    from robust_eval import Classifier, Rng, attack

    torch.set_num_threads(1)  # a worker is forked, which a pool of threads would not survive
    torch.manual_seed(0)
    net = torch.nn.Sequential(
        torch.nn.Conv2d(1, 16, 3, padding=1), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(1024, 10)
    )
    x, y = torch.rand(64, 1, 8, 8), torch.randint(10, (64,))
    pgd, model = attack("pgd", eps="8/255", steps=asked.steps), Classifier(net, stop_when_fooled=False)

    def work() -> None:
        pgd(model, x, y, rng=Rng(0))

    work()
    every = cells(asked.computing, 2)
    bare = {}
    print(
        f"\n{asked.computing} attacks on one thread each; others take {os.getloadavg()[0]:.1f} processors\n"
    )
    print("| workers | without leases | by leases | speed-up | of the possible |")
    print("|---:|---:|---:|---:|---:|")
    for count in (1, 2):
        pairs = []
        for _ in range(asked.rounds):
            part = asked.computing // count
            pairs.append((fixed(count, part, work), share_out(count, every, work)))
        bare[count], shared = (sorted(times)[len(times) // 2] for times in zip(*pairs, strict=True))
        if count == 1:
            alone = shared
        gain, possible = alone / shared, bare[1] / bare[count]
        print(
            f"| {count} | {bare[count]:.2f} | {shared:.2f} | {gain:.2f} | {gain / possible:.2f} |", flush=True
        )


def fixed(count: int, part: int, work: Callable[[], object]) -> float:
    """Return the seconds of processes that do as much each, and share nothing."""
    context = multiprocessing.get_context("fork")
    barrier, seconds = context.Barrier(count), context.Queue()

    def run() -> None:
        barrier.wait()
        began = time.perf_counter()
        for _ in range(part):
            work()
        seconds.put(time.perf_counter() - began)

    processes = [context.Process(target=run) for _ in range(count)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    return max(seconds.get() for _ in processes)


def traffic() -> None:
    """Print what a lease costs in calls and in time."""
    counted: Counter[str] = Counter()
    counting = False

    def hook(event: str, _: object) -> None:
        if counting and event.partition(".")[0] in ("open", "os"):
            counted[event] += 1

    sys.addaudithook(hook)
    many = 200
    with tempfile.TemporaryDirectory() as folder:
        leases = Leases(Path(folder))
        leases.claim("held", {})  # so that the folder stays
        began = time.perf_counter()
        for i in range(many):
            leases.claim(f"{i}", {"model": "m", "name": "n", "cell": "c"})
            leases.release(f"{i}")
        each = (time.perf_counter() - began) / many
        counting = True
        leases.claim("a", {"model": "m", "name": "n", "cell": "c"})
        leases.release("a")
        counting = False
        leases.release("held")
        left = sum(1 for _ in Path(folder).rglob("*"))
    told = ", ".join(f"{count} {name}" for name, count in sorted(counted.items()))
    print(f"\na lease: {1000 * each:.2f} ms, {told}; files left when it is given back: {left - 1}")


def statuses(asked: argparse.Namespace) -> None:
    labels = {
        "model": "net",
        "defense": "none",
        "access": "none",
        "data": "digits",
        "family": "attack",
        "norm": "linf",
    }
    labels |= {
        "perturbation": "pgd",
        "params": {"steps": 40, "restarts": 1, "eps": 0.03},
        "model_key": "m" * 64,
    }
    print("\n| records | status, seconds | files |")
    print("|---:|---:|---:|")
    with tempfile.TemporaryDirectory() as name:
        folder, made = Path(name), 0
        for count in asked.records:
            keys = [sha256(str(i).encode()).hexdigest() for i in range(count)]
            planned = [{"key": key, "labels": labels} for key in keys]
            (folder / PLANNED).write_text(json.dumps({"cells": planned}))
            for key in keys[made:]:
                path = record(folder, key)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.touch()
                path.with_suffix(".parquet").touch()
            made = count
            began = time.perf_counter()
            assert status(folder).done == count
            print(f"| {count:,} | {time.perf_counter() - began:.2f} | {2 * count:,} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2, 8])
    parser.add_argument("--cells", type=int, default=240)
    parser.add_argument("--models", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=0.25, help="that a cell sleeps")
    parser.add_argument("--computing", type=int, default=40, help="cells that compute; 0 for none")
    parser.add_argument("--steps", type=int, default=60, help="of the attack of a computing cell")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--records", type=int, nargs="*", default=[1000, 10000, 100000])
    asked = parser.parse_args()
    print(f"{processor()}\n")
    sleeping(asked)
    traffic()
    statuses(asked)
    if asked.computing:
        computing(asked)


if __name__ == "__main__":
    main()
