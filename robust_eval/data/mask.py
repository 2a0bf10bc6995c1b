"""Which pixels an adversary may change, as a part of the threat model: read, checked once, and named.

A mask is 0 or 1 (or false and true) at each place: [h,w] or [1,h,w] for all channels of all images, [c,h,w] for each
channel, or one for each image: [n,h,w], [n,1,h,w] or [n,c,h,w], in the order in which the images are measured. A
``.npy`` file, a ``.npz`` file with one array or one called ``mask``, or a PNG of black (kept) and white (free).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from robust_eval.data._npz import opened
from robust_eval.errors import ConfigError, DataError
from robust_eval.paths import misnamed, require_file, shown
from robust_eval.types import Images, Mask

__all__ = ["PixelMask", "as_mask", "changed_outside", "read_mask"]


@dataclass(frozen=True, eq=False)
class PixelMask:
    """Which values of images [c,h,w] may change: one mask for all images, or one for each."""

    free: Bool[Tensor, "m c h w"]

    @property
    def share(self) -> float:
        """Part of the values that may change."""
        return self.free.double().mean().item()

    @property
    def sha256(self) -> str:
        """Stands for the mask in a record's key."""
        digest = hashlib.sha256(repr(tuple(self.free.shape)).encode())
        digest.update(np.packbits(self.free.numpy()).tobytes())
        return digest.hexdigest()

    @property
    def text(self) -> str:
        """What a report says behind the norm, with the beginning of the hash: two masks may have the same share."""
        return f"within a mask of {100 * self.share:.3g} % of the pixels ({self.sha256[:6]})"

    def of(self, part: slice | Tensor, device: torch.device) -> Bool[Tensor, "n c h w"]:
        """Return the masks of some images, one for each."""
        n = part.stop - part.start if isinstance(part, slice) else len(part)
        chosen = self.free.expand(n, -1, -1, -1) if len(self.free) == 1 else self.free[part]
        return chosen.to(device)


def changed_outside(free: Bool[Tensor, "n c h w"], x: Images, x_adv: Images) -> Mask:
    """Return which images changed where they may not."""
    return ((x_adv != x) & ~free).flatten(1).any(1)


def read_mask(path: Path, shape: tuple[int, int, int], n: int, *, ordered: bool) -> PixelMask:
    """Return the mask in a file for ``n`` images of this shape; raises ``ConfigError`` for what is none."""
    if (problem := misnamed(path)) is not None:
        raise ConfigError(f"mask: {problem}")
    where = f"mask {shown(path)}"
    require_file(path, where=where, wanted="a .npy, .npz or .png file", error=ConfigError)
    return as_mask(_values(path, where), shape, n, where=where, ordered=ordered)


def as_mask(
    given: Any, shape: tuple[int, int, int], n: int, *, where: str = "mask", ordered: bool = True
) -> PixelMask:
    """Return a mask for ``n`` images of this shape; ``ordered`` says whether these are in an order that a mask for each
    can know.

    Raises ``ConfigError`` for other shapes, for values that are neither 0 nor 1, and where nothing may change.
    """
    values = np.asarray(given.detach().cpu() if isinstance(given, Tensor) else given)
    if values.dtype.kind not in "biuf" or not np.isin(values, (0, 1)).all():
        got = "other values" if values.dtype.kind in "biuf" else str(values.dtype)
        hint = "; divide it by 255" if values.dtype.kind in "iu" and np.isin(values, (0, 255)).all() else ""
        raise ConfigError(f"{where}: expected 0 (kept) and 1 (may change) alone, got {got}{hint}")
    placed = _placed(torch.from_numpy(values.astype(bool)), shape, n)
    size = "x".join(map(str, shape))
    if placed is None:
        raise ConfigError(
            f"{where}: expected [h,w], [1,h,w] or [c,h,w] for images of {size}, or one for each of {n:,} images, got "
            f"shape {list(values.shape)}; give it at the size of the images that the model sees"
        )
    if len(placed) > 1 and not ordered:
        raise ConfigError(
            f"{where}: expected one mask for all images, got one for each, and images of a folder or list are measured "
            "in a shuffled order; give the images as .npz or .npy, in an order of your own"
        )
    if not placed.any():
        raise ConfigError(
            f"{where}: expected at least one pixel that may change (1), got none; 1 is free, 0 kept"
        )
    return PixelMask(placed)


def _placed(values: Tensor, shape: tuple[int, int, int], n: int) -> Tensor | None:
    """Return a mask as [1,c,h,w] or [n,c,h,w], ``None`` for a shape that fits neither."""
    channels, height, width = shape
    if values.shape[-2:] != (height, width) or values.ndim > 4 or values.ndim < 2:
        return None
    if values.ndim == 2:
        values = values[None, None]
    elif values.ndim == 3:  # of channels, where that fits; else of images
        values = values[None] if values.shape[0] in (1, channels) else values[:, None]
    if values.shape[0] not in (1, n) or values.shape[1] not in (1, channels):
        return None
    return values.expand(-1, channels, -1, -1).contiguous()


def _values(path: Path, where: str) -> NDArray[Any]:
    ending = path.suffix.lower()
    if ending == ".png":
        return _picture(path, where)
    try:
        if ending == ".npz":
            with opened(path) as file:
                name = "mask" if "mask" in file.names else file.names[0] if len(file.names) == 1 else None
                if name is None:
                    got = ", ".join(file.names) or "none"
                    raise ConfigError(f"{where}: expected one array, or one called mask, got {got}")
                return file.array(name)
        if ending == ".npy":
            found: NDArray[Any] = np.load(path, allow_pickle=False)
            return found
    except (OSError, ValueError, EOFError, SyntaxError):
        raise ConfigError(f"{where}: is no {ending} file that can be read; save it again") from None
    except DataError as error:
        raise ConfigError(f"{where}: {error}") from None
    raise ConfigError(f"{where}: expected a .npy, .npz or .png file, got {ending or 'no ending'}")


def _picture(path: Path, where: str) -> NDArray[Any]:
    try:
        with Image.open(path) as picture:
            values = np.asarray(picture if picture.mode in ("1", "L", "RGB") else picture.convert("L"))
    except (OSError, ValueError, SyntaxError):
        raise ConfigError(f"{where}: is no picture that can be read; save it again") from None
    if values.ndim == 3:
        values = values.transpose(2, 0, 1)
    if values.dtype == np.uint8 and np.isin(values, (0, 255)).all():
        values = values // 255
    return values
