"""The page of all checks, made from their cards.

``robust_eval/guide/checks.md`` is what it returns; write it anew after changing a card::

    python -c "import robust_eval.results.comparisons
    from robust_eval.checks.table import page, PATH
    PATH.write_text(page(), encoding='utf-8')"
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from robust_eval.checks.card import About, Card, Made, Unit, cards

__all__ = ["PATH", "page"]

PATH = Path(__file__).parent.parent / "guide" / "checks.md"
_MADE: Mapping[Made, str] = {
    "model": "With every record: the model's answers to clean images",
    "attack": "With every attack: what it handed back, and how the model's gradients were mended for it",
    "examination": "In an examination: small experiments whose outcome is known beforehand",
    "records": "When a report is written: records of attacks on one model side by side",
}
_ABOUT: Mapping[About, str] = {
    "answers": "every number",
    "gradients": "attacks that follow gradients",
    "attacks": "attacks",
}
_UNIT: Mapping[Unit, str] = {"share": " (%)", "count": " (count)", "number": "", "yes": " (yes or no)"}


def page() -> str:
    """Return the page: a table for each occasion on which checks are made, and what their verdicts say of gradients."""
    known = cards()
    parts = ["# Checks"]
    for made, heading in _MADE.items():
        listed = sorted((card for card in known if card.made == made), key=_place)
        rows = ["| check | what it says | its figure | concerns |", "|---|---|---|---|", *map(_row, listed)]
        parts += [f"## {heading}", "\n".join(rows)]
    masked = _names(card for card in known if card.masked)
    suspicious = _names(card for card in known if card.suspicious and not card.masked)
    parts.append(
        f"Where one of {masked} fails, *gradients look masked*; where one of these or of {suspicious} warns, they "
        "*may be masked*."
    )
    return "\n\n".join(parts) + "\n"


def _place(card: Card) -> tuple[int, str]:
    return min(card.places.values(), default=0), card.name


def _row(card: Card) -> str:
    level = " (`full` only)" if "full" in card.places and "quick" not in card.places else ""
    told = [f"`{card.name}`{level}", card.says, card.words + _UNIT[card.unit], _ABOUT[card.about]]
    return f"| {' | '.join(text.replace('|', chr(92) + '|') for text in told)} |"


def _names(listed: Iterable[Card]) -> str:
    return ", ".join(f"`{card.name}`" for card in listed)
