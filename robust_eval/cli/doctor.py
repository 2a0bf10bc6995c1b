"""``robust-eval doctor``: what is wrong with a model, before anybody spends hours on numbers that mislead."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from robust_eval.cli._options import BatchSize, Device, Precision, Settings

if TYPE_CHECKING:
    from robust_eval.record import Record

__all__ = ["doctor"]

_PLENTY = 256
_MARKS = {"ok": "✓", "warn": "?", "fail": "!"}
_STYLES = {"ok": "", "warn": "yellow", "fail": "bold red"}


def doctor(
    checkpoint: Annotated[
        Path | None,
        typer.Argument(
            help="Weights (.safetensors, .pt, .pth). Left out: the factory returns a trained model."
        ),
    ] = None,
    arch: Annotated[
        str | None,
        typer.Option(
            help="Architecture by name, or path/to/file.py:factory. Default: that of the checkpoint's card."
        ),
    ] = None,
    data: Annotated[str, typer.Option(help="A named set, a .npz file or an image folder.")] = "",
    n: Annotated[int | None, typer.Option(min=1, help="How many test images. Default: 256 at most.")] = None,
    checks: Annotated[str, typer.Option(help="quick or full.")] = "full",
    eps: Annotated[str, typer.Option(metavar="[NORM:]VALUE", help="Radius to try.")] = "8/255",
    defenses: Annotated[str, typer.Option(help="Examine it behind these as well, comma-separated.")] = "",
    pool: Annotated[str | None, typer.Option(help="Training images that defenses mix with.")] = None,
    mean: Annotated[
        str | None, typer.Option(help="Normalisation inside the model, e.g. 0.49,0.48,0.45.")
    ] = None,
    std: Annotated[
        str | None, typer.Option(help="Normalisation inside the model, e.g. 0.25,0.24,0.26.")
    ] = None,
    size: Annotated[
        int | None, typer.Option(min=1, help="Resize and crop a folder's images to this side.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    set_: Settings = None,
    device: Device = "auto",
    batch_size: BatchSize = None,
    precision: Precision = "auto",
) -> int:
    """Examine a model without a full evaluation, and say what is wrong with it. Exit code 1 if a check fails."""
    import defenses as _defenses  # noqa: F401 - registers the methods
    from robust_eval.cli._execute import open_console
    from robust_eval.cli._options import apply_settings, pick_device, settings, split_names
    from robust_eval.cli.evaluate import model_table
    from robust_eval.config import parse
    from robust_eval.errors import ConfigError
    from robust_eval.evaluate import evaluate
    from robust_eval.examine import examine
    from robust_eval.model_source import OwnModel
    from robust_eval.plan import plan
    from robust_eval.workbench import Loaded, Workbench

    if not data:
        raise ConfigError("--data: expected a named set, a .npz file or an image folder, got none")
    if checks not in ("quick", "full"):
        raise ConfigError(f"--checks: expected quick or full, got {checks!r}")
    fields = settings(set_)
    norm, colon, radius = eps.rpartition(":")
    tables: dict[str, Any] = {
        "seed": seed,
        "checks": checks,
        "data": {"name": data, "n": n or _enough(data, size), "pool": pool, "size": size},
        "model": [model_table(checkpoint, arch, None, mean, std, fields)],
        "attack": [{"name": "pgd", "norm": norm if colon else "linf", "eps": radius}],
        "defense": [{"name": item} for item in split_names("defense", defenses)],
    }
    apply_settings(tables["defense"], fields)
    cells = plan(parse(tables, where="doctor", folder=Path.cwd()))

    def load(source: Any) -> Loaded:
        assert isinstance(source, OwnModel)
        return Loaded(source.network, source.weights_sha256)

    bench = Workbench(load, device=pick_device(device), batch_size=batch_size, precision=precision)  # type: ignore[arg-type]
    console, failed = open_console(), False
    for cell in cells:
        if cell.family not in ("clean", "examination"):
            continue
        record = (examine if cell.family == "examination" else evaluate)(cell, bench)
        for line, style in _clean(record) if cell.family == "clean" else _findings(record):
            console.print(line, style=style, highlight=False, markup=False, soft_wrap=True)
        failed |= any(check.verdict == "fail" for check in record.checks)
    return 1 if failed else 0


def _enough(data: str, size: int | None) -> int | None:
    """Return how many test images are plenty, ``None`` where the set has fewer."""
    from robust_eval.data import open_source
    from robust_eval.errors import DataError

    try:
        open_source(data, size=size).test(_PLENTY)
    except DataError:  # whatever else is wrong with it is told when it is read for good
        return None
    return _PLENTY


def _clean(record: Record) -> list[tuple[str, str]]:
    model, defense = record.labels["model"], record.labels["defense"]
    name = model if defense == "none" else f"{model} behind {defense}"
    (accuracy, *_) = record.summary
    assert accuracy.value is not None
    return [(f"{name}: {100 * accuracy.value:.1f} % of {accuracy.n} clean images are right", "bold")]


def _findings(record: Record) -> list[tuple[str, str]]:
    """Return a line for each check, those that failed first, then a verdict."""
    order = ("fail", "warn", "ok")
    found = sorted(record.checks, key=lambda check: order.index(check.verdict))
    width = max(len(check.name) for check in found)
    lines = []
    for check in found:
        told = "" if check.verdict == "ok" else f"  {check.advice}"
        text = f"  {_MARKS[check.verdict]} {check.name:{width}}  {check.figure:8.3g}{told}"
        lines.append((text, _STYLES[check.verdict]))
    raised = sum(check.verdict != "ok" for check in found)
    seconds = record.provenance["seconds"]
    verdict = "nothing was found" if not raised else f"{raised} of {len(found)} checks were raised"
    return [*lines, (f"  {verdict} on {len(record.rows)} images in {seconds:.1f} s", "")]
