"""Corrupted test images from files: CIFAR-10-C, CIFAR-100-C, ImageNet-C and Tiny-ImageNet-C where the user has them.

Source: Hendrycks and Dietterich 2019, "Benchmarking neural network robustness to common corruptions and perturbations",
https://arxiv.org/abs/1903.12261. Nothing is fetched. Numbers on the published files are comparable with the literature;
those on images that are corrupted anew are close to them and not the same.

Two layouts are read: ``TYPE.npy`` with ``labels.npy`` (CIFAR-C), which :command:`robust-eval corrupt` writes for any
set, and folders ``TYPE/SEVERITY/CLASS/`` of image files (ImageNet-C). Any of the types may be missing. The published
names are those of our corruptions. What is called otherwise is left alone.

That the files are of the measured images is told by their labels, in order; beside files of our own by hashes of the
clean images; and in folders by the names of the classes. Known limit: of published arrays nothing but the labels is
known, and few labels say little.
"""

from __future__ import annotations

from pathlib import Path

from robust_eval.data._class_folders import ClassOrder
from robust_eval.data._corrupted import Block as Block
from robust_eval.data._corrupted import CorruptedFiles as CorruptedFiles
from robust_eval.data._corrupted import known_types as known_types
from robust_eval.data._corrupted_arrays import ArrayFiles
from robust_eval.data._corrupted_folders import FolderFiles
from robust_eval.errors import DataError
from robust_eval.paths import misnamed, shown, what_is

__all__ = ["Block", "CorruptedFiles", "known_types", "open_corrupted"]

GROUPS = ("noise", "blur", "weather", "digital", "extra")
"""Folders that ImageNet-C is unpacked into."""


def open_corrupted(folder: Path, class_order: ClassOrder | None = None) -> CorruptedFiles:
    """Return the corrupted images of a folder; their files are looked into when a block is asked for.

    Classes are numbered like those of the images measured, by ``class_order`` where their names are numbers.

    Raises ``DataError`` for a folder in which no type is recognised.
    """
    if (problem := misnamed(folder)) is not None:
        raise DataError(f"corrupted: {problem}")
    if (lies := what_is(folder)) != "a folder":
        raise DataError(f"corrupted {shown(folder)}: expected a folder, got {lies}")
    known = known_types()
    if arrays := [name for name in known if (folder / f"{name}.npy").is_file()]:
        return ArrayFiles(folder, tuple(arrays))
    places = [folder, *(folder / group for group in GROUPS)]
    roots = {name: place / name for name in known for place in reversed(places) if (place / name).is_dir()}
    files = FolderFiles(folder, roots, class_order)
    if some := {name: root for name, root in roots.items() if files.severities[name]}:
        return FolderFiles(folder, some, class_order)
    raise DataError(
        f"corrupted {folder}: expected files TYPE.npy with labels.npy, or folders TYPE/SEVERITY/CLASS of images with "
        f"severities 1 to 5, got none; known types: {', '.join(known)}"
    )
