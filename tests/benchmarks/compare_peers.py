"""Attack the same images with our six attacks, Foolbox and torchattacks at equal budgets; print one table.

Run from the repository, with the ``peers`` extra installed:

    python tests/benchmarks/compare_peers.py CHECKPOINT --arch resnet18 --data FILE.npz --n 100

Robust accuracy is measured alike for all: fp32 predictions on what the attack hands back, clean-correct and
survived, within the radius (for minimal-norm attacks: the distance of what was handed back). Foolbox is also given
its own way of counting, in which a perturbation that is too long is shortened to the radius and tried again.
Seconds are of one run each, on whatever else the machine is doing.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from robust_eval import Classifier, Rng, attack
from robust_eval.data import open_source
from robust_eval.model_source import own_model
from robust_eval.types import parse_number

DEEPFOOL_STEPS = 50


def main() -> None:
    arguments = _arguments()
    examples = open_source(arguments.data).test(arguments.n)
    source = own_model(
        checkpoint=Path(arguments.checkpoint),
        architecture=arguments.arch,
        name=None,
        mean=None,
        std=None,
        examples=examples,
    )
    network = source.network.eval()
    x, y = examples.pixels(), examples.labels
    eps, l2 = parse_number(arguments.eps), arguments.l2
    with torch.no_grad():
        correct = network(x).argmax(1) == y
    print(f"n = {len(x)}, clean accuracy {correct.double().mean():.3f}, linf {arguments.eps}, l2 {l2}\n")
    print("| attack | library | robust accuracy | median distance | seconds |")
    print("|---|---|---|---|---|")
    for name, library, bounded, run in _runs(network, eps, arguments.cw_searches, arguments.cw_steps):
        if name not in arguments.attacks.split(",") or library not in arguments.libraries.split(","):
            continue
        started = time.perf_counter()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            x_adv = run(x, y).detach()
        seconds = time.perf_counter() - started
        delta = (x_adv - x).flatten(1)
        distance = delta.abs().amax(1) if bounded else delta.norm(dim=1)
        with torch.no_grad():
            fooled = network(x_adv).argmax(1) != y
        within = distance <= (eps if bounded else l2) + 1e-6
        accuracy = (correct & ~(fooled & within)).double().mean()
        found = torch.where(fooled, distance, torch.inf)[correct]
        median = "" if bounded else f"{found.median():.4f}"
        print(f"| {name} | {library} | {accuracy:.3f} | {median} | {seconds:.1f} |", flush=True)


def _runs(
    network: torch.nn.Module, eps: float, searches: int, cw_steps: int
) -> list[tuple[str, str, bool, Callable[[Tensor, Tensor], Tensor]]]:
    import foolbox
    import torchattacks

    model = Classifier(network)
    theirs = foolbox.PyTorchModel(network, bounds=(0, 1))

    def ours(name: str, **fields: object) -> Callable[[Tensor, Tensor], Tensor]:
        return lambda x, y: attack(name, **fields)(model, x, y, rng=Rng(0))

    def fb(method: object, radius: float | None) -> Callable[[Tensor, Tensor], Tensor]:
        def run(x: Tensor, y: Tensor) -> Tensor:
            torch.manual_seed(0)
            raw, clipped, _ = method(theirs, x, y, epsilons=radius)  # type: ignore[operator]
            return raw if radius is None else clipped

        return run

    def ta(method: object) -> Callable[[Tensor, Tensor], Tensor]:
        def run(x: Tensor, y: Tensor) -> Tensor:
            torch.manual_seed(0)
            return method(x, y)  # type: ignore[operator]

        return run

    A = foolbox.attacks
    cw = {"binary_search_steps": searches, "steps": cw_steps}
    return [
        ("fgsm", "ours", True, ours("fgsm", eps=eps)),
        ("fgsm", "foolbox", True, fb(A.LinfFastGradientAttack(), eps)),
        ("fgsm", "torchattacks", True, ta(torchattacks.FGSM(network, eps=eps))),
        ("bim", "ours", True, ours("bim", eps=eps, steps=10, relative_step_size=0.2)),
        ("bim", "foolbox", True, fb(A.LinfBasicIterativeAttack(rel_stepsize=0.2, steps=10), eps)),
        ("bim", "torchattacks", True, ta(torchattacks.BIM(network, eps=eps, alpha=0.2 * eps, steps=10))),
        ("mim", "ours", True, ours("mim", eps=eps, steps=10, relative_step_size=0.2)),
        (
            "mim",
            "foolbox",
            True,
            fb(A.LinfMomentumIterativeFastGradientMethod(rel_stepsize=0.2, steps=10), eps),
        ),
        ("mim", "torchattacks", True, ta(torchattacks.MIFGSM(network, eps=eps, alpha=0.2 * eps, steps=10))),
        ("pgd", "ours", True, ours("pgd", eps=eps, steps=10, relative_step_size=0.25)),
        ("pgd", "foolbox", True, fb(A.LinfPGD(rel_stepsize=0.25, steps=10), eps)),
        ("pgd", "torchattacks", True, ta(torchattacks.PGD(network, eps=eps, alpha=0.25 * eps, steps=10))),
        ("deepfool", "ours", False, ours("deepfool", steps=DEEPFOOL_STEPS)),
        ("deepfool", "foolbox", False, fb(A.L2DeepFoolAttack(steps=DEEPFOOL_STEPS), None)),
        ("deepfool", "torchattacks", False, ta(torchattacks.DeepFool(network, steps=DEEPFOOL_STEPS))),
        ("cw", "ours", False, ours("cw", **cw)),
        ("cw", "foolbox", False, fb(A.L2CarliniWagnerAttack(**cw), None)),
        ("cw", "torchattacks", False, ta(torchattacks.CW(network, c=1, steps=searches * cw_steps))),
    ]


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("checkpoint")
    parser.add_argument("--arch", required=True)
    parser.add_argument("--data", required=True)
    parser.add_argument("--n", type=int, default=100)
    parser.add_argument("--eps", default="2/255")
    parser.add_argument("--l2", type=float, default=0.5)
    parser.add_argument("--cw-searches", type=int, default=9)
    parser.add_argument("--cw-steps", type=int, default=100)
    parser.add_argument("--attacks", default="fgsm,bim,mim,pgd,deepfool,cw")
    parser.add_argument("--libraries", default="ours,foolbox,torchattacks")
    return parser.parse_args()


if __name__ == "__main__":
    main()
