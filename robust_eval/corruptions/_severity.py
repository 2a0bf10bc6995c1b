"""The strength of every corruption at severities 1 to 5, for images of side 32, 64 and 224.

The numbers are those of the scripts that made CIFAR-10-C (32), Tiny-ImageNet-C and ImageNet-64-C (64) and
ImageNet-C (224), published with Hendrycks and Dietterich 2019, "Benchmarking neural network robustness to
common corruptions and perturbations", https://arxiv.org/abs/1903.12261, in
https://github.com/hendrycks/robustness. The scripts are where they come from; the paper has no table of them.

The three columns are three benchmarks, not one strength rescaled: some go down with the side (``contrast``),
so an image of another side takes the nearest column as it is. Nothing here is interpolated. The field ``side``
takes another column: 224 is what imagecorruptions does to images of every size.

What is computed from these numbers stays in floating point. The distributed files do not: CIFAR-10-C cuts
every value down to 8 bits, and Tiny-ImageNet-C and ImageNet-C are stored as JPEG of quality 85 on top of
that.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from robust_eval.errors import DataError
from robust_eval.methods import Corruption
from robust_eval.types import Images, Severity

__all__ = ["Published", "Side", "parameters"]

Side = Literal[32, 64, 224]
Row = tuple[int | float, ...]


@dataclass(frozen=True, kw_only=True)
class Published(Corruption):
    """A corruption of the benchmark, whose strength is a row of its table."""

    severity: Severity = 3
    """Row of the published table, 1 to 5."""
    side: Side | None = field(default=None, metadata={"identity": "given"})
    """Column of the published table: 32, 64 or 224 pixels; the one nearest to the image's shorter side if left out."""

    def strength(self, name: str, x: Images) -> tuple[float, ...]:
        """Return the published parameters of the corruption ``name`` for these images."""
        return parameters(name, self.side or min(x.shape[-2:]), self.severity)

    def needs(self, pixels: int, x: Images, *, name: str) -> None:
        """Raise ``DataError`` if a side of the images is shorter than ``pixels``."""
        h, w = x.shape[-2:]
        if min(h, w) < pixels:
            raise DataError(
                f"{name}: expected images of at least {pixels} x {pixels} pixels at severity {self.severity}, "
                f"got {h} x {w}"
            )


def parameters(name: str, side: int, severity: int) -> tuple[float, ...]:
    """Return the published parameters of a corruption for images whose shorter side is ``side`` pixels.

    The column is the nearest one: 32 up to a side of 48, 64 up to 112, 224 beyond.
    """
    column: Side = 32 if side <= 48 else 64 if side <= 112 else 224
    return tuple(float(value) for value in _TABLES[name][column][severity - 1])


def _single(*values: int | float) -> tuple[Row, ...]:
    return tuple((value,) for value in values)


