"""The parts of AutoAttack as packaged by pyautoattack, and its ensembles.

The parts are called one by one on the examples that still resist, which is what its own loop does; that loop also
writes a state file that it cannot read again, and traces every Python call.
"""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from robust_eval.attacks._fields import Steps
from robust_eval.attacks.peers._peer import Call, Theirs
from robust_eval.errors import UnknownNameError
from robust_eval.methods import FEW, Passes, walk
from robust_eval.registry import build
from robust_eval.threat import Ball

__all__ = ["ENSEMBLES", "find", "known"]

PARTS = ("apgd-ce", "apgd-dlr", "apgd-t", "fab", "fab-t", "square")
ENSEMBLES = {
    "standard": ("apgd-ce", "apgd-t", "fab-t", "square"),
    "plus": ("apgd-ce", "apgd-dlr", "fab", "square", "apgd-t", "fab-t"),
}
NORMS: dict[Ball, str] = {"linf": "Linf", "l2": "L2", "l1": "L1"}


def known() -> dict[str, tuple[str, ...]]:
    """Return what can be asked for, with the parts it runs in their order."""
    return {**{part: (part,) for part in PARTS}, **ENSEMBLES}


def find(name: str, library: str) -> Theirs:
    """Return an ensemble or a part by its name."""
    if name not in known():
        raise UnknownNameError("pyautoattack attack", name, known())
    parts = known()[name]
    fields: list[tuple[str, Any, Any]] = []
    if name != "square":
        fields.append(("steps", Steps, 100))
    if name in ("apgd-t", "fab-t"):
        fields.append(("targets", Steps, 9))
    if "square" in parts:
        fields.append(("queries", Steps, 5000))
    if name in PARTS:
        fields.append(("n_restarts", Steps, 1))
    made = _Made(name, parts)
    return Theirs(
        library,
        f"pyautoattack:{name}",
        "fixed",
        tuple(NORMS),
        tuple(fields),
        lambda *_: None,
        made.run,
        made.cost,
    )


@dataclasses.dataclass(frozen=True)
class _Made:
    """The parts to run, one after another."""

    name: str
    parts: tuple[str, ...]

    def run(self, params: Mapping[str, Any], call: Call) -> Tensor:
        """Return the first point that fools the network, the last part's where none does."""
        x_adv = call.x.clone()
        left = torch.arange(len(x_adv), device=x_adv.device)
        for part in self.parts:
            if not len(left):
                break
            x_adv[left] = self._part(part, params, call)(call.x[left], call.y[left]).detach().to(x_adv)
            with torch.no_grad():
                left = left[call.network(x_adv[left]).argmax(1) == call.y[left]]
        return x_adv

    def cost(self, params: Mapping[str, Any], norm: Ball, classes: int) -> Passes | None:
        """Return the passes of an ensemble, which are those of ours, or of a part."""
        if self.name in ENSEMBLES:
            same = build("attack", "auto_attack", {"version": self.name, "norm": norm, **params})
            passes: Passes | None = same.cost(classes)
            return passes
        restarts = params["n_restarts"]
        if self.name == "square":
            return Passes(params["queries"] + 2 * FEW, 0).times(restarts)
        if self.name == "fab":
            return walk(params["steps"], columns=classes - 1, forwards=3).times(restarts)
        return walk(params["steps"]).times(restarts * (params.get("targets", 0) + 1))

    def _part(self, part: str, params: Mapping[str, Any], call: Call) -> Any:
        """Return the function that runs a part, with the parameters of its ensemble."""
        standard, l1 = self.name == "standard", call.norm == "l1"
        several = 5 if self.name == "plus" or (standard and l1) else 1
        restarts = params.get("n_restarts", several if part in ("apgd-ce", "apgd-dlr") else 1)
        targets = min(
            params.get("targets", 5 if standard and l1 and part == "apgd-t" else 9), call.classes - 1
        )
        shared = {"norm": NORMS[call.norm], "eps": call.eps, "seed": call.seed, "device": call.x.device}
        shared["verbose"] = False
        if part == "square":
            queries = params["queries"]
            return (
                _module("square")
                .SquareAttack(
                    call.network, n_queries=queries, n_restarts=restarts, resc_schedule=False, **shared
                )
                .perturb
            )
        shared["n_iter"] = params["steps"]
        if part == "apgd-t":
            return (
                _module("autopgd_base")
                .APGDAttack_targeted(
                    call.network, n_restarts=restarts, n_target_classes=targets, use_largereps=l1, **shared
                )
                .perturb
            )
        if part.startswith("apgd"):
            loss = part.removeprefix("apgd-")
            return (
                _module("autopgd_base")
                .APGDAttack(call.network, n_restarts=restarts, loss=loss, use_largereps=l1, **shared)
                .perturb
            )
        fab_restarts = 5 if part == "fab" and self.name == "plus" else restarts
        made = _module("fab_pt").FABAttack_PT(
            call.network, n_restarts=fab_restarts, n_target_classes=targets, **shared
        )
        made.targeted = part == "fab-t"
        return made.perturb


def _module(name: str) -> Any:
    """Import a module of the package, which has no types, when it is first needed."""
    return importlib.import_module(f"pyautoattack.{name}")
