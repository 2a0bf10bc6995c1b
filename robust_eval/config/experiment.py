"""An experiment file becomes validated objects; :mod:`robust_eval.config.plan` makes cells of them.

Tables: ``[data]``, ``[recipe]`` (defaults of every ``[[train]]``), ``[[train]]``, ``[[model]]`` (own weights),
``[[attack]]``, ``[[corruption]]``, ``[[defense]]``, ``[[analysis]]``. A method's table holds its ``name`` and its
fields; ``eps`` and ``severity`` may be lists. All problems of a file are reported at once.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import pydantic

from robust_eval.config import sources
from robust_eval.config.budgets import budget
from robust_eval.config.card import card_tables, is_card
from robust_eval.config.estimable import is_estimable
from robust_eval.config.every import every
from robust_eval.config.frame import DataTable, Frame, ModelTable
from robust_eval.config.method_tables import AnalysisPlan, AttackPlan, MethodTables, Table, located
from robust_eval.config.preprocessing import prepared
from robust_eval.config.problems import Problems
from robust_eval.config.scale import note_changes, scaled
from robust_eval.config.settings import change_tables
from robust_eval.config.shipped import named_experiments, shipped
from robust_eval.config.toml import read_toml, toml
from robust_eval.config.trust import code_in
from robust_eval.corruptions._given import given_tables
from robust_eval.data import Examples, Source, absolute
from robust_eval.data.corrupted import CorruptedFiles
from robust_eval.data.mask import PixelMask, as_mask, read_mask
from robust_eval.errors import THEIRS, ConfigError, near
from robust_eval.methods import Corruption, Defense
from robust_eval.models.named import from_anywhere
from robust_eval.models.recipe import Recipe
from robust_eval.models.source import ModelSource
from robust_eval.paths import expanded, misnamed, resolved, shown, what_is
from robust_eval.printable import printable
from robust_eval.registry import describe, explain, names
from robust_eval.surroundings import surroundings_kept

__all__ = [
    "DataTable",
    "Experiment",
    "Given",
    "ModelTable",
    "import_module",
    "named_experiments",
    "parse",
    "read",
]


class Given(NamedTuple):
    """What was handed over in Python in the place of names and paths."""

    source: Source | None
    """The images to measure on, where they are not named."""
    models: tuple[Callable[[Examples], ModelSource], ...]
    """What makes each model, which is tried on images."""
    mask: Any = None
    """The pixels that attacks may change, as an array."""


@dataclass(frozen=True)
class Experiment:
    """A validated experiment: what is measured, and nothing about where it runs."""

    frame: Frame
    recipes: tuple[tuple[str, Recipe], ...]
    """Name and recipe of each model to train."""
    attacks: tuple[AttackPlan, ...]
    corruptions: tuple[Corruption, ...]
    defenses: tuple[Defense, ...]
    analyses: tuple[AnalysisPlan, ...]
    folder: Path
    """Where relative paths and imports start."""
    given: Given | None = None
    own_data: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """By the name of a model, what it is trained on where that is not what ``[data]`` says."""

    def source(self) -> Source:
        """Open the data to measure on."""
        given = None if self.given is None else self.given.source
        return sources.measured(self.frame, self.folder) if given is None else given

    def source_for(self, model: str) -> Source:
        """Open the data with the training images of one model."""
        return sources.measured(sources.changed(self.frame, self.own_data.get(model, {})), self.folder)

    def pool_source(self) -> Source:
        """Open the pool that the file names."""
        return sources.pool(self.frame, self.folder)

    def corrupted(self) -> CorruptedFiles | None:
        """Open the corrupted images that the file names, if it does."""
        return sources.corrupted(self.frame, self.folder)

    def other_source(self, name: str) -> Source:
        """Open a second set of images, which an analysis compares with."""
        return sources.other(self.frame, self.folder, name)

    def mask(self, source: Source, examples: Examples) -> PixelMask | None:
        """Return the pixels that attacks may change; ``None`` where all are."""
        ordered = not source.shuffled
        if self.given is not None and self.given.mask is not None:
            return as_mask(self.given.mask, examples.shape, len(examples), ordered=ordered)
        if self.frame.mask is None:
            return None
        path = Path(self.absolute(self.frame.mask))
        return read_mask(path, examples.shape, len(examples), ordered=ordered)

    def absolute(self, path: str) -> str:
        """Return a path of the file, which starts at the experiment's folder, as one from anywhere."""
        return _absolute(self.folder, path)

    def tables(self) -> Table:
        """Return the effective experiment as tables that :func:`parse` reads back."""
        tables = {k: v for k, v in _without_none(asdict(self.frame)).items() if v not in ((), [], {})}
        tables.pop("folder", None)
        for table in tables.get("model", ()):
            if "checkpoint" in table:
                table["checkpoint"] = _absolute(self.folder, table["checkpoint"])
            if "architecture" in table:
                table["architecture"] = from_anywhere(table["architecture"], self.absolute)
        for table in (tables.get("recipe", {}), *tables.get("train", ()), *tables.get("attack", ())):
            if isinstance(table, dict):
                table |= located(table, self.folder)
        for table in tables.get("analysis", ()):
            if isinstance(table, dict) and "other" in table:
                others = [table["other"]] if isinstance(table["other"], str) else table["other"]
                table["other"] = [sources.at(self.folder, other) for other in others]
        for key in ("name", "pool"):
            if key in tables["data"]:
                tables["data"][key] = sources.at(self.folder, tables["data"][key])
        if "mask" in tables:
            tables["mask"] = _absolute(self.folder, tables["mask"])
        if "corrupted" in tables["data"]:
            tables["data"]["corrupted"] = _absolute(self.folder, tables["data"]["corrupted"])
        # modules are found by name, so the place to look for them is kept; first, above the tables
        return {"folder": str(self.folder.resolve()), **tables} if self.frame.imports else tables


