"""Who measures: this process, or several that share the cells, here or on a cluster."""

from __future__ import annotations

import re
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from robust_eval.run.engines import Engine

__all__ = ["PACKAGES", "Chosen", "detached", "engine_named", "require_attended"]

PACKAGES = ("defenses", "trainers")
"""What registers the methods of ours that a worker may be sent."""
_ENGINES = ("local", "submitit", "ray")
_EXTRAS = {"submitit": "slurm", "ray": "ray"}


class Chosen(NamedTuple):
    """Who measures, and where this process computes."""

    engine: Engine
    device: str


def engine_named(
    name: str,
    workers: int | None,
    device: str,
    options: Sequence[str] | None = None,
    *,
    detach: bool = False,
) -> Chosen:
    """Return what starts so many workers; raises ``ConfigError`` for what is unknown, or not here."""
    from robust_eval.errors import ConfigError, UnknownNameError

    if name not in _ENGINES:
        raise UnknownNameError("engine", name, _ENGINES)
    if detach and name != "submitit":
        raise ConfigError(
            f"--detach: expected --engine submitit, got {name}, whose workers end with this command"
        )
    if name != "local":
        return _elsewhere(name, workers, device, options or (), detach)
    if options:
        raise ConfigError(
            f"--engine-option {options[0]}: the engine local has none; give --engine submitit or ray"
        )
    return _here(workers, device)


def require_attended(*, detach: bool, max_minutes: float | None, gated: bool = False) -> None:
    """Raise ``ConfigError`` where this command would have to wait for jobs that it leaves to themselves."""
    from robust_eval.errors import ConfigError

    if detach and max_minutes is not None:
        raise ConfigError(
            "--max-minutes: nobody is left to stop the jobs of --detach; give --engine-option time=MINUTES"
        )
    if detach and gated:
        raise ConfigError(
            "--gate: nothing is measured yet with --detach; judge with `robust-eval gate RUN` at the end"
        )


def detached(run: Path) -> str:
    """Return what to do with a run whose jobs were left to themselves."""
    return f"robust-eval status {run} --watch tells how far it is, robust-eval report {run} writes the report"


def _here(workers: int | None, device: str) -> Chosen:
    import torch

    from robust_eval.machine import pick_device
    from robust_eval.run.engines import IN_PROCESS
    from robust_eval.run.engines.local import Local, visible_gpus

    device = pick_device(device)
    if workers is None or workers < 2:
        return Chosen(IN_PROCESS, device)
    threads = max(1, torch.get_num_threads() // workers)
    return Chosen(Local(workers, threads, visible_gpus(device)), device)


def _elsewhere(name: str, workers: int | None, device: str, texts: Sequence[str], detach: bool) -> Chosen:
    from robust_eval.errors import ConfigError
    from robust_eval.machine import pick_device
    from robust_eval.run.engines.options import engine_options

    if not workers:
        got = "none" if workers is None else "0; `run --workers 0` plans alone, without --engine"
        raise ConfigError(f"--workers: expected 1 or more with --engine {name}, got {got}")
    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", device):
        raise ConfigError(f"device: expected auto, cpu, cuda or cuda:N, got {device!r}")
    engine: Engine
    if name == "submitit":
        from robust_eval.run.engines.submitit import OPTIONS as OF_SUBMITIT
        from robust_eval.run.engines.submitit import Submitit, require_cluster

        options = engine_options(name, texts, OF_SUBMITIT)
        _require(name)
        require_cluster(options)
        engine = Submitit(workers, device, options, detach)
    else:
        from robust_eval.run.engines.ray import OPTIONS as OF_RAY
        from robust_eval.run.engines.ray import Ray

        options = engine_options(name, texts, OF_RAY)
        _require(name)
        engine = Ray(workers, device, options)
    # which GPUs there are is known where the workers are
    return Chosen(engine, pick_device("auto"))


def _require(library: str) -> None:
    from robust_eval.errors import ConfigError

    if find_spec(library) is None:
        raise ConfigError(
            f"--engine {library}: {library} is not installed; pip install 'robust-eval[{_EXTRAS[library]}]'"
        )
