"""Hugging Face: a model card with ``model-index`` and files of ``.eval_results``, one folder for each model.

``model-index`` is the metadata at the top of a repository's README.md
(https://github.com/huggingface/hub-docs/blob/main/modelcard.md): for a task and a data set, metrics with type, value
and name. ``.eval_results/*.yaml`` is the newer layout (https://huggingface.co/docs/hub/eval-results): the Hub shows
it for data sets that are registered there as benchmarks, so a file is written only for sets that the Hub has.

Ours: values are shares in [0, 1], as the metric ``accuracy`` gives them; radius, attacker, n, interval and the verdict
of the checks stand in a metric's ``args`` and name, and in ``notes``. A number that does not exist is left out
and told. ``verified`` is false: these are the user's own numbers. ``task_id`` is ours too, since no benchmark names
such tasks.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import yaml

from reports.exports.words import file_name, one_line
from robust_eval.config.card import Card, Headline, Images
from robust_eval.findings import Verdict
from robust_eval.printable import printable
from robust_eval.threat import threat_text

__all__ = ["DATASETS", "huggingface"]

DATASETS = {
    "cifar10": "uoft-cs/cifar10",
    "cifar100": "uoft-cs/cifar100",
    "mnist": "ylecun/mnist",
    "fashion_mnist": "zalando-datasets/fashion_mnist",
    "svhn": "ufldl-stanford/svhn",
    "imagenet": "ILSVRC/imagenet-1k",
    "tiny_imagenet": "zh-plus/tiny-imagenet",
}
"""What the Hub calls the registered sets."""
_SAID: dict[Verdict, str] = {
    "ok": "checks passed",
    "not_made": "doubtful: a check could not be made",
    "warn": "doubtful: a check warns",
    "fail": "not to be quoted: a check fails",
}
RESULTS = ".eval_results/robust_eval.yaml"


def huggingface(card: Card) -> tuple[dict[str, str | bytes], tuple[str, ...]]:
    """Return the files of all models, and one line for each number or set that is not what the Hub expects."""
    files: dict[str, str | bytes] = {}
    told: list[str] = []
    for model in dict.fromkeys(number.model for number in card.numbers):
        numbers = [number for number in card.numbers if number.model == model]
        place = file_name(model)
        files[f"{place}/README.md"] = _readme(model, numbers, card)
        # a benchmark's number is of all images
        known = [
            number
            for number in numbers
            if number.value is not None and number.estimated_for is None and _hub(number, card) is not None
        ]
        told += [
            f"huggingface: {printable(model)}: {_what(number)} is not in {RESULTS}: it is estimated from {number.n:,} "
            f"attacked of {number.estimated_for:,} images"
            for number in numbers
            if number.estimated_for is not None and _hub(number, card) is not None
        ]
        if known:
            files[f"{place}/{RESULTS}"] = _yaml([_entry(number, card) for number in known])
        told += [
            f"huggingface: {printable(model)}: {_what(number)} is left out: {number.reason}"
            for number in numbers
            if number.value is None
        ]
    for data in dict.fromkeys(number.data for number in card.numbers):
        number = next(number for number in card.numbers if number.data == data)
        if _hub(number, card) is None:
            told.append(f"huggingface: {printable(data)} is no set of the Hub that we know: no {RESULTS}")
        else:
            told.append(
                f"huggingface: {_hub(number, card)}: the Hub shows {RESULTS} once this set is registered as a "
                "benchmark with these tasks (its eval.yaml)"
            )
    return files, tuple(told)


def _readme(model: str, numbers: Sequence[Headline], card: Card) -> str:
    front = {
        "tags": ["image-classification", "adversarial-robustness", "robust-eval"],
        "metrics": ["accuracy"],
        "model-index": [{"name": model, "results": list(_results(numbers, card))}],
    }
    lines = "\n".join(f"- {_sentence(number)}" for number in numbers)
    return (
        f"---\n{_yaml(front)}---\n\n# {one_line(model)}\n\n{' '.join(map(one_line, card.asked))}\n\n{lines}\n\n"
        "Measured with robust-eval; card.json of the report repeats it.\n"
    )


def _results(numbers: Sequence[Headline], card: Card) -> Iterator[dict[str, Any]]:
    """Yield what was measured on each set: one result with all of its metrics."""
    for data in dict.fromkeys(number.data for number in numbers):
        here = [number for number in numbers if number.data == data and number.value is not None]
        if not here:
            continue
        images = _images(here[0], card)
        yield {
            "task": {"type": "image-classification", "name": "Image Classification"},
            "dataset": {
                "type": _hub(here[0], card) or file_name(data),
                "name": data,
                "split": "test",
                "args": {"n": here[0].n, "sha256": None if images is None else images.sha256},
            },
            "metrics": [_metric(number) for number in here],
        }


def _metric(number: Headline) -> dict[str, Any]:
    return {
        "type": "accuracy",
        "value": number.value,
        "name": _title(number),
        "args": _args(number),
        "verified": False,
    }


def _args(number: Headline) -> dict[str, Any]:
    """Return what a number is about, without what there is nothing to say of."""
    found = {
        "what": number.what,
        "norm": number.norm,
        "eps": number.eps,
        "defense": number.defense,
        "access": number.access,
        "n": number.n,
        "estimated_for": number.estimated_for,
        "ci_low": number.ci_low,
        "ci_high": number.ci_high,
        "std": number.spread,
        "train_seed": number.train_seed,
        "verdict": number.verdict,
        "checks": number.checks,
    }
    return {name: value for name, value in found.items() if value is not None}


def _entry(number: Headline, card: Card) -> dict[str, Any]:
    """Return one entry of ``.eval_results``."""
    return {
        "dataset": {"id": _hub(number, card), "task_id": _task(number)},
        "value": number.value,
        "notes": _sentence(number, value=False),
    }


def _task(number: Headline) -> str:
    parts = [number.what]
    if number.norm is not None and number.eps is not None:
        parts += [threat_text(number.norm, number.eps).replace(" ", "_").replace("/", "_")]
    parts += [] if number.defense == "none" else [file_name(number.defense), number.access]
    return "-".join(parts)


def _what(number: Headline) -> str:
    words = {"clean": "clean accuracy", "corruptions": "mean accuracy under corruptions"}.get(number.what)
    if words is None:
        strength = "" if number.norm is None else f", {threat_text(number.norm, number.eps)}"
        words = f"worst-case accuracy over attacks{strength}"
    return words + ("" if number.defense == "none" else f", with {number.defense} ({number.access})")


def _title(number: Headline) -> str:
    words = _what(number)
    doubt = "" if number.verdict == "ok" else f" ({_SAID[number.verdict]})"
    return words[0].upper() + words[1:] + (" (estimated)" if number.estimated_for else "") + doubt


def _sentence(number: Headline, *, value: bool = True) -> str:
    """Return a number in words, with n, interval and verdict."""
    what = one_line(_what(number)) if value else _what(number)
    if number.value is None:
        return f"{what}: no number ({one_line(str(number.reason))})"
    interval = (
        f", 95 % interval {100 * number.ci_low:.1f} to {100 * number.ci_high:.1f} %"
        if number.ci_low is not None and number.ci_high is not None
        else ""
    )
    spread = "" if number.spread is None else f", standard deviation over trainings {100 * number.spread:.1f}"
    raised = "" if number.checks == "ok" else f" ({number.checks.replace(';', ', ').replace('_', ' ')})"
    of = f", estimated: attacked of {number.estimated_for:,} images" if number.estimated_for else ""
    told = f"n = {number.n}{of}{interval}{spread}; {_SAID[number.verdict]}{raised}"
    return f"{what}: {100 * number.value:.1f} %; {told}" if value else f"{what}; {told}"


def _hub(number: Headline, card: Card) -> str | None:
    """Return the Hub's name of the set, where the experiment names that set and not a file of that name."""
    images = _images(number, card)
    named = None if images is None or images.source is None else images.source.get("name")
    return DATASETS.get(named) if isinstance(named, str) else None


def _images(number: Headline, card: Card) -> Images | None:
    return next((images for images in card.data if images.name == number.data), None)


def _yaml(value: Any) -> str:
    text: str = yaml.safe_dump(value, sort_keys=False, allow_unicode=True, width=10**6)
    return text
