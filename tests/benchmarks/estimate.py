"""How often the interval of ``--estimate`` holds the truth, and how many images that took.

Run from the repository (minutes of training the first time; ``--nets`` keeps the networks):

    python tests/benchmarks/estimate.py --draws 1000 --nets runs/estimate

Small networks are trained on the smaller part of digits, mnist5k and, with ``--cifar``, a CIFAR-10 subset
(``train_images``, ``test_images`` and their labels in one ``.npz``), and attacked by PGD-20 on all images of the larger
part, so that the truth is known. *Masked* is the undefended network with its logits through a steep tanh, whose
gradients vanish. Each draw is another random order of the images and runs the rounds of a cell until the interval is as
narrow as that of the plain estimate on all images, or ``--half-width``. *Covers* is the share of draws whose interval
of these images holds the accuracy on all of them; *further*, of draws whose images are first drawn anew from the set,
with replacement, whose interval for images like them holds it. *Plain* is what one stratum needs, at the median.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from machine import processor
from numpy.typing import NDArray
from torch import Tensor, nn

import defenses  # noqa: F401 - registers the methods
import trainers
from robust_eval import Classifier, attack
from robust_eval.config.experiment import parse
from robust_eval.config.plan import plan
from robust_eval.evaluation.evaluate import evaluate
from robust_eval.evaluation.rounds import Rounds
from robust_eval.evaluation.workbench import Workbench
from robust_eval.geometry import dual_length
from robust_eval.losses import margin
from robust_eval.metrics.estimation import estimated
from robust_eval.metrics.intervals import wilson
from robust_eval.models.source import Loaded, OwnModel
from robust_eval.registry import build
from robust_eval.results.cell import Cell
from robust_eval.results.store import Store
from robust_eval.run.run import run
from robust_eval.run.worker import SILENT


class Known(NamedTuple):
    """A network that was attacked on all images."""

    name: str
    proxy: NDArray[np.float64]
    score: NDArray[np.float64]
    right: NDArray[np.bool_]


class Setting(NamedTuple):
    """How a set's networks are trained and attacked in linf."""

    eps: float
    epochs: int
    batch_size: int
    lr: float


SETS = {
    "digits": Setting(32 / 255, 40, 64, 0.1),
    "mnist5k": Setting(0.1, 60, 25, 0.05),
    "cifar": Setting(4 / 255, 25, 64, 0.1),
}


