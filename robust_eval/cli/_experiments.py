"""What is said of an experiment without running it: its paper, its data, and what it costs at each size."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from robust_eval.config.experiment import Experiment

__all__ = ["cost_line", "experiment_lines"]

UNIT = "Costs are in evaluations, one image once through the network; those of training forward and backward."


def experiment_lines(name: str) -> Iterator[str]:
    """Yield what there is to know of a shipped experiment, a line each; all of it is in its file."""
    from robust_eval.config.experiment import read
    from robust_eval.config.scale import sizes
    from robust_eval.config.shipped import shipped

    found = [(size, read(name, scale=size)) for size in sizes(shipped(name)) or (None,)]
    paper = found[0][1].frame.paper
    if paper is not None:
        yield ", ".join(filter(None, (paper.title, paper.table, paper.link)))
    for size, experiment in found:
        scale = "" if size is None else f"--scale {size}: "
        yield f"{scale}{experiment.frame.data.name}; {cost_line(experiment)}"


def cost_line(experiment: Experiment, *, read: bool = False) -> str:
    """Return what an experiment costs, from its file alone; ``read`` counts the images of a set that has no name."""
    from robust_eval.config.effort import effort
    from robust_eval.data.sizes import SIZES, Size

    size = None
    if read and experiment.frame.data.name not in SIZES:
        source = experiment.source()
        train, test = source.train() if experiment.recipes else None, source.test(experiment.frame.data.n)
        size = Size(0 if train is None else len(train), len(test), (train or test).classes)
    found = effort(experiment, size)
    return "cost not known before the images are read" if found is None else found.text
