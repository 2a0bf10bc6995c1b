"""A small picture of an image, as text that a record can hold."""

from __future__ import annotations

import base64
import io

import torch
from jaxtyping import Float
from torch import Tensor

__all__ = ["LONGEST", "thumbnail"]

LONGEST = 96
"""Pixels of the longer side of a picture at most."""


def thumbnail(image: Float[Tensor, "c h w"]) -> str:
    """Return an image in [0, 1] as PNG in base64, scaled down so that its longer side has at most 96 pixels.

    Grey where it has one channel, in colour where it has three; of any other number of channels, their mean in grey.
    """
    from PIL import Image

    shown = image.detach().float().cpu().nan_to_num(0).clamp(0, 1)
    if len(shown) not in (1, 3):
        shown = shown.mean(0, keepdim=True)
    pixels = (shown * 255).round().to(torch.uint8)
    array = pixels.permute(1, 2, 0).numpy()
    picture = Image.fromarray(array if array.shape[2] == 3 else array[:, :, 0])
    picture.thumbnail((LONGEST, LONGEST), Image.Resampling.BOX)
    file = io.BytesIO()
    picture.save(file, "PNG", optimize=True)
    return base64.b64encode(file.getvalue()).decode("ascii")
