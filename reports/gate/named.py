"""How a rule names a number: ``clean``, ``pgd@8/255``, ``worst_case@l2:0.5``, ``fog@3``, ``corruptions``, with ``*``.

Behind the ``@`` stands a radius (linf unless it says ``l2:``), the severity of a corruption, or ``*`` for any. In
brackets before it may stand a model, ``[resnet] clean``, or a model and its defense, ``[resnet + mixup_inference]`` or
``[* + *]``; without brackets every model with and without defenses is meant.

``corruptions`` is the mean accuracy over corruptions, of which more is better, as of every number here. ``mce`` is an
error, of which less is better: a rule on a drop may use the word, and judges how much the mean error rose, which is how
much the mean accuracy fell; in a rule on a least value it is refused. Ours: errors are not divided by others.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import get_args

from robust_eval.errors import ConfigError, near
from robust_eval.printable import printable
from robust_eval.results.attacked import same_radius
from robust_eval.threat import Bound, bare_norm, length_text, parse_number

__all__ = ["ANY", "CLEAN", "MEAN", "Named", "fits", "strength_text"]

ANY = "*"
ALONE = "none"
CLEAN = "clean"
MEAN = "corruptions"
ERROR = "mce"
_NORMS = get_args(Bound)
_WHO = re.compile(r"\[(?P<who>[^\[\]]*(?:\[[^\[\]]*\][^\[\]]*)*)\]\s*(?P<what>.*)")
_EXAMPLES = "clean, pgd@8/255, worst_case@l2:0.5, fog@3 or corruptions"


@dataclass(frozen=True)
class Named:
    """Which numbers are meant; each field may be a pattern with ``*``."""

    name: str
    model: str = ANY
    defense: str = ANY
    anywhere: bool = False
    """Whether any radius and severity is meant."""
    norm: str | None = None
    at: float | None = None
    """The radius, in the norm or in linf, or the severity."""

    @classmethod
    def parse(cls, text: str, *, of_drop: bool) -> Named:
        """Return what a text names; raises ``ConfigError``."""
        model = defense = ANY
        if (found := _WHO.fullmatch(text.strip())) is not None:
            who, text = found["who"].strip(), found["what"]
            # the last, as in a model called "a + b"
            model, _, defense = (
                (part.strip() for part in who.rpartition(" + ")) if " + " in who else (who, "", ALONE)
            )
            if not model or not defense:
                raise ConfigError(f"expected a model in the brackets, got [{printable(who)}]")
        name, at, strength = (part.strip() for part in text.strip().rpartition("@"))
        if not at:
            name, strength = strength, ""
        if not name:
            raise ConfigError(f"expected the name of a number, such as {_EXAMPLES}, got {printable(text)!r}")
        if name.lower() == ERROR:
            if not of_drop:
                raise ConfigError(
                    f"{ERROR} is an error, of which less is better, and a least value needs an accuracy; write "
                    f"{MEAN}, the mean accuracy under corruptions"
                )
            name = MEAN
        if name in (CLEAN, MEAN) and at:
            raise ConfigError(f"{name} has neither radius nor severity; leave out '@{printable(strength)}'")
        if not at:
            return cls(name, model, defense, anywhere=name == ANY)
        return cls(name, model, defense, *_strength(strength))

    def is_at(self, family: str, norm: str, eps: float | None, severity: int | None) -> bool:
        """Whether a number with this radius or severity is meant."""
        if self.anywhere:
            return True
        if self.at is None:
            return family in (CLEAN, MEAN) or (eps is None and severity is None)
        if family == "corruption":
            return self.norm is None and severity is not None and severity == self.at
        bare = bare_norm(norm)
        return (
            family == "attack"
            and eps is not None
            and bare == (self.norm or "linf")
            and same_radius(eps, self.at)
        )


def fits(name: str, pattern: str) -> bool:
    """Whether a name is the one that is meant; ``*`` in the pattern stands for any letters."""
    return name == pattern or bool(
        re.fullmatch(".*".join(map(re.escape, pattern.split(ANY))), name, re.DOTALL)
    )


def strength_text(family: str, norm: str, eps: float | None, severity: int | None) -> str:
    """Return what stands behind the ``@`` of a number; empty where nothing does."""
    if family == "attack" and eps is not None:
        length = length_text(eps, norm) if norm != "spatial" else f"{eps:g}"
        return f"{bare_norm(norm)}:{length}"
    return "" if severity is None else str(severity)


def _strength(text: str) -> tuple[bool, str | None, float | None]:
    if text == ANY:
        return True, None, None
    norm, colon, length = (part.strip() for part in text.rpartition(":"))
    if colon and norm not in _NORMS:
        raise ConfigError(
            f"expected a norm ({', '.join(_NORMS)}), got {printable(norm)!r}{near(norm, _NORMS)}"
        )
    try:
        at = float(parse_number(length))
    except ValueError:
        raise ConfigError(
            f"expected a radius such as 8/255 or l2:0.5, a severity such as 3, or *, got {printable(text[:40])!r}"
        ) from None
    if not 0 <= at < float("inf"):
        raise ConfigError(f"expected a radius or a severity of at least 0, got {printable(text[:40])}")
    if norm == "linf" and at > 1:
        raise ConfigError(
            f"expected a linf radius in [0, 1], as pixels are, got {at:g}; did you mean '{at:g}/255'?"
        )
    return False, norm or None, at
