"""``robust-eval evaluate``: a model of one's own, measured like any other."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Annotated, Any

import typer

from robust_eval.cli._options import (
    Arch,
    BatchSize,
    Checkpoint,
    Checks,
    Compiled,
    Data,
    Device,
    DryRun,
    GradientDraws,
    Mean,
    ModelName,
    Out,
    Precision,
    Seed,
    Settings,
    Size,
    Std,
)

__all__ = ["evaluate", "model_name", "model_table"]

Tables = list[dict[str, Any]]


def evaluate(
    checkpoint: Checkpoint = None,
    arch: Arch = None,
    data: Data = "",
    n: Annotated[int | None, typer.Option(min=1, help="How many test images. Default: all.")] = None,
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
        list[int] | None,
        typer.Option(help="Of the corruptions, 1 to 5. Repeatable. Default: 3; with --corrupted all five."),
    ] = None,
    corrupted: Annotated[
        Path | None,
        typer.Option(
            help="Folder of corrupted images to read instead of making them: CIFAR-10-C, ImageNet-C, or of `corrupt`. "
            "All types in it, unless --corruptions names some. Files are 8-bit: numbers are near those on images that "
            "are corrupted anew, and not the same."
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
    size: Size = None,
    name: ModelName = None,
    seed: Seed = 0,
    out: Out = None,
    checks: Checks = None,
    gradient_draws: GradientDraws = None,
    set_: Settings = None,
    dry_run: DryRun = False,
    device: Device = "auto",
    batch_size: BatchSize = None,
    precision: Precision = "auto",
    compiled: Compiled = False,
) -> int:
    """Measure your own checkpoint: clean, attacked, corrupted, plain or behind defenses."""
    import defenses as _defenses  # noqa: F401 - registers the methods
    from robust_eval.cli._execute import execute
    from robust_eval.cli._options import apply_settings, settings, split_names
    from robust_eval.config import parse
    from robust_eval.errors import ConfigError

    if not data:
        raise ConfigError("--data: expected a named set, a .npz file or an image folder, got none")
    if attacks is None and budget is None:
        budget = "default"
    chosen = _chosen(budget, split_names("attack", attacks or ""))
    radii = _radii(eps, [table["name"] for table in chosen])
    fields = settings(set_)
    model = model_table(checkpoint, arch, name, mean, std, fields)
    tables: dict[str, Any] = {
        "name": model_name(checkpoint, arch, name),
        "seed": seed,
        "checks": checks or "quick",
        "gradient_draws": gradient_draws,
        "data": {
            "name": data,
            "n": n,
            "pool": pool,
            "size": size,
            "corrupted": None if corrupted is None else str(corrupted),
        },
        "model": [model],
        "attack": [part for table in chosen for part in _attack_tables(table, radii)],
        "corruption": _corruption_tables(corruptions, severity, corrupted),
        "defense": [{"name": item} for item in split_names("defense", defenses)],
        "analysis": _comparisons(ood, shift, resize=resize),
    }
    methods = [*tables["attack"], *tables["corruption"], *tables["defense"], *tables["analysis"]]
    apply_settings(methods, fields)
    tables["attack"] = [_anywhere(table) for table in tables["attack"]]
    if cross_check:
        tables["attack"] += _peer_tables(tables["attack"])
    experiment = parse(tables, where="evaluate", folder=Path.cwd())
    return execute(
        experiment,
        out or Path("runs") / tables["name"],
        device=device,
        batch_size=batch_size,
        precision=precision,
        compiled=compiled,
        dry_run=dry_run,
        budget=budget,
    )


def model_table(
    checkpoint: Path | None,
    arch: str | None,
    name: str | None,
    mean: str | None,
    std: str | None,
    fields: dict[str, dict[str, Any]],
) -> dict[str, Any]:
    """Return the ``[[model]]`` table of these options; the architecture's own fields are taken out of ``fields``.

    Raises ``ConfigError`` where nothing says which weights.
    """
    from robust_eval.errors import ConfigError

    if arch is not None and arch.endswith(".py"):
        raise ConfigError(
            f"--arch: expected file.py:factory, got {arch!r}; add the name of the function that returns the network, "
            f"as in '{arch}:build'"
        )
    if checkpoint is None and not (arch and ":" in arch):
        raise ConfigError(
            "expected a checkpoint, or --arch path/to/file.py:factory that returns a trained model; got neither"
        )
    own = fields.pop(arch, None) if arch is not None else None
    return {
        "checkpoint": None if checkpoint is None else str(checkpoint),
        "architecture": arch if own is None else {"name": arch, **own},
        "name": name,
        "mean": _numbers("--mean", mean),
        "std": _numbers("--std", std),
    }


def model_name(checkpoint: Path | None, arch: str | None, name: str | None) -> str:
    """Return what a run folder is called after: the name given, or that of the file, or of the factory's function."""
    return name or (_short(checkpoint.stem) if checkpoint else str(arch).rsplit(":", 1)[-1])


def _comparisons(ood: str, shift: str, *, resize: bool) -> Tables:
    """Return the tables of the analyses that compare with other sets."""
    from robust_eval.cli.analyze import analysis_tables, require_sets, sets_in

    named = {"detection": sets_in("--ood", ood), "accuracy_gap": sets_in("--shift", shift)}
    require_sets(resize, [other for others in named.values() for other in others], "--ood or --shift")
    return [
        table
        for name, others in named.items()
        if others
        for table in analysis_tables([name], others, every=False, resize=resize)
    ]


