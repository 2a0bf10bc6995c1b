"""The sets of images that an experiment names: opened by name, by path, or as what a function of the user's returns.

``file.py:factory`` runs that file. The function returns ``(x, y)``, images [n,c,h,w] in [0, 1] or bytes with labels, a
dictionary of such pairs for ``test`` and ``train``, a data set or loader of pairs as torch has them, or a
:class:`~robust_eval.data.Source`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import pydantic
import torch

from robust_eval.config.frame import DataTable, Frame
from robust_eval.data import ClassOrder, Examples, Source, absolute, open_source, takes_size
from robust_eval.data.corrupted import CorruptedFiles, open_corrupted
from robust_eval.data.given import given_images
from robust_eval.errors import ConfigError, DataError, near
from robust_eval.models.call import call_in
from robust_eval.models.factory import call_factory
from robust_eval.paths import exists, is_folder
from robust_eval.registry import explain, names

__all__ = ["at", "changed", "corrupted", "is_data_factory", "measured", "opened", "other", "pool"]

FACTORY = re.compile(r"\.py:[^:/\\(]*(\(.*\))?$", re.DOTALL)
FOR_FILES = ("size", "resize", "interpolation", "class_order", "per_class", "label_noise")

OF_TRAINING = ("per_class", "label_noise", "noisy_labels", "seed")
"""Fields of ``[data]`` that change training images alone, so that one model may have its own."""


def is_data_factory(name: object) -> bool:
    """Whether data is given as ``path/to/file.py:factory``, with or without arguments behind it."""
    return isinstance(name, str) and FACTORY.search(name) is not None


def opened(name: str, **options: Any) -> Source:
    """Return the source of this name: what a factory returns, or what :func:`robust_eval.data.open_source` finds."""
    plain = not is_data_factory(name)
    if plain or any(options.get(key) for key in FOR_FILES):
        if not plain:
            raise DataError(
                f"data {name}: {', '.join(FOR_FILES[:-1])} and {FOR_FILES[-1]} are for files; let the function do it"
            )
        return open_source(name, **options)
    return Made(name)


def measured(frame: Frame, folder: Path) -> Source:
    """Open the data, with what the file changes about its training images."""
    data = frame.data
    return opened(
        at(folder, data.name),
        **_made_so(frame),
        class_order=data.class_order,
        per_class=data.per_class,
        label_noise=data.label_noise,
        noisy_labels=data.noisy_labels,
        seed=data.seed,
        skip_unreadable=data.skip_unreadable,
    )


def changed(frame: Frame, changes: object) -> Frame:
    """Return the frame with what one model is trained on; raises ``ConfigError`` for what is none of its fields."""
    if not isinstance(changes, Mapping):
        raise ConfigError(f"data: expected a table such as {{ per_class = 100 }}, got {changes!r}")
    for name in changes:
        if name not in OF_TRAINING:
            known = ", ".join(OF_TRAINING)
            raise ConfigError(
                f"data: unknown field {name!r}{near(str(name), OF_TRAINING)}; of one model's images it has {known}"
            )
    try:
        return replace(frame, data=replace(frame.data, **changes))
    except pydantic.ValidationError as error:
        raise ConfigError(explain(error, DataTable, where="data")) from None


def pool(frame: Frame, folder: Path) -> Source:
    """Open the pool; encoded images are resized like those measured."""
    assert frame.data.pool is not None
    name = at(folder, frame.data.pool)
    return _beside(frame, name, **(_made_so(frame) if takes_size(name) else {}))


def other(frame: Frame, folder: Path, name: str) -> Source:
    """Open a second set of images, which an analysis compares with."""
    return _beside(frame, at(folder, name))


def corrupted(frame: Frame, folder: Path) -> CorruptedFiles | None:
    """Open the corrupted images that the file names, if it does."""
    given = frame.data.corrupted
    return None if given is None else open_corrupted(Path(absolute(folder, given)), frame.data.class_order)


def at(folder: Path, name: str) -> str:
    """Return the path of data relative to the experiment's folder; a registered name, or one that nothing has,
    stays as it is.
    """
    if name in names("data"):
        return name
    path = absolute(folder, name)
    written_as_path = any(mark in name for mark in "/,{") or is_data_factory(name)
    return path if exists(path) or written_as_path else name


def _made_so(frame: Frame) -> dict[str, Any]:
    """Return how the images measured are brought to their size."""
    return {word: getattr(frame.data, word) for word in ("size", "resize", "interpolation")}


def _beside(frame: Frame, name: str, **made_so: Any) -> Source:
    order: ClassOrder | None = None
    if name not in names("data") and is_folder(name):
        order = frame.data.class_order  # that of the images measured
    return opened(name, **made_so, class_order=order, skip_unreadable=frame.data.skip_unreadable)


@dataclass(frozen=True)
class Made(Source):
    """What a function of the user's returns, which is called when images are first asked for."""

    spec: str

    @property
    def name(self) -> str:
        """The name of the function."""
        return call_in(self.spec).target.rpartition(":")[2]

    def test(self, n: int | None) -> Examples:
        """Return the first ``n`` test images."""
        found = self._found
        return found.test(n) if isinstance(found, Source) else found["test"].first(n)

    def train(self) -> Examples | None:
        """Return the training images, ``None`` where the function returns none."""
        found = self._found
        return found.train() if isinstance(found, Source) else found.get("train")

    @cached_property
    def _found(self) -> Source | dict[str, Examples]:
        made, where = call_factory(self.spec)[0], f"data {self.spec}"
        if isinstance(made, Source):
            return made
        if not isinstance(made, Mapping):
            return {"test": _examples(made, where)}
        if "test" not in made or set(made) - {"test", "train"}:
            got = ", ".join(map(repr, made)) or "none"
            raise DataError(
                f"{where}: expected images under 'test', and 'train' if there are some, got {got}"
            )
        return {split: _examples(part, f"{where}: {split}") for split, part in made.items()}


def _examples(made: Any, where: str) -> Examples:
    if isinstance(made, Examples):
        return made
    if isinstance(made, tuple | list) and len(made) == 2:
        return given_images(where, *made)
    if hasattr(made, "__getitem__") and hasattr(made, "__len__") and not isinstance(made, torch.Tensor | str):
        made = torch.utils.data.DataLoader(made, batch_size=256)
    try:
        return given_images(where, made, None)
    except (RuntimeError, TypeError, IndexError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise DataError(
            f"{where}: expected (x, y), or a data set of pairs of an image tensor and a label, got one that raised "
            f"{type(error).__name__}: {reason}"
        ) from None
