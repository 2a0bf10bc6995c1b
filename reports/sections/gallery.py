"""What attacks made of the first images: clean, adversarial and difference, model by model, with the model's answers.

Of each norm the attack that broke the most images of the whole set stands first (of several the one with the smallest
radius, then by name); the others are details. Of a model with several seeds the first is shown. The adversarial is the
clean picture with what the record of the attack keeps as its change. What comes from a record is not trusted: an image
is shown as far as its fields are of their types, its pictures are small PNGs, and both are of one size.

Ours: the page has pictures of up to 2 MB. Where they would be more, the other attacks are left out, then images.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Literal, NamedTuple

import pandas as pd

from reports.bodies import Album, Exhibit, Gallery, Picture, Shot
from reports.pictures import decoded, picture
from reports.section import Section, Source
from reports.tables import MISSING
from robust_eval.results.attacked import broken, radii_of
from robust_eval.results.difference import magnified, recomposed
from robust_eval.results.entry import Entry
from robust_eval.results.estimates import is_estimate
from robust_eval.results.pictured import MOST, AttackPictured, CleanPictured, pictured
from robust_eval.results.thumbnail import thumbnail
from robust_eval.threat import length_text, threat_text

__all__ = ["gallery", "sections"]

_NORMS = ("linf", "l2", "l1", "l0", "spatial")
_BYTES = 2 << 20
_AROUND = 500
"""Characters of the page around a picture, about."""
_LONGEST = 40
"""Characters of a class's name; of a model and an attack in what is read out, twice as many."""
_TOLERANCE = 1e-6
"""With which a distance meets a radius, as in the tables."""
NOTE = (
    "The first images that were measured, with the class that the model takes them for and its probability (its mean "
    "over the draws of a model that draws). Of each norm the attack that broke the most images of the whole set stands "
    "first. A difference is magnified around mid grey: under a linf radius until the radius fills the range, else "
    "until its own largest change does. Adversarials are the clean image with the difference, to within two "
    "of 255 levels (four where they are scaled down)."
)
LESS = " Not all of the pictures are shown: the page would be too large."

_Cleans = Mapping[tuple[str, int], CleanPictured]


class _Attack(NamedTuple):
    """An attack with what its record shows."""

    name: str
    norm: str
    radius: float
    """Within which it breaks an image; infinity where nobody asked for one."""
    minimal: bool
    kept: Mapping[int, AttackPictured]
    broken: pd.Series[bool]

    def broke(self, index: int) -> bool:
        """Whether it broke an image within the radius."""
        seen = self.kept.get(index)
        if seen is None:  # the record keeps fewer pictures
            return bool(self.broken.get(index, False))
        return seen.broken and (not self.minimal or self.near(seen.distance))

    def near(self, distance: float | None) -> bool:
        """Whether a perturbation of this length is within the radius."""
        return distance is not None and distance <= self.radius + _TOLERANCE


class _Group(NamedTuple):
    """One model with one defense on one set of images."""

    data: str
    model: str
    defense: str
    attacks: tuple[_Attack, ...]
    first: int
    clean: Mapping[int, CleanPictured]


def sections(source: Source) -> Iterator[Section]:
    """Yield the gallery, if an attack kept what it changed."""
    shown, whole = gallery(source.entries)
    if shown.albums:
        yield Section("Gallery", shown, NOTE if whole else NOTE + LESS)


def gallery(entries: Sequence[Entry], most: int = _BYTES) -> tuple[Gallery, bool]:
    """Return the albums, in ``most`` bytes of pictures if they fit at all, and whether nothing was left out."""
    cleans = _cleans(entries)
    groups = list(_groups(entries))
    plans = [(MOST, True), *((images, False) for images in range(MOST, 0, -1))]
    plan = next((plan for plan in plans if _size(groups, cleans, *plan) <= most), plans[-1])
    return Gallery(tuple(_album(group, cleans, *plan) for group in groups)), plan == plans[0]


