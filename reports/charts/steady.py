"""A PDF whose bytes depend on what it shows alone.

The renderer writes no date, but keeps fonts and resources in tables of random order, so that its objects come in
another order with other numbers each time. Here the objects are walked from the root, each resource table by its
names, numbered as they are met, and written anew. Their contents stay what they are.
"""

from __future__ import annotations

import re

__all__ = ["steady"]

_START = re.compile(rb"startxref\s+(\d+)\s+%%EOF\s*$")
_ROOT = re.compile(rb"/Root (\d+) 0 R")
_REFERENCE = re.compile(rb"\b(\d+) 0 R\b")
_TABLE = re.compile(
    rb"(/(?:XObject|Font|ExtGState|ColorSpace|Pattern|Shading) <<\n)((?:\s+/\S+ [^\n]+\n)+?)(?=\s+>>)"
)


def steady(pdf: bytes) -> bytes:
    """Return the same document with its objects in an order that does not change; as it is if it is built otherwise."""
    start = _START.search(pdf)
    root = _ROOT.search(pdf, pdf.rfind(b"trailer"))
    if start is None or root is None or pdf[int(start[1]) :][:4] != b"xref":
        return pdf
    places = [int(line[:10]) for line in pdf[int(start[1]) :].splitlines() if line.rstrip().endswith(b" n")]
    ends = [*sorted(places)[1:], int(start[1])]
    objects = {}
    for place, end in zip(sorted(places), ends, strict=True):
        head, _, body = pdf[place:end].partition(b" 0 obj")
        words, stream, rest = body.partition(b"\nstream\n")
        objects[int(head)] = (_TABLE.sub(_sorted, words), stream + rest)
    numbers = _met(objects, int(root[1]))
    written = bytearray(pdf[: min(places)])
    found = []
    for old, new in numbers.items():
        words, stream = objects[old]
        found.append(len(written))
        renumbered = _REFERENCE.sub(lambda match: b"%d 0 R" % numbers[int(match[1])], words)
        written += b"%d 0 obj" % new + renumbered + stream
    at = len(written)
    written += b"xref\n0 %d\n0000000000 65535 f\r\n" % (len(found) + 1)
    written += b"".join(b"%010d 00000 n\r\n" % place for place in found)
    size = len(found) + 1
    written += b"trailer\n<<\n  /Size %d\n  /Root 1 0 R\n>>\nstartxref\n%d\n%%%%EOF" % (size, at)
    return bytes(written)


def _sorted(table: re.Match[bytes]) -> bytes:
    return table[1] + b"".join(sorted(table[2].splitlines(keepends=True), key=lambda line: line.split()[0]))


def _met(objects: dict[int, tuple[bytes, bytes]], root: int) -> dict[int, int]:
    """Return the new number of each object, in the order in which they are met."""
    numbers: dict[int, int] = {}
    left = [root]
    while left:
        number = left.pop()
        if number in numbers or number not in objects:
            continue
        numbers[number] = len(numbers) + 1
        left += [int(other) for other in reversed(_REFERENCE.findall(objects[number][0]))]
    return numbers
