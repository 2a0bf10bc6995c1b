"""An experiment file becomes validated objects, and those a list of cells.

Tables: ``[data]``, ``[recipe]`` (defaults of every ``[[train]]``), ``[[train]]``, ``[[model]]`` (own weights),
``[[attack]]``, ``[[corruption]]``, ``[[defense]]``. A method's table holds its ``name`` and its fields; ``eps`` and
``severity`` may be lists. All problems of a file are reported at once.
"""

from __future__ import annotations

import importlib
import itertools
import math
import sys
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
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
from robust_eval.registry import Kind, build, checked, describe, explain, find, names
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
    folder: str | None = None
    """Where relative paths and ``imports`` start; the experiment file's own folder if left out."""
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
    """Where relative paths and imports start."""

    def tables(self) -> Table:
        """Return the effective experiment as tables that :func:`parse` reads back."""
        tables = {k: v for k, v in _without_none(asdict(self.frame)).items() if v not in ((), [], {})}
        tables.pop("folder", None)
        for table in tables.get("model", ()):
            if "checkpoint" in table:
                table["checkpoint"] = _absolute(self.folder, table["checkpoint"])
            if _is_factory(table.get("architecture")):
                table["architecture"] = _absolute(self.folder, table["architecture"])
        for key in ("name", "pool"):
            if key in tables["data"]:
                tables["data"][key] = _at(self.folder, tables["data"][key])
        # modules are found by name, so the place to look for them is kept; first, above the tables
        return {"folder": str(self.folder.resolve()), **tables} if self.frame.imports else tables


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
        path = Path(name).expanduser()
        if path.is_dir():
            raise ConfigError(
                f"experiment {name}: expected a file or a run folder, got a folder without experiment.toml"
            )
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
    if frame.folder is not None:
        folder = Path(_absolute(folder, frame.folder))
    for module in frame.imports:
        _try(lambda module=module: _import(module, folder), problems, where)
    parser = _Parser(where, problems)
    attacks = [plan for i, table in enumerate(frame.attack) for plan in parser.attacks(table, i)]
    corruptions = [c for i, t in enumerate(frame.corruption) for c in parser.methods("corruption", t, i)]
    defenses = [d for i, t in enumerate(frame.defense) for d in parser.methods("defense", t, i)]
    source = _try(lambda: open_source(_at(folder, frame.data.name), size=frame.data.size), problems, where)
    if frame.data.pool is not None:
        _try(lambda: _pool_source(frame, folder), problems, where)
    recipes = [parser.recipe(frame.recipe, table, i, source) for i, table in enumerate(frame.train)]
    for i, table in enumerate(frame.model):
        parser.model(table, i)
    if not tables.get("train") and not tables.get("model"):
        problems.append(f"{where}: expected at least one [[train]] or [[model]] table, got none")
    called = [name for name, _ in filter(None, recipes)] + [table.name for table in frame.model if table.name]
    for name in sorted({name for name in called if called.count(name) > 1}):
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
    rest = {key: value for key, value in tables.items() if key not in wrong}
    if "data" in wrong:
        data = tables.get("data")
        name = data.get("name") if isinstance(data, Mapping) else None
        # nothing is measured after a problem: any set will do to look at the other tables with
        rest["data"] = {"name": name if isinstance(name, str) else "digits"}
    return adapter.validate_python(rest)


def plan(experiment: Experiment) -> list[Cell]:
    """Return the cells of an experiment, model by model.

    Loads the images, the pool and the user's own models; raises ``RobustEvalError`` for any that cannot be used.
    """
    source = _source(experiment)
    examples = source.test(experiment.frame.data.n)
    data = Data(source.name, examples, _pool(experiment, source, examples) if experiment.defenses else None)
    cells: dict[str, Cell] = {}
    for model in _models(experiment, source, examples):
        for cell in _cells(experiment, model, data):
            same = cells.get(cell.key)
            # one cell, however often it is asked for: it is scored at all of the radii
            score_at = tuple(sorted({*cell.score_at, *(same.score_at if same else ())}))
            cells[cell.key] = replace(same or cell, score_at=score_at)
    return list(cells.values())


def models(experiment: Experiment) -> list[ModelSource]:
    """Return the models to train, then the user's own, loaded and tried on an image."""
    source = _source(experiment)
    examples = source.test(experiment.frame.data.n) if experiment.frame.model else None
    return _models(experiment, source, examples)


def _source(experiment: Experiment) -> Source:
    data = experiment.frame.data
    return open_source(_at(experiment.folder, data.name), size=data.size)


def _models(experiment: Experiment, source: Source, examples: Examples | None) -> list[ModelSource]:
    found: list[ModelSource] = []
    if experiment.recipes:
        train = source.train()
        if train is None:
            raise DataError(
                f"data {experiment.frame.data.name}: has no training images, and [[train]] needs them; "
                "put train_images and train_labels into the file, or a folder train beside test"
            )
        for name, recipe in experiment.recipes:
            for option, numbers in (("mean", recipe.mean), ("std", recipe.std)):
                if numbers is not None and len(numbers) != train.shape[0]:
                    raise ConfigError(
                        f"model {name}: {option}: expected {train.shape[0]} numbers, one per channel, "
                        f"got {list(numbers)}"
                    )
            found.append(RecipeModel(name, recipe, train))
    for table in experiment.frame.model:
        assert examples is not None
        found.append(_own_model(experiment, table, examples))
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
        given = _pool_source(frame, experiment.folder)
        pool = given.train() or given.test(None)
    else:
        found = source.train()
        if found is None:
            mixing = ", ".join(dict.fromkeys(describe(defense).name for defense in experiment.defenses))
            raise DataError(
                f"data {frame.data.name}: {mixing} mixes with training images, and there are none; name some with "
                "--pool (pool = in [data]), or put train_images and train_labels into the file"
            )
        pool = found
    if pool.shape != examples.shape:
        raise DataError(
            f"pool {pool.source}: expected images of {_shape(examples)} like those measured, got {_shape(pool)}"
        )
    kept = pool.without(examples)
    if kept is None:
        raise DataError(
            f"pool {pool.source}: all of its {len(pool)} images are among those measured; "
            "name training images with --pool (pool = in [data])"
        )
    return kept


