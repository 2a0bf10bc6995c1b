"""Whether a model's outputs are logits, and what they were made of where they are not.

Models are asked for logits. One that ends in a softmax returns probabilities that sum to 1, one that ends in a sigmoid
(a head for several labels) numbers in [0, 1] that do not. A loss for logits takes the softmax of either, which is all
but flat for numbers this close together: at most ``e / (e + k - 1)`` for k classes.

The inverses are ``log p`` and ``log p - log (1 - p)``, which increase in each output: the order of the classes stays.
Outputs that have rounded to 0 or 1 keep no logit; :mod:`.straight_through` sees what they were made of.

Known limit: honest logits that cover half of [0, 1] without ever leaving it, on 8 images or more, are taken for those
of a sigmoid. The check ``logits`` then warns for nothing; attacks see other gradients, and the model still decides.
"""

from __future__ import annotations

from typing import Literal

import torch

from robust_eval.types import Logits

__all__ = ["Link", "inverted", "link_of", "saturated"]

Link = Literal["softmax", "sigmoid"]

SMALLEST = torch.finfo(torch.float32).tiny
"""Probability below which a logarithm is not taken."""
LEAST = torch.finfo(torch.float32).eps / 4
"""Distance from 1 at which a sigmoid rounds to 1."""
SPREAD = 0.5
"""Part of [0, 1] that sigmoid outputs must cover."""
ENOUGH = 8
"""Images from which covering it is no chance: honest logits lie in [0, 1] for a few."""
END = 0.01
"""Nearer to 0 or 1 than this, an output has saturated."""


def link_of(outputs: Logits) -> Link | None:
    """Return what the outputs of several images went through last; ``None`` for logits, and where that is not clear.

    Outputs [n,k] that are not finite are left out with their rows. Probabilities sum to 1 in every row. Sigmoid outputs
    lie in [0, 1] without exception, and cover half of it on 8 images or more, or pile up at its ends on two or more.
    """
    rows = outputs[outputs.isfinite().all(1)].double()
    if not len(rows) or not ((rows >= 0) & (rows <= 1)).all():
        return None
    sums_to_one = (rows.sum(1) - 1).abs() < 1e-4
    if sums_to_one.all():
        return "softmax"
    low, high = rows.min().item(), rows.max().item()
    at_ends = ((rows < END) | (rows > 1 - END)).double().mean().item()
    covers = len(rows) >= ENOUGH and high - low >= SPREAD
    piled = len(rows) > 1 and low < END and high > 1 - END and at_ends >= 0.5
    return "sigmoid" if covers or piled else None


def saturated(outputs: Logits, link: Link) -> bool:
    """Whether more than one sigmoid output in a hundred has rounded to 0 or 1: its logit cannot be had back."""
    return link == "sigmoid" and ((outputs >= 1) | (outputs < SMALLEST)).double().mean().item() > 0.01


def inverted(outputs: Logits, link: Link) -> Logits:
    """Return logits that give these outputs, as far as they have not rounded to 0 or 1."""
    if link == "softmax":
        return outputs.clamp(min=SMALLEST).log()
    return outputs.clamp(min=SMALLEST).log() - (1 - outputs).clamp(min=LEAST).log()
