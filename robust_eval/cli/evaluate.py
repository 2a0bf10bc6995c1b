"""``robust-eval evaluate``: a model of one's own, measured like any other."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from robust_eval.bounds import MOST
from robust_eval.cli._options import (
    Arch,
    Baseline,
    BatchSize,
    Checkpoint,
    Checks,
    ClassOrder,
    Compiled,
    Data,
    Detach,
    Device,
    Download,
    DryRun,
    EngineName,
    EngineOptions,
    Estimate,
    GateRules,
    GradientDraws,
    Imports,
    MaxMinutes,
    Mean,
    ModelName,
    Out,
    Precision,
    SaveExamples,
    Seed,
    Settings,
    ShardText,
    Size,
    Std,
    Weights,
    Workers,
    path_named,
)
from robust_eval.cli._shown import Format

__all__ = ["evaluate"]


def evaluate(
    checkpoint: Checkpoint = None,
    arch: Arch = None,
    data: Data = "",
    n: Annotated[
        int | None, typer.Option(min=1, max=MOST, help="How many test images. Default: all.")
    ] = None,
    attacks: Annotated[
        str | None,
        typer.Option(
            help="Names, comma-separated; all or none. foolbox:CLASS, torchattacks:CLASS or pyautoattack:PART is an "
            "attack of that library, transfer:NAME one on a surrogate. Added to those of --budget, if both are given."
        ),
    ] = None,
    budget: Annotated[
        str | None,
        typer.Option(
            help="quick (a look), default, or strong (ends in AutoAttack); prints its attacks with their parameters. "
            "Default: default, unless --attacks is given."
        ),
    ] = None,
    cross_check: Annotated[
        bool,
        typer.Option(
            "--cross-check",
            help="Run the versions of Foolbox, torchattacks and pyautoattack beside ours, and report agreement.",
        ),
    ] = False,
    eps: Annotated[
        list[str] | None,
        typer.Option(
            metavar="[NORM:]VALUE",
            help="Radius, e.g. 8/255 (linf), l2:0.5 or l0:10 (pixels); goes to every attack of that norm. Repeatable. "
            "Default: linf:8/255 for bounded attacks, l2:0.5 for minimal-norm ones, l0:20.",
        ),
    ] = None,
    defenses: Annotated[str, typer.Option(help="Names, comma-separated, or all.")] = "",
    pool: Annotated[
        str | None,
        typer.Option(help="Training images that defenses mix with. Default: the train split of the data."),
    ] = None,
    corruptions: Annotated[str, typer.Option(help="Names, comma-separated, or all.")] = "",
    severity: Annotated[
        list[int] | None,
        typer.Option(help="Of the corruptions, 1 to 5. Repeatable. Default: 3; with --corrupted all five."),
    ] = None,
    corrupted: Annotated[
        Path | None,
        typer.Option(
            parser=path_named,
            metavar="PATH",
            help="Folder of corrupted images to read instead of making them: CIFAR-10-C, ImageNet-C, or of `corrupt`. "
            "All types in it, unless --corruptions names some. Files are 8-bit: numbers are near those on images that "
            "are corrupted anew, and not the same.",
        ),
    ] = None,
    ood: Annotated[
        str,
        typer.Option(
            metavar="SET,...",
            help="Images of other classes, to be told from the model's own: sets, files, folders, uniform, gaussian.",
        ),
    ] = "",
    shift: Annotated[
        str,
        typer.Option(
            metavar="SET,...",
            help="Other test sets of the same classes, such as cifar10_1: the accuracy lost.",
        ),
    ] = "",
    resize: Annotated[
        bool,
        typer.Option("--resize", help="Bring images of --ood and --shift to the size of those measured."),
    ] = False,
    mean: Mean = None,
    std: Std = None,
    weights: Weights = None,
    download: Download = False,
    size: Size = None,
    class_order: ClassOrder = None,
    mask: Annotated[
        Path | None,
        typer.Option(
            parser=path_named,
            metavar="PATH",
            help="Pixels that attacks may change (1; others 0): a .npy, .npz or PNG file of [h,w], [c,h,w] or one for "
            "each image. Default: all.",
        ),
    ] = None,
    skip_unreadable: Annotated[
        bool,
        typer.Option(
            "--skip-unreadable",
            help="Leave out images that cannot be read, and say which. Default: they end the run.",
        ),
    ] = False,
    name: ModelName = None,
    seed: Seed = 0,
    out: Out = None,
    checks: Checks = None,
    estimate: Estimate = None,
    gradient_draws: GradientDraws = None,
    set_: Settings = None,
    import_: Imports = None,
    dry_run: DryRun = False,
    device: Device = "auto",
    batch_size: BatchSize = None,
    precision: Precision = "auto",
    compiled: Compiled = False,
    save_examples: SaveExamples = False,
    format_: Format = None,
    max_minutes: MaxMinutes = None,
    workers: Workers = None,
    engine: EngineName = "local",
    engine_option: EngineOptions = None,
    detach: Detach = False,
    shard: ShardText = None,
    gate: GateRules = None,
    baseline: Baseline = None,
) -> int:
    """Measure your own checkpoint: clean, attacked, corrupted, plain or behind defenses.

    A checkpoint is read without running code; --arch file.py:factory runs that file and all that it imports.
    """
    import defenses as _defenses  # noqa: F401 - registers the methods
    from robust_eval.cli._execute import execute
    from robust_eval.cli._gated import gated
    from robust_eval.cli._options import import_methods
    from robust_eval.config.experiment import parse
    from robust_eval.config.options import evaluation_tables, model_name, model_table
    from robust_eval.config.settings import settings
    from robust_eval.errors import ConfigError
    from robust_eval.printable import folder_name

    import_methods(import_)
    judge = gated(gate, baseline)
    if not data:
        raise ConfigError("--data: expected a named set, a file or a folder of images, got none")
    if attacks is None and budget is None:
        budget = "default"
    fields = settings(set_)
    tables = evaluation_tables(
        model=model_table(checkpoint, arch, name, mean, std, fields, weights=weights, download=download),
        name=model_name(checkpoint, arch, name),
        data={
            "name": data,
            "n": n,
            "pool": pool,
            "size": size,
            "class_order": class_order,
            "skip_unreadable": skip_unreadable,
        },
        attacks=attacks or "",
        budget=budget,
        eps=eps,
        cross_check=cross_check,
        corruptions=corruptions,
        severity=severity,
        corrupted=corrupted,
        defenses=defenses,
        ood=ood,
        shift=shift,
        resize=resize,
        checks=checks or "quick",
        seed=seed,
        gradient_draws=gradient_draws,
        fields=fields,
        estimate=estimate,
    )
    experiment = parse(
        tables | {"imports": import_ or (), "mask": None if mask is None else str(mask)},
        where="evaluate",
        folder=Path.cwd(),
    )
    return execute(
        experiment,
        out or Path("runs") / folder_name(tables["name"]),
        device=device,
        batch_size=batch_size,
        precision=precision,
        compiled=compiled,
        save_examples=save_examples,
        dry_run=dry_run,
        budget=budget,
        format_=format_,
        max_minutes=max_minutes,
        workers=workers,
        engine=engine,
        engine_options=engine_option,
        detach=detach,
        shard=shard,
        gated=judge,
    )
