"""Says in one line what a method of a user's own hands back wrongly: a loss, the outputs of a network, a choice."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from robust_eval.errors import DataError
from robust_eval.methods import Architecture, Choice, Curriculum, Regularizer, Task

__all__ = ["expect_choice", "expect_loss", "expect_outputs"]


def expect_loss(regularizer: Regularizer, loss: object) -> Float[Tensor, ""]:
    """Return the loss; raises ``DataError`` for what no step can follow: no scalar tensor, or one without a gradient.

    Whether it is finite is looked at now and then, since each look waits for the device.
    """
    place = f"{type(regularizer).__qualname__}.loss"
    if not isinstance(loss, Tensor):
        raise DataError(
            f"{place}: expected a scalar tensor, got {type(loss).__name__}; return the batch's mean"
        )
    if loss.ndim or not loss.is_floating_point():
        raise DataError(
            f"{place}: expected a scalar tensor, got {_shown(loss)}; return the batch's mean as a real number"
        )
    if torch.is_grad_enabled() and not loss.requires_grad:
        raise DataError(
            f"{place}: expected a loss with a gradient, got {loss.item():.4g} without; compute it from the model's "
            "outputs, without detach(), item() or no_grad()"
        )
    return loss


def expect_outputs(architecture: Architecture, network: nn.Module, classes: int) -> None:
    """Look at what the network first answers, and raise ``DataError`` there unless it is a logit for each class.

    Raises it at once for a network without weights. No pass of its own is made for it; a loss that asks parts of the
    network alone is left to itself.
    """
    place = type(architecture).__qualname__
    if next(network.parameters(), None) is None:
        raise DataError(
            f"{place}.build: expected a network with weights to train, got one without parameters"
        )

    def look(_: nn.Module, args: tuple[object, ...], output: object) -> None:
        handle.remove()
        n = len(args[0]) if args and isinstance(args[0], Tensor) else None
        if not isinstance(output, Tensor):
            raise DataError(
                f"{place}.build: expected a network that returns a tensor, got {type(output).__name__}"
            )
        if output.ndim != 2 or output.shape[1] != classes or n not in (None, len(output)):
            raise DataError(
                f"{place}.build: expected a network that returns logits [{n or 'n'},{classes}], got "
                f"{_shown(output)}; let its last layer have as many outputs as classes"
            )

    handle = network.register_forward_hook(look)


def expect_choice(curriculum: Curriculum, choice: object, task: Task) -> Choice:
    """Return the choice; raises ``DataError`` for rows and weights that no batch can be made of."""
    place = f"{type(curriculum).__qualname__}.next"
    if not isinstance(choice, Choice):
        raise DataError(f"{place}: expected a Choice, got {type(choice).__name__}; return Choice(rows)")
    rows, weights, n, size = choice.rows, choice.weights, len(task.labels), task.batch_size
    if not isinstance(rows, Tensor) or rows.dtype != torch.int64 or rows.shape != (size,):
        raise DataError(
            f"{place}: rows: expected a LongTensor [{size}], the size of a batch, got {_shown(rows)}"
        )
    if not (int(rows.min()) >= 0 and int(rows.max()) < n):
        raise DataError(
            f"{place}: rows: expected positions in 0..{n - 1}, got {int(rows.min())}..{int(rows.max())}"
        )
    if weights is None:
        return choice
    if not curriculum.weighs:
        raise DataError(
            f"{place}: weights: expected None, since {curriculum!r} says weighs = False, got some"
        )
    if not isinstance(weights, Tensor) or not weights.is_floating_point() or weights.shape != (size,):
        raise DataError(f"{place}: weights: expected a float tensor [{size}], got {_shown(weights)}")
    low, total = float(weights.min()), float(weights.sum())
    if not (low >= 0 and 0 < total < torch.inf):  # NaN fails all of them
        raise DataError(
            f"{place}: weights: expected finite ones >= 0 that are not all 0, got {low:.4g} as the least and a sum of "
            f"{total:.4g}"
        )
    return choice


def _shown(value: object) -> str:
    """Return what a value is: of a tensor its type and shape."""
    if not isinstance(value, Tensor):
        return type(value).__name__
    return f"{str(value.dtype).removeprefix('torch.')} {list(value.shape)}"
