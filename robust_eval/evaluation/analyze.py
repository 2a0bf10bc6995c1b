"""Look at a model by an analysis: a cell like any other, whose record holds the table that it found."""

from __future__ import annotations

import time

import torch

from robust_eval.data import Examples
from robust_eval.evaluation.prepared import images_of
from robust_eval.evaluation.provenance import provenance
from robust_eval.evaluation.workbench import Workbench
from robust_eval.methods import Analysis, Batch
from robust_eval.results.cell import Cell
from robust_eval.results.record import Record
from robust_eval.rng import Rng, seeded
from robust_eval.surroundings import surroundings_kept

__all__ = ["analyze"]

TRAINING = 4096
"""Training images that an analysis is given at most, drawn by the cell's seed: a set may be larger than memory."""


def analyze(cell: Cell, bench: Workbench) -> Record:
    """Return the record of an analysis of what is scored: the model, with its defense if it has one."""
    started = time.perf_counter()
    analysis = cell.perturbation
    assert isinstance(analysis, Analysis)
    prepared = bench.prepare(cell)
    model, device = prepared.model, prepared.execution.device
    images = _batch(cell.data.examples, device)
    rng = Rng(cell.seed).for_batch(len(images.x)).child("analysis")
    other = None if cell.other is None else _batch(cell.other.examples, device)
    training = None
    if analysis.needs_training and (pool := cell.pool) is not None:
        drawn = rng.child("training").numpy().permutation(len(pool))[:TRAINING]
        training = _batch(pool[torch.from_numpy(drawn).sort().values], device)
    with model.frozen(), seeded(rng), surroundings_kept():
        rows = analysis.look(model, images, other=other, training=training, rng=rng)
    return Record(
        key=cell.key,
        spec=cell.spec,
        labels=cell.labels,
        summary=analysis.summary(rows),
        checks=(),
        provenance=provenance(prepared, rows, time.perf_counter() - started),
        rows=rows,
    )


def _batch(examples: Examples, device: torch.device) -> Batch:
    return Batch(*images_of(examples, device=device), examples.classes)
