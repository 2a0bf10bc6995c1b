"""How far a training is, and everything it needs to go on after it was killed, in one file."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from robust_eval.data import Examples
from robust_eval.errors import RobustEvalError
from robust_eval.files import atomic_path
from robust_eval.identity import content_key, file_sha256
from robust_eval.methods import Stage
from robust_eval.models.recipe import Recipe
from robust_eval.paths import what_is
from trainers.averaging import Average
from trainers.schedule import Plateau, StageSchedule
from trainers.usage import Usage

__all__ = ["State", "Weights", "identity_of", "restore", "resume", "snapshot"]

Weights = dict[str, Tensor]
STATE = 5
"""Raised when a state means something else than before: an older one is not gone on from."""


@dataclass
class State:
    """How far a training is, apart from the network and the optimizer of its stage."""

    plateau: Plateau
    usage: Usage = field(default_factory=lambda: Usage.of(0))
    stage: int = 0
    step: int = 0
    """Steps done in this stage."""
    done: float = 0.0
    """Share of the budget that earlier stages took."""
    evaluations: int = 0
    """Images through the network in steps of training."""
    asked: float = 0.0
    """What the questions of the curriculum cost, in network evaluations."""
    begun: int = 0
    """Network evaluations before this stage."""
    updates: int = 0
    """Steps done in all stages."""
    carried: float = 0.0
    """Share of the budget that the stage before left."""
    scheduled_from: float = 0.0
    """Share of the budget that was done when the learning-rate schedule began."""
    best: float = -math.inf
    """Highest validation accuracy of this stage."""
    waited: int = 0
    """Passes since."""
    best_weights: Weights = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)
    order: dict[str, Any] = field(default_factory=dict)
    """What the curriculum remembers of this stage."""

    @property
    def spent(self) -> int:
        """All network evaluations so far."""
        return self.evaluations + round(self.asked)

    def next_stage(self, *, continues: bool) -> State:
        """Return the state at the beginning of the next stage: the budget and the history go on.

        If it ``continues`` this one, the schedule does too. What a plateau's lowest loss was is found anew, since the
        loss of another stage may have another scale.
        """
        return State(
            Plateau(self.plateau.patience, self.plateau.halvings if continues else 0),
            self.usage,
            stage=self.stage + 1,
            done=self.done,
            evaluations=self.evaluations,
            asked=self.asked,
            updates=self.updates,
            begun=self.spent,
            order=self.order,
            carried=self.carried,
            scheduled_from=self.scheduled_from if continues else self.done,
            history=self.history,
        )

    def schedule(self, recipe: Recipe, stages: Sequence[Stage], *, images: int, cost: float) -> StageSchedule:
        """Return the schedule of this stage, on so many images at so much of the budget a step."""
        return StageSchedule.of(
            recipe,
            stages,
            self.stage,
            images=images,
            cost=cost,
            done=self.done,
            carried=self.carried,
            scheduled_from=self.scheduled_from,
        )

    def is_spent(self, schedule: StageSchedule) -> bool:
        """Whether the questions of a curriculum have used up what the stage had left."""
        return self.asked > 0 and schedule.is_spent(self.spent - self.begun)

    def end_stage(self, schedule: StageSchedule) -> None:
        """Count the share of the budget that the stage took, and the one that it leaves."""
        self.carried = 0.0 if self.is_spent(schedule) else schedule.left(self.step)
        self.done += schedule.share - self.carried

    def see(self, row: dict[str, Any], step: int, network: nn.Module, *, keep_best: bool) -> None:
        """Take in the row at the end of a pass; if told to, keep the weights when none before were better."""
        self.step = step
        self.history.append(row)
        accuracy = row["validation_accuracy"]
        self.waited += accuracy is not None
        if accuracy is not None and accuracy > self.best:
            self.best, self.waited = accuracy, 0
            if keep_best:
                weights = network.state_dict().items()
                self.best_weights = {name: value.detach().clone() for name, value in weights}


def identity_of(recipe: Recipe, examples: Examples, *, processes: int) -> str:
    """Return a key of everything that decides the weights: a state is of this very training, or of another."""
    return content_key(
        {
            "state": STATE,
            "recipe": repr(recipe),
            "start": None if recipe.start is None else file_sha256(recipe.start),
            "data": examples.fingerprint,
            "processes": processes,
        }
    )


def snapshot(
    path: Path,
    identity: str,
    state: State,
    objective: nn.Module,
    optimizer: torch.optim.Optimizer,
    average: Average | None,
) -> None:
    """Write the state, the network with its companion, the optimizer and the generators that dropout draws from."""
    on_gpu = any(weight.is_cuda for weight in objective.parameters())
    content = {
        "identity": identity,
        "state": {**vars(state), "plateau": vars(state.plateau), "usage": vars(state.usage)},
        "objective": objective.state_dict(),
        "optimizer": optimizer.state_dict(),
        "average": None if average is None else (average.network.state_dict(), average.steps),
        "random": torch.get_rng_state(),
        "cuda_random": torch.cuda.get_rng_state_all() if on_gpu else None,
    }
    with atomic_path(path) as temporary:
        torch.save(content, temporary)


def resume(path: Path, identity: str) -> dict[str, Any] | None:
    """Return what :func:`snapshot` wrote for this identity, ``None`` if there is nothing.

    Raises ``RobustEvalError`` for a damaged file, or one of another training.
    """
    if (lies := what_is(path)) == "none":
        return None
    if lies != "a file":
        raise RobustEvalError(
            f"{path}: expected the state of a training, got {lies}; remove it to start anew"
        )
    try:
        content: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        found = content["identity"]
        kept = content["state"]
        content["state"] = State(
            **kept | {"plateau": Plateau(**kept["plateau"]), "usage": Usage(**kept["usage"])}
        )
    except Exception as error:
        raise RobustEvalError(
            f"{path}: expected the state of a training, got a file that cannot be read ({type(error).__name__}); "
            "remove it to start anew"
        ) from None
    if found != identity:
        raise RobustEvalError(
            f"{path}: expected the state of this training, got that of another recipe or of other data; remove it to "
            "start anew"
        )
    return content


def restore(
    kept: dict[str, Any], objective: nn.Module, optimizer: torch.optim.Optimizer, average: Average | None
) -> None:
    """Put back what :func:`resume` read."""
    objective.load_state_dict(kept["objective"])
    optimizer.load_state_dict(kept["optimizer"])
    if average is not None and kept["average"] is not None:
        weights, average.steps = kept["average"]
        average.network.load_state_dict(weights)
    torch.set_rng_state(kept["random"].cpu())
    if kept["cuda_random"] is not None:
        torch.cuda.set_rng_state_all([state.cpu() for state in kept["cuda_random"]])
