"""ImageNet-v2: new test images for ImageNet, from the published folders where the user has them; nothing is fetched.

Source: Recht et al. 2019, "Do ImageNet Classifiers Generalize to ImageNet?", https://arxiv.org/abs/1902.10811,
unpacked from https://huggingface.co/datasets/vaishaal/ImageNetV2. Three sets of 10,000 images, ten of each class: the
one that matches how often annotators chose the validation images (``imagenet_v2``), those chosen by at least 70 % of
them, and those chosen most. The gap to ImageNet is :func:`robust_eval.metrics.accuracy.accuracy_gap`.

The class folders are called 0 to 999, the numbers that all published networks give ImageNet's classes. Sorted as words,
as an image folder is read, ``10`` would come before ``2`` and nearly every label would be another class. Images are
resized and cropped as those of :mod:`robust_eval.data.imagenet`, and come in a fixed shuffled order. There are no
training images: those are ImageNet's.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from robust_eval.data._asked import Asked
from robust_eval.data._class_folders import in_class_folders, shuffled, sub_folders
from robust_eval.data._examples import Examples
from robust_eval.data._files import Reader
from robust_eval.data._source import Source, cache_folder
from robust_eval.data.imagenet import ImageNet
from robust_eval.errors import DataError
from robust_eval.fields import Side
from robust_eval.registry import register

__all__ = ["ImageNetV2", "ImageNetV2Threshold", "ImageNetV2TopImages", "recognised"]

CLASSES = 1000
PER_CLASS = 10


@dataclass(frozen=True, kw_only=True)
class _ImageNetV2(Source):
    shuffled = True
    called: ClassVar[str]
    folder: ClassVar[str]
    """How the name of the unpacked folder begins; ``-format-val`` and the like may follow."""
    mean = ImageNet.mean
    std = ImageNet.std

    root: Path | None = None
    """Folder that holds the folders ``0`` to ``999``; ``None`` looks for it in the cache folder."""
    size: Side = 224
    """Side in pixels to which images are cropped."""

    @property
    def name(self) -> str:
        """The set's name."""
        return self.called

    def test(self, n: int | None) -> Examples:
        """Return the first ``n`` images, in a fixed shuffled order."""
        folder = self._folder()
        found, wanted = sub_folders(folder), [str(number) for number in range(CLASSES)]
        if set(found) != set(wanted):
            off = sorted(set(found) ^ set(wanted))
            raise DataError(
                f"data {self.name}: expected the folders 0 to {CLASSES - 1} in {folder}, got {len(found)}, and "
                f"{', '.join(off[:3])}{' ...' if len(off) > 3 else ''} missing or of another name; unpack the archive "
                "again, or name the folder as an image folder if it is not ImageNet-v2"
            )
        files = in_class_folders(folder, wanted)
        if len(files) != CLASSES * PER_CLASS:
            raise DataError(
                f"data {self.name}: expected {CLASSES * PER_CLASS} images in {folder}, got {len(files)}; "
                "unpack the archive again"
            )
        reader = Reader(
            where=f"data {self.name}",
            root=folder,
            classes=CLASSES,
            size=self.size,
            resize=round(self.size * 256 / 224),
            colour=True,
            upright=False,  # as the published numbers were measured
        )
        return reader.examples(shuffled(files), n=n, stream=True, training=False)

    def train(self) -> None:
        """Return ``None``: the set has no training images."""
        return None

    def _folder(self) -> Path:
        if self.root is not None:
            if self.root.is_dir():
                return self.root
            raise DataError(f"data {self.name}: expected a folder {self.root}, got none")
        cache = cache_folder()
        # beside the others, or in a folder that another loader unpacks them into
        found = [
            path for below in ("", "imagenetv2/") for path in sorted(cache.glob(f"{below}{self.folder}*"))
        ]
        folders = [path for path in found if path.is_dir()]
        if len(folders) == 1:
            return folders[0]
        got = ", ".join(path.name for path in folders) or "none"
        fix = (
            "remove the others"
            if folders
            else "unpack it there from huggingface.co/datasets/vaishaal/ImageNetV2, or set ROBUST_EVAL_DATA to the "
            "folder that holds it"
        )
        raise DataError(
            f"data {self.name}: expected one folder {self.folder} in {cache}, its name ending as it likes, got {got}; "
            f"{fix}"
        )


@register("data", "imagenet_v2")
@dataclass(frozen=True, kw_only=True)
class ImageNetV2(_ImageNetV2):
    """``MatchedFrequency``: chosen by annotators as often as the validation images."""

    called: ClassVar[str] = "imagenet_v2"
    folder: ClassVar[str] = "imagenetv2-matched-frequency"


@register("data", "imagenet_v2_threshold")
@dataclass(frozen=True, kw_only=True)
class ImageNetV2Threshold(_ImageNetV2):
    """``Threshold0.7``: chosen by at least 70 % of the annotators."""

    called: ClassVar[str] = "imagenet_v2_threshold"
    folder: ClassVar[str] = "imagenetv2-threshold"


@register("data", "imagenet_v2_top_images")
@dataclass(frozen=True, kw_only=True)
class ImageNetV2TopImages(_ImageNetV2):
    """``TopImages``: the ten of each class chosen most often."""

    called: ClassVar[str] = "imagenet_v2_top_images"
    folder: ClassVar[str] = "imagenetv2-top"


def recognised(asked: Asked) -> Source | None:
    """Return the source of an unpacked ImageNet-v2, which is cropped in its own way; ``None`` for other folders."""
    if asked.lies != "a folder" or asked.class_order is not None or asked.resize is not None:
        return None
    called = asked.path.resolve().name
    if not called.startswith("imagenetv2-"):
        return None
    classes = sub_folders(asked.path)
    if not classes or not all(name.isdecimal() for name in classes):
        return None
    kinds = (ImageNetV2, ImageNetV2Threshold, ImageNetV2TopImages)
    kind = next((kind for kind in kinds if called.startswith(kind.folder)), ImageNetV2)
    return kind(root=asked.path) if asked.size is None else kind(root=asked.path, size=asked.size)
