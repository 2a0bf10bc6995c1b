"""AutoAttack's version ``fast`` beside the standard: who is broken, and with how many passes.

Run from the repository:

    python tests/benchmarks/fast.py digits:32/255=WEIGHTS.safetensors [DATA:RADIUS=WEIGHTS[@ARCHITECTURE] ...] --n 100

Both attack the same correctly classified images, of the first ``--n``. *Passes* are images that went forwards and
backwards, by the ledger; *missed* are images that the standard broke and ``fast`` did not, *more* the reverse.
"""

from __future__ import annotations

import argparse
import time
from datetime import date
from pathlib import Path

import torch
from machine import processor

from robust_eval import Classifier, Rng, attack
from robust_eval.data import open_source
from robust_eval.models.source import own_model
from robust_eval.threat import parse_number


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("networks", nargs="+", metavar="DATA:RADIUS=WEIGHTS")
    parser.add_argument("--n", type=int, default=100, help="images of each")
    parser.add_argument("--norm", default="linf", choices=["linf", "l2", "l1"])
    parser.add_argument("--threads", type=int, default=1)
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    print(f"{date.today()}, {processor()}, torch {torch.__version__}, {asked.norm}\n")
    print("| network | radius | n | standard | fast | missed | more | passes standard | fast | fewer |")
    print("|---|---|---:|---:|---:|---:|---:|---:|---:|---:|", flush=True)
    standing, wholes, spent = [0, 0], 0, [0, 0]
    for given in asked.networks:
        where, _, what = given.partition("=")
        data, _, radius = where.rpartition(":")
        weights, _, architecture = what.partition("@")
        examples = open_source(data).test(asked.n)
        network = own_model(
            checkpoint=Path(weights),
            architecture=architecture or None,
            name=None,
            mean=None,
            std=None,
            examples=examples,
        ).network.eval()
        x, y = examples.pixels(), examples.labels
        right = Classifier(network)(x).argmax(1) == y
        broken, passes, seconds = [], [], []
        for version in ("standard", "fast"):
            model = Classifier(network)
            began = time.process_time()
            method = attack("auto_attack", version=version, eps=parse_number(radius), norm=asked.norm)
            with model.frozen():
                found = method.run(model, x[right], y[right], rng=Rng(0).for_batch(int(right.sum())))
            seconds.append(time.process_time() - began)
            broken.append(found.step >= 0)
            passes.append(int(model.ledger["forwards"].sum() + model.ledger["backwards"].sum()))
        n = len(x)
        left = [int((~each).sum()) for each in broken]
        standing, wholes = [a + b for a, b in zip(standing, left, strict=True)], wholes + n
        spent = [a + b for a, b in zip(spent, passes, strict=True)]
        cells = [f"{Path(data).stem} {Path(weights).stem[:8]}", radius, str(n)]
        cells += [f"{100 * each / n:.1f} %" for each in left]
        cells += [str(int((broken[0] & ~broken[1]).sum())), str(int((broken[1] & ~broken[0]).sum()))]
        cells += [f"{each:,}" for each in passes] + [f"{passes[0] / passes[1]:.1f}x"]
        print(f"| {' | '.join(cells)} |", flush=True)
    print(
        f"\nTogether, of {wholes} images: standard {100 * standing[0] / wholes:.2f} %, fast "
        f"{100 * standing[1] / wholes:.2f} %, {spent[0] / spent[1]:.1f}x fewer passes"
    )


if __name__ == "__main__":
    main()
