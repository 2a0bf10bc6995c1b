"""The gallery as one picture with labels, for a paper: the attacks that stand first, of three images of each model."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING

from reports.bodies import Album, Exhibit, Shot
from reports.pictures import decoded
from robust_eval.results.thumbnail import LONGEST

if TYPE_CHECKING:
    from PIL import Image, ImageDraw, ImageFont

    from reports.bodies import Picture

__all__ = ["gallery_png"]

_IMAGES, _ALBUMS = 3, 12
"""Of one model, and models with a defense: what a paper has room for."""
_GAP, _LINE = 8, 18
_WIDE = 132
"""Of a picture with the words below it."""
_ROW = LONGEST + 2 * _LINE + _GAP
_ALONE = 3
"""Albums that stand below one another; more stand in two columns."""
_INK = {"broken": "#b3261e", "held": "#2c7746", "untouched": "#5d636e"}


def gallery_png(albums: Sequence[Album]) -> bytes:
    """Return the first albums as one picture."""
    from PIL import Image, ImageDraw, ImageFont

    shown = albums[:_ALBUMS]
    across = 1 if len(shown) <= _ALONE else 2
    wide = _WIDE * max((1 + 2 * album.first for album in shown), default=1) + 2 * _GAP
    rows = [shown[i : i + across] for i in range(0, len(shown), across)]
    heights = [max(map(_height, row)) for row in rows]
    rest = len(albums) - len(shown)
    page = Image.new("RGB", (across * wide, sum(heights) + _GAP + (_LINE if rest else 0)), "white")
    sheet = _Sheet(page, ImageDraw.Draw(page), ImageFont.load_default(13))
    several = len({album.data for album in shown}) > 1
    top = _GAP
    for row, height in zip(rows, heights, strict=True):
        for i, album in enumerate(row):
            name = f"{album.name}, {album.data}" if several else album.name
            _album(sheet, album, i * wide + _GAP, top, name)
        top += height
    if rest:
        sheet.write(f"{rest} more are in index.html.", _GAP, top, page.width - _GAP)
    file = io.BytesIO()
    page.save(file, "PNG")
    return file.getvalue()


class _Sheet:
    """A page to be written and pasted on."""

    def __init__(
        self, page: Image.Image, pen: ImageDraw.ImageDraw, font: ImageFont.FreeTypeFont | ImageFont.ImageFont
    ) -> None:
        self._page, self._pen, self._font = page, pen, font

    def write(self, text: str, x: int, y: int, width: int, ink: str = "black") -> None:
        """Write a text on one line, cut where it is longer than ``width``."""
        line = " ".join(text.split())[:200]
        if self._font.getlength(line) > width:
            while line and self._font.getlength(line + "…") > width:
                line = line[:-1]
            line += "…"
        self._pen.text((x, y), line, fill=ink, font=self._font)

    def paste(self, picture: Picture | None, x: int, y: int) -> None:
        """Paste a picture, magnified by a whole number."""
        image = None if picture is None else decoded(picture.text)
        if image is not None:
            times = max(1, LONGEST // max(image.size))
            self._page.paste(image.resize((image.width * times, image.height * times), resample=0), (x, y))


def _album(sheet: _Sheet, album: Album, x: int, y: int, name: str) -> None:
    sheet.write(name, x, y, _WIDE * (1 + 2 * album.first) - _GAP)
    y += _LINE
    sheet.write("clean", x, y, _WIDE - _GAP)
    for i, attack in enumerate(album.attacks[: album.first]):
        sheet.write(attack, x + (1 + 2 * i) * _WIDE, y, 2 * _WIDE - _GAP)
    y += _LINE
    for exhibit in album.exhibits[:_IMAGES]:
        _exhibit(sheet, exhibit, exhibit.shots[: album.first], x, y)
        y += _ROW


def _exhibit(sheet: _Sheet, exhibit: Exhibit, shots: Sequence[Shot | None], x: int, y: int) -> None:
    below, room = y + LONGEST + 1, _WIDE - _GAP
    sheet.paste(exhibit.clean, x, y)
    sheet.write(exhibit.answer, x, below, room)
    sheet.write(exhibit.told, x, below + _LINE - 2, room, _INK["untouched"])
    for i, shot in enumerate(shots):
        at = x + (1 + 2 * i) * _WIDE
        if shot is not None:
            sheet.paste(shot.adversarial, at, y)
            sheet.write(shot.answer, at, below, room)
            sheet.write(shot.told, at, below + _LINE - 2, 2 * _WIDE - _GAP, _INK[shot.verdict])
            sheet.paste(shot.difference, at + _WIDE, y)
            # the font has no sign of multiplication
            told = f"difference {shot.magnified.replace('×', 'x')}" if shot.magnified else ""
            sheet.write(told, at + _WIDE, below, room)


def _height(album: Album) -> int:
    return 2 * _LINE + len(album.exhibits[:_IMAGES]) * _ROW + _GAP
