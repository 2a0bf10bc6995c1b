"""Adversarial images as a file, such as an external evaluation hands in to RobustBench."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from robust_eval.errors import DataError
from robust_eval.files import atomic_path

__all__ = ["save_adversarials"]


def save_adversarials(path: Path, x_adv: Tensor, *, of: Tensor | None = None) -> Path:
    """Write adversarial images [n,c,h,w] in [0, 1] without loss, as a tensor that ``torch.load`` reads with
    ``weights_only=True``. ``of`` are the clean ones, whose number and shape they must have.

    Raises ``DataError`` for anything else: what is written is not measured again.
    """
    if x_adv.ndim != 4 or not x_adv.is_floating_point() or not len(x_adv):
        raise DataError(
            f"adversarials: expected floats [n,c,h,w], got {x_adv.dtype} of shape {list(x_adv.shape)}; give the images "
            "that an attack handed back"
        )
    if of is not None and of.shape != x_adv.shape:
        raise DataError(
            f"adversarials: expected the shape of the clean images, {list(of.shape)}, got {list(x_adv.shape)}; an "
            "image that was not attacked stays in its place as it is"
        )
    low, high = float(x_adv.min()), float(x_adv.max())
    if not (0 <= low <= high <= 1):  # which NaN is not either
        raise DataError(
            f"adversarials: expected pixels in [0, 1], got {low:g} to {high:g}; leave normalisation in the model"
        )
    with atomic_path(path) as temporary:
        torch.save(x_adv.detach().cpu().clone(memory_format=torch.contiguous_format), temporary)
    return path
