"""Attacks: one file each, found by name. Underscore modules hold what several of them share."""

import sys

from robust_eval.registry import discover

discover(sys.modules[__name__])