def read(
    name: str,
    *,
    data: str | None = None,
    checks: str | None = None,
    fields: Mapping[str, Mapping[str, Any]] | None = None,
    of_run_folder: bool = False,
    allow_imports: bool = False,
    of: str | None = None,
    scale: str | None = None,
    estimate: float | None = None,
) -> Experiment:
    """Read an experiment: a shipped one by name, or a file; raises ``ConfigError`` with all of its problems.

    ``data`` is the name or path of a set to take instead of the one that the file names; a path is relative to the
    current directory. ``checks`` and ``estimate`` take the place of the file's, and ``fields`` of those in its
    ``[data]`` and ``[recipe]``. Code that a run folder names may be anybody's: the ``imports`` and factories of a file
    ``of_run_folder``, as one beside ``records/`` is, and of a card are refused without ``allow_imports``. ``of`` is the
    run of a card of several. ``scale`` is the size to run at, ``small`` or ``full``, of a file that comes in two.
    """
    foreign = of_run_folder
    tables: Table
    if name in named_experiments():
        tables, folder = shipped(name), Path.cwd()
    else:
        if (problem := misnamed(name)) is not None:
            raise ConfigError(f"experiment: {problem}")
        path = expanded(name)
        if (lies := what_is(path)) == "a folder":
            raise ConfigError(
                f"experiment {name}: expected a file or a run folder, got a folder without experiment.toml"
            )
        if lies == "none":
            known = named_experiments()
            raise ConfigError(
                f"experiment {name!r}: no such file or name{near(name, known)}; shipped: {', '.join(known)}"
            )
        folder = resolved(path).parent
        foreign |= is_card(name) or (folder / "records").is_dir()
        if is_card(name):
            tables = card_tables(path, of)
        else:
            tables = toml(
                read_toml(path, where=f"experiment {shown(name)}"), where=f"experiment {shown(name)}"
            )
    if foreign and not allow_imports and (code := code_in(tables)):
        what = "card" if is_card(name) else "file of a run folder"
        raise ConfigError(
            f"experiment {name}: this {what} would run code ({', '.join(code)}), looked for in "
            f"{tables.get('folder', folder)} first; where you trust it, give --allow-imports"
        )
    tables = scaled(tables, scale, where=f"experiment {shown(name)}")
    if data is not None:
        if (problem := misnamed(data)) is not None:
            raise ConfigError(f"--data: {problem}")
        given = data if data in names("data") else absolute(Path.cwd(), data)
        table = tables.get("data")
        tables["data"] = {**(table if isinstance(table, dict) else {}), "name": given}
    change_tables(tables, fields or {})
    changed = [f"{table}.{field}" for table, own in (fields or {}).items() for field in own]
    note_changes(tables, [*(["data.name"] if data is not None else []), *changed])
    if checks is not None:
        tables["checks"] = checks
    if estimate is not None:
        tables["estimate"] = estimate
    return parse(tables, where=name, folder=folder)