_TABLES: dict[str, dict[Side, tuple[Row, ...]]] = {
    # standard deviation, in units of the [0, 1] pixel range
    "gaussian_noise": {
        32: _single(0.04, 0.06, 0.08, 0.09, 0.10),
        64: _single(0.04, 0.08, 0.12, 0.15, 0.18),
        224: _single(0.08, 0.12, 0.18, 0.26, 0.38),
    },
    # photons counted at a white pixel
    "shot_noise": {
        32: _single(500, 250, 100, 75, 50),
        64: _single(250, 100, 50, 30, 15),
        224: _single(60, 25, 12, 5, 3),
    },
    # fraction of values replaced
    "impulse_noise": {
        32: _single(0.01, 0.02, 0.03, 0.05, 0.07),
        64: _single(0.01, 0.02, 0.05, 0.08, 0.14),
        224: _single(0.03, 0.06, 0.09, 0.17, 0.27),
    },
    # standard deviation, as a fraction of the value
    "speckle_noise": {
        32: _single(0.06, 0.10, 0.12, 0.16, 0.20),
        64: _single(0.15, 0.20, 0.25, 0.30, 0.35),
        224: _single(0.15, 0.20, 0.35, 0.45, 0.60),
    },
    # radius of the disk and standard deviation of its smoothing, in pixels
    "defocus_blur": {
        32: ((0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1, 0.2), (1.5, 0.1)),
        64: ((0.5, 0.6), (1, 0.1), (1.5, 0.1), (2.5, 0.01), (3, 0.1)),
        224: ((3, 0.1), (4, 0.5), (6, 0.5), (8, 0.5), (10, 0.5)),
    },
    # standard deviation, in pixels
    "gaussian_blur": {
        32: _single(0.4, 0.6, 0.7, 0.8, 1),
        64: _single(0.5, 0.75, 1, 1.25, 1.5),
        224: _single(1, 2, 3, 4, 6),
    },
    # height of the fog in units of the [0, 1] pixel range, and decay of its roughness per octave
    "fog": {
        32: ((0.2, 3), (0.5, 3), (0.75, 2.5), (1, 2), (1.5, 1.75)),
        64: ((0.4, 3), (0.7, 3), (1, 2.5), (1.5, 2), (2, 1.75)),
        224: ((1.5, 2), (2, 2), (2.5, 1.7), (2.5, 1.5), (3, 1.4)),
    },
    # added to the value of HSV, in units of the [0, 1] pixel range
    "brightness": {
        32: _single(0.05, 0.1, 0.15, 0.2, 0.3),
        64: _single(0.1, 0.2, 0.3, 0.4, 0.5),
        224: _single(0.1, 0.2, 0.3, 0.4, 0.5),
    },
    # factor on the distance to the mean
    "contrast": {
        32: _single(0.75, 0.5, 0.4, 0.3, 0.15),
        64: _single(0.4, 0.3, 0.2, 0.1, 0.05),
        224: _single(0.4, 0.3, 0.2, 0.1, 0.05),
    },
    # factor on the saturation of HSV, and what is added to it afterwards
    "saturate": {
        32: ((0.3, 0), (0.1, 0), (1.5, 0), (2, 0.1), (2.5, 0.2)),
        64: ((0.3, 0), (0.1, 0), (2, 0), (5, 0.1), (30, 0.2)),
        224: ((0.3, 0), (0.1, 0), (2, 0), (5, 0.1), (20, 0.2)),
    },
    # quality on the JPEG library's scale, 1 to 100
    "jpeg_compression": {
        32: _single(80, 65, 58, 50, 40),
        64: _single(65, 58, 50, 40, 25),
        224: _single(25, 18, 15, 10, 7),
    },
    # side of the small image, as a fraction of the original's
    "pixelate": {
        32: _single(0.95, 0.9, 0.85, 0.75, 0.65),
        64: _single(0.9, 0.8, 0.7, 0.6, 0.5),
        224: _single(0.6, 0.5, 0.4, 0.3, 0.25),
    },
    # smoothing before and after in pixels, longest move of a pixel in pixels, rounds
    "glass_blur": {
        32: ((0.05, 1, 1), (0.25, 1, 1), (0.4, 1, 1), (0.25, 1, 2), (0.4, 1, 2)),
        64: ((0.1, 1, 1), (0.5, 1, 1), (0.6, 1, 2), (0.7, 2, 1), (0.9, 2, 2)),
        224: ((0.7, 1, 2), (0.9, 2, 1), (1, 2, 3), (1.1, 3, 2), (1.5, 4, 2)),
    },
    # radius and standard deviation of the trail, in pixels
    "motion_blur": {
        32: ((6, 1), (6, 1.5), (6, 2), (8, 2), (9, 2.5)),
        64: ((10, 1), (10, 1.5), (10, 2), (10, 2.5), (12, 3)),
        224: ((10, 3), (15, 5), (15, 8), (15, 12), (20, 15)),
    },
    # where the enlargements from 1 upwards end, and the step between them
    "zoom_blur": {
        32: ((1.06, 0.01), (1.11, 0.01), (1.16, 0.01), (1.21, 0.01), (1.26, 0.01)),
        64: ((1.06, 0.01), (1.11, 0.01), (1.16, 0.01), (1.21, 0.01), (1.26, 0.01)),
        224: ((1.11, 0.01), (1.16, 0.01), (1.21, 0.02), (1.26, 0.02), (1.31, 0.03)),
    },
    # mean and standard deviation of the flakes before they are cut, enlargement, the cut, radius and standard
    # deviation of the trail in pixels, fraction of the image that is not whitened
    "snow": {
        32: (
            (0.1, 0.2, 1, 0.6, 8, 3, 0.95),
            (0.1, 0.2, 1, 0.5, 10, 4, 0.9),
            (0.15, 0.3, 1.75, 0.55, 10, 4, 0.9),
            (0.25, 0.3, 2.25, 0.6, 12, 6, 0.85),
            (0.3, 0.3, 1.25, 0.65, 14, 12, 0.8),
        ),
        64: (
            (0.1, 0.2, 1, 0.6, 8, 3, 0.8),
            (0.1, 0.2, 1, 0.5, 10, 4, 0.8),
            (0.15, 0.3, 1.75, 0.55, 10, 4, 0.7),
            (0.25, 0.3, 2.25, 0.6, 12, 6, 0.65),
            (0.3, 0.3, 1.25, 0.65, 14, 12, 0.6),
        ),
        224: (
            (0.1, 0.3, 3, 0.5, 10, 4, 0.8),
            (0.2, 0.3, 2, 0.5, 12, 4, 0.7),
            (0.55, 0.3, 4, 0.9, 12, 8, 0.7),
            (0.55, 0.3, 4.5, 0.85, 12, 8, 0.65),
            (0.55, 0.3, 2.5, 0.85, 12, 12, 0.55),
        ),
    },
    # factor on the image, factor on the frost, size of the frost's picture as a fraction of the original's
    "frost": {
        32: ((1, 0.2, 0.2), (1, 0.3, 0.2), (0.9, 0.4, 0.2), (0.85, 0.4, 0.2), (0.75, 0.45, 0.2)),
        64: ((1, 0.3, 0.3), (0.9, 0.4, 0.3), (0.8, 0.45, 0.3), (0.75, 0.5, 0.3), (0.7, 0.55, 0.3)),
        224: ((1, 0.4, 1), (0.8, 0.6, 1), (0.7, 0.7, 1), (0.65, 0.7, 1), (0.6, 0.75, 1)),
    },
    # height and standard deviation of the waves and reach of the affine map, all as fractions of the side; at 224
    # the script counts the side as 244
    "elastic_transform": {
        32: ((0, 0, 0.08), (0.05, 0.2, 0.07), (0.08, 0.06, 0.06), (0.1, 0.04, 0.05), (0.1, 0.03, 0.03)),
        64: ((0, 0, 0.08), (0.05, 0.3, 0.06), (0.1, 0.08, 0.06), (0.1, 0.03, 0.03), (0.16, 0.03, 0.02)),
        224: tuple(
            tuple(value * 244 / 224 for value in row)
            for row in (
                (2, 0.7, 0.1),
                (2, 0.08, 0.2),
                (0.05, 0.01, 0.02),
                (0.07, 0.01, 0.02),
                (0.12, 0.01, 0.02),
            )
        ),
    },
    # mean and standard deviation of the liquid, its smoothing in pixels, where it is cut, opacity of water or
    # smoothing of mud in pixels, 0 for water and 1 for mud
    "spatter": {
        32: (
            (0.62, 0.1, 0.7, 0.7, 0.5, 0),
            (0.65, 0.1, 0.8, 0.7, 0.5, 0),
            (0.65, 0.3, 1, 0.69, 0.5, 0),
            (0.65, 0.1, 0.7, 0.69, 0.6, 1),
            (0.65, 0.1, 0.5, 0.68, 0.6, 1),
        ),
        64: (
            (0.62, 0.1, 0.7, 0.7, 0.6, 0),
            (0.65, 0.1, 0.8, 0.7, 0.6, 0),
            (0.65, 0.3, 1, 0.69, 0.6, 0),
            (0.65, 0.1, 0.7, 0.68, 0.6, 1),
            (0.65, 0.1, 0.5, 0.67, 0.6, 1),
        ),
        224: (
            (0.65, 0.3, 4, 0.69, 0.6, 0),
            (0.65, 0.3, 3, 0.68, 0.6, 0),
            (0.65, 0.3, 2, 0.68, 0.5, 0),
            (0.65, 0.3, 1, 0.65, 1.5, 1),
            (0.67, 0.4, 1, 0.65, 1.5, 1),
        ),
    },
}
