"""What changed from one run to another: numbers beyond noise, images that flipped, and how the runs were made."""

from reports.diff.changes import Change, Diff, Flip, Made, Unpaired
from reports.diff.compare import compared

__all__ = ["Change", "Diff", "Flip", "Made", "Unpaired", "compared"]
