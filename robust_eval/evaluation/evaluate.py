"""Measure one cell: perturb the images, re-measure everything, and write down a row per example.

The evaluator trusts nobody. Box, norm and success are measured here, in float32 pixels and fp32 logits, on what
an attack hands back. *Robust* means classified correctly before and after the attack; only clean-correct examples
are attacked.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import pandas as pd
import torch

from robust_eval import checks
from robust_eval.adaptive import GlobalDraws
from robust_eval.data.mask import changed_outside
from robust_eval.evaluation.perturbing import Perturbed, attacked, corrupted, untouched, whom_to_attack
from robust_eval.evaluation.prepared import Prepared
from robust_eval.evaluation.provenance import how_perturbed, provenance
from robust_eval.evaluation.rows import certificates, rows_of
from robust_eval.evaluation.sampling import Part, chosen_images
from robust_eval.evaluation.scoring import fooled_in_bytes, score
from robust_eval.evaluation.shown import shown
from robust_eval.evaluation.summary import summarise
from robust_eval.evaluation.workbench import Workbench
from robust_eval.findings import Check
from robust_eval.methods import Attack, Corruption
from robust_eval.results.cell import Cell
from robust_eval.results.record import Record
from robust_eval.types import Images, Mask

__all__ = ["Keep", "evaluate"]


Keep = Callable[[Cell, Images, pd.DataFrame, Mask], None]
"""Is given the adversarials of a cell, the rows of its record, and which fool when rounded to 8 bits a channel."""


def evaluate(cell: Cell, bench: Workbench, *, keep: Keep | None = None) -> Record:
    """Return the record of a cell. The same cell gives the same record, apart from its provenance.

    The adversarials of an attack go to ``keep``; without it they are forgotten part by part.
    """
    started = time.perf_counter()
    prepared = bench.prepare(cell)
    chosen = chosen_images(prepared)
    parts: list[_Part] = []
    # part by part, so that memory does not grow with the number of images
    for some in chosen:
        parts.append(_measured(prepared, some, keep=keep is not None))
        chosen.saw(parts[-1].rows)
    rows = chosen.together([part.rows for part in parts])
    if keep is not None and isinstance(cell.perturbation, Attack):
        images, still = (
            torch.cat(found) for found in zip(*((p.perturbed.x, p.still_fooled) for p in parts), strict=True)
        )
        keep(cell, images.cpu()[chosen.order], rows, still.cpu()[chosen.order])
    summary = summarise(cell, rows)
    verdicts = (*prepared.checks, *_attack_checks(prepared, parts))
    saved = sum(part.perturbed.seconds_saved for part in parts)
    made = provenance(prepared, rows, time.perf_counter() - started + saved)
    made |= how_perturbed(prepared, [part.perturbed for part in parts])
    made |= {"estimate": chosen.told} if chosen.told else {}
    return Record(cell.key, cell.spec, cell.labels, summary, verdicts, made | parts[0].shown, rows)


class _Part(NamedTuple):
    """What was measured on some of the images."""

    rows: pd.DataFrame
    perturbed: Perturbed
    """Without its images, unless they are kept."""
    violated: Mask
    fooled: Mask
    still_fooled: Mask
    """When rounded to 8 bits a channel."""
    shown: dict[str, Any]
    """Pictures, of the first part alone."""


def _measured(prepared: Prepared, part: Part, *, keep: bool) -> _Part:
    """Perturb some of the images and measure what that did, on them and on the model's answers."""
    cell, perturbation = prepared.cell, prepared.cell.perturbation
    attack = perturbation if isinstance(perturbation, Attack) else None
    x, y = prepared.images(part)
    rng = prepared.rng(part)
    where = "" if isinstance(part, slice) and len(prepared.parts) == 1 else f" of {_told(part)}"
    prepared.told(f"clean answers{where}", 0, None)
    clean = prepared.clean.part(part)
    free = None if cell.mask is None else cell.mask.of(part, x.device)

    if attack is not None:
        whom = whom_to_attack(prepared.aimed_at.clean.part(part).prediction, y) & ~attack.own_class(y)
        most = _most_passes(prepared, attack, int(whom.sum()))

        def told(done: int) -> None:
            prepared.told(f"attack{where}, image passes", done, most)

        perturbed = prepared.perturbed(
            part,
            lambda: attacked(
                attack, prepared.seen, x, y, whom, rng=rng.child("attack"), told=told, free=free
            ),
        )
    elif perturbation is not None:
        assert isinstance(perturbation, Corruption)
        prepared.told(f"corrupting{where}", 0, None)
        perturbed = prepared.perturbed(part, lambda: corrupted(perturbation, x, rng=rng.child("corruption")))
    else:
        perturbed = untouched(x)

    violated = torch.zeros_like(perturbed.attacked)
    if attack is not None:  # what left its constraints is taken back
        violated = checks.violations(x, perturbed.x, attack.threat)
        violated |= False if free is None else changed_outside(free, x, perturbed.x)
        perturbed = perturbed._replace(x=torch.where(violated.view(-1, 1, 1, 1), x, perturbed.x))

    scored = clean
    if perturbation is not None:
        prepared.told(f"scoring{where}", 0, None)
        scored = score(prepared.model, perturbed.x, y, draws=cell.draws, rng=rng.child("score"))
    fooled = perturbed.attacked & (scored.prediction != y)
    still = fooled
    # a network that draws from torch's generators has the draws of a batch, and the rounded images are another
    if attack is not None and not isinstance(prepared.base.network, GlobalDraws):
        still = fooled_in_bytes(
            prepared.model, perturbed.x, y, fooled, draws=cell.draws, rng=rng.child("score")
        )

    rows = rows_of(x, y, clean, perturbed, scored, attack=attack)
    if perturbation is None and cell.defense is not None:
        rows = rows.assign(**certificates(cell.defense, prepared.base, x, rng=rng.child("certify")))
    # of a sample nobody shows the first ones
    first = isinstance(part, slice) and part.start == 0
    pictures = shown(cell, x, clean, perturbed, scored, fooled) if first else {}
    left = perturbed if keep else perturbed._replace(x=x.new_empty(0, *x.shape[1:]))
    return _Part(rows, left, violated, fooled, still, pictures)


