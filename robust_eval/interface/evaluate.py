"""One call that measures a model in Python, by the rules of ``robust-eval evaluate``."""

from __future__ import annotations

import logging
import math
import os
import re
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial, wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, cast

import torch

import defenses as _defenses  # noqa: F401 - registers the methods
import trainers
from robust_eval.arguments import ImagesLike, LabelsLike
from robust_eval.classifier import Classifier, frozen
from robust_eval.classifier.accelerate import Precision, pick_precision
from robust_eval.classifier.given import device_of
from robust_eval.classifier.normalized import Numbers
from robust_eval.config import sources
from robust_eval.config.experiment import Experiment, Given, parse
from robust_eval.config.options import evaluation_tables
from robust_eval.config.plan import plan
from robust_eval.data import Examples
from robust_eval.data.given import GivenImages, given_images
from robust_eval.errors import ConfigError, MeasurementError, RobustEvalError
from robust_eval.interface.asked import (
    asked_models,
    eps_text,
    folder_at,
    is_name,
    names_in,
    place_of,
    pool_of,
    tables_in,
)
from robust_eval.interface.progress import Bar
from robust_eval.interface.results import Results
from robust_eval.machine import pick_device
from robust_eval.methods import Attack, Corruption, Defense
from robust_eval.models.function import Function, known_as_black_box
from robust_eval.models.given import GivenModel, given_model
from robust_eval.results.store import Store
from robust_eval.run.answers import by_their_answers
from robust_eval.run.run import run
from robust_eval.run.worker import Options

if TYPE_CHECKING:
    from robust_eval.data.given import Loader

    Method = str | Attack | Corruption | Defense | Mapping[str, Any]
    Several = Method | Sequence[Method]
    Text = str
    Name = str | os.PathLike[str]
    Models = GivenModel | Name | Mapping[str, GivenModel | Name]
else:  # what is none is told in words of ours, not of whoever checks types at run time
    Several = Models = Loader = Name = Text = Any

__all__ = ["evaluate"]

EXAMPLES_KEPT = 100_000_000
"""Bytes of an attack's adversarials up to which they are kept without being asked for."""

log = logging.getLogger(__name__)

P = ParamSpec("P")
T = TypeVar("T")


_OPTION = re.compile(r"--([a-z][a-z-]*)")
_SPOKEN = {"--set": "fields:", "--no-progress": "progress=False"}


def _in_python(error: RobustEvalError) -> RobustEvalError:
    """Return an error of the command's rules with the names that its options have here."""

    def argument(found: re.Match[str]) -> str:
        return _SPOKEN.get(found[0], found[1].replace("-", "_"))

    told = type(error).__new__(type(error))
    told.__dict__.update(error.__dict__)
    told.args = tuple(_OPTION.sub(argument, part) if isinstance(part, str) else part for part in error.args)
    return told


