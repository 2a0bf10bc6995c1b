"""Our attacks beside Foolbox, torchattacks and pyautoattack: same model, images, steps, step lengths and threads.

Run from the repository, with the ``peers`` extra installed and nothing else running:

    python tests/benchmarks/attacks.py CHECKPOINT --arch resnet18 --data FILE.npz --robust ROBUST.safetensors

CHECKPOINT is an undefended network, attacked at 2/255. ROBUST is a PreActResNet-18 of width 16, trained adversarially
at 8/255 with this project's own trainer; without ``--robust`` it is trained first, which takes about ten minutes, and
kept in ``--cache``.

The libraries take turns, ``--rounds`` times; seconds are the median over the rounds. A row is one attack on a model.
Robust accuracy is measured alike for all: the network's own fp32 prediction of what the attack hands back,
clean-correct and survived, within the radius; minimal-norm attacks by their median distance. *Gradients* and *forwards*
are images that went through the network. *Over bare* is our time over that of the gradients it spent, each taken as
one bare forward and backward pass of the whole batch in the same precision, with nothing around it.
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any, NamedTuple

import torch
from machine import processor
from torch import Tensor, nn
from torch.nn import functional

from robust_eval import Classifier, Rng, attack
from robust_eval.classifier import frozen
from robust_eval.classifier.accelerate import pick_precision, twins
from robust_eval.data import open_source
from robust_eval.models.source import own_model
from robust_eval.threat import parse_number

TRAINING = {
    "adversarial.steps": "3",
    "adversarial.step_size": "4/255",
    "preact_resnet18.width": "16",
    "recipe.lr": "0.1",
    "recipe.batch_size": "64",
    "recipe.crop": "4",
    "recipe.flip": "true",
}
EPOCHS = 120


class Cost(NamedTuple):
    """What one run took."""

    x_adv: Tensor
    seconds: float
    gradients: int
    forwards: int
    peak_mib: float | None


@dataclass
class Runner:
    """One library's version of an attack."""

    library: str
    run: Callable[[nn.Module, Tensor, Tensor], Tensor]
    costs: list[Cost] = field(default_factory=list)


@dataclass
class Row:
    """One attack on one model."""

    name: str
    model: str
    norm: str
    eps: float
    minimal: bool
    n: int
    runners: list[Runner]
    bare: list[float] = field(default_factory=list)


