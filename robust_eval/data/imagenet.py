"""ImageNet (ILSVRC 2012) from folders ``train`` and ``val`` of one sub-folder per class, as torchvision unpacks it.

Source: Russakovsky et al. 2015, https://arxiv.org/abs/1409.0575. It cannot be fetched without an account. Classes are
numbered by their WordNet ids in alphabetical order, as those of all published networks. Images are resized to 256/224
of ``size`` at the shorter side and cropped at the centre, as published accuracies are measured.

Test images are held in memory as bytes, 0.15 MB each at 224 pixels: 1,000 take 0.15 GB, all 50,000 of them 7.5 GB.
Training images would take 193 GB. Where two copies of them do not fit, they are decoded when a batch of them is asked
for; ``per_class`` of them or a smaller ``size`` may fit.

Training mirrors and crops at random sizes (``crop = "resized"``), as the recipes for ImageNet do. Deviation: they crop
from the whole image, here it is the image of ``size`` pixels that is cropped, which sees less of the rim and has fewer
pixels for small crops.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from robust_eval.data._class_folders import in_class_folders, shuffled, sub_folders
from robust_eval.data._examples import Examples
from robust_eval.data._files import Reader
from robust_eval.data._source import Choose, Source, cache_folder
from robust_eval.data.folder import classes_of_split
from robust_eval.errors import DataError
from robust_eval.fields import Side
from robust_eval.registry import register

__all__ = ["ImageNet"]


@register("data", "imagenet")
@dataclass(frozen=True, kw_only=True)
class ImageNet(Source):
    """A thousand classes, 1,281,167 training and 50,000 test images (``val``) in colour, cropped to one size."""

    shuffled = True
    crop = "resized"
    flip = True
    mean = (0.485, 0.456, 0.406)
    std = (0.229, 0.224, 0.225)

    root: Path | None = None
    """Folder that holds ``train`` and ``val``; ``None`` is ``imagenet`` in the cache folder."""
    size: Side = 224
    """Side in pixels to which images are cropped."""

    @property
    def name(self) -> str:
        """``imagenet``."""
        return "imagenet"

    def test(self, n: int | None) -> Examples:
        """Return the first ``n`` images of ``val`` in a fixed shuffled order."""
        val = self._split("val")
        if not sub_folders(val):
            raise DataError(
                f"data imagenet: expected one sub-folder of images per class in {val}, got none; "
                f"sort the images into folders by their class (torchvision.datasets.ImageNet({str(val.parent)!r}, "
                "split='val') does it from the archives)"
            )
        return self._examples(val, classes_of_split(val.parent, "val"), n)

    def train(self) -> Examples:
        """Return the images of ``train``."""
        return self._train(None)

    def train_some(self, choose: Choose) -> Examples:
        """Return the images of ``train`` that ``choose`` picks."""
        return self._train(choose)

    def _train(self, choose: Choose | None) -> Examples:
        train = self._split("train")
        return self._examples(train, sub_folders(train), choose=choose, training=True)

    def _examples(
        self,
        folder: Path,
        classes: list[str],
        n: int | None = None,
        choose: Choose | None = None,
        training: bool = False,
    ) -> Examples:
        reader = Reader(
            where=f"data {self.name}",
            root=folder,
            classes=len(classes),
            size=self.size,
            resize=round(self.size * 256 / 224),
            colour=True,
            upright=False,  # as the published numbers were measured
            names=tuple(classes),
        )
        files = shuffled(in_class_folders(folder, classes))
        return reader.examples(files, n=n, choose=choose, stream=True, training=training)

    def _split(self, name: str) -> Path:
        root = self.root or cache_folder() / "imagenet"
        if not (root / name).is_dir():
            raise DataError(
                f"data imagenet: expected a folder {root / name} of one sub-folder per class, got none; ImageNet "
                "cannot be fetched without an account: unpack it there, or set ROBUST_EVAL_DATA to the folder that "
                "holds imagenet"
            )
        return root / name