def _told(part: Part) -> str:
    """Return which images these are, for whoever waits."""
    return (
        f"images {part.start:,} to {part.stop:,}"
        if isinstance(part, slice)
        else f"{len(part):,} images drawn"
    )


def _most_passes(prepared: Prepared, attack: Attack, images: int) -> int | None:
    """Return how many passes an attack takes at most; ``None`` where the draws of a gradient are not yet known."""
    cost = None if prepared.aimed_at.cell.stochastic else attack.cost(prepared.cell.data.examples.classes)
    return None if cost is None else images * (cost.forwards + cost.backwards)


def _attack_checks(prepared: Prepared, parts: Sequence[_Part]) -> Iterator[Check]:
    """Yield what speaks for and against the number of an attack; nothing in any other cell."""
    attack = prepared.cell.perturbation
    if not isinstance(attack, Attack):
        return
    yield checks.constraint(torch.cat([part.violated for part in parts]))
    fooled = torch.cat([part.fooled for part in parts])
    still = torch.cat([part.still_fooled for part in parts])
    yield checks.rounding(attack, fooled, still)
    yield checks.minimal_transfer(attack, prepared.cell.access)
    own = attack.own_class(prepared.cell.data.examples.labels)
    if own.any():
        yield checks.target_class(own)
    if prepared.black_box:
        return
    zero, bad, whom = (
        torch.cat([getattr(part.perturbed, name) for part in parts])
        for name in ("zero_gradients", "bad_gradients", "attacked")
    )
    yield checks.zero_gradient(zero, bad, whom)
    adapted = prepared.aimed_at.adapted
    blind = not attack.adapts and attack.gradients
    yield checks.vanishing_gradient(adapted, adapts=not blind)
    yield checks.blind_pixels(adapted, adapts=not blind)
    if attack.adapts:
        yield checks.gradient_draws(adapted)
