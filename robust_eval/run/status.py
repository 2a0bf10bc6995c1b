"""How far a run is, read from its folder alone: what is done, in flight, waiting and failed, and how long is left.

Nothing here loads torch, and no record is opened: a record's name says that its cell is done, its time when.
"""

from __future__ import annotations

import json
import os
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from robust_eval.errors import DataError
from robust_eval.paths import shown
from robust_eval.printable import printable, printable_all
from robust_eval.results.failed import error_in
from robust_eval.results.planned import PLANNED, planned, planned_at
from robust_eval.results.store import Store
from robust_eval.run.clocks import folder_time
from robust_eval.run.lease import Lease
from robust_eval.run.leases import BEAT, Leases

__all__ = ["Failed", "InFlight", "Status", "status", "written"]

_OURS = "robust_eval.errors.MeasurementError: "
FEW = 3
"""Records of this run from which on the time left is told."""


@dataclass(frozen=True)
class InFlight:
    """What somebody works on."""

    cell: str
    """In words; ``training NAME`` for a training."""
    host: str
    pid: int
    seconds: float
    """Since it was taken."""
    silent: float
    """Seconds since its worker was heard of."""
    ended: bool
    """Whether its worker is known to have ended; another will take it over."""


@dataclass(frozen=True)
class Failed:
    """A cell that failed since the run began."""

    cell: str
    error: str
    """The last line of its traceback."""


@dataclass(frozen=True)
class Status:
    """How far a run is. Numbers are of cells."""

    total: int
    done: int
    waiting: int
    for_training: int
    """Those of the waiting whose model is being trained."""
    in_flight: tuple[InFlight, ...]
    failed: tuple[Failed, ...]
    seconds_left: float | None
    """If it goes on as since the run began; ``None`` where nobody works on it, or too little is done to tell."""

    @property
    def is_over(self) -> bool:
        """Whether nothing is left to take."""
        return not self.waiting and not self.in_flight

    def as_json(self) -> dict[str, Any]:
        """Return all of it as plain data."""
        return {**asdict(self), "over": self.is_over}


def status(run: Path) -> Status:
    """Return how far a run is; raises ``DataError`` for a folder without a plan."""
    cells = planned(run)
    if cells is None:
        raise DataError(
            f"expected a run folder with {PLANNED}, got {shown(run)}; start one with `robust-eval run` first"
        )
    began, leases = planned_at(run), Leases(run).found()
    done = {key: at for key, at in written(run).items() if key in cells}
    failed = _failed(run, cells, done, began)
    now = _now(run, [*done.values(), *(lease.touched for lease in leases)])
    open_ = cells.keys() - done.keys() - failed.keys()
    held = {lease.name for lease in leases}
    waiting = open_ - held
    trained = {str(lease.what.get("model")) for lease in leases if lease.what.get("cell") is None}
    fresh = sum(at > began for at in done.values())
    left = None
    if leases and fresh >= FEW and now > began:
        left = (now - began) / fresh * len(open_)
    return Status(
        len(cells),
        len(done),
        len(waiting),
        sum(str(cells[key].get("model_key")) in trained for key in waiting),
        tuple(_in_flight(lease, now) for lease in sorted(leases, key=lambda lease: lease.since)),
        tuple(failed.values()),
        None if left is None else round(left, 1),
    )


def _in_flight(lease: Lease, now: float) -> InFlight:
    name = printable(str(lease.what.get("name", "a model")))
    cell = lease.what.get("cell")
    silent = max(0.0, now - lease.touched)
    return InFlight(
        f"training {name}" if cell is None else printable(str(cell)),
        lease.host,
        lease.pid,
        round(max(0.0, now - lease.since), 1),
        round(silent, 1) if silent > 2 * BEAT else 0.0,
        lease.is_gone,
    )


def written(run: Path) -> dict[str, float]:
    """Return when each record was written, by key."""
    found: dict[str, float] = {}
    with suppress(FileNotFoundError, NotADirectoryError):
        with os.scandir(run / "records") as folders:
            places = [entry.path for entry in folders if len(entry.name) == 2]
        for place in places:
            with suppress(OSError), os.scandir(place) as entries:
                for entry in entries:
                    if entry.name.endswith(".json") and not entry.name.startswith("."):
                        found[entry.name.removesuffix(".json")] = entry.stat().st_mtime
    return found


def _failed(
    run: Path, cells: dict[str, dict[str, Any]], done: dict[str, float], began: float
) -> dict[str, Failed]:
    """Return by key the planned cells that have failed since the run began."""
    found = {}
    for note in Store(run).failures():
        key = str(note.get("key"))
        if key in cells and key not in done and note["time"] > began:
            found[key] = Failed(_in_words(cells[key]), error_in(note).removeprefix(_OURS))
    return found


def _in_words(labels: dict[str, Any]) -> str:
    told: dict[str, str] = {name: str(value) for name, value in printable_all(labels).items()}
    words = [told.get("model", "")]
    if (defense := told.get("defense", "none")) != "none":
        access = told.get("access", "none")
        words.append(defense if access == "none" else f"{defense} ({access})")
    what = told.get("perturbation", "")
    return " · ".join([*words, "clean" if what == "none" else what])


def _now(run: Path, times: list[float]) -> float:
    """Return the time by the folder's clock; the latest it is known to have been where nothing may be written."""
    try:
        return folder_time(run)
    except OSError:
        return max(times, default=time.time())


def as_line(found: Status) -> str:
    """Return a status as one line of JSON."""
    return json.dumps(found.as_json())
