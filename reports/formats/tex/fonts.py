"""How wide text is in Latin Modern, so that tables are cut where they end and not where a rule of thumb says.

Widths are those of the fonts' own metric files (``ec-lmr8``, ``ec-lmr7`` and ``ec-lmbx8``, in thousandths of an em,
from ``!`` to ``~``). Latin Modern is the wider of the common fonts: what fits in it fits in Times too.
"""

from __future__ import annotations

import unicodedata
from typing import Literal

from reports.formats.tex.escape import GREEK, shown

__all__ = ["BODY", "SMALL", "Size", "width_of"]

Size = Literal[8, 7]
BODY: Size = 8
"""Points of a table's text, ``\\footnotesize`` in an article of 10 points."""
SMALL: Size = 7
"""Points of its intervals, and of the text of a table that is too wide."""

_ROMAN_8 = (
    295, 403, 885, 531, 885, 826, 295, 413, 413, 531, 826, 295, 354, 295, 531, 531, 531, 531, 531, 531, 531, 531, 531,
    531, 531, 295, 295, 826, 826, 826, 502, 826, 796, 752, 767, 811, 723, 693, 834, 796, 383, 546, 825, 664, 973, 796,
    826, 723, 826, 782, 590, 767, 796, 796, 1091, 796, 796, 649, 295, 531, 295, 556, 796, 295, 531, 590, 472, 590, 472,
    325, 531, 590, 295, 325, 561, 295, 885, 590, 531, 590, 561, 414, 419, 413, 590, 561, 767, 561, 561, 472, 531, 295,
    531, 556,
)  # fmt: skip
_ROMAN_7 = (
    323, 437, 938, 569, 938, 877, 323, 446, 446, 569, 877, 323, 385, 323, 569, 569, 569, 569, 569, 569, 569, 569, 569,
    569, 569, 323, 323, 893, 877, 893, 539, 877, 843, 799, 815, 860, 768, 737, 884, 843, 413, 583, 874, 706, 1028, 843,
    877, 768, 877, 829, 631, 815, 843, 843, 1151, 843, 843, 692, 323, 585, 323, 556, 843, 323, 569, 631, 508, 631, 508,
    354, 569, 631, 323, 354, 600, 323, 938, 631, 569, 631, 600, 446, 453, 446, 631, 600, 815, 600, 600, 508, 585, 339,
    585, 556,
)  # fmt: skip
_BOLD_8 = (
    373, 518, 1021, 612, 1021, 953, 340, 476, 476, 612, 953, 340, 408, 340, 612, 612, 612, 612, 612, 612, 612, 612, 612,
    612, 612, 340, 340, 894, 953, 894, 579, 953, 922, 869, 885, 938, 803, 769, 962, 955, 459, 631, 956, 735, 1159, 955,
    920, 835, 920, 915, 681, 852, 939, 922, 1263, 922, 922, 749, 340, 575, 340, 556, 922, 340, 596, 681, 544, 681, 561,
    374, 612, 681, 340, 374, 647, 340, 1021, 681, 612, 681, 647, 506, 483, 476, 681, 647, 885, 647, 647, 544, 575, 319,
    575, 556,
)  # fmt: skip
_OTHERS = {
    " ": 354,
    "–": 531,
    "—": 1063,
    "\u2018": 295,
    "\u2019": 295,
    "“": 531,
    "”": 531,
    "†": 472,
    "·": 300,
    "•": 531,
}
_GREEK = 750
_WIDEST = 1150
"""Of a sign of mathematics, and of what is not known."""


def width_of(text: str, size: Size, *, bold: bool = False) -> float:
    """Return the width of a text in points."""
    return size / 1000 * sum(_thousandths(c, size, bold) for c in shown(text))


def _thousandths(c: str, size: Size, bold: bool) -> int:
    table = _BOLD_8 if bold else _ROMAN_8 if size == BODY else _ROMAN_7
    base = unicodedata.normalize("NFD", c)[0]
    if "!" <= base <= "~":
        return table[ord(base) - ord("!")]
    return _OTHERS.get(c, _GREEK if c in GREEK else _WIDEST)
