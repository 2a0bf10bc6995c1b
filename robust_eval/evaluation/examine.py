"""Measure how far a model's numbers can be trusted: small experiments on a few of the images it gets right.

An examination is a cell like any other, so that it is run once, kept and shared out with the rest. Its record holds
verdicts and no accuracy; a report puts them beside the numbers of the same model and defense. Its rows are the images
that were looked at, with ``broken_at``: the length, in the examination's norm, of the shortest perturbation by which
one of its own attacks broke the image, NaN where none did. An attack must not leave clearly more images standing.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import pandas as pd

from robust_eval import checks
from robust_eval.checks.examination import IMAGES, Examination
from robust_eval.checks.inputs import normalisation
from robust_eval.checks.probes import Probe
from robust_eval.checks.suite import run_suite
from robust_eval.classifier import Ledger
from robust_eval.errors import RobustEvalError
from robust_eval.evaluation.provenance import provenance
from robust_eval.evaluation.workbench import Workbench
from robust_eval.findings import Check
from robust_eval.results.cell import Cell
from robust_eval.results.record import Record
from robust_eval.rng import Rng, seeded
from robust_eval.threat import Threat

__all__ = ["examine"]


def examine(cell: Cell, bench: Workbench, *, begin: Callable[[str], None] | None = None) -> Record:
    """Return the record of an examination: checks on the base, and on what an adaptive attack sees of the cell.

    At the level ``answers`` nothing is adapted or attacked.

    ``begin`` is called with the name of each check before it is made, or who is told of the cell.
    """
    started = time.perf_counter()
    examination = cell.perturbation
    assert isinstance(examination, Examination)
    prepared, labels = bench.prepare(cell), cell.data.examples.labels
    begin = begin or (lambda name: prepared.told(f"check {name}", 0, None))
    rng = Rng(cell.seed).for_batch(len(labels)).child("examination")
    whole, some = not examination.norm_only, slice(examination.images)
    attacks, scaled = examination.level != "answers", slice(IMAGES["answers"])
    undefended = whole and cell.defense is None
    verdicts: list[Check] = [*prepared.checks] if whole else []
    if undefended:
        with seeded(rng):
            try:
                verdicts.append(normalisation(prepared.base, *prepared.images(scaled), rng.select(scaled)))
            except RobustEvalError:
                raise
            except Exception as error:  # a model that refuses pixels outside [0, 1]
                verdicts.append(Check.not_made("normalisation", error))
    correct = (prepared.clean.prediction.cpu() == labels).nonzero()[:, 0]
    free = None if cell.mask is None else cell.mask.of(slice(0, len(labels)), correct.device)
    # an image of which nothing may change tells nothing of attacks
    movable = correct if free is None else correct[free[correct].flatten(1).any(1)]
    right, classes = movable[some], cell.data.examples.classes
    if undefended:
        verdicts.append(checks.above_chance(len(correct), len(labels), classes))
    if attacks:
        verdicts.append(checks.enough_images(len(right)))
    ledger, broken_at = Ledger(), np.zeros(0)
    if len(right):
        model = prepared.model
        seen = prepared.seen if attacks else model
        model.ledger = seen.ledger = ledger
        if whole and attacks and not prepared.black_box:
            adapted = prepared.aimed_at.adapted
            verdicts += [checks.vanishing_gradient(adapted), checks.blind_pixels(adapted)]
            verdicts.append(checks.gradient_draws(adapted))
        threat = Threat(examination.norm, examination.eps)
        with seeded(rng):
            x, y = prepared.images(right)
            held = None if free is None else free[right].to(x.device)
            probe = Probe(model, seen, x, y, threat, rng.select(right), held)
            verdicts += run_suite(probe, examination.level, norm_only=not whole, begin=begin)
        broken_at = probe.broken_at.numpy()
    rows = pd.DataFrame(
        {
            "index": right.numpy(),
            "label": labels[right].numpy(),
            "clean_prediction": labels[right].numpy(),
            "broken_at": np.where(np.isfinite(broken_at), broken_at, np.nan),
            **{name: ledger.padded(name, len(labels))[right].numpy() for name in ("forwards", "backwards")},
        }
    )
    return Record(
        key=cell.key,
        spec=cell.spec,
        labels=cell.labels,
        summary=(),
        checks=tuple(verdicts),
        provenance=provenance(prepared, rows, time.perf_counter() - started),
        rows=rows,
    )
