"""Records of small runs, written through the store, for what is made of a report."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from markdown_it import MarkdownIt

from reports.exports.runs import Folders
from reports.section import Source
from robust_eval.findings import Check, Measurement
from robust_eval.identity import content_key
from robust_eval.metrics.intervals import wilson
from robust_eval.results.load import load
from robust_eval.results.record import Record
from robust_eval.results.store import Store

N = 8
CLEAN = (1, 1, 1, 1, 1, 1, 0, 0)
SHA = "ab" * 32
HOSTILE = "<script>alert(1)</script>|`x`\n[a](http://evil) =cmd() \\input{x} " + "n" * 300


def markup(text: str) -> set[str]:
    """The tags that a reader of Markdown makes of a text, raw HTML among them."""
    page = MarkdownIt("commonmark").enable("table").render(text)
    return set(re.findall(r"<([a-z]\w*)", page))


def record(
    model: str = "net",
    family: str = "attack",
    name: str = "pgd",
    *,
    norm: str = "linf",
    eps: float | None = 8 / 255,
    params: dict[str, Any] | None = None,
    severity: int | None = None,
    defense: str = "none",
    access: str = "none",
    data: str = "digits",
    n: int = N,
    score: Sequence[float] = CLEAN,
    checks: Sequence[Check] = (),
    value: float | None = None,
    summary: Sequence[Measurement] | None = None,
) -> Record:
    if family != "attack":
        norm, eps = "none", None
    total = float(sum(score))
    identity = {
        "weights": SHA,
        "architecture": {"kind": "architecture", "name": "small_cnn", "params": {"width": 4}},
    }
    params = params or {}
    described = {"kind": family, "name": name, "params": params, "version": 2, "at": [norm, eps]}
    spec = {
        "model": {**identity, "called": model},
        "data": {"fingerprint": "f0", "n": n},
        "perturbation": None if family == "clean" else described,
        "defense": None if defense == "none" else {"kind": "defense", "name": defense, "params": {"k": 2}},
        "access": access,
        "seed": 0,
    }
    labels = {
        "model": model, "arch": "small_cnn", "regularizer": "mixup", "train_seed": 0, "defense": defense,
        "defense_params": {} if defense == "none" else {"k": 2}, "access": access, "data": data, "family": family,
        "perturbation": name, "params": params, "norm": norm, "eps": eps, "severity": severity, "seed": 0,
        "model_key": content_key({"model": model}),
    }  # fmt: skip
    rows = pd.DataFrame(
        {
            "index": range(N),
            "clean_score": np.array(CLEAN, dtype=float),
            "score": np.array(score, dtype=float),
            "attacked": np.array(CLEAN) > 0,
            "distance": np.nan,
            "step": 0,
            "forwards": 10,
            "backwards": 5,
        }
    )
    if summary is None:
        summary = [Measurement("accuracy", total / N if value is None else value, *wilson(total, N), n)]
    provenance = {
        "seconds": 1.5,
        "device": "cpu",
        "weights_sha256": SHA,
        "precision": "fp32",
        "versions": {"torch": "2.9", "robust-eval": "0.1.0"},
    }
    return Record(content_key(spec), spec, labels, tuple(summary), tuple(checks), provenance, rows)


def clean(model: str = "net", **fields: Any) -> Record:
    return record(model, "clean", "none", **fields)


def corrupted(model: str = "net", name: str = "fog", severity: int = 3, **fields: Any) -> Record:
    params = {"severity": severity, **fields.pop("params", {})}
    return record(model, "corruption", name, params=params, severity=severity, **fields)


@pytest.fixture
def of(tmp_path):
    """Write records into a run folder, and an experiment beside them; return what exports are made of."""

    def made(
        *records: Record, experiment: str | None = None, name: str = "run"
    ) -> tuple[Source, Folders, Path]:
        folder = tmp_path / name
        for item in records:
            Store(folder).write(item)
        if experiment is not None:
            (folder / "experiment.toml").write_text(experiment)
        return Source(load([folder])), Folders([folder]), folder

    return made
