"""Measure one cell: perturb the images, re-measure everything, and write down a row per example.

The evaluator trusts nobody. Box, norm and success are measured here, in float32 pixels and fp32 logits, on what
an attack hands back. *Robust* means classified correctly before and after the attack; only clean-correct examples
are attacked.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch

from robust_eval import checks
from robust_eval.adaptive import Expectation, GlobalDraws
from robust_eval.checks.examination import Examination
from robust_eval.evaluation.provenance import provenance
from robust_eval.evaluation.workbench import Perturbed, Scored, Workbench
from robust_eval.findings import Check, Measurement
from robust_eval.methods import Analysis, Attack
from robust_eval.metrics.accuracy import accuracy, median_distance, score_within
from robust_eval.metrics.classification import likelihood, probability_columns
from robust_eval.results.cell import Cell
from robust_eval.results.record import Record
from robust_eval.results.thumbnail import thumbnail
from robust_eval.rng import Rng
from robust_eval.threat import Threat
from robust_eval.types import Images, Labels, Mask

__all__ = ["evaluate", "rescored", "summarise"]

CERTIFIED_AT = (0.0, 0.25, 0.5, 0.75, 1.0)
"""Radii in l2 at which Cohen et al. 2019 (arXiv 1902.02918) state certified accuracies of CIFAR-10, up to 1."""


def evaluate(cell: Cell, bench: Workbench) -> Record:
    """Return the record of a cell. The same cell gives the same record, apart from its provenance."""
    started = time.perf_counter()
    # part by part, so that memory does not grow with the number of images
    parts = [_measured(cell, bench, part) for part in bench.parts(cell.data)]
    rows = pd.concat([part.rows for part in parts], ignore_index=True)
    if "target" in rows:  # a part in which nobody was attacked has none
        rows["target"] = rows["target"].fillna(-1).astype("int64")
    return Record(
        key=cell.key,
        spec=cell.spec,
        labels=cell.labels,
        summary=summarise(cell, rows),
        checks=(*bench.model_checks(cell), *(_attack_checks(cell, parts) if _attacks(cell) else ())),
        provenance={
            **provenance(cell, bench, rows, time.perf_counter() - started + _seconds_saved(parts)),
            **_how_attacked(cell, bench, parts),
        },
        rows=rows,
    )


class _Part(NamedTuple):
    """What was measured on some of the images."""

    rows: pd.DataFrame
    perturbed: Perturbed
    """Without its images."""
    violated: Mask
    fooled: Mask
    still_fooled: Mask
    """When rounded to 8 bits a channel."""
    sample: str | None
    """A picture of the first image, where it is not an adversary's."""


def _measured(cell: Cell, bench: Workbench, part: slice) -> _Part:
    """Perturb some of the images and measure what that did, on them and on the model's answers."""
    x, y = bench.images(cell.data, part)
    rng = bench.rng(cell, part)
    clean, perturbed = bench.clean(cell).part(part), bench.perturbed(cell, part)
    violated = torch.zeros_like(perturbed.attacked)
    if isinstance(cell.perturbation, Attack):
        violated = checks.violations(x, perturbed.x, cell.perturbation.threat)
        perturbed = perturbed._replace(x=torch.where(violated.view(-1, 1, 1, 1), x, perturbed.x))
    scored = clean if cell.perturbation is None else bench.score(cell, perturbed.x, y, rng.child("score"))
    rows = _rows(cell, part, x, y, clean, scored, perturbed).assign(**bench.certified(cell, part))
    fooled = perturbed.attacked & (scored.prediction != y)
    still = _still_fooled(cell, bench, perturbed.x, y, fooled, rng) if _attacks(cell) else fooled
    sample = None if _attacks(cell) or part.start else thumbnail(perturbed.x[0])
    return _Part(rows, perturbed._replace(x=x.new_empty(0, *x.shape[1:])), violated, fooled, still, sample)


def _attacks(cell: Cell) -> bool:
    return isinstance(cell.perturbation, Attack)


def _attack_checks(cell: Cell, parts: Sequence[_Part]) -> Iterator[Check]:
    """Yield what speaks for and against the number of an attack."""
    attack, (first, *_) = cell.perturbation, parts
    assert isinstance(attack, Attack)
    yield checks.constraint(torch.cat([part.violated for part in parts]))
    fooled = torch.cat([part.fooled for part in parts])
    still = torch.cat([part.still_fooled for part in parts])
    yield checks.rounding(attack, fooled, still)
    yield checks.minimal_transfer(attack, cell.access)
    zero, bad, attacked = (
        torch.cat([getattr(part.perturbed, name) for part in parts])
        for name in ("zero_gradients", "bad_gradients", "attacked")
    )
    yield checks.zero_gradient(zero, bad, attacked)
    if (adapted := first.perturbed.adapted) is not None:
        blind = not attack.adapts and attack.gradients
        yield checks.vanishing_gradient(adapted, adapts=not blind)
        if attack.adapts:
            yield checks.gradient_draws(adapted)


def _seconds_saved(parts: Sequence[_Part]) -> float:
    return sum(part.perturbed.seconds_saved for part in parts)


