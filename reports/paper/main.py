"""A paper's main table, before it is fitted into a width.

Columns by preset, the most important first (those at the end go first where not all fit):

- ``paper``: those of the answer: the worst case of each norm at one radius, clean, the mean over corruptions, checks.
- ``robustness``: clean, the worst case at each norm and radius, the least median distance in each norm, checks.
- ``corruption``: clean, the mean over corruptions and over each group of them, mCE where it is known, the checks.
- ``regularizers``: models without a defense: what differs in their recipes, then clean, worst cases and corruptions.

A column in which no line has anything, and a name that is the same in every line, are left out, which is said.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from reports.bodies import Answer, AnswerLine, legend_of
from reports.paper.offered import FACTS, GROUPS, Catalogue, Offered, Told
from reports.paper.style import Style
from reports.section import Section, Source
from reports.tables import MISSING
from robust_eval.errors import ConfigError, near
from robust_eval.results.entry import Entry
from robust_eval.results.names import params_text, value_text
from robust_eval.threat import DEFAULT_RADIUS, threat_text

__all__ = ["Main", "MainColumn", "MainLine", "main_table"]

_TOLD = ("steps", "restarts", "queries", "draws")
"""Parameters that say how hard an attack tries: those of a caption."""
_UNMEASURED = (
    "preset {preset}: expected records of {what} images, got none; measure them, or choose another --preset"
)
_WORDS = ("regularizer", "arch", "optimizer")


class MainLine(NamedTuple):
    """The names of a line."""

    names: tuple[str, ...]


class MainColumn(NamedTuple):
    """A column of the main table."""

    name: str
    head: str
    over: str
    cells: tuple[Told | None, ...]
    words: bool
    """Whether it is one of words."""
    note: str


@dataclass(frozen=True)
class Main:
    """The main table of a paper."""

    style: Style
    heads: tuple[str, ...]
    lines: tuple[MainLine, ...]
    columns: tuple[MainColumn, ...]
    """In the order they are shown."""
    importance: tuple[str, ...]
    """Names of columns: the last goes first where they do not all fit."""
    dropped: tuple[str, ...]
    """What is left out whatever the width, each with the reason."""
    told: tuple[str, ...]
    """Sentences of the caption, before those of the columns."""
    trainings: str
    """What ± means; empty where there is none."""
    attacks: tuple[str, ...]
    """Each attack with all its parameters."""

    def notes(self, columns: Sequence[MainColumn], *, intervals: bool) -> Iterator[str]:
        """Yield what a caption has to say of the columns that are shown."""
        yield from dict.fromkeys(column.note for column in columns if column.note)
        cells = [cell for column in columns for cell in column.cells if cell is not None]
        if self.trainings and any("±" in cell.text for cell in cells):
            yield self.trainings
        if intervals and any(cell.interval for cell in cells):
            yield "In brackets: 95 % intervals."
        checks = [cell for column in columns if column.name == "checks" for cell in column.cells if cell]
        signs = {cell.text for cell in checks} | {cell.mark for cell in cells}
        legend = legend_of({cell.standing for cell in cells}, signs)
        if legend:
            yield legend[0].upper() + legend[1:] + "."


def main_table(source: Source, parts: Sequence[Section], style: Style) -> Main | None:
    """Return the main table; ``None`` where nothing was measured that it could hold.

    Raises ``ConfigError`` for a column that is not there, and for a preset whose subject was not measured.
    """
    answer = next((part.body for part in parts if isinstance(part.body, Answer)), None)
    if answer is None or not answer.lines:
        return None
    catalogue = Catalogue(source, answer, parts)
    lines = [line for line in answer.lines if style.preset != "regularizers" or line.line.defense == "none"]
    if not lines:
        raise ConfigError(
            "preset regularizers: expected a model without a defense, got none; choose another --preset"
        )
    shown = _asked(style, catalogue) if style.columns else _preset(style.preset, catalogue)
    made = [_column(catalogue.column(name), lines) for name in shown]
    empty = [column.name for column in made if not any(column.cells)]
    same = [] if style.columns else [column.name for column in made if _is_same(column, lines)]
    columns = tuple(column for column in made if column.name not in (*empty, *same))
    names, told, left = _names(answer, lines)
    dropped = (
        *left,
        *(f"{name}: nothing of it was measured" for name in empty),
        *(f"{name}: the same in every line, or the model's name again" for name in same if name not in empty),
    )
    return Main(
        style,
        tuple(names),
        tuple(MainLine(tuple(texts[i] for texts in names.values())) for i in range(len(lines))),
        columns,
        _importance(style, shown),
        dropped,
        (f"Accuracy in percent. {answer.asked[0]}", *answer.asked[1:], *_attacked(source), *told),
        _trainings(source, lines),
        tuple(dict.fromkeys(_in_full(entry) for entry in _attacks(source))),
    )


def _asked(style: Style, catalogue: Catalogue) -> tuple[str, ...]:
    known = catalogue.names
    problems = [
        f"columns: unknown {name!r}{near(name, known)}; known: {', '.join(_short(known))}, and the headings of "
        "table.md, such as " + repr(known[-1])
        for name in style.columns
        if name not in known
    ]
    if problems:
        raise ConfigError(problems)
    return style.columns


def _short(known: Sequence[str]) -> list[str]:
    """Return the names that are not headings of other tables."""
    end = known.index("trainings") + 1 if "trainings" in known else len(known)
    return list(known[:end])


def _preset(preset: str, catalogue: Catalogue) -> tuple[str, ...]:
    """Return the columns of a preset in the order they are shown."""
    known = catalogue.names
    norms = [name for name in known[: known.index("checks")] if _is_worst(name, catalogue)]
    means = [name for name in known if name in GROUPS]
    distances = [name for name in known if name.startswith("distance ")]
    wanted: dict[str, list[str]] = {
        "paper": ["clean", *norms, "corruptions", "checks"],
        "robustness": ["clean", *catalogue.worst, *distances, "checks"],
        "corruption": ["clean", *means, "corruptions", "mce", "checks"],
        "regularizers": [*FACTS[:-1], "clean", *norms, "corruptions"],
    }
    if preset == "robustness" and not (catalogue.worst or distances):
        raise ConfigError(_UNMEASURED.format(preset=preset, what="attacked"))
    if preset == "corruption" and "corruptions" not in known:
        raise ConfigError(_UNMEASURED.format(preset=preset, what="corrupted"))
    return tuple(name for name in wanted[preset] if name in known)


def _is_worst(norm: str, catalogue: Catalogue) -> bool:
    """Whether a name is that of a norm with a worst case."""
    return any(name.startswith(f"worst case {norm} ") for name in catalogue.worst)


def _importance(style: Style, shown: Sequence[str]) -> tuple[str, ...]:
    """Return the columns such that the last is the first to go."""
    if style.columns:
        return tuple(shown)
    first = [name for name in shown if name not in ("clean", "checks", "corruptions", "mce", *GROUPS, *FACTS)]
    order = {
        "corruption": ["corruptions", "clean", "mce", *GROUPS, "checks"],
        "regularizers": [*first[:1], "clean", "regularizer", *first[1:], "corruptions", *FACTS],
    }.get(style.preset, [*first[:1], "clean", *first[1:], "corruptions", "checks"])
    return tuple(dict.fromkeys(name for name in order if name in shown))


def _column(offered: Offered, lines: Sequence[AnswerLine]) -> MainColumn:
    cells = tuple(offered.cells.get(line.line) for line in lines)
    return MainColumn(offered.name, offered.head, offered.over, cells, offered.name in _WORDS, offered.note)


def _is_same(column: MainColumn, lines: Sequence[AnswerLine]) -> bool:
    """Whether a fact tells no lines apart that their names do not."""
    texts = [cell.text if cell is not None else MISSING for cell in column.cells]
    if column.name not in FACTS or column.name == "epochs":
        return False
    return len(set(texts)) == 1 or texts == [line.line.model for line in lines]


def _names(answer: Answer, lines: Sequence[AnswerLine]) -> tuple[dict[str, list[str]], list[str], list[str]]:
    """Return the names of the lines by heading, what a caption says instead of some, and what is left out."""
    names = {"model": [line.line.model for line in lines]}
    told, left = [], []
    if any(line.line.defense != "none" for line in lines):
        names["defense"] = [MISSING if line.line.defense == "none" else line.line.defense for line in lines]
    else:
        left.append("defense: none in every line")
    seen = dict.fromkeys(line.seen for line in lines if line.seen)
    if len(seen) > 1:
        names["attacker"] = [line.seen or MISSING for line in lines]
    elif seen:
        told.append(f"Attacks on defended models: {next(iter(seen))}.")
        left.append("attacker: the same for every defense, which the caption says")
    for head in answer.heads:
        texts = [MISSING if (value := getattr(line.line, head)) is None else str(value) for line in lines]
        if len(set(texts)) > 1:
            names[head.replace("_", " ")] = texts
    return names, told, left


def _attacks(source: Source) -> list[Entry]:
    found = [entry for entry in source.entries if entry.labels["family"] == "attack"]
    return sorted(
        found,
        key=lambda e: (
            *(e.labels["norm"] != norm for norm in DEFAULT_RADIUS),
            *(e.labels["norm"], e.labels["eps"] or 0.0, e.labels["perturbation"]),
        ),
    )


def _attacked(source: Source) -> Iterator[str]:
    """Yield the attacks with the parameters that say how hard they try, and the seed."""
    named: dict[str, list[str]] = {}
    for entry in _attacks(source):
        effort = [f"{value_text(entry.params[name])} {name}" for name in _TOLD if _counts(entry.params, name)]
        text = entry.labels["perturbation"] + (f" ({', '.join(effort)})" if effort else "")
        if text not in named.setdefault(str(entry.labels["norm"]), []):
            named[str(entry.labels["norm"])].append(text)
    if named:
        yield "Attacks: " + "; ".join(f"{norm}: {', '.join(texts)}" for norm, texts in named.items()) + "."
    seeds = sorted({str(entry.labels["seed"]) for entry in source.entries})
    yield f"Seed of the attacks and corruptions: {', '.join(seeds)}."


def _counts(params: Mapping[str, Any], name: str) -> bool:
    value = params.get(name)
    return isinstance(value, int) and not isinstance(value, bool) and (name == "steps" or value > 1)


def _in_full(entry: Entry) -> str:
    rest = {name: value for name, value in entry.params.items() if name not in ("eps", "norm")}
    return f"{entry.labels['perturbation']} {threat_text(entry.labels['norm'], entry.labels['eps'])}: " + (
        params_text(rest)
    )


def _trainings(source: Source, lines: Sequence[AnswerLine]) -> str:
    models = {line.line.model for line in lines if line.line.train_seed is None}
    seeds = sorted(
        {
            int(entry.labels["train_seed"])
            for entry in source.entries
            if entry.labels["model"] in models and entry.labels["train_seed"] is not None
        }
    )
    if len(seeds) < 2:
        return ""
    return f"±: standard deviation over trainings with the seeds {', '.join(map(str, seeds))}."
