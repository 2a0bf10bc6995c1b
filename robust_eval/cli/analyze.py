"""``robust-eval analyze``: what a model does beyond how often it is right."""

from __future__ import annotations

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
    DryRun,
    Imports,
    Mean,
    ModelName,
    Out,
    Precision,
    Seed,
    Settings,
    Size,
    Std,
    Weights,
)

if TYPE_CHECKING:
    from robust_eval.config.experiment import Experiment

__all__ = ["analyze"]


def analyze(
    checkpoint: Checkpoint = None,
    arch: Arch = None,
    data: Data = "",
    n: Annotated[
        int | None, typer.Option(min=1, max=MOST, help="How many test images. Default: all.")
    ] = None,
    analyses: Annotated[
        str,
        typer.Option(
            help="Names, comma-separated; all is every one that the model and the other options allow."
        ),
    ] = "all",
    other: Annotated[
        str,
        typer.Option(
            metavar="SET,...",
            help="Sets, files or folders to compare with, comma-separated; uniform and gaussian are noise.",
        ),
    ] = "",
    resize: Annotated[
        bool, typer.Option("--resize", help="Bring images of --other to the size of those measured.")
    ] = False,
    pool: Annotated[
        str | None,
        typer.Option(help="Training images to look at. Default: the train split of the data."),
    ] = None,
    mean: Mean = None,
    std: Std = None,
    weights: Weights = None,
    download: Download = False,
    size: Size = None,
    class_order: ClassOrder = None,
    name: ModelName = None,
    seed: Seed = 0,
    out: Out = None,
    set_: Settings = None,
    import_: Imports = None,
    dry_run: DryRun = False,
    device: Device = "auto",
    batch_size: BatchSize = None,
    precision: Precision = "auto",
) -> int:
    """Look at a model beyond accuracy: detection of other images, activations, weights, what lies between images."""
    import trainers as _trainers  # noqa: F401 - registers the regularizers that analyses look at
    from robust_eval.cli._execute import execute
    from robust_eval.cli._options import import_methods
    from robust_eval.config.experiment import parse as parsed
    from robust_eval.config.options import analysis_tables, model_name, model_table, require_sets, sets_in
    from robust_eval.config.settings import apply_settings, settings, split_names
    from robust_eval.errors import ConfigError
    from robust_eval.printable import folder_name

    import_methods(import_)
    if not data:
        raise ConfigError("--data: expected a named set, a .npz file or an image folder, got none")
    fields = settings(set_)
    model = model_table(checkpoint, arch, name, mean, std, fields, weights=weights, download=download)
    others = sets_in("--other", other)
    require_sets(resize, others, "--other")
    every = "all" in [word.strip() for word in analyses.split(",")]
    tables = analysis_tables(split_names("analysis", analyses), others, every=every, resize=resize)
    if not tables:
        raise ConfigError(
            "--analyses: expected at least one name, or all, got none; see robust-eval list analyses"
        )
    apply_settings(tables, fields)
    called = model_name(checkpoint, arch, name)

    def parse(tables: list[dict[str, Any]]) -> Experiment:
        given = {
            "name": called,
            "imports": import_ or (),
            "seed": seed,
            "data": {"name": data, "n": n, "pool": pool, "size": size, "class_order": class_order},
            "model": [model],
            "analysis": tables,
        }
        return parsed(given, where="analyze", folder=Path.cwd())

    experiment = parse(tables)
    if every and (left_out := _beyond(experiment)):
        experiment = parse([table for table in tables if table["name"] not in left_out])
        _tell_left_out(left_out)
    return execute(
        experiment,
        out or Path("runs") / folder_name(called),
        device=device,
        batch_size=batch_size,
        precision=precision,
        dry_run=dry_run,
    )


def _beyond(experiment: Experiment) -> list[str]:
    """Return the analyses that need the stages of a network, where it has none."""
    from robust_eval.analyses._looked_at import reason, stages_of
    from robust_eval.config.plan import models
    from robust_eval.registry import describe

    needing = [describe(each.analysis).name for each in experiment.analyses if each.analysis.needs_stages]
    if not needing:
        return []
    (source,) = models(experiment)
    network = source.untrained().network
    return needing if reason(lambda: stages_of("analyze", network)) is not None else []


def _tell_left_out(names: list[str]) -> None:
    from robust_eval.cli._console import open_log, say

    say(
        open_log(),
        f"left out, since the network has no stages (an attribute 'stages'): {', '.join(names)}",
    )
