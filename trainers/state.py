"""Everything a training needs to go on after it was killed, in one file."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from robust_eval.errors import RobustEvalError
from robust_eval.files import atomic_path
from trainers.averaging import Average
from trainers.optim import Plateau

__all__ = ["STATE", "State", "Weights", "restore", "resume", "snapshot"]

Weights = dict[str, Tensor]
STATE = 3
"""Raised when a state means something else than before: an older one is not gone on from."""


@dataclass
class State:
    """How far a training is, apart from the network and the optimizer of its stage."""

    stage: int = 0
    step: int = 0
    """Steps done in this stage."""
    done: float = 0.0
    """Share of the budget that earlier stages took."""
    evaluations: int = 0
    carried: float = 0.0
    """Share of the budget that the stage before left."""
    scheduled_from: float = 0.0
    """Share of the budget that was done when the learning-rate schedule began."""
    best: float = -math.inf
    """Highest validation accuracy of this stage."""
    waited: int = 0
    """Passes since."""
    best_weights: Weights = field(default_factory=dict)
    plateau: Plateau | None = None
    history: list[dict[str, Any]] = field(default_factory=list)

    def next_stage(self, number: int, *, continues: bool) -> State:
        """Return the state at the beginning of a later stage: the budget and the history go on.

        If it ``continues`` this one, the schedule does too. What a plateau's lowest loss was is found anew, since the
        loss of another stage may have another scale.
        """
        kept = {"done": self.done, "evaluations": self.evaluations, "history": self.history}
        state = State(number, carried=self.carried, scheduled_from=self.done, **kept)  # type: ignore[arg-type]
        if continues:
            assert self.plateau is not None
            state.scheduled_from = self.scheduled_from
            state.plateau = Plateau(self.plateau.patience, self.plateau.halvings)
        return state

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


def snapshot(
    path: Path,
    identity: str,
    state: State,
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    average: Average | None,
) -> None:
    """Write the state, the network, the optimizer and the generators that dropout draws from."""
    on_gpu = any(weight.is_cuda for weight in network.parameters())
    content = {
        "identity": identity,
        "state": {**vars(state), "plateau": vars(state.plateau)},
        "network": network.state_dict(),
        "optimizer": optimizer.state_dict(),
        "average": None if average is None else (average.network.state_dict(), average.steps),
        "random": torch.get_rng_state(),
        "cuda_random": torch.cuda.get_rng_state_all() if on_gpu else None,
    }
    with atomic_path(path) as temporary:
        torch.save(content, temporary)


def resume(path: Path, identity: str, device: torch.device) -> dict[str, Any] | None:
    """Return what :func:`snapshot` wrote for this identity, ``None`` if there is nothing.

    Raises ``RobustEvalError`` for a damaged file, or one of another training.
    """
    if not path.exists():
        return None
    try:
        content: dict[str, Any] = torch.load(path, map_location=device, weights_only=True)
        found = content["identity"]
        kept = content["state"]
        content["state"] = State(**kept | {"plateau": Plateau(**kept["plateau"])})
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
    kept: dict[str, Any], network: nn.Module, optimizer: torch.optim.Optimizer, average: Average | None
) -> None:
    """Put back what :func:`resume` read."""
    network.load_state_dict(kept["network"])
    optimizer.load_state_dict(kept["optimizer"])
    if average is not None and kept["average"] is not None:
        weights, average.steps = kept["average"]
        average.network.load_state_dict(weights)
    torch.set_rng_state(kept["random"].cpu())
    if kept["cuda_random"] is not None:
        torch.cuda.set_rng_state_all([state.cpu() for state in kept["cuda_random"]])
