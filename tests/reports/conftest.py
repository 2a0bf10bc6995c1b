"""Headless Chromium, for tests and benchmarks of the page; and runs of many images whose answers are known by hand."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from robust_eval.findings import Check, Measurement
from robust_eval.identity import content_key
from robust_eval.metrics.intervals import wilson
from robust_eval.results.record import Record
from robust_eval.results.store import Store

__all__ = ["browser", "missing", "started"]

_NAMES = ("chromium", "chromium-browser", "google-chrome")


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """One browser for all tests of a process; they are skipped where there is none."""
    if (why := missing()) is not None:
        pytest.skip(why)
    with started() as driver:
        yield driver


def missing() -> str | None:
    """Return what has to be installed before a page can be opened; ``None`` where everything is there."""
    if find_spec("selenium") is None:
        return "needs selenium: pip install 'robust-eval[test]'"
    if _browser() is None or shutil.which("chromedriver") is None:
        return "needs Chromium and its driver: apt-get install chromium chromium-driver"
    return None


@contextmanager
def started() -> Iterator[Any]:
    """Start a browser of 1400 by 900 pixels that reaches nothing but files, and end it."""
    from selenium.webdriver import Chrome, ChromeOptions, ChromeService

    with tempfile.TemporaryDirectory(prefix="chromium") as profile:
        options = ChromeOptions()
        options.binary_location = _browser() or ""
        for flag in (
            *("headless=new", "no-sandbox", "disable-gpu", "disable-dev-shm-usage", "no-first-run"),
            *("window-size=1400,900", "host-resolver-rules=MAP * ~NOTFOUND", f"user-data-dir={profile}"),
        ):
            options.add_argument(f"--{flag}")
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        driver = Chrome(options=options, service=ChromeService(shutil.which("chromedriver")))
        try:
            yield driver
        finally:
            driver.quit()


def _browser() -> str | None:
    return next((found for name in _NAMES if (found := shutil.which(name))), None)


LINF = 8 / 255


def record(
    model="net",
    perturbation="pgd",
    right=100,
    *,
    n=200,
    identity="a",
    family=None,
    norm="linf",
    eps=LINF,
    severity=None,
    defense="none",
    access="none",
    params=None,
    data="digits",
    fingerprint="f0",
    checks=(),
    score=None,
    names=None,
    weights=None,
    versions=None,
    pictures=None,
):
    """A record of which the first ``right`` of ``n`` images are answered rightly; classes are 0, 1, 0, 1, ..."""
    family = family or ("clean" if perturbation == "none" else "attack")
    if family != "attack":
        norm, eps = "none", None
    params = {**(params or {}), **({"severity": severity} if severity else {})}
    scores = np.array(score if score is not None else np.arange(n) < right, dtype=float)
    described = {"name": perturbation, "params": params, "version": 1}
    spec = {
        "model": [model, identity],
        "data": {"fingerprint": fingerprint, "n": n},
        "perturbation": None if family == "clean" else {**described, "at": eps},
        "defense": None if defense == "none" else [defense],
        "access": access,
        "seed": 0,
    }
    rows = pd.DataFrame(
        {
            "index": range(n),
            "label": np.arange(n) % 2,
            "prediction": np.where(scores > 0.5, np.arange(n) % 2, 1 - np.arange(n) % 2),
            "clean_score": scores,
            "score": scores,
            "attacked": True,
            "distance": np.nan,
            "step": 0,
            "forwards": 1,
            "backwards": 1,
        }
    )
    labels = {
        "model": model,
        "arch": "resnet",
        "regularizer": "none",
        "train_seed": None,
        "defense": defense,
        "defense_params": {},
        "access": access,
        "data": data,
        "family": family,
        "perturbation": perturbation,
        "params": params,
        "norm": norm,
        "eps": eps,
        "severity": severity,
        "seed": 0,
        "model_key": content_key({"model": [model, identity]}),
    }
    total = float(scores.sum())
    summary = (Measurement("accuracy", total / n, *wilson(total, n), n),)
    provenance = {"seconds": 1.0, "device": "cpu", **({"class_names": names} if names else {})}
    more = {"weights_sha256": weights, "versions": versions, "pictures": pictures}
    provenance |= {name: value for name, value in more.items() if value is not None}
    return Record(content_key(spec), spec, labels, summary, tuple(checks), provenance, rows)


def clean(right=180, **fields):
    return record(perturbation="none", right=right, **fields)


def corrupted(name="fog", right=100, severity=3, **fields):
    return record(perturbation=name, right=right, family="corruption", severity=severity, **fields)


def examined(attack):
    """The examination of the model that an attack is on, which found nothing."""
    params = {"level": "quick", "norm": "linf", "eps": LINF}
    spec = {**attack.spec, "perturbation": {"name": "examination", "params": params, "version": 1}}
    labels = {**attack.labels, "family": "examination", "perturbation": "examination", "params": params}
    labels |= {"norm": "none", "eps": None}
    return replace(
        attack,
        key=content_key(spec),
        spec=spec,
        labels=labels,
        summary=(),
        checks=(Check("finite", "ok", 0.0, "x"),),
    )


def save(folder: Path, *records):
    """Write records, with an examination for each model that was attacked."""
    looks = {each.key: each for each in (examined(r) for r in records if r.labels["family"] == "attack")}
    for item in (*records, *looks.values()):
        Store(folder).write(item)
    return folder


@pytest.fixture(scope="session")
def made():
    """The makers of records."""

    class Made:
        LINF = LINF

    for maker in (record, clean, corrupted, examined, save):
        setattr(Made, maker.__name__, staticmethod(maker))
    return Made