class Saturated(nn.Module):
    """A network whose logits go through a steep tanh."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        return 10 * torch.tanh(20 * self.network(x))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--draws", type=int, default=1000)
    parser.add_argument("--nets", type=Path, help="folder of the networks; a temporary one if left out")
    parser.add_argument("--cifar", type=Path, help="a CIFAR-10 subset in one .npz")
    parser.add_argument("--half-width", type=float, help="that of the plain estimate if left out")
    parser.add_argument("--sets", default="digits,mnist5k,cifar")
    asked = parser.parse_args()
    folder = asked.nets or Path(tempfile.mkdtemp())
    folder.mkdir(parents=True, exist_ok=True)
    print(f"{asked.draws} draws each, {processor()}\n")
    heads = ("set", "net", "images", "right", "robust", "half-width", "covers", "further", "attacked")
    print(f"| {' | '.join([*heads, 'of all', 'plain', 'without strata', 'bias'])} |")
    print(f"|---|---|{'---:|' * 11}")
    for name in asked.sets.split(","):
        if name != "cifar" or asked.cifar is not None:
            for known in networks(name, folder, asked.cifar):
                print(line(name, known, asked.draws, asked.half_width), flush=True)


def line(data: str, known: Known, draws: int, half_width: float | None) -> str:
    n, truth = len(known.score), float(known.score.mean())
    low, high = wilson(float(known.score.sum()), n)
    wanted = half_width or max(truth - low, high - truth)
    found, plain, further = [], [], []
    for draw in range(draws):
        rng = np.random.default_rng([draw, 1])
        found.append(drawn(known, wanted, rng))
        again = rng.integers(n, size=n)
        other = Known(known.name, known.proxy[again], known.score[again], known.right[again])
        further.append(drawn(other, wanted, rng)[0].elsewhere)
        if draw < 50:
            plain.append(drawn(known, wanted, rng, strata=False)[1])
    covers = np.mean([one.here.low <= truth <= one.here.high for one, *_ in found])
    beyond = np.mean([low <= truth <= high for low, high in further])
    attacked = np.mean([count for _, count, _ in found])
    cells = [data, known.name, f"{n:,}", f"{100 * known.right.mean():.1f}", f"{100 * truth:.1f}"]
    cells += [f"{100 * wanted:.2f}", f"{100 * covers:.1f}", f"{100 * beyond:.1f}", f"{attacked:.0f}"]
    cells += [f"{100 * attacked / n:.1f} %", f"{np.median(plain):.0f}"]
    cells += [f"{100 * np.mean([not saves for *_, saves in found]):.0f} %"]
    return f"| {' | '.join(cells)} | {100 * (np.mean([one.value for one, *_ in found]) - truth):+.2f} |"


def drawn(known: Known, half_width: float, rng: np.random.Generator, *, strata: bool = True):  # type: ignore[no-untyped-def]
    """Return one estimate, how many images it took, and whether strata were used."""
    rounds = Rounds(known.right, rng.permutation(len(known.score)), half_width)
    rounds.saw(rounds.sure, known.score[rounds.sure])
    proxy = known.proxy[rounds.whom]
    tells = strata and np.isfinite(proxy).mean() >= 0.9
    for places in rounds.places(proxy if tells else None):
        rounds.saw(places, known.score[places])
    return estimated(rounds.sampled), rounds.sampled.attacked, bool(tells and rounds.saves)


def networks(name: str, folder: Path, cifar: Path | None) -> Iterator[Known]:
    """Yield networks with what an attack on all images did; they are trained where the folder has none."""
    eps, epochs, batch_size, lr = SETS[name]
    data = folder / f"{name}.npz"
    if not data.exists():
        np.savez(data, **arrays(name, cifar))
    experiment = parse(
        {
            "name": name,
            "checks": "off",
            "data": {"name": str(data)},
            "recipe": {
                "architecture": {"name": "small_cnn", "width": 16},
                "epochs": epochs,
                "batch_size": batch_size,
                "lr": lr,
            },
            "train": [
                {"regularizer": "erm"},
                {"regularizer": "mixup"},
                {"regularizer": {"name": "adversarial", "eps": eps, "step_size": eps / 4, "steps": 5}},
            ],
            "attack": [{"name": "pgd", "steps": 20, "eps": eps}],
        },
        where="estimate",
        folder=folder,
    )
    store = Store(folder / name)
    cells = [cell for cell in plan(experiment) if cell.family == "attack"]
    started = time.perf_counter()
    run(cells, store, train=trainers.train, progress=SILENT)
    print(f"<!-- {name}: trained and attacked in {time.perf_counter() - started:.0f} s -->")
    for cell in cells:
        network = cell.model.load(lambda model: store.checkpoint(model.key)).network.eval()
        rows = store.read(cell.key).rows
        yield known_of(cell.model.name, network, cell, rows)
        if cell.model.name == "erm":
            source = OwnModel("masked", Saturated(network), "small_cnn", {"weights": "masked"}, "0" * 64)
            bench = Workbench(lambda model: Loaded(model.network, model.weights_sha256))
            masked = Cell(source, cell.data, attack("pgd", steps=20, eps=eps))
            yield known_of("masked", Saturated(network), masked, evaluate(masked, bench).rows)


def known_of(name: str, network: nn.Module, cell: Cell, rows) -> Known:  # type: ignore[no-untyped-def]
    examples = cell.data.examples
    logits, gradient = Classifier(network).input_gradient(examples.pixels(), examples.labels, margin)
    slope = dual_length(gradient.flatten(1), "linf")
    proxy = (-margin(logits, examples.labels) / slope).where(slope > 0, torch.inf)
    return Known(name, proxy.double().numpy(), rows["score"].to_numpy(), rows["clean_score"].to_numpy() > 0.5)


def arrays(name: str, cifar: Path | None) -> dict[str, NDArray[np.generic]]:
    """Return a set whose smaller part is to train on."""
    if name == "cifar":
        assert cifar is not None
        with np.load(cifar) as found:
            x = np.concatenate([found["train_images"], found["test_images"]])
            y = np.concatenate([found["train_labels"], found["test_labels"]]).astype(np.int64)
        few = len(x) - 4000
        return {
            "train_images": x[:few],
            "train_labels": y[:few],
            "test_images": x[few:],
            "test_labels": y[few:],
        }
    source = build("data", name, {})
    few, many = source.test(None), source.train()
    parts = {"train_images": few.images, "train_labels": few.labels, "test_images": many.images}
    return {key: value.numpy() for key, value in (parts | {"test_labels": many.labels}).items()}


if __name__ == "__main__":
    main()
