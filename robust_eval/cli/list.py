"""``robust-eval list``: what there is to choose from."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from robust_eval.cli._options import Imports

__all__ = ["list_methods"]


def list_methods(
    kind: Annotated[
        str | None,
        typer.Argument(
            help="attack, corruption, defense, regularizer, curriculum, architecture, data, analysis or experiment. "
            "Default: all."
        ),
    ] = None,
    import_: Imports = None,
    long: Annotated[bool, typer.Option("--long", help="Print each method's card.")] = False,
) -> int:
    """List the registered methods with their fields and defaults; experiments with their papers, data and costs."""
    import dataclasses
    from typing import get_args

    import defenses  # noqa: F401 - registers the methods
    import trainers  # noqa: F401
    from robust_eval.cli._experiments import UNIT, experiment_lines
    from robust_eval.cli._options import import_methods
    from robust_eval.config.experiment import named_experiments
    from robust_eval.errors import UnknownNameError
    from robust_eval.registry import Kind, card, find, names

    import_methods(import_)
    kinds: list[Any] = [*get_args(Kind), "experiment"]
    plural = {**{f"{each}s": each for each in kinds}, "analyses": "analysis", "curricula": "curriculum"}
    kind = plural.get(kind, kind) if kind is not None else None
    if kind is not None and kind not in kinds:
        raise UnknownNameError("kind", kind, kinds)
    chosen: list[Any] = kinds if kind is None else [kind]
    for each in chosen:
        print(f"{each}:")
        for name in named_experiments() if each == "experiment" else names(each):
            if each == "experiment":
                print(f"  {name}")
                if kind == each or long:
                    print("\n".join(f"      {line}" for line in experiment_lines(name)))
                continue
            cls = find(each, name)
            fields = [f"{f.name}={_default(f)}" for f in dataclasses.fields(cls)]
            print(f"  {name}({', '.join(fields)})")
            if long:
                print("\n".join(f"      {line}".rstrip() for line in card(each, name).splitlines()) + "\n")
        if each == "experiment" and (kind == each or long):
            print(f"  {UNIT}")
        if each in ("attack", "architecture"):
            lines = _behind_prefixes() if each == "attack" else _networks_elsewhere()
            print("\n".join(f"  {line}" for line in lines))
    return 0


def _behind_prefixes() -> list[str]:
    """What else there is, made on demand: the attacks of the libraries that are installed, and of a surrogate."""
    from robust_eval.attacks.peers.resolve import installed

    lines = ["transfer:NAME (the points of the attack NAME on a surrogate of yours)"]
    return [
        *lines,
        *(f"{library}:NAME (any of {library} {version})" for library, version in installed().items()),
    ]


def _networks_elsewhere() -> list[str]:
    """What else gives a network: other libraries, programs in files, code."""
    from robust_eval.models.zoo import known

    return [*known(), "path/to/file.py:FACTORY (a function of yours, whose file is run)"]


def _default(field: object) -> str:
    """The field's default as one would type it."""
    import dataclasses

    from robust_eval.registry import plain

    assert isinstance(field, dataclasses.Field)
    default = field.default
    value = tuple(map(plain, default)) if isinstance(default, tuple) else plain(default)
    if value is dataclasses.MISSING:
        return "?"
    return f"{value:.4g}" if isinstance(value, float) else repr(value)
