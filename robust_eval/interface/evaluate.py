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
from robust_eval.config.experiment import Experiment, Given, parse
from robust_eval.config.options import evaluation_tables
from robust_eval.config.plan import plan
from robust_eval.data.given import GivenImages, given_images
from robust_eval.errors import ConfigError, MeasurementError, RobustEvalError
from robust_eval.files import sweep
from robust_eval.interface.progress import Bar
from robust_eval.interface.results import Results
from robust_eval.machine import pick_device
from robust_eval.methods import Attack, Corruption, Defense
from robust_eval.models.function import as_network, known_as_black_box
from robust_eval.models.given import GivenModel, called_after, given_model
from robust_eval.paths import misnamed, shown, what_is
from robust_eval.registry import describe
from robust_eval.results.store import Store
from robust_eval.run.answers import by_their_answers
from robust_eval.run.run import run
from robust_eval.run.worker import Options

if TYPE_CHECKING:
    from robust_eval.data.given import Loader

    Method = str | Attack | Corruption | Defense | Mapping[str, Any]
    Several = Method | Sequence[Method]
    Models = GivenModel | Mapping[str, GivenModel]
else:  # what is none is told in words of ours, not of whoever checks types at run time
    Several = Models = Loader = Any

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
    x: ImagesLike | Loader,
    y: LabelsLike | None = None,
    *,
    attacks: Several | None = None,
    eps: str | float | Sequence[str | float] = (),
    budget: str | None = None,
    corruptions: Several = (),
    severity: int | Sequence[int] = 3,
    defenses: Several = (),
    pool: ImagesLike | Loader | None = None,
    checks: str = "quick",
    cross_check: bool = False,
    fields: Mapping[str, Mapping[str, Any]] | None = None,
    mean: Numbers | None = None,
    std: Numbers | None = None,
    name: str | None = None,
    data: str = "data",
    class_names: Sequence[str] | None = None,
    mask: ImagesLike | None = None,
    seed: int = 0,
    gradient_draws: int | None = None,
    out: str | os.PathLike[str] | None = None,
    device: str | None = None,
    batch_size: int | None = None,
    precision: str = "auto",
    compiled: bool = False,
    save_examples: bool | None = None,
    progress: bool | None = None,
) -> Results:
    """Measure a model clean, attacked, corrupted, plain or behind defenses, and return the table.

        robust_eval.evaluate(net, x, y, attacks="pgd", eps="8/255")

    ``model`` is a network (``torch.nn.Module``), a :class:`~robust_eval.Classifier`, a function from images to logits,
    or several of them by name, which are compared on the same images. ``x`` are images [n,c,h,w], floats in [0, 1] or
    bytes, as a tensor or a numpy array, and ``y`` their labels [n]; or ``x`` is a loader of batches of both. ``mean``
    and ``std`` (one number a channel) are put inside the model, so that every radius is in pixels.

    ``attacks``, ``corruptions`` and ``defenses`` are names (one, several, or with commas), methods such as
    ``robust_eval.attack("pgd", steps=40)``, or tables as in an experiment file; ``fields`` sets what they leave open:
    ``fields={"pgd": {"steps": 40}}``. ``eps`` are radii such as ``"8/255"`` (linf), ``"l2:0.5"`` or
    ``"l0:10"`` (pixels). ``budget`` is quick, default, black_box or strong; default where no attacks are given
    (black_box for a function without gradients, see :class:`~robust_eval.Function`), and none with ``attacks="none"``.
    ``pool`` are the training images that some defenses mix with, as ``(images, labels)`` or a loader. ``checks`` is
    quick, full or off: how thoroughly the model is examined for reasons not to trust its numbers.

    ``mask`` holds the pixels that attacks may change (1 or true; the others 0): [h,w], [c,h,w], or one for each image.

    With ``out`` records are kept in that run folder: a second call measures only what is new, and ``robust-eval
    report`` reads it. Without, they lie in a folder that is removed with the results.

    ``save_examples`` keeps the adversarials for :meth:`Results.examples`; by default without ``out``, where those of an
    attack take at most 100 MB.

    ``device`` is by default where the model is. ``progress`` shows a bar; by default in a notebook and on a terminal.
    The same arguments and ``seed`` give the same numbers.

    Raises :class:`~robust_eval.RobustEvalError`, one line, for what cannot be measured. A cell that fails is in
    :attr:`Results.failed` and warned of; where all fail, ``MeasurementError`` is raised.
    """
    given = {title: as_network(one) for title, one in _models(model).items()}
    examples = given_images("images", x, y, names=class_names)
    # an attack on a model whose device nobody named goes where the model is
    place = pick_device(device if device is not None else str(_where(list(given.values())) or "cpu"))
    wanted = cast("Precision", precision)
    pick_precision(wanted, torch.device(place))
    if save_examples is None:
        save_examples = out is None and 4 * math.prod(examples.images.shape) <= EXAMPLES_KEPT
    options = Options(place, batch_size, wanted, compiled, save_examples)
    images = GivenImages(data, examples, None if pool is None else _pool(pool))
    if attacks is None and budget is None:
        blind = any(known_as_black_box(one, examples[slice(2)].pixels()) for one in given.values())
        budget = "black_box" if blind else "default"
    tables = evaluation_tables(
        model=None,
        name=name or next(iter(given)),
        data={"name": data},
        attacks=_named(attacks),
        budget=budget,
        eps=[_eps_text(value) for value in ([eps] if isinstance(eps, str | float | int) else eps)],
        cross_check=cross_check,
        corruptions=_named(corruptions),
        severity=[severity] if isinstance(severity, int) else list(severity),
        corrupted=None,
        defenses=_named(defenses),
        ood="",
        shift="",
        resize=False,
        checks=checks,
        seed=seed,
        gradient_draws=gradient_draws,
        fields={name: dict(values) for name, values in (fields or {}).items()},
        more={
            "attack": _tables(attacks),
            "corruption": _tables(corruptions),
            "defense": _tables(defenses),
        },
    )
    if name is not None and len(given) == 1:
        given = {name: next(iter(given.values()))}
    networks = [one.network if isinstance(one, Classifier) else one for one in given.values()]
    makers = tuple(
        partial(given_model, model=one, name=title, mean=mean, std=std) for title, one in given.items()
    )
    experiment = parse(tables, where="evaluate", folder=Path.cwd(), given=Given(images, makers, mask))
    with _left_as_they_are(networks):
        if out is not None:
            return _measured(experiment, _folder(out), bar=Bar(shown=progress), options=options)
        folder = Path(tempfile.mkdtemp(prefix="robust-eval-"))
        try:
            found = _measured(experiment, folder, bar=Bar(shown=progress), options=options)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        found.remove_with_it()
        return found


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


