"""What a record keeps to show of its first images, in its provenance: as it is written, and as it is read with care.

Nothing computes with it. The record of the clean images keeps their pictures; that of an attack what it changed
(:mod:`robust_eval.results.difference`), so that a clean picture is on the disk once and not under every attack.
"""

from __future__ import annotations

from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from robust_eval.results.record import Record

__all__ = ["MOST", "PICTURES", "AttackPictured", "CleanPictured", "pictured"]

PICTURES = "pictures"
"""Under what name provenance has them."""
MOST = 6
"""Images shown of a record. Ours."""

Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Text = Annotated[str, Field(max_length=1 << 17)]


class _Pictured(BaseModel):
    """An image by its place in the set, its class, and what the model takes it for."""

    model_config = ConfigDict(strict=True, frozen=True)

    index: int = Field(ge=0, lt=1 << 53)
    label: Text
    """Its class, by name where the set has names."""
    prediction: Text
    """The class that most draws give; ``none`` where the model's output is not finite."""
    confidence: Share | None
    """Probability of that class, averaged over draws."""


class CleanPictured(_Pictured):
    """An image as it is."""

    picture: Text
    """PNG in base64."""


class AttackPictured(_Pictured):
    """An image under attack: ``prediction`` and ``confidence`` are those after it."""

    clean_prediction: Text
    clean_confidence: Share | None
    attacked: bool
    """Whether the attack was tried on it: not where what it is aimed at is wrong already."""
    broken: bool
    """Whether the model was right before the attack and is not after it."""
    distance: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None
    """In the attack's norm."""
    scale: Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)] | None
    """The change that fills the range of ``difference``."""
    difference: Text | None
    """What was changed, as PNG in base64; ``None`` where the image was not attacked."""

    @property
    def right(self) -> bool:
        """Whether the model is right before the attack."""
        return self.clean_prediction == self.label


P = TypeVar("P", CleanPictured, AttackPictured)


def pictured(record: Record, kind: type[P]) -> dict[int, P]:
    """Return what a record shows of its first images, by index; what is not of this form is left out."""
    items: Any = record.provenance.get(PICTURES)
    found: dict[int, P] = {}
    for item in items[:MOST] if isinstance(items, list) else []:
        try:
            shown = kind.model_validate(item)
        except ValidationError:
            continue
        found[shown.index] = shown
    return found