def _told_in_python(call: Callable[P, T]) -> Callable[P, T]:
    """Have the errors of a call name arguments, where the command's rules name options."""

    @wraps(call)
    def called(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return call(*args, **kwargs)
        except RobustEvalError as error:
            raise _in_python(error) from None

    return called


@_told_in_python
def evaluate(
    model: Models,
    x: ImagesLike | Loader | Name,
    y: LabelsLike | None = None,
    *,
    n: int | None = None,
    arch: Text | None = None,
    weights: Text | None = None,
    download: bool = False,
    attacks: Several | None = None,
    eps: str | float | Sequence[str | float] = (),
    budget: str | None = None,
    corruptions: Several = (),
    severity: int | Sequence[int] = 3,
    defenses: Several = (),
    pool: ImagesLike | Loader | Name | None = None,
    checks: str = "quick",
    cross_check: bool = False,
    fields: Mapping[str, Mapping[str, Any]] | None = None,
    mean: Numbers | None = None,
    std: Numbers | None = None,
    name: str | None = None,
    data: str | None = None,
    class_names: Sequence[str] | None = None,
    size: int | None = None,
    mask: ImagesLike | None = None,
    seed: int = 0,
    gradient_draws: int | None = None,
    estimate: float | None = None,
    out: str | os.PathLike[str] | None = None,
    device: str | None = None,
    batch_size: int | None = None,
    precision: str = "auto",
    compiled: bool = False,
    save_examples: bool | None = None,
    progress: bool | None = None,
    max_minutes: float | None = None,
) -> Results:
    """Measure a model clean, attacked, corrupted, plain or behind defenses, and return the table.

        robust_eval.evaluate(net, x, y, attacks="pgd", eps="8/255")

    ``model`` is a network (``torch.nn.Module``), a :class:`~robust_eval.Classifier`, a function from images to logits,
    or several of them by name, which are compared on the same images. ``x`` are images [n,c,h,w], floats in [0, 1] or
    bytes, as a tensor or a numpy array, and ``y`` their labels [n]; or ``x`` is a loader of batches of both. ``mean``
    and ``std`` (one number a channel) are put inside the model, so that every radius is in pixels. ``n`` measures on
    the first so many images.

    Both may also be named as the command names them: the path of a checkpoint, whose architecture is ``arch``
    (``"timm:resnet18"``, ``"net.py:build"``) and whose ``weights`` lie under that key, or an architecture that brings
    its own (only with ``download`` from elsewhere); and a data set, a file, or a folder of images, which become
    ``size`` pixels wide, or as the model's library says:

        robust_eval.evaluate("best.safetensors", "val/", arch="timm:resnet18", attacks="pgd")

    ``attacks``, ``corruptions`` and ``defenses`` are names (one, several, or with commas), methods such as
    ``robust_eval.attack("pgd", steps=40)``, or tables as in an experiment file; ``fields`` sets what they leave open:
    ``fields={"pgd": {"steps": 40}}``. ``eps`` are radii such as ``"8/255"`` (linf), ``"l2:0.5"`` or
    ``"l0:10"`` (pixels). ``budget`` is quick, default, black_box or strong; default where no attacks are given
    (black_box for a function without gradients, see :class:`~robust_eval.Function`), and none with ``attacks="none"``.
    ``pool`` are the training images that some defenses mix with, as ``(images, labels)`` or a loader. ``checks`` is
    quick, full or off: how thoroughly the model is examined for reasons not to trust its numbers.

    ``mask`` holds the pixels that attacks may change (1 or true; the others 0): [h,w], [c,h,w], or one for each image.

    ``estimate`` is how far the accuracy under an attack may be from that on all images, at 95 %, such as 0.01: only so
    many are attacked. Such numbers have the number of all images as ``estimated_for`` in :meth:`Results.table`.

    With ``out`` records are kept in that run folder: a second call measures only what is new, and ``robust-eval
    report`` reads it. Without, they lie in a folder that is removed with the results.

    ``save_examples`` keeps the adversarials for :meth:`Results.examples`; by default without ``out``, where those of an
    attack take at most 100 MB.

    After ``max_minutes`` what was measured is returned, and the rest is not measured.

    ``device`` is by default where the model is. ``progress`` shows a bar; by default in a notebook and on a terminal.
    The same arguments and ``seed`` give the same numbers.

    Raises :class:`~robust_eval.RobustEvalError`, one line, for what cannot be measured. A cell that fails is in
    :attr:`Results.failed` and warned of; where all fail, ``MeasurementError`` is raised.
    """
    if max_minutes is not None and not max_minutes >= 0:
        raise ConfigError(f"max_minutes: expected a number of at least 0, got {max_minutes!r}")
    own = {method: dict(values) for method, values in (fields or {}).items()}
    asked = asked_models(
        model, name=name, arch=arch, mean=mean, std=std, weights=weights, download=download, fields=own
    )
    given = asked.given
    images = _images(x, y, class_names=class_names, pool=pool, called=data, size=size)
    # an attack on a model whose device nobody named goes where the model is
    default = "auto" if asked.named else "cpu"
    place = pick_device(device if device is not None else str(place_of(given.values()) or default))
    wanted = cast("Precision", precision)
    pick_precision(wanted, torch.device(place))
    if save_examples is None:
        save_examples = out is None and images is not None and _few(images.test(n))
    options = Options(place, batch_size, wanted, compiled, save_examples)
    if attacks is None and budget is None:
        budget = "black_box" if _blind(given.values(), x, images, size) else "default"
    tables = evaluation_tables(
        model=None,
        name=name or next(iter([*given, *asked.named])),
        data={
            "name": os.fspath(x) if is_name(x) else data or "data",
            "n": n,
            "size": size,
            "pool": os.fspath(pool) if is_name(pool) else None,
        },
        attacks=names_in(attacks),
        budget=budget,
        eps=[eps_text(value) for value in ([eps] if isinstance(eps, str | float | int) else eps)],
        cross_check=cross_check,
        corruptions=names_in(corruptions),
        severity=[severity] if isinstance(severity, int) else list(severity),
        corrupted=None,
        defenses=names_in(defenses),
        ood="",
        shift="",
        resize=False,
        checks=checks,
        seed=seed,
        gradient_draws=gradient_draws,
        fields=own,
        estimate=estimate,
        more={
            "attack": tables_in(attacks),
            "corruption": tables_in(corruptions),
            "defense": tables_in(defenses),
        },
    )
    networks = [one.network if isinstance(one, Classifier) else one for one in given.values()]
    makers = tuple(
        partial(given_model, model=one, name=title, mean=mean, std=std) for title, one in given.items()
    )
    tables["model"] = list(asked.named.values())
    experiment = parse(tables, where="evaluate", folder=Path.cwd(), given=Given(images, makers, mask))
    minutes = None if max_minutes is None else float(max_minutes)
    with _left_as_they_are(networks):
        if out is not None:
            return _measured(
                experiment, folder_at(out), bar=Bar(shown=progress), options=options, minutes=minutes
            )
        folder = Path(tempfile.mkdtemp(prefix="robust-eval-"))
        try:
            found = _measured(experiment, folder, bar=Bar(shown=progress), options=options, minutes=minutes)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        found.remove_with_it()
        return found


def _images(
    x: Any, y: Any, *, class_names: Sequence[str] | None, pool: Any, called: str | None, size: int | None
) -> GivenImages | None:
    """Return the images that were given, ``None`` where they are named."""
    if is_name(x):
        for option, value in (("y", y), ("class_names", class_names), ("data", called)):
            if value is not None:
                raise ConfigError(
                    f"{option}: expected it beside images, got it with the name of a set; leave it out"
                )
        if pool is not None and not is_name(pool):
            raise ConfigError(
                "pool: expected the name of a set, as x is one, got images; name a file or a folder"
            )
        return None
    if size is not None:
        raise ConfigError(
            "size: expected it with the name of a set, got images; resize them, or leave it out"
        )
    if is_name(pool):
        raise ConfigError(
            f"pool: expected images and labels, as x is given so, got the name {os.fspath(pool)!r}"
        )
    examples = given_images("images", x, y, names=class_names)
    return GivenImages(called or "data", examples, None if pool is None else pool_of(pool))


def _blind(models: Iterable[Any], x: Any, images: GivenImages | None, size: int | None) -> bool:
    """Whether one of the models is a function without gradients, which is asked about images."""
    functions = [model for model in models if isinstance(model, Function)]
    if not functions:
        return False
    if images is not None:
        few = images.examples[slice(2)]
    else:
        few = sources.opened(sources.at(Path.cwd(), os.fspath(x)), size=size).test(1)
    return any(known_as_black_box(one, few.pixels()) for one in functions)


def _few(examples: Examples) -> bool:
    """Whether the adversarials of these images are kept without being asked for."""
    return 4 * math.prod(examples.images.shape) <= EXAMPLES_KEPT


@contextmanager
def _left_as_they_are(models: Sequence[Any]) -> Iterator[None]:
    """Put networks back into their modes and onto their devices on leaving."""
    networks = [model for model in models if isinstance(model, torch.nn.Module)]
    places = [(network, device_of(network)) for network in networks]
    with ExitStack() as stack:
        for network in networks:
            stack.enter_context(frozen(network))
        try:
            yield
        finally:
            for network, device in places:
                if device is not None and device_of(network) != device:
                    network.to(device)


def _measured(
    experiment: Experiment, folder: Path, *, bar: Bar, options: Options, minutes: float | None
) -> Results:
    """Measure what has no record in the folder yet."""
    store = Store(folder)
    with bar:
        cells = by_their_answers(plan(experiment), store, tell=bar.tell)
        outcome = run(
            cells, store, train=trainers.train, progress=bar, **options._asdict(), max_minutes=minutes
        )
    for error, count in Counter(failure.error for failure in outcome.failed).items():
        log.warning("%s failed: %s", "1 cell" if count == 1 else f"{count} cells", error)
    if outcome.stopped:
        log.warning("stopped after %g minutes: not all was measured", minutes)
        if not any(store.has(cell.key) for cell in cells):
            raise MeasurementError(f"nothing could be measured in {minutes:g} minutes; give more")
    if outcome.failed and not any(store.has(cell.key) for cell in cells):
        raise MeasurementError(f"nothing could be measured: {outcome.failed[0].error}")
    return Results(folder, failed=outcome.failed)
