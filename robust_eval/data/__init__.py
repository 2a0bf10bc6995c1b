"""Data sets: one file each, found by name or by path; :class:`Examples` is what they all give."""

import sys

import pydantic

from robust_eval.data._absolute import absolute as absolute
from robust_eval.data._ahead import InTurn as InTurn
from robust_eval.data._altered import Altered, NoisyLabels
from robust_eval.data._asked import Asked
from robust_eval.data._class_folders import ClassOrder as ClassOrder
from robust_eval.data._class_folders import other_order as other_order
from robust_eval.data._examples import Examples as Examples
from robust_eval.data._examples import as_pixels as as_pixels
from robust_eval.data._files import Interpolation as Interpolation
from robust_eval.data._files import Resize as Resize
from robust_eval.data._made import NOISE as NOISE
from robust_eval.data._made import noise as noise
from robust_eval.data._made import require_same_shape as require_same_shape
from robust_eval.data._made import resized as resized
from robust_eval.data._named import opened
from robust_eval.data._named import takes_size as takes_size
from robust_eval.data._source import Source as Source
from robust_eval.data._unlabelled import without_labels as without_labels
from robust_eval.errors import ConfigError
from robust_eval.registry import discover, explain

__all__ = [
    "NOISE",
    "ClassOrder",
    "Examples",
    "InTurn",
    "Interpolation",
    "Resize",
    "Source",
    "absolute",
    "as_pixels",
    "noise",
    "open_source",
    "other_order",
    "require_same_shape",
    "resized",
    "takes_size",
    "without_labels",
]

discover(sys.modules[__name__])


def open_source(
    name: str,
    *,
    size: int | None = None,
    resize: Resize | None = None,
    interpolation: Interpolation | None = None,
    class_order: ClassOrder | None = None,
    per_class: int | None = None,
    label_noise: float = 0.0,
    noisy_labels: NoisyLabels = "any",
    seed: int = 0,
    skip_unreadable: bool = False,
) -> Source:
    """Return the source of this name: a registered set, or a file or folder of a known format (:mod:`._formats`).

    ``size`` is the side to which encoded images are resized and centre-cropped, ``resize`` the shorter side before the
    crop (``squash`` resizes both sides to ``size``), ``interpolation`` how, ``class_order`` how the classes of a folder
    are numbered where their names are all numbers, and ``skip_unreadable`` leaves out images that cannot be read. The
    other options change training images only: how many of each class are kept, what part of the labels is replaced by
    ``any`` or an ``other`` class, and the seed of both. Raises ``ConfigError`` for an unknown name or an option out of
    range and ``DataError`` for a path that is missing or of another kind.
    """
    source = opened(
        Asked(
            name,
            size=size,
            resize=resize,
            interpolation=interpolation,
            class_order=class_order,
            skip_unreadable=skip_unreadable,
        )
    )
    if per_class is None and label_noise == 0:
        return source
    try:
        return Altered(
            source=source, per_class=per_class, label_noise=label_noise, noisy_labels=noisy_labels, seed=seed
        )
    except pydantic.ValidationError as error:
        raise ConfigError(explain(error, Altered, where=f"data {name!r}")) from None
