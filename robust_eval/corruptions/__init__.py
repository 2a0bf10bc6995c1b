"""Corruptions: one file per group, found by name; `_severity` holds the parameter tables and their source."""

import sys

from robust_eval.registry import discover

discover(sys.modules[__name__])
