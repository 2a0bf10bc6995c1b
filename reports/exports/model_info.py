"""One claim for RobustBench: the fields of its ``model_info`` files, and what lacks for a submission."""

from __future__ import annotations

from typing import Literal, NamedTuple

from pydantic import BaseModel, ConfigDict

from reports.exports.words import file_name

__all__ = ["Board", "Claim", "ModelInfo"]

Board = Literal["Linf", "L2", "corruptions"]


class ModelInfo(BaseModel):
    """One file of ``model_info``; the fields that a board does not have are left out of its files."""

    model_config = ConfigDict(extra="forbid", strict=True)

    link: str | None = None
    name: str | None = None
    """Of the paper."""
    authors: str | None = None
    additional_data: bool | None
    number_forward_passes: int | None
    dataset: str | None
    venue: str | None = None
    architecture: str
    eps: str | None
    clean_acc: str | None
    reported: str | None
    autoattack_acc: str | None = None
    corruptions_acc: str | None = None
    footnote: str | None
    unreliable: bool | None


class Claim(NamedTuple):
    """One entry of a board."""

    model: str
    board: Board
    info: ModelInfo
    method: str
    """What was run, in words."""
    lacking: tuple[str, ...]
    """What it does not meet of the board's conditions."""
    adversarials: bytes | None = None
    """The adversarial images as a ``.pt`` file, where the run kept them."""
    notes: tuple[str, ...] = ()
    """Why there are none, where there should be."""

    def place(self, suffix: str) -> str:
        """Return where one of its files lies: set, board and model."""
        return f"{self.info.dataset or 'other'}/{self.board}/{file_name(self.model, suffix)}"
