"""RobustBench: ``model_info`` files and the text of a submission, with what still lacks for one.

From https://github.com/RobustBench/robustbench (version 1.1.1): the fields of a file are those of ``ModelInfo`` in
``robustbench/utils.py`` and of the files in ``model_info/DATASET/THREAT/``, accuracies in percent as text; the board's
conditions are those of ``robustbench/eval.py``; the text follows ``.github/ISSUE_TEMPLATE/new-model.md`` and
``new-external-evaluations.md``. What nobody measured, such as the paper's title, is ``null``.

Ours: ``autoattack_acc`` is filled by the attack ``auto_attack`` (``standard``) alone, ``reported`` by the worst case
over all attacks at the radius. ``unreliable`` is true where a check warns or fails, null where one could not be
made, and ``footnote`` names it. Models without a defense are written: a defended one is another model, and the board
takes none that draws at random.

The adversarial images that an external evaluation hands in are below ``adversarials/`` where the run kept them
(``--save-examples``): image by image that of the first attack of the board's radius that fooled the model.
"""

from __future__ import annotations

import json
import math
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import pandas as pd

from reports.exports.adversarials import handed_in
from reports.exports.model_info import Board, Claim, ModelInfo
from reports.exports.runs import Folders
from reports.exports.submission import submission
from reports.exports.words import one_line
from reports.section import Source
from robust_eval.findings import Verdict
from robust_eval.metrics.corruption_errors import TEST_TYPES
from robust_eval.printable import printable
from robust_eval.results.entry import Entry
from robust_eval.results.estimates import is_estimate
from robust_eval.results.names import check_names, verdict_in, verdict_text
from robust_eval.threat import length_text

__all__ = ["robustbench"]

MOST = 6
"""Claims that a line names."""
CORRUPTIONS = 15 * 5
"""Types by severities that the mean is over."""


class _Conditions(NamedTuple):
    images: int
    radii: dict[Board, float]


BOARDS = {
    "cifar10": _Conditions(10_000, {"Linf": 8 / 255, "L2": 0.5}),
    "cifar100": _Conditions(10_000, {"Linf": 8 / 255}),
    "imagenet": _Conditions(5_000, {"Linf": 4 / 255}),
}
_NORMS: dict[str, Board] = {"linf": "Linf", "l2": "L2"}


class _Measured(NamedTuple):
    """One number of a model."""

    value: float | None
    n: int
    checks: str


