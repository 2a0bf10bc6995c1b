"""Average the predictions for several random crops and mirror images (test-time augmentation).

Each of C copies is the image padded with ``crop`` zeros on every side, cut to its size at a random place and mirrored
with probability 1/2; the C probability vectors are averaged: ``1/C Σ_c softmax f(t_c(x))``.

The augmentation is that of training on CIFAR (He et al. 2016, arXiv 1512.03385, section 4.2: 4 pixels), averaged at
test time as ten fixed crops were by Krizhevsky, Sutskever and Hinton 2012 ("ImageNet classification with deep
convolutional neural networks", section 4.1). Defaults: 4 pixels, 10 copies. As a defense: Guo et al. 2018, arXiv
1711.00117, who average 30 crops of ImageNet images and scale them back up; here the size is kept, as in training.

With ``crop = 0`` nothing is drawn: the image and its mirror image are averaged, each once.

Known limit: Athalye, Carlini and Wagner 2018 (arXiv 1802.00420) brought crops to 0 % accuracy by averaging the
gradient over draws: judge it by the adaptive attack. Mirroring suits only data whose mirror images keep their class,
which digits do not.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import torch
from pydantic import Field
from torch import nn
from torch.nn import functional

from defenses._averaged import Averaged, average
from robust_eval.data import Examples
from robust_eval.fields import Whole
from robust_eval.methods import Defense
from robust_eval.registry import register
from robust_eval.rng import Rng
from robust_eval.types import Images, Logits

__all__ = ["FlipCrop"]


@register("defense", "flip_crop")
@dataclass(frozen=True, kw_only=True)
class FlipCrop(Defense):
    """Test-time augmentation by crops and mirror images."""

    crop: Annotated[Whole, Field(ge=0)] = 4
    """Padding in pixels from which a copy is cut; 0 takes the image and its mirror image, each once."""
    copies: Annotated[Whole, Field(ge=1)] = 10
    """Crops whose probabilities are averaged, without meaning where ``crop`` is 0."""

    @property
    def stochastic(self) -> bool:
        """Nothing is drawn without a crop."""
        return self.crop > 0

    def misfit(self, shape: tuple[int, int, int]) -> str | None:
        """See :class:`robust_eval.methods.Defense`; a copy must show something of its image."""
        if self.crop < min(shape[1:]):
            return None
        return (
            f"defense 'flip_crop': crop: expected less than the images' side of {min(shape[1:])} pixels, got "
            f"{self.crop}; lower it, 4 is usual for 32 pixels"
        )

    def wrap(self, network: nn.Module, pool: Examples | None = None) -> Averaged:
        """Return the defended model; see :class:`robust_eval.methods.Defense`."""
        return _Cropped(network, self) if self.crop else _Mirrored(network, copies=2, draws=False)


class _Cropped(Averaged):
    def __init__(self, network: nn.Module, method: FlipCrop) -> None:
        super().__init__(network, method.copies)
        self.padding = method.crop

    def average(self, x: Images, rng: Rng) -> Logits:
        places, device = 2 * self.padding + 1, x.device
        top, left = rng.child("crop").integers(places, self.copies, 2, device=device).unbind(2)
        mirrored = rng.child("mirror").integers(2, self.copies, device=device).bool()
        rows = top[..., None] + torch.arange(x.shape[2], device=device)
        columns = left[..., None] + torch.arange(x.shape[3], device=device)
        columns = torch.where(mirrored[..., None], columns.flip(2), columns)
        padded = functional.pad(x, 4 * (self.padding,)).permute(0, 2, 3, 1)
        image = torch.arange(len(x), device=device).view(-1, 1, 1, 1)
        cut = padded[image, rows[..., :, None], columns[..., None, :]]
        return average(self.network, cut.movedim(4, 2), rng)


class _Mirrored(Averaged):
    def average(self, x: Images, rng: Rng) -> Logits:
        return average(self.network, torch.stack([x, x.flip(3)], 1), rng)
