"""``card.json``: all that a reader needs to repeat a report's numbers, and the experiment that does.

The schema is ours, version 1: the classes below, in the order of the file. Who reads a card of another version is told
so. A card is written with every report (``reports/exports/card.py``); :func:`card_tables` gives its experiment back,
and :func:`require_cells` says whether that measures the same cells. Of weights it holds the sha256, and their path
within the experiment alone: where a file has moved, its path is changed there. It holds what an experiment file does,
paths of whoever wrote it among it.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from pathlib import Path
from typing import Any, Literal

import pydantic
import tomli_w
from pydantic import BaseModel, ConfigDict, Field

from robust_eval.config.toml import toml
from robust_eval.errors import CheckpointError, ConfigError, near
from robust_eval.findings import Verdict
from robust_eval.identity import file_sha256
from robust_eval.paths import expanded, is_file, require_file, shown

__all__ = ["Card", "CardRun", "card_run", "card_tables", "is_card", "read_card", "require_cells"]

LARGEST = 64 << 20
"""Bytes of a card: more is another file."""


class _Part(BaseModel):
    """Nothing but what is named, and no type in place of another."""

    model_config = ConfigDict(extra="forbid", strict=True)


class Images(_Part):
    """The images that were measured."""

    name: str
    n: int | None
    sha256: str | None
    """Of pixels and labels."""
    source: dict[str, Any] | None
    """The ``[data]`` table of the experiment: a registered set or a path, and what was changed about it."""


class Threat(_Part):
    """What an adversary may do."""

    norm: str
    eps: list[float]
    """Radii that were attacked at, in units of the [0, 1] pixel range, of l0 in pixels; empty if only the smallest was
    looked for."""
    access: list[str]
    """How attacks were aimed at defended models; ``none`` at models without a defense."""


class Model(_Part):
    """One model that was measured."""

    name: str
    architecture: str
    architecture_params: dict[str, Any] | None
    regularizer: str
    train_seed: int | None
    recipe: dict[str, Any] | None
    """All of its training, where it was trained here."""
    training_data_sha256: str | None
    mean: list[float] | None
    std: list[float] | None
    weights_sha256: list[str]
    """Of the file; several where a model was trained again."""


class Method(_Part):
    """An attack, a corruption, a defense or an analysis with all of its parameters."""

    name: str
    version: int | None
    params: dict[str, Any]
    norm: str | None = None
    eps: list[float] = []
    """Radii, of which a minimal-norm attack has those that it was scored at."""
    access: list[str] = []
    draws: int | None = None
    """Over which a randomised model is scored."""
    substitute: str | None = None
    """What stood in for parts of an attack that are not defined for a model's few classes."""
    pool_sha256: str | None = None
    """The training images that it mixes with."""


class Headline(_Part):
    """One of the numbers that decide, with its 95 % interval."""

    model: str
    defense: str
    access: str
    data: str
    seed: int | None
    train_seed: int | None
    what: str
    """``clean``, ``worst_case`` over the attacks of a norm, or ``corruptions`` for their mean."""
    norm: str | None
    eps: float | None
    metric: str
    value: float | None
    """``None`` where it is not there, and ``reason`` says why."""
    ci_low: float | None
    ci_high: float | None
    spread: float | None
    """Standard deviation over trainings, where the value is their mean."""
    n: int | None
    estimated_for: int | None = None
    """Of an estimate from ``n`` attacked images, how many it is for."""
    verdict: Verdict
    checks: str
    """Those that were raised, as in ``results.csv``; ``ok`` where none was."""
    reason: str | None = None


class Raised(_Part):
    """A check that warned, failed or could not be made."""

    name: str
    verdict: Verdict
    records: int
    figures: str
    advice: str


class Checked(_Part):
    """What the checks say of one model with one defense."""

    model: str
    defense: str
    data: str
    verdict: Verdict
    words: str
    relied: bool
    """Whether nothing was raised on a model that was examined."""
    examined: str
    raised: list[Raised]
    passed: list[str]


class Failed(_Part):
    """A cell that was asked for and stopped with an error: it has no number."""

    run: str
    key: str
    model: str
    defense: str
    access: str
    family: str
    perturbation: str
    error: str


class Weights(_Part):
    """The file that a ``[[model]]`` table names."""

    model: int
    """Which of the experiment's ``[[model]]`` tables, from 0."""
    sha256: str | None


class CardRun(_Part):
    """One run folder: its experiment and the cells that came from it."""

    name: str
    command: str | None
    """What repeats it."""
    not_repeatable: str | None
    """Why nothing does."""
    checkpoints: list[Weights]
    experiment: dict[str, Any] | None
    """The run folder's ``experiment.toml`` as it was when the report was written."""
    cells: list[str]
    """Keys of its records, examinations and analyses among them."""


class Card(_Part):
    """All of a card."""

    model_config = ConfigDict(extra="forbid", strict=True, populate_by_name=True)

    schema_: Literal[1] = Field(alias="schema")
    asked: list[str]
    """What was asked, in sentences."""
    threats: list[Threat]
    data: list[Images]
    models: list[Model]
    defenses: list[Method]
    attacks: list[Method]
    corruptions: list[Method]
    analyses: list[Method]
    seeds: list[int]
    """Of attacks and corruptions."""
    numbers: list[Headline]
    checks: list[Checked]
    failed: list[Failed]
    left_out: list[str]
    """Records that could not be believed."""
    versions: dict[str, list[str]]
    machine: dict[str, list[str]]
    """What provenance says of device and precision."""
    cost: dict[str, float]
    """Sums over all records: seconds, forward and backward passes."""
    runs: list[CardRun]


