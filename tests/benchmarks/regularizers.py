"""What a training step costs with each regularizer, over one of ERM; the loader; torchvision's MixUp and CutMix.

Run from the repository with nothing else running:

    python tests/benchmarks/regularizers.py

A step is the loss and its gradient on one batch of random 32x32 images. The methods take turns, ``--rounds`` times,
each beside a step of ERM; the ratio is the median over the rounds. *Per network image* divides it by the images that go
through the network over the batch: 1 means that nothing is paid but the network.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from datetime import date
from typing import Any

import torch
from machine import processor
from torch import Tensor, nn
from torchvision.transforms import v2

import trainers
from robust_eval.data import Examples
from robust_eval.models.recipe import Recipe
from robust_eval.registry import build, names
from robust_eval.rng import Rng
from trainers.batches import augmented, loaded
from trainers.objective import Objective

NETWORKS: dict[str, tuple[str, dict[str, Any]]] = {
    "WRN-16-4": ("wide_resnet", {"depth": 16, "width": 4}),
    "PreActResNet-18": ("preact_resnet18", {}),
}


def main() -> None:
    arguments = _arguments()
    torch.set_num_threads(arguments.threads)
    device = torch.device(arguments.device)
    assert trainers.train  # importing the package registers the methods
    wanted = arguments.methods.split(",") if arguments.methods else names("regularizer")
    x = torch.rand(arguments.n, 3, 32, 32, generator=torch.Generator().manual_seed(0)).to(device)
    y = (torch.arange(arguments.n) % 10).to(device)
    where = torch.cuda.get_device_name(device) if device.type == "cuda" else processor()
    print(f"{date.today()}, {where}, {arguments.threads} threads, torch {torch.__version__}, ", end="")
    print(f"batches of {arguments.n}, median of {arguments.rounds}\n")
    for label in arguments.networks.split(","):
        _costs(label, wanted, x, y, arguments.rounds)
    _loader(arguments.n, device, arguments.rounds, x, y)
    _torchvision(x, y, arguments.rounds)


def _costs(label: str, wanted: list[str], x: Tensor, y: Tensor, rounds: int) -> None:
    name, fields = NETWORKS[label]
    network = build("architecture", name, fields).build(channels=3, classes=10).to(x.device).train()
    methods = {method: build("regularizer", method, {}) for method in wanted}
    ratios: dict[str, list[float]] = {method: [] for method in wanted}
    plain = build("regularizer", "erm", {})
    _step(network, plain, x, y)
    base = []
    for _ in range(rounds):
        for method, regularizer in methods.items():
            erm = _timed(lambda: _step(network, plain, x, y), x.device)
            found = _timed(lambda: _step(network, regularizer, x, y), x.device)  # noqa: B023
            base.append(erm)
            ratios[method].append(found / erm)
    print(f"{label}: a step of ERM takes {1000 * statistics.median(base):.0f} ms\n")
    print(
        "| regularizer | step over ERM's | images through the network | per network image |\n|---|---|---|---|"
    )
    for method, found in ratios.items():
        ratio, images = statistics.median(found), methods[method].evaluations(len(x)) / len(x)
        print(f"| {method} | {ratio:.2f} | {images:.2f} | {ratio / images:.2f} |", flush=True)
    print()


def _step(network: nn.Module, regularizer: Any, x: Tensor, y: Tensor) -> None:
    for weight in network.parameters():
        weight.grad = None
    Objective(network, regularizer)(x, y, Rng(0).for_batch(len(x)), 0.5).backward()


def _loader(n: int, device: torch.device, rounds: int, x: Tensor, y: Tensor) -> None:
    """Images a second of the loader alone, cropped and mirrored, and of WRN-16-4 in training."""
    recipe = Recipe(
        architecture=build("architecture", "small_cnn", {}),
        regularizer=build("regularizer", "erm", {}),
        crop=4,
        flip=True,
    )
    images = torch.randint(0, 256, (5000, 3, 32, 32), dtype=torch.uint8).to(device)
    examples = Examples(images, torch.arange(5000, device=device) % 10, 10)
    order = torch.randperm(5000)
    rng = Rng(0)

    def pass_() -> None:
        batches = (order[start : start + n] for start in range(0, 5000 - n, n))
        for step, (rows, pixels, _) in enumerate(loaded(examples, batches)):
            augmented(recipe, pixels, rng=rng.child("step", step).rows(rows))

    name, fields = NETWORKS["WRN-16-4"]
    network = build("architecture", name, fields).build(channels=3, classes=10).to(device).train()
    plain = build("regularizer", "erm", {})
    pass_()
    loads, steps = [], []
    for _ in range(rounds):
        loads.append((5000 // n * n) / _timed(pass_, device))
        steps.append(n / _timed(lambda: _step(network, plain, x, y), device))
    given, used = statistics.median(loads), statistics.median(steps)
    print(f"loader alone: {given:.0f} images/s; WRN-16-4 uses {used:.0f}: {given / used:.0f} times as many\n")


def _torchvision(x: Tensor, y: Tensor, rounds: int) -> None:
    """The mixing alone: ours, without the network, against torchvision's on the same batch."""

    class Nothing(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return images.new_zeros(len(images), 10)

    network = Nothing()
    for ours, theirs in (("mixup", v2.MixUp(num_classes=10)), ("cutmix", v2.CutMix(num_classes=10))):
        method = build("regularizer", ours, {} if ours == "mixup" else {"probability": 1.0})
        loss = nn.CrossEntropyLoss()

        def mine() -> None:
            method.loss(network, x, y, rng=Rng(0), progress=0.5)  # noqa: B023

        def other() -> None:
            mixed, targets = theirs(x, y)  # noqa: B023
            loss(network(mixed), targets)  # noqa: B023

        mine(), other()
        ratio = [_several(other, x.device) / _several(mine, x.device) for _ in range(rounds)]
        print(f"{ours}: torchvision's takes {statistics.median(ratio):.2f} times as long as ours")


def _several(run: Callable[[], None], device: torch.device) -> float:
    return _timed(lambda: [run() for _ in range(20)], device)


def _timed(run: Callable[[], Any], device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    started = time.perf_counter()
    run()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - started


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--n", type=int, default=100, help="images in a batch")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--methods", help="names such as mixup,puzzle_mix; default: all")
    parser.add_argument("--networks", default=",".join(NETWORKS))
    return parser.parse_args()


if __name__ == "__main__":
    main()
