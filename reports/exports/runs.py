"""The run folders behind a report: which cells came from which, what failed there, and what repeats them."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from robust_eval.config.card import CardRun, Failed, Weights
from robust_eval.config.toml import read_toml, toml
from robust_eval.config.trust import code_in
from robust_eval.errors import RobustEvalError
from robust_eval.identity import file_sha256
from robust_eval.paths import expanded, is_file, resolved
from robust_eval.printable import printable
from robust_eval.results.entry import Entry
from robust_eval.results.store import Store

__all__ = ["Folders", "RunFolder", "runs_of"]


class RunFolder:
    """One run folder, read as little as is needed."""

    def __init__(self, folder: Path, name: str) -> None:
        self.store = Store(folder)
        self.folder = folder
        self.name = name
        """Of the folder, told apart from others of that name."""

    @cached_property
    def experiment(self) -> dict[str, Any] | str:
        """The tables of its experiment, or why there are none that a card can hold."""
        path = self.folder / "experiment.toml"
        if not is_file(path):
            return f"{self.name} has no experiment.toml: its records were made or copied without one"
        try:
            tables = toml(read_toml(path, where="experiment.toml"), where="experiment.toml")
            json.dumps(tables, allow_nan=False)
        except RobustEvalError as error:
            return printable(str(error).splitlines()[0])
        except (TypeError, ValueError):
            return "experiment.toml has a value that JSON has no word for, such as inf or a date"
        return tables

    @property
    def tables(self) -> dict[str, Any]:
        """The tables of its experiment, none where there are none."""
        return self.experiment if isinstance(self.experiment, dict) else {}

    def failed(self) -> Iterator[Failed]:
        """Yield the cells that stopped with an error and have no record since."""
        for item in self.store.failures():
            key = str(item.get("key"))
            if self.store.has(key):
                continue
            labels, lines = item["labels"], str(item.get("error", "")).strip().splitlines()
            words = {
                name: printable(str(labels.get(name) or "none"))
                for name in ("model", "defense", "access", "family", "perturbation")
            }
            error = printable(lines[-1]) if lines else "no error was noted"
            yield Failed(run=self.name, key=printable(key), error=error, **words)


class Folders:
    """The run folders of a report in their order."""

    def __init__(self, folders: Sequence[Path]) -> None:
        self.runs: list[RunFolder] = []
        for folder in dict.fromkeys(resolved(folder) for folder in folders):
            name, taken = printable(folder.name) or "run", [run.name for run in self.runs]
            copies = 1 + sum(run.folder.name == folder.name for run in self.runs)
            told = name if name not in taken else f"{name} ({copies})"
            self.runs.append(RunFolder(folder, told))

    def run_of(self, key: str) -> RunFolder | None:
        """Return the run that a record came from: the first that has it."""
        return next((run for run in self.runs if run.store.has(key)), None)

    def table_of(self, key: str, name: str) -> dict[str, Any] | None:
        """Return a table of the experiment that a record came from."""
        run = self.run_of(key)
        table = None if run is None else run.tables.get(name)
        return dict(table) if isinstance(table, Mapping) else None

    def failed(self) -> Iterator[Failed]:
        """Yield the cells of all runs that have no number because they stopped with an error."""
        for run in self.runs:
            yield from run.failed()


def runs_of(entries: Iterable[Entry], folders: Folders) -> list[CardRun]:
    """Return each run with the cells that came from it and what repeats them."""
    of: dict[str, list[Entry]] = {run.name: [] for run in folders.runs}
    for entry in entries:
        run = folders.run_of(entry.record.key)
        if run is not None:
            of[run.name].append(entry)
    several = len(folders.runs) > 1
    return [_run(run, of[run.name], several=several) for run in folders.runs]


def _run(run: RunFolder, entries: Sequence[Entry], *, several: bool) -> CardRun:
    experiment = run.experiment
    held = isinstance(experiment, dict)
    words = ["robust-eval", "run", "card.json", *(["--of", run.name] if several else [])]
    words += ["--allow-imports"] if held and code_in(run.tables) else []
    return CardRun(
        name=run.name,
        command=shlex.join(words) if held else None,
        not_repeatable=None if isinstance(experiment, dict) else experiment,
        checkpoints=list(_checkpoints(run, entries)),
        experiment=run.tables if held else None,
        cells=sorted({entry.record.key for entry in entries}),
    )


def _checkpoints(run: RunFolder, entries: Sequence[Entry]) -> Iterator[Weights]:
    """Yield the hash of each checkpoint that the experiment names: that of the file, where it is one measured."""
    models = run.tables.get("model")
    measured: dict[str, set[str]] = {}
    for entry in entries:
        model = entry.record.spec.get("model")
        weights = model.get("weights") if isinstance(model, Mapping) else None
        if isinstance(weights, str):
            measured.setdefault(str(entry.record.labels.get("model")), set()).add(weights)
    every = set().union(*measured.values()) if measured else set()
    for i, table in enumerate(models if isinstance(models, list) else []):
        named = table.get("checkpoint") if isinstance(table, dict) else None
        if not isinstance(named, str):
            continue
        file = run.folder / expanded(named)
        yield Weights(
            model=i, sha256=_known(file, every, measured.get(str(table.get("name") or file.stem), set()))
        )


def _known(file: Path, every: set[str], own: set[str]) -> str | None:
    """Return the hash of a file that was measured; of one that is gone or changed, what its model's records say."""
    try:
        now = file_sha256(file) if is_file(file) else None
    except RobustEvalError:
        now = None
    if now in every:
        return now
    return next(iter(own)) if len(own) == 1 else None
