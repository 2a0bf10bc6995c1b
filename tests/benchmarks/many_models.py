"""How long a report of many models takes, how large its page is, and how fast the page answers in a browser.

Run from the repository with nothing else running:

    python tests/benchmarks/many_models.py

Records are made up (``--models`` models, ``--attacks`` attacks and ``--corruptions`` corruptions on ``--images``
images, right by chance at a rate of each model's own) and written through the store, so that the report reads and
checks what it would of a run. Seconds are those of one writing, and of the processor those that it computed; *ratio*
is against the goal: 20 seconds, 15 MB. In the browser (headless Chromium, where it and its driver are installed),
*filter*, *all* and *sort* are one each of the whole page, *frame* the longest and the median time between two frames
while the page is scrolled from its top with every section unfolded: 16.7 ms is as fast as a screen asks for pictures,
*late* is more than 50.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from machine import processor

import reports
from robust_eval.findings import Check, Measurement
from robust_eval.identity import content_key
from robust_eval.metrics.corruption_errors import TEST_TYPES
from robust_eval.metrics.intervals import wilson
from robust_eval.results.record import Record
from robust_eval.results.store import Store

SECONDS, MEGABYTES = 20.0, 15.0
WARNS = Check("convergence", "warn", 0.07, "the loss still rises at the last step; run with twice the steps")
_SCROLL = """
const done = arguments[0], times = [];
for (const fold of document.querySelectorAll(".part > details")) fold.open = true;
let last = performance.now();
const step = (now) => {
  times.push(now - last);
  last = now;
  scrollBy(0, 120);
  const more = scrollY + innerHeight < document.documentElement.scrollHeight - 2 && times.length < 400;
  more ? requestAnimationFrame(step) : done(times.slice(2));
};
requestAnimationFrame(step);
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, count in (("models", 50), ("attacks", 12), ("corruptions", 18), ("images", 200)):
        parser.add_argument(f"--{name}", type=int, default=count)
    parser.add_argument("--out", type=Path, help="keep the run and its report here")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = asked.out or Path(temporary)
        store = Store(folder)
        count = 0
        for record in records(asked.models, asked.attacks, asked.corruptions, asked.images):
            store.write(record)
            count += 1
        began, busy = time.perf_counter(), time.process_time()
        written = reports.write([folder], folder / "report")
        seconds, busy = time.perf_counter() - began, time.process_time() - busy
        page = written.out / "index.html"
        size = page.stat().st_size / 1e6
        print(f"{date.today()}, {processor()}, {count} records of {asked.models} models")
        print(f"report  {seconds:6.1f} s   ratio {seconds / SECONDS:.2f}, of the processor {busy:.1f} s")
        print(f"page    {size:6.1f} MB  ratio {size / MEGABYTES:.2f}")
        browse(page)


def records(models: int, attacks: int, corruptions: int, images: int) -> Iterator[Record]:
    """Yield clean, attacked and corrupted records of each model."""
    names = [("pgd", "linf", 8 / 255), ("pgd", "l2", 0.5), ("pgd", "l1", 12.0)]
    for m in range(models):
        rng, right = np.random.default_rng(m), 0.9 - 0.4 * m / models
        clean = rng.random(images) < right
        yield record(m, clean, clean, family="clean", perturbation="none", norm="none")
        for a in range(attacks):
            name, norm, eps = names[a % 3]
            params = {"eps": eps, "steps": 10 * (a // 3 + 1)}
            checks = (WARNS,) if (m + a) % 7 == 0 else ()
            score = clean & (rng.random(images) < right * 0.7)
            labels = {"norm": norm, "eps": eps, "params": params}
            yield record(m, clean, score, family="attack", perturbation=name, checks=checks, **labels)
        for c in range(corruptions):
            name, severity = TEST_TYPES[c % len(TEST_TYPES)], 1 + c // len(TEST_TYPES)
            labels = {"norm": "none", "severity": severity, "params": {"severity": severity}}
            score = rng.random(images) < right * 0.8
            yield record(m, clean, score, family="corruption", perturbation=name, **labels)


def record(
    model: int, clean: np.ndarray, score: np.ndarray, *, checks: tuple[Check, ...] = (), **labels: Any
) -> Record:
    """Return a record as the evaluator would have written it."""
    name, images = f"model {model:02d}", len(clean)
    known = {
        "model": name,
        "arch": "resnet",
        "regularizer": f"method {model % 5}",
        "train_seed": 0,
        "data": "made",
        "defense": "none",
        "defense_params": {},
        "access": "none",
        "params": {},
        "eps": None,
        "severity": None,
        "seed": 0,
        "model_key": name,
        **labels,
    }
    perturbation = {
        "kind": known["family"],
        "name": known["perturbation"],
        "params": known["params"],
        "version": 1,
    }
    spec = {
        "model": name,
        "data": {"fingerprint": "f0", "n": images},
        "perturbation": None if known["family"] == "clean" else {**perturbation, "at": known["norm"]},
        "defense": None,
        "access": "none",
        "seed": 0,
    }
    rows = pd.DataFrame(
        {"index": range(images), "clean_score": clean.astype(float), "score": score.astype(float)}
    )
    rows["attacked"] = clean if known["family"] == "attack" else False
    rows["distance"], rows["step"], rows["forwards"], rows["backwards"] = np.nan, 0, 10, 10
    right = float(score.sum())
    number = Measurement("accuracy", right / images, *wilson(right, images), images)
    return Record(content_key(spec), spec, known, (number,), checks, {"seconds": 1.0, "device": "cpu"}, rows)


def browse(page: Path) -> None:
    """Print what the page takes in a browser, if there is one."""
    sys.path.insert(0, str(Path(__file__).parents[1] / "reports"))
    from conftest import missing, started

    if (why := missing()) is not None:
        print(f"in a browser: not measured: {why}")
        return
    with started() as driver:
        began = time.perf_counter()
        driver.get(page.as_uri())
        print(f"opened  {time.perf_counter() - began:6.2f} s")
        for what, script in (
            (
                "filter",
                "location.hash = 'model=model+03&model=model+41'; dispatchEvent(new Event('hashchange'))",
            ),
            ("all", "location.hash = ''; dispatchEvent(new Event('hashchange'))"),
            (
                "sort",
                "[...document.querySelectorAll('.sortable')].at(-1).querySelector('th.number button').click()",
            ),
        ):
            took = driver.execute_script(
                f"const began = performance.now(); {script}; document.body.offsetHeight;"
                "return performance.now() - began"
            )
            print(f"{what:7} {took:6.1f} ms")
        driver.set_script_timeout(120)
        frames = driver.execute_async_script(_SCROLL)
        late, middle = sum(frame > 50 for frame in frames), statistics.median(frames)
        print(f"frame   {max(frames):6.1f} ms at most, {middle:.1f} median, {late} of {len(frames)} late")


if __name__ == "__main__":
    main()
