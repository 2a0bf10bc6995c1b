"""What a network answers to a few fixed images: by that it is known again, whatever files it was made of.

A factory may read a configuration, download weights or import what nobody sees: where the answers are others, it is
another model.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from robust_eval.classifier import frozen
from robust_eval.errors import THEIRS

__all__ = ["ANSWERS", "IMAGES", "TOLERANCE", "answers", "same_answers"]

ANSWERS = "answers"
"""The part of an identity that says which of several sets of answers a model gives."""
IMAGES = 4
TOLERANCE = 1e-4
"""Of the largest logit: processors and numbers of threads round differently."""


def answers(network: nn.Module, shape: tuple[int, ...], device: torch.device | None = None) -> Tensor | None:
    """Return the logits [n,k] of a deterministic network for images of seeded noise, in float32.

    ``None`` for a network that does not take them.
    """
    images = torch.rand(IMAGES, *shape, generator=torch.Generator().manual_seed(0)).to(device)
    try:
        with frozen(network), torch.no_grad():
            logits: Tensor = network(images).float().cpu().clone()
    except THEIRS:  # its cells will say so
        return None
    return logits


def same_answers(logits: Tensor, others: Tensor) -> bool:
    """Whether two sets of answers differ by no more than rounding; what is not finite must agree exactly."""
    if logits.shape != others.shape:
        return False
    finite = logits.isfinite()
    if not torch.equal(finite, others.isfinite()) or not torch.equal(
        logits[~finite].nan_to_num(), others[~finite].nan_to_num()
    ):
        return False
    largest = others[finite].abs().amax() if finite.any() else torch.tensor(0.0)
    return bool(((logits - others)[finite].abs() <= TOLERANCE * largest).all())
