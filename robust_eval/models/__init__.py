"""Architectures, one file each, found by name; `checkpoint` reads a user's own weights."""

import sys

from robust_eval.registry import discover

discover(sys.modules[__name__])
