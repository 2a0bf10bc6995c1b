"""An experiment file becomes validated objects, and those a list of cells.

Tables: ``[data]``, ``[recipe]`` (defaults of every ``[[train]]``), ``[[train]]``, ``[[model]]`` (own weights),
``[[attack]]``, ``[[corruption]]``, ``[[defense]]``. A method's table holds its ``name`` and its fields; ``eps`` and
``severity`` may be lists. All problems of a file are reported at once.
"""

from __future__ import annotations

import importlib
import itertools
import sys
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import pydantic
from pydantic import Field

from robust_eval.cell import Access, Cell, Data, ModelSource
from robust_eval.data import Examples, Source, open_source
from robust_eval.errors import ConfigError, DataError, near
from robust_eval.methods import Attack, Corruption, Defense
from robust_eval.model_source import OwnModel, RecipeModel, own_model
from robust_eval.recipe import Recipe
from robust_eval.registry import Kind, build, checked, describe, explain, find
from robust_eval.types import parse_number

__all__ = [
    "AttackPlan",
    "DataTable",
    "Experiment",
    "ModelTable",
    "models",
    "named_experiments",
    "parse",
    "plan",
    "read",
]

Table = dict[str, Any]
DEFAULT_RADIUS = {"linf": 8 / 255, "l2": 0.5, "l1": 12.0}
"""Radii of the common benchmarks at 32 pixels, in units of the [0, 1] pixel range."""


@checked
@dataclass(frozen=True, kw_only=True)
class DataTable:
    """The images to measure on."""

    name: str
    """A registered set, a ``.npz`` file or an image folder."""
    n: Annotated[int, Field(ge=1)] | None = None
    """How many test images; all if left out."""
    pool: str | None = None
    """Training images that defenses mix with; the train split of the set if left out."""
    size: Annotated[int, Field(ge=1)] | None = None
    """Side in pixels to which a folder's images are resized and cropped."""


@checked
@dataclass(frozen=True, kw_only=True)
class ModelTable:
    """A model of the user's own."""

    checkpoint: str | None = None
    """Weights: ``.safetensors``, ``.pt`` or ``.pth``; may be left out when a factory returns a trained model."""
    architecture: str | Table | None = None
    """A registered name, a table with ``name`` and fields, or ``path/to/file.py:factory``; may be left out when
    the checkpoint has a card of :command:`robust-eval train` beside it."""
    name: str | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None


class AttackPlan(NamedTuple):
    """An attack with what is not part of the method."""

    attack: Attack
    access: tuple[Access, ...]
    """How it is aimed at defended models."""
    score_at: tuple[float, ...]
    """Radii at which a minimal-norm attack is scored."""


@checked
@dataclass(frozen=True, kw_only=True)
class Frame:
    """The experiment file before its methods are looked up."""

    name: str = "experiment"
    seed: Annotated[int, Field(ge=0)] = 0
    draws: Annotated[int, Field(ge=1)] = 10
    """Fresh draws over which a randomised model is scored."""
    imports: tuple[str, ...] = ()
    """Modules of the user's that register further methods."""
    data: DataTable
    recipe: Table = field(default_factory=dict)
    train: tuple[Table, ...] = ()
    model: tuple[ModelTable, ...] = ()
    attack: tuple[str | Table, ...] = ()
    corruption: tuple[str | Table, ...] = ()
    defense: tuple[str | Table, ...] = ()


