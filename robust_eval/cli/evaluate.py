"""``robust-eval evaluate``: a model of one's own, measured like any other."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from robust_eval.cli._options import BatchSize, Device, Settings

__all__ = ["evaluate"]

SIX = "fgsm,bim,mim,pgd,cw,deepfool"


def evaluate(
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
    n: Annotated[int | None, typer.Option(min=1, help="How many test images. Default: all.")] = None,
    attacks: Annotated[str, typer.Option(help="Names, comma-separated; none for none.")] = SIX,
    eps: Annotated[
        list[str] | None,
        typer.Option(
            metavar="[NORM:]VALUE",
            help="Radius, e.g. 8/255 (linf) or l2:0.5; goes to every attack of that norm. Repeatable. "
            "Default: linf:8/255 for bounded attacks, l2:0.5 for minimal-norm ones.",
        ),
    ] = None,
    defenses: Annotated[str, typer.Option(help="Names, comma-separated.")] = "",
    pool: Annotated[
        str | None,
        typer.Option(help="Training images that defenses mix with. Default: the train split of the data."),
    ] = None,
    corruptions: Annotated[str, typer.Option(help="Names, comma-separated, or all.")] = "",
    severity: Annotated[
        list[int] | None, typer.Option(help="Of the corruptions, 1 to 5. Repeatable. Default: 3.")
    ] = None,
    mean: Annotated[
        str | None, typer.Option(help="Normalisation inside the model, e.g. 0.49,0.48,0.45.")
    ] = None,
    std: Annotated[
        str | None, typer.Option(help="Normalisation inside the model, e.g. 0.25,0.24,0.26.")
    ] = None,
    size: Annotated[
        int | None, typer.Option(min=1, help="Resize and crop a folder's images to this side.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="What the report calls the model.")] = None,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    out: Annotated[
        Path | None, typer.Option(help="Run folder; an existing one is added to. Default: runs/MODEL.")
    ] = None,
    set_: Settings = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the cells and their keys.")] = False,
    device: Device = "auto",
    batch_size: BatchSize = 128,
) -> int:
    """Measure your own checkpoint: clean, attacked, corrupted, plain or behind defenses."""
    import defenses as _defenses  # noqa: F401 - registers the methods
    from robust_eval.cli._execute import execute
    from robust_eval.cli._options import apply_settings, settings, split_names
    from robust_eval.config import parse
    from robust_eval.errors import ConfigError
    from robust_eval.registry import names

    if not data:
        raise ConfigError("--data: expected a named set, a .npz file or an image folder, got none")
    if checkpoint is None and not (arch and ":" in arch):
        raise ConfigError(
            "evaluate: expected a checkpoint, or --arch path/to/file.py:factory that returns a trained model; "
            "got neither"
        )
    wanted = split_names(corruptions)
    wanted = names("corruption") if wanted == ["all"] else wanted
    model: dict[str, Any] = {
        "checkpoint": None if checkpoint is None else str(checkpoint),
        "architecture": arch,
        "name": name,
        "mean": _numbers("--mean", mean),
        "std": _numbers("--std", std),
    }
    fields = settings(set_)
    if arch is not None and arch in fields:
        model["architecture"] = {"name": arch, **fields.pop(arch)}
    tables: dict[str, Any] = {
        "name": name or (checkpoint.stem if checkpoint else str(arch).rsplit(":", 1)[1]),
        "seed": seed,
        "data": {"name": data, "n": n, "pool": pool, "size": size},
        "model": [model],
        "attack": [table for attack in split_names(attacks) for table in _attack_tables(attack, eps)],
        "corruption": [{"name": item, "severity": severity or 3} for item in wanted],
        "defense": [{"name": item} for item in split_names(defenses)],
    }
    apply_settings([*tables["attack"], *tables["corruption"], *tables["defense"]], fields)
    experiment = parse(tables, where="evaluate", folder=Path.cwd())
    return execute(
        experiment,
        out or Path("runs") / tables["name"],
        device=device,
        batch_size=batch_size,
        dry_run=dry_run,
    )


def _attack_tables(name: str, eps: list[str] | None) -> list[dict[str, Any]]:
    """Return an attack's tables, one for each norm among the radii that it knows."""
    from robust_eval.errors import ConfigError
    from robust_eval.registry import find

    cls = find("attack", name)
    by_norm: dict[str, list[str]] = {}
    for item in eps or ():
        norm, colon, value = item.partition(":")
        norm, value = (norm, value) if colon else ("linf", item)
        if norm not in ("linf", "l2", "l1"):
            raise ConfigError(f"--eps: expected linf:VALUE, l2:VALUE or l1:VALUE, got {item!r}")
        by_norm.setdefault(norm, []).append(value)
    if cls.minimal_norm:
        radii = by_norm.get(cls.norms[0])
        return [{"name": name, "eps": radii}] if radii else [{"name": name}]
    known = {norm: values for norm, values in by_norm.items() if norm in cls.norms}
    return [{"name": name, "norm": norm, "eps": values} for norm, values in known.items()] or [{"name": name}]


def _numbers(option: str, text: str | None) -> list[float] | None:
    from robust_eval.errors import ConfigError

    if text is None:
        return None
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise ConfigError(f"{option}: expected numbers such as 0.49,0.48,0.45, got {text!r}") from None