def _cleans(entries: Sequence[Entry]) -> dict[tuple[str, int], CleanPictured]:
    """Return the clean images of each data set, by index: all models were asked the same."""
    found: dict[tuple[str, int], CleanPictured] = {}
    for entry in entries:
        if entry.labels["family"] == "clean":
            for index, seen in pictured(entry.record, CleanPictured).items():
                found.setdefault((str(entry.labels["data"]), index), seen)
    return found


def _groups(entries: Sequence[Entry]) -> Iterator[_Group]:
    """Yield what is shown together, data set by data set in the order of the models."""
    together: dict[tuple[str, str, str], list[Entry]] = defaultdict(list)
    for entry in entries:
        labels = entry.labels
        if labels["family"] in ("clean", "attack") and not is_estimate(entry.record):
            together[str(labels["data"]), str(labels["model"]), str(labels["defense"])].append(entry)
    for (data, model, defense), own in sorted(together.items(), key=lambda item: item[0][0]):
        seen = [e for e in own if e.labels["family"] == "attack" and pictured(e.record, AttackPictured)]
        if not seen:
            continue
        seed = min(map(_seed, seen))
        attacks = [_attack(e) for e in own if e.labels["family"] == "attack" and _seed(e) == seed]
        by_norm: dict[str, list[_Attack]] = defaultdict(list)
        for attack in attacks:
            by_norm[attack.norm].append(attack)
        norms = sorted(by_norm, key=lambda n: (_NORMS.index(n) if n in _NORMS else len(_NORMS), n))
        best = [min(by_norm[norm], key=_rank) for norm in norms]
        rest = [attack for norm in norms for attack in by_norm[norm] if all(attack is not b for b in best)]
        kept = [
            pictured(e.record, CleanPictured)
            for e in own
            if e.labels["family"] == "clean" and _seed(e) == seed
        ]
        yield _Group(data, model, defense, (*best, *rest), len(best), kept[0] if kept else {})


def _seed(entry: Entry) -> tuple[int, int]:
    """Return the seeds of training and measuring."""
    return tuple(-1 if (s := entry.labels[name]) is None else int(s) for name in ("train_seed", "seed"))  # type: ignore[return-value]


def _attack(entry: Entry) -> _Attack:
    labels, record = entry.labels, entry.record
    minimal = labels["eps"] is None
    radius = max(radii_of(record), default=math.inf)
    name = f"{labels['perturbation']} {threat_text(labels['norm'], labels['eps'])}"
    access = "" if labels["access"] == "none" else f", {labels['access']}"
    kept = pictured(record, AttackPictured)
    return _Attack(f"{name}{access}", labels["norm"], radius, minimal, kept, broken(record, radius))


def _rank(attack: _Attack) -> tuple[bool, int, float, str]:
    """Return by what attacks of one norm are ordered: one with pictures that broke the most, by the least."""
    return not attack.kept, -int(attack.broken.sum()), attack.radius, attack.name


def _size(groups: Sequence[_Group], cleans: _Cleans, images: int, details: bool) -> int:
    """Return about how many characters the pictures take."""
    total = 0
    for group in groups:
        for index in _indices(group)[:images]:
            clean = cleans.get((group.data, index))
            alone = _AROUND + (0 if clean is None else len(clean.picture))
            total += alone
            for attack in group.attacks[: None if details else group.first]:
                seen = attack.kept.get(index)
                if seen is not None and seen.difference is not None:
                    total += alone + len(seen.difference) + _AROUND
    return total


def _indices(group: _Group) -> list[int]:
    return sorted({*group.clean, *(index for attack in group.attacks for index in attack.kept)})[:MOST]


def _album(group: _Group, cleans: _Cleans, images: int, details: bool) -> Album:
    attacks = group.attacks if details else group.attacks[: group.first]
    indices = _indices(group)[:images]
    return Album(
        group.data,
        group.model,
        group.defense,
        tuple(attack.name for attack in attacks),
        group.first,
        tuple(_exhibit(group, attacks, index, cleans.get((group.data, index))) for index in indices),
        tuple(_held(group, indices)),
    )


