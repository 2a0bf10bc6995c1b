"""``robust-eval evaluate``: a model of one's own, measured like any other."""

from __future__ import annotations

import math
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
    attacks: Annotated[str, typer.Option(help="Names, comma-separated; all or none.")] = SIX,
    eps: Annotated[
        list[str] | None,
        typer.Option(
            metavar="[NORM:]VALUE",
            help="Radius, e.g. 8/255 (linf) or l2:0.5; goes to every attack of that norm. Repeatable. "
            "Default: linf:8/255 for bounded attacks, l2:0.5 for minimal-norm ones.",
        ),
    ] = None,
    defenses: Annotated[str, typer.Option(help="Names, comma-separated, or all.")] = "",
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
    batch_size: BatchSize = None,
) -> int:
    """Measure your own checkpoint: clean, attacked, corrupted, plain or behind defenses."""
    import defenses as _defenses  # noqa: F401 - registers the methods
    from robust_eval.cli._execute import execute
    from robust_eval.cli._options import apply_settings, settings, split_names
    from robust_eval.config import parse
    from robust_eval.errors import ConfigError

    if not data:
        raise ConfigError("--data: expected a named set, a .npz file or an image folder, got none")
    if checkpoint is None and not (arch and ":" in arch):
        raise ConfigError(
            "evaluate: expected a checkpoint, or --arch path/to/file.py:factory that returns a trained model; "
            "got neither"
        )
    chosen = split_names("attack", attacks)
    radii = _radii(eps, chosen)
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
        "name": name or (_short(checkpoint.stem) if checkpoint else str(arch).rsplit(":", 1)[1]),
        "seed": seed,
        "data": {"name": data, "n": n, "pool": pool, "size": size},
        "model": [model],
        "attack": [table for attack in chosen for table in _attack_tables(attack, radii)],
        "corruption": [
            {"name": item, "severity": severity or 3} for item in split_names("corruption", corruptions)
        ],
        "defense": [{"name": item} for item in split_names("defense", defenses)],
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


def _radii(eps: list[str] | None, attacks: list[str]) -> dict[str, list[str]]:
    """Return the radii of each norm; raises ``ConfigError`` for one that is no radius or that no attack takes."""
    from robust_eval.errors import ConfigError
    from robust_eval.registry import find, names
    from robust_eval.types import parse_number

    taken = {norm for name in attacks if name in names("attack") for norm in _norms(find("attack", name))}
    problems = []
    by_norm: dict[str, list[str]] = {}
    for item in eps or ():
        norm, colon, value = item.partition(":")
        norm, value = (norm.strip(), value) if colon else ("linf", item)
        try:
            valid = norm in ("linf", "l2", "l1") and 0 <= parse_number(value) < math.inf
        except ValueError:
            valid = False
        if not valid:
            problems.append(
                f"--eps: expected VALUE or NORM:VALUE with a number >= 0, such as 8/255 or l2:0.5, got {item!r}"
            )
        elif norm not in taken:
            problems.append(
                f"--eps {item}: no attack of this run takes a radius in {norm}; "
                f"{', '.join(attacks) or 'no attack'} takes {', '.join(sorted(taken)) or 'none'}"
            )
        by_norm.setdefault(norm, []).append(value)
    if problems:
        raise ConfigError(problems)
    return by_norm


def _attack_tables(name: str, radii: dict[str, list[str]]) -> list[dict[str, Any]]:
    """Return an attack's tables, one for each norm among the radii that it knows."""
    from robust_eval.registry import find, names

    if name not in names("attack"):
        return [{"name": name}]  # told with all other problems
    cls = find("attack", name)
    known = {norm: radii[norm] for norm in _norms(cls) if norm in radii}
    if cls.minimal_norm:
        return [{"name": name, "eps": values} for values in known.values()] or [{"name": name}]
    return [{"name": name, "norm": norm, "eps": values} for norm, values in known.items()] or [{"name": name}]


def _norms(cls: Any) -> tuple[str, ...]:
    """The norms of an attack's radii: one for an attack that looks for the smallest perturbation."""
    norms: tuple[str, ...] = cls.norms
    return norms[:1] if cls.minimal_norm else norms


def _short(stem: str) -> str:
    """Our own checkpoints are named by a key, of which a piece is enough."""
    return stem[:12] if len(stem) == 64 and not set(stem) - set("0123456789abcdef") else stem


def _numbers(option: str, text: str | None) -> list[float] | None:
    from robust_eval.errors import ConfigError

    if text is None:
        return None
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise ConfigError(f"{option}: expected numbers such as 0.49,0.48,0.45, got {text!r}") from None
