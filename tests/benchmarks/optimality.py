"""How near to the best attack each attack for the smallest perturbation comes, with 1,000 queries an image.

Run from the repository, with the ``peers`` extra installed (and, if there, adv-lib):

    python tests/benchmarks/optimality.py digits=WEIGHTS.safetensors [DATA=WEIGHTS ...] --norms linf,l2,l1,l0

After AttackBench (Cinà et al. 2025, arXiv 2404.19460). A query is a forward or a backward pass of an image; each attack
takes as many steps as 1,000 of them allow. Its distances give its curve of accuracy against radius, and the smallest
distance of each image over all attacks of the norm the best curve. *Optimality* is 1 less the area between the two,
over the area between the best curve and that of an attack that finds nothing, up to the radius at which the best breaks
all: with ``d`` the distances and ``R`` the largest best one, ``1 - Σ (min(d, R) - d_best) / Σ (R - d_best)``. *Best* is
the share of images on which no other attack is nearer by more than 1 %.

Measured alike for all: the network's own fp32 answer to what an attack hands back. *Queries* is the mean that was
spent. Attacks in a ball of given radius are not here: they would share their queries among the radii.
"""

from __future__ import annotations

import argparse
import importlib.util
import math
import time
import warnings
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any, NamedTuple

import torch
from machine import processor
from torch import Tensor, nn

from robust_eval import Classifier, Rng, attack
from robust_eval.classifier import frozen
from robust_eval.data import open_source
from robust_eval.models.source import own_model

QUERIES = 1000
HALF = QUERIES // 2
P = {"linf": math.inf, "l2": 2.0, "l1": 1.0}


class Runner(NamedTuple):
    """One library's version of an attack: takes network, images and labels, returns points and mean queries."""

    library: str
    name: str
    run: Callable[[nn.Module, Tensor, Tensor], tuple[Tensor, float]]


