"""Pictures in base64, read with care, and contact sheets of them as one picture with labels."""

from __future__ import annotations

import base64
import io
import re
import struct
from collections.abc import Sequence
from typing import TYPE_CHECKING

from reports.bodies import Picture, Sheet
from robust_eval.results.thumbnail import LONGEST

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["decoded", "picture", "png"]

_BASE64 = re.compile(r"[A-Za-z0-9+/]+={0,2}")
_LONGEST_TEXT = 1 << 17
"""Characters; 96 pixels squared in colour without any compression take a third of it."""
_ACROSS = 4
"""Deformations beside one another."""
_GAP, _LINE, _NAMES, _WIDE = 6, 22, 170, 126


def png(found: Sequence[Sheet]) -> bytes:
    """Return all sheets as one picture with labels, below one another."""
    from PIL import Image, ImageDraw, ImageFont

    font = ImageFont.load_default(14)
    cell = LONGEST + _GAP
    names = max((font.getlength(_plain(n)) for s in found for n, _ in s.rows), default=0)
    left = max(_NAMES, int(names) + 3 * _GAP)
    widths = [max(len(s.severities) * cell, min(_ACROSS, len(s.others)) * _WIDE) for s in found]
    heights = [_height(sheet) for sheet in found]
    page = Image.new("RGB", (left + max(widths, default=0) + 2 * _GAP, sum(heights) + _GAP), "white")
    pen = ImageDraw.Draw(page)
    top = _GAP
    for sheet, height in zip(found, heights, strict=True):
        y = top
        pen.text((_GAP, y), f"First image of {_plain(sheet.data)}", fill="black", font=font)
        y += _LINE
        for i, severity in enumerate(sheet.severities):
            pen.text((left + i * cell, y), f"severity {severity}", fill="black", font=font)
        y += _LINE if sheet.severities else 0
        for name, pictures in sheet.rows:
            pen.text((_GAP, y + LONGEST // 2 - 8), _plain(name), fill="black", font=font)
            for i, picture in enumerate(pictures):
                if picture is not None:
                    _paste(page, picture, left + i * cell, y)
            y += cell
        for i, picture in enumerate(sheet.others):
            x, below = left + i % _ACROSS * _WIDE, y + i // _ACROSS * (cell + _LINE)
            pen.text((x, below), _plain(picture.told), fill="black", font=font)
            _paste(page, picture, x, below + _LINE)
        top += height
    file = io.BytesIO()
    page.save(file, "PNG")
    return file.getvalue()


def decoded(text: str) -> Image.Image | None:
    """Return the picture in colour, or ``None`` for what is not a small PNG in base64."""
    from PIL import Image

    if len(text) > _LONGEST_TEXT or not _BASE64.fullmatch(text):
        return None
    try:
        content = base64.b64decode(text, validate=True)
        # before anything is unpacked: a few bytes can claim to be a huge picture
        if max(struct.unpack(">II", content[16:24])) > LONGEST:
            return None
        picture = Image.open(io.BytesIO(content), formats=["PNG"])
        return picture.convert("RGB") if max(picture.size) <= LONGEST else None
    except (ValueError, OSError, SyntaxError, struct.error, Image.DecompressionBombError):
        return None


def picture(text: str, told: str) -> Picture | None:
    """Return a record's picture, or ``None`` for what is not one."""
    image = decoded(text)
    return None if image is None else Picture(text, told, image.width, image.height)


def _paste(page: Image.Image, picture: Picture, x: int, y: int) -> None:
    from PIL import Image

    image = decoded(picture.text)
    assert image is not None, "a picture is decoded before it is put into a sheet"
    times = max(1, LONGEST // max(image.size))
    size = (image.width * times, image.height * times)
    page.paste(image.resize(size, Image.Resampling.NEAREST), (x, y))


def _height(sheet: Sheet) -> int:
    cell = LONGEST + _GAP
    below = -(-len(sheet.others) // _ACROSS) * (cell + _LINE)
    return _LINE * (2 if sheet.severities else 1) + len(sheet.rows) * cell + below + 2 * _GAP


def _plain(text: str) -> str:
    """Return a name as one line that fits beside the pictures."""
    line = " ".join(text.split())
    return line if len(line) <= 40 else f"{line[:39]}…"
