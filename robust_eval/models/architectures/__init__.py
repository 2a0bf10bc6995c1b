"""Architectures, one file each, found by name."""

import sys

from robust_eval.registry import discover

discover(sys.modules[__name__])