class Counted(nn.Module):
    """Counts the images that pass forwards and backwards."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network, self.forwards, self.gradients = network, 0, 0

    def forward(self, x: Tensor) -> Tensor:
        self.forwards += len(x)
        out: Tensor = self.network(x)
        if out.requires_grad:
            out.register_hook(self._count)
        return out

    def _count(self, gradient: Tensor) -> None:
        self.gradients += len(gradient)


def main() -> None:
    arguments = _arguments()
    torch.set_num_threads(arguments.threads)
    examples = open_source(arguments.data).test(arguments.n)
    networks = {"undefended": _network(arguments.checkpoint, arguments.arch, examples)}
    rows = [row for row in _rows(arguments) if not arguments.rows or row.name in arguments.rows.split(",")]
    if any(row.model == "robust" for row in rows):
        robust = arguments.robust or _trained(arguments)
        networks["robust"] = _network(robust, None, examples)
    x, y = examples.pixels(), examples.labels
    print(f"{date.today()}, {processor()}, {arguments.threads} threads, torch {torch.__version__}, ", end="")
    print(f"gradients in {pick_precision('auto', x.device)}, median of {arguments.rounds}\n")
    for name, network in networks.items():
        with torch.no_grad():
            clean = (network(x).argmax(1) == y).double().mean()
        print(f"{name}: clean accuracy {clean:.3f}, n = {len(x)}")
    print(f"\n| {' | '.join(COLUMNS)} |\n|{'---|' * len(COLUMNS)}", flush=True)
    for row in rows:
        network, images, labels = networks[row.model], x[: row.n], y[: row.n]
        for _ in range(arguments.rounds):
            row.bare.append(_bare(network, images, labels))
            for runner in row.runners:
                runner.costs.append(_measured(runner, network, images, labels))
        for line in _lines(row, network, images, labels):
            print(f"| {' | '.join(line)} |", flush=True)


COLUMNS = (
    "attack",
    "library",
    "n",
    "seconds",
    "times ours",
    "images/s",
    "robust accuracy",
    "median distance",
    "gradients",
    "forwards",
    "peak MiB",
    "over bare",
)


def _lines(row: Row, network: nn.Module, x: Tensor, y: Tensor) -> list[list[str]]:
    seconds = [statistics.median(cost.seconds for cost in runner.costs) for runner in row.runners]
    lines = []
    broken = []
    for runner, median in zip(row.runners, seconds, strict=True):
        cost = runner.costs[-1]
        delta = (cost.x_adv - x).flatten(1)
        distance = delta.norm(p={"linf": torch.inf, "l2": 2.0, "l1": 1.0}[row.norm], dim=1)
        with torch.no_grad():
            correct, fooled = network(x).argmax(1) == y, network(cost.x_adv).argmax(1) != y
        within = distance <= row.eps * (1 + 1e-5) + 1e-6
        broken.append(correct & fooled & within)
        found = torch.where(fooled, distance, torch.inf)[correct]
        bare = statistics.median(row.bare) * cost.gradients
        lines.append(
            [
                f"{row.name} ({row.model})",
                runner.library,
                str(row.n),
                f"{median:.2f}",
                f"{median / seconds[0]:.1f}",
                f"{row.n / median:.1f}",
                f"{(correct & ~broken[-1]).double().mean():.3f}",
                f"{found.median():.4f}" if row.minimal else "",
                str(cost.gradients),
                str(cost.forwards),
                "" if cost.peak_mib is None else f"{cost.peak_mib:.0f}",
                f"{median / bare:.2f}" if runner.library == "ours" else "",
            ]
        )
    for runner, theirs in zip(row.runners[1:], broken[1:], strict=True):
        only = f"ours only {int((broken[0] & ~theirs).sum())}, theirs only {int((theirs & ~broken[0]).sum())}"
        lines.append(["", f"broken: {runner.library}", only, *[""] * (len(COLUMNS) - 3)])
    return lines


def _measured(runner: Runner, network: nn.Module, x: Tensor, y: Tensor) -> Cost:
    counted = Counted(network)
    _reset_peak()
    before = _memory("VmRSS")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.manual_seed(0)
        started = time.perf_counter()
        if runner.library == "ours":
            model = Classifier(network)
            x_adv = runner.run(model, x, y)  # type: ignore[arg-type]
            seconds = time.perf_counter() - started
            forwards, gradients = (int(model.ledger[name].sum()) for name in ("forwards", "backwards"))
        else:
            x_adv = runner.run(counted, x, y).detach()
            seconds = time.perf_counter() - started
            forwards, gradients = counted.forwards, counted.gradients
    peak = _memory("VmHWM")
    return Cost(
        x_adv, seconds, gradients, forwards, None if peak is None or before is None else peak - before
    )


def _bare(network: nn.Module, x: Tensor, y: Tensor) -> float:
    """Seconds of one image's forward and backward pass in the precision of the attacks, in a batch of all."""
    with frozen(network):
        made = twins(network, x, pick_precision("auto", x.device))
        twin = made.fast or made.exact or network
        batch = x.contiguous(memory_format=torch.channels_last)
        times = []
        for _ in range(4):
            started = time.perf_counter()
            leaf = batch.detach().requires_grad_()
            torch.autograd.grad(functional.cross_entropy(twin(leaf), y, reduction="sum"), leaf)
            times.append(time.perf_counter() - started)
    return statistics.median(times[1:]) / len(x)


