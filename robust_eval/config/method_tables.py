"""The tables of an experiment file that describe methods become methods, and what is wrong with them is collected."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pydantic

from robust_eval.config.problems import Problems
from robust_eval.data import Source
from robust_eval.errors import ConfigError
from robust_eval.methods import Analysis, Architecture, Attack, Corruption, Curriculum, Defense, Regularizer
from robust_eval.models.named import file_named, from_anywhere, gives_network
from robust_eval.models.recipe import Recipe
from robust_eval.models.zoo import call_of, entry_of
from robust_eval.paths import expanded, misnamed, shown, what_is
from robust_eval.registry import Kind, build, describe, explain, find
from robust_eval.threat import ANY_IMAGE, DEFAULT_RADIUS, Access, misfit, parse_number

__all__ = ["AnalysisPlan", "AttackPlan", "MethodTables", "Table", "located"]

Table = dict[str, Any]
BASES: dict[str, type[Any]] = {
    "attack": Attack,
    "corruption": Corruption,
    "defense": Defense,
    "analysis": Analysis,
    "architecture": Architecture,
    "regularizer": Regularizer,
    "curriculum": Curriculum,
}
"""What a method of a kind is."""


class AttackPlan(NamedTuple):
    """An attack with what is not part of the method."""

    attack: Attack
    access: tuple[Access, ...]
    """How it is aimed at defended models; not at all if empty."""
    score_at: tuple[float, ...]
    """Radii at which a minimal-norm attack is scored."""
    left_out: tuple[Access, ...] = ()
    """How it could be aimed at defended models, and is not unless it is asked for."""


class AnalysisPlan(NamedTuple):
    """An analysis with what is not part of the method."""

    analysis: Analysis
    others: tuple[str, ...]
    """Second sets of images, one cell each; none for an analysis that does not compare."""
    resize: bool = False
    """Whether images of another size are resized to that of those measured."""


class MethodTables:
    """Builds methods from tables and adds what is wrong with them to ``problems``."""

    def __init__(self, problems: Problems, folder: Path | None = None) -> None:
        self.problems = problems
        self.folder = folder or Path()
        """Where relative paths in a table start."""

    def methods(self, kind: Kind, table: str | Table, i: int) -> list[Any]:
        """Return the methods of a table: one, or one for each value of a list."""
        name, fields = _named(table)
        if not isinstance(name, str):
            self.problems.at(f"[[{kind}]] {i + 1}").add(_no_name(name))
            return []
        cls = self._find(kind, name)
        if cls is None:
            return []
        sweeps = getattr(cls, "sweeps", ("eps", "severity"))
        swept = {key: fields.pop(key) for key in sweeps if isinstance(fields.get(key), list)}
        for key in (key for key, values in swept.items() if not values):
            self.problems.at(f"{kind} {name!r}").add(f"{key}: expected at least one value, got []")
        made: list[Any] = []
        for values in itertools.product(*swept.values()):
            params = fields | dict(zip(swept, values, strict=True))
            with self.problems:
                made.append(build(kind, name, params))
        return made

    def attacks(self, table: str | Table, i: int) -> list[AttackPlan]:
        """Return the attacks of a table with their access and the radii to score at."""
        name, fields = _named(table)
        if not isinstance(name, str):
            return self.methods("attack", table, i)
        problems = self.problems.at(f"attack {name!r}")
        said = "access" in fields
        words = _access(fields.pop("access", ["transfer", "adaptive"]), problems)
        cls = self._find("attack", name)
        score_at: tuple[float, ...] = ()
        if cls is None:
            return []
        fields |= located(fields, self.folder)
        usual = words if said else _usual_access(cls)
        left_out = tuple(word for word in words if word not in usual)
        if cls.minimal_norm:
            unbounded = getattr(cls, "unbounded", False)
            norm = str(fields.get("norm", cls.norms[0]))
            default = DEFAULT_RADIUS.get(norm, 0.0)
            given = fields.pop("eps", ANY_IMAGE if unbounded else default)
            radii = given if isinstance(given, list) else [given]
            if not radii:
                problems.add("eps: expected at least one value, got []")
            found = {ANY_IMAGE} if unbounded else set()
            for value in radii:
                with problems:
                    found.add(_radius(value, norm))
            score_at = tuple(sorted(found))
        elif "norm" in fields and "eps" not in fields:
            # the field's own default is a radius of its default norm
            fields["eps"] = DEFAULT_RADIUS.get(str(fields["norm"]), 0.0)
        made = self.methods("attack", {"name": name, **fields}, i)
        for attack in made:
            with problems:
                _ = attack.threat  # which is refused for a norm it does not know
        return [AttackPlan(attack, usual, score_at, left_out) for attack in made]

    def analyses(self, table: str | Table, i: int) -> list[AnalysisPlan]:
        """Return the analyses of a table with the sets of images they compare with."""
        name, fields = _named(table)
        if not isinstance(name, str):
            return self.methods("analysis", table, i)
        problems = self.problems.at(f"analysis {name!r}")
        given, resize = fields.pop("other", []), fields.pop("resize", False)
        others = [given] if isinstance(given, str) else given
        if not isinstance(others, list) or not all(isinstance(other, str) for other in others):
            problems.add(f"other: expected the name or path of a set, or a list, got {given!r}")
            others = []
        if not isinstance(resize, bool):
            problems.add(f"resize: expected true or false, got {resize!r}")
        made = self.methods("analysis", {"name": name, **fields}, i)
        for analysis in made:
            if analysis.compares and not others:
                problems.add(
                    "expected another set of images to compare with, got none; "
                    "name one with other = (a set, a file, a folder)"
                )
            if others and not analysis.compares:
                problems.add("compares with no other set; leave other out")
        return [AnalysisPlan(analysis, tuple(others), bool(resize)) for analysis in made]

    def recipe(
        self, defaults: Table, table: Table, i: int, source: Source | None
    ) -> list[tuple[str, Recipe]]:
        """Return the name and recipe of a ``[[train]]`` table, one for each of its ``seeds``."""
        fields: Table = {"crop": source.crop, "flip": source.flip} if source is not None else {}
        fields |= defaults | table
        fields |= located(fields, self.folder)
        name = fields.pop("name", None)
        fields.pop("data", None)  # whose fields are of images, and none of the recipe
        problems = self.problems.at(f"[[train]] {i + 1}")
        seeds = _seeds(fields, table, problems)
        methods: Table = {}
        for kind in ("architecture", "regularizer", "curriculum"):
            given = fields.pop(kind, None)
            if given is not None or kind != "curriculum":
                methods[kind] = _method(kind, given, problems)
        if name is not None and not isinstance(name, str):
            problems.add(f"name: expected a string, got {name!r}")
        try:
            recipes = [Recipe(**methods, **fields, **seed) for seed in seeds]
        except pydantic.ValidationError as error:
            lines = explain(error, Recipe, where=problems.place)
            # a method that could not be built has been explained above
            absent = tuple(f"{problems.place}: {kind}:" for kind, method in methods.items() if method is None)
            problems.lines += [line for line in lines if not line.startswith(absent)]
            return []
        return [(name or _own_name(recipe), recipe) for recipe in recipes]

    def model(self, checkpoint: str | None, architecture: str | Table | None, i: int) -> None:
        """Note what is wrong with the paths of a ``[[model]]`` table; what is in its files is looked at later."""
        problems = self.problems.at(f"[[model]] {i + 1}")
        if checkpoint is not None and (problem := misnamed(checkpoint)) is not None:
            problems.add(f"checkpoint: {problem}")
        file = None
        with problems:
            if architecture is not None and (entry := entry_of(architecture)) is not None:
                call_of(entry, architecture)  # whose arguments may be wrong
            file = file_named(architecture)
        if file is not None:
            if (problem := misnamed(file)) is not None:
                problems.add(f"architecture: {problem}")
            elif (lies := what_is(_absolute(self.folder, file))) not in ("a file", "none"):
                problems.add(f"architecture: {shown(file)}: expected a Python file, got {lies}")
        if isinstance(architecture, str) and architecture.endswith(".py"):
            problems.add(
                f"architecture: expected file.py:factory, got {architecture!r}; add the name of the function "
                f"that returns the network, as in '{architecture}:build'"
            )
        elif architecture is not None and not gives_network(architecture):
            _method("architecture", architecture, problems)

    def _find(self, kind: Kind, name: str) -> type[Any] | None:
        with self.problems:
            cls = find(kind, name)
            if issubclass(cls, BASES.get(kind, object)):
                return cls
            raise ConfigError(
                f"{kind} {name!r}: expected a subclass of robust_eval.methods.{BASES[kind].__name__}, got "
                f"{cls.__module__}.{cls.__qualname__}; see robust-eval guide add-a-method"
            )
        return None


def _own_name(recipe: Recipe) -> str:
    """Return what a model is called that the file gives no name: its regularizer, and its curriculum if it has one."""
    curriculum = "shuffled" if recipe.curriculum is None else describe(recipe.curriculum).name
    name = describe(recipe.regularizer).name
    return name if curriculum == "shuffled" else f"{name}, {curriculum}"


def _access(access: Any, problems: Problems) -> tuple[Access, ...]:
    """Return how an attack is aimed at defended models; ``none`` leaves them alone."""
    words = access if isinstance(access, list) else [access]
    if words == ["none"]:
        return ()
    if not words or any(word not in ("transfer", "adaptive") for word in words):
        problems.add(
            "access: expected 'transfer' or 'adaptive' or both, or 'none' to leave "
            f"defended models out, got {access!r}"
        )
        return ()
    return tuple(words)


def _usual_access(attack: type[Attack]) -> tuple[Access, ...]:
    """Return how an attack is aimed at defended models where nothing is said: with and without the defense.

    One that looks for the smallest perturbation goes through the defense alone (ours): by transfer it stops where the
    undefended model is just fooled, which the check ``minimal_transfer`` calls no measure of the defense.
    """
    return ("adaptive",) if attack.minimal_norm else ("transfer", "adaptive")


def _seeds(fields: Table, table: Table, problems: Problems) -> list[Table]:
    """Take ``seed`` and ``seeds`` out of the fields of a recipe; return the field ``seed`` of each training."""
    # what a table says goes before the defaults, whichever of the two words it uses
    given = table if {"seed", "seeds"} & set(table) else fields
    seed, seeds = given.get("seed"), given.get("seeds")
    for word in ("seed", "seeds"):
        fields.pop(word, None)
    if seeds is None:
        return [{}] if seed is None else [{"seed": seed}]
    if seed is not None:
        problems.add("expected seed or seeds, got both")
    if not isinstance(seeds, list) or not seeds or len(set(map(str, seeds))) < len(seeds):
        problems.add(f"seeds: expected a list of different whole numbers, got {seeds!r}")
        return []
    return [{"seed": seed} for seed in seeds]


def _method(kind: Kind, table: Any, problems: Problems) -> Any:
    """Return the one method that a table in that place describes, ``None`` if it describes none."""
    if table is None:
        problems.add(f"field {kind!r} is missing")
        return None
    if not isinstance(table, str | Mapping):
        problems.add(f"{kind}: expected a name or a table, got {table!r}")
        return None
    name, params = _named(table)
    if not isinstance(name, str):
        problems.add(f"{kind}: {_no_name(name)}")
        return None
    with problems:
        return build(kind, name, params)
    return None


def _named(table: str | Mapping[str, Any]) -> tuple[Any, Table]:
    """Split a method's table into its name and its fields."""
    if isinstance(table, str):
        return table, {}
    fields = dict(table)
    return fields.pop("name", None), fields


