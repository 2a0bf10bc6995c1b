"""Test-time defenses: one file each, found by name once this package is imported."""

import sys

from robust_eval.registry import discover

discover(sys.modules[__name__])