def _rows(arguments: argparse.Namespace) -> list[Row]:
    import foolbox
    import pyautoattack
    import torchattacks

    A = foolbox.attacks
    small, large, l2 = parse_number(arguments.eps), parse_number(arguments.robust_eps), arguments.l2

    def ours(name: str, **fields: Any) -> Runner:
        return Runner("ours", lambda model, x, y: attack(name, **fields)(model, x, y, rng=Rng(0)))  # type: ignore[arg-type]

    def fb(method: Any, radius: float | None) -> Runner:
        def run(network: nn.Module, x: Tensor, y: Tensor) -> Tensor:
            model = foolbox.PyTorchModel(network.eval(), bounds=(0, 1))
            raw, clipped, _ = method(model, x, y, epsilons=radius)
            return raw if radius is None else clipped

        return Runner("foolbox", run)

    def ta(method: Callable[[nn.Module], Any]) -> Runner:
        return Runner("torchattacks", lambda network, x, y: method(network.eval())(x, y))

    def aa(eps: float) -> Runner:
        def run(network: nn.Module, x: Tensor, y: Tensor) -> Tensor:
            adversary = pyautoattack.AutoAttack(network, norm="Linf", eps=eps, version="standard", seed=0)
            x_adv: Tensor = adversary.run_standard_evaluation(x, y, batch_size=len(x))[0]
            return x_adv

        return Runner("pyautoattack", run)

    def linf(
        name: str, model: str, eps: float, n: int, steps: int, step: float, theirs: Any, other: Any
    ) -> Row:
        own = ours(name, eps=eps, steps=steps, relative_step_size=step)
        runners = [own, fb(theirs(rel_stepsize=step, steps=steps), eps)]
        runners.append(ta(lambda net: other(net, eps=eps, alpha=step * eps, steps=steps)))
        return Row(f"{name}-{steps}", model, "linf", eps, False, n, runners)

    n, few = arguments.n, arguments.few
    momentum = A.LinfMomentumIterativeFastGradientMethod
    searches = {"binary_search_steps": 9, "steps": 100}
    weak, strong = ("undefended", small), ("robust", large)
    return [
        linf("pgd", *weak, n, 40, 2.5 / 40, A.LinfPGD, torchattacks.PGD),
        linf("pgd", *strong, n, 40, 2.5 / 40, A.LinfPGD, torchattacks.PGD),
        linf("bim", *weak, n, 10, 0.2, A.LinfBasicIterativeAttack, torchattacks.BIM),
        linf("mim", *weak, n, 10, 0.2, momentum, torchattacks.MIFGSM),
        Row(
            "deepfool-50",
            "undefended",
            "l2",
            l2,
            True,
            few,
            [
                ours("deepfool", steps=50),
                fb(A.L2DeepFoolAttack(steps=50), None),
                ta(lambda net: torchattacks.DeepFool(net, steps=50)),
            ],
        ),
        Row(
            "ddn-100",
            "undefended",
            "l2",
            l2,
            True,
            few,
            [ours("ddn", steps=100), fb(A.DDNAttack(steps=100), None)],
        ),
        Row(
            "cw-9x100",
            "undefended",
            "l2",
            l2,
            True,
            few,
            [ours("cw", **searches), fb(A.L2CarliniWagnerAttack(**searches), None)],
        ),
        Row(
            "auto_attack",
            "robust",
            "linf",
            large,
            False,
            n,
            [ours("auto_attack", eps=large), aa(large)],
        ),
    ]


def _network(checkpoint: str | Path, arch: str | None, examples: Any) -> nn.Module:
    source = own_model(
        checkpoint=Path(checkpoint), architecture=arch, name=None, mean=None, std=None, examples=examples
    )
    return source.network.eval()


def _trained(arguments: argparse.Namespace) -> Path:
    """Return the weights of the adversarially trained network, trained now if they are not in the cache."""
    folder = arguments.cache / Path(arguments.data).stem
    if not list((folder / "checkpoints").glob("*.safetensors")):
        command = [sys.executable, "-c", "from robust_eval.cli import main; main()", "train"]
        command += ["--regularizer", "adversarial", "--arch", "preact_resnet18", "--data", arguments.data]
        command += ["--epochs", str(EPOCHS), "--out", str(folder)]
        for name, value in TRAINING.items():
            command += ["--set", f"{name}={value}"]
        subprocess.run(command, check=True)
    return next((folder / "checkpoints").glob("*.safetensors"))


def _memory(name: str) -> float | None:
    """MiB of this process by Linux's own count; ``None`` elsewhere."""
    status = Path("/proc/self/status")
    if not status.exists():
        return None
    line = next(line for line in status.read_text().splitlines() if line.startswith(name))
    return int(line.split()[1]) / 1024


def _reset_peak() -> None:
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("checkpoint")
    parser.add_argument("--arch", required=True)
    parser.add_argument("--data", required=True)
    parser.add_argument("--robust", help="weights of the adversarially trained network; default: train it")
    parser.add_argument("--cache", type=Path, default=Path.home() / ".cache" / "robust-eval" / "benchmarks")
    parser.add_argument("--n", type=int, default=100, help="images")
    parser.add_argument(
        "--few", type=int, default=30, help="images for deepfool, ddn and cw, which take the peers long"
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--eps", default="2/255")
    parser.add_argument("--robust-eps", default="8/255")
    parser.add_argument("--l2", type=float, default=0.5)
    parser.add_argument("--rows", help="names such as pgd-40,ddn-100; default: all")
    return parser.parse_args()


if __name__ == "__main__":
    main()