@dataclass(frozen=True)
class Experiment:
    """A validated experiment: what is measured, and nothing about where it runs."""

    frame: Frame
    recipes: tuple[tuple[str, Recipe], ...]
    """Name and recipe of each model to train."""
    attacks: tuple[AttackPlan, ...]
    corruptions: tuple[Corruption, ...]
    defenses: tuple[Defense, ...]
    folder: Path
    """Where relative checkpoint paths start."""

    def tables(self) -> Table:
        """Return the effective experiment as tables that :func:`parse` reads back."""
        tables = {k: v for k, v in _without_none(asdict(self.frame)).items() if v not in ((), [], {})}
        for table in tables.get("model", ()):
            if table.get("checkpoint"):
                table["checkpoint"] = str((self.folder / table["checkpoint"]).resolve())
            architecture = table.get("architecture")
            if isinstance(architecture, str) and ":" in architecture:
                table["architecture"] = str((self.folder / architecture).resolve())
        for key in ("name", "pool"):
            if key in tables["data"] and (self.folder / tables["data"][key]).exists():
                tables["data"][key] = str((self.folder / tables["data"][key]).resolve())
        return tables


def named_experiments() -> list[str]:
    """Return the names of the experiments shipped with the package."""
    folder = resources.files("robust_eval") / "experiments"
    return sorted(item.name.removesuffix(".toml") for item in folder.iterdir() if item.name.endswith(".toml"))


def read(name: str) -> Experiment:
    """Read an experiment: a shipped one by name, or a file; raises ``ConfigError`` with all of its problems."""
    if name in named_experiments():
        text = (resources.files("robust_eval") / "experiments" / f"{name}.toml").read_text(encoding="utf-8")
        folder = Path.cwd()
    else:
        path = Path(name)
        if not path.is_file():
            known = named_experiments()
            raise ConfigError(
                f"experiment {name!r}: no such file or name{near(name, known)}; shipped: {', '.join(known)}"
            )
        try:
            text, folder = path.read_text(encoding="utf-8"), path.resolve().parent
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"experiment {name}: cannot be read ({error})") from None
    try:
        tables = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"experiment {name}: not valid TOML: {error}") from None
    return parse(tables, where=name, folder=folder)


def parse(tables: Mapping[str, Any], *, where: str, folder: Path) -> Experiment:
    """Return the experiment that tables describe; raises ``ConfigError`` with all of their problems."""
    problems: list[str] = []
    frame = _frame(dict(tables), where, problems)
    for module in frame.imports:
        _import(module, folder, where)
    parser = _Parser(where, problems)
    attacks = [plan for i, table in enumerate(frame.attack) for plan in parser.attacks(table, i)]
    corruptions = [c for i, t in enumerate(frame.corruption) for c in parser.methods("corruption", t, i)]
    defenses = [d for i, t in enumerate(frame.defense) for d in parser.methods("defense", t, i)]
    source = _try(lambda: open_source(_at(folder, frame.data.name), size=frame.data.size), problems)
    recipes = [parser.recipe(frame.recipe, table, i, source) for i, table in enumerate(frame.train)]
    if not frame.train and not frame.model:
        problems.append(f"{where}: expected at least one [[train]] or [[model]] table, got none")
    names = [name for name, _ in filter(None, recipes)] + [table.name for table in frame.model if table.name]
    for name in sorted({name for name in names if names.count(name) > 1}):
        problems.append(f"{where}: two models are named {name!r}; give one of them another name")
    if problems:
        raise ConfigError(problems)
    return Experiment(
        frame, tuple(filter(None, recipes)), tuple(attacks), tuple(corruptions), tuple(defenses), folder
    )


def _frame(tables: Table, where: str, problems: list[str]) -> Frame:
    """Return the frame; what is wrong with it is noted and left out, so that the methods are looked at too."""
    adapter: pydantic.TypeAdapter[Frame] = pydantic.TypeAdapter(Frame)
    try:
        return adapter.validate_python(tables)
    except pydantic.ValidationError as error:
        problems += explain(error, Frame, where=where)
        wrong = {problem["loc"][0] for problem in error.errors()}
    try:
        return adapter.validate_python({key: value for key, value in tables.items() if key not in wrong})
    except pydantic.ValidationError:  # [data] itself is wrong: there is nothing to go on with
        raise ConfigError(problems) from None


