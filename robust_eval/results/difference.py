"""What an attack changed, as a small picture that the eye can see and from which the attacked image follows.

The change is divided by ``scale``, the change that is to fill the range around mid grey: 128 + 127 delta / scale. It is
rounded to steps of at most one level of 8 bits, and of at most an eighth of the scale, so that a perturbation below one
level is not lost. ``recomposed`` adds it to the picture of the clean image: what comes out is the adversarial to
within two levels of 8 bits, four where pictures were scaled down.

Ours: a PNG of the adversarial beside one of its difference takes three times the bytes.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from robust_eval.results.thumbnail import thumbnail

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["difference", "magnified", "recomposed"]

_GREY, _SPAN = 128, 127
_FEWEST = 8
"""Steps on either side of grey at least."""


def difference(change: Float[Tensor, "c h w"], scale: float) -> str:
    """Return a change of pixels in [0, 1] as PNG in base64, grey where there is none; ``scale`` fills the range."""
    steps = min(_SPAN, max(_FEWEST, math.ceil(scale * 255 - 1e-6)))
    share = (change.detach().cpu().double().nan_to_num(0) / scale).clamp(-1, 1)
    return thumbnail(((share * steps).round() / steps * _SPAN + _GREY) / 255)


def magnified(scale: float) -> float:
    """Return how many times a change is larger in its picture than in the image."""
    return _SPAN / 255 / scale


def recomposed(clean: Image.Image, changed: Image.Image, scale: float) -> Float[Tensor, "3 h w"]:
    """Return the image in [0, 1] of a clean picture in colour and the picture of its change, of the same size."""
    share = (np.asarray(changed, dtype=np.float64) - _GREY) / _SPAN
    pixels = np.asarray(clean, dtype=np.float64) / 255 + share * scale
    return torch.from_numpy(pixels.clip(0, 1)).permute(2, 0, 1)
