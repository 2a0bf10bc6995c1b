"""Who measures: this process, or several that share the cells."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from robust_eval.run.engines import Engine

__all__ = ["PACKAGES", "engine_named"]

PACKAGES = ("defenses", "trainers")
"""What registers the methods of ours that a worker may be sent."""
_ENGINES = ("local",)


def engine_named(name: str, workers: int | None, device: str) -> Engine:
    """Return what starts so many workers; raises ``ConfigError`` for an unknown name."""
    import torch

    from robust_eval.errors import UnknownNameError
    from robust_eval.run.engines import IN_PROCESS
    from robust_eval.run.engines.local import Local

    if name not in _ENGINES:
        raise UnknownNameError("engine", name, _ENGINES)
    if workers is None or workers < 2:
        return IN_PROCESS
    return Local(workers, max(1, torch.get_num_threads() // workers), _gpus(device))


def _gpus(device: str) -> tuple[str, ...]:
    """Return the GPUs to deal out, as CUDA names them; none where one was asked for, or there is one alone."""
    import torch

    if device != "cuda" or (count := torch.cuda.device_count()) < 2:
        return ()
    visible = [name.strip() for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name.strip()]
    return tuple(visible[:count] or map(str, range(count)))
