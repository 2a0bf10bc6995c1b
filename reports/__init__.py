"""Turns the records of one or several runs into tables, figures and a page that needs no network."""

from reports.load import Loaded, load
from reports.tables import comparison, terminal
from reports.write import Report, write

__all__ = ["Loaded", "Report", "comparison", "load", "terminal", "write"]
