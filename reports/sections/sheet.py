"""What the corruptions look like: the first image under each type and severity, one contact sheet for each data set.

Every record of a corruption, and that of the clean images, keeps a small PNG of its first image in its provenance.
What comes from a record is not trusted: a picture is shown if it is base64, a PNG of at most 96 pixels a side, and can
be decoded.
"""

from __future__ import annotations

import base64
import io
import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from reports.sections.deformations import seen
from reports.tables import place_of_type
from robust_eval.results.entry import Entry
from robust_eval.results.thumbnail import LONGEST

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["Picture", "Sheet", "png", "sheets"]

SAMPLE = "sample"
"""Under what name provenance has the picture."""
CLEAN = "clean"
_BASE64 = re.compile(r"[A-Za-z0-9+/]+={0,2}")
_ACROSS = 4
"""Deformations beside one another."""
_GAP, _LINE, _NAMES, _WIDE = 6, 22, 170, 126


@dataclass(frozen=True)
class Picture:
    """One corrupted image."""

    text: str
    """PNG in base64: of that alphabet, and known to be one."""
    told: str
    """What it shows, such as ``fog s3``."""


@dataclass(frozen=True)
class Sheet:
    """The pictures of one data set."""

    data: str
    severities: tuple[int, ...]
    rows: tuple[tuple[str, tuple[Picture | None, ...]], ...]
    """Each type with a picture for each severity, ``None`` where there is none."""
    others: tuple[Picture, ...]
    """The clean image, deformations, and whatever else has no severity."""


def sheets(entries: Sequence[Entry]) -> tuple[Sheet, ...]:
    """Return the sheets of the data sets that have pictures: of each type and severity that of the first model."""
    found: dict[str, dict[tuple[str, int | None], Picture]] = defaultdict(dict)
    for entry in entries:
        labels = entry.labels
        name, severity = str(labels["perturbation"]), labels["severity"]
        if labels["family"] == "clean":
            name = CLEAN
        elif labels["family"] != "corruption":
            continue
        if (name, severity) in found[labels["data"]]:
            continue
        text = entry.record.provenance.get(SAMPLE)
        if isinstance(text, str) and _decoded(text) is not None:
            spoken = seen(str(entry.record.labels.get("perturbation")), entry.params) or name
            told = spoken if severity is None else f"{name} s{severity}"
            found[labels["data"]][name, severity] = Picture(text, told)
    return tuple(
        _sheet(data, pictures) for data, pictures in sorted(found.items()) if set(pictures) - {(CLEAN, None)}
    )


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


def _sheet(data: str, pictures: dict[tuple[str, int | None], Picture]) -> Sheet:
    severities = tuple(sorted({severity for _, severity in pictures if severity is not None}))
    names = sorted({name for name, severity in pictures if severity is not None}, key=place_of_type)
    return Sheet(
        data,
        severities,
        tuple((name, tuple(pictures.get((name, severity)) for severity in severities)) for name in names),
        tuple(pictures[key] for key in sorted(pictures, key=lambda key: key[0] != CLEAN) if key[1] is None),
    )


def _decoded(text: str) -> Image.Image | None:
    """Return the picture in colour, or ``None`` for what is not a small PNG in base64."""
    from PIL import Image

    if not _BASE64.fullmatch(text):
        return None
    try:
        picture = Image.open(io.BytesIO(base64.b64decode(text, validate=True)), formats=["PNG"])
        # before its pixels are unpacked: a few bytes can claim to be a huge picture
        return picture.convert("RGB") if max(picture.size) <= LONGEST else None
    except (ValueError, OSError, SyntaxError):
        return None


def _paste(page: Image.Image, picture: Picture, x: int, y: int) -> None:
    from PIL import Image

    image = _decoded(picture.text)
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
