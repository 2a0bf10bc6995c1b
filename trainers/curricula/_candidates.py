"""Single images as candidates of a step: drawn at random, and their losses."""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from robust_eval.methods import Task, Trial

__all__ = ["Scored", "drawn", "scored"]


class Scored(NamedTuple):
    """Candidates, the smallest loss first."""

    rows: Int[Tensor, " m"]
    losses: Float[Tensor, " m"]


def drawn(task: Task, step: int, k: int) -> Int[Tensor, "k b"]:
    """Return ``k`` batches of random images for a step, all different; from step to step an image may come again."""
    generator = task.rng.child("candidates", step).torch_generator()
    rows = torch.randperm(len(task.labels), generator=generator)[: k * task.batch_size]
    return rows.view(k, task.batch_size)


def scored(trial: Trial, batches: Int[Tensor, "k b"]) -> Scored:
    """Return the candidates by loss, equal ones in the order that they came in."""
    losses, order = trial.losses(batches).flatten().double().sort(stable=True)
    return Scored(batches.flatten()[order], losses)