def _corruption_tables(corruptions: str, severity: list[int] | None, corrupted: Path | None) -> Tables:
    """Return the tables of the corruptions; with files, those of the files unless some are named."""
    from robust_eval.cli._options import split_names
    from robust_eval.data.corrupted import open_corrupted

    asked = split_names("corruption", corruptions)
    if corrupted is None:
        return [_corruption_table(name, severity or [3]) for name in asked]
    if not asked or "all" in [name.strip() for name in corruptions.split(",")]:
        asked = list(open_corrupted(corrupted.expanduser()).severities)
    return [_corruption_table(name, severity) for name in asked]


def _corruption_table(name: str, severity: list[int] | None) -> dict[str, Any]:
    """Return a corruption's table; a deformation has no severity."""
    from robust_eval.errors import ConfigError
    from robust_eval.registry import find

    try:
        severe = "severity" in {field.name for field in dataclasses.fields(find("corruption", name))}
    except ConfigError:  # told with all other problems
        severe = True
    return {"name": name, "severity": severity} if severe and severity else {"name": name}


def _chosen(budget: str | None, names: list[str]) -> Tables:
    """Return the tables of the budget, then those of the named attacks that are not in it."""
    from robust_eval.budgets import budget as tables_of

    tables = [] if budget is None else tables_of(budget)
    known = {table["name"] for table in tables}
    return [*tables, *({"name": name} for name in names if name not in known)]


def _class(name: str) -> Any:
    """Return an attack's class, ``None`` for a name that is told with all other problems."""
    from robust_eval.errors import ConfigError
    from robust_eval.registry import find

    try:
        return find("attack", name)
    except ConfigError:
        return None


def _radii(eps: list[str] | None, attacks: list[str]) -> dict[str, list[str]]:
    """Return the radii of each norm; raises ``ConfigError`` for one that is no radius or that no attack takes."""
    from robust_eval.errors import ConfigError
    from robust_eval.types import parse_number

    classes = [cls for cls in map(_class, attacks) if cls is not None]
    taken = {norm for cls in classes for norm in _norms(cls)}
    scaled = [name for name in attacks if (cls := _class(name)) is not None and _own_eps(cls)]
    own = "".join(f"; {name} has units of its own (--set {name}.eps=VALUE)" for name in scaled)
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
                f"{', '.join(attacks) or 'no attack'} takes {', '.join(sorted(taken)) or 'none'}" + own
            )
        by_norm.setdefault(norm, []).append(value)
    if problems:
        raise ConfigError(problems)
    return by_norm


def _attack_tables(table: dict[str, Any], radii: dict[str, list[str]]) -> Tables:
    """Return an attack's tables, one for each norm among the radii that it knows."""
    cls = _class(table["name"])
    if cls is None:
        return [table]
    known = {norm: radii[norm] for norm in _norms(cls) if norm in radii}
    several = {norm: {"norm": norm} if _has_norm(cls) else {} for norm in known}
    return [{**table, **several[norm], "eps": values} for norm, values in known.items()] or [table]


def _norms(cls: Any) -> tuple[str, ...]:
    """The norms of an attack's radii: the first, unless it can be asked for others; none where units are its own."""
    if cls.own_units:
        return ()
    norms: tuple[str, ...] = cls.norms
    return norms if _has_norm(cls) else norms[:1]


def _own_eps(cls: Any) -> bool:
    """Whether an attack has an ``eps`` in units of its own."""
    return cls.own_units and "eps" in {field.name for field in dataclasses.fields(cls)}


def _has_norm(cls: Any) -> bool:
    return "norm" in {field.name for field in dataclasses.fields(cls)}


def _anywhere(table: dict[str, Any]) -> dict[str, Any]:
    """Return an attack's table with its paths from anywhere: the run folder keeps a copy of it."""
    from robust_eval.method_tables import located

    return {**table, **located(table, Path.cwd())}


def _peer_tables(tables: Tables) -> Tables:
    """Return tables of the other libraries' versions of these attacks, at the same parameters and radii."""
    from robust_eval.attacks.peers import LIBRARIES, counterparts, installed
    from robust_eval.errors import ConfigError
    from robust_eval.method_tables import MethodTables
    from robust_eval.registry import describe

    if not (present := installed()):
        raise ConfigError(
            f"--cross-check: expected {', '.join(LIBRARIES)} or one of them to be installed, got none; "
            "pip install 'robust-eval[peers]'"
        )
    problems: list[str] = []
    parser = MethodTables("evaluate", problems)
    found: Tables = []
    for plan in [plan for table in tables for plan in parser.attacks(table, 0)]:
        for name, params in counterparts(describe(plan.attack).name, describe(plan.attack).params):
            radii = {"eps": list(plan.score_at)} if plan.attack.minimal_norm else {}
            table = {"name": name, **params, **radii, "access": "none"}
            if name.partition(":")[0] in present and table not in found:
                found.append(table)
    if not found and not problems:  # which parse() tells
        names = ", ".join(dict.fromkeys(table["name"] for table in tables)) or "no attack"
        raise ConfigError(
            f"--cross-check: expected an attack with a counterpart in {', '.join(present)}, such as pgd or cw, "
            f"got {names}"
        )
    return found


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
