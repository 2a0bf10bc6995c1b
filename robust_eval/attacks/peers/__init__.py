"""Attacks of other libraries, found by name behind a prefix: they search, we measure."""

from robust_eval.attacks.peers.resolve import LIBRARIES, counterparts, installed

__all__ = ["LIBRARIES", "counterparts", "installed"]
