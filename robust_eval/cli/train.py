"""``robust-eval train``: one recipe, one model, one card."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from robust_eval.bounds import MOST
from robust_eval.cli._options import Device, Imports, Seed, Settings, path_named

__all__ = ["train"]


def train(
    regularizer: Annotated[str, typer.Option(help="Registered name, e.g. mixup.")],
    arch: Annotated[str, typer.Option(help="Registered architecture, e.g. preact_resnet18.")],
    data: Annotated[str, typer.Option(help="A named set, or a .npz file or folder with a train split.")],
    epochs: Annotated[
        float, typer.Option(help="Budget: passes over the training data in network evaluations.")
    ] = 30.0,
    seed: Seed = 0,
    out: Annotated[
        Path,
        typer.Option(
            parser=path_named, metavar="PATH", help="Run folder; the weights go to its checkpoints/."
        ),
    ] = Path("runs/train"),
    robust_every: Annotated[
        int,
        typer.Option(min=0, max=MOST, help="Passes between two looks at the accuracy under PGD; 0 = none."),
    ] = 0,
    curriculum: Annotated[
        str, typer.Option(help="Which images come next: a registered name, e.g. loss_order.")
    ] = "shuffled",
    watch_test: Annotated[
        bool,
        typer.Option(help="Log the accuracy on the test images after each pass; nothing is chosen by it."),
    ] = False,
    tensorboard: Annotated[bool, typer.Option(help="Write TensorBoard's events beside log.csv.")] = False,
    set_: Settings = None,
    import_: Imports = None,
    device: Device = "auto",
) -> int:
    """Train one model. --set reaches the regularizer, the curriculum, the architecture, the recipe and the data, as in
    --set data.per_class=100.

    Killed and called again, it goes on from its last pass, to the same weights. With label noise (--set
    data.label_noise=0.2) it says how much of the untouched and of the wrong labels was learnt, by at most 1,000 images
    of each; the images held out for validation have noisy labels too.
    """
    import trainers
    from robust_eval.cli._console import open_console, open_log, say
    from robust_eval.cli._execute import make_folder, run_folder
    from robust_eval.cli._options import import_methods
    from robust_eval.cli._progress import Display
    from robust_eval.config.experiment import parse
    from robust_eval.config.plan import models
    from robust_eval.config.settings import apply_settings, settings
    from robust_eval.machine import pick_device
    from robust_eval.models.checkpoint import read_card
    from robust_eval.models.recipe import Journal
    from robust_eval.models.source import RecipeModel
    from robust_eval.results.store import Store
    from robust_eval.run.training import trained_model

    import_methods(import_)
    methods: list[dict[str, Any]] = [{"name": regularizer}, {"name": arch}, {"name": curriculum}]
    fields = settings(set_)
    apply_settings(methods, fields, also=["recipe", "data"])
    recipe = {"epochs": epochs, "seed": seed, **fields.get("recipe", {})}
    table = {"regularizer": methods[0], "architecture": methods[1], "curriculum": methods[2], **recipe}
    experiment = parse(
        {"data": {"name": data, **fields.get("data", {})}, "train": [table], "watch_test": watch_test},
        where="train",
        folder=Path.cwd(),
    )
    store, device = Store(run_folder(out)), pick_device(device)
    (source,) = models(experiment)
    assert isinstance(source, RecipeModel)
    console = open_console()
    make_folder(out)
    with Display(open_log()) as display, _told_where_it_is_theirs():
        path = trained_model(
            source,
            store,
            train=trainers.train,
            device=device,
            report=lambda fraction, text: display.training(source.name, fraction, text),
            journal=Journal(robust_every=robust_every, tensorboard=tensorboard),
        )
    say(
        console,
        f"weights: {path}\ncard:    {path.with_suffix('.json')}",
    )
    say(console, f"log:     {store.training(source.key) / 'log.csv'}")
    card = read_card(path) or {}
    if leak := card.get("leak"):
        say(console, f"leak:    {leak}")
    learnt = card.get("memorisation", {})
    for part, accuracy in learnt.items():
        say(
            console,
            f"{part + ':':<11}{100 * accuracy['last']:.1f} % of these training labels learnt, "
            f"{100 * accuracy['best']:.1f} % at the best pass",
        )
    if learnt:
        say(
            console,
            f"{'':11}of at most {trainers.REMEMBERED:,} images of each; "
            "labels held out for validation are as noisy",
        )
    say(console, f"next:    {shlex.join(['robust-eval', 'evaluate', str(path), '--data', data])}")
    return 0


@contextmanager
def _told_where_it_is_theirs() -> Iterator[None]:
    """Tell an error out of code of the user's in one line, with its place; those of ours keep their trace."""
    from robust_eval.errors import THEIRS, MeasurementError, RobustEvalError
    from robust_eval.findings import reason
    from robust_eval.identity import users_place

    try:
        yield
    except RobustEvalError:
        raise
    except THEIRS as error:
        if (place := users_place(error)) is None:
            raise
        raise MeasurementError(f"training stopped: {reason(error)} ({place})") from error
