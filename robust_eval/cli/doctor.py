"""``robust-eval doctor``: what is wrong with a model, before anybody spends hours on numbers that mislead."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from robust_eval.bounds import MOST
from robust_eval.cli._options import (
    Arch,
    BatchSize,
    Checkpoint,
    ClassOrder,
    Data,
    Device,
    Download,
    GradientDraws,
    Imports,
    Mean,
    Precision,
    Seed,
    Settings,
    Size,
    Std,
    Weights,
)

if TYPE_CHECKING:
    from rich.status import Status

    from robust_eval.evaluation.workbench import Workbench
    from robust_eval.models.source import RecipeModel
    from robust_eval.results.cell import Cell
    from robust_eval.results.record import Record

__all__ = ["doctor"]

_PLENTY = 256


def doctor(
    checkpoint: Checkpoint = None,
    arch: Arch = None,
    data: Data = "",
    n: Annotated[
        int | None, typer.Option(min=1, max=MOST, help="How many test images. Default: 256 at most.")
    ] = None,
    checks: Annotated[str, typer.Option(help="quick or full.")] = "full",
    eps: Annotated[
        str, typer.Option(metavar="[NORM:]VALUE", help="Radius to try, > 0, e.g. 8/255 (linf) or l2:0.5.")
    ] = "8/255",
    defenses: Annotated[str, typer.Option(help="Examine it behind these as well, comma-separated.")] = "",
    pool: Annotated[str | None, typer.Option(help="Training images that defenses mix with.")] = None,
    mean: Mean = None,
    std: Std = None,
    weights: Weights = None,
    download: Download = False,
    size: Size = None,
    class_order: ClassOrder = None,
    seed: Seed = 0,
    gradient_draws: GradientDraws = None,
    set_: Settings = None,
    import_: Imports = None,
    device: Device = "auto",
    batch_size: BatchSize = None,
    precision: Precision = "auto",
) -> int:
    """Examine a model without a full evaluation, and say what is wrong with it."""
    import torch

    import defenses as _defenses  # noqa: F401 - registers the methods
    from robust_eval.cli._console import open_console, open_log, say
    from robust_eval.cli._options import import_methods
    from robust_eval.config.experiment import parse
    from robust_eval.config.options import model_table
    from robust_eval.config.plan import plan
    from robust_eval.config.settings import apply_settings, settings, split_names
    from robust_eval.errors import ConfigError
    from robust_eval.evaluation.evaluate import evaluate
    from robust_eval.evaluation.examine import examine
    from robust_eval.evaluation.workbench import Workbench
    from robust_eval.machine import pick_device
    from robust_eval.processors import crowded

    import_methods(import_)
    if not data:
        raise ConfigError("--data: expected a named set, a .npz file or an image folder, got none")
    if checks not in ("quick", "full"):
        raise ConfigError(f"--checks: expected quick or full, got {checks!r}")
    fields = settings(set_)
    norm, radius = _radius(eps)
    tables: dict[str, Any] = {
        "seed": seed,
        "checks": checks,
        "gradient_draws": gradient_draws,
        "data": {
            "name": data,
            "n": n or _enough(data, size, class_order),
            "pool": pool,
            "size": size,
            "class_order": class_order,
        },
        "model": [model_table(checkpoint, arch, None, mean, std, fields, weights=weights, download=download)],
        "attack": [{"name": "pgd", "norm": norm, "eps": radius}],
        "defense": [{"name": item} for item in split_names("defense", defenses)],
    }
    apply_settings(tables["defense"], fields)
    cells = [
        cell
        for cell in plan(parse(tables, where="doctor", folder=Path.cwd()))
        if cell.family in ("clean", "examination")
    ]

    bench = Workbench(
        lambda source: source.load(_no_recipe),
        device=pick_device(device),
        batch_size=batch_size,
        precision=precision,  # type: ignore[arg-type]
    )
    console, log, failed = open_console(), open_log(), False
    if (line := crowded(torch.get_num_threads())) is not None:
        say(log, line, "yellow")
    say(log, _cost(cells, bench))
    for cell in cells:
        examination = cell.family == "examination"
        with log.status("classifying clean images") as status:

            def begin(check: str, status: Status = status) -> None:
                status.update(f"check {check}")

            record = examine(cell, bench, begin=begin) if examination else evaluate(cell, bench)
        for line, style in _findings(record) if examination else _clean(record):
            say(console, line, style)
        failed |= any(check.verdict in ("fail", "not_made") for check in record.checks)
    return 1 if failed else 0


def _no_recipe(model: RecipeModel) -> Path:
    raise AssertionError(f"expected the user's own model, got the recipe {model.name}")


def _radius(eps: str) -> tuple[str, str]:
    """Return norm and radius; raises ``ConfigError`` for those that nothing can be tried at."""
    from robust_eval.errors import ConfigError
    from robust_eval.threat import parse_number

    norm, colon, radius = eps.rpartition(":")
    norm = norm.strip() if colon else "linf"
    try:
        valid = norm in ("linf", "l2") and 0 < parse_number(radius) < math.inf
    except ValueError:
        valid = False
    if not valid:
        raise ConfigError(
            f"--eps: expected a radius > 0 in linf or l2 such as 8/255 or l2:0.5, got {eps!r}; "
            "an examination has to attack"
        )
    return norm, radius


def _cost(cells: Sequence[Cell], bench: Workbench) -> str:
    """Return what to expect, in words; that it is not known where the model cannot be asked."""
    from robust_eval.errors import THEIRS
    from robust_eval.run.cost import estimate

    images = len(cells[0].data.examples)
    try:
        seconds = estimate(cells, bench).seconds
    except THEIRS as error:  # told in full by what comes next
        return f"{images} images; time not estimated ({type(error).__name__})"
    told = f"{seconds / 60:.0f} minutes" if seconds >= 120 else f"{max(1, math.ceil(seconds))} s"
    return f"{images} images; about {told} at most"


def _enough(data: str, size: int | None, class_order: str | None) -> int | None:
    """Return how many test images are plenty, ``None`` where the set has fewer."""
    from robust_eval.cli._options import as_class_order
    from robust_eval.config.sources import opened
    from robust_eval.data import takes_size
    from robust_eval.errors import DataError

    if size is None and takes_size(data):
        size = 1  # of any size, as the model may say which
    try:
        opened(data, size=size, class_order=as_class_order(class_order)).test(_PLENTY)
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
    """Return for each check what is wrong and what to do, or its figure; those that failed first; then a verdict."""
    from robust_eval.checks.meanings import figure_text
    from robust_eval.findings import MARKS, STYLES, VERDICTS

    found = sorted(record.checks, key=lambda check: -VERDICTS.index(check.verdict))
    width = max(len(check.name) for check in found)
    lines = []
    for check in found:
        said = [check.advice] if check.verdict == "not_made" else [figure_text(check)]
        said = [check.advice, *said] if check.verdict in ("warn", "fail") else said
        heads = [f"  {MARKS[check.verdict] or '✓'} {check.name:{width}}", " " * (width + 4)]
        lines += [(f"{head}  {text}", STYLES[check.verdict]) for head, text in zip(heads, said, strict=False)]
    number = sum(check.verdict in ("warn", "fail") for check in found)
    missing = sum(check.verdict == "not_made" for check in found)
    seconds = record.provenance["seconds"]
    verdict = "nothing was found" if not number else f"{number} of {len(found)} checks were raised"
    verdict += f", {missing} could not be made" if missing else ""
    return [*lines, (f"  {verdict} on {len(record.rows)} images in {seconds:.1f} s", "")]
