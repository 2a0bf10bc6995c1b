"""Frost: crystals of ice on the lens.

Hendrycks and Dietterich 2019, "Benchmarking neural network robustness to common corruptions and
perturbations", https://arxiv.org/abs/1903.12261; in the benchmark of fifteen. Grey or RGB images.

The published operator takes crops of five photographs of frost. They are others' work: here the pictures are drawn by
rule, with the tones and contrasts of the photographs (see ``_textures``). Errors under this frost are close to those
under the published one, and not the same. Who has the photographs, or others, names their folder in ``textures``; the
published script draws from the first five of its six.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image, UnidentifiedImageError
from torch import Tensor
from torch.nn import functional

from robust_eval.corruptions._colour import channels, grey
from robust_eval.corruptions._severity import Published
from robust_eval.corruptions._textures import drawn
from robust_eval.errors import ConfigError, DataError
from robust_eval.paths import expanded, is_folder, require_file, shown
from robust_eval.registry import register
from robust_eval.rng import Rng
from robust_eval.types import Images, Severity

__all__ = ["Frost"]

SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".webp")


@register("corruption", "frost")
@dataclass(frozen=True, kw_only=True)
class Frost(Published):
    """Lay a crop of a picture of frost over the image.

    ``x' = a x + b f``, f a crop at a random place of a random picture, scaled to a fraction of its size.

    Source: Hendrycks and Dietterich 2019 (arXiv 1903.12261). Default: severity 3, a = 0.9 and b = 0.4 at side 32,
    where pictures have a fifth of their size (0.3 at side 64, 1 at 224).
    Differences from the published operator: the draws, and the pictures unless they are given. A picture smaller than
    the image is scaled up to it; the scripts fail there. Grey images get the brightness of the frost. Raises
    ``DataError`` for other than 1 or 3 channels.
    """

    group: ClassVar[str] = "weather"
    severity: Severity = 3
    """Row of the published table, 1 (weakest) to 5; sets a, b and the size of the pictures."""
    textures: str | None = field(default=None, metadata={"identity": False})
    """Folder of pictures to take crops of, ``.png``, ``.jpg``, ``.bmp`` or ``.webp``; drawn by rule if left out."""
    textures_sha256: str | None = field(default=None, metadata={"identity": "given"})
    """Of the pictures given, found when the corruption is made. It stands for them in a record's key."""

    def __post_init__(self) -> None:
        found = None if self.textures is None else _sha256(self.textures)
        if self.textures_sha256 not in (None, found):
            raise ConfigError(
                f"corruption 'frost': textures: expected the folder of pictures that was used then, got "
                f"{'none' if found is None else f'others in {self.textures}'}"
            )
        object.__setattr__(self, "textures_sha256", found)

    def apply(self, x: Images, *, rng: Rng) -> Images:
        """Return the images under frost."""
        channels(x)
        kept, laid, size = self.strength("frost", x)
        h, w = x.shape[-2:]
        pictures = _pictures(self.textures, self.textures_sha256, size, h, w, x.device)
        crops = []
        for which, down, right in rng.child("crop").uniform(3).tolist():
            picture = pictures[int(which * len(pictures))]
            top, left = (
                int(u * (side - seen))
                for u, side, seen in zip((down, right), picture.shape[1:], (h, w), strict=True)
            )
            crops.append(picture[:, top : top + h, left : left + w])
        frost = torch.stack(crops).to(x.dtype)
        return kept * x + laid * (frost if channels(x) == 3 else grey(frost))


@lru_cache(maxsize=8)
def _pictures(
    folder: str | None, sha256: str | None, size: float, h: int, w: int, device: torch.device
) -> list[Float[Tensor, "3 _ _"]]:
    """Return the pictures at a fraction of their size, or larger if they would not cover an image of h x w pixels."""
    found = drawn() if folder is None else [_read(path) for path in _files(folder)]
    scaled = []
    for picture in found:
        rows, columns = picture.shape[1:]
        # one more than the image, so that there is a place to choose
        factor = max(size, (h + 1) / rows, (w + 1) / columns)
        if factor != 1:
            picture = functional.interpolate(picture[None], scale_factor=factor, mode="bilinear")[0]
        scaled.append(picture.to(device))
    return scaled


def _files(folder: str) -> list[Path]:
    path = expanded(folder)
    if not is_folder(path):
        raise DataError(f"corruption 'frost': textures: expected a folder of pictures, got {shown(folder)}")
    found = sorted(file for file in path.iterdir() if file.suffix.lower() in SUFFIXES)
    for file in found:
        require_file(file, where=f"corruption 'frost': textures: {shown(file)}", wanted="a picture")
    if not found:
        raise DataError(
            f"corruption 'frost': textures: expected {', '.join(SUFFIXES)} files in {folder}, got none"
        )
    return found


def _read(path: Path) -> Float[Tensor, "3 _ _"]:
    try:
        with Image.open(path) as image:
            levels = np.asarray(image.convert("RGB"))
    except (OSError, UnidentifiedImageError) as error:
        raise DataError(f"corruption 'frost': textures: {path} cannot be read ({error})") from None
    return torch.from_numpy(levels.copy()).permute(2, 0, 1).float() / 255


def _sha256(folder: str) -> str:
    digest = hashlib.sha256()
    for path in _files(folder):
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()