class Counted(nn.Module):
    """Counts the images that pass forwards and backwards."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network, self.queries = network, 0

    def forward(self, x: Tensor) -> Tensor:
        self.queries += len(x)
        out: Tensor = self.network(x)
        if out.requires_grad:
            out.register_hook(self._count)
        return out

    def _count(self, gradient: Tensor) -> None:
        self.queries += len(gradient)


def ours(name: str, **fields: Any) -> Runner:
    """Return an attack of ours."""

    def run(network: nn.Module, x: Tensor, y: Tensor) -> tuple[Tensor, float]:
        model = Classifier(network)
        with model.frozen():
            x_adv = attack(name, **fields).run(model, x, y, rng=Rng(0).for_batch(len(x))).x_adv
        spent = model.ledger["forwards"].sum() + model.ledger["backwards"].sum()
        return x_adv, spent.item() / len(x)

    shown = f"{name} (lr={fields['lr']})" if "lr" in fields else name
    return Runner("ours", shown, run)


def counted(library: str, name: str, made: Callable[[nn.Module, Tensor, Tensor], Tensor]) -> Runner:
    """Return an attack of others."""

    def run(network: nn.Module, x: Tensor, y: Tensor) -> tuple[Tensor, float]:
        torch.manual_seed(0)
        model = Counted(network).eval()
        with frozen(model), torch.enable_grad():
            x_adv = made(model, x.clone(), y.clone()).detach()
        return x_adv, model.queries / len(x)

    return Runner(library, name, run)


def runners(norm: str) -> list[Runner]:
    """Return all attacks of a norm, each with steps for 1,000 queries."""
    # a few passes are kept for the line search and for points that are asked again
    steps, about = HALF - 10, {"steps": HALF - 50}
    found = []
    if norm == "l0":
        found += [ours("sigma_zero", **about)]
    else:
        found += [ours("fmn", norm=norm, **about), ours("pdpgd", norm=norm, **about)]
        found += [ours("fab_minimal", norm=norm, steps=QUERIES // 12)]
    if norm == "l2":
        found += [ours("ddn", **about), ours("deepfool"), ours("cw", binary_search_steps=5, steps=steps // 5)]
        found += [ours("cw", binary_search_steps=5, steps=steps // 5, lr=0.1)]
    return found + foolboxs(norm, steps) + torchattackss(norm, steps) + adv_libs(norm, steps)


def foolboxs(norm: str, steps: int) -> list[Runner]:
    """Return Foolbox's."""
    import foolbox

    A = foolbox.attacks
    methods: dict[str, list[tuple[str, Any]]] = {
        "linf": [("FMN", A.LInfFMNAttack(steps=steps)), ("DeepFool", A.LinfDeepFoolAttack(steps=50))],
        "l2": [
            ("DDN", A.DDNAttack(steps=steps)),
            ("FMN", A.L2FMNAttack(steps=steps)),
            ("DeepFool", A.L2DeepFoolAttack(steps=50)),
            ("CW", A.L2CarliniWagnerAttack(binary_search_steps=5, steps=steps // 5)),
        ],
        "l1": [
            ("FMN", A.L1FMNAttack(steps=steps)),
            ("EAD", A.EADAttack(binary_search_steps=5, steps=steps // 5)),
        ],
        "l0": [("FMN", A.L0FMNAttack(steps=steps))],
    }

    def run(method: Any) -> Callable[[nn.Module, Tensor, Tensor], Tensor]:
        def made(network: nn.Module, x: Tensor, y: Tensor) -> Tensor:
            points: Tensor = method(foolbox.PyTorchModel(network, bounds=(0, 1)), x, y, epsilons=None)[1]
            return points

        return made

    return [counted("Foolbox", name, run(method)) for name, method in methods[norm]]


def torchattackss(norm: str, steps: int) -> list[Runner]:
    """Return torchattacks', which has such attacks in l2 alone."""
    import torchattacks

    if norm != "l2":
        return []
    return [
        counted("torchattacks", "DeepFool", lambda net, x, y: torchattacks.DeepFool(net, steps=50)(x, y)),
        counted("torchattacks", "CW", lambda net, x, y: torchattacks.CW(net, steps=steps)(x, y)),
    ]


def adv_libs(norm: str, steps: int) -> list[Runner]:
    """Return adv-lib's where it is installed."""
    if importlib.util.find_spec("adv_lib") is None:
        return []
    from adv_lib import attacks as A

    p = P.get(norm, 0.0)

    def made(name: str, method: Any, **fields: Any) -> Runner:
        return counted("adv-lib", name, lambda net, x, y: method(net, x, y, **fields))

    if norm == "l0":
        return [made("sigma-zero", A.sigma_zero, num_steps=steps), made("FMN", A.fmn, norm=0, steps=steps)]
    found = [
        made("FMN", A.fmn, norm=p, steps=steps),
        made("PDPGD", A.pdpgd, norm=p, num_steps=steps),
        made("FAB", A.fab, norm=p, n_iter=QUERIES // 11),
    ]
    if norm == "l2":
        found += [
            made("DDN", A.ddn, steps=steps, levels=None),
            made("ALMA", A.alma, num_steps=steps, distance="l2"),
            made("SuperDeepFool", A.sdf, steps=50),
        ]
    return found + ([made("ALMA", A.alma, num_steps=steps, distance="l1")] if norm == "l1" else [])


def distances(network: nn.Module, x: Tensor, y: Tensor, x_adv: Tensor, norm: str) -> Tensor:
    """Return how far each point is, infinite where the network is right or the point is not an image."""
    with torch.no_grad():
        fooled = (network(x_adv).argmax(1) != y) & (x_adv.flatten(1).amin(1) >= -1e-6)
        fooled &= x_adv.flatten(1).amax(1) <= 1 + 1e-6
    change = x_adv - x
    if norm == "l0":
        length = (change.abs() > 1e-6).any(1).flatten(1).sum(1).to(x.dtype)
    else:
        length = change.flatten(1).norm(p=P[norm], dim=1)
    return length.where(fooled, torch.inf)


def main() -> None:
    arguments = _arguments()
    torch.set_num_threads(arguments.threads)
    warnings.filterwarnings("ignore")
    print(f"{date.today()}, {processor()}, torch {torch.__version__}, {QUERIES} queries an image\n")
    for given in arguments.networks:
        data, _, weights = given.partition("=")
        examples = open_source(data).test(4 * arguments.n)
        network = own_model(
            checkpoint=Path(weights), architecture=None, name=None, mean=None, std=None, examples=examples
        ).network.eval()
        x, y = examples.pixels(), examples.labels
        with torch.no_grad():
            right = network(x).argmax(1) == y
        x, y = x[right][: arguments.n], y[right][: arguments.n]
        print(f"**{Path(data).stem}**, {len(x)} images\n")
        for norm in arguments.norms.split(","):
            _table(network, x, y, norm)


def _table(network: nn.Module, x: Tensor, y: Tensor, norm: str) -> None:
    found: list[tuple[Runner, Tensor, float, float]] = []
    for runner in runners(norm):
        began = time.process_time()
        x_adv, queries = runner.run(network, x, y)
        seconds = time.process_time() - began
        found.append((runner, distances(network, x, y, x_adv, norm), queries, seconds))
    best = torch.stack([d for _, d, _, _ in found]).amin(0)
    furthest = best[best.isfinite()].max()
    best = best.clamp(max=furthest)
    print(f"| {norm} | of | optimality | best | median | fooled | queries | CPU s |")
    print("|---|---|---:|---:|---:|---:|---:|---:|")
    room = (furthest - best).sum().clamp(min=1e-12)
    scored = [
        (1 - ((d.clamp(max=furthest) - best).sum() / room).item(), *rest) for rest in found for d in [rest[1]]
    ]
    for optimality, runner, d, queries, seconds in sorted(scored, key=lambda row: -row[0]):
        near = (d <= 1.01 * best).double().mean().item()
        fooled = d.isfinite().double().mean().item()
        print(
            f"| {runner.name} | {runner.library} | {optimality:.3f} | {near:.2f} | {d.median().item():.4g} | "
            f"{fooled:.2f} | {queries:.0f} | {seconds:.1f} |",
            flush=True,
        )
    print()


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "networks", nargs="+", metavar="DATA=WEIGHTS", help="weights with a card, and their data"
    )
    parser.add_argument("--n", type=int, default=32, help="correctly classified images of each network")
    parser.add_argument("--norms", default="linf,l2,l1,l0")
    parser.add_argument("--threads", type=int, default=1)
    return parser.parse_args()


if __name__ == "__main__":
    main()
