"""The kinds of body that show pictures: contact sheets of corruptions, and the gallery of what attacks made."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

__all__ = [
    "GALLERY",
    "Album",
    "Exhibit",
    "Gallery",
    "Picture",
    "Sheet",
    "Sheets",
    "Shot",
]

GALLERY = "gallery.png"
"""The file with the pictures of a gallery, for a paper."""
READABLE = 96
"""Pixels of a page of the longer side of a picture at least."""


@dataclass(frozen=True)
class Picture:
    """One image."""

    text: str
    """PNG in base64: of that alphabet, and known to be one."""
    told: str
    """What it shows, such as ``fog s3``."""
    width: int
    height: int

    @property
    def times(self) -> int:
        """How many pixels of a page show one of its own: a whole number, so that nothing is blurred."""
        return -(-READABLE // max(self.width, self.height))


@dataclass(frozen=True)
class Sheet:
    """The pictures of one data set."""

    data: str
    severities: tuple[int, ...]
    rows: tuple[tuple[str, tuple[Picture | None, ...]], ...]
    """Each type with a picture for each severity, ``None`` where there is none."""
    others: tuple[Picture, ...]
    """The clean image, deformations, and whatever else has no severity."""


@dataclass(frozen=True)
class Sheets:
    """Contact sheets of pictures."""

    sheets: tuple[Sheet, ...]


class Shot(NamedTuple):
    """One image under one attack."""

    adversarial: Picture | None
    difference: Picture | None
    answer: str
    """What the model takes it for, with its confidence."""
    verdict: Literal["broken", "held", "untouched"]
    told: str
    """The verdict, for people."""
    magnified: str
    """How many times the difference is, such as ``x16``."""


class Exhibit(NamedTuple):
    """One image, as it is and under the attacks of its album."""

    told: str
    """Which one it is, and its class."""
    clean: Picture | None
    answer: str
    """What the model takes the clean image for, with its confidence."""
    shots: tuple[Shot | None, ...]
    """One for each attack; ``None`` where nothing was kept."""


class Album(NamedTuple):
    """Images as one model takes them, with one defense."""

    data: str
    model: str
    defense: str
    attacks: tuple[str, ...]
    first: int
    """How many of the attacks stand first, one for each norm; the others are details."""
    exhibits: tuple[Exhibit, ...]
    held: tuple[str, ...]
    """Which of the images no attack of a norm broke, a sentence for each norm."""

    @property
    def name(self) -> str:
        """The model, and the defense if there is one."""
        return self.model if self.defense == "none" else f"{self.model} ({self.defense})"


@dataclass(frozen=True)
class Gallery:
    """What attacks made of the first images, model by model."""

    albums: tuple[Album, ...]

    @property
    def several_data(self) -> bool:
        """Whether albums have to say on which data."""
        return len({album.data for album in self.albums}) > 1
