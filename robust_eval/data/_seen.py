"""What an image file shows, as a person sees it: upright, on white, in 8 bits, grey or in colour.

Ours: what is transparent lies on white, as on a page; 16 bits are scaled by 65535 and rounded to 8; the rotation that a
camera noted (EXIF) is carried out. A palette, CMYK and black and white are what Pillow makes of them.
"""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageOps

__all__ = ["GREY", "as_seen"]

GREY = ("L", "LA", "La", "1", "I", "I;16", "I;16L", "I;16B", "I;16N")
"""Modes of Pillow without colour."""
WHITE_16 = 65535
CLEAR = {"LA", "La", "PA", "RGBA", "RGBa"}
"""Modes with transparency; others may note a colour that is clear."""


def as_seen(opened: Image.Image, *, colour: bool, upright: bool) -> Image.Image:
    """Return an image of mode L, or RGB where it has colour or ``colour`` is asked for.

    Raises ``ValueError`` for values that no white is known of: floats, and whole numbers beyond 16 bits.
    """
    image = ImageOps.exif_transpose(opened) if upright else opened
    if image.mode == "F" or image.mode.startswith("I"):
        image = _in_8_bits(image)
    elif image.mode in CLEAR or "transparency" in image.info:
        image = _on_white(image)
    return image.convert("L" if not colour and image.mode in GREY else "RGB")


def _in_8_bits(image: Image.Image) -> Image.Image:
    values = np.asarray(image)
    if image.mode == "F" or values.min() < 0 or values.max() > WHITE_16:
        raise ValueError("more than 16 bits")
    return Image.fromarray(np.rint(values / WHITE_16 * 255).astype(np.uint8))


def _on_white(image: Image.Image) -> Image.Image:
    grey = image.mode in GREY
    clear = image.convert("RGBA")
    page = Image.new("RGBA", clear.size, "white")
    page.alpha_composite(clear)
    return page.convert("L" if grey else "RGB")
