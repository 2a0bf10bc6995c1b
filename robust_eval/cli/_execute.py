"""Plan, run, report: what ``run`` and ``evaluate`` have in common."""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from robust_eval.errors import ConfigError

if TYPE_CHECKING:
    from rich.console import Console

    from robust_eval.config import Experiment
    from robust_eval.record import Record

__all__ = ["execute", "make_folder", "open_console", "run_folder"]


def open_console() -> Console:
    """Return the console; where the output is no terminal it is wide, so that no column of a table is lost."""
    from rich.console import Console

    return Console() if sys.stdout.isatty() or "COLUMNS" in os.environ else Console(width=160)


def run_folder(out: Path) -> Path:
    """Return a folder to write into, which is not made yet; raises ``ConfigError`` where that cannot be done."""
    present = out.absolute()
    while not os.path.lexists(present):
        present = present.parent
    if not present.is_dir():
        raise ConfigError(f"--out {out}: expected a folder, but {present} is a file; give another name")
    if not os.access(present, os.W_OK | os.X_OK):
        raise ConfigError(f"--out {out}: {present} is not writable; give a folder where you may write")
    return out


def make_folder(out: Path) -> None:
    """Make the folder; raises ``ConfigError`` where the file system refuses."""
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"--out {out}: cannot be made ({error.strerror}); give another folder") from None


def execute(
    experiment: Experiment, out: Path, *, device: str, batch_size: int | None, dry_run: bool = False
) -> int:
    """Measure what has no record yet, write the report, print the table; return the exit code."""
    import tomli_w

    import reports
    import trainers
    from robust_eval.cli._options import pick_device
    from robust_eval.cli._progress import Display
    from robust_eval.plan import plan
    from robust_eval.run import run
    from robust_eval.store import Store, write_text

    console = open_console()
    store = Store(run_folder(out))
    device = pick_device(device)
    cells = plan(experiment)
    if dry_run:
        for cell in cells:
            state = "done" if store.has(cell.key) else "to do"
            _say(console, f"{cell.key}  {state:5}  {cell}")
        _say(console, "1 cell" if len(cells) == 1 else f"{len(cells)} cells")
        return 0
    make_folder(out)
    write_text(store.folder / "experiment.toml", tomli_w.dumps(experiment.tables()))
    with Display(console) as display:
        outcome = run(
            cells, store, train=trainers.train, progress=display, device=device, batch_size=batch_size
        )
    records = [store.read(cell.key) for cell in cells if store.has(cell.key)]
    if records:
        written = reports.write([store.folder], store.folder / "report")
        console.print(reports.terminal(written.results, width=console.width))
        _warn(console, records)
        _say(console, f"report: {store.folder / 'report' / 'index.html'}")
    for error, count in Counter(failure.error for failure in outcome.failed).items():
        _say(console, f"failed: {'1 cell' if count == 1 else f'{count} cells'}: {error}", style="red")
    if outcome.failed:
        _say(console, f"tracebacks: {store.folder / 'failed'}", style="red")
    return 1 if outcome.failed else 0


def _warn(console: Console, records: Iterable[Record]) -> None:
    """Print each check that warns or fails once per model, with the number of cells it stands beside."""
    seen: dict[tuple[str, str, str, str], int] = {}
    for record in records:
        for check in record.checks:
            if check.verdict != "ok":
                place = (check.verdict, check.name, record.labels["model"], check.advice)
                seen[place] = seen.get(place, 0) + 1
    for (verdict, name, model, advice), count in sorted(seen.items()):
        cells = "1 cell" if count == 1 else f"{count} cells"
        _say(console, f"{verdict}: {name}: {model} ({cells}): {advice}", style="yellow")


def _say(console: Console, line: str, *, style: str | None = None) -> None:
    """Print one line as it is, never broken to the width of the terminal."""
    console.print(line, style=style, highlight=False, markup=False, soft_wrap=True)
