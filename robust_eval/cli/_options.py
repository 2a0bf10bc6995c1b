"""What several commands share: options, and the translation of their text."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from robust_eval.errors import ConfigError, near

if TYPE_CHECKING:
    from robust_eval.registry import Kind

__all__ = [
    "Arch",
    "BatchSize",
    "Checkpoint",
    "Checks",
    "Compiled",
    "Data",
    "Device",
    "DryRun",
    "GradientDraws",
    "Mean",
    "ModelName",
    "Out",
    "Precision",
    "Seed",
    "Settings",
    "Size",
    "Std",
    "apply_settings",
    "pick_device",
    "settings",
    "split_names",
]

Checkpoint = Annotated[
    Path | None,
    typer.Argument(help="Weights (.safetensors, .pt, .pth). Left out: the factory returns a trained model."),
]
Arch = Annotated[
    str | None,
    typer.Option(
        help="Architecture by name, or path/to/file.py:factory. Default: that of the checkpoint's card."
    ),
]
Data = Annotated[str, typer.Option(help="A named set, a .npz file or an image folder.")]
Mean = Annotated[str | None, typer.Option(help="Normalisation inside the model, e.g. 0.49,0.48,0.45.")]
Std = Annotated[str | None, typer.Option(help="Normalisation inside the model, e.g. 0.25,0.24,0.26.")]
Size = Annotated[int | None, typer.Option(min=1, help="Resize and crop a folder's images to this side.")]
ModelName = Annotated[str | None, typer.Option(help="What the report calls the model.")]
Seed = Annotated[int, typer.Option(min=0)]
Out = Annotated[
    Path | None, typer.Option(help="Run folder; an existing one is added to. Default: runs/MODEL.")
]
GradientDraws = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Draws a gradient through a randomised model is averaged over. Default: as many as it needs.",
    ),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Print the cells and their keys.")]
Device = Annotated[str, typer.Option(help="cpu, cuda or cuda:N; auto takes a GPU where there is one.")]
BatchSize = Annotated[
    int | None,
    typer.Option(
        min=1,
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
Compiled = Annotated[
    bool,
    typer.Option(
        "--compile", help="Hand networks to torch.compile before attacking them: long runs on a GPU."
    ),
]
Settings = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="NAME.FIELD=VALUE", help="Set a field of a method, e.g. pgd.steps=100. Repeatable."
    ),
]


def pick_device(name: str) -> str:
    """Return a torch device name; raises ``ConfigError`` for one that is not there."""
    import torch

    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ConfigError(f"device: expected auto, cpu, cuda or cuda:N, got {name!r}") from None
    if device.type not in ("cpu", "cuda"):
        raise ConfigError(f"device: expected auto, cpu, cuda or cuda:N, got {name!r}")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ConfigError(f"device {name}: there are {torch.cuda.device_count()} GPUs here; use --device cpu")
    return name


def split_names(kind: Kind, text: str) -> list[str]:
    """Return the names in a comma-separated list; ``all`` is every one of the kind, ``none`` and nothing are none."""
    from robust_eval.registry import names

    given = [name.strip() for name in text.split(",")]
    every = names(kind) if "all" in given else []
    return list(dict.fromkeys([*every, *(name for name in given if name not in ("", "all", "none"))]))


def settings(given: Iterable[str] | None) -> dict[str, dict[str, Any]]:
    """Return ``NAME.FIELD=VALUE`` options as fields by method name; values are read as TOML, else as text."""
    import tomllib

    fields: dict[str, dict[str, Any]] = {}
    for item in given or ():
        target, equals, text = item.partition("=")
        name, dot, field = target.strip().partition(".")
        if not (equals and dot and name and field):
            raise ConfigError(f"--set: expected NAME.FIELD=VALUE such as pgd.steps=100, got {item!r}")
        try:
            value = tomllib.loads(f"value = {text}")["value"]
        except tomllib.TOMLDecodeError:
            value = text.strip()
            if _numbers(value):
                raise ConfigError(
                    f"--set {target.strip()}: expected several numbers as a list, [{value}], got {value}; "
                    f"write --set '{target.strip()}=[{value}]'"
                ) from None
        fields.setdefault(name, {})[field] = value
    return fields


def _numbers(text: str) -> bool:
    """Whether a text is several numbers with commas between them."""
    parts = text.split(",")
    try:
        return len(parts) > 1 and all(isinstance(float(part), float) for part in parts)
    except ValueError:
        return False


def apply_settings(
    tables: Iterable[dict[str, Any]], fields: dict[str, dict[str, Any]], *, also: Iterable[str] = ()
) -> None:
    """Put the fields into the method tables of their name; raises ``ConfigError`` for a name that none has."""
    tables = list(tables)
    names = {table["name"] for table in tables} | set(also)
    for name, values in fields.items():
        if name not in names:
            listed = ", ".join(sorted(names)) or "none: no attack, corruption or defense was asked for"
            raise ConfigError(
                f"--set {name}: no such method in this run{near(name, names)}{_not_asked_for(name)}; it has {listed}"
            )
        for table in tables:
            if table["name"] == name:
                table.update(values)


def _not_asked_for(name: str) -> str:
    """Return that a method of this name exists; nothing for a name that none has."""
    from robust_eval.registry import names

    kinds: tuple[Kind, ...] = ("attack", "corruption", "defense")
    found = [f"; the {kind} {name} was not asked for" for kind in kinds if name in names(kind)]
    return found[0] if found else ""
