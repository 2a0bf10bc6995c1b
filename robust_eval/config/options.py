"""What options and arguments ask for, as the tables of an experiment: the rules of the command and of Python."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from robust_eval.attacks.peers.resolve import LIBRARIES, counterparts, installed
from robust_eval.config.budgets import budget as tables_of
from robust_eval.config.method_tables import MethodTables, located
from robust_eval.config.problems import Problems
from robust_eval.config.settings import apply_settings, split_names
from robust_eval.data import NOISE
from robust_eval.data.corrupted import open_corrupted
from robust_eval.errors import ConfigError
from robust_eval.methods import Attack
from robust_eval.models.named import short_name
from robust_eval.paths import expanded
from robust_eval.registry import describe, find
from robust_eval.threat import DEFAULT_RADIUS, misfit, parse_radius

__all__ = [
    "analysis_tables",
    "evaluation_tables",
    "model_name",
    "model_table",
    "require_sets",
    "sets_in",
]

Tables = list[dict[str, Any]]


def evaluation_tables(
    *,
    model: dict[str, Any] | None,
    name: str,
    data: dict[str, Any],
    attacks: str,
    budget: str | None,
    eps: list[str] | None,
    cross_check: bool,
    corruptions: str,
    severity: list[int] | None,
    corrupted: Path | None,
    defenses: str,
    ood: str,
    shift: str,
    resize: bool,
    checks: str,
    seed: int,
    gradient_draws: int | None,
    fields: dict[str, dict[str, Any]],
    more: Mapping[str, Tables] | None = None,
    estimate: float | None = None,
) -> dict[str, Any]:
    """Return the experiment that ``robust-eval evaluate`` makes of its options, as tables.

    ``model`` is the table of :func:`model_table`, ``None`` where models are given in Python, ``fields`` those of
    :func:`settings`, and ``more`` are tables of methods by kind, beside those named. Raises ``ConfigError`` for what
    can be told to be wrong before the tables are parsed.
    """
    own = {kind: [dict(table) for table in tables] for kind, tables in (more or {}).items()}
    chosen = [*_chosen(budget, split_names("attack", attacks)), *own.get("attack", ())]
    radii = _radii(eps, [str(table.get("name")) for table in chosen])
    tables: dict[str, Any] = {
        "name": name,
        "seed": seed,
        "checks": checks,
        "gradient_draws": gradient_draws,
        "estimate": estimate,
        "data": {**data, "corrupted": None if corrupted is None else str(corrupted)},
        "model": [] if model is None else [model],
        "attack": [part for table in chosen for part in _attack_tables(table, radii)],
        "corruption": [*_corruption_tables(corruptions, severity, corrupted), *own.get("corruption", ())],
        "defense": [{"name": item} for item in split_names("defense", defenses)] + own.get("defense", []),
        "analysis": _comparisons(ood, shift, resize=resize),
    }
    _require_one_radius(tables["attack"], fields, eps or ())
    methods = [*tables["attack"], *tables["corruption"], *tables["defense"], *tables["analysis"]]
    apply_settings(methods, fields)
    tables["attack"] = [_anywhere(table) for table in tables["attack"]]
    if cross_check:
        tables["attack"] += _peer_tables(tables["attack"])
    return tables


def model_table(
    checkpoint: Path | None,
    arch: str | None,
    name: str | None,
    mean: str | None,
    std: str | None,
    fields: dict[str, dict[str, Any]],
    *,
    weights: str | None = None,
    download: bool = False,
) -> dict[str, Any]:
    """Return the ``[[model]]`` table of these options; the architecture's own fields are taken out of ``fields``.

    Raises ``ConfigError`` where nothing says which weights.
    """
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
        "weights": weights,
        "download": download,
    }


def model_name(checkpoint: Path | None, arch: str | None, name: str | None) -> str:
    """Return what a run folder is called after: the name given, or that of the file, or of the factory's function."""
    return name or (_short(checkpoint.stem) if checkpoint else short_name(str(arch)))


def _comparisons(ood: str, shift: str, *, resize: bool) -> Tables:
    """Return the tables of the analyses that compare with other sets."""
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
    asked = split_names("corruption", corruptions)
    if corrupted is None:
        return [_corruption_table(name, severity or [3]) for name in asked]
    if not asked or "all" in [name.strip() for name in corruptions.split(",")]:
        asked = list(open_corrupted(expanded(corrupted)).severities)
    return [_corruption_table(name, severity) for name in asked]


def _corruption_table(name: str, severity: list[int] | None) -> dict[str, Any]:
    """Return a corruption's table; a deformation has no severity."""
    try:
        severe = "severity" in {field.name for field in dataclasses.fields(find("corruption", name))}
    except ConfigError:  # told with all other problems
        severe = True
    return {"name": name, "severity": severity} if severe and severity else {"name": name}


def _chosen(budget: str | None, names: list[str]) -> Tables:
    """Return the tables of the budget, then those of the named attacks that are not in it."""
    tables = [] if budget is None else tables_of(budget)
    known = {table["name"] for table in tables}
    return [*tables, *({"name": name} for name in names if name not in known)]


def _class(name: str) -> Any:
    """Return an attack's class, ``None`` for a name that is told with all other problems."""
    try:
        cls = find("attack", name)
        return cls if issubclass(cls, Attack) else None
    except ConfigError:
        return None


