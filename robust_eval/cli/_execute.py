"""Plan, run, report: what ``run`` and ``evaluate`` have in common."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from robust_eval.errors import ConfigError

if TYPE_CHECKING:
    from rich.console import Console

    from robust_eval.config import Experiment
    from robust_eval.record import Record

__all__ = ["execute", "run_folder"]


def run_folder(out: Path) -> Path:
    """Return the folder of a run; raises ``ConfigError`` when something else has its name."""
    if out.exists() and not out.is_dir():
        raise ConfigError(f"--out {out}: expected a folder, got a file; give another name")
    return out


def execute(experiment: Experiment, out: Path, *, device: str, batch_size: int, dry_run: bool = False) -> int:
    """Measure what has no record yet, write the report, print the table; return the exit code."""
    import tomli_w
    from rich.console import Console

    import reports
    import trainers
    from robust_eval.cli._options import pick_device
    from robust_eval.cli._progress import Display
    from robust_eval.config import plan
    from robust_eval.run import run
    from robust_eval.store import Store, write_text

    console = Console()
    store = Store(run_folder(out))
    device = pick_device(device)
    cells = plan(experiment)
    if dry_run:
        for cell in cells:
            state = "done" if store.has(cell.key) else "to do"
            console.print(f"{cell.key}  {state:5}  {cell}", highlight=False, markup=False, soft_wrap=True)
        console.print(f"{len(cells)} cells", highlight=False)
        return 0
    write_text(store.folder / "experiment.toml", tomli_w.dumps(experiment.tables()))
    with Display(console) as display:
        outcome = run(
            cells, store, train=trainers.train, progress=display, device=device, batch_size=batch_size
        )
    written = reports.write([store.folder], store.folder / "report")
    console.print(reports.terminal(written.results))
    _warn(console, (store.read(cell.key) for cell in cells if store.has(cell.key)))
    console.print(
        f"report: {store.folder / 'report' / 'index.html'}", highlight=False, markup=False, soft_wrap=True
    )
    for failure in outcome.failed:
        console.print(f"failed: {failure.cell}: {failure.error}", style="red", highlight=False, markup=False)
    if outcome.failed:
        console.print(f"tracebacks: {store.folder / 'failed'}", style="red", highlight=False, soft_wrap=True)
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
        console.print(
            f"{verdict}: {name}: {model} ({cells}): {advice}", style="yellow", highlight=False, markup=False
        )
