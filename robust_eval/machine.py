"""What this machine has: its devices, and its free memory as far as this process may have it."""

from __future__ import annotations

import os
from pathlib import Path

import torch

from robust_eval.errors import ConfigError

__all__ = ["available", "pick_device"]

CGROUP = Path("/sys/fs/cgroup")


def available(device: torch.device) -> int | None:
    """Return the free memory in bytes: the GPU's, or the machine's as far as this process may have it."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    try:
        free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError, AttributeError):  # not every system counts them
        return None
    limit = _cgroup_room()
    return free if limit is None else min(free, limit)


def _cgroup_room() -> int | None:
    """What a container may still take."""
    try:
        limit = (CGROUP / "memory.max").read_text().strip()
        used = (CGROUP / "memory.current").read_text().strip()
        return max(int(limit) - int(used), 0)
    except (OSError, ValueError):  # no container, or one without a limit ("max")
        return None


def pick_device(name: str) -> str:
    """Return a torch device name; raises ``ConfigError`` for one that is not there."""
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ConfigError(f"device: expected auto, cpu, cuda or cuda:N, got {name!r}") from None
    if device.type not in ("cpu", "cuda"):
        raise ConfigError(f"device: expected auto, cpu, cuda or cuda:N, got {name!r}")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ConfigError(f"device {name}: there are {torch.cuda.device_count()} GPUs here; use cpu")
    return name