def summarise(cell: Cell, rows: pd.DataFrame) -> tuple[Measurement, ...]:
    """Return the numbers of a cell, computed from its rows alone; an examination has none."""
    if isinstance(cell.perturbation, Examination):
        return ()
    if isinstance(cell.perturbation, Analysis):
        return cell.perturbation.summary(rows)
    attack = cell.perturbation if isinstance(cell.perturbation, Attack) else None
    eps = attack.threat.eps if attack else None
    numbers: list[Measurement]
    if attack is not None and attack.minimal_norm:
        at_radii = [accuracy(score_within(rows, radius), eps=radius) for radius in cell.score_at]
        numbers = [*at_radii, median_distance(rows)]
    else:
        numbers = [accuracy(rows["score"], eps=eps)]
        if "majority" in rows:
            numbers.append(accuracy(rows["majority"], metric="accuracy_majority", eps=eps))
            numbers.append(accuracy(rows["worst"], metric="accuracy_worst_of_k", eps=eps))
    numbers += [m for m in likelihood(rows) if not m.metric.startswith(("calibration", "confidence"))]
    if "certified_radius" in rows:
        assert cell.defense is not None
        largest = cell.defense.largest_certificate
        numbers += [_certified_accuracy(rows, radius, largest) for radius in CERTIFIED_AT]
    if "target" in rows and rows["attacked"].any():
        aimed = rows[rows["attacked"]]
        reached = (aimed["prediction"] == aimed["target"]).astype(float)
        numbers.append(accuracy(reached, metric="target_reached", eps=eps))
    return tuple(numbers)


def _certified_accuracy(rows: pd.DataFrame, radius: float, largest: float) -> Measurement:
    """Return the share certified beyond a radius; no number where the defense cannot certify as much of any model."""
    if radius >= largest:
        return Measurement("certified_accuracy", None, None, None, len(rows), radius)
    certified = (rows["certified_prediction"] == rows["label"]) & (rows["certified_radius"] > radius)
    return accuracy(certified.astype(float), metric="certified_accuracy", eps=radius)


def rescored(record: Record, cell: Cell) -> Record:
    """Return the record of a finished cell with the names and radii asked for now, recomputed from its rows."""
    radii = {m.eps for m in record.summary if m.metric == "accuracy" and m.eps is not None}
    widened = Cell(
        **{name: getattr(cell, name) for name in cell.__dataclass_fields__ if name != "score_at"},
        score_at=tuple(sorted({*radii, *cell.score_at})),
    )
    summary = summarise(widened, record.rows)
    return Record(
        record.key, record.spec, cell.labels, summary, record.checks, record.provenance, record.rows
    )


def _rows(
    cell: Cell, part: slice, x: Images, y: Labels, clean: Scored, scored: Scored, found: Perturbed
) -> pd.DataFrame:
    threat = cell.perturbation.threat if isinstance(cell.perturbation, Attack) else Threat("l2", None)
    # robust is correct before and after: a draw that happens to be right on an image that is not does not count
    counts = (clean.prediction == y).double() if isinstance(cell.perturbation, Attack) else torch.ones_like(y)
    columns: dict[str, Any] = {
        "index": np.arange(part.start, part.stop),
        "label": y,
        "clean_prediction": clean.prediction,
        "prediction": scored.prediction,
        "confidence": scored.confidence,
        "nll": scored.nll,
        "brier": scored.brier,
        "rank": scored.rank,
        "clean_score": clean.score * counts,
        "score": scored.score * counts,
        "attacked": found.attacked,
        "distance": threat.distance(x, found.x),
        "distance_linf": Threat("linf", None).distance(x, found.x),
        "distance_l2": Threat("l2", None).distance(x, found.x),
        "step": found.step,
        "forwards": found.forwards,
        "backwards": found.backwards,
    }
    if found.target is not None:
        columns["target"] = found.target
    if scored.worst is not None:
        columns |= {"majority": (scored.prediction == y) * counts, "worst": scored.worst * counts}
    if scored.probabilities is not None:
        columns |= probability_columns(scored.probabilities)
    return pd.DataFrame(
        {k: v.cpu().numpy() if isinstance(v, torch.Tensor) else v for k, v in columns.items()}
    )


def _still_fooled(cell: Cell, bench: Workbench, x_adv: Images, y: Labels, fooled: Mask, rng: Rng) -> Mask:
    """Return which images still fool the model when they are rounded to 8 bits a channel."""
    still = fooled.clone()
    if isinstance(
        bench.base(cell).network, GlobalDraws
    ):  # whose draws are those of a batch, and this is another
        return still
    if fooled.any():
        in_bytes = (x_adv[fooled] * 255).round() / 255
        # with the draws that scored the image: other ones would be counted as rounding
        scored = bench.score(cell, in_bytes, y[fooled], rng.select(fooled).child("score"))
        still[fooled] = scored.prediction != y[fooled]
    return still


def _how_attacked(cell: Cell, bench: Workbench, parts: Sequence[_Part]) -> dict[str, Any]:
    """Return how the perturbation was made, and how the model that an attack saw differs from the one scored."""
    # a part in which nobody was attacked knows nothing of it
    perturbed = max((part.perturbed for part in parts), key=lambda part: int(part.attacked.sum()))
    facts: dict[str, Any] = {
        "precision": perturbed.precision,
        "slow_because": perturbed.slow_because,
        "batch_size": perturbed.batch_size or bench.batch_size(cell),
    }
    if parts[0].sample is not None:
        facts["sample"] = parts[0].sample
    if not (isinstance(cell.perturbation, Attack) and cell.perturbation.adapts):
        return facts
    if perturbed.adapted is not None and perturbed.adapted.remedies:
        facts["remedies"] = list(perturbed.adapted.remedies)
    if perturbed.adapted is not None and isinstance(perturbed.adapted.network, Expectation):
        facts["gradient_draws"] = perturbed.adapted.network.draws
    return facts
