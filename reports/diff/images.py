"""Small pictures of the images that flipped: from the data where it can be opened, else those that records keep.

The data is what the ``[data]`` table of the ``experiment.toml`` beside the records of either run names; nothing else of
that file is looked at, and a function that makes images is not called: a run folder may be anybody's. It is believed
where its pixels and labels have the hash of what was measured. Records keep pictures of their first images alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from reports.bodies import Picture
from reports.diff.changes import Diff
from reports.gate.numbers import Run
from reports.pictures import picture
from robust_eval.config.experiment import Given, parse
from robust_eval.config.toml import read_toml, toml
from robust_eval.config.trust import code_in
from robust_eval.data import Source
from robust_eval.errors import DataError, RobustEvalError
from robust_eval.paths import is_file, resolved, shown
from robust_eval.results.pictured import CleanPictured, pictured
from robust_eval.results.thumbnail import thumbnail

__all__ = ["pictures_of"]

_Wanted = dict[str, set[int]]


def pictures_of(diff: Diff, runs: Sequence[Run]) -> tuple[dict[tuple[str, int], Picture], str]:
    """Return pictures by the hash of their set and their index, and why some are not there."""
    wanted: _Wanted = {}
    for change in diff.beyond_noise:
        own = wanted.setdefault(change.images, set())
        own |= {flip.index for flip in (*change.to_wrong, *change.to_right)}
    found: dict[tuple[str, int], Picture] = {}
    why: list[str] = []
    for run in runs:
        if any(wanted.values()):
            found |= dict(_of_data(run, wanted, why))
            wanted = {sha: own - {i for known, i in found if known == sha} for sha, own in wanted.items()}
    for run in runs:
        found = dict(_of_records(run, wanted)) | found
    missing = sum(len(own) for own in wanted.values()) - sum(
        i in own for sha, own in wanted.items() for known, i in found if known == sha
    )
    reason = f"{missing} images without a picture: {'; '.join(dict.fromkeys(why))}." if missing else ""
    return found, reason


def _of_data(run: Run, wanted: _Wanted, why: list[str]) -> Iterator[tuple[tuple[str, int], Picture]]:
    file = run.folder / "experiment.toml"
    if not is_file(file):
        why.append("the runs keep no experiment.toml that names their data")
        return
    sizes = {
        str(data.get("fingerprint")): data.get("n")
        for entry in run.loaded.entries
        if isinstance(data := entry.record.spec.get("data"), dict)
    }
    for sha, indices in wanted.items():
        if not indices or not isinstance(sizes.get(sha), int):
            continue
        try:
            examples = _source(file).test(sizes[sha])
            if examples.fingerprint != sha:
                why.append("the data of experiment.toml is not what was measured")
                continue
            for i in sorted(indices):
                if 0 <= i < len(examples):
                    shown = picture(thumbnail(examples.pixels(slice(i, i + 1))[0]), f"image {i}")
                    if shown is not None:
                        yield (sha, i), shown
        except RobustEvalError as error:
            why.append(f"its data cannot be opened ({str(error).splitlines()[0]})")


def _source(file: Path) -> Source:
    where = shown(file)
    tables = toml(read_toml(file, where=where), where=where)
    data: dict[str, Any] = {name: value for name, value in tables.items() if name in ("data", "folder")}
    if code := code_in(data):
        raise DataError(f"this would run code: {', '.join(code)}")
    return parse(data, where=where, folder=resolved(file).parent, given=Given(None, ())).source()


def _of_records(run: Run, wanted: _Wanted) -> Iterator[tuple[tuple[str, int], Picture]]:
    for entry in run.loaded.entries:
        data = entry.record.spec.get("data")
        sha = str(data.get("fingerprint")) if isinstance(data, dict) else ""
        if entry.labels["family"] == "clean" and wanted.get(sha):
            for i, seen in pictured(entry.record, CleanPictured).items():
                shown = picture(seen.picture, f"image {i}") if i in wanted[sha] else None
                if shown is not None:
                    yield (sha, i), shown