def plan(experiment: Experiment) -> list[Cell]:
    """Return the cells of an experiment, model by model.

    Loads the images, the pool and the user's own models; raises ``RobustEvalError`` for any that cannot be used.
    """
    frame = experiment.frame
    source = open_source(_at(experiment.folder, frame.data.name), size=frame.data.size)
    examples = source.test(frame.data.n)
    data = Data(source.name, examples, _pool(experiment, source, examples) if experiment.defenses else None)
    return [cell for model in models(experiment) for cell in _cells(experiment, model, data)]


def models(experiment: Experiment) -> list[ModelSource]:
    """Return the models to train, then the user's own, loaded and tried on an image."""
    frame = experiment.frame
    source = open_source(_at(experiment.folder, frame.data.name), size=frame.data.size)
    found: list[ModelSource] = []
    if experiment.recipes:
        train = source.train()
        if train is None:
            raise DataError(f"data {frame.data.name}: has no training images, and [[train]] needs them")
        found += [RecipeModel(name, recipe, train) for name, recipe in experiment.recipes]
    if frame.model:
        examples = source.test(frame.data.n)
        found += [_own_model(experiment, table, examples) for table in frame.model]
    return found


def _cells(experiment: Experiment, model: ModelSource, data: Data) -> list[Cell]:
    cells = []
    for defense in (None, *experiment.defenses):
        shared: Table = {"model": model, "data": data, "defense": defense}
        shared |= {"seed": experiment.frame.seed, "draws": experiment.frame.draws}
        cells.append(Cell(**shared))
        for attack, access, score_at in experiment.attacks:
            for how in ("none",) if defense is None else access:
                cells.append(Cell(**shared, perturbation=attack, access=how, score_at=score_at))
        cells += [Cell(**shared, perturbation=corruption) for corruption in experiment.corruptions]
    return cells


def _pool(experiment: Experiment, source: Source, examples: Examples) -> Examples:
    frame = experiment.frame
    if frame.data.pool is not None:
        given = open_source(_at(experiment.folder, frame.data.pool))
        pool = given.train() or given.test(None)
    else:
        found = source.train()
        names = ", ".join(describe(defense).name for defense in experiment.defenses)
        if found is None:
            raise DataError(
                f"data {frame.data.name}: {names} mixes with training images, and there are none; name some with "
                "--pool (pool = in [data]), or put train_images and train_labels into the file"
            )
        pool = found
    if pool.shape != examples.shape:
        raise DataError(
            f"pool {pool.source}: expected images of {_shape(examples)} like those measured, got {_shape(pool)}"
        )
    return pool.without(examples)


def _own_model(experiment: Experiment, table: ModelTable, examples: Examples) -> OwnModel:
    architecture = table.architecture
    if isinstance(architecture, str) and ":" in architecture:
        architecture = _at(experiment.folder, architecture)
    return own_model(
        checkpoint=None if table.checkpoint is None else experiment.folder / table.checkpoint,
        architecture=architecture,
        name=table.name,
        mean=table.mean,
        std=table.std,
        examples=examples,
    )


