"""Weights that a library could fetch are fetched only when asked for."""

from __future__ import annotations

from robust_eval.errors import CheckpointError, ConfigError
from robust_eval.models.zoo._entry import Wanted

__all__ = ["require_weights"]


def require_weights(wanted: Wanted) -> None:
    """Raise ``RobustEvalError`` unless there is a checkpoint, or weights may be fetched, and not both."""
    if wanted.checkpoint is None and not wanted.download:
        raise CheckpointError(
            f"{wanted.spec}: expected the file of its weights, got none; give it as the checkpoint, or let them be "
            "fetched with --download"
        )
    if wanted.checkpoint is not None and wanted.download:
        raise ConfigError(
            f"{wanted.spec}: expected a checkpoint or --download, got both ({wanted.checkpoint}); leave one out"
        )
