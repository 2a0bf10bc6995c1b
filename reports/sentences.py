"""Sentences that a reader may quote, made from the numbers by rule.

1. Who stands best at the main column (the first norm's worst case), if the paired test says so, or who share the lead;
   who follows, and who cannot be told from it.
2. What each defense adds once the attack sees it, on how many models, and what it costs in clean accuracy.
3. Who keeps most under corruptions, where the main column is another.
4. Whether the checks let a reader quote this.

"Is" is only said of what the test tells apart (:mod:`reports.standing`, level 0.05, Holm).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from reports.answer import Decided, Reliance
from reports.paired import LEVEL, Difference, difference, holm
from reports.scores import Scored
from reports.standing import alike, undoubted
from reports.tables import CLEAN, MEAN, Column, Line, Number, counted

__all__ = ["name_of", "sentences"]

_NONE = Number("accuracy", None, None, None, None, "ok", "none")
_NAMED = 4
"""Names in a row that a reader takes in; of more, their number."""


def sentences(found: Decided, scored: Scored, relied: Mapping[Line, tuple[Reliance, str]]) -> tuple[str, ...]:
    """Return the sentences; ``relied`` says of each line whether its checks let one rely on it, and in words."""
    told = []
    lines = found.table.lines
    several = len({line.data for line in lines}) > 1
    for data in dict.fromkeys(line.data for line in lines):
        own = [line for line in lines if line.data == data]
        on = f"On {data}: " if several else ""
        for sentence in (*_lead(own, found, scored), *_defenses(own, found, scored), *_mean(own, found)):
            told.append(on + sentence)
    return (*told, *_trust(lines, relied))


def name_of(line: Line, *, lines: Sequence[Line] = ()) -> str:
    """Return a line's model with its defense, as ``mixup behind sum_augmentation``; seeds where they differ."""
    seeds = {other.seed for other in lines} | {line.seed}
    train = {other.train_seed for other in lines if other.model == line.model} | {line.train_seed}
    more = [f"seed {line.seed}"] if len(seeds) > 1 else []
    more += [f"train seed {line.train_seed}"] if len(train) > 1 and line.train_seed is not None else []
    name = line.model if line.defense == "none" else f"{line.model} behind {line.defense}"
    return f"{name} ({', '.join(more)})" if more else name


def _lead(lines: Sequence[Line], found: Decided, scored: Scored) -> Iterator[str]:
    main, cells = found.main, found.table.cells
    if main is None:
        return
    at = _at(main)
    measured = [line for line in lines if _value(cells, line, main) is not None]
    sure = [line for line in measured if undoubted(cells[line, main])]
    ranked = sorted(sure or measured, key=lambda line: -(_value(cells, line, main) or 0.0))
    if not ranked:
        if main.family == "attack":
            yield f"There is no number{at}; other radii and norms are in the report."
        return
    first, *others = ranked
    top = cells[first, main]
    clean = cells.get((first, CLEAN))
    beside = (
        f", with {clean.short} % when clean"
        if main != CLEAN and clean is not None and clean.value is not None
        else ""
    )
    if not others:
        yield f"{name_of(first, lines=lines)} gets {_quoted(top)} right{at}{beside}."
        return
    if not top.value:
        yield f"Nothing here withstands the attacks{at}: every line has 0 %."
        return
    if not sure:
        yield f"The highest number{at} is that of {name_of(first, lines=lines)}, {_quoted(top)}; a check doubts it."
        return
    tied = [line for line in others if found.standing.get((line, main)) == "tied"]
    if tied:
        low = min(_value(cells, line, main) or 0.0 for line in tied)
        values = f"{100 * low:.1f} to {_percent(top)} %"
        # each was tested against the highest alone
        close = (
            "no test tells them apart"
            if len(tied) == 1
            else f"no test tells them from the highest ({name_of(first, lines=lines)})"
        )
        if len(tied) == len(lines) - 1 > 1:
            yield f"There is no winner{at}: {_names(lines, lines)} have {values}, and {close}."
        else:
            yield f"{_names([first, *tied], lines)} lead{at} with {values}, and {close}."
    else:
        adjective = {"attack": "most robust", "corruption": "most accurate under corruptions"}.get(
            main.family, "most accurate"
        )
        yield f"{name_of(first, lines=lines)} is the {adjective}: {_quoted(top)}{at}{beside}."
    rest = [line for line in others if line not in tied]
    if rest:
        second, *behind = rest
        same = alike(second, behind, main, cells, scored)
        value = f"{name_of(second, lines=lines)} with {_percent(cells[second, main])} %"
        if same:
            many = _names(same, lines)
            yield f"Next is {value}, which is not distinguishable from {many}."
        else:
            yield f"Next is {value}."