class _Parser:
    """Builds methods from tables and collects what is wrong with them."""

    def __init__(self, where: str, problems: list[str]) -> None:
        self.where = where
        self.problems = problems

    def methods(self, kind: Kind, table: str | Table, i: int) -> list[Any]:
        """Return the methods of a table: one, or one for each value of a list."""
        name, fields = _named(table)
        if name is None:
            self.problems.append(f"{self.where}: [[{kind}]] {i + 1}: field 'name' is missing")
            return []
        swept = {key: fields.pop(key) for key in ("eps", "severity") if isinstance(fields.get(key), list)}
        made = []
        for values in itertools.product(*swept.values()):
            params = fields | dict(zip(swept, values, strict=True))
            method = _try(lambda params=params: build(kind, name, params), self.problems, self.where)
            if method is not None:
                made.append(method)
        return made

    def attacks(self, table: str | Table, i: int) -> list[AttackPlan]:
        """Return the attacks of a table with their access and the radii to score at."""
        name, fields = _named(table)
        access = fields.pop("access", ["transfer", "adaptive"])
        access = [access] if isinstance(access, str) else access
        unknown = [word for word in access if word not in ("transfer", "adaptive")]
        if unknown or not access:
            self.problems.append(
                f"{self.where}: attack {name!r}: access: expected 'transfer' and/or 'adaptive', got {access!r}"
            )
            return []
        cls = _try(lambda: find("attack", name), self.problems, self.where) if name else None
        score_at: tuple[float, ...] = ()
        if name is not None and cls is None:
            return []
        if cls is not None and cls.minimal_norm:
            given = fields.pop("eps", None)
            radii = (
                given
                if isinstance(given, list)
                else [DEFAULT_RADIUS[cls.norms[0]] if given is None else given]
            )
            checked_radii = _try(
                lambda: tuple(_radius(value) for value in radii),
                self.problems,
                f"{self.where}: attack {name!r}",
            )
            score_at = checked_radii or ()
        named = fields if name is None else {"name": name, **fields}
        return [AttackPlan(attack, tuple(access), score_at) for attack in self.methods("attack", named, i)]

    def recipe(
        self, defaults: Table, table: Table, i: int, source: Source | None
    ) -> tuple[str, Recipe] | None:
        """Return the name and recipe of a ``[[train]]`` table."""
        fields: Table = {"crop": source.crop, "flip": source.flip} if source is not None else {}
        fields |= defaults | table
        name = fields.pop("name", None)
        where = f"{self.where}: [[train]] {i + 1}"
        methods: Table = {}
        for kind in ("architecture", "regularizer"):
            given = fields.pop(kind, None)
            if given is None:
                self.problems.append(f"{where}: field {kind!r} is missing")
                continue
            method_name, params = _named(given)
            if method_name is None:
                self.problems.append(f"{where}: {kind}: field 'name' is missing")
                continue
            methods[kind] = _try(lambda k=kind, n=method_name, p=params: build(k, n, p), self.problems, where)
        if len(methods) < 2 or None in methods.values():
            return None
        try:
            recipe = Recipe(**methods, **fields)
        except pydantic.ValidationError as error:
            self.problems += explain(error, Recipe, where=where)
            return None
        return name or describe(recipe.regularizer).name, recipe


def _named(table: str | Table) -> tuple[str | None, Table]:
    """Split a method's table into its name and its fields."""
    if isinstance(table, str):
        return table, {}
    fields = dict(table)
    return fields.pop("name", None), fields


def _radius(value: Any) -> float:
    number = parse_number(value)
    if not isinstance(number, int | float) or isinstance(number, bool) or not number >= 0:
        raise ConfigError(f"eps: expected a number >= 0 such as 0.5 or '8/255', got {value!r}")
    return float(number)


def _try(make: Any, problems: list[str], where: str | None = None) -> Any:
    """Return what ``make`` makes, or ``None`` after noting its problems."""
    try:
        return make()
    except ConfigError as error:
        problems += [line if where is None else f"{where}: {line}" for line in error.problems]
    except (DataError, ValueError) as error:
        problems.append(str(error) if where is None else f"{where}: {error}")
    return None


def _at(folder: Path, name: str) -> str:
    """Return a path relative to the experiment's folder, or the name where there is no such path."""
    path = folder / name
    return str(path) if path.exists() or "/" in name else name


def _import(module: str, folder: Path, where: str) -> None:
    if str(folder) not in sys.path:
        sys.path.append(str(folder))
    try:
        importlib.import_module(module)
    except Exception as error:
        raise ConfigError(
            f"{where}: imports: {module!r} cannot be imported ({type(error).__name__}: {error})"
        ) from None


def _shape(examples: Examples) -> str:
    channels, height, width = examples.shape
    return f"{channels}x{height}x{width}"


def _without_none(value: Any) -> Any:
    """Drop ``None``, which TOML does not know, and turn tuples into lists."""
    if isinstance(value, Mapping):
        return {key: _without_none(item) for key, item in value.items() if item is not None}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_without_none(item) for item in value]
    return value
