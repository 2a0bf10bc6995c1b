"""Turns the records of one or several runs into tables, figures and a page that needs no network."""

from reports.comparison import comparison
from reports.formats.terminal import terminal
from reports.paper import Style
from reports.write import Report, write
from robust_eval.results.load import Loaded, load

__all__ = ["Loaded", "Report", "Style", "comparison", "load", "terminal", "write"]