def _radii(eps: list[str] | None, attacks: list[str]) -> dict[str, list[str]]:
    """Return the radii of each norm; raises ``ConfigError`` for one that is no radius or that no attack takes."""
    classes = [cls for cls in map(_class, attacks) if cls is not None]
    taken = {norm for cls in classes for norm in _norms(cls)}
    scaled = [name for name in attacks if (cls := _class(name)) is not None and _own_eps(cls)]
    own = "".join(f"; {name} has units of its own (--set {name}.eps=VALUE)" for name in scaled)
    problems = []
    by_norm: dict[str, list[str]] = {}
    for item in eps or ():
        norm, colon, value = item.partition(":")
        norm, value = (norm.strip(), value) if colon else ("linf", item)
        radius = parse_radius(value)
        if norm not in DEFAULT_RADIUS or radius is None:
            problems.append(
                f"--eps: expected VALUE or NORM:VALUE with a number >= 0, such as 8/255 or l2:0.5, got {item!r}"
            )
        elif norm not in taken:
            problems.append(
                f"--eps {item}: no attack of this run takes a radius in {norm}; "
                f"{', '.join(attacks) or 'no attack'} takes {', '.join(sorted(taken)) or 'none'}" + own
            )
        elif (problem := misfit(radius, norm)) is not None:
            problems.append(f"--eps {item}: {problem}")
        by_norm.setdefault(norm, []).append(value)
    if problems:
        raise ConfigError(problems)
    return by_norm


def _attack_tables(table: dict[str, Any], radii: dict[str, list[str]]) -> Tables:
    """Return an attack's tables, one for each norm among the radii that it knows."""
    cls = _class(str(table.get("name")))
    if cls is None or "eps" in table:  # a table has its own radius
        return [table]
    known = {norm: radii[norm] for norm in _norms(cls) if norm in radii}
    several = {norm: {"norm": norm} if _has_norm(cls) else {} for norm in known}
    return [{**table, **several[norm], "eps": values} for norm, values in known.items()] or [table]


def _require_one_radius(tables: Tables, fields: dict[str, dict[str, Any]], eps: Sequence[str]) -> None:
    """Raise ``ConfigError`` where an attack is given its radius twice, or a norm that its radius is not in."""
    problems: list[str] = []
    for table in tables:
        name, own = table["name"], fields.get(table["name"], {})
        cls = _class(name)
        if cls is None or cls.own_units:
            continue
        norm = table.get("norm", cls.norms[0])
        if "eps" in own and any(_norm_of(item) == norm for item in eps):
            problems.append(
                f"--set {name}.eps: expected the radius once, got {own['eps']} and --eps {', '.join(eps)}, which "
                f"{name} takes as well; leave one out"
            )
        sized = "eps" in table or (not cls.minimal_norm and "eps" in cls.__dataclass_fields__)
        if own.get("norm", norm) != norm and own["norm"] in cls.norms and "eps" not in own and sized:
            problems.append(
                f"--set {name}.norm={own['norm']}: expected a radius in {own['norm']}, got one in {norm} "
                f"({_told_radius(table.get('eps'))}); give --eps {own['norm']}:VALUE in place of --set {name}.norm"
            )
    if problems:
        raise ConfigError(dict.fromkeys(problems))


def _norm_of(item: str) -> str:
    """Return the norm of an ``--eps``."""
    norm, colon, _ = item.partition(":")
    return norm.strip() if colon else "linf"


def _told_radius(eps: Any) -> str:
    return "the default" if eps is None else ", ".join(map(str, eps if isinstance(eps, list) else [eps]))


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
    return {**table, **located(table, Path.cwd())}


def _peer_tables(tables: Tables) -> Tables:
    """Return tables of the other libraries' versions of these attacks, at the same parameters and radii."""
    if not (present := installed()):
        raise ConfigError(
            f"--cross-check: expected {', '.join(LIBRARIES)} or one of them to be installed, got none; "
            "pip install 'robust-eval[peers]'"
        )
    parser = MethodTables(problems := Problems("evaluate"))
    found: Tables = []
    for plan in [plan for table in tables for plan in parser.attacks(table, 0)]:
        for name, params in counterparts(describe(plan.attack).name, describe(plan.attack).params):
            radii = {"eps": list(plan.score_at)} if plan.attack.minimal_norm else {}
            table = {"name": name, **params, **radii, "access": "none"}
            if name.partition(":")[0] in present and table not in found:
                found.append(table)
    if not found and not problems.lines:  # which parse() tells
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
    if text is None:
        return None
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise ConfigError(f"{option}: expected numbers such as 0.49,0.48,0.45, got {text!r}") from None


def sets_in(option: str, text: str) -> list[str]:
    """Return the names in a comma-separated list of sets; raises ``ConfigError`` for a list without any."""
    found = list(dict.fromkeys(word for word in map(str.strip, text.split(",")) if word))
    if text and not found:
        raise ConfigError(f"{option}: expected sets, files or folders, comma-separated, got {text!r}")
    return found


def require_sets(resize: bool, others: list[str], options: str) -> None:
    """Raise ``ConfigError`` where other sets are to be resized and there are none."""
    if resize and not others:
        raise ConfigError(
            f"--resize: expected sets to resize ({options}), got none; leave it out, or name some"
        )


def analysis_tables(
    names: list[str], others: list[str], *, every: bool, resize: bool
) -> list[dict[str, Any]]:
    """Return the tables of these analyses: those that compare get the other sets.

    Where ``every`` one was asked for, those that cannot be done with these sets are left out.
    """
    tables: list[dict[str, Any]] = []
    for name in names:
        try:
            cls = find("analysis", name)
        except ConfigError:  # told with all other problems
            tables.append({"name": name})
            continue
        if not cls.compares:
            tables.append({"name": name})
            continue
        unlabelled = NOISE if every and cls.needs_labels else ()
        fitting = [other for other in others if other not in unlabelled]
        if fitting or not every:
            tables.append({"name": name, "other": fitting, "resize": resize})
    return tables
