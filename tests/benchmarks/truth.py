"""How far attacks are from the truth: small ReLU networks whose exact robust accuracy in linf is computed.

Run from the repository:

    python tests/benchmarks/truth.py

Each network is trained on the digits, on clean images or on FGSM points, in float64. Of its first correctly classified
test images the solver says who can be broken within the radius and who cannot (``tests/reference/exact.py``); *gap* is
how many images can be broken and were not, by each attack. *Wrong* counts those reported broken in spite of a proof,
which must be none.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path

import torch
from machine import processor

from robust_eval import Classifier, Rng, attack
from robust_eval.data.digits import Digits

sys.path.insert(0, str(Path(__file__).parents[1] / "reference"))
from exact import exact, trained

NETWORKS = (((12,), 0.0), ((12,), 0.1), ((8, 8), 0.0), ((8, 8), 0.1), ((8, 8, 8), 0.0), ((8, 8, 8), 0.1))
ATTACKS: dict[str, Callable[[float], object]] = {
    "PGD-40": lambda eps: attack("pgd", eps=eps, steps=40),
    "AutoAttack": lambda eps: attack("auto_attack", eps=eps),
    "AutoAttack fast": lambda eps: attack("auto_attack", version="fast", eps=eps),
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--n", type=int, default=50, help="correctly classified images of each network")
    parser.add_argument("--eps", type=float, nargs="+", default=[0.06, 0.1])
    asked = parser.parse_args()
    print(f"{date.today()}, {processor()}, torch {torch.__version__}, {asked.n} images each\n")
    heads = " | ".join(f"gap of {name}" for name in ATTACKS)
    print(
        f"| hidden units | trained at | radius | proven robust | can be broken | {heads} | wrong | seconds |"
    )
    print("|---|---|---|---:|---:|" + "---:|" * (len(ATTACKS) + 2))
    examples = Digits().test(None)
    everything, labels = examples.pixels().double(), examples.labels
    total, gaps, wrongs = 0, dict.fromkeys(ATTACKS, 0), 0
    for widths, at in NETWORKS:
        network = trained(widths, eps=at)
        with torch.no_grad():
            right = network(everything).argmax(1) == labels
        x, y = everything[right][: asked.n], labels[right][: asked.n]
        for eps in asked.eps:
            began = time.process_time()
            truth = exact(network, x, y, eps)
            seconds = time.process_time() - began
            row, wrong = [], 0
            for name, made in ATTACKS.items():
                x_adv = made(eps)(Classifier(network), x, y, rng=Rng(0))  # type: ignore[operator]
                with torch.no_grad():
                    fooled = network(x_adv).argmax(1) != y
                gap = int((truth.broken & ~fooled).sum())
                wrong += int((truth.robust & fooled).sum())
                gaps[name] += gap
                row.append(str(gap))
            total, wrongs = total + int(truth.broken.sum()), wrongs + wrong
            cells = [" x ".join(map(str, widths)), f"{at:g}" if at else "clean images", f"{eps:g}"]
            cells += [str(int(truth.robust.sum())), str(int(truth.broken.sum())), *row, str(wrong)]
            print(f"| {' | '.join(cells)} | {seconds:.0f} |", flush=True)
    print(f"\nOf {total} images that can be broken, not broken: ", end="")
    print(
        ", ".join(f"{name} {gap}" for name, gap in gaps.items()) + f"; reported in spite of a proof: {wrongs}"
    )


if __name__ == "__main__":
    main()
