"""Look at a model by an analysis: a cell like any other, whose record holds the table that it found."""

from __future__ import annotations

import time

import torch

from robust_eval.evaluation.provenance import provenance
from robust_eval.evaluation.workbench import Workbench
from robust_eval.methods import Analysis, Batch
from robust_eval.results.cell import Cell, Data
from robust_eval.results.record import Record
from robust_eval.rng import Rng, seeded

__all__ = ["analyse"]

TRAINING = 4096
"""Training images that an analysis is given at most, drawn by the cell's seed: a set may be larger than memory."""


def analyse(cell: Cell, bench: Workbench) -> Record:
    """Return the record of an analysis of what is scored: the model, with its defense if it has one."""
    started = time.perf_counter()
    analysis = cell.perturbation
    assert isinstance(analysis, Analysis)
    model, images = bench.model(cell), _batch(cell.data, bench)
    rng = Rng(cell.seed).for_batch(len(images.x)).child("analysis")
    other = None if cell.other is None else _batch(cell.other, bench)
    training = None
    if analysis.needs_training and (pool := cell.pool) is not None:
        drawn = rng.child("training").numpy().permutation(len(pool))[:TRAINING]
        some = pool[torch.from_numpy(drawn).sort().values]
        training = _batch(Data(cell.data.name, some), bench)
    with model.frozen(), seeded(rng):
        rows = analysis.look(model, images, other=other, training=training, rng=rng)
    return Record(
        key=cell.key,
        spec=cell.spec,
        labels=cell.labels,
        summary=analysis.summary(rows),
        checks=(),
        provenance=provenance(cell, bench, rows, time.perf_counter() - started),
        rows=rows,
    )


def _batch(data: Data, bench: Workbench) -> Batch:
    return Batch(*bench.images(data), data.examples.classes)
