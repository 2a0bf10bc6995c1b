"""MLflow: a run for each model, and in it one for each cell, with parameters, metrics and tags.

Metrics are the numbers of the records (``accuracy``, ``accuracy_ci_low``, ``accuracy at 0.5``, ...), and of a model
those that the report opens with. A number that does not exist is no metric; a cell that failed is a run with the status
``FAILED`` and the error as a tag. Each run has the tags ``verdict`` and ``checks``, so that doubtful numbers can be
searched for.

Runs go where ``MLFLOW_TRACKING_URI`` says, else into the folder ``mlruns`` among the exports. What was logged once is
not logged again: the model's run has the hash of its numbers as the tag ``robust_eval.content``. Experiment and keys of
tags are ours.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from reports.section import Source
from robust_eval.config.card import Card, Failed, Headline
from robust_eval.errors import ConfigError
from robust_eval.identity import content_key
from robust_eval.results.entry import Entry
from robust_eval.results.names import value_text, verdict_in, verdict_text
from robust_eval.threat import threat_text

__all__ = ["Tracked", "log", "require_mlflow", "tracked"]

URI = "MLFLOW_TRACKING_URI"
LONGEST_PARAM = 500
"""Letters that every server takes in a parameter."""
LONGEST_TAG = 5000
_NO_NAME = re.compile(r"[^\w\-. /]")
_ALLOWED = "MLFLOW_ALLOW_FILE_STORE"
"""Without it newer versions refuse to log into a folder."""


class Tracked(NamedTuple):
    """One run as MLflow keeps it."""

    name: str
    params: dict[str, str]
    metrics: dict[str, float]
    tags: dict[str, str]
    children: tuple[Tracked, ...] = ()
    failed: bool = False


def tracked(source: Source, card: Card) -> tuple[Tracked, ...]:
    """Return the runs of a report: one for each model, with its cells."""
    found = []
    names = [*(e.labels["model"] for e in source.entries), *(failed.model for failed in card.failed)]
    for model in dict.fromkeys(map(str, names)):
        cells = [_cell(entry) for entry in source.entries if entry.labels["model"] == model]
        cells += [_failed(failed) for failed in card.failed if failed.model == model]
        found.append(_parent(model, [n for n in card.numbers if n.model == model], cells, card))
    return tuple(found)


def require_mlflow() -> None:
    """Raise ``ConfigError`` where MLflow is not installed."""
    try:
        import mlflow  # noqa: F401
    except ImportError:
        raise ConfigError(
            "--export mlflow: needs MLflow, which is not installed; pip install 'robust-eval[mlflow]'"
        ) from None


def log(runs: Sequence[Tracked], experiment: str, folder: Path) -> tuple[str, ...]:
    """Log runs; return one line that says where, and how many were there already."""
    require_mlflow()
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    uri = os.environ.get(URI) or folder.absolute().as_uri()
    fresh = 0
    with _folders_allowed():
        try:
            client = MlflowClient(tracking_uri=uri)
            place = _experiment(client, experiment)
            for run in runs:
                fresh += _logged(client, place, run)
        except (MlflowException, OSError) as error:
            why = " ".join((str(error).splitlines() or [type(error).__name__])[0].split())[:300]
            raise ConfigError(f"--export mlflow: {uri} takes no runs ({why}); see {URI}") from None
    there = len(runs) - fresh
    models = "1 model" if fresh == 1 else f"{fresh} models"
    return (f"mlflow: {models} logged to {uri}" + (f", {there} there already" if there else ""),)


def _parent(model: str, numbers: Sequence[Headline], cells: Sequence[Tracked], card: Card) -> Tracked:
    about = next((each for each in card.models if each.name == model), None)
    params = {} if about is None else _texts(about.model_dump(exclude={"recipe", "weights_sha256"}))
    if about is not None and about.recipe is not None:
        params |= {f"recipe.{name}": text for name, text in _texts(about.recipe).items()}
    metrics: dict[str, float] = {}
    tags = {"robust_eval.model": model}
    if about is not None:
        tags["robust_eval.weights_sha256"] = ", ".join(about.weights_sha256)
    verdicts = []
    for number in numbers:
        name = _headline(number)
        if number.value is None:
            tags[f"missing.{name}"] = str(number.reason)
            continue
        for suffix, value in (("", number.value), (" ci_low", number.ci_low), (" ci_high", number.ci_high)):
            metrics |= {} if value is None else {f"{name}{suffix}": value}
        tags[f"verdict.{name}"] = number.verdict
        if number.estimated_for is not None:
            tags[f"estimated.{name}"] = f"from {number.n} attacked of {number.estimated_for} images"
        verdicts += [check for check in number.checks.split(";") if check != "ok"]
    checks = ";".join(sorted(set(verdicts))) or "ok"
    run = _tracked(model, params, metrics, tags | _doubts(checks), tuple(cells))
    return run._replace(tags=run.tags | {"robust_eval.content": content_key(_plain(run))})


def _cell(entry: Entry) -> Tracked:
    labels, record = entry.labels, entry.record
    words = (
        "defense",
        "access",
        "data",
        "family",
        "perturbation",
        "norm",
        "eps",
        "severity",
        "seed",
        "train_seed",
    )
    params = {name: labels[name] for name in words if labels[name] not in (None, "none")}
    params |= {f"params.{name}": value for name, value in entry.params.items()}
    defense = record.labels.get("defense_params")
    if isinstance(defense, Mapping):
        params |= {f"defense.{name}": value for name, value in defense.items()}
    metrics: dict[str, float] = {}
    for item in record.summary:
        name = item.metric if item.eps is None else f"{item.metric} at {item.eps:.6g}"
        for suffix, value in (
            ("", item.value),
            ("_ci_low", item.ci_low),
            ("_ci_high", item.ci_high),
            ("_n", item.n),
        ):
            if value is not None:
                metrics[name + suffix] = float(value)
    seconds = record.provenance.get("seconds")
    if isinstance(seconds, int | float):
        metrics["seconds"] = float(seconds)
    tags = {"robust_eval.key": record.key, "robust_eval.run": entry.run} | _doubts(verdict_text(entry.checks))
    for item in record.summary:
        if item.estimated_for is not None:
            tags[f"estimated.{item.metric}"] = f"from {item.n} attacked of {item.estimated_for} images"
    return _tracked(_title(entry), _texts(params), metrics, tags)


def _failed(cell: Failed) -> Tracked:
    words = ("defense", "access", "family", "perturbation")
    params = {name: value for name in words if (value := getattr(cell, name)) != "none"}
    tags = {"robust_eval.key": cell.key, "robust_eval.run": cell.run, "error": cell.error}
    return _tracked(f"{cell.perturbation} (failed)", params, {}, tags)._replace(failed=True)


def _tracked(
    name: str,
    params: Mapping[str, str],
    metrics: Mapping[str, float],
    tags: Mapping[str, str],
    children: tuple[Tracked, ...] = (),
) -> Tracked:
    """Return a run with names and lengths that MLflow takes."""
    return Tracked(
        name[:250] or "unnamed",
        {_named(key): value[:LONGEST_PARAM] for key, value in params.items()},
        {_named(key): value for key, value in metrics.items() if math.isfinite(value)},
        {_named(key): value[:LONGEST_TAG] for key, value in tags.items()},
        children,
    )


def _doubts(checks: str) -> dict[str, str]:
    return {"verdict": verdict_in(checks), "checks": checks}


def _title(entry: Entry) -> str:
    labels = entry.labels
    what = "clean" if labels["family"] == "clean" else str(labels["perturbation"])
    if labels["family"] == "attack":
        what += f" {threat_text(labels['norm'], labels['eps'])}"
    elif labels["severity"] is not None:
        what += f" s{labels['severity']}"
    return what if labels["defense"] == "none" else f"{what}, {labels['defense']} ({labels['access']})"


def _headline(number: Headline) -> str:
    strength = "" if number.norm is None else f" {threat_text(number.norm, number.eps)}"
    defense = "" if number.defense == "none" else f" {number.defense} {number.access}"
    return f"{number.what}{strength} accuracy{defense}"


def _texts(fields: Mapping[str, Any]) -> dict[str, str]:
    return {str(name): value_text(value) for name, value in fields.items() if value is not None}


def _named(name: str) -> str:
    """Return a name of the letters that MLflow allows, which is no path that leads elsewhere."""
    plain = _NO_NAME.sub("_", name).strip("/. ")
    return re.sub(r"\.\.+|/{2,}", "_", plain)[:250] or "unnamed"


def _plain(run: Tracked) -> dict[str, Any]:
    fields = {"name": run.name, "params": run.params, "metrics": run.metrics, "tags": run.tags}
    return fields | {"failed": run.failed, "children": [_plain(child) for child in run.children]}


def _experiment(client: Any, name: str) -> str:
    found = client.get_experiment_by_name(name)
    return str(client.create_experiment(name) if found is None else found.experiment_id)


def _logged(client: Any, experiment: str, run: Tracked) -> bool:
    """Log a model with its cells unless it is there; return whether it was not."""
    content = run.tags["robust_eval.content"]
    if client.search_runs([experiment], f"tags.`robust_eval.content` = '{content}'", max_results=1):
        return False
    whole = {"robust_eval.content": content}
    parent = _written(
        client, experiment, run._replace(tags={k: v for k, v in run.tags.items() if k not in whole})
    )
    for child in run.children:
        _end(client, _written(client, experiment, child, parent=parent), child)
    client.set_tag(parent, *next(iter(whole.items())))  # last: a run that was broken off is logged anew
    _end(client, parent, run)
    return True


def _written(client: Any, experiment: str, run: Tracked, *, parent: str | None = None) -> str:
    from mlflow.entities import Metric, Param, RunTag

    nested = {} if parent is None else {"mlflow.parentRunId": parent}
    made = client.create_run(experiment, run_name=run.name, tags=nested)
    identity = str(made.info.run_id)
    for params in _parts([Param(key, value) for key, value in run.params.items()], 100):
        client.log_batch(identity, params=params)
    client.log_batch(
        identity,
        metrics=[Metric(key, value, made.info.start_time, 0) for key, value in run.metrics.items()],
        tags=[RunTag(key, value) for key, value in run.tags.items()],
    )
    return identity


def _end(client: Any, identity: str, run: Tracked) -> None:
    client.set_terminated(identity, status="FAILED" if run.failed else "FINISHED")


def _parts(items: list[Any], size: int) -> Iterator[list[Any]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]


@contextmanager
def _folders_allowed() -> Iterator[None]:
    """Let MLflow log into a folder, as the user asked for, and nothing longer than this."""
    before = os.environ.get(_ALLOWED)
    os.environ[_ALLOWED] = before or "true"
    try:
        yield
    finally:
        if before is None:
            del os.environ[_ALLOWED]
