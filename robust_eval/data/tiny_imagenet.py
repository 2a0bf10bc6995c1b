"""Tiny-ImageNet, fetched only if missing; its ``val`` images are the test split: those of ``test`` have no labels.

Source: Le and Yang 2015, "Tiny ImageNet Visual Recognition Challenge" (Stanford's CS231n). The archive's MD5 is shown
and verified when it is fetched. Classes are numbered by their WordNet ids in alphabetical order. Training crops from a
padding of 4 pixels, mirrors, and normalises by 127.5, as the repositories of manifold mixup and Puzzle Mix do.
"""

from __future__ import annotations

import logging
import tempfile
from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

from robust_eval.data._class_folders import File, in_class_folders, shuffled
from robust_eval.data._examples import Examples
from robust_eval.data._fetched import Origin
from robust_eval.data._files import Reader
from robust_eval.data._source import Choose, Source, cache_folder
from robust_eval.errors import DataError
from robust_eval.registry import register

__all__ = ["TinyImageNet"]

log = logging.getLogger(__name__)

ORIGIN = Origin("http://cs231n.stanford.edu/tiny-imagenet-200.zip", "90528d7ca1a48142e341f4ef8d21d0de")
FOLDER = "tiny-imagenet-200"


@register("data", "tiny_imagenet")
@dataclass(frozen=True, kw_only=True)
class TinyImageNet(Source):
    """Two hundred classes, 100,000 training and 10,000 test images (``val``), 64 x 64 pixels in colour."""

    shuffled = True
    crop = 4
    flip = True
    mean = (0.5, 0.5, 0.5)
    std = (0.5, 0.5, 0.5)

    root: Path | None = None
    """Folder that holds ``tiny-imagenet-200``; ``None`` is the cache folder."""

    @property
    def name(self) -> str:
        """``tiny_imagenet``."""
        return "tiny_imagenet"

    def fetched_from(self) -> str | None:
        """Return the archive's address, ``None`` where its folder is here."""
        there = ((self.root or cache_folder()) / FOLDER).is_dir()
        return None if there else ORIGIN.url

    def test(self, n: int | None) -> Examples:
        """Return the first ``n`` of the validation images, in the order of their annotations."""
        base = self._base()
        classes = _classes(base)
        files = _annotated(base / "val", classes)
        return self._reader(base, classes).examples(files, n=n, stream=True, training=False)

    def train(self) -> Examples:
        """Return the training images, in a fixed shuffled order."""
        return self._train(None)

    def train_some(self, choose: Choose) -> Examples:
        """Return the training images that ``choose`` picks."""
        return self._train(choose)

    def _train(self, choose: Choose | None) -> Examples:
        base = self._base()
        classes = _classes(base)
        files = shuffled(in_class_folders(base / "train", classes))
        return self._reader(base, classes).examples(files, choose=choose, stream=True)

    def _reader(self, base: Path, classes: list[str]) -> Reader:
        return Reader(
            where=f"data {self.name}", root=base, classes=len(classes), colour=True, names=tuple(classes)
        )

    def _base(self) -> Path:
        """Return the unpacked archive, fetched first if it is not there."""
        from torchvision.datasets.utils import download_url, extract_archive

        root = self.root or cache_folder()
        base = root / FOLDER
        if base.is_dir():
            return base
        log.warning("fetching %s from %s to %s (MD5 %s)", self.name, ORIGIN.url, root, ORIGIN.md5)
        try:
            download_url(ORIGIN.url, root, f"{FOLDER}.zip", ORIGIN.md5)
            # unpacked beside and then moved, so that a folder that is there is whole
            with tempfile.TemporaryDirectory(dir=root) as beside:
                extract_archive(root / f"{FOLDER}.zip", beside)
                (Path(beside) / FOLDER).rename(base)
        except (OSError, RuntimeError, BadZipFile) as error:
            reason = (str(error) or type(error).__name__).splitlines()[0]
            raise DataError(
                f"data {self.name}: could not be fetched from {ORIGIN.url} ({reason}); "
                f"unpack the archive into {root}, or set ROBUST_EVAL_DATA to the folder that holds it"
            ) from None
        return base


def _classes(base: Path) -> list[str]:
    text = _text(base / "wnids.txt", "one WordNet id per line")
    classes = sorted(text.split())
    if missing := [name for name in classes if not (base / "train" / name).is_dir()]:
        raise DataError(
            f"data tiny_imagenet: expected a folder in {base / 'train'} for each class of wnids.txt, got none for "
            f"{', '.join(missing[:3])}{' ...' if len(missing) > 3 else ''}; unpack the archive again"
        )
    return classes


def _annotated(val: Path, classes: list[str]) -> list[File]:
    """Return the files that ``val_annotations.txt`` names, each line a file, its class and a box, by tabs."""
    annotations = val / "val_annotations.txt"
    number = {name: i for i, name in enumerate(classes)}
    files = []
    for i, line in enumerate(_text(annotations, "a file and its class per line").splitlines()):
        file, name = [*line.split("\t"), "", ""][:2]
        if name not in number:
            raise DataError(
                f"data tiny_imagenet: {annotations}, line {i + 1}: expected a file and a class of wnids.txt, "
                f"separated by a tab, got {line[:60]!r}; unpack the archive again"
            )
        files.append(File(val / "images" / file, number[name]))
    return files


def _text(path: Path, what: str) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or type(error).__name__
        raise DataError(
            f"data tiny_imagenet: expected {path} with {what}, got none that can be read ({reason}); "
            f"unpack the archive as it is, or name {path.parent} as an image folder if you have sorted it into classes"
        ) from None