def _exhibit(group: _Group, attacks: Sequence[_Attack], index: int, clean: CleanPictured | None) -> Exhibit:
    own = group.clean.get(index)
    under = next((attack.kept[index] for attack in group.attacks if index in attack.kept), None)
    label = own.label if own is not None else under.label if under is not None else ""
    answer = MISSING
    if own is not None:
        answer = _answer(own.prediction, own.confidence)
    elif under is not None:
        answer = _answer(under.clean_prediction, under.clean_confidence)
    whose = _cut(group.model if group.defense == "none" else f"{group.model} ({group.defense})", 2 * _LONGEST)
    told = f"image {index}, class {_cut(label)}"
    shown = None if clean is None else picture(clean.picture, f"clean {told}: {whose} says {answer}")
    shots = tuple(_shot(attack, attack.kept.get(index), shown, whose) for attack in attacks)
    return Exhibit(told, shown, answer, shots)


def _shot(attack: _Attack, seen: AttackPictured | None, clean: Picture | None, whose: str) -> Shot | None:
    if seen is None:
        return None
    answer, verdict, told = _answer(seen.prediction, seen.confidence), *_verdict(attack, seen)
    if seen.difference is None or seen.scale is None:
        return Shot(None, None, answer, verdict, told, "")
    times = f"×{float(f'{magnified(seen.scale):.2g}'):g}"
    where = f"image {seen.index}, {_cut(attack.name, 2 * _LONGEST)} on {whose}"
    difference = picture(seen.difference, f"difference {times} of {where}")
    changed = _adversarial(clean, difference, seen.scale, f"adversarial {where}: {answer}, {told}")
    return Shot(changed, difference, answer, verdict, told, times if difference is not None else "")


def _verdict(attack: _Attack, seen: AttackPictured) -> tuple[Literal["broken", "held", "untouched"], str]:
    """Return what became of an image, and the same in words."""
    if not seen.right or not seen.attacked:
        return "untouched", "not attacked" if seen.right else "wrong already"
    broke = attack.broke(seen.index)
    found = ""
    if attack.minimal and seen.broken and seen.distance is not None:
        found = f"at {_length(attack.norm, seen.distance)}"
    if broke:
        return "broken", f"broken {found}".strip()
    within = f"held within {_length(attack.norm, attack.radius)}"
    return "held", f"{within}, broken {found}" if found else "held"


def _length(norm: str, length: float) -> str:
    """Return a distance in three digits."""
    if norm == "l0":
        return length_text(length, norm)
    return f"{255 * length:.3g}/255" if norm == "linf" else f"{length:.3g}"


def _adversarial(
    clean: Picture | None, difference: Picture | None, scale: float, told: str
) -> Picture | None:
    if clean is None or difference is None:
        return None
    before, change = decoded(clean.text), decoded(difference.text)
    if before is None or change is None or before.size != change.size:
        return None
    image = recomposed(before, change, scale)
    grey = bool((image[0] == image[1]).all() and (image[0] == image[2]).all())
    return Picture(thumbnail(image[:1] if grey else image), told, before.width, before.height)


def _answer(name: str, confidence: float | None) -> str:
    return _cut(name) if confidence is None else f"{_cut(name)} ({100 * confidence:.0f} %)"


def _cut(text: str, longest: int = _LONGEST) -> str:
    line = " ".join(text.split())
    return line if len(line) <= longest else f"{line[: longest - 1]}…"


def _held(group: _Group, indices: Sequence[int]) -> Iterator[str]:
    """Yield which images no attack of a norm broke, of those that one was tried on."""
    for norm in dict.fromkeys(attack.norm for attack in group.attacks):
        attacks = [attack for attack in group.attacks if attack.norm == norm]
        tried = [
            i for i in indices if any(i in a.kept and a.kept[i].attacked and a.kept[i].right for a in attacks)
        ]
        held = [str(i) for i in tried if not any(attack.broke(i) for attack in attacks)]
        if held:
            yield f"No {norm} attack broke image {', '.join(held)}."
        elif tried:
            yield f"Each of the images that were attacked was broken in {norm}."