def parse(tables: Mapping[str, Any], *, where: str, folder: Path, given: Given | None = None) -> Experiment:
    """Return the experiment that tables describe; raises ``ConfigError`` with all of their problems.

    Images and models that are ``given`` need no tables.
    """
    problems = Problems(where)
    frame = _frame(dict(tables), problems)
    for title in (frame.name, *(table.name or "" for table in frame.model)):
        if "\0" in title:
            problems.add(f"name: expected text, got {title!r} with a NUL character; leave it out")
    named_models = tuple(replace(table, name=table.name and printable(table.name)) for table in frame.model)
    frame = replace(frame, name=printable(frame.name), model=named_models)
    if frame.folder is not None:
        folder = Path(_absolute(folder, frame.folder))
    for module in frame.imports:
        with problems:
            import_module(module, folder)
    images = None if given is None else given.source
    if images is None:
        with problems:
            frame = prepared(
                frame, lambda path: sources.at(folder, path), lambda path: _absolute(folder, path)
            )
    parser = MethodTables(problems, folder)
    named: Sequence[Table] = ()
    if frame.budget is not None:
        with problems:
            named = budget(frame.budget)
    tried = [*named, *every("attack", frame.attack, problems)]
    attacks = [plan for i, table in enumerate(tried) for plan in parser.attacks(table, i - len(named))]
    asked: Sequence[str | Table] = every("corruption", frame.corruption, problems)
    with problems:
        if (files := sources.corrupted(frame, folder)) is not None:
            asked = ()  # where they cannot be used, none is looked at further
            among = list(files.severities)
            asked = given_tables(files, every("corruption", frame.corruption, problems, among=among))
    corruptions = [c for i, t in enumerate(asked) for c in parser.methods("corruption", t, i)]
    defenses = [
        d
        for i, t in enumerate(every("defense", frame.defense, problems))
        for d in parser.methods("defense", t, i)
    ]
    analyses = [plan for i, table in enumerate(frame.analysis) for plan in parser.analyses(table, i)]
    source: Source | None = None
    with problems:
        source = sources.measured(frame, folder) if images is None else images
    if frame.data.pool is not None:
        with problems:
            sources.pool(frame, folder)
    recipes = [parser.recipe(frame.recipe, table, i, source) for i, table in enumerate(frame.train)]
    own_data: dict[str, Table] = {}
    for i, (own, found) in enumerate(zip(frame.train, recipes, strict=True)):
        if changes := {**frame.recipe, **own}.get("data"):
            with problems.at(f"[[train]] {i + 1}"):
                sources.changed(frame, changes)
                own_data |= {printable(name): changes for name, _ in found[:1]}
    # the trainings of one table differ in their seed alone and are one line of a report
    called = [found[0][0] for found in recipes if found] + [table.name for table in frame.model if table.name]
    if frame.estimate is not None and not problems.lines and not any(map(is_estimable, attacks)):
        problems.add(
            "estimate: expected an attack that it is for, inside a radius and not towards one class, such as pgd, got "
            f"{', '.join(describe(plan.attack).name for plan in attacks) or 'none'}; name one, or leave it out"
        )
    for i, table in enumerate(frame.model):
        parser.model(table.checkpoint, table.architecture, i)
    if given is None and not tables.get("train") and not tables.get("model"):
        problems.add("expected at least one [[train]] or [[model]] table, got none")
    for name in sorted({name for name in called if called.count(name) > 1}):
        problems.add(f"two models are named {name!r}; give one of them another name")
    problems.require_none()
    return Experiment(
        frame,
        tuple((printable(name), recipe) for name, recipe in chain.from_iterable(recipes)),
        tuple(attacks),
        tuple(corruptions),
        tuple(defenses),
        tuple(analyses),
        folder,
        given,
        own_data,
    )


def _frame(tables: Table, problems: Problems) -> Frame:
    """Return the frame; what is wrong with it is noted and left out, so that the methods are looked at too."""
    adapter: pydantic.TypeAdapter[Frame] = pydantic.TypeAdapter(Frame)
    try:
        return adapter.validate_python(tables)
    except pydantic.ValidationError as error:
        problems.lines += explain(error, Frame, where=problems.place)
        wrong = {problem["loc"][0] for problem in error.errors()}
    rest = {key: value for key, value in tables.items() if key not in wrong}
    if "data" in wrong:
        data = tables.get("data")
        name = data.get("name") if isinstance(data, Mapping) else None
        # nothing is measured after a problem: any set will do to look at the other tables with
        named = isinstance(name, str) and misnamed(name) is None
        rest["data"] = {"name": name if named else "digits"}
    return adapter.validate_python(rest)


def _absolute(folder: Path, name: str) -> str:
    return str((folder / expanded(name)).absolute())


def import_module(module: str, folder: Path) -> None:
    """Import a module of the user's, which registers methods; raises ``ConfigError`` where that cannot be done."""
    file = folder.joinpath(*module.split(".")).with_suffix(".py") if module.strip(".") else folder
    if (lies := what_is(file)) not in ("a file", "a folder", "none"):
        raise ConfigError(f"imports: {module!r}: expected a Python file, got {lies}")
    if str(folder) not in sys.path:
        sys.path.append(str(folder))
    try:
        with surroundings_kept():
            importlib.import_module(module)
    except THEIRS as error:
        reason = ": ".join(filter(None, (type(error).__name__, " ".join(str(error).split()))))
        raise ConfigError(
            f"imports: {module!r} cannot be imported from {folder} or Python's path ({reason})"
        ) from None


def _without_none(value: Any) -> Any:
    """Drop ``None``, which TOML does not know, and turn tuples into lists."""
    if isinstance(value, Mapping):
        return {key: _without_none(item) for key, item in value.items() if item is not None}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_without_none(item) for item in value]
    return value
