"""A folder with one sub-folder of images per class, or ``test``/``val`` and ``train`` folders of such.

Folders are sorted by class, so "the first n" would be one class: the images are taken in a fixed shuffled order. Test
images are held in memory as bytes. So are training images while two copies of them fit; else they are decoded when a
batch of them is asked for, which trains the same weights.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from robust_eval.data._asked import Asked
from robust_eval.data._class_folders import ClassOrder, in_class_folders, shuffled, sub_folders
from robust_eval.data._examples import Examples
from robust_eval.data._files import Interpolation, Reader, Resize
from robust_eval.data._source import Choose, Source
from robust_eval.errors import DataError

__all__ = ["Folder", "classes_of_split", "recognised"]


def recognised(asked: Asked) -> Folder | None:
    """Return the source of a folder, ``None`` for what is none."""
    if asked.lies != "a folder":
        return None
    if asked.path.resolve() == Path(asked.path.resolve().anchor):
        raise DataError(
            f"data {asked.name}: expected a folder of images, got that of all files; name one in it"
        )
    return Folder(
        asked.path,
        asked.size,
        asked.class_order,
        asked.skip_unreadable,
        asked.resize,
        asked.interpolation or "bilinear",
    )


@dataclass(frozen=True)
class Folder(Source):
    """An image folder. Classes are the sub-folders' names in alphabetical order, or as numbers where all are."""

    shuffled = True

    path: Path
    size: int | None = None
    """Side in pixels to which images are resized (shorter side) and cropped at the centre."""
    class_order: ClassOrder | None = None
    """How classes are numbered whose names are all numbers; as numbers, which is said, for ``None``."""
    skip_unreadable: bool = False
    """Whether images that cannot be read are left out, which is said."""
    resize: Resize | None = None
    """Shorter side before the crop, or ``squash`` for both sides at once; ``None`` is ``size``."""
    interpolation: Interpolation = "bilinear"
    """How images are resized."""

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.path.resolve().name

    def test(self, n: int | None) -> Examples:
        """Return the first ``n`` images, in a fixed shuffled order, of ``test``, ``val`` or the folder itself."""
        for split in ("test", "val"):
            if (self.path / split).is_dir():
                return self._examples(
                    self.path / split, classes_of_split(self.path, split, self.class_order), n
                )
        if (self.path / "train").is_dir():
            raise DataError(
                f"data {self.path}: expected a folder test or val beside train, got none; "
                "name the folder of images itself to measure on them"
            )
        return self._examples(self.path, sub_folders(self.path, self.class_order), n)

    def train(self) -> Examples | None:
        """Return the images of ``train``, ``None`` where there is no such folder."""
        return self._train(None)

    def train_some(self, choose: Choose) -> Examples | None:
        """Return the images of ``train`` that ``choose`` picks, ``None`` where there is no such folder."""
        return self._train(choose)

    def _train(self, choose: Choose | None) -> Examples | None:
        train = self.path / "train"
        if not train.is_dir():
            return None
        return self._examples(train, sub_folders(train, self.class_order), choose=choose, training=True)

    def _examples(
        self,
        folder: Path,
        classes: list[str],
        n: int | None = None,
        choose: Choose | None = None,
        training: bool = False,
    ) -> Examples:
        reader = Reader(
            where=f"data {folder}",
            root=folder,
            classes=len(classes),
            size=self.size,
            resize=self.resize,
            interpolation=self.interpolation,
            names=tuple(classes),
            skip_unreadable=self.skip_unreadable,
        )
        files = shuffled(in_class_folders(folder, classes))
        return reader.examples(files, n=n, choose=choose, stream=True, training=training)


def classes_of_split(path: Path, split: str, order: ClassOrder | None = None) -> list[str]:
    """Return the names that number the classes: those of ``train`` where it is there, which is what a model was
    trained with, else the split's own.
    """
    here = sub_folders(path / split, order)
    if not (path / "train").is_dir():
        return here
    classes = sub_folders(path / "train", order)
    unknown = [name for name in here if name not in classes]
    if unknown:
        raise DataError(
            f"data {path}: {split} has classes that train has not: {', '.join(unknown[:5])}; "
            "rename or remove them, so that both number the classes alike"
        )
    return classes
