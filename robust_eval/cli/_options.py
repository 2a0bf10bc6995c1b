"""What several commands share: options, and the translation of their text."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from robust_eval.bounds import LAST_SEED, MOST
from robust_eval.errors import ConfigError

if TYPE_CHECKING:
    from robust_eval import data

__all__ = [
    "Arch",
    "Baseline",
    "BatchSize",
    "Checkpoint",
    "Checks",
    "ClassOrder",
    "Compiled",
    "Data",
    "Detach",
    "Device",
    "Download",
    "DryRun",
    "EngineName",
    "EngineOptions",
    "Estimate",
    "GateRules",
    "GradientDraws",
    "Imports",
    "MaxMinutes",
    "Mean",
    "ModelName",
    "Out",
    "Precision",
    "SaveExamples",
    "Seed",
    "Settings",
    "Size",
    "Std",
    "Weights",
    "as_class_order",
    "import_methods",
    "path_named",
]


def path_named(text: str | Path) -> Path:
    """Return the path that an option names; raises ``BadParameter`` for one that no file can have."""
    from robust_eval.paths import misnamed

    if (problem := misnamed(str(text))) is not None:
        raise typer.BadParameter(problem)
    return Path(text)


Checkpoint = Annotated[
    Path | None,
    typer.Argument(
        parser=path_named,
        metavar="[CHECKPOINT]",
        help="Weights: .safetensors, or what torch.save wrote, whatever it is called (.pt, .pth.tar, .ckpt). "
        "May be left out where the factory of --arch returns a trained model.",
    ),
]
Arch = Annotated[
    str | None,
    typer.Option(
        help="Architecture by name; torchvision:NAME, timm:NAME, hf:FOLDER or robustbench:NAME; "
        "torchscript:FILE, export:FILE or onnx:FILE, programs that are run; or path/to/file.py:factory, which runs the "
        "code of that file. Arguments in brackets, 'net.py:build(depth=18)'. Default: that of the checkpoint's card."
    ),
]
Weights = Annotated[
    str | None,
    typer.Option(
        metavar="KEY", help="Where in the checkpoint the weights lie, if there are several, such as ema."
    ),
]
Download = Annotated[
    bool,
    typer.Option("--download", help="Let the library of --arch fetch its published weights."),
]
Data = Annotated[
    str,
    typer.Option(
        help="A named set, an image folder, or a .npz, .npy,.npy, .csv, .parquet, .tar or other file (guide evaluate); "
        "file.py:factory runs that file.  [required]",
        show_default=False,
    ),
]
Mean = Annotated[str | None, typer.Option(help="Normalisation inside the model, e.g. 0.49,0.48,0.45.")]
Std = Annotated[str | None, typer.Option(help="Normalisation inside the model, e.g. 0.25,0.24,0.26.")]
Size = Annotated[
    int | None, typer.Option(min=1, max=16384, help="Resize and crop a folder's images to this side.")
]
ClassOrder = Annotated[
    str | None,
    typer.Option(
        metavar="ORDER",
        help="How a folder's classes are numbered whose names are all numbers: numbers, or text (10 before 2). "
        "Default: numbers.",
    ),
]
ModelName = Annotated[str | None, typer.Option(help="What the report calls the model.")]
Seed = Annotated[int, typer.Option(min=0, max=LAST_SEED)]
Out = Annotated[
    Path | None,
    typer.Option(
        parser=path_named,
        metavar="PATH",
        help="Run folder; an existing one is added to. Default: runs/MODEL.",
    ),
]
GradientDraws = Annotated[
    int | None,
    typer.Option(
        min=1,
        max=MOST,
        help="Draws a gradient through a randomised model is averaged over. Default: as many as it needs.",
    ),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Print the cells and their keys.")]
Imports = Annotated[
    list[str] | None,
    typer.Option(
        "--import",
        metavar="MODULE",
        help="A module of yours that registers methods, in this folder or on Python's path; its code is run. "
        "Repeatable.",
    ),
]
Device = Annotated[str, typer.Option(help="cpu, cuda or cuda:N; auto takes a GPU where there is one.")]
BatchSize = Annotated[
    int | None,
    typer.Option(
        min=1,
        max=MOST,
        help="Images at a time; bounds memory, changes results by rounding at most. Default: by image size.",
    ),
]
Precision = Annotated[
    str,
    typer.Option(
        help="Of the gradients: auto, fp32 or bf16; auto takes bf16 where the processor has it. "
        "Success and distance are always measured in fp32."
    ),
]
Checks = Annotated[
    str | None,
    typer.Option(
        help="How thoroughly each attacked model is examined: quick (a small part of the run), full or off. "
        "Default: as the experiment says, else quick."
    ),
]
Estimate = Annotated[
    float | None,
    typer.Option(
        "--estimate",
        metavar="HALF_WIDTH",
        help="Attack only so many images, drawn by the seed, that the accuracy on all of them is known to within this "
        "share at 95 %, e.g. 0.01. Numbers made so are marked. Default: attack all.",
    ),
]
Compiled = Annotated[
    bool,
    typer.Option(
        "--compile", help="Hand networks to torch.compile before attacking them: long runs on a GPU."
    ),
]
SaveExamples = Annotated[
    bool,
    typer.Option(
        "--save-examples",
        help="Keep the adversarials of each attack in examples/: .npz as floats, the first 50 as PNG, with a manifest.",
    ),
]
MaxMinutes = Annotated[
    float | None,
    typer.Option(
        "--max-minutes",
        min=0,
        max=MOST,
        metavar="MINUTES",
        help="Stop after this time: what is measured by then is kept and reported; a gate says what it cannot judge.",
    ),
]
Workers = Annotated[
    int | None,
    typer.Option(
        "--workers",
        min=0,
        max=1000,
        metavar="N",
        help="Processes that share the cells, the processors and the GPUs. 0 of `run` plans alone: `robust-eval work` "
        "measures. Default: this process.",
    ),
]
EngineName = Annotated[
    str,
    typer.Option(
        "--engine",
        help="What starts the workers: local (processes on this machine), submitit (jobs of SLURM) or ray (guide "
        "cluster).",
    ),
]
EngineOptions = Annotated[
    list[str] | None,
    typer.Option(
        "--engine-option",
        metavar="NAME=VALUE",
        help="What each worker of submitit or ray is given, e.g. partition=gpu or num_gpus=0.5. Repeatable.",
    ),
]
Detach = Annotated[
    bool,
    typer.Option(
        "--detach",
        help="With --engine submitit: end once jobs are submitted; `robust-eval status RUN` tells how far they are.",
    ),
]
ShardText = Annotated[
    str | None,
    typer.Option(
        "--shard",
        metavar="I/N",
        help="Measure every N-th cell alone, by its key: one of the parts 1/N to N/N, which share nothing.",
    ),
]
GateRules = Annotated[
    Path | None,
    typer.Option(
        "--gate",
        parser=path_named,
        metavar="FILE",
        help="Judge the run by the rules of this TOML file (guide gate) at the end; the exit code is the gate's.",
    ),
]
Baseline = Annotated[
    Path | None,
    typer.Option(
        "--baseline",
        parser=path_named,
        metavar="RUN",
        help="With --gate: the run that drops are measured from.",
    ),
]
Settings = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="NAME.FIELD=VALUE", help="Set a field of a method, e.g. pgd.steps=100. Repeatable."
    ),
]


def as_class_order(word: str | None) -> data.ClassOrder | None:
    """Return the order of classes that an option names; raises ``ConfigError`` for another word."""
    orders: dict[str | None, data.ClassOrder | None] = {None: None, "numbers": "numbers", "text": "text"}
    if word in orders:
        return orders[word]
    raise ConfigError(f"--class-order: expected numbers or text, got {word!r}")


def import_methods(modules: list[str] | None) -> None:
    """Import modules of the user's, so that their methods have names; raises ``ConfigError`` for one that fails."""
    from robust_eval.config.experiment import import_module

    for module in modules or ():
        import_module(module, Path.cwd())