def _pool_source(frame: Frame, folder: Path) -> Source:
    """Open the pool; images of a folder are resized like those measured."""
    assert frame.data.pool is not None
    name = _at(folder, frame.data.pool)
    return open_source(name, size=frame.data.size if Path(name).is_dir() else None)


def _own_model(experiment: Experiment, table: ModelTable, examples: Examples) -> OwnModel:
    architecture = table.architecture
    if isinstance(architecture, str) and _is_factory(architecture):
        architecture = _absolute(experiment.folder, architecture)
    checkpoint = table.checkpoint
    return own_model(
        checkpoint=None if checkpoint is None else Path(_absolute(experiment.folder, checkpoint)),
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
        if not isinstance(name, str):
            self.problems.append(f"{self.where}: [[{kind}]] {i + 1}: {_no_name(name)}")
            return []
        swept = {key: fields.pop(key) for key in ("eps", "severity") if isinstance(fields.get(key), list)}
        for key in (key for key, values in swept.items() if not values):
            self.problems.append(f"{self.where}: {kind} {name!r}: {key}: expected at least one value, got []")
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
        if not isinstance(name, str):
            return self.methods("attack", table, i)
        access = fields.pop("access", ["transfer", "adaptive"])
        words = access if isinstance(access, list) else [access]
        if not words or any(word not in ("transfer", "adaptive") for word in words):
            self.problems.append(
                f"{self.where}: attack {name!r}: access: expected 'transfer' or 'adaptive' or both, got {access!r}"
            )
            words = []
        cls = _try(lambda: find("attack", name), self.problems, self.where)
        score_at: tuple[float, ...] = ()
        if cls is None:
            return []
        if cls.minimal_norm:
            given = fields.pop("eps", DEFAULT_RADIUS[cls.norms[0]])
            radii = given if isinstance(given, list) else [given]
            if not radii:
                self.problems.append(
                    f"{self.where}: attack {name!r}: eps: expected at least one value, got []"
                )
            found = [
                _try(lambda value=value: _radius(value), self.problems, f"{self.where}: attack {name!r}")
                for value in radii
            ]
            score_at = tuple(sorted({radius for radius in found if radius is not None}))
        made = self.methods("attack", {"name": name, **fields}, i)
        return [AttackPlan(attack, tuple(words), score_at) for attack in made]

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
            methods[kind] = self.method(kind, given, where)
        if name is not None and not isinstance(name, str):
            self.problems.append(f"{where}: name: expected a string, got {name!r}")
        try:
            recipe = Recipe(**methods, **fields)
        except pydantic.ValidationError as error:
            lines = explain(error, Recipe, where=where)
            # a method that could not be built has been explained above
            absent = tuple(f"{where}: {kind}:" for kind, method in methods.items() if method is None)
            self.problems += [line for line in lines if not line.startswith(absent)]
            return None
        return name or describe(recipe.regularizer).name, recipe

    def model(self, table: ModelTable, i: int) -> None:
        """Note what is wrong with the architecture of a ``[[model]]`` table; its files are looked at later."""
        where = f"{self.where}: [[model]] {i + 1}"
        if table.architecture is not None and not _is_factory(table.architecture):
            self.method("architecture", table.architecture, where)

    def method(self, kind: Kind, table: Any, where: str) -> Any:
        """Return the one method that a table describes, ``None`` after noting what is wrong with it."""
        if table is None:
            self.problems.append(f"{where}: field {kind!r} is missing")
            return None
        if not isinstance(table, str | Mapping):
            self.problems.append(f"{where}: {kind}: expected a name or a table, got {table!r}")
            return None
        name, params = _named(table)
        if not isinstance(name, str):
            self.problems.append(f"{where}: {kind}: {_no_name(name)}")
            return None
        return _try(lambda: build(kind, name, params), self.problems, where)


def _named(table: str | Mapping[str, Any]) -> tuple[Any, Table]:
    """Split a method's table into its name and its fields."""
    if isinstance(table, str):
        return table, {}
    fields = dict(table)
    return fields.pop("name", None), fields


def _no_name(name: object) -> str:
    return "field 'name' is missing" if name is None else f"name: expected a string, got {name!r}"


def _radius(value: Any) -> float:
    number = parse_number(value)
    if not isinstance(number, int | float) or isinstance(number, bool) or not 0 <= number < math.inf:
        raise ConfigError(f"eps: expected a finite number >= 0 such as 0.5 or '8/255', got {value!r}")
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
    """Return the path of data relative to the experiment's folder; a registered name, or one that nothing has,
    stays as it is.
    """
    path = _absolute(folder, name)
    return path if name not in names("data") and (Path(path).exists() or "/" in name) else name


def _absolute(folder: Path, name: str) -> str:
    return str((folder / Path(name).expanduser()).absolute())


def _is_factory(architecture: object) -> bool:
    return isinstance(architecture, str) and ":" in architecture


def _import(module: str, folder: Path) -> None:
    if str(folder) not in sys.path:
        sys.path.append(str(folder))
    try:
        importlib.import_module(module)
    except Exception as error:
        reason = ": ".join(filter(None, (type(error).__name__, " ".join(str(error).split()))))
        raise ConfigError(
            f"imports: {module!r} cannot be imported from {folder} or Python's path ({reason})"
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
