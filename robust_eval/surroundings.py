"""What belongs to the whole process, put back after code of the user's has run.

A model file calls ``os.chdir``, ``torch.set_default_dtype`` or ``signal.signal`` for its own script; here the results
would lie in another folder, and the next computation would be another one. Random generators are not among it
(:func:`robust_eval.rng.rewound`), nor is the environment, which the code may look up later.
"""

from __future__ import annotations

import builtins
import logging
import os
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

__all__ = ["surroundings_kept"]


class _Setting(NamedTuple):
    read: Callable[[], Any]
    write: Callable[[Any], object]


@contextmanager
def surroundings_kept() -> Iterator[None]:
    """Put back the folder, torch's global switches, warnings, signal handlers and the like on leaving.

    Only what has changed is written, so that a call costs some microseconds.
    """
    before = [(setting, setting.read()) for setting in _SETTINGS]
    try:
        yield
    finally:
        for setting, value in before:
            if value is not _UNKNOWN and setting.read() != value:
                setting.write(value)


_UNKNOWN = object()


def _folder() -> Any:
    try:
        return Path.cwd()
    except OSError:  # it was deleted
        return _UNKNOWN


def _anomaly() -> tuple[bool, bool]:
    return torch.is_anomaly_enabled(), torch.is_anomaly_check_nan_enabled()


def _deterministic() -> tuple[bool, bool]:
    return torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()


def _device() -> Any:
    # None where none was set: to set the CPU instead would watch every call of torch
    context = getattr(torch._GLOBAL_DEVICE_CONTEXT, "device_context", None)
    return None if context is None else context.device


def _of_cudnn(name: str) -> _Setting:
    return _Setting(
        lambda: getattr(torch.backends.cudnn, name),
        lambda value: setattr(torch.backends.cudnn, name, value),
    )


def _autocast(device: str) -> _Setting:
    return _Setting(
        lambda: torch.is_autocast_enabled(device), lambda value: torch.set_autocast_enabled(device, value)
    )


def _set_filters(filters: list[Any]) -> None:
    with warnings.catch_warnings():  # leaving it tells the module that they have changed
        pass
    warnings.filters[:] = filters  # type: ignore[index]
    with warnings.catch_warnings():
        pass


def _handlers() -> dict[int, Any]:
    # one that is not Python's cannot be set again, and other threads may set none
    if threading.current_thread() is not threading.main_thread():
        return {}
    found = {number: signal.getsignal(number) for number in _SIGNALS}
    return {number: handler for number, handler in found.items() if handler is not None}


def _handle(handlers: dict[int, Any]) -> None:
    for number, handler in handlers.items():
        signal.signal(number, handler)


_SIGNALS = tuple(
    getattr(signal, name)
    for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGALRM", "SIGUSR1", "SIGUSR2")
    if hasattr(signal, name)
)

_SETTINGS = (
    _Setting(_folder, os.chdir),
    _Setting(torch.get_default_dtype, torch.set_default_dtype),
    _Setting(_device, torch.set_default_device),
    _Setting(torch.is_grad_enabled, torch._C._set_grad_enabled),
    _Setting(_anomaly, lambda value: torch.set_anomaly_enabled(*value)),
    _Setting(_deterministic, lambda value: torch.use_deterministic_algorithms(value[0], warn_only=value[1])),
    *map(_of_cudnn, ("enabled", "benchmark", "deterministic")),
    *map(_autocast, ("cpu", "cuda")),
    _Setting(torch.get_num_threads, torch.set_num_threads),
    _Setting(lambda: list(warnings.filters), _set_filters),
    _Setting(lambda: warnings.showwarning, lambda value: setattr(warnings, "showwarning", value)),
    _Setting(_handlers, _handle),
    _Setting(np.geterr, lambda value: np.seterr(**value)),
    _Setting(lambda: logging.root.manager.disable, logging.disable),
    _Setting(lambda: logging.root.level, logging.root.setLevel),
    _Setting(lambda: sys.stdout, lambda value: setattr(sys, "stdout", value)),
    _Setting(lambda: sys.stderr, lambda value: setattr(sys, "stderr", value)),
    _Setting(lambda: sys.excepthook, lambda value: setattr(sys, "excepthook", value)),
    _Setting(lambda: builtins.print, lambda value: setattr(builtins, "print", value)),
)
