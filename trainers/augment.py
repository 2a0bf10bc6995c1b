"""Crops and mirrors whole batches where they lie, each image by its own draw."""

from __future__ import annotations

import torch
from jaxtyping import Shaped
from torch import Tensor
from torch.nn import functional

from robust_eval.rng import Rng

__all__ = ["crop", "flip"]

Batch = Shaped[Tensor, "n c h w"]
"""Images as uint8 or float."""


def crop(x: Batch, padding: int, *, rng: Rng) -> Batch:
    """Pad each image with ``padding`` zeros on every side and cut the original size out at a random place."""
    n, _, h, w = x.shape
    padded = functional.pad(x, (padding, padding, padding, padding)).permute(0, 2, 3, 1)
    top, left = rng.for_batch(n).integers(2 * padding + 1, 2, device=x.device).unbind(1)
    rows = top[:, None] + torch.arange(h, device=x.device)
    columns = left[:, None] + torch.arange(w, device=x.device)
    image = torch.arange(n, device=x.device)[:, None, None]
    return padded[image, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2).contiguous()


def flip(x: Batch, *, rng: Rng) -> Batch:
    """Mirror each image left to right with probability 1/2."""
    mirrored = rng.for_batch(len(x)).uniform(device=x.device) < 0.5
    return torch.where(mirrored[:, None, None, None], x.flip(3), x)
