"""Pictures of frost, drawn by rule: crystals like ferns over a haze.

The published operator lays photographs over the image. They are others' work and are not shipped. These pictures have
the photographs' tones and contrasts (mean of each channel, standard deviation of the brightness) and a spectrum that
falls like theirs; their shapes are their own.
"""

from __future__ import annotations

import math
from functools import cache

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image, ImageDraw
from scipy.ndimage import gaussian_filter
from torch import Tensor

from robust_eval.rng import Rng

__all__ = ["drawn"]

HEIGHT, WIDTH = 480, 720
TONES = (
    ((78, 149, 166), 16.0),
    ((201, 205, 214), 22.0),
    ((201, 205, 214), 22.0),
    ((138, 153, 165), 29.0),
    ((112, 123, 135), 43.0),
)
"""Mean of red, green and blue and standard deviation of the brightness of each picture, in 8-bit levels."""
CRYSTALS = 900
"""In each picture."""

Picture = Float[Tensor, "3 h w"]


@cache
def drawn() -> tuple[Picture, ...]:
    """Return the five pictures, in [0, 1]; always the same."""
    return tuple(_picture(np.asarray(tone), std, i) for i, (tone, std) in enumerate(TONES))


def _picture(tone: np.ndarray, std: float, i: int) -> Picture:
    generator = Rng(0, ("frost", i)).numpy()
    relief = _standard(_standard(_ferns(generator)) + _standard(_haze(generator)))
    levels = tone[:, None, None] + std * relief
    return torch.from_numpy(levels / 255).float().clamp(0, 1)


def _ferns(generator: np.random.Generator) -> np.ndarray:
    """Draw crystals: a stem and, at 60 degrees to it, twigs that get shorter towards its tip."""
    picture = Image.new("L", (WIDTH, HEIGHT))
    draw = ImageDraw.Draw(picture)
    for _ in range(CRYSTALS):
        x, y, angle, light = generator.random(4) * (WIDTH, HEIGHT, 2 * math.pi, 1)
        length, gap = 12 * math.exp(generator.normal(0.6, 0.6)), 3 + 2 * generator.random()
        fill = int(60 + 195 * light)
        dx, dy = math.cos(angle), math.sin(angle)
        draw.line((x, y, x + length * dx, y + length * dy), fill=fill, width=2)
        for step in np.arange(gap, length, gap):
            foot = (x + step * dx, y + step * dy)
            twig = 0.45 * (length - step)
            for side in (-math.pi / 3, math.pi / 3):
                tip = foot[0] + twig * math.cos(angle + side), foot[1] + twig * math.sin(angle + side)
                draw.line((*foot, *tip), fill=fill)
    # lines are drawn without grey at their rims
    return np.asarray(gaussian_filter(np.asarray(picture, dtype=np.float64), 0.5))


def _haze(generator: np.random.Generator) -> np.ndarray:
    """Return noise whose power falls with the third power of the frequency."""
    noise = np.fft.rfft2(generator.normal(size=(HEIGHT, WIDTH)))
    frequency = np.hypot(np.fft.fftfreq(HEIGHT)[:, None], np.fft.rfftfreq(WIDTH))
    return np.fft.irfft2(noise / np.maximum(frequency, 2 / WIDTH) ** 1.5, s=(HEIGHT, WIDTH))


def _standard(levels: np.ndarray) -> np.ndarray:
    return np.asarray((levels - levels.mean()) / levels.std())