def robustbench(source: Source, folders: Folders) -> tuple[dict[str, str | bytes], tuple[str, ...]]:
    """Return the files of all models, and one line for each claim with what it lacks."""
    groups = list(_models(source.entries))
    trainings = Counter(group[0].labels["model"] for group in groups)
    claims = [
        _named(claim, group, trainings) for group in groups for claim in _claims(group, source, folders)
    ]
    files: dict[str, str | bytes] = {}
    for claim in claims:
        fields = claim.info.model_dump(exclude=_absent(claim.board))
        files[f"model_info/{claim.place('.json')}"] = (
            json.dumps(fields, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
        )
        if claim.adversarials is not None:
            files[f"adversarials/{claim.place('.pt')}"] = claim.adversarials
    if claims:
        files["submission.md"] = submission(claims)
    return files, tuple(_told(claims))


def _told(claims: Sequence[Claim]) -> Iterator[str]:
    """Yield what lacks, each reason once with the claims that it is about."""
    reasons: dict[str, list[str]] = {}
    for claim in claims:
        for reason in claim.lacking:
            reasons.setdefault(reason, []).append(f"{printable(claim.model)} {claim.board}")
    for reason, about in reasons.items():
        whose = f"all {len(claims)} claims" if len(about) == len(claims) > 1 else "; ".join(about[:MOST])
        whose += f" and {len(about) - MOST} more, in submission.md" if len(claims) > len(about) > MOST else ""
        yield f"robustbench: not to be submitted yet: {reason}: {whose}"
    if good := [f"{printable(claim.model)} {claim.board}" for claim in claims if not claim.lacking]:
        yield f"robustbench: meets the board's conditions: {', '.join(good)}"
    for note in dict.fromkeys(note for claim in claims for note in claim.notes):
        yield f"robustbench: {printable(note)}"
    if not claims:
        yield "robustbench: nothing to write: no model without a defense was attacked or corrupted"


def _absent(board: Board) -> set[str]:
    return {"autoattack_acc"} if board == "corruptions" else {"corruptions_acc"}


def _models(entries: Sequence[Entry]) -> Iterator[list[Entry]]:
    """Yield the records of each model without a defense, training by training and set by set."""
    groups: dict[tuple[Any, ...], list[Entry]] = defaultdict(list)
    for entry in entries:
        if entry.labels["defense"] == "none":
            groups[tuple(entry.labels[name] for name in ("model", "data", "train_seed", "seed"))].append(
                entry
            )
    yield from groups.values()


def _claims(group: list[Entry], source: Source, folders: Folders) -> Iterator[Claim]:
    for norm, board in _NORMS.items():
        attacks = [e for e in group if e.labels["family"] == "attack" and e.labels["norm"] == norm]
        if attacks:
            yield _attacked(group, attacks, board, source, folders)
    corrupted = [e for e in group if e.labels["family"] == "corruption" and e.labels["severity"] is not None]
    if corrupted:
        yield _corrupted(group, corrupted, folders)


def _attacked(
    group: list[Entry], attacks: list[Entry], board: Board, source: Source, folders: Folders
) -> Claim:
    dataset, lacking = _dataset(group, folders)
    wanted = BOARDS[dataset].radii.get(board) if dataset else None
    radii = sorted({eps for entry in attacks for eps in _radii(entry)})
    eps = next((eps for eps in radii if wanted is not None and math.isclose(eps, wanted, rel_tol=1e-5)), None)
    norm = attacks[0].labels["norm"]
    if dataset and wanted is None:
        lacking.append(f"there is no {board} board for {dataset}")
    elif wanted is not None and eps is None:
        lacking.append(f"the radius of the board, {length_text(wanted, norm)}, was not attacked at")
    eps = radii[-1] if eps is None and radii else eps
    at = [
        e for e in attacks if eps is not None and any(math.isclose(eps, r, rel_tol=1e-5) for r in _radii(e))
    ]
    standard = [e for e in at if _is_standard(e)]
    found = _number(standard[0], eps) if standard else None
    if found is None:
        lacking.append("AutoAttack was not run (attack auto_attack, version standard)")
    worst = _worst(source, group[0], norm, eps) or min(
        (number for entry in at if (number := _number(entry, eps)) is not None and number.value is not None),
        key=lambda number: number.value or 0.0,
        default=None,
    )
    guessed = [entry for entry in at if is_estimate(entry.record)]
    if guessed:
        found = worst = None
        lacking.append("its accuracy is estimated from some of the images: measure without --estimate")
    clean = _clean(group)
    lacking += _images(clean, dataset)
    info = _info(
        group,
        dataset,
        eps=None if eps is None else length_text(eps, norm),
        clean=clean,
        found=found,
        worst=worst,
    )
    info = info.model_copy(update={"autoattack_acc": _percent(found)})
    names = ", ".join(dict.fromkeys(str(e.record.labels.get("perturbation")) for e in at))
    # of a smallest perturbation nobody knows before that it stays inside the radius
    bound = [e for e in at if e.labels["eps"] is not None and not guessed]
    return Claim("", board, info, one_line(names), tuple(lacking), *handed_in(bound, folders))


def _corrupted(group: list[Entry], corrupted: list[Entry], folders: Folders) -> Claim:
    dataset, lacking = _dataset(group, folders)
    tested = {
        (str(e.record.labels.get("perturbation")), e.labels["severity"]): e
        for e in corrupted
        if e.record.labels.get("perturbation") in TEST_TYPES
    }
    numbers = [number for entry in tested.values() if (number := _number(entry, None)) is not None]
    values = [number.value for number in numbers if number.value is not None]
    if len(values) < CORRUPTIONS:
        lacking.append(f"{len(values)} of {CORRUPTIONS} corruptions (15 types at 5 severities) were measured")
    if any("files" not in entry.params for entry in tested.values()):
        lacking.append("corruptions were made anew: the board's are the published files (--corrupted)")
    clean = _clean(group)
    lacking += _images(clean, dataset)
    mean = None
    if values:
        raised = {name for number in numbers for name in number.checks.split(";") if name != "ok"}
        mean = _Measured(sum(values) / len(values), numbers[0].n, ";".join(sorted(raised)) or "ok")
    whole = mean if len(values) == CORRUPTIONS else None
    info = _info(group, dataset, eps=None, clean=clean, found=whole, worst=mean)
    info = info.model_copy(update={"corruptions_acc": _percent(whole)})
    return Claim("", "corruptions", info, f"mean over {len(values)} corruptions", tuple(lacking))


def _info(
    group: list[Entry],
    dataset: str | None,
    *,
    eps: str | None,
    clean: _Measured | None,
    found: _Measured | None,
    worst: _Measured | None,
) -> ModelInfo:
    model = group[0].record.spec.get("model")
    spec = model if isinstance(model, dict) else {}
    trained = "recipe" in spec
    architecture = spec.get("architecture")
    registered = trained or (isinstance(architecture, dict) and "kind" in architecture)
    checks = (
        ";".join(number.checks for number in (clean, found, worst) if number and number.checks != "ok")
        or "ok"
    )
    verdict = verdict_in(checks)
    raised = ", ".join(dict.fromkeys(name.replace("_", " ") for name in check_names(checks)))
    reliable: dict[Verdict, bool | None] = {"ok": False, "warn": True, "fail": True, "not_made": None}
    n = f"Measured on {clean.n} images of {one_line(str(group[0].labels['data']))}." if clean else ""
    return ModelInfo(
        additional_data=False if trained and dataset else None,
        number_forward_passes=1 if registered else None,
        dataset=dataset,
        architecture=str(group[0].labels["arch"]),
        eps=eps,
        clean_acc=_percent(clean),
        reported=_percent(worst),
        footnote=" ".join(filter(None, (n, f"Checks that were raised: {raised}." if raised else ""))) or None,
        unreliable=reliable[verdict],
    )


def _dataset(group: list[Entry], folders: Folders) -> tuple[str | None, list[str]]:
    """Return the board's name for the images, and what is lacking where they are none of its."""
    data = str(group[0].record.labels.get("data"))
    table = folders.table_of(group[0].record.key, "data")
    known = ", ".join(BOARDS)
    if data not in BOARDS:
        return None, [f"the images are of {one_line(data)}: the boards are of {known}"]
    if table is None or table.get("name") != data:
        return None, [f"it is not known that these are the images of {data}: measure with --data {data}"]
    if data == "imagenet":
        return data, ["the board's 5,000 images of ImageNet are another choice than the first of ours"]
    return data, []


def _images(clean: _Measured | None, dataset: str | None) -> list[str]:
    if clean is None:
        return ["clean accuracy was not measured"]
    if dataset and clean.n < (wanted := BOARDS[dataset].images):
        return [f"{clean.n} images were measured, the board's number is {wanted}"]
    return []


def _is_standard(entry: Entry) -> bool:
    """Whether this is AutoAttack as its authors run it."""
    params = entry.params
    return entry.record.labels.get("perturbation") == "auto_attack" and (
        params.get("version"),
        params.get("steps"),
        params.get("targets"),
    ) == ("standard", 100, 9)


def _radii(entry: Entry) -> list[float]:
    own = [entry.labels["eps"], *(measurement.eps for measurement in entry.record.summary)]
    return [float(eps) for eps in own if isinstance(eps, int | float)]


def _number(entry: Entry, eps: float | None) -> _Measured | None:
    """Return a record's accuracy, that at a radius where it has several."""
    for measurement in entry.record.summary:
        near = measurement.eps is None or (
            eps is not None and math.isclose(measurement.eps, eps, rel_tol=1e-5)
        )
        if measurement.metric == "accuracy" and near:
            return _Measured(measurement.value, measurement.n, _raised(entry))
    return None


def _raised(entry: Entry) -> str:
    return verdict_text(entry.checks)


def _clean(group: list[Entry]) -> _Measured | None:
    return next((_number(entry, None) for entry in group if entry.labels["family"] == "clean"), None)


def _worst(source: Source, entry: Entry, norm: str, eps: float | None) -> _Measured | None:
    """Return the worst case over the attacks of a model at a radius, from the long table."""
    for row in source.results.to_dict("records"):
        same = all(row[name] == entry.labels[name] for name in ("model", "data", "defense"))
        seeds = all(_same(row[name], entry.labels[name]) for name in ("seed", "train_seed"))
        if not (same and seeds and row["perturbation"] == "worst_case" and row["norm"] == norm):
            continue
        if eps is not None and math.isclose(row["eps"], eps, rel_tol=1e-5):
            return _Measured(float(row["value"]), int(row["n"]), str(row["checks"]))
    return None


def _same(cell: Any, label: Any) -> bool:
    return bool(label is None) if pd.isna(cell) else bool(cell == label)


def _percent(number: _Measured | None) -> str | None:
    if number is None or number.value is None or not math.isfinite(number.value):
        return None
    return f"{100 * number.value:.2f}"


def _named(claim: Claim, group: list[Entry], trainings: Counter[str]) -> Claim:
    """Return a claim under the name of its model, with the seed where there are several trainings."""
    labels = group[0].labels
    several = trainings[labels["model"]] > 1 and labels["train_seed"] is not None
    return claim._replace(
        model=f"{labels['model']} seed {labels['train_seed']}" if several else labels["model"]
    )