def is_card(name: str) -> bool:
    """Whether a path is meant as a card: it ends as one does."""
    return name.lower().endswith(".json")


def read_card(path: Path) -> Card:
    """Return the card in a file; raises ``ConfigError`` for any other file."""
    where = f"card {shown(path)}"
    require_file(path, where=where, wanted="a card.json of a report", error=ConfigError)
    try:
        if (size := path.stat().st_size) > LARGEST:
            raise ConfigError(f"{where}: expected at most {LARGEST >> 20} MiB, got {size / 1e6:.0f} MB")
        found = json.loads(path.read_text(encoding="utf-8"), parse_constant=_no_number)
    except OSError as error:
        raise ConfigError(f"{where}: cannot be read ({error.strerror})") from None
    except (ValueError, RecursionError) as error:
        why = str(error).splitlines()[0] if isinstance(error, ValueError) else "it lies too deep in itself"
        raise ConfigError(
            f"{where}: expected the JSON of a report's card, got another file ({why})"
        ) from None
    if not isinstance(found, dict) or not {"schema", "runs"} <= set(found):
        raise ConfigError(
            f"{where}: expected the card.json that `robust-eval report` writes, got other JSON; give a card, an "
            "experiment file (.toml) or a run folder"
        )
    if found["schema"] != 1 or isinstance(found["schema"], bool):
        raise ConfigError(
            f"{where}: expected a card of schema 1, got {str(found['schema'])[:40]!r}; "
            "use the version that wrote it"
        )
    try:
        return Card.model_validate(found)
    except (pydantic.ValidationError, RecursionError) as error:
        raise ConfigError(f"{where}: {_first(error)}; write the report anew") from None


def card_run(path: Path, of: str | None = None) -> CardRun:
    """Return the run of a card that is to be repeated, by its name where there are several."""
    card, where = read_card(path), f"card {shown(path)}"
    names = [run.name for run in card.runs]
    listed = ", ".join(names)
    if of is None and len(names) != 1:
        if not names:
            raise ConfigError(f"{where}: it has no run to repeat; write the report anew")
        raise ConfigError(
            f"{where}: it is of {len(names)} runs, which are repeated one at a time; say which with --of: {listed}"
        )
    found = [run for run in card.runs if of is None or run.name == of]
    if not found:
        raise ConfigError(f"{where}: --of {of!r}: it has no such run{near(str(of), names)}; it has {listed}")
    return found[0]


def card_tables(path: Path, of: str | None = None) -> dict[str, Any]:
    """Return the experiment of a card as tables, after its weights have been found to be those that were measured."""
    run, where = card_run(path, of), f"card {shown(path)}"
    if run.experiment is None:
        raise ConfigError(f"{where}: it cannot be repeated: {run.not_repeatable or 'it has no experiment'}")
    try:
        tables = toml(tomli_w.dumps(run.experiment), where=where)
    except (TypeError, ValueError, RecursionError):
        raise ConfigError(f"{where}: expected an experiment's tables, got another form") from None
    for weights in run.checkpoints:
        _require_weights(where, tables, weights, path.resolve().parent)
    return tables


def require_cells(cells: Collection[str], run: CardRun, *, where: str) -> None:
    """Raise ``ConfigError`` unless the cells that were measured are among these keys."""
    missing = set(run.cells) - set(cells)
    if missing:
        raise ConfigError(
            f"{where}: its experiment gives {len(run.cells) - len(missing)} of its {len(run.cells)} cells here: data, "
            "weights, code or version of a method are other ones, or the run folder held several experiments; give "
            "what was measured, or run its experiment as one of your own, without its numbers"
        )


def _require_weights(where: str, tables: dict[str, Any], weights: Weights, folder: Path) -> None:
    models = tables.get("model")
    table = models[weights.model] if isinstance(models, list) and 0 <= weights.model < len(models) else None
    named = table.get("checkpoint") if isinstance(table, dict) else None
    if not isinstance(named, str):
        raise ConfigError(f"{where}: model {weights.model}: expected the path of its checkpoint, got none")
    file = folder / expanded(named)
    fix = "put it there, or write its path into the card's experiment"
    wanted = "the file that was measured" if weights.sha256 is None else f"sha256 {weights.sha256[:12]}"
    if not is_file(file):
        raise ConfigError(f"{where}: checkpoint {shown(named)}: expected {wanted}, got no such file; {fix}")
    try:
        got = file_sha256(file)
    except CheckpointError as error:
        raise ConfigError(f"{where}: {error}") from None
    if weights.sha256 is not None and got != weights.sha256:
        raise ConfigError(
            f"{where}: checkpoint {shown(named)}: expected {wanted}, got {got[:12]}: another file; {fix}"
        )


def _no_number(name: str) -> None:
    raise ValueError(f"{name} is no number")


def _first(error: Exception) -> str:
    if not isinstance(error, pydantic.ValidationError):
        return "it lies too deep in itself"
    problem = error.errors()[0]
    place = ".".join(map(str, problem["loc"]))[:120]
    return f"{place}: {problem['msg'][0].lower()}{problem['msg'][1:]}"
