"""The card of a check: what it is about, what its figure means, and when it is made.

It is written on the function that makes the check; suites, reports and the table of checks follow from it. A new check
is a function in a module of this package, which is found by itself:

.. code-block:: python

    @check(about="gradients", words="images with a kink nearby", unit="share", quick=200, full=200)
    def few_kinks(subject: Subject) -> Check | None:
        \"\"\"Warn when the loss has kinks near many images.\"\"\"

It returns a :class:`.Check` of its own name, or ``None`` where it does not apply.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, NamedTuple, TypeVar

__all__ = ["About", "Card", "Made", "Round", "Turn", "Unit", "card_of", "cards", "check", "turns"]

About = Literal["answers", "gradients", "attacks"]
"""Every number of a model, the attacks that follow gradients, or all attacks."""
Unit = Literal["share", "count", "number", "yes"]
"""A share of 1 is told in percent, a count is whole, a number has none, ``yes`` is 1 or 0."""
Made = Literal["model", "attack", "examination", "records"]
"""With every record of a model, with every record of an attack, in an examination, or by records side by side."""
Round = Literal["quick", "full", "across"]
"""What is made one after the other: the two levels of an examination, and the comparisons of records."""
F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True, kw_only=True)
class Card:
    """What is known of a check beforehand."""

    name: str
    says: str = ""
    """When it warns or fails: the first sentence of its function."""
    about: About = "attacks"
    """Which numbers it says something about."""
    made: Made = "examination"
    words: str = ""
    """What its figure is; empty where nobody said."""
    unit: Unit = "number"
    any_norm: bool = False
    """Whether its verdict in one norm holds in all."""
    masked: bool = False
    """Whether a failure means that gradients lead an attack nowhere."""
    suspicious: bool = False
    """Whether a warning means that they may not."""
    places: Mapping[Round, int]
    """Where it stands in each round that it is part of, the smallest first."""


class Turn(NamedTuple):
    """A check to be made."""

    name: str
    make: Callable[..., Any]


class _Registered(NamedTuple):
    card: Card
    function: Callable[..., Any]
    full_params: Mapping[str, Any]


_CHECKS: dict[str, _Registered] = {}


def check(
    *,
    words: str,
    unit: Unit,
    about: About = "attacks",
    made: Made = "examination",
    any_norm: bool = False,
    masked: bool = False,
    suspicious: bool = False,
    quick: int | None = None,
    full: int | None = None,
    full_params: Mapping[str, Any] | None = None,
    across: int | None = None,
) -> Callable[[F], F]:
    """Return a decorator that registers a function under its name as a check.

    ``quick``, ``full`` and ``across`` are its places in these rounds, without which somebody else calls it; at the full
    level it gets ``full_params``. What is about answers holds in any norm, and what fails where gradients are masked is
    suspicious of it when it warns.

    Raises ``ValueError`` when another function has the name already, and for one without a docstring.
    """
    places: dict[Round, int | None] = {"quick": quick, "full": full, "across": across}

    def decorate(function: F) -> F:
        name = function.__name__
        earlier = _CHECKS.get(name)
        if earlier is not None and _origin(earlier.function) != _origin(function):
            raise ValueError(
                f"check {name!r} of {function.__module__} is already registered by {earlier.function.__module__}"
            )
        if not function.__doc__:
            raise ValueError(
                f"check {name!r}: expected a docstring that says when it warns or fails, got none"
            )
        card = Card(
            name=name,
            says=_first_sentence(function.__doc__),
            about=about,
            made=made if across is None else "records",
            words=words,
            unit=unit,
            any_norm=any_norm or about == "answers",
            masked=masked,
            suspicious=suspicious or masked,
            places={name: place for name, place in places.items() if place is not None},
        )
        _CHECKS[name] = _Registered(card, function, full_params or {})
        return function

    return decorate


def cards() -> tuple[Card, ...]:
    """Return the card of every check, by name; of comparisons where :mod:`robust_eval.results` was imported."""
    return tuple(_CHECKS[name].card for name in sorted(_CHECKS))


def card_of(name: str) -> Card:
    """Return the card of this check; a blank one where nobody registered it, as for a record of other versions."""
    found = _CHECKS.get(name)
    return Card(name=name, places={}) if found is None else found.card


def turns(of: Round) -> list[Turn]:
    """Return the checks of a round, in their order and with its parameters."""
    made = [found for found in _CHECKS.values() if of in found.card.places]
    return [
        Turn(
            found.card.name,
            partial(found.function, **found.full_params) if of == "full" else found.function,
        )
        for found in sorted(made, key=lambda found: (found.card.places[of], found.card.name))
    ]


def _origin(function: Callable[..., Any]) -> tuple[str, str]:
    return function.__module__, function.__qualname__


def _first_sentence(text: str) -> str:
    paragraph = " ".join(text.strip().partition("\n\n")[0].split())
    return paragraph.partition(". ")[0].removesuffix(".") + "."