def _measured(experiment: Experiment, folder: Path, *, bar: Bar, options: Options) -> Results:
    """Measure what has no record in the folder yet."""
    store = Store(folder)
    with bar:
        cells = by_their_answers(plan(experiment), store, tell=bar.tell)
        outcome = run(cells, store, train=trainers.train, progress=bar, **options._asdict())
    for error, count in Counter(failure.error for failure in outcome.failed).items():
        log.warning("%s failed: %s", "1 cell" if count == 1 else f"{count} cells", error)
    if outcome.failed and not any(store.has(cell.key) for cell in cells):
        raise MeasurementError(f"nothing could be measured: {outcome.failed[0].error}")
    return Results(folder, failed=outcome.failed)


def _eps_text(eps: str | float) -> str:
    """Return a radius as the options have it."""
    return eps if isinstance(eps, str) else repr(float(eps))


def _models(model: Any) -> dict[str, Any]:
    """Return the models by name; raises ``ConfigError`` for what is none."""
    given = (
        dict(model) if isinstance(model, Mapping) and not _weights(model) else {called_after(model): model}
    )
    if not given:
        raise ConfigError("model: expected a network, or several by name, got none")
    for title, one in given.items():
        if not isinstance(title, str) or not title:
            raise ConfigError(f"model: expected names of models, got {title!r}")
        if not isinstance(one, torch.nn.Module | Classifier) and not (
            callable(one) and not isinstance(one, type)
        ):
            Classifier(one)  # says what it is and what to give
    return given


def _weights(model: Mapping[Any, Any]) -> bool:
    """Whether it is a network's weights rather than networks."""
    return any(isinstance(value, torch.Tensor) for value in model.values())


def _where(models: Sequence[Any]) -> torch.device | None:
    """Return the device of the first model that is on one."""
    networks = [one.network if isinstance(one, Classifier) else one for one in models]
    found = [device_of(network) for network in networks if isinstance(network, torch.nn.Module)]
    return next((device for device in found if device is not None), None)


def _pool(pool: Any) -> Any:
    if isinstance(pool, tuple) and len(pool) == 2:
        return given_images("pool", *pool)
    return given_images("pool", pool, None)


def _several(given: Several | None) -> list[Any]:
    if given is None:
        return []
    if isinstance(given, str | Mapping) or not isinstance(given, Iterable):
        return [given]
    return list(given)


def _named(given: Several | None) -> str:
    """Return the names among the methods, as the options have them."""
    return ",".join(item for item in _several(given) if isinstance(item, str))


def _tables(given: Several | None) -> list[dict[str, Any]]:
    """Return the tables of the methods that were given otherwise than by name."""
    tables: list[dict[str, Any]] = []
    for item in _several(given):
        if isinstance(item, Mapping):
            tables.append(dict(item))
        elif not isinstance(item, str):
            try:
                described = describe(item)
            except (KeyError, TypeError):
                raise ConfigError(
                    f"expected a method's name, such as 'pgd', a method or its table, got {type(item).__name__}"
                ) from None
            tables.append({"name": described.name, **described.params})
    return tables


def _folder(out: str | os.PathLike[str]) -> Path:
    path = Path(out)
    if (problem := misnamed(path)) is not None:
        raise ConfigError(f"out: {problem}")
    if (lies := what_is(path)) not in ("a folder", "none"):
        raise ConfigError(f"out {shown(path)}: expected a folder, got {lies}; give another name")
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(
            f"out {shown(path)}: cannot be made ({error.strerror}); give another folder"
        ) from None
    sweep(path, *Store.FOLDERS)
    return path
