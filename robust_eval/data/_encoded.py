"""Sets of encoded images that are listed with their labels: in tables, archives or lists of paths.

Like folders they may be sorted by class, so the images are taken in a fixed shuffled order. What does not fit into
memory as pixels stays where it is and is decoded when it is asked for.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from robust_eval.data._asked import Asked
from robust_eval.data._class_folders import shuffled
from robust_eval.data._contents import Listing
from robust_eval.data._examples import Examples
from robust_eval.data._files import Interpolation, Reader, Resize
from robust_eval.data._source import Choose, Source
from robust_eval.paths import is_folder

__all__ = ["Encoded", "Split", "as_asked", "split_of"]

Split = Literal["train", "test"]
_WORDS: dict[str, Split] = {"train": "train", "training": "train", "test": "test", "testing": "test"}
_HELD_OUT = ("validation", "valid", "val", "dev")


@dataclass(frozen=True)
class Encoded(Source):
    """What these formats share: their images are decoded, resized and ordered alike."""

    shuffled = True

    path: Path
    size: int | None = None
    """Side in pixels to which images are resized (shorter side) and cropped at the centre."""
    skip_unreadable: bool = False
    """Whether images that cannot be read are left out, which is said."""
    resize: Resize | None = None
    """Shorter side before the crop, or ``squash`` for both sides at once; ``None`` is ``size``."""
    interpolation: Interpolation = "bilinear"
    """How images are resized."""

    @property
    def name(self) -> str:
        """The name of the file or folder, without its ending."""
        return self.path.resolve().name if is_folder(self.path) else self.path.stem

    def test(self, n: int | None) -> Examples:
        """Return the first ``n`` test images, in a fixed shuffled order."""
        listing = self._listing("test")
        assert listing is not None
        return self._reader(listing).examples(shuffled(listing.files), n=n, stream=True, training=False)

    def train(self) -> Examples | None:
        """Return the training images, ``None`` where there are none."""
        return self._train(None)

    def train_some(self, choose: Choose) -> Examples | None:
        """Return the training images that ``choose`` picks by their labels, ``None`` where there are none."""
        return self._train(choose)

    @abstractmethod
    def _listing(self, split: Split) -> Listing | None:
        """Return what a split holds; ``None`` where there is no such split, which of the test images is an error."""

    def _train(self, choose: Choose | None) -> Examples | None:
        listing = self._listing("train")
        if listing is None:
            return None
        return self._reader(listing).examples(shuffled(listing.files), choose=choose, stream=True)

    def _reader(self, listing: Listing) -> Reader:
        return Reader(
            where=f"data {self.path}",
            root=listing.root,
            classes=listing.classes,
            size=self.size,
            resize=self.resize,
            interpolation=self.interpolation,
            names=listing.names,
            skip_unreadable=self.skip_unreadable,
            contents=listing.contents,
        )


def as_asked(asked: Asked) -> dict[str, Any]:
    """Return the fields of a source that reads its images as it was asked for."""
    return {
        "path": asked.path,
        "size": asked.size,
        "skip_unreadable": asked.skip_unreadable,
        "resize": asked.resize,
        "interpolation": asked.interpolation or "bilinear",
    }


def split_of(words: Iterable[str], split: Split) -> list[str]:
    """Return which of these names belong to a split, by the word they begin with (``train-00000-of-00001``).

    Those of a test split where one is named so, else those of a validation split; where nothing names a split, all are
    test images.
    """
    words = list(words)
    begun = {word: _beginning(word) for word in words}
    train = [word for word in words if _WORDS.get(begun[word]) == "train"]
    if split == "train":
        return train
    for kinds in (("test", "testing"), *((word,) for word in _HELD_OUT)):
        if found := [word for word in words if begun[word] in kinds]:
            return found
    return [] if train else words


def _beginning(word: str) -> str:
    letters = word.lower()
    end = next((i for i, letter in enumerate(letters) if not letter.isalpha()), len(letters))
    return letters[:end]
