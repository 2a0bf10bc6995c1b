"""One step of a stage: the loss of a batch, and what it does to the weights. Taken for good, or on trial."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from robust_eval.models.recipe import Recipe
from robust_eval.rng import Rng
from robust_eval.types import Logits
from trainers.batches import Batch, augmented
from trainers.schedule import StageSchedule
from trainers.standing import put

if TYPE_CHECKING:
    from lightning_fabric import Fabric

__all__ = ["Steps"]


@dataclass(frozen=True, eq=False)
class Steps:
    """The steps of one stage. A batch passes through them alike, whether it is trained on or only scored."""

    recipe: Recipe
    network: nn.Module
    objective: nn.Module
    optimizer: torch.optim.Optimizer
    fabric: Fabric
    schedule: StageSchedule
    rng: Rng
    cost: int
    """Network evaluations of a step, in all processes together."""

    def set_rate(self, lr: float) -> None:
        """Set the learning rate of the coming step."""
        for group in self.optimizer.param_groups:
            group["lr"] = lr

    def augmented(self, batch: Batch, step: int) -> Batch:
        """Return the batch as this step sees it: each image by the draw of its row."""
        return batch._replace(x=augmented(self.recipe, batch.x, rng=self._rng(batch, step)))

    def loss(self, batch: Batch, step: int) -> Float[Tensor, ""]:
        """Return the scalar loss of a batch, which is augmented already, in this step."""
        rng = self._rng(batch, step).child("loss")
        loss: Tensor = self.objective(batch.x, batch.y, rng, self.schedule.progress(step), batch.weights)
        return loss

    def cross_entropy(self, batch: Batch) -> Float[Tensor, " n"]:
        """Return the cross-entropy of each image, whatever the regularizer makes of it; augmented already."""
        bf16 = self.recipe.precision == "bf16"
        with torch.autocast(batch.x.device.type, torch.bfloat16, enabled=bf16):
            logits: Logits = self.network(batch.x)
        return functional.cross_entropy(logits.float(), batch.y, reduction="none")

    def advance(self, batch: Batch, step: int) -> Float[Tensor, ""]:
        """Take the step on a batch, which is augmented already, or the one that was tried on it; return its loss."""
        if batch.tried is not None:
            put(batch.tried.after, self.objective, self.optimizer)
            return batch.tried.loss
        loss = self.loss(batch, step)
        self.take(loss)
        return loss.detach()

    def take(self, loss: Float[Tensor, ""]) -> None:
        """Change the weights by the gradient of this loss."""
        self.optimizer.zero_grad()
        self.fabric.backward(loss)
        self.optimizer.step()

    def _rng(self, batch: Batch, step: int) -> Rng:
        return self.rng.child("step", step).rows(batch.rows)
