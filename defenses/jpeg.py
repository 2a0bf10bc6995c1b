"""Compress the image as JPEG before the network sees it.

``f(decode(encode(round(255 x), quality)) / 255)`` by a real codec, with the colours stored at half the side.

Paper: Guo, Rana, Cissé and van der Maaten 2018, arXiv 1711.00117; earlier Dziugaite, Ghahramani and Roy 2016, arXiv
1608.00853. Default: quality 75, Guo et al. They also train networks on compressed images; here it is used as it is.

The codec has no gradient: it is taken for the identity in the backward pass, as Athalye, Carlini and Wagner 2018
(arXiv 1802.00420) did when they brought this defense to 0 % accuracy. Attacks without gradients meet the real thing.

Known limits: judge it by the adaptive attack. The images are compressed on the CPU, one by one, and the last bit may
change with the JPEG library that Pillow was built with. Raises ``DataError`` for other than 1 or 3 channels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field
from torch import nn

from defenses._straight_through import Preprocessed
from robust_eval.corruptions.digital import through_jpeg
from robust_eval.data import Examples
from robust_eval.fields import Whole
from robust_eval.methods import Defense
from robust_eval.registry import register
from robust_eval.types import Images

__all__ = ["Jpeg"]


@register("defense", "jpeg")
@dataclass(frozen=True, kw_only=True)
class Jpeg(Defense):
    """JPEG compression of the input."""

    quality: Annotated[Whole, Field(ge=1, le=100)] = 75
    """As libjpeg counts, 1 (smallest file) to 100."""

    @property
    def stochastic(self) -> bool:
        """Nothing is drawn."""
        return False

    def wrap(self, network: nn.Module, pool: Examples | None = None) -> Preprocessed:
        """Return the defended model; see :class:`robust_eval.methods.Defense`."""
        return _Compressed(network, self.quality)


class _Compressed(Preprocessed):
    straight_through = True

    def __init__(self, network: nn.Module, quality: int) -> None:
        super().__init__(network)
        self.quality = quality

    def transform(self, x: Images) -> Images:
        return through_jpeg(x, self.quality)