def located(fields: Mapping[str, Any], folder: Path) -> Table:
    """Return the fields that are paths, from anywhere: first weights, a surrogate's and its factory, a teacher."""
    paths: Table = {}
    for name in ("start", "surrogate", "teacher"):
        if isinstance(path := fields.get(name), str):
            paths[name] = _absolute(folder, path)
    if isinstance(curriculum := fields.get("curriculum"), dict):
        paths["curriculum"] = curriculum | located(curriculum, folder)
    if "surrogate" in fields or "architecture" in fields:
        architecture = fields.get("architecture")
        if gives_network(architecture):
            paths["architecture"] = from_anywhere(architecture, lambda path: _absolute(folder, path))
    return paths


def _absolute(folder: Path, path: str) -> str:
    return str((folder / expanded(path)).absolute())


def _no_name(name: object) -> str:
    return "field 'name' is missing" if name is None else f"name: expected a string, got {name!r}"


def _radius(value: Any, norm: str) -> float:
    try:
        number = parse_number(value)
    except ValueError as error:
        raise ConfigError(f"eps: {error}") from None
    if not isinstance(number, int | float) or not 0 <= number < math.inf:
        raise ConfigError(f"eps: expected a finite number >= 0 such as 0.5 or '8/255', got {value!r}")
    if (problem := misfit(float(number), norm)) is not None:
        raise ConfigError(f"eps: {problem}")
    return float(number)