def _defenses(lines: Sequence[Line], found: Decided, scored: Scored) -> Iterator[str]:
    """Yield what each defense adds to the models it stands before."""
    main, cells = found.main, found.table.cells
    if main is None or main.family != "attack":
        return
    bare = {line._replace(defense="", access=""): line for line in lines if line.defense == "none"}
    for defense in dict.fromkeys(line.defense for line in lines if line.defense != "none"):
        own = [line for line in lines if line.defense == defense]
        seen = [line for line in own if line.access in ("any", "adaptive")]
        if not seen:
            yield f"What {defense} adds is not known: no attack was run through it."
            continue
        pairs = [
            (line, base, gain)
            for line in seen
            if (base := bare.get(line._replace(defense="", access=""))) is not None
            and (one := scored.of(line, main)) is not None
            and (two := scored.of(base, main)) is not None
            and (gain := difference(one.scores, two.scores)) is not None
            and not any(cells[each, main].incomplete for each in (line, base) if (each, main) in cells)
        ]
        if not pairs:
            guessed = [line for line in seen if (found.table.cells.get((line, main)) or _NONE).estimated_for]
            if guessed:
                yield f"What {defense} adds is not told: estimates are not compared image by image."
            continue
        ps = holm([gain.p for _, _, gain in pairs])
        better = [
            (line, gain) for (line, _, gain), p in zip(pairs, ps, strict=True) if p < LEVEL and gain.value > 0
        ]
        worse = [
            (line, gain) for (line, _, gain), p in zip(pairs, ps, strict=True) if p < LEVEL and gain.value < 0
        ]
        cost = _cost([(line, base) for line, base, _ in pairs], cells)
        harm = f"takes away from {_where(worse, pairs)}" if worse else ""
        if not better:
            yield f"{defense} adds nothing once the attack sees it{harm and f', and {harm}'}{cost}."
            continue
        line, gain = max(better, key=lambda pair: pair[1].value)
        points = (
            f"{100 * gain.value:.1f} points ({100 * gain.low:.1f} to {100 * gain.high:.1f}) on {line.model}"
        )
        most = f"up to {points}, and something on {_where(better, pairs)}" if len(better) > 1 else points
        yield f"{defense} adds {most} even where the attack sees it{harm and f', and {harm}'}{cost}."


def _where(some: Sequence[tuple[Line, Difference]], pairs: Sequence[tuple[Line, Line, Difference]]) -> str:
    """Return which models, or of many how many."""
    if len(some) == 1 or len(pairs) == 1:
        return some[0][0].model
    return f"{len(some)} of {counted(len(pairs), 'model')}"


def _cost(pairs: Sequence[tuple[Line, Line]], cells: Mapping[tuple[Line, Column], Number]) -> str:
    """Return what a defense costs in clean accuracy."""
    lost = [
        100 * (before - after)
        for line, base in pairs
        if (after := _value(cells, line, CLEAN)) is not None
        and (before := _value(cells, base, CLEAN)) is not None
    ]
    if not lost or max(lost) < 1:
        return ""
    low, high = f"{max(0.0, min(lost)):.0f}", f"{max(lost):.0f}"
    return f"; it costs {low if low == high else f'{low} to {high}'} points of clean accuracy"


def _mean(lines: Sequence[Line], found: Decided) -> Iterator[str]:
    if found.main == MEAN or MEAN not in found.table.columns:
        return
    best = [line for line in lines if found.standing.get((line, MEAN)) == "best"]
    if best:
        number = found.table.cells[best[0], MEAN]
        yield f"Under corruptions {name_of(best[0], lines=lines)} keeps most: {number.short} % on average."
        return
    tied = [line for line in lines if found.standing.get((line, MEAN)) == "tied"]
    if tied:
        top = max(_value(found.table.cells, line, MEAN) or 0.0 for line in tied)
        if len(tied) == len(lines) > 2:
            yield f"Under corruptions there is no winner: {100 * top:.1f} % on average is the highest."
        else:
            yield f"Under corruptions {_names(tied, lines)} share the lead with up to {100 * top:.1f} % on average."


def _trust(lines: Sequence[Line], relied: Mapping[Line, tuple[Reliance, str]]) -> Iterator[str]:
    """Yield what the checks say of the lines together."""
    of = {line: relied.get(line, ("unexamined", ""))[0] for line in lines}
    if not of:
        return
    trusted = [line for line, told in of.items() if told == "relied"]
    failed = [line for line, told in of.items() if told == "fail"]
    doubted = [line for line, told in of.items() if told in ("warn", "not_made")]
    if len(trusted) == len(of):
        yield (
            "The checks object to none of these numbers."
            if len(of) > 1
            else "The checks do not object to this."
        )
        return
    if failed:
        yield f"Do not quote {_names(failed, lines)}: a check fails."
    if doubted:
        yield f"Doubtful: {_names(doubted, lines)}, see Trust in the report."
    if trusted:
        yield f"No check objects to {len(trusted)} of {len(of)} lines."
    elif not failed and not doubted:
        yield "No model was examined, so that nothing vouches for these numbers (--checks quick)."


def _at(column: Column) -> str:
    if column.family == "attack":
        return f" at {column.strength}"
    return "" if column.family == "clean" else " under corruptions"


def _names(chosen: Sequence[Line], lines: Sequence[Line]) -> str:
    if len(chosen) > _NAMED:
        return counted(len(chosen), "line" if any(line.defense != "none" for line in lines) else "model")
    *first, last = (name_of(line, lines=lines) for line in chosen)
    return f"{', '.join(first)} and {last}" if first else last


def _percent(number: Number) -> str:
    return "" if number.value is None else f"{100 * number.value:.1f}"


def _quoted(number: Number) -> str:
    """Return ``71.0 % (64.4–76.8)``."""
    if number.estimated_for is not None:
        of = f"estimated from {number.n:,} attacked of {number.estimated_for:,} images"
        return f"{_percent(number)} % ({', '.join(filter(None, [number.interval, of]))})"
    return f"{number.short} %" + (f" ({number.interval})" if number.interval else "")


def _value(cells: Mapping[tuple[Line, Column], Number], line: Line, column: Column) -> float | None:
    number = cells.get((line, column))
    return None if number is None else number.value
